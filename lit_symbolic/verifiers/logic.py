"""Certifies logic programs: a model translates facts, rules and a question, and a forward chainer draws the conclusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal as Choice

from lit_symbolic.certificate import MAX_EVIDENCE_CHARACTERS, Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.reasoning.blame import explain
from lit_symbolic.verifiers.reasoning.checks import UNBOUND_VARIABLE, UNDECLARED_PREDICATE, WRONG_ARITY, Sound, check
from lit_symbolic.verifiers.reasoning.forward_chaining import (
    MAX_STEPS,
    Atom,
    Closure,
    CostError,
    Derivation,
    Implication,
    NotStratifiedError,
    World,
    chain,
)
from lit_symbolic.verifiers.reasoning.program import (
    MISSING_SECTION,
    UNPARSABLE_LINE,
    Literal,
    Rule,
    Span,
    read_program,
    show,
)

UNSTRATIFIED = "unstratified"
"""A negated premise that depends on its own rule (closed world only)."""
NEVER_APPLICABLE = "never_applicable"
"""A premise that no fact and no conclusion meets, in a rule that could have led to the right conclusion."""
SUSPECT = "suspect"
"""One of the statements that a wrong conclusion was derived from; where the right one was not derived, a statement that denies what
it could come from, or a conclusion that nothing asks for."""
WRONG_CONCLUSION = "wrong_conclusion"
"""The query: the program is well formed, and its answer is not the right one."""
TOO_LONG = "too_long"
"""The whole answer: it was not read."""
TOO_COSTLY = "too_costly"
"""The rules: all that follows was not derived in the steps allowed."""

KINDS = (
    UNPARSABLE_LINE,
    MISSING_SECTION,
    UNDECLARED_PREDICATE,
    WRONG_ARITY,
    UNBOUND_VARIABLE,
    UNSTRATIFIED,
    NEVER_APPLICABLE,
    SUSPECT,
    WRONG_CONCLUSION,
    TOO_LONG,
    TOO_COSTLY,
)

UNKNOWN = "Unknown"
CONTRADICTION = "Contradiction"


@dataclass(frozen=True)
class LogicVerifier:
    """The symbolic tool of ProofWriter and its like.

    The answer is a program as in :mod:`~lit_symbolic.verifiers.reasoning.program`. Facts read: ``answer``, one of
    ``True``, ``False`` and ``Unknown``; ``world``, ``open`` or ``closed`` (open if not given); optionally ``predicates``, a mapping
    of the only names allowed to their number of arguments.

    A program with a fault of its own (see the kinds above) is wrong, whatever follows from the rest of it. Measures:

    - ``right_conclusion``: 1 if the program's answer is the right one; ``concluded``: 1 if it has an answer;
    - ``well_formed``: share of the statements without a fault of their own;
    - ``facts``, ``rules``: statements read; ``derived``: atoms that follow; ``proof_steps``: rules in the query's proof;
    - ``rules_unused``: share of the rules whose premises never held. Many rules of a right program are so.

    The score of a wrong answer is half of ``well_formed``, so at most 0.5.

    Args:
        upstream_compatible: Answer as the Pyke wrapper of ENVISIONS and Logic-LM does: every query with more than one
            argument is unknown, one that is both true and false is false, and declarations are not read.
        locate: ``suspects`` shows, beside the query, the statements that a wrong conclusion can come from; ``query`` does not.
        strict: A line before the first header is a finding, as is one behind the query. Otherwise such lines and code fences
            are skipped, as suits chat models.
        max_characters: Longer answers are rejected unread.
        max_steps: Steps that the chainer may take, see :func:`~lit_symbolic.verifiers.reasoning.forward_chaining.chain`.

    Example:
        >>> program = '''Predicates:
        ... Cold($x, bool) ::: Is x cold?
        ... Sees($x, $y, bool) ::: Does x see y?
        ... Facts:
        ... Cold(Bob, True) ::: Bob is cold.
        ... Rules:
        ... Cold($x, True) >>> Sees($x, Cat, False) ::: Cold people do not see the cat.
        ... Query:
        ... Sees(Bob, Cat, True) ::: Bob sees the cat.'''
        >>> problem = Problem("proofwriter", "1", "", {"answer": "False"})
        >>> certificate = LogicVerifier().verify(problem, program)
        >>> certificate.correct
        True
        >>> print(certificate.evidence)
        Sees(Bob, Cat, False)
          1. Cold(Bob, True), a fact
          2. Sees(Bob, Cat, False), by Cold($x, True) >>> Sees($x, Cat, False)
        >>> finding, = LogicVerifier().verify(problem, program.replace("Bob, True", "Bob, Tim, True")).findings
        >>> finding.kind, finding.message
        ('wrong_arity', 'Cold takes 1 argument, not 2')
        >>> LogicVerifier(upstream_compatible=True).verify(problem, program).findings[0].message
        'the program answers Unknown, the right answer is False'
    """

    upstream_compatible: bool = False
    locate: Choice["query", "suspects"] = "suspects"
    strict: bool = True
    max_characters: int = 20_000
    max_steps: int = MAX_STEPS

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify a program, see the class."""
        if len(text) > self.max_characters:
            message = f"the answer has {len(text)} characters; at most {self.max_characters} are read"
            return Certificate(False, 0.0, (Finding(0, len(text), TOO_LONG, message),), _measures(), Status.REJECTED, message)
        world: World = problem.facts.get("world", "open")
        sound = check(text, read_program(text, self.strict), problem.facts.get("predicates"), not self.upstream_compatible)
        facts, rules = [_atom(fact) for fact in sound.facts], [_implication(rule) for rule in sound.rules]
        try:
            closure = chain(facts, rules, world, self.max_steps)
        except CostError as error:
            span = (sound.rules[0].start, sound.rules[-1].end)
            findings = (*sound.findings, Finding(*span, TOO_COSTLY, f"the rules take {error}"))
            return Certificate(False, 0.0, tuple(sorted(findings)), _measures(sound), Status.REJECTED, str(error))
        except NotStratifiedError as error:
            premise = sound.rules[error.rule].premises[error.premise]
            message = f"whether {premise} holds depends on this rule"
            sound.findings.append(Finding(premise.start, premise.end, UNSTRATIFIED, message))
            return _certificate(sound, None, "", False, message)

        answer = None if sound.query is None else self._answer(closure, _atom(sound.query))
        right = answer == problem.facts["answer"]
        if sound.query is not None and not right and not sound.findings:
            message = f"the program answers {answer}, the right answer is {problem.facts['answer']}"
            sound.findings.append(Finding(sound.query.start, sound.query.end, WRONG_CONCLUSION, message))
            drawn = answer is not None and not (self.upstream_compatible and len(sound.query.arguments) != 1)
            if self.locate == "suspects" and drawn:
                sound.findings += _suspects(sound, closure, facts, rules, problem.facts["answer"])
        return _certificate(sound, closure, answer, right)

    def _answer(self, closure: Closure, query: Atom) -> str | None:
        """The program's answer; None where the wrapper would raise."""
        name, arguments, value = query
        if self.upstream_compatible and len(arguments) != 1:
            return UNKNOWN if arguments else None
        held = {v for v in (True, False) if (name, arguments, v) in closure.derivations}
        if len(held) == 2 and not self.upstream_compatible:
            return CONTRADICTION
        if closure.world == "closed":
            return str((True in held) == value)
        return str((False not in held) == value) if held else UNKNOWN


