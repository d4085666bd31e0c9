import itertools

import pytest
import z3
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lit_symbolic.verifiers.reasoning.forward_chaining import CostError, NotStratifiedError, chain

CONSTANTS = ("A", "B", "C")
ARITIES = {"P": 1, "Q": 1, "R": 2, "S": 0}


@st.composite
def atoms(draw, terms):
    name = draw(st.sampled_from(sorted(ARITIES)))
    return (
        name,
        tuple(draw(st.lists(st.sampled_from(terms), min_size=ARITIES[name], max_size=ARITIES[name]))),
        draw(st.booleans()),
    )


@st.composite
def programs(draw, closed=False):
    facts = draw(st.lists(atoms(CONSTANTS), min_size=1, max_size=6))
    rules = []
    for _ in range(draw(st.integers(0, 5))):
        premises = draw(st.lists(atoms((*CONSTANTS[:2], "$x", "$y", "$z")), min_size=1, max_size=3))
        bound = sorted({a for _, arguments, _ in premises for a in arguments if a[0] == "$"})
        conclusions = draw(st.lists(atoms((*CONSTANTS[:2], *bound)), min_size=1, max_size=2))
        rules.append((premises, conclusions))
    if closed:
        facts = [fact for fact in facts if fact[2]]
        rules = [(premises, [c for c in conclusions if c[2]]) for premises, conclusions in rules]
    return facts, rules


def ground(facts, rules):
    """Every instance of every rule over the program's constants."""
    everything = [*facts, *(atom for rule in rules for side in rule for atom in side)]
    constants = sorted({a for _, arguments, _ in everything for a in arguments if a[0] != "$"})
    for premises, conclusions in rules:
        variables = sorted({a for _, arguments, _ in premises for a in arguments if a[0] == "$"})
        for values in itertools.product(constants, repeat=len(variables)):
            binding = dict(zip(variables, values, strict=True))

            def instance(atom, binding=binding):
                return atom[0], tuple(binding.get(a, a) for a in atom[1]), atom[2]

            yield [instance(p) for p in premises], [instance(c) for c in conclusions]


def fixpoint(facts, instances, holds=lambda atom, known: atom in known):
    known = set(facts)
    while True:
        more = {c for premises, conclusions in instances if all(holds(p, known) for p in premises) for c in conclusions}
        if more <= known:
            return known
        known |= more


@given(programs())
@settings(max_examples=200, deadline=None)
def test_all_that_follows_in_an_open_world_is_what_a_brute_force_fixpoint_gives(program):
    facts, rules = program
    assert set(chain(facts, rules).derivations) == fixpoint(facts, list(ground(facts, rules)))


@given(programs())
@settings(max_examples=40, deadline=None)
def test_an_atom_holds_in_an_open_world_exactly_if_z3_says_that_the_ground_clauses_entail_it(program):
    facts, rules = program
    clauses = [z3.Bool(str(fact)) for fact in facts]
    for premises, conclusions in ground(facts, rules):
        clauses.append(z3.Implies(z3.And([z3.Bool(str(p)) for p in premises]), z3.And([z3.Bool(str(c)) for c in conclusions])))
    solver = z3.Solver()
    solver.add(clauses)
    closure = chain(facts, rules)
    asked = {*facts, *(atom for rule in ground(facts, rules) for side in rule for atom in side)}
    for atom in sorted(asked)[:20]:
        assert (solver.check(z3.Not(z3.Bool(str(atom)))) == z3.unsat) == (atom in closure.derivations)


@given(programs(closed=True))
@settings(max_examples=200, deadline=None)
def test_in_a_closed_world_the_strata_give_the_well_founded_model(program):
    facts, rules = program
    try:
        closure = chain(facts, rules, world="closed")
    except NotStratifiedError:
        assume(False)
    instances = list(ground(facts, rules))

    def least(assumed):
        """The least model where a negation is true if its atom is not assumed."""
        return fixpoint(facts, instances, lambda atom, known: atom in known if atom[2] else (*atom[:2], True) not in assumed)

    # Alternating fixpoint (Van Gelder): from below and from above.
    below, above = set(), least(set())
    while (new := least(above)) != below:
        below, above = new, least(new)
    assert below == above  # total, as it must be for a stratified program
    assert set(closure.derivations) == below


