"""Certifies translations into first-order logic: a model writes premises and a conclusion, and z3 says what follows.

The format is that of Logic-LM for FOLIO, a comment behind ``:::`` on any line; the declarations may be left out::

    Predicates:
    Dog(x) ::: x is a dog.
    Premises:
    ∀x (Dog(x) → Barks(x)) ::: All dogs bark.
    Dog(rex) ::: Rex is a dog.
    Conclusion:
    Barks(rex) ::: Rex barks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal as Choice

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.logic import SUSPECT, TOO_LONG, WRONG_CONCLUSION
from lit_symbolic.verifiers.reasoning.checks import UNDECLARED_PREDICATE, WRONG_ARITY
from lit_symbolic.verifiers.reasoning.formula import (
    Formula,
    FormulaError,
    Predicate,
    Term,
    free_names,
    free_terms,
    parts,
    read_formula,
    terms,
)
from lit_symbolic.verifiers.reasoning.program import MISSING_SECTION, UNPARSABLE_LINE, read_sections

FREE_VARIABLE = "free_variable"
"""A letter ``u`` to ``z``, with a digit or without, that no quantifier binds."""
UNCONNECTED = "unconnected"
"""A name that occurs once in the whole answer, so that nothing follows from it, where something had to follow."""
INCONSISTENT = "inconsistent"
"""One of the premises that contradict each other."""

KINDS = (
    UNPARSABLE_LINE,
    MISSING_SECTION,
    UNDECLARED_PREDICATE,
    WRONG_ARITY,
    FREE_VARIABLE,
    INCONSISTENT,
    UNCONNECTED,
    SUSPECT,
    WRONG_CONCLUSION,
    TOO_LONG,
)

HEADERS = ("Predicates", "Premises", "Conclusion")

_VARIABLE = re.compile(r"[u-z][0-9]?")
_ANSWERS = {"Uncertain": "Unknown"}


@dataclass
class _Answer:
    """What could be read of an answer, and what is wrong with it."""

    arities: dict[tuple[str, bool], int] = field(default_factory=dict)
    declared: bool = False
    premises: list[Formula] = field(default_factory=list)
    conclusion: Formula | None = None
    findings: list[Finding] = field(default_factory=list)
    statements: int = 0
    sound: int = 0


@dataclass(frozen=True)
class FirstOrderVerifier:
    """The symbolic tool of FOLIO; reads the fact ``answer``: ``True``, ``False`` or ``Unknown`` (or ``Uncertain``).

    The conclusion is true if the premises entail it, false if they entail its negation, unknown if neither; z3 decides, see
    :mod:`~lit_symbolic.verifiers.reasoning.prover`. Where z3 comes to its limit the certificate is no evidence
    (:attr:`~lit_symbolic.certificate.Status.TIMEOUT`). Measures:

    - ``right_conclusion``: 1 if z3's answer is the right one; ``concluded``: 1 if there is one;
    - ``well_formed``: share of the statements without a fault of their own; ``premises``: those;
    - ``core``: premises that the answer needs.

    The score of a wrong answer is half of ``well_formed``.

    Args:
        locate: ``suspects`` shows, beside the conclusion, the premises that it wrongly follows from, or the names that connect
            nothing; ``conclusion`` does not.
        strict: A line before the first header is a finding, as is a second conclusion. Otherwise such lines and code fences are
            skipped.
        max_characters: Longer answers are rejected unread.
        max_resources: z3's own count of its work, for each question; three million are a few seconds.
        max_seconds: z3's time for each question; there are at most three. A pool's deadline should be longer than all.

    Example:
        >>> text = '''Premises:
        ... ∀x (Dog(x) → Barks(x)) ::: All dogs bark.
        ... Dog(rex) ::: Rex is a dog.
        ... Conclusion:
        ... ¬Barks(rex) ::: Rex does not bark.'''
        >>> problem = Problem("folio", "1", "", {"answer": "False"})
        >>> certificate = FirstOrderVerifier().verify(problem, text)
        >>> certificate.correct, certificate.evidence
        (True, 'premises 1, 2 entail that the conclusion is false')
        >>> finding, = FirstOrderVerifier().verify(problem, text.replace("∀x (Dog(x)", "∀x (Dog(y)")).findings
        >>> finding.kind, finding.message
        ('free_variable', 'no quantifier binds y')
    """

    locate: Choice["conclusion", "suspects"] = "suspects"
    strict: bool = True
    max_characters: int = 20_000
    max_resources: int = 3_000_000
    max_seconds: float = 1.5

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify premises and a conclusion, see the class."""
        if len(text) > self.max_characters:
            message = f"the answer has {len(text)} characters; at most {self.max_characters} are read"
            finding = Finding(0, len(text), TOO_LONG, message)
            return Certificate(False, 0.0, (finding,), _measures(_Answer()), Status.REJECTED, message)
        right: str = _ANSWERS.get(problem.facts["answer"], problem.facts["answer"])
        answer = _read(text, self.strict)
        conclusion = answer.conclusion
        if conclusion is None:
            return _certificate(answer)
        # z3 is loaded only where it is needed: importing this file does not need it.
        from lit_symbolic.verifiers.reasoning.prover import Answer, decide

        verdict = decide(answer.premises, conclusion, self.max_resources, self.max_seconds)
        if verdict.answer == Answer.UNDECIDED:
            if answer.findings:  # a fault of its own is wrong, whatever z3 would say
                return _certificate(answer, evidence=verdict.evidence)
            return Certificate.without_evidence(Status.TIMEOUT, verdict.evidence)
        if verdict.answer == Answer.INCONSISTENT and not answer.findings:
            message = f"{verdict.evidence}, so everything follows from them"
            answer.findings += [_finding(answer.premises[index], INCONSISTENT, message) for index in verdict.core]
        elif verdict.answer != right and not answer.findings:
            message = f"the conclusion is {verdict.answer}, the right answer is {right}"
            answer.findings.append(_finding(conclusion, WRONG_CONCLUSION, message))
            if self.locate == "suspects":
                message = "the wrong answer follows from this"
                answer.findings += [_finding(answer.premises[index], SUSPECT, message) for index in verdict.core]
                if verdict.answer == Answer.UNKNOWN:
                    answer.findings += _unconnected([*answer.premises, conclusion])
        return _certificate(answer, verdict.answer == right, True, verdict.evidence, len(verdict.core))


