"""Which statements of a logic program a wrong conclusion can come from.

Of a false proof, one of the statements that it stands on is wrong, for the chainer is sound (:meth:`Closure.proof` names them). Of a
proof that should exist and does not, :func:`explain` searches backwards from its goal for what stands in the way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from lit_symbolic.verifiers.reasoning.forward_chaining import Atom, Closure, Implication

_Pattern = tuple[str, tuple[str | None, ...], bool]
"""An atom with None where any constant will do."""

MAX_BINDINGS = 16
MAX_GOALS = 200
MAX_STEPS = 20_000


@dataclass
class Explanation:
    """Why an atom was not derived.

    Args:
        unmet: Indices of rules and of their premises that nothing meets, in rules that could have led to the goal. True where
            nothing can meet the premise as it is written; False where nothing does for the constants of the goal.
        denied: Atoms that hold and whose opposite was wanted on the way to the goal.
        unused: Indices of rules and of their conclusions whose predicate occurs nowhere else in the program.
    """

    unmet: dict[tuple[int, int], bool] = field(default_factory=dict)
    denied: list[Atom] = field(default_factory=list)
    unused: list[tuple[int, int]] = field(default_factory=list)


def explain(goal: Atom, facts: Sequence[Atom], rules: Sequence[Implication], closure: Closure) -> Explanation:
    """Search backwards from ``goal``, which does not hold, through the rules that could have led to it.

    Example:
        >>> from lit_symbolic.verifiers.reasoning.forward_chaining import chain
        >>> facts = [("Cold", ("Bob",), True)]
        >>> rules = [([("Cold", ("$x",), True), ("Smal", ("$x",), True)], [("Blue", ("$x",), True)])]
        >>> explain(("Blue", ("Bob",), True), facts, rules, chain(facts, rules)).unmet
        {(0, 1): True}
    """
    search = _Search(facts, rules, closure)
    explanation = Explanation()
    seen: set[_Pattern] = {goal}
    goals: list[_Pattern] = [goal]
    while goals and len(seen) <= MAX_GOALS and search.steps <= MAX_STEPS:
        wanted = goals.pop()
        for number, (premises, conclusions) in enumerate(rules):
            for conclusion in conclusions:
                search.steps += 1
                binding = _unify(conclusion, wanted)
                if binding is None:
                    continue
                for place, pattern in search.failing(premises, binding):
                    if closure.world == "closed" and not pattern[2]:
                        continue  # its opposite holds, by a proof: not something that is missing
                    if pattern not in seen:
                        seen.add(pattern)
                        goals.append(pattern)
                    if not search.derivable(pattern) or search.denied(pattern):
                        written = _pattern(premises[place], {})
                        never = not search.derivable(written) and not any(_matches(written, fact) for fact in facts)
                        explanation.unmet[number, place] = explanation.unmet.get((number, place), False) or never
    opposites = [(name, arguments, not value) for name, arguments, value in seen] if closure.world == "open" else []
    explanation.denied = [atom for atom in closure.derivations if any(_matches(opposite, atom) for opposite in opposites)]
    mentions = Counter(atom[0] for atom in facts)
    mentions.update(atom[0] for premises, conclusions in rules for atom in (*premises, *conclusions))
    for number, (_, conclusions) in enumerate(rules):
        lonely = [place for place, atom in enumerate(conclusions) if mentions[atom[0]] == 1 and atom[0] != goal[0]]
        explanation.unused += [(number, place) for place in lonely]
    return explanation


class _Search:
    """What the program could derive, for one explanation."""

    def __init__(self, facts: Sequence[Atom], rules: Sequence[Implication], closure: Closure) -> None:
        self.closure, self.rules = closure, rules
        self.steps = 0
        stated = [*facts, *(atom for _, conclusions in rules for atom in conclusions)]
        # No other constant can stand in what is derived, for a conclusion has no variables of its own.
        self.constants = {argument for _, arguments, _ in stated for argument in arguments}
        self.known: dict[tuple[str, bool], list[Atom]] = {}
        for atom in closure.derivations:
            self.known.setdefault((atom[0], atom[2]), []).append(atom)

    def derivable(self, pattern: _Pattern) -> bool:
        """Whether a rule might conclude it."""
        if any(constant is not None and constant not in self.constants for constant in pattern[1]):
            return False
        self.steps += len(self.rules)
        return any(_unify(conclusion, pattern) is not None for _, conclusions in self.rules for conclusion in conclusions)

    def denied(self, pattern: _Pattern) -> bool:
        """Whether its opposite is said or derived, so that it cannot hold beside it."""
        return self.closure.world == "open" and (pattern[0], pattern[1], not pattern[2]) in self.closure.derivations

    def failing(self, premises: Sequence[Atom], binding: dict[str, str]) -> list[tuple[int, _Pattern]]:
        """Premises that are not met while all others are; if there is none, those not met where the ones before them are."""
        found = []
        for place, premise in enumerate(premises):
            bindings = [binding]
            for other in (*premises[:place], *premises[place + 1 :]):
                bindings = self.meeting(other, bindings)
            found += [(place, _pattern(premise, current)) for current in bindings]
        if found:
            return found
        bindings = [binding]
        for place, premise in enumerate(premises):
            met = self.meeting(premise, bindings)
            if met:
                bindings = met
            else:
                found += [(place, _pattern(premise, current)) for current in bindings]
        return found

    def meeting(self, premise: Atom, bindings: list[dict[str, str]]) -> list[dict[str, str]]:
        """The first extensions of the bindings that meet a premise."""
        met: list[dict[str, str]] = []
        for current in bindings:
            pattern = _pattern(premise, current)
            if self.closure.world == "closed" and not premise[2]:
                opposite = (premise[0], pattern[1], True)
                met += [] if opposite in self.closure.derivations else [current]
                continue
            candidates = self.known.get((premise[0], premise[2]), ())
            self.steps += len(candidates)
            for atom in candidates:
                if _matches(pattern, atom):
                    pairs = zip(premise[1], atom[1], strict=True)
                    met.append({**current, **{term: constant for term, constant in pairs if term[:1] == "$"}})
            if len(met) >= MAX_BINDINGS:
                break
        return met[:MAX_BINDINGS]


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