@given(programs())
@settings(max_examples=100, deadline=None)
def test_each_step_of_a_proof_is_a_fact_or_follows_from_steps_before_it(program):
    facts, rules = program
    closure = chain(facts, rules)
    instances = [
        set(premises) | {("->", conclusion)} for premises, conclusions in ground(facts, rules) for conclusion in conclusions
    ]
    for goal in closure.derivations:
        before = set()
        proof = closure.proof(goal)
        assert proof[-1][0] == goal
        for atom, derivation in proof:
            if derivation.rule is None:
                assert facts[derivation.fact] == atom
            else:
                assert set(derivation.premises) <= before
                assert {*derivation.premises, ("->", atom)} in instances
            before.add(atom)
        assert len(before) == len(proof)


def test_relations_join_on_shared_variables_and_repeated_ones_must_agree():
    facts = [("R", ("A", "B"), True), ("R", ("B", "C"), True), ("R", ("C", "C"), True)]
    rules = [
        ([("R", ("$x", "$y"), True), ("R", ("$y", "$z"), True)], [("R", ("$x", "$z"), True)]),
        ([("R", ("$x", "$x"), True)], [("P", ("$x",), True)]),
    ]
    closure = chain(facts, rules)
    assert closure.holds("R", ("A", "C")) is True
    assert [atom[1] for atom in closure.derivations if atom[0] == "P"] == [("C",)]


def test_negation_is_said_in_an_open_world_and_failure_in_a_closed_one():
    facts = [("P", ("A",), True), ("P", ("B",), True), ("Q", ("A",), True)]
    rules = [([("P", ("$x",), True), ("Q", ("$x",), False)], [("S", ("$x",), True)])]
    assert chain(facts, rules).holds("S", ("B",)) is None
    closed = chain(facts, rules, world="closed")
    assert (closed.holds("S", ("B",)), closed.holds("S", ("A",))) == (True, False)
    assert closed.proof(("S", ("B",), True))[-1][1].absent == (("Q", ("B",), False),)


def test_a_variable_that_only_a_negated_premise_has_stands_for_every_constant():
    facts = [("P", ("A",), True), ("R", ("B", "C"), True)]
    closure = chain(facts, [([("P", ("$x",), False)], [("Q", ("$x",), True)])], world="closed")
    assert sorted(atom[1][0] for atom in closure.derivations if atom[0] == "Q") == ["B", "C"]


def test_a_contradiction_is_not_hidden():
    closure = chain([("P", ("A",), True), ("P", ("A",), False)], [])
    with pytest.raises(ValueError, match="true and to be false"):
        closure.holds("P", ("A",))


def test_negation_on_a_circle_is_refused_at_the_premise_that_closes_it():
    rules = [
        ([("P", ("$x",), True)], [("Q", ("$x",), True)]),
        ([("R", ("$x",), True), ("Q", ("$x",), False)], [("P", ("$x",), True)]),
    ]
    with pytest.raises(NotStratifiedError) as refused:
        chain([("R", ("A",), True)], rules, world="closed")
    assert (refused.value.rule, refused.value.premise) == (1, 1)
    assert chain([("R", ("A",), True)], rules).holds("P", ("A",)) is None  # in an open world it is no circle


@pytest.mark.parametrize("world", ["open", "closed"])
def test_a_product_without_end_stops_at_the_steps_allowed(world):
    facts = [("P", (f"c{i}",), True) for i in range(100)]
    value = world == "open"
    wide = ([("P", (f"${v}",), value) for v in "abcdefgh"], [("R", tuple(f"${v}" for v in "abcdefgh"), True)])
    rules = [([("P", ("$x",), True)], [("Q", ("$x",), True)]), wide]
    if not value:
        facts = [("Q", arguments, True) for _, arguments, _ in facts]
    with pytest.raises(CostError):
        chain(facts, rules, world, max_steps=10_000)


def test_the_first_derivation_is_the_shallowest():
    facts = [("P", ("A",), True)]
    rules = [
        ([("P", ("$x",), True)], [("Q", ("$x",), True)]),
        ([("Q", ("$x",), True)], [("R", ("$x",), True)]),
        ([("P", ("$x",), True)], [("R", ("$x",), True)]),
    ]
    assert chain(facts, rules).derivations["R", ("A",), True].rule == 2
