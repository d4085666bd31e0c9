"""Speed, gold answers and injected faults of the verifier of first-order logic, for the tables of ``benchmarks/verifiers.py``."""

from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from lit_symbolic.certificate import Problem
from lit_symbolic.verifiers.fol import FirstOrderVerifier
from logic_sources import Pairs, as_formulas, folio, prontoqa, proofwriter
from verifier_tables import Faults, Gold, Speed

Injection = tuple[str, int, int]
"""The answer with its fault, and the fault's span."""


def formulas(pairs: Pairs) -> Pairs:
    """Gold programs as formulas of first-order logic."""
    return [(replace(problem, task="fol"), as_formulas(text)) for problem, text in pairs]


def without_negation() -> Pairs:
    """ProofWriter's theories in which nothing is negated, where chaining and classical logic agree."""
    return [(problem, text) for problem, text in proofwriter("dev") if "Noneg" in problem.id]


def speed(quick: bool) -> list[Speed]:
    """Problems per second of processor time, z3 included."""
    rows = formulas(prontoqa())[: 40 if quick else 200]
    verifier = FirstOrderVerifier()
    figures = []
    for _ in range(3 if quick else 5):
        began = time.process_time()
        for problem, text in rows:
            verifier.verify(problem, text)
        figures.append(len(rows) / (time.process_time() - began))
    what = "ProntoQA problems as first-order logic, certified by z3 per second of processor time"
    return [Speed(what, statistics.median(figures), min(figures), max(figures))]


def gold(quick: bool) -> list[Gold]:
    """Gold formulas certified."""
    rows = []
    for source, pairs in (
        ("ProntoQA dev as first-order logic", formulas(prontoqa())),
        ("ProofWriter dev without negation, as first-order logic", formulas(without_negation())),
        ("FOLIO: own premises, entailed and contradicted", folio()),
    ):
        certificates = [(p, FirstOrderVerifier().verify(p, text)) for p, text in pairs[: 40 if quick else None]]
        wrong = [
            f"{p.id}: {'; '.join(f.message for f in c.findings[:2]) or c.evidence}" for p, c in certificates if not c.correct
        ]
        rows.append(Gold(source, len(certificates), len(certificates) - len(wrong), wrong))
    return rows


def faults(quick: bool) -> list[Faults]:
    """One fault each in FOLIO's premises; for faults of meaning, in ProofWriter's rules as formulas, where they change the answer."""
    verifier = FirstOrderVerifier()
    stories = [(problem, text) for problem, text in folio()[: 40 if quick else None] if verifier.verify(problem, text).correct]
    theories = formulas(without_negation())
    tables = []
    for kind, inject in INJECTIONS.items():
        table = Faults(kind)
        rng = random.Random(kind)
        pairs = theories if "wrong answer" in kind else stories
        for _ in range(8):  # the sets are small: up to eight faults in one answer, one at a time
            for problem, text in pairs:
                if len(table.overlapped) < (10 if quick else 500):
                    _add(table, verifier, problem, text, list(inject(text, rng)), rng)
        tables.append(table)
    return tables


def _add(
    table: Faults, verifier: FirstOrderVerifier, problem: Problem, text: str, broken: list[Injection], rng: random.Random
) -> None:
    for answer, start, end in rng.sample(broken, min(len(broken), 1 if "wrong answer" not in table.kind else 12)):
        certificate = verifier.verify(problem, answer)
        if not certificate.correct and certificate.is_evidence:
            table.add(certificate, answer, start, end)
            return


def _formula_lines(text: str) -> list[tuple[int, int]]:
    """Spans of premises and conclusion, comments left out."""
    spans, start = [], 0
    for line in text.split("\n"):
        formal = line.partition(":::")[0].rstrip()
        if formal and not formal.endswith(":"):
            spans.append((start, start + len(formal)))
        start += len(line) + 1
    return spans


def _everywhere(pattern: str, text: str) -> Iterator[re.Match[str]]:
    for start, end in _formula_lines(text):
        yield from re.compile(pattern).finditer(text, start, end)


def _replaced(text: str, start: int, end: int, new: str) -> Injection:
    return text[:start] + new + text[end:], start, start + len(new)


def unclosed(text: str, rng: random.Random) -> Iterator[Injection]:
    """The last parenthesis of a line deleted."""
    for _, end in _formula_lines(text):
        if text[end - 1] == ")":
            yield text[: end - 1] + text[end:], end - 1, end - 1


def lost_connective(text: str, rng: random.Random) -> Iterator[Injection]:
    """A connective deleted."""
    for match in _everywhere(r" [→∧∨⊕↔] ", text):
        place = match.start() + 1
        yield text[:place] + text[match.end() :], place, place


def doubled_connective(text: str, rng: random.Random) -> Iterator[Injection]:
    """A connective written twice."""
    for match in _everywhere(r"[→∧∨⊕↔] ", text):
        yield _replaced(text, match.end(), match.end(), "∧ ")


def lost_quantifier(text: str, rng: random.Random) -> Iterator[Injection]:
    """A quantifier with its variable deleted; the variable stands free behind it."""
    for start, end in _formula_lines(text):
        if match := re.compile(r"[∀∃]([u-z])\s*").match(text, start, end):
            free = re.compile(rf"\b{match[1]}\b").search(text, match.end(), end)
            if free:
                yield text[:start] + text[match.end() :], free.start() - len(match[0]), free.end() - len(match[0])


def wrong_variable(text: str, rng: random.Random) -> Iterator[Injection]:
    """Another variable than the quantifier's."""
    for match in _everywhere(r"(?<=\()[xyz](?=\))", text):
        yield _replaced(text, match.start(), match.end(), "w")


def argument_added(text: str, rng: random.Random) -> Iterator[Injection]:
    """One argument too many, in a predicate used three times or more."""
    for match in _everywhere(r"([\w-]+)(\([\w, -]+)(?=\))", text):
        if text.count(match[1] + "(") > 2:
            broken, _, end = _replaced(text, match.end(), match.end(), ", rex")
            yield broken, match.start(2), end + 1


def misspelled(text: str, rng: random.Random) -> Iterator[Injection]:
    """A predicate misspelled, which nothing declares."""
    for match in _everywhere(r"[A-Z][\w-]*(?=\()", text):
        yield _replaced(text, match.start(), match.end(), match[0] + match[0][-1])


def other_constant(text: str, rng: random.Random) -> Iterator[Injection]:
    """Someone who does not occur elsewhere."""
    for match in _everywhere(r"(?<=[( ])[a-z]{3,}\w*(?=[,)])", text):
        yield _replaced(text, match.start(), match.end(), "nobody")


def negated(text: str, rng: random.Random) -> Iterator[Injection]:
    """A negation too many in front of a fact or of a rule's conclusion."""
    for match in _everywhere(r"[A-Z][\w-]*\([\w, ]+\)\)?$", text):
        yield _replaced(text, match.start(), match.start(), "¬")


INJECTIONS: dict[str, Callable[[str, random.Random], Iterator[Injection]]] = {
    "`)` deleted": unclosed,
    "a connective deleted": lost_connective,
    "a connective doubled": doubled_connective,
    "a quantifier deleted": lost_quantifier,
    "a variable that no quantifier binds": wrong_variable,
    "an argument too many": argument_added,
    "predicate misspelled, not declared (wrong answer)": misspelled,
    "unknown constant (wrong answer)": other_constant,
    "a negation too many (wrong answer)": negated,
}
