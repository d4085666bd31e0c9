"""Which statements of a logic program a wrong conclusion can come from.

Of a false proof, one of the statements that it stands on is wrong, for the rest is sound. Of a proof that should exist and does not, a premise
that nothing meets is the likely place; a fact that says the opposite is another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from lit_symbolic.verifiers.forward_chaining import Atom, Closure, Implication

_Pattern = tuple[str, tuple[str | None, ...], bool]
"""An atom with None where any constant will do."""

MAX_BINDINGS = 16
MAX_GOALS = 200


class Unmet(NamedTuple):
    """A premise that no fact and no conclusion meets, in a rule that could have led to the goal.

    Args:
        rule: Index of the rule.
        premise: Index of the premise in it.
        never: Nothing meets the premise as it is written; otherwise, nothing does for the goal's constants.
    """

    rule: int
    premise: int
    never: bool


def unmet_premises(goal: Atom, facts: Sequence[Atom], rules: Sequence[Implication], closure: Closure) -> list[Unmet]:
    """Why ``goal`` was not derived: the premises, searched backwards from it, that nothing in the program could meet.

    Example:
        >>> from lit_symbolic.verifiers.forward_chaining import chain
        >>> facts = [("Cold", ("Bob",), True)]
        >>> rules = [([("Cold", ("$x",), True), ("Smal", ("$x",), True)], [("Blue", ("$x",), True)])]
        >>> unmet_premises(("Blue", ("Bob",), True), facts, rules, chain(facts, rules))
        [Unmet(rule=0, premise=1, never=True)]
    """
    unmet: dict[tuple[int, int], bool] = {}
    seen: set[_Pattern] = {goal}
    goals: list[_Pattern] = [goal]
    while goals and len(seen) <= MAX_GOALS:
        wanted = goals.pop()
        for number, (premises, conclusions) in enumerate(rules):
            for conclusion in conclusions:
                binding = _unify(conclusion, wanted)
                if binding is None:
                    continue
                for place, pattern in _failing(premises, binding, closure):
                    if closure.world == "closed" and not pattern[2]:
                        continue  # its opposite holds, by a proof: not something that is missing
                    if _derivable(pattern, rules):
                        if pattern not in seen:
                            seen.add(pattern)
                            goals.append(pattern)
                    else:
                        written = _pattern(premises[place], {})
                        never = not _derivable(written, rules) and not any(_matches(written, fact) for fact in facts)
                        unmet[number, place] = unmet.get((number, place), False) or never
    return [Unmet(rule, premise, never) for (rule, premise), never in sorted(unmet.items())]


def opposite_facts(goal: Atom, unmet: Sequence[Unmet], facts: Sequence[Atom], rules: Sequence[Implication]) -> list[int]:
    """Indices of the facts that deny the goal or an unmet premise: the same but for the truth value."""
    denied: list[_Pattern] = [(goal[0], goal[1], not goal[2])]
    for number, place, _ in unmet:
        name, arguments, value = _pattern(rules[number][0][place], {})
        denied.append((name, arguments, not value))
    return [index for index, fact in enumerate(facts) if any(_matches(pattern, fact) for pattern in denied)]


def _failing(premises: Sequence[Atom], binding: dict[str, str], closure: Closure) -> Iterator[tuple[int, _Pattern]]:
    """Premises that nothing derived meets, given those before them that something does."""
    bindings = [binding]
    for place, premise in enumerate(premises):
        met: list[dict[str, str]] = []
        for current in bindings:
            pattern = _pattern(premise, current)
            if closure.world == "closed" and not premise[2]:
                opposite = (premise[0], pattern[1], True)
                met += [] if opposite in closure.derivations else [current]
                continue
            for atom in closure.derivations:
                if _matches(pattern, atom):
                    pairs = zip(premise[1], atom[1], strict=True)
                    met.append({**current, **{term: constant for term, constant in pairs if term[:1] == "$"}})
                    if len(met) == MAX_BINDINGS:
                        break
        if met:
            bindings = met[:MAX_BINDINGS]
        else:
            for current in bindings:
                yield place, _pattern(premise, current)


def _pattern(atom: Atom, binding: dict[str, str]) -> _Pattern:
    return atom[0], tuple(binding.get(term) if term[:1] == "$" else term for term in atom[1]), atom[2]


def _matches(pattern: _Pattern, atom: Atom) -> bool:
    return (
        pattern[0] == atom[0]
        and pattern[2] == atom[2]
        and len(pattern[1]) == len(atom[1])
        and all(wanted is None or wanted == given for wanted, given in zip(pattern[1], atom[1], strict=True))
    )


def _unify(conclusion: Atom, wanted: _Pattern) -> dict[str, str] | None:
    """What the rule's variables must be for its conclusion to be what is wanted; None if it cannot be."""
    if conclusion[0] != wanted[0] or conclusion[2] != wanted[2] or len(conclusion[1]) != len(wanted[1]):
        return None
    binding: dict[str, str] = {}
    for term, constant in zip(conclusion[1], wanted[1], strict=True):
        if constant is None:
            continue
        if term[:1] != "$":
            if term != constant:
                return None
        elif binding.setdefault(term, constant) != constant:
            return None
    return binding


def _derivable(pattern: _Pattern, rules: Sequence[Implication]) -> bool:
    return any(_unify(conclusion, pattern) is not None for _, conclusions in rules for conclusion in conclusions)
