"""Certifies logic programs: a model translates facts, rules and a question, and a forward chainer draws the conclusion."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal as Choice

from lit_symbolic.certificate import MAX_EVIDENCE_CHARACTERS, Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.forward_chaining import (
    MAX_STEPS,
    Atom,
    Closure,
    CostError,
    Implication,
    NotStratifiedError,
    World,
    chain,
)
from lit_symbolic.verifiers.logic_blame import opposite_facts, unmet_premises
from lit_symbolic.verifiers.logic_program import (
    MISSING_SECTION,
    UNPARSABLE_LINE,
    Declaration,
    Literal,
    Program,
    Rule,
    Span,
    read_program,
    show,
)

UNDECLARED_PREDICATE = "undeclared_predicate"
"""The predicate's name, where it is used and not declared, or declared and not one of the problem's."""
WRONG_ARITY = "wrong_arity"
"""The arguments with their parentheses: not as many as were declared."""
UNBOUND_VARIABLE = "unbound_variable"
"""A variable of a fact or the query, or one of a conclusion that no premise has."""
UNSTRATIFIED = "unstratified"
"""A negated premise that depends on its own rule (closed world only)."""
NEVER_APPLICABLE = "never_applicable"
"""A premise that no fact and no conclusion meets, in a rule that could have led to the right conclusion."""
SUSPECT = "suspect"
"""One of the statements that a wrong conclusion was derived from, or a fact that denies the right one."""
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
    """The symbolic tool of ProofWriter and its like; the answer is a program as in :mod:`~lit_symbolic.verifiers.logic_program`.

    Facts read: ``answer``, one of ``True``, ``False`` and ``Unknown``; ``world``, ``open`` or ``closed`` (open if not
    given); optionally ``predicates``, a mapping of the only names allowed to their number of arguments.

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
        max_steps: Steps that the chainer may take, see :func:`~lit_symbolic.verifiers.forward_chaining.chain`.

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
        sound = _check(text, read_program(text, self.strict), problem.facts.get("predicates"), world, self.upstream_compatible)
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


@dataclass
class _Sound:
    """The statements of a program that have no fault of their own, and the faults of the others."""

    facts: list[Literal]
    rules: list[Rule]
    query: Literal | None
    findings: list[Finding]
    statements: int
    well_formed: float = 0.0


def _check(text: str, program: Program, allowed: Mapping[str, int] | None, world: World, upstream: bool) -> _Sound:
    findings = program.findings
    arities: dict[str, int] = {}
    declared = 0
    for declaration in () if upstream else program.declarations or ():
        fault = _declaration_fault(text, declaration, arities, allowed)
        if fault is None:
            declared += 1
            arities.setdefault(declaration.name, declaration.arity)
        else:
            findings.append(fault)
    if upstream:
        declared = len(program.declarations or ())
    elif program.declarations is None:
        findings.append(Finding(0, 0, MISSING_SECTION, "the program declares no predicates: lines under Predicates:"))

    def faults(literal: Literal, bound: Container[str] | None) -> list[Finding]:
        """Of a literal whose variables must be ``bound``; None if they may be free."""
        name, arguments, _, start, end = literal
        found = []
        if not upstream:
            if program.declarations is None:
                arities.setdefault(name, len(arguments))  # the first use is the declaration
            arity = arities.get(name)
            if arity is None:
                found.append(Finding(start, start + len(name), UNDECLARED_PREDICATE, f"{name} is not declared"))
            elif arity != len(arguments):
                found.append(Finding(text.index("(", start), end, WRONG_ARITY, _arity_message(name, arity, len(arguments))))
        if bound is not None:
            for variable in dict.fromkeys(argument for argument in arguments if argument[0] == "$" and argument not in bound):
                place = start + re.search(rf"{re.escape(variable)}(?![\w'-])", text[start:end]).start()
                message = f"no premise has {variable}" if bound else f"{variable} stands for no one here"
                found.append(Finding(place, place + len(variable), UNBOUND_VARIABLE, message))
        return found

    facts = []
    for fact in program.facts:
        if fault_list := faults(fact, ()):
            findings += fault_list
        else:
            facts.append(fact)
    rules = []
    for rule in program.rules:
        variables = {argument for premise in rule.premises for argument in premise.arguments}
        fault_list = [fault for premise in rule.premises for fault in faults(premise, None)]
        fault_list += [fault for conclusion in rule.conclusions for fault in faults(conclusion, variables)]
        if fault_list:
            findings += fault_list
        else:
            rules.append(rule)
    query = program.query
    if query is not None and (fault_list := faults(query, ())):
        findings += fault_list
        query = None
    count = declared + len(facts) + len(rules) + (query is not None)
    return _Sound(facts, rules, query, findings, program.statements, count / max(program.statements, 1))


def _declaration_fault(
    text: str, declaration: Declaration, arities: Mapping[str, int], allowed: Mapping[str, int] | None
) -> Finding | None:
    name, arity, start, end = declaration
    if allowed is not None and name not in allowed:
        message = f"{name} is not a predicate of this problem; they are {', '.join(allowed)}"
        return Finding(start, start + len(name), UNDECLARED_PREDICATE, message)
    expected = arities.get(name, arity) if allowed is None else allowed[name]
    if expected == arity:
        return None
    return Finding(text.index("(", start), end, WRONG_ARITY, _arity_message(name, expected, arity))


def _arity_message(name: str, expected: int, given: int) -> str:
    return f"{name} takes {expected} argument{'s' * (expected != 1)}, not {given}"


def _suspects(sound: _Sound, closure: Closure, facts: Sequence[Atom], rules: Sequence[Implication], answer: str) -> list[Finding]:
    """The statements that a wrong conclusion can come from."""
    if sound.query is None:
        return []
    name, arguments, value = _atom(sound.query)
    findings: dict[Span, Finding] = {}
    for held in (True, False):
        if (name, arguments, held) not in closure.derivations or (closure.world == "closed" and not held):
            continue
        for atom, derivation in closure.proof((name, arguments, held)):
            statement = sound.facts[derivation.fact] if derivation.fact is not None else sound.rules[derivation.rule or 0]
            span = statement.start, statement.end
            findings.setdefault(span, Finding(*span, SUSPECT, f"{show(name, arguments, held)} is derived by this: {show(*atom)}"))
    if findings or answer not in ("True", "False"):
        return list(findings.values())

    wanted = (name, arguments, (answer == "True") == value)
    unmet = unmet_premises(wanted, facts, rules, closure)
    for number, place, never in unmet:
        premise = sound.rules[number].premises[place]
        reason = "no fact and no rule gives it" if never else "nothing gives it for what this is about"
        message = f"{show(*wanted)} does not follow: {premise} never holds, {reason}"
        findings[premise.start, premise.end] = Finding(premise.start, premise.end, NEVER_APPLICABLE, message)
    for index in opposite_facts(wanted, unmet, facts, rules):
        fact = sound.facts[index]
        message = f"{show(*wanted)} does not follow, and this denies what it could follow from"
        findings[fact.start, fact.end] = Finding(fact.start, fact.end, SUSPECT, message)
    return list(findings.values())


def _certificate(sound: _Sound, closure: Closure | None, answer: str | None, right: bool, evidence: str = "") -> Certificate:
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


def _proof(sound: _Sound, closure: Closure, query: Literal) -> str:
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
    sound: _Sound | None = None, closure: Closure | None = None, concluded: bool = False, right: bool = False
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
