"""The search itself, over trees that are written down, beside an exhaustive one."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.decoding import TreeOfThoughts
from lit_symbolic.decoding.judges import BothJudges, step_logprob
from lit_symbolic.decoding.tree_of_thoughts import DISCARDED, Judge, Thought, tree_of_thoughts
from lit_symbolic.rollouts.engine import Generation
from lit_symbolic.rollouts.spending import Spent

EOS, STOP, PAD = 1, 2, 0
Tree = dict[tuple[int, ...], list[tuple[list[int], float]]]
"""Beginning -> the steps that are proposed behind it, with the log-prob of each of their tokens."""


def proposer(tree: Tree, prompt: int = 1) -> Callable[[list[list[int]], int, int], Generation]:
    def propose(beginnings: list[list[int]], samples: int, room: int) -> Generation:
        rows = [
            tree[tuple(beginning[prompt:])][k % len(tree[tuple(beginning[prompt:])])]
            for beginning in beginnings
            for k in range(samples)
        ]
        longest = max(len(ids[:room]) for ids, _ in rows)
        cut = [(ids[:room], level) for ids, level in rows]
        return Generation(
            ids=torch.tensor([ids + [PAD] * (longest - len(ids)) for ids, _ in cut]),
            lengths=torch.tensor([len(ids) for ids, _ in cut]),
            logprobs=torch.tensor([[level] * len(ids) + [0.0] * (longest - len(ids)) for ids, level in cut]),
            ended=torch.tensor([ids[-1] in (EOS, STOP) for ids, _ in cut]),
        )

    return propose


def by(value: Callable[[tuple[int, ...]], float], right: Sequence[tuple[int, ...]] = ()) -> Judge:
    def judge(thoughts: Sequence[Thought]) -> list[Thought]:
        return [replace(thought, value=value(thought.ids), certified=thought.ids in right) for thought in thoughts]

    return judge


def searched(tree: Tree, judge: Judge, room: int = 20, rows: int = 1, **settings: int) -> tuple[list[Thought], Spent]:
    spent = Spent(rows)
    found = tree_of_thoughts(TreeOfThoughts(**settings), [[9]] * rows, proposer(tree), judge, room, [EOS], spent)  # type: ignore[arg-type]
    return found, spent


def random_tree(rng: random.Random, depth: int, branching: int) -> Tree:
    """Every leaf at ``depth``; each step is a token of its own and the end of the step."""
    tree: Tree = {}

    def grow(beginning: tuple[int, ...], left: int) -> None:
        if left:
            end = EOS if left == 1 else STOP
            tree[beginning] = [([3 + k, end], -rng.random()) for k in range(branching)]
            for ids, _ in tree[beginning]:
                grow((*beginning, *ids), left - 1)

    grow((), depth)
    return tree


def leaves(tree: Tree, beginning: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    if beginning not in tree:
        return [beginning]
    return [leaf for ids, _ in tree[beginning] for leaf in leaves(tree, (*beginning, *ids))]


@given(st.integers(0, 10**6))
def test_a_search_that_keeps_everything_finds_the_best_leaf(seed: int) -> None:
    rng = random.Random(seed)
    depth, branching = rng.randint(1, 3), rng.randint(1, 3)
    tree = random_tree(rng, depth, branching)
    worth = {leaf: rng.random() for leaf in leaves(tree)}
    [answer], spent = searched(tree, by(lambda ids: worth.get(ids, 0.0)), proposals=branching, keep=branching**depth)
    assert answer.ids == max(worth, key=lambda leaf: worth[leaf])
    assert answer.finished
    steps = sum(branching**level for level in range(1, depth + 1))
    assert spent.tensors()["samples"].tolist() == [steps]
    assert spent.tensors()["tokens"].tolist() == [2 * steps]


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_a_round_keeps_the_best_and_goes_on_from_these_alone(seed: int, keep: int) -> None:
    rng = random.Random(seed)
    tree = random_tree(rng, 3, 3)
    worth = {ids: rng.random() for beginning in tree for ids in [(*beginning, *step) for step, _ in tree[beginning]]}
    kept: list[tuple[int, ...]] = [()]
    for _ in range(3):  # beam search in four lines
        grown = [(*beginning, *step) for beginning in kept for step, _ in tree[beginning]]
        kept = sorted(grown, key=lambda ids: -worth[ids])[:keep]
    [answer], _ = searched(tree, by(lambda ids: worth[ids]), proposals=3, keep=keep)
    assert answer.ids == kept[0]


def test_a_step_is_worth_its_log_prob_per_token() -> None:
    tree: Tree = {(): [([3, 3, 3, EOS], -1.0), ([4, EOS], -1.5), ([5, 5, EOS], -0.9)]}
    [answer], _ = searched(tree, step_logprob, proposals=3, keep=1)
    assert answer.ids == (5, 5, EOS)
    assert answer.value == pytest.approx(-0.9)


def test_what_the_first_judge_discards_the_second_is_not_asked_about() -> None:
    asked: list[tuple[int, ...]] = []

    def second(thoughts: Sequence[Thought]) -> list[Thought]:
        asked.extend(thought.ids for thought in thoughts)
        return [replace(thought, value=float(thought.ids[0])) for thought in thoughts]

    tree: Tree = {(): [([token, EOS], -1.0) for token in (3, 4, 5, 6)]}
    both = BothJudges(by(lambda ids: DISCARDED if ids[0] == 6 else 0.0), second)
    [answer], _ = searched(tree, both, proposals=4, keep=2)
    assert answer.ids == (5, EOS)
    assert asked == [(3, EOS), (4, EOS), (5, EOS)]


def test_a_certified_answer_ends_its_search_and_no_other() -> None:
    tree: Tree = {
        (): [([3, EOS], -1.0), ([4, STOP], -0.1)],
        (4, STOP): [([3, EOS], -1.0), ([5, STOP], -1.0)],
        (4, STOP, 5, STOP): [([6, EOS], -1.0)],
    }
    judge = by(lambda ids: float(len(ids)), right=[(3, EOS)])
    found, spent = searched(tree, judge, proposals=2, keep=2, rows=2)
    assert [thought.ids for thought in found] == [(3, EOS)] * 2
    assert spent.tensors()["samples"].tolist() == [2.0, 2.0]
    [answer], _ = searched(tree, by(lambda ids: float(len(ids))), proposals=2, keep=2)
    assert answer.ids == (4, STOP, 5, STOP, 6, EOS)


def test_a_finished_answer_stays_in_the_race() -> None:
    tree: Tree = {(): [([3, EOS], -1.0), ([4, STOP], -1.0)], (4, STOP): [([5, EOS], -1.0)]}
    for best, worth in (((3, EOS), 2.0), ((4, STOP, 5, EOS), 0.5)):
        values = {(3, EOS): worth, (4, STOP): 1.0, (4, STOP, 5, EOS): 1.0}
        [answer], _ = searched(tree, by(lambda ids, values=values: values[ids]), proposals=2, keep=2)  # type: ignore[misc]
        assert answer.ids == best


def test_equal_proposals_are_judged_once_and_paid_for_each_time() -> None:
    judged: list[int] = []

    def judge(thoughts: Sequence[Thought]) -> list[Thought]:
        judged.append(len(thoughts))
        return list(thoughts)

    _, spent = searched({(): [([3, EOS], -1.0)]}, judge, proposals=6, keep=3)
    assert judged == [1]
    assert spent.tensors()["samples"].tolist() == [6.0]


def test_where_all_is_discarded_the_likeliest_stands_as_it_is_and_is_counted() -> None:
    tree: Tree = {(): [([3, STOP], -2.0), ([4, STOP], -1.0)]}
    [answer], spent = searched(tree, by(lambda ids: DISCARDED), proposals=2, keep=2)
    assert (answer.ids, answer.finished, answer.over) == ((4, STOP), False, True)
    assert spent.tensors()["dead_ends"].tolist() == [1.0]


def test_no_answer_is_longer_than_it_may_be() -> None:
    tree: Tree = {(): [([3, 3, STOP], -1.0)], (3, 3, STOP): [([4, 4, 4, 4, EOS], -1.0)]}
    [answer], spent = searched(tree, by(lambda ids: 0.0), room=5, proposals=1, keep=1)
    assert (answer.ids, answer.finished, answer.over) == ((3, 3, STOP, 4, 4), False, True)
    assert len(answer.logprobs) == 5
    assert spent.tensors()["tokens"].tolist() == [5.0]


def test_tokens_that_have_no_room_in_an_answer_were_sampled_and_are_paid_for() -> None:
    tree: Tree = {
        (): [([3, 3, 3, STOP], -1.0), ([4, STOP], -1.0)],
        (3, 3, 3, STOP): [([5] * 9, -1.0)],
        (4, STOP): [([6] * 9, -1.0)],
    }
    [answer], spent = searched(tree, by(lambda ids: float(len(ids))), room=6, proposals=2, keep=2)
    assert len(answer.ids) == 6
    # Two steps of 4 and 2 tokens; behind each of them two more, of the 4 tokens that the shorter one has room for.
    assert spent.tensors()["tokens"].tolist() == [4 + 2 + 2 * 4 + 2 * 4]


def test_searches_side_by_side_do_not_meet() -> None:
    tree: Tree = {(): [([3, EOS], -1.0), ([4, EOS], -1.0)]}

    def judge(thoughts: Sequence[Thought]) -> list[Thought]:
        return [replace(t, value=1.0 if t.ids[0] == 3 + t.root else DISCARDED) for t in thoughts]

    found, spent = searched(tree, judge, proposals=2, keep=1, rows=3)
    assert [thought.ids for thought in found[:2]] == [(3, EOS), (4, EOS)]
    assert spent.tensors()["dead_ends"].tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("settings", [{"proposals": 0}, {"keep": 0}])
def test_numbers_below_one_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        TreeOfThoughts(**settings)  # type: ignore[arg-type]


def test_discarded_is_below_every_value() -> None:
    assert math.isinf(DISCARDED)
    assert DISCARDED < 0
