import random
from fractions import Fraction
from itertools import combinations, permutations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brute_force import OPERATORS, brute_final_values
from lit_symbolic.verifiers.calculating import game24_solver as solver
from lit_symbolic.verifiers.calculating.arithmetic import apply

SOLVABLE = [cards for cards in solver.all_card_sets() if solver.solvable(cards, 24)]
puzzles = st.sampled_from(SOLVABLE)


def test_1362_of_the_1820_card_sets_are_solvable():
    assert (len(solver.all_card_sets()), len(SOLVABLE)) == (1820, 1362)


def test_the_solver_agrees_with_all_permutations_operators_and_bracketings():
    def expressions(a, b, c, d, f, g, h):
        yield f(g(h(a, b), c), d)
        yield f(g(a, h(b, c)), d)
        yield f(g(a, b), h(c, d))
        yield f(a, g(h(b, c), d))
        yield f(a, g(b, h(c, d)))

    def operation(operate):
        return lambda a, b: None if a is None or b is None else operate(a, b)

    operations = [operation(operate) for operate in OPERATORS.values()]
    for cards in random.Random(0).sample(solver.all_card_sets(), 40):
        found = any(
            24 in expressions(*order, *chosen)
            for order in set(permutations(map(Fraction, cards)))
            for chosen in product(operations, repeat=3)
        )
        assert solver.solvable(cards, 24) == found, cards


@pytest.mark.parametrize("target", [0, 24, 1, -3, Fraction(1, 2), Fraction(-5, 3)])
def test_the_solver_agrees_with_plain_recursion_for_any_target(target):
    hands = [*combinations([0, 0, 1, 2, 3, 8, Fraction(1, 2), -4], 3), *combinations([0, 1, 6, 7, Fraction(8, 3)], 2)]
    assert {solver.solvable(hand, target) for hand in hands} == {True, False}
    for hand in hands:
        values = brute_final_values(hand)
        assert solver.solvable(hand, target) == (target in values), (hand, target)
        assert solver.final_values(hand) == values


def test_four_and_five_cards_agree_with_plain_recursion():
    for cards in ((1, 1, 2, 7), (5, 5, 5, 1), (13, 13, 13, 13)):
        values = brute_final_values(cards)
        assert solver.final_values(cards) == values
        assert all(solver.solvable(cards, target) == (target in values) for target in range(-5, 60))
    assert not solver.solvable((1, 1, 1, 1, 1), 24)
    assert solver.solvable((1, 1, 1, 1, 24), 24)
    assert solver.solvable((1, 2, 3, 4, 5, 6), 24)


@given(puzzles)
@settings(max_examples=30, deadline=None)
def test_winning_steps_are_the_legal_steps_that_keep_the_target_reachable(cards):
    winning = set(solver.winning_steps(cards, 24))
    assert winning
    for a, b in set(permutations(cards, 2)):
        for operator, operate in OPERATORS.items():
            result = apply(operator, a, b)
            assert result == operate(Fraction(a), Fraction(b))
            step = solver.Step(a, operator, b, result)
            assert (step in winning) == (24 in brute_final_values(solver.play(cards, step)))


def test_solve_gives_a_solution_or_says_that_there_is_none():
    for cards in SOLVABLE[::20]:
        numbers = cards
        for step in solver.solve(cards, 24):
            assert OPERATORS[step.operator](Fraction(step.a), Fraction(step.b)) == step.result
            numbers = solver.play(numbers, step)
        assert numbers == (24,)
    with pytest.raises(ValueError, match="24 cannot be made of 1 1 1 1"):
        solver.solve((1, 1, 1, 1), 24)


def test_states_exhausted_counts_every_way_to_play_on():
    def count(numbers):
        return 1 if numbers == 1 else sum(6 * count(numbers - 1) for _ in combinations(range(numbers), 2))

    assert [solver.states_exhausted(range(n)) for n in (1, 2, 3, 4)] == [count(n) for n in (1, 2, 3, 4)]
