"""A forward chainer for facts and rules with variables, of any arity, with negation, in an open or a closed world.

*Open world*: what is false is said to be false. ``P(a, False)`` is a fact like any other, held if it is stated or derived, and
a query that neither it nor its opposite is derived for is unknown.
*Closed world*: what is not derived is false. A premise ``P($x, False)`` holds where ``P($x, True)`` cannot be derived (negation as
failure); the rules are run in strata, so that this is known before it is asked.

Semi-naive: a rule is tried only where one of its premises has just become true, against what was true before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

World = Literal["open", "closed"]

Atom = tuple[str, tuple[str, ...], bool]
"""Predicate, arguments, truth value. In a rule, an argument that begins with ``$`` is a variable."""

Implication = tuple[Sequence[Atom], Sequence[Atom]]
"""Premises and conclusions, each a conjunction. A conclusion's variables occur in a premise."""

MAX_STEPS = 200_000

_Relation = tuple[str, int, bool]
_Binding = dict[str, str]


class Derivation(NamedTuple):
    """Why an atom holds: it is the fact with index ``fact``, or rule ``rule`` gave it from ``premises``.

    Premises that hold because nothing derives their opposite (closed world) stand in ``absent``, as the negative atoms.
    """

    fact: int | None = None
    rule: int | None = None
    premises: tuple[Atom, ...] = ()
    absent: tuple[Atom, ...] = ()


class CostError(Exception):
    """The rules take more steps than allowed."""


class NotStratifiedError(Exception):
    """A predicate depends on its own negation. ``rule`` and ``premise`` are the indices of one negation on the circle."""

    def __init__(self, rule: int, premise: int) -> None:
        super().__init__(f"premise {premise} of rule {rule} negates what depends on that rule's conclusion")
        self.rule, self.premise = rule, premise


@dataclass
class Closure:
    """All that follows.

    Args:
        world: Open or closed.
        derivations: Each atom that holds, with its first and so shallowest derivation, in the order found.
        fired: Indices of the rules whose premises held together at least once.
        steps: Comparisons made.
    """

    world: World
    derivations: dict[Atom, Derivation] = field(default_factory=dict)
    fired: set[int] = field(default_factory=set)
    steps: int = 0

    def holds(self, name: str, arguments: tuple[str, ...]) -> bool | None:
        """The truth value of ``name(arguments)``: True, False or None for unknown.

        Raises:
            ValueError: If both values were derived.
        """
        true = (name, arguments, True) in self.derivations
        false = (name, arguments, False) in self.derivations
        if true and false:
            raise ValueError(f"{name}({', '.join(arguments)}) is derived to be true and to be false")
        if self.world == "closed":
            return true
        return True if true else False if false else None

    def proof(self, atom: Atom) -> list[tuple[Atom, Derivation]]:
        """The derivations that ``atom`` stands on, premises before what is derived from them, each once.

        Raises:
            KeyError: If the atom does not hold.
        """
        lines: dict[Atom, Derivation] = {}
        stack = [(atom, False)]
        while stack:
            current, premises_done = stack.pop()
            if premises_done:
                lines[current] = self.derivations[current]
            elif current not in lines:
                stack.append((current, True))
                stack.extend((premise, False) for premise in reversed(self.derivations[current].premises))
        return list(lines.items())


def chain(facts: Sequence[Atom], rules: Sequence[Implication], world: World = "open", max_steps: int = MAX_STEPS) -> Closure:
    """Derive all that follows from facts by rules.

    Args:
        facts: Atoms without variables.
        rules: A variable of a conclusion must occur in a premise. In a closed world a variable that only negated premises
            have stands for every constant of the program.
        world: ``open`` or ``closed``, see the module.
        max_steps: Comparisons of an atom with a premise allowed.

    Raises:
        CostError: If ``max_steps`` are not enough.
        NotStratifiedError: In a closed world, if a predicate depends on its own negation.

    Example:
        >>> facts = [("Chases", ("Dog", "Cat"), True), ("Kind", ("Cat",), False)]
        >>> rule = [("Chases", ("$x", "$y"), True), ("Kind", ("$y",), False)], [("Fears", ("$y", "$x"), True)]
        >>> closure = chain(facts, [rule])
        >>> closure.holds("Fears", ("Cat", "Dog")), closure.holds("Fears", ("Dog", "Cat"))
        (True, None)
        >>> [derivation.rule for _, derivation in closure.proof(("Fears", ("Cat", "Dog"), True))]
        [None, None, 0]
        >>> chain(facts[:1], [rule], world="closed").holds("Fears", ("Cat", "Dog"))
        True
    """
    closure = Closure(world)
    for index, fact in enumerate(facts):
        closure.derivations.setdefault(fact, Derivation(fact=index))
    chainer = _Chainer(closure, _constants(facts, rules) if world == "closed" else (), max_steps)
    for stratum in _strata(rules) if world == "closed" else [list(enumerate(rules))]:
        chainer.saturate(stratum)
    return closure