def _read(text: str, strict: bool) -> _Answer:
    sections, findings = read_sections(text, HEADERS, strict)
    answer = _Answer(declared="Predicates" in sections, findings=findings)
    answer.statements = sum(map(len, sections.values())) + len(findings) + ("Conclusion" not in sections)
    for start, end in sections.get("Predicates", ()):
        formula = _formula(text, start, end, answer)
        if isinstance(formula, Predicate):
            arity = answer.arities.setdefault((formula.name, True), len(formula.arguments))
            if arity == len(formula.arguments):
                answer.sound += 1
            else:
                answer.findings.append(_arity_finding(formula, arity))
        elif formula is not None:
            answer.findings.append(
                Finding(start, end, UNPARSABLE_LINE, "expected a predicate with its variables, found a formula")
            )
    conclusions = sections.get("Conclusion", [])
    premises = [_formula(text, start, end, answer) for start, end in sections.get("Premises", ())]
    read = [formula for formula in premises if formula is not None]
    conclusion = _formula(text, *conclusions[0], answer) if conclusions else None
    _settle_arities([*read, *([conclusion] if conclusion is not None else [])], answer)
    answer.premises = [premise for premise in read if _check(premise, answer)]
    if conclusion is not None and _check(conclusion, answer):
        answer.conclusion = conclusion
    if strict and len(conclusions) > 1:
        span = conclusions[1][0], conclusions[-1][1]
        answer.findings.append(Finding(*span, UNPARSABLE_LINE, "expected one conclusion, found more"))
    if not conclusions:
        message = "the answer has no conclusion: a line under Conclusion:"
        answer.findings.append(Finding(len(text), len(text), MISSING_SECTION, message))
    return answer


