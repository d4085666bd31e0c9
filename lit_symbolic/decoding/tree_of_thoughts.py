"""Tree of Thoughts (https://arxiv.org/abs/2305.10601), breadth first: propose steps, evaluate them, keep the best, go on from these."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lit_symbolic.rollouts.engine import Generation
from lit_symbolic.rollouts.spending import Spent

DISCARDED = -math.inf


@dataclass(frozen=True)
class TreeOfThoughts:
    """How an answer is searched for.

    Args:
        proposals: Steps sampled behind each beginning that was kept.
        keep: Beginnings of an answer that are kept after each round.
        judge: ``tool``: the verifier reads each beginning; one that it rules out is discarded, the others are equal, and an answer
            that it certifies ends the search. ``model``: the policy's own opinion ranks. ``both``: the tool discards, the model
            ranks the rest.
        opinion: The model's. ``logprob``: of the step, per token; it costs nothing. ``verdict``: it is asked whether the answer can
            still come right, *sure*, *likely* or *impossible*, as in the paper; for models that follow instructions.

    Raises:
        ValueError: If a number is not positive.
    """

    proposals: int = 5
    keep: int = 3
    judge: Literal["tool", "model", "both"] = "tool"
    opinion: Literal["logprob", "verdict"] = "logprob"

    def __post_init__(self) -> None:
        if self.proposals < 1 or self.keep < 1:
            raise ValueError(f"search.proposals and search.keep must be at least 1, got {self.proposals} and {self.keep}")


@dataclass(frozen=True, slots=True)
class Thought:
    """A beginning of an answer, or a whole one.

    Attributes:
        root: Row of the answer.
        ids: Tokens so far.
        logprobs: Of each token when it was sampled.
        step: Place in ``ids`` at which the last step begins.
        finished: Whether it ended by itself.
        over: Whether nothing can come behind it: it is finished, or has no room left.
        value: What its judge gave; ``-inf`` discards it.
        certified: Whether the tool certified it as a right answer.
    """

    root: int
    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    step: int = 0
    finished: bool = False
    over: bool = False
    value: float = 0.0
    certified: bool = False


Propose = Callable[[list[list[int]], int, int], Generation]
"""Samples steps: prompts with what stands behind them, how many for each, and the most tokens of a step."""

Judge = Callable[[Sequence[Thought]], list[Thought]]
"""Gives thoughts their ``value``, and ``certified``."""


def tree_of_thoughts(
    settings: TreeOfThoughts,
    prompts: Sequence[Sequence[int]],
    propose: Propose,
    judge: Judge,
    max_new_tokens: int,
    eos_ids: Sequence[int],
    spent: Spent,
) -> list[Thought]:
    """Search one answer behind each prompt, all of them side by side.

    A round samples steps behind every beginning that was kept; equal ones count once. A search ends with an answer that the tool
    certifies, or when all that is kept is over; its answer is then the best. One in which every proposal is discarded ends with
    the likeliest of these, which counts as it stands: cut off, unless it is a whole answer.

    Args:
        settings: How wide.
        prompts: Prompt ids, one for each answer.
        propose: Samples steps.
        judge: Evaluates them.
        max_new_tokens: Longest answer in tokens.
        eos_ids: Ids that end an answer.
        spent: Counts what is sampled.

    Returns:
        The answers, in order.
    """
    kept = [[Thought(root)] for root in range(len(prompts))]
    while open_thoughts := [thought for thoughts in kept for thought in thoughts if not thought.over]:
        room = max(max_new_tokens - len(thought.ids) for thought in open_thoughts)
        generation = propose([[*prompts[t.root], *t.ids] for t in open_thoughts], settings.proposals, room)
        fresh: dict[tuple[int, tuple[int, ...]], Thought] = {}
        for row, (ids, logprobs) in enumerate(_rows(generation)):
            grown = _grown(open_thoughts[row // settings.proposals], ids, logprobs, max_new_tokens, eos_ids)
            spent.add("samples", grown.root, 1)
            spent.add("tokens", grown.root, len(ids))  # sampled, though some may have no room in the answer
            fresh.setdefault((grown.root, grown.ids), grown)
        judged: list[list[Thought]] = [[] for _ in prompts]
        for thought in judge(list(fresh.values())):
            judged[thought.root].append(thought)
        for root in {thought.root for thought in open_thoughts}:
            kept[root] = _best(settings.keep, [t for t in kept[root] if t.over], judged[root], spent)
    return [thoughts[0] for thoughts in kept]


def _best(keep: int, over: list[Thought], fresh: list[Thought], spent: Spent) -> list[Thought]:
    alive = [thought for thought in [*over, *fresh] if thought.certified or thought.value > DISCARDED]
    if not alive:
        last = max(fresh, key=lambda thought: math.fsum(thought.logprobs) / len(thought.logprobs))
        spent.add("dead_ends", last.root, 1)
        return [replace(last, over=True)]
    ranked = sorted(alive, key=lambda thought: (thought.certified, thought.value), reverse=True)
    return ranked[: 1 if ranked[0].certified else keep]


def _grown(thought: Thought, ids: list[int], logprobs: list[float], max_new_tokens: int, eos_ids: Sequence[int]) -> Thought:
    room = max_new_tokens - len(thought.ids)
    ids, logprobs = ids[:room], logprobs[:room]
    finished = ids[-1] in eos_ids
    whole = (*thought.ids, *ids)
    return Thought(
        root=thought.root,
        ids=whole,
        logprobs=(*thought.logprobs, *logprobs),
        step=len(thought.ids),
        finished=finished,
        over=finished or len(whole) >= max_new_tokens,
    )


def _rows(generation: Generation) -> list[tuple[list[int], list[float]]]:
    lengths = generation.lengths.tolist()
    rows = zip(generation.ids.tolist(), generation.logprobs.tolist(), lengths, strict=True)
    return [(ids[:length], logprobs[:length]) for ids, logprobs, length in rows]
