from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.rollouts.turns import TurnLimits, parts_of, plan_turns

LENGTHS = st.lists(st.integers(1, 600), min_size=1, max_size=40)


@given(
    lengths=LENGTHS,
    samples=st.integers(1, 9),
    steps=st.integers(1, 50),
    rows=st.integers(1, 64),
    cache_tokens=st.none() | st.integers(1, 20_000),
    padding=st.integers(0, 300),
)
def test_a_turn_keeps_to_its_limits_and_every_prompt_has_one(
    lengths: list[int], samples: int, steps: int, rows: int, cache_tokens: int | None, padding: int
) -> None:
    turns = plan_turns(lengths, samples, steps, TurnLimits(rows, cache_tokens, padding))
    assert sorted(index for turn in turns for index in turn) == list(range(len(lengths)))
    for turn in turns:
        longest, shortest = max(lengths[i] for i in turn), min(lengths[i] for i in turn)
        assert turn == sorted(turn)
        assert longest - shortest <= padding
        if len(turn) > 1:
            assert len(turn) * samples <= rows
            assert cache_tokens is None or len(turn) * samples * (longest + steps) <= cache_tokens


@given(lengths=LENGTHS)
def test_prompts_that_fit_together_are_one_turn(lengths: list[int]) -> None:
    assert len(plan_turns(lengths, 2, 10, TurnLimits(rows=80, padding=600))) == 1


@given(turn=st.lists(st.integers(), min_size=1, max_size=60), samples=st.integers(1, 9), threads=st.integers(1, 5))
def test_parts_are_the_turn_in_order_and_of_about_as_many_rows(turn: list[int], samples: int, threads: int) -> None:
    parts = parts_of(turn, samples, threads, least_rows=16)
    assert [index for part in parts for index in part] == turn
    assert len(parts) <= threads
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert len(parts) == 1 or min(map(len, parts)) * samples >= 16
    if len(turn) * samples >= threads * (16 + samples):
        assert len(parts) == threads
