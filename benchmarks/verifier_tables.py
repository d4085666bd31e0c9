"""What a benchmark of one symbolic tool hands over, and the Markdown tables made of it.

Each ``benchmarks/verifier_<tool>.py`` offers ``speed(quick)``, ``gold(quick)`` and ``faults(quick)``.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from lit_symbolic.certificate import Certificate
from runs import table


@dataclass(frozen=True)
class Speed:
    """One measured speed beside its target or its peer.

    Args:
        what: What was measured, with units.
        value: The median figure.
        low: The least of the repetitions.
        high: The largest of the repetitions.
        target: The target, in words; empty if there is none.
    """

    what: str
    value: float
    low: float
    high: float
    target: str = ""


@dataclass(frozen=True)
class Gold:
    """How many gold answers of one set were certified correct.

    Args:
        source: Name of the set.
        answers: Gold answers verified.
        correct: Of these, certified correct.
        exceptions: One line for each that was not: its id and the reason.
    """

    source: str
    answers: int
    correct: int
    exceptions: Sequence[str] = ()


@dataclass
class Faults:
    """Gold answers with one injected fault each, of one kind.

    Args:
        kind: What was injected.
        overlapped: For each answer, whether a finding overlaps the fault.
        covered: For each answer, the share of its characters that findings cover.
    """

    kind: str
    overlapped: list[bool] = field(default_factory=list)
    covered: list[float] = field(default_factory=list)

    def add(self, certificate: Certificate, text: str, start: int, end: int) -> None:
        """Count one answer whose fault lies at characters ``[start, end)``; an empty span is a place where something is missing.

        A finding overlaps the fault if they share a character; an empty finding or fault counts with the characters on
        both its sides, since what is missing between two characters can be shown on either.

        Example:
            >>> from lit_symbolic.certificate import Finding
            >>> faults = Faults("a false step")
            >>> faults.add(Certificate(False, 0.0, (Finding(2, 3, "arithmetic", "no"),)), "1+1=3", 2, 3)
            >>> faults.overlapped, faults.covered
            ([True], [0.2])
        """

        def widened(low: int, high: int) -> tuple[int, int]:
            return (max(0, low - 1), high + 1) if low == high else (low, high)

        low, high = widened(start, end)
        covered = set()
        hit = False
        for finding in certificate.findings:
            first, last = widened(finding.start, finding.end)
            hit |= first < high and low < last
            covered.update(range(finding.start, min(finding.end, len(text))))
        self.overlapped.append(hit)
        self.covered.append(len(covered) / max(1, len(text)))

    def shares(self) -> FaultShares:
        """What the table shows."""
        means = (statistics.mean(values) if values else 0.0 for values in (self.overlapped, self.covered))
        return FaultShares(self.kind, len(self.overlapped), *means)


@dataclass(frozen=True)
class FaultShares:
    """One line of the table of faults: how many answers, which share a finding overlaps, which share findings cover."""

    kind: str
    answers: int
    overlapped: float
    covered: float


def speed_table(rows: Iterable[Speed]) -> str:
    """Figures with their spread and targets."""
    return table(
        ("what", "median", "least to largest", "target"),
        [(row.what, f"{row.value:,.4g}", f"{row.low:,.4g} to {row.high:,.4g}", row.target) for row in rows],
    )


def gold_table(rows: Iterable[Gold]) -> str:
    """Gold answers certified correct, the exceptions below."""
    rows = list(rows)
    lines = [table(("set", "gold answers", "certified correct"), [(r.source, str(r.answers), str(r.correct)) for r in rows])]
    exceptions = [f"- {row.source}: {line}" for row in rows for line in row.exceptions]
    return "\n".join([*lines, *(["", "Exceptions:", "", *exceptions] if exceptions else [])])


def faults_table(rows: Iterable[FaultShares]) -> str:
    """Share of the faults that a finding overlaps, and the share of the answer that findings cover.

    Kinds in parentheses are not in the first total: what was injected there is not a fault at a place of its own. The last line
    has them too.

    Example:
        >>> print(faults_table([FaultShares("a", 3, 1.0, 0.1), FaultShares("b", 1, 0.0, 0.1), FaultShares("(c)", 9, 0.0, 0.5)]))
        | injected fault | answers | findings overlap it | share of the answer covered |
        |---|---|---|---|
        | a | 3 | 100.0% | 10.0% |
        | b | 1 | 0.0% | 10.0% |
        | (c) | 9 | 0.0% | 50.0% |
        | **all but those in parentheses** (targets: at least 95%, at most 25%) | 4 | 75.0% | 10.0% |
        | all, with those in parentheses | 13 | 23.1% | 37.7% |
    """
    rows = list(rows)
    counted = [row for row in rows if not row.kind.startswith("(")]
    totals = [
        _total("**all but those in parentheses** (targets: at least 95%, at most 25%)", counted),
        *([_total("all, with those in parentheses", rows)] if len(counted) < len(rows) else []),
    ]
    return table(
        ("injected fault", "answers", "findings overlap it", "share of the answer covered"),
        [
            (
                row.kind,
                str(row.answers),
                f"{row.overlapped:.1%}" if row.answers else "-",
                f"{row.covered:.1%}" if row.answers else "-",
            )
            for row in [*rows, *totals]
        ],
    )


def _total(kind: str, rows: Sequence[FaultShares]) -> FaultShares:
    """The mean over all answers."""
    answers = sum(row.answers for row in rows)
    overlapped = sum(row.answers * row.overlapped for row in rows) / max(1, answers)
    covered = sum(row.answers * row.covered for row in rows) / max(1, answers)
    return FaultShares(kind, answers, overlapped, covered)