def _suspects(sound: Sound, closure: Closure, facts: Sequence[Atom], rules: Sequence[Implication], answer: str) -> list[Finding]:
    """The statements that a wrong conclusion can come from."""
    if sound.query is None:
        return []
    name, arguments, value = _atom(sound.query)
    findings: dict[Span, Finding] = {}
    for held in (True, False):
        if (name, arguments, held) not in closure.derivations or (closure.world == "closed" and not held):
            continue
        for atom, derivation in closure.proof((name, arguments, held)):
            statement = _statement(sound, derivation)
            message = f"{show(name, arguments, held)} is derived by this: {show(*atom)}"
            findings.setdefault((statement.start, statement.end), _finding(statement, SUSPECT, message))
    if findings or answer not in ("True", "False"):
        return list(findings.values())

    wanted = (name, arguments, (answer == "True") == value)
    reasons = explain(wanted, facts, rules, closure)
    missing = f"{show(*wanted)} does not follow"
    for (number, place), never in reasons.unmet.items():
        premise = sound.rules[number].premises[place]
        reason = "no fact and no rule gives it" if never else "nothing gives it for what this is about"
        findings[premise.start, premise.end] = _finding(premise, NEVER_APPLICABLE, f"{missing}: {premise} never holds, {reason}")
    for atom in reasons.denied:
        statement = _statement(sound, closure.derivations[atom])
        findings[statement.start, statement.end] = _finding(statement, SUSPECT, f"{missing}, and this gives {show(*atom)}")
    for number, place in reasons.unused:
        conclusion = sound.rules[number].conclusions[place]
        message = f"{missing}, and nothing asks for {conclusion.name}"
        findings[conclusion.start, conclusion.end] = _finding(conclusion, SUSPECT, message)
    return list(findings.values())


