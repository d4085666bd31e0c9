"""Speed, gold answers and injected faults of the logic verifier, for the tables of ``benchmarks/verifiers.py``.

Gold answers are programs that a perfect translator of the sets' generated English writes, see :mod:`logic_sources`.
"""

from __future__ import annotations

import random
import re
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from lit_symbolic.certificate import Problem
from lit_symbolic.verifiers.logic import LogicVerifier
from logic_sources import Pairs, logicnli, pararule, prontoqa, proofwriter
from verifier_tables import Faults, Gold, Speed

Injection = tuple[str, int, int]
"""The answer with its fault, and the fault's span."""


def speed(quick: bool) -> list[Speed]:
    """Problems per second of processor time: reading, chaining and the certificate."""
    rows = proofwriter("dev")[: 100 if quick else 600]
    verifier = LogicVerifier()
    figures = []
    for _ in range(3 if quick else 7):
        began = time.process_time()
        for problem, text in rows:
            verifier.verify(problem, text)
        figures.append(len(rows) / (time.process_time() - began))
    what = "ProofWriter programs certified per second of processor time"
    return [Speed(what, statistics.median(figures), min(figures), max(figures), "at least 500")]


def gold(quick: bool) -> list[Gold]:
    """Gold answers certified, and what the wrapper's limit costs."""
    rows = []
    for source, pairs in (
        ("ProofWriter dev", proofwriter("dev")),
        ("ProofWriter train", proofwriter("train")),
        ("ProntoQA dev", prontoqa()),
        ("PARARULE-Plus dev (closed world)", pararule()),
        ("LogicNLI dev", logicnli()),
    ):
        pairs = pairs[:200] if quick else pairs
        rows.append(_gold(source, LogicVerifier(), pairs))
        if source.startswith("ProofWriter"):
            compatible = _gold("", LogicVerifier(upstream_compatible=True), pairs)
            left = compatible.answers - compatible.correct
            note = f"{left} queries with two arguments that have an answer: `upstream_compatible` says Unknown"
            rows.append(Gold(f"{source}, upstream_compatible", compatible.answers, compatible.correct, [note]))
    return rows


def _gold(source: str, verifier: Any, pairs: Pairs) -> Gold:
    certificates = [(problem, verifier.verify(problem, text)) for problem, text in pairs]
    wrong = [p for p, c in certificates if not c.correct]
    reasons: dict[str, list[str]] = {}
    for problem in wrong:
        reasons.setdefault(_reason(problem), []).append(problem.id)
    lines = [f"{reason}: {len(ids)} ({', '.join(ids)})" for reason, ids in reasons.items()]
    return Gold(source, len(pairs), len(pairs) - len(wrong), lines)


def _reason(problem: Problem) -> str:
    """Why the label is not what follows; each was looked at by hand."""
    if problem.task == "pararule":
        return (
            "the label forgets that whoever is not poor is nice, quiet, smart and so clever, where a rule asks for *not clever*"
        )
    if problem.task == "logicnli":
        return "the label is not what its own rules give: a step is missed, or *all* is read as *someone*"
    return "another"


def faults(quick: bool) -> list[Faults]:
    """One fault each in the programs of ProofWriter. Where a program with the fault still gives the right answer, logic alone
    sees none, so for the kinds marked *wrong answer* only faults that change it are injected."""
    pairs = proofwriter("train") + proofwriter("dev")
    wanted = 40 if quick else 500
    verifier = LogicVerifier()
    tables = []
    for kind, inject in INJECTIONS.items():
        table = Faults(kind)
        for problem, text in pairs:
            rng = random.Random(f"{kind} {problem.id}")
            for broken, start, end in inject(text, rng):
                certificate = verifier.verify(problem, broken)
                if certificate.correct or ("wrong answer" in kind and certificate.measures["right_conclusion"]):
                    continue
                table.add(certificate, broken, start, end)
                break
            if len(table.overlapped) == wanted:
                break
        tables.append(table)
    return tables


def _literals(text: str, section: str) -> list[re.Match[str]]:
    """Matches of the literals of a section, comments left out, names and arguments as groups."""
    start = text.index(section)
    end = text.find("\n\n", start)
    spans = re.finditer(r"(\w+)\(([^()]*)\)(?=[^\n]*:::)", text)
    return [match for match in spans if start < match.start() < (end if end >= 0 else len(text))]


def _replaced(text: str, start: int, end: int, new: str) -> Injection:
    return text[:start] + new + text[end:], start, start + len(new)


def _shuffled(matches: list[re.Match[str]], rng: random.Random) -> list[re.Match[str]]:
    return rng.sample(matches, len(matches))


def _anywhere(text: str) -> list[re.Match[str]]:
    return _literals(text, "Facts:") + _literals(text, "Rules:") + _literals(text, "Query:")


def unclosed(text: str, rng: random.Random) -> Iterator[Injection]:
    """A closing parenthesis deleted."""
    match = rng.choice(_anywhere(text))
    yield text[: match.end() - 1] + text[match.end() :], match.end() - 1, match.end() - 1


def wrong_arrow(text: str, rng: random.Random) -> Iterator[Injection]:
    """``->`` for ``>>>``."""
    for match in rng.sample(list(re.finditer(">>>", text)), 1) if ">>>" in text else []:
        yield _replaced(text, match.start(), match.end(), "->")