def _constants(facts: Sequence[Atom], rules: Sequence[Implication]) -> tuple[str, ...]:
    atoms = [*facts, *(atom for premises, conclusions in rules for atom in (*premises, *conclusions))]
    return tuple(dict.fromkeys(argument for _, arguments, _ in atoms for argument in arguments if argument[:1] != "$"))


class _Chainer:
    """Applies rules to a closure until nothing new follows. ``constants`` are what variables of negated premises stand for."""

    def __init__(self, closure: Closure, constants: tuple[str, ...], max_steps: int) -> None:
        self.closure, self.constants, self.max_steps = closure, constants, max_steps

    def saturate(self, rules: Iterable[tuple[int, Implication]]) -> None:
        closed = self.closure.world == "closed"
        self.agenda = deque(self.closure.derivations)
        self.known: dict[_Relation, list[tuple[str, ...]]] = {}
        self.processed: set[Atom] = set()
        triggers: dict[_Relation, list[tuple[tuple[str, ...], list[Atom], _Rule]]] = {}
        for index, (premises, conclusions) in rules:
            held = [premise for premise in premises if not closed or premise[2]]
            rule = _Rule(index, held, [premise for premise in premises if closed and not premise[2]], conclusions)
            for place, (name, arguments, value) in enumerate(held):
                rest = held[:place] + held[place + 1 :]
                triggers.setdefault((name, len(arguments), value), []).append((arguments, rest, rule))
            if not held:
                self.conclude(rule, [{}])
        while self.agenda:
            atom = self.agenda.popleft()
            name, arguments, value = atom
            relation = (name, len(arguments), value)
            self.processed.add(atom)
            self.known.setdefault(relation, []).append(arguments)
            for pattern, rest, rule in triggers.get(relation, ()):
                self.count(1)
                binding = _match(pattern, arguments, {})
                if binding is not None:
                    self.conclude(rule, self.join(rest, [binding]) if rest else [binding])

    def join(self, premises: Sequence[Atom], bindings: list[_Binding]) -> list[_Binding]:
        """Extensions of the bindings for which the premises are among the atoms processed."""
        for name, pattern, value in premises:
            extended: list[_Binding] = []
            self.count(len(bindings))
            for binding in bindings:
                wanted = _substitute(pattern, binding)
                if _ground(wanted):
                    if (name, wanted, value) in self.processed:
                        extended.append(binding)
                    continue
                candidates = self.known.get((name, len(wanted), value), ())
                self.count(len(candidates))
                for candidate in candidates:
                    match = _match(wanted, candidate, binding)
                    if match is not None:
                        extended.append(match)
            bindings = extended
        return bindings

    def leave(self, premises: Sequence[Atom], bindings: list[_Binding]) -> list[_Binding]:
        """Extensions of the bindings for which the opposite of no premise holds."""
        for name, pattern, _ in premises:
            for variable in dict.fromkeys(argument for argument in pattern if argument[:1] == "$"):
                extended: list[_Binding] = []
                for binding in bindings:
                    if variable in binding:
                        extended.append(binding)
                    else:
                        self.count(len(self.constants))
                        extended += [{**binding, variable: constant} for constant in self.constants]
                bindings = extended
            self.count(len(bindings))
            holding = self.closure.derivations
            bindings = [binding for binding in bindings if (name, _substitute(pattern, binding), True) not in holding]
        return bindings

    def conclude(self, rule: _Rule, bindings: list[_Binding]) -> None:
        derivations = self.closure.derivations
        if rule.absent:
            bindings = self.leave(rule.absent, bindings)
        for binding in bindings:
            self.closure.fired.add(rule.number)
            for name, arguments, value in rule.conclusions:
                atom = (name, _substitute(arguments, binding), value)
                if atom not in derivations:
                    premises, absent = _instances(rule.held, binding), _instances(rule.absent, binding)
                    derivations[atom] = Derivation(None, rule.number, premises, absent)
                    self.agenda.append(atom)

    def count(self, steps: int) -> None:
        self.closure.steps += steps
        if self.closure.steps > self.max_steps:
            raise CostError(f"more than {self.max_steps} steps")