def _statement(sound: Sound, derivation: Derivation) -> Literal | Rule:
    return sound.facts[derivation.fact] if derivation.fact is not None else sound.rules[derivation.rule or 0]


def _finding(statement: Literal | Rule, kind: str, message: str) -> Finding:
    return Finding(statement.start, statement.end, kind, message)


def _certificate(sound: Sound, closure: Closure | None, answer: str | None, right: bool, evidence: str = "") -> Certificate:
    correct = right and not sound.findings
    if closure is not None and sound.query is not None:
        evidence = _proof(sound, closure, sound.query)
    return Certificate(
        correct=correct,
        score=1.0 if correct else sound.well_formed / 2,
        findings=tuple(sorted(sound.findings)),
        measures=_measures(sound, closure, answer is not None, right),
        evidence=evidence,
    )


def _proof(sound: Sound, closure: Closure, query: Literal) -> str:
    """The proof of the query or its opposite, in steps; or that there is none."""
    atom = (query.name, query.arguments, True)
    atom = atom if atom in closure.derivations else (query.name, query.arguments, False)
    if atom not in closure.derivations:
        which = "neither" if closure.world == "open" else "not"
        return f"{len(closure.derivations)} atoms follow, {which} {show(*atom[:2], True)}" + " nor its opposite" * (
            which != "not"
        )
    lines = [show(*atom)]
    characters = 0
    for step, (derived, derivation) in enumerate(closure.proof(atom), 1):
        if derivation.rule is None:
            reason = "a fact"
        else:
            rule = sound.rules[derivation.rule]
            reason = f"by {' && '.join(map(str, rule.premises))} >>> {' && '.join(map(str, rule.conclusions))}"
        lines.append(f"  {step}. {show(*derived)}, {reason}")
        characters += len(lines[-1])
        if characters > MAX_EVIDENCE_CHARACTERS:
            break
    return "\n".join(lines)


def _measures(
    sound: Sound | None = None, closure: Closure | None = None, concluded: bool = False, right: bool = False
) -> dict[str, float]:
    rules = len(sound.rules) if sound else 0
    steps = 0
    if sound and closure and sound.query:
        for value in (True, False):
            atom = (sound.query.name, sound.query.arguments, value)
            if atom in closure.derivations:
                steps = max(steps, sum(derivation.rule is not None for _, derivation in closure.proof(atom)))
    return {
        "right_conclusion": float(right),
        "concluded": float(concluded),
        "well_formed": sound.well_formed if sound else 0.0,
        "facts": float(len(sound.facts)) if sound else 0.0,
        "rules": float(rules),
        "derived": float(len(closure.derivations) - len(set(map(_atom, sound.facts)))) if sound and closure else 0.0,
        "proof_steps": float(steps),
        "rules_unused": 1 - len(closure.fired) / rules if closure and rules else 0.0,
    }


def _atom(literal: Literal) -> Atom:
    return literal[:3]


def _implication(rule: Rule) -> Implication:
    return [premise[:3] for premise in rule.premises], [conclusion[:3] for conclusion in rule.conclusions]
