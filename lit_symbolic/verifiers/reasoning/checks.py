"""Faults that a logic program has of its own, whatever follows from it: names, numbers of arguments, variables."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from lit_symbolic.certificate import Finding
from lit_symbolic.verifiers.reasoning.program import MISSING_SECTION, Declaration, Literal, Program, Rule

UNDECLARED_PREDICATE = "undeclared_predicate"
"""The predicate's name, where it is used and not declared, or declared and not one of the problem's."""
WRONG_ARITY = "wrong_arity"
"""The arguments with their parentheses: not as many as were declared."""
UNBOUND_VARIABLE = "unbound_variable"
"""A variable of a fact or the query, or one of a conclusion that no premise has."""


@dataclass
class Sound:
    """The statements of a program that have no fault of their own, and the faults of the others.

    Args:
        well_formed: Share of the statements, declarations among them, without a fault.
    """

    facts: list[Literal]
    rules: list[Rule]
    query: Literal | None
    findings: list[Finding]
    well_formed: float


def check(text: str, program: Program, allowed: Mapping[str, int] | None = None, declared_only: bool = True) -> Sound:
    """Set the statements that have a fault apart from the others.

    Args:
        text: The answer.
        program: What was read of it.
        allowed: The only predicates that may be declared, with their number of arguments; any if None.
        declared_only: Read the declarations. Otherwise any predicate may have any number of arguments.

    Example:
        >>> from lit_symbolic.verifiers.reasoning.program import read_program
        >>> text = "Predicates:\\nCold($x, bool)\\nFacts:\\nCold(Bob, True)\\nCool(Al, True)\\nQuery:\\nCold(Al, True)"
        >>> sound = check(text, read_program(text))
        >>> len(sound.facts), sound.well_formed, [(text[f.start : f.end], f.kind) for f in sound.findings]
        (1, 0.75, [('Cool', 'undeclared_predicate')])
    """
    checker = _Checker(text, program, allowed, declared_only)
    findings = [*program.findings, *checker.findings]
    facts: list[Literal] = []
    rules: list[Rule] = []
    for fact in program.facts:
        faults = checker.faults(fact, ())
        findings += faults
        if not faults:
            facts.append(fact)
    for rule in program.rules:
        variables = {argument for premise in rule.premises for argument in premise.arguments}
        faults = [fault for premise in rule.premises for fault in checker.faults(premise, None)]
        faults += [fault for conclusion in rule.conclusions for fault in checker.faults(conclusion, variables)]
        findings += faults
        if not faults:
            rules.append(rule)
    query = program.query
    if query is not None:
        faults = checker.faults(query, ())
        findings += faults
        query = None if faults else query
    count = checker.declared + len(facts) + len(rules) + (query is not None)
    return Sound(facts, rules, query, findings, count / max(program.statements, 1))


class _Checker:
    def __init__(self, text: str, program: Program, allowed: Mapping[str, int] | None, declared_only: bool) -> None:
        self.text, self.declared_only = text, declared_only
        self.findings: list[Finding] = []
        self.arities: dict[str, int] = {}
        self.first_use_declares = program.declarations is None
        self.declared = 0
        for declaration in program.declarations or ():
            fault = self.declaration_fault(declaration, allowed) if declared_only else None
            if fault is None:
                self.declared += 1
                self.arities.setdefault(declaration.name, declaration.arity)
            else:
                self.findings.append(fault)
        if declared_only and self.first_use_declares:
            message = "the program declares no predicates: lines under Predicates:"
            self.findings.append(Finding(0, 0, MISSING_SECTION, message))

    def declaration_fault(self, declaration: Declaration, allowed: Mapping[str, int] | None) -> Finding | None:
        name, arity, start, end = declaration
        if allowed is not None and name not in allowed:
            message = f"{name} is not a predicate of this problem; they are {', '.join(allowed)}"
            return Finding(start, start + len(name), UNDECLARED_PREDICATE, message)
        expected = self.arities.get(name, arity) if allowed is None else allowed[name]
        return None if expected == arity else self.arity_fault(name, expected, arity, start, end)

    def arity_fault(self, name: str, expected: int, given: int, start: int, end: int) -> Finding:
        message = f"{name} takes {expected} argument{'s' * (expected != 1)}, not {given}"
        return Finding(self.text.index("(", start), end, WRONG_ARITY, message)

    def faults(self, literal: Literal, bound: Container[str] | None) -> list[Finding]:
        """Faults of a literal whose variables must be among ``bound``; None if they may be any."""
        name, arguments, _, start, end = literal
        found = []
        if self.declared_only:
            if self.first_use_declares:
                self.arities.setdefault(name, len(arguments))
            arity = self.arities.get(name)
            if arity is None:
                found.append(Finding(start, start + len(name), UNDECLARED_PREDICATE, f"{name} is not declared"))
            elif arity != len(arguments):
                found.append(self.arity_fault(name, arity, len(arguments), start, end))
        if bound is not None:
            for variable, place in self.variables(literal):
                if variable not in bound:
                    message = f"no premise has {variable}" if bound else f"{variable} stands for no one here"
                    found.append(Finding(place, place + len(variable), UNBOUND_VARIABLE, message))
        return found

    def variables(self, literal: Literal) -> Iterator[tuple[str, int]]:
        """The variables with their places."""
        place = literal.start + len(literal.name)
        for argument in literal.arguments:
            place = self.text.index(argument, place)
            if argument[0] == "$":
                yield argument, place
            place += len(argument)