def _formula(text: str, start: int, end: int, answer: _Answer) -> Formula | None:
    try:
        return read_formula(text, start, end)
    except FormulaError as error:
        # ascii(): a lone surrogate in a message would break whoever writes it to a file.
        found = ascii(text[error.place : min(end, error.place + 20)]) if error.place < end else "the end of the line"
        answer.findings.append(Finding(error.place, end, UNPARSABLE_LINE, f"expected {error.expected}, found {found}"))
        return None


def _uses(formula: Formula) -> Iterator[tuple[tuple[str, bool], Predicate | Term]]:
    """Each use of a name, by the name and whether it is a predicate's."""
    yield from (((part.name, True), part) for part in parts(formula) if isinstance(part, Predicate) and part.name != "=")
    yield from (((term.name, False), term) for term in terms(formula))


def _settle_arities(formulas: Sequence[Formula], answer: _Answer) -> None:
    """A name that is not declared has as many arguments as in most of its uses, the first of them where there is a tie."""
    counts: dict[tuple[str, bool], Counter[int]] = {}
    for formula in formulas:
        for name, used in _uses(formula):
            counts.setdefault(name, Counter())[len(used.arguments)] += 1
    for name, count in counts.items():
        if not (answer.declared and name[1]):
            answer.arities.setdefault(name, count.most_common(1)[0][0])


def _check(formula: Formula, answer: _Answer) -> bool:
    """Whether the formula has no fault of its own."""
    findings = []
    for name, used in _uses(formula):
        arity = answer.arities.get(name)
        if arity is None:
            place = used.start, used.start + len(used.name)
            findings.append(Finding(*place, UNDECLARED_PREDICATE, f"{used.name} is not declared"))
        elif arity != len(used.arguments):
            findings.append(_arity_finding(used, arity))
    free = [term for term in free_terms(formula) if _VARIABLE.fullmatch(term.name)]
    findings += [Finding(term.start, term.end, FREE_VARIABLE, f"no quantifier binds {term.name}") for term in free]
    answer.findings += findings
    answer.sound += not findings
    return not findings


def _arity_finding(used: Predicate | Term, arity: int) -> Finding:
    """The arguments with their parentheses; the name where there are none."""
    start = used.start + len(used.name) * bool(used.arguments)
    given = len(used.arguments)
    return Finding(start, used.end, WRONG_ARITY, f"{used.name} takes {arity} argument{'s' * (arity != 1)}, not {given}")


def _unconnected(formulas: Sequence[Formula]) -> list[Finding]:
    """Predicates and constants that occur once in all the formulas."""
    named: list[tuple[str, int]] = []
    for formula in formulas:
        predicates = [part for part in parts(formula) if isinstance(part, Predicate) and part.name != "="]
        named += [(part.name, part.start) for part in predicates]
        constants = free_names(formula)
        named += [(term.name, term.start) for term in terms(formula) if term.name in constants]
    counts = Counter(name for name, _ in named)
    message = "nothing else is said of this, so nothing can follow from it"
    return [Finding(start, start + len(name), UNCONNECTED, message) for name, start in named if counts[name] == 1]


def _finding(formula: Formula, kind: str, message: str) -> Finding:
    return Finding(formula.start, formula.end, kind, message)


def _certificate(answer: _Answer, right: bool = False, concluded: bool = False, evidence: str = "", core: int = 0) -> Certificate:
    correct = right and not answer.findings
    measures = _measures(answer, right, concluded, core)
    return Certificate(
        correct=correct,
        score=1.0 if correct else measures["well_formed"] / 2,
        findings=tuple(sorted(answer.findings)),
        measures=measures,
        evidence=evidence,
    )


def _measures(answer: _Answer, right: bool = False, concluded: bool = False, core: int = 0) -> dict[str, float]:
    return {
        "right_conclusion": float(right),
        "concluded": float(concluded),
        "well_formed": answer.sound / max(answer.statements, 1),
        "premises": float(len(answer.premises)),
        "core": float(core),
    }