def misspelled(text: str, rng: random.Random) -> Iterator[Injection]:
    """A predicate misspelled where it is used."""
    match = rng.choice(_anywhere(text))
    yield _replaced(text, match.start(1), match.end(1), match[1] + match[1][-1])


def argument_added(text: str, rng: random.Random) -> Iterator[Injection]:
    """One argument too many."""
    match = rng.choice(_anywhere(text))
    yield _replaced(text, match.start(2), match.start(2), rng.choice(["Bob, ", "Cat, "]))


def argument_lost(text: str, rng: random.Random) -> Iterator[Injection]:
    """The second argument of a relation left out."""
    for match in _shuffled([m for m in _anywhere(text) if m[2].count(",") == 2], rng)[:1]:
        arguments = [part.strip() for part in match[2].split(",")]
        yield _replaced(text, match.start(2), match.end(2), f"{arguments[0]}, {arguments[2]}")


def lost_variable(text: str, rng: random.Random) -> Iterator[Injection]:
    """A conclusion about a variable that no premise has."""
    matches = list(re.finditer(r">>> \w+\((\$x)", text))
    for match in rng.sample(matches, min(1, len(matches))):
        yield _replaced(text, match.start(1), match.end(1), "$z")


def lost_query(text: str, rng: random.Random) -> Iterator[Injection]:
    """An answer that ends before its query."""
    end = text.index("\n\nQuery:")
    yield text[:end], end, end


def strange_premise(text: str, rng: random.Random) -> Iterator[Injection]:
    """A premise's predicate misspelled, and declared so."""
    for match in _shuffled(_premises(text), rng):
        wrong = match[1] + match[1][-1]
        line = f"{wrong}({', '.join(['$x', '$y'][: match[2].count(',')])}, bool)\n"
        place = text.index("\nFacts:")
        broken, start, end = _replaced(text, match.start(1), match.end(1), wrong)
        yield broken[:place] + line + broken[place:], start + len(line), end + len(line)


def strange_constant(text: str, rng: random.Random) -> Iterator[Injection]:
    """A premise about someone who does not occur elsewhere."""
    for match in _shuffled(_premises(text), rng):
        for argument in re.finditer(r"(?<!\$)\b\w+(?=,)", match[2]):
            start = match.start(2) + argument.start()
            yield _replaced(text, start, start + len(argument[0]), "Nobody")


def strange_conclusion(text: str, rng: random.Random) -> Iterator[Injection]:
    """A conclusion's predicate misspelled, and declared so."""
    for match in _shuffled([m for m in _literals(text, "Rules:") if m not in _premises(text)], rng):
        if text[: match.start()].endswith(">>> "):
            wrong = match[1] + match[1][-1]
            line = f"{wrong}({', '.join(['$x', '$y'][: match[2].count(',')])}, bool)\n"
            place = text.index("\nFacts:")
            broken, start, end = _replaced(text, match.start(1), match.end(1), wrong)
            yield broken[:place] + line + broken[place:], start + len(line), end + len(line)


def flipped(section: str, behind: str = "") -> Callable[[str, random.Random], Iterator[Injection]]:
    """A truth value turned round in a fact, in the conclusion of a rule, or in the query."""

    def inject(text: str, rng: random.Random) -> Iterator[Injection]:
        for match in _shuffled([m for m in _literals(text, section) if text[: m.start()].endswith(behind)], rng):
            start = match.start(2) + match[2].rindex(" ") + 1
            value = "False" if text[start] == "T" else "True"
            yield _replaced(text, start, match.end(2), value)

    return inject


def wrong_constant(text: str, rng: random.Random) -> Iterator[Injection]:
    """A fact about another of the story's names."""
    names = sorted({m[0] for f in _literals(text, "Facts:") for m in re.finditer(r"\w+(?=,)", f[2])})
    for match in _shuffled(_literals(text, "Facts:"), rng):
        first = match[2].partition(",")[0]
        for name in rng.sample(names, len(names)):
            if name != first:
                yield _replaced(text, match.start(2), match.start(2) + len(first), name)


def lost_fact(text: str, rng: random.Random) -> Iterator[Injection]:
    """A fact left out."""
    for match in _shuffled(_literals(text, "Facts:"), rng):
        end = text.index("\n", match.start())
        yield text[: match.start()] + text[end + 1 :], match.start(), match.start()


def _premises(text: str) -> list[re.Match[str]]:
    return [m for m in _literals(text, "Rules:") if ">>>" in text[m.end() : text.index("\n", m.end())]]


INJECTIONS: dict[str, Callable[[str, random.Random], Iterator[Injection]]] = {
    "unparsable: `)` deleted": unclosed,
    "unparsable: `->` for `>>>`": wrong_arrow,
    "predicate misspelled": misspelled,
    "an argument too many": argument_added,
    "an argument too few": argument_lost,
    "a conclusion's variable that no premise has": lost_variable,
    "no query": lost_query,
    "premise misspelled but declared (wrong answer)": strange_premise,
    "unknown constant in a premise (wrong answer)": strange_constant,
    "truth value flipped in the query (wrong answer)": flipped("Query:"),
    "truth value flipped in a conclusion (wrong answer)": flipped("Rules:", ">>> "),
    "truth value flipped in a fact (wrong answer)": flipped("Facts:"),
    "(another name in a fact: a program without a fault, with another answer)": wrong_constant,
    "conclusion misspelled but declared (wrong answer)": strange_conclusion,
    "(a fact left out: nothing stands where it was)": lost_fact,
}
