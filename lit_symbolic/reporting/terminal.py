"""Shows an answer in a terminal, with its findings underlined and told below the line that they begin in."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.text import Text

from lit_symbolic.certificate import Certificate, Finding
from lit_symbolic.reporting.escaping import visible

WRONG, RIGHT, UNKNOWN, FAINT = "bold red", "bold green", "bold yellow", "dim"
MARK = "bold red underline"
MISSING = "‸"
"""Stands where something is missing, in colour only: elsewhere the answer is shown as it is, with carets below."""


def show_answer(label: str, certificate: Certificate, text: str, colour: bool) -> Text:
    r"""One answer with what was certified about it, safe to print.

    What a terminal would obey or could not show (control characters, direction marks, half a surrogate pair) is spelled out, also
    in messages and labels; there is no markup in it.

    Args:
        label: What the answer is called.
        certificate: The verdict.
        text: The answer.
        colour: Whether findings are shown by style; otherwise by a line of carets.

    Example:
        >>> wrong = Certificate(False, 0.5, (Finding(6, 7, "arithmetic", "the value is 2, not 3"),))
        >>> print(show_answer("sums", wrong, "1+2=3\n1+1=3", colour=False).plain)
        ✗ sums  score 0.50, 1 finding
           1 │ 1+2=3
           2 │ 1+1=3
             │ ^
             │ 2:1 arithmetic: the value is 2, not 3
    """
    shown = Text()
    shown.append_text(_headline(label, certificate))
    start = 0
    told = 0
    findings = sorted(certificate.findings)
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        end = start + len(line)
        here = [finding for finding in findings if finding.start <= end and finding.end >= start and not _before(finding, start)]
        shown.append(f"\n{number:>4} │ ", FAINT)
        _append_line(shown, line, start, here, colour)
        while told < len(findings) and (findings[told].start <= end or number == len(lines)):
            finding = findings[told]
            shown.append("\n     │ ", FAINT)
            shown.append(f"{number}:{min(finding.start, end) - start + 1} {_flat(finding.kind)}: ", WRONG)
            shown.append(_flat(finding.message))
            told += 1
        start = end + 1
    return shown


def _headline(label: str, certificate: Certificate) -> Text:
    line = Text()
    if certificate.correct:
        line.append("✓ ", RIGHT).append(_flat(label)).append("  correct", RIGHT)
    elif not certificate.is_evidence:
        line.append("? ", UNKNOWN).append(_flat(label)).append(f"  {certificate.status}", UNKNOWN)
        line.append(f": {_flat(certificate.evidence)}")
    else:
        count = len(certificate.findings)
        line.append("✗ ", WRONG).append(_flat(label))
        line.append(f"  score {certificate.score:.2f}, {count} finding{'' if count == 1 else 's'}")
        if not count and certificate.evidence:
            line.append(f": {_flat(certificate.evidence)}")
    return line


def _before(finding: Finding, start: int) -> bool:
    """Whether a finding ends where the line begins, after a line break that is its own last character."""
    return finding.end == start and finding.start < finding.end


def _append_line(shown: Text, line: str, start: int, findings: Sequence[Finding], colour: bool) -> None:
    carets = Text()
    for piece, marked, missing in _pieces(line, start, findings):
        if missing and colour:
            shown.append(MISSING, WRONG)
        words = _spelled(piece)
        shown.append(words, MARK if marked and colour else "")
        width = cell_len(words)
        carets.append("^" * width if marked else ("^" + " " * (width - 1) if width else "^") if missing else " " * width)
    if "^" in carets.plain and not colour:
        carets.rstrip()
        shown.append("\n     │ ", FAINT)
        shown.append_text(carets)


def _pieces(line: str, start: int, findings: Sequence[Finding]) -> Iterator[tuple[str, bool, bool]]:
    """The line cut where findings begin and end; whether a piece lies in one, and whether something is missing before it."""
    length = len(line)
    spans = [(max(f.start - start, 0), min(f.end - start, length)) for f in findings]
    empty = {low for low, high in spans if low >= high}
    cuts = sorted({0, length, *(cut for span in spans for cut in span if 0 <= cut <= length)})
    for low, high in itertools.pairwise(cuts):
        yield line[low:high], any(first <= low and high <= last for first, last in spans), low in empty
    if length in empty or (not length and empty):
        yield "", False, True


def _spelled(piece: str) -> str:
    return visible(piece.replace("\t", "    "))


def _flat(words: str) -> str:
    """In one line."""
    return visible(" ".join(words.split()))
