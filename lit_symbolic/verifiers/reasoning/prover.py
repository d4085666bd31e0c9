"""Decides by z3 whether premises of first-order logic entail a conclusion, contradict it, or leave it open.

One sort of things, at least one of them; predicates and functions uninterpreted. The question is undecidable, so z3 is bounded: by its
own resource count, which makes the answer the same on every machine, and by the clock behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import reduce

import z3

from lit_symbolic.verifiers.reasoning.formula import Formula, Negation, Predicate, Quantified, Term

MAX_RESOURCES = 3_000_000
MAX_SECONDS = 1.5
MAX_EVIDENCE_CHARACTERS = 900


class Answer(StrEnum):
    """What the premises say about the conclusion."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"
    INCONSISTENT = "Inconsistent"
    """The premises contradict each other, so they entail everything."""
    UNDECIDED = "Undecided"
    """z3 came to its limit."""


@dataclass(frozen=True)
class Verdict:
    """What z3 found.

    Args:
        answer: See :class:`Answer`.
        core: Indices of the premises that the answer needs, as few as z3 finds, for true, false and inconsistent.
        evidence: The core in words; or, for unknown, a model of the premises in which the conclusion holds and one in which it
            does not.
    """

    answer: Answer
    core: tuple[int, ...] = ()
    evidence: str = ""


def decide(
    premises: Sequence[Formula],
    conclusion: Formula,
    max_resources: int = MAX_RESOURCES,
    max_seconds: float = MAX_SECONDS,
) -> Verdict:
    """Whether the premises entail the conclusion.

    Args:
        premises: Formulas; a name that no quantifier binds is a constant.
        conclusion: A formula.
        max_resources: z3's ``rlimit`` of each of the two or three questions asked; a million is a second or so.
        max_seconds: z3's ``timeout`` of each.

    Raises:
        ValueError: If a name is used with different numbers of arguments.

    Example:
        >>> from lit_symbolic.verifiers.reasoning.formula import read_formula
        >>> premises = [read_formula(text) for text in ("∀x (Dog(x) → Barks(x))", "Cat(tom)", "Dog(rex)")]
        >>> verdict = decide(premises, read_formula("∃y Barks(y)"))
        >>> str(verdict.answer), verdict.core
        ('True', (0, 2))
        >>> str(decide(premises, read_formula("Barks(tom)")).answer)
        'Unknown'
    """
    translation = _Translation()
    solver = z3.Solver(ctx=translation.context)
    solver.set("timeout", max(1, int(max_seconds * 1000)), "core.minimize", True)

    def ask(question: z3.BoolRef | None) -> tuple[z3.CheckSatResult, list[int], str]:
        """Whether premises and question can hold together, the premises that say no, or the model that says yes."""
        solver.set("rlimit", max_resources)
        found = solver.check(*marks, *([] if question is None else [question]))
        if found == z3.unsat:
            numbers = {mark.get_id(): index for index, mark in enumerate(marks)}
            return found, sorted(numbers[m.get_id()] for m in solver.unsat_core() if m.get_id() in numbers), ""
        return found, [], _show(solver.model()) if found == z3.sat else ""

    marks = []
    for index, premise in enumerate(premises):
        marks.append(z3.Bool(f"premise {index + 1}", translation.context))
        solver.add(z3.Implies(marks[-1], translation.formula(premise)))
    mark = z3.Bool("conclusion", translation.context)
    solver.add(mark == translation.formula(conclusion))

    against, for_core, counterexample = ask(z3.Not(mark))
    in_favour, against_core, example = ask(mark)
    if against == in_favour == z3.unsat:
        _, core, _ = ask(None)
        answer, core = Answer.INCONSISTENT, core or sorted({*for_core, *against_core})
        evidence = f"premises {_list(core)} contradict each other"
    elif against == z3.unsat:
        answer, core, evidence = Answer.TRUE, for_core, f"{_these(for_core)} the conclusion"
    elif in_favour == z3.unsat:
        answer, core, evidence = Answer.FALSE, against_core, f"{_these(against_core)} that the conclusion is false"
    elif against == in_favour == z3.sat:
        answer, core = Answer.UNKNOWN, []
        evidence = (
            f"the premises and the conclusion hold in\\n{example}\\nthe premises and not the conclusion in\\n{counterexample}"
        )
    else:
        answer, core = Answer.UNDECIDED, []
        evidence = f"z3 did not decide within {max_resources} resources and {max_seconds} s: {solver.reason_unknown()}"
    return Verdict(answer, tuple(core), evidence)


def _these(core: Sequence[int]) -> str:
    return f"premises {_list(core)} entail" if core else "no premise is needed for"


def _list(core: Sequence[int]) -> str:
    return ", ".join(str(index + 1) for index in core)


def _show(model: z3.ModelRef) -> str:
    shown = "; ".join(
        f"{symbol.name()} = {' '.join(str(model[symbol]).split())}"
        for symbol in sorted(model.decls(), key=lambda symbol: str(symbol.name()))
        if not str(symbol.name()).startswith(("premise ", "conclusion"))
    )
    return shown if len(shown) <= MAX_EVIDENCE_CHARACTERS else shown[: MAX_EVIDENCE_CHARACTERS - 1] + "…"


class _Translation:
    """From formulas to z3. A context of its own for each problem: what z3 does never depends on what it did before."""

    def __init__(self) -> None:
        self.context = z3.Context()
        self.things = z3.DeclareSort("Thing", self.context)
        self.truth = z3.BoolSort(self.context)
        self.symbols: dict[tuple[str, bool], tuple[int, z3.FuncDeclRef]] = {}

    def symbol(self, name: str, arity: int, predicate: bool) -> z3.FuncDeclRef:
        known = self.symbols.get((name, predicate))
        if known is None:
            declared = z3.Function(name, *[self.things] * arity, self.truth if predicate else self.things)
            known = self.symbols[name, predicate] = arity, declared
        if known[0] != arity:
            raise ValueError(f"{name} is used with {known[0]} arguments and with {arity}")
        return known[1]

    def term(self, term: Term, bound: dict[str, z3.ExprRef]) -> z3.ExprRef:
        if not term.arguments and term.name in bound:
            return bound[term.name]
        arguments = [self.term(argument, bound) for argument in term.arguments]
        return self.symbol(term.name, len(arguments), False)(*arguments)

    def formula(self, formula: Formula, bound: dict[str, z3.ExprRef] | None = None) -> z3.BoolRef:
        bound = bound or {}
        if isinstance(formula, Predicate):
            arguments = [self.term(argument, bound) for argument in formula.arguments]
            if formula.name == "=":
                return arguments[0] == arguments[1]
            return self.symbol(formula.name, len(arguments), True)(*arguments)
        if isinstance(formula, Negation):
            return z3.Not(self.formula(formula.operand, bound))
        if isinstance(formula, Quantified):
            variable = z3.FreshConst(self.things, formula.variable)
            body = self.formula(formula.body, {**bound, formula.variable: variable})
            return (z3.ForAll if formula.quantifier == "∀" else z3.Exists)([variable], body)
        operands = [self.formula(operand, bound) for operand in formula.operands]
        return _CONNECTIVES[formula.symbol](operands)


_CONNECTIVES: dict[str, Callable[[list[z3.BoolRef]], z3.BoolRef]] = {
    "∧": z3.And,
    "∨": z3.Or,
    "⊕": lambda operands: reduce(z3.Xor, operands),
    "→": lambda operands: z3.Implies(*operands),
    "↔": lambda operands: reduce(lambda left, right: left == right, operands),
}