class _Rule(NamedTuple):
    """A rule, its premises divided into those that are derived and those whose opposite is not."""

    number: int
    held: Sequence[Atom]
    absent: Sequence[Atom]
    conclusions: Sequence[Atom]


def _match(pattern: tuple[str, ...], arguments: tuple[str, ...], binding: _Binding) -> _Binding | None:
    """``binding`` extended so that the pattern is the arguments; None if it cannot be."""
    extended = binding
    for wanted, given in zip(pattern, arguments, strict=True):
        if wanted[:1] != "$":
            if wanted != given:
                return None
        elif (bound := extended.get(wanted)) is None:
            if extended is binding:
                extended = dict(binding)
            extended[wanted] = given
        elif bound != given:
            return None
    return extended


def _ground(arguments: tuple[str, ...]) -> bool:
    return not any(argument[:1] == "$" for argument in arguments)


def _substitute(arguments: tuple[str, ...], binding: _Binding) -> tuple[str, ...]:
    return tuple([binding.get(argument, argument) for argument in arguments])


def _instances(premises: Sequence[Atom], binding: _Binding) -> tuple[Atom, ...]:
    return tuple([(name, _substitute(arguments, binding), value) for name, arguments, value in premises])


def _strata(rules: Sequence[Implication]) -> list[list[tuple[int, Implication]]]:
    """The rules in groups, so that a negated premise's predicate is settled before the group that asks for it."""
    edges = [
        ((name, len(arguments)), (head, len(taken)), not value)
        for premises, conclusions in rules
        for name, arguments, value in premises
        for head, taken, affirmed in conclusions
        if affirmed
    ]
    level: dict[tuple[str, int], int] = {}
    for _ in range(len({target for _, target, _ in edges}) + 2):
        changed = False
        for source, target, negated in edges:
            least = level.get(source, 0) + negated
            if level.get(target, 0) < least:
                level[target] = least
                changed = True
        if not changed:
            break
    else:
        raise _negation_on_circle(rules)
    groups: dict[int, list[tuple[int, Implication]]] = {}
    for index, rule in enumerate(rules):
        needs = [level.get((name, len(arguments)), 0) + (not value) for name, arguments, value in rule[0]]
        heads = [level.get((name, len(arguments)), 0) for name, arguments, value in rule[1] if value]
        groups.setdefault(max([*needs, *heads], default=0), []).append((index, rule))
    return [groups[key] for key in sorted(groups)]


def _negation_on_circle(rules: Sequence[Implication]) -> NotStratifiedError:
    reach: dict[tuple[str, int], set[tuple[str, int]]] = {}
    for premises, conclusions in rules:
        for name, arguments, _ in premises:
            reach.setdefault((name, len(arguments)), set()).update((h, len(a)) for h, a, value in conclusions if value)
    for index, (premises, conclusions) in enumerate(rules):
        for place, (name, arguments, value) in enumerate(premises):
            if value:
                continue
            seen = {(head, len(taken)) for head, taken, affirmed in conclusions if affirmed}
            stack = list(seen)
            while stack:
                for following in reach.get(stack.pop(), ()):
                    if following not in seen:
                        seen.add(following)
                        stack.append(following)
            if (name, len(arguments)) in seen:
                return NotStratifiedError(index, place)
    raise ValueError("a stratified program has no negation on a circle")
