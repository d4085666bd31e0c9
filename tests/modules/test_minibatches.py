from itertools import chain, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from lit_symbolic.modules.minibatches import (
    Lengths,
    Minibatch,
    budgeted_minibatches,
    by_length,
    cut,
    cut_by_budget,
    minibatches_on_every_rank,
    permuted_minibatches,
    step_weights,
)
from lit_symbolic.policies.forward import response_hidden

ROWS, PROMPT, LENGTH = 11, 4, 6


def model() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2, n_positions=16, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    return GPT2LMHeadModel(config).double()


def iteration(seed: int = 0) -> dict[str, Tensor]:
    """Left-padded prompts and right-padded answers of all lengths; the second mask has holes and a row that counts nothing."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(1, PROMPT + 1, (ROWS, 1), generator=generator)
    answers = torch.randint(1, LENGTH + 1, (ROWS, 1), generator=generator)
    mask = torch.arange(LENGTH) < answers
    loss_mask = mask & (torch.rand(ROWS, LENGTH, generator=generator) < 0.7)
    loss_mask[3] = False
    return {
        "prompt_ids": torch.randint(20, (ROWS, PROMPT), generator=generator),
        "prompt_mask": torch.arange(PROMPT).flip(0) < prompts,
        "ids": torch.randint(20, (ROWS, LENGTH), generator=generator),
        "mask": mask,
        "loss_mask": loss_mask,
    }


def lengths_of(batch: dict[str, Tensor]) -> Lengths:
    return Lengths(batch["prompt_mask"].sum(1).tolist(), batch["mask"].sum(1).tolist())


def totals(policy: GPT2LMHeadModel, batch: Minibatch) -> Tensor:
    """Two sums over tokens, each over its own mask, in float64."""
    prompts = batch["prompt_ids"], batch.get("prompt_mask")
    hidden = response_hidden(policy, *prompts, batch["ids"], batch["mask"], batch.get("prompt_of"))
    logprobs = policy.lm_head(hidden).log_softmax(-1).gather(2, batch["ids"][..., None]).squeeze(2)
    return torch.stack([(-logprobs * batch["loss_mask"]).sum(), (logprobs.square() * batch["mask"]).sum()])


def gradient(policy: GPT2LMHeadModel, loss: Tensor) -> Tensor:
    gradients = torch.autograd.grad(loss, list(policy.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in gradients if g is not None])


def counts(batch: Minibatch) -> Tensor:
    return torch.stack([batch["loss_mask"].sum(), batch["mask"].sum()])


@pytest.mark.parametrize(("size", "tokens"), [(s, None) for s in (1, 3, 8, 64)] + [(0, t) for t in (15, 30)])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_padding_accumulation_and_splitting_leave_the_gradient_of_each_step_as_it_is(
    size: int, tokens: int | None, accumulate: int
) -> None:
    policy, batch = model(), iteration()
    lengths, generator = lengths_of(batch), torch.Generator().manual_seed(1)
    rows = (
        permuted_minibatches(ROWS, size, 1, generator) if tokens is None else budgeted_minibatches(lengths, tokens, 1, generator)
    )
    minibatches = [cut(batch, indices, lengths) for indices in rows]
    weights = step_weights([counts(m) for m in minibatches], accumulate, lambda total: total, 1)
    for first in range(0, len(rows), accumulate):
        # As Lightning does: each loss divided by N, also where the last step holds fewer, and the gradients added.
        stepped = sum(
            gradient(policy, (weight.double() * totals(policy, minibatch)).sum() / accumulate)
            for minibatch, weight in zip(
                minibatches[first : first + accumulate], weights[first : first + accumulate], strict=True
            )
        )
        whole = {name: value[list(chain.from_iterable(rows[first : first + accumulate]))] for name, value in batch.items()}
        wanted = gradient(policy, (totals(policy, whole) / counts(whole).clamp(min=1)).sum())
        assert isinstance(stepped, Tensor)
        torch.testing.assert_close(stepped, wanted, rtol=1e-6, atol=1e-7)


def test_one_optimizer_step_over_everything_is_the_same_however_it_is_cut() -> None:
    policy, batch = model(), iteration()
    lengths, generator = lengths_of(batch), torch.Generator().manual_seed(2)
    wanted = gradient(policy, (totals(policy, batch) / counts(batch)).sum())
    by_rows = [permuted_minibatches(ROWS, size, 1, generator) for size in (1, 2, 4, 5, 8)]
    by_tokens = [budgeted_minibatches(lengths, tokens, 1, generator) for tokens in (1, 12, 20, 40)]
    for rows in [*by_rows, *by_tokens]:
        minibatches = [cut(batch, indices, lengths) for indices in rows]
        weights = step_weights([counts(m) for m in minibatches], len(rows), lambda total: total, 1)
        losses = [(w.double() * totals(policy, m)).sum() / len(rows) for w, m in zip(weights, minibatches, strict=True)]
        torch.testing.assert_close(gradient(policy, torch.stack(losses).sum()), wanted, rtol=1e-6, atol=1e-7)


@given(
    st.tuples(st.integers(2, 3), st.integers(1, 9)).flatmap(
        lambda size: st.lists(
            st.lists(st.integers(0, 50), min_size=size[1], max_size=size[1]), min_size=size[0], max_size=size[0]
        )
    ),
    st.integers(1, 4),
)
@settings(deadline=None, max_examples=40)
def test_averaged_over_ranks_the_weights_give_the_mean_over_all_of_a_steps_tokens(
    ranks: list[list[int]], accumulate: int
) -> None:
    counted = [[torch.tensor([float(n)]) for n in rank] for rank in ranks]
    steps = [
        torch.stack([sum(rank[i : i + accumulate], torch.zeros(1)) for rank in counted]).sum(0)
        for i in range(0, len(ranks[0]), accumulate)
    ]
    for rank in counted:
        weights = step_weights(rank, accumulate, lambda totals: torch.stack(steps), len(ranks))
        for index, weight in enumerate(weights):
            total = steps[index // accumulate]
            # Divided by N by Lightning and by the ranks by DDP, each token has the same share.
            torch.testing.assert_close(weight / accumulate / len(ranks), torch.where(total > 0, 1 / total, torch.zeros(1)))


def test_a_step_that_counts_nothing_weighs_nothing_and_each_kind_of_mean_has_its_own_factor() -> None:
    weights = step_weights([torch.tensor([0, 2]), torch.tensor([0, 6]), torch.tensor([4, 0])], 2, lambda total: total, 1)
    assert [w.tolist() for w in weights] == [[0.0, 0.25], [0.0, 0.25], [0.5, 0.0]]


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 4), st.integers(0, 99))
@settings(deadline=None, max_examples=40)
def test_every_row_comes_once_per_epoch_and_no_minibatch_spans_two_epochs(rows: int, size: int, epochs: int, seed: int) -> None:
    parts = permuted_minibatches(rows, size, epochs, torch.Generator().manual_seed(seed))
    assert all(1 <= len(part) <= size for part in parts)
    per_epoch = len(parts) // epochs
    assert per_epoch == -(-rows // size)
    for epoch in range(epochs):
        order = list(chain.from_iterable(parts[epoch * per_epoch : (epoch + 1) * per_epoch]))
        assert sorted(order) == list(range(rows))


sizes = st.lists(st.tuples(st.integers(1, 12), st.integers(1, 40)), min_size=1, max_size=14).map(
    lambda drawn: Lengths([prompt for prompt, _ in drawn], [answer for _, answer in drawn])
)


@given(sizes, st.integers(1, 400), st.integers(1, 3), st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_cut_by_tokens_every_row_comes_once_per_epoch_within_the_budget_or_alone(
    lengths: Lengths, tokens: int, epochs: int, seed: int
) -> None:
    parts = budgeted_minibatches(lengths, tokens, epochs, torch.Generator().manual_seed(seed))
    for part in parts:
        assert lengths.padded(part) <= tokens or len(part) == 1
    seen: list[int] = []
    for part in parts:
        seen += part
        if len(seen) == len(lengths):  # an epoch ends with a minibatch
            assert sorted(seen) == list(range(len(lengths)))
            seen = []
    assert seen == []
    # As few as rows in order of length allow: what a dynamic program over all cuts finds.
    order = by_length(lengths, range(len(lengths)))
    fewest = [0] * (len(order) + 1)
    for end in range(1, len(order) + 1):
        firsts = [first for first in range(end) if end - first == 1 or lengths.padded(order[first:end]) <= tokens]
        fewest[end] = 1 + min(fewest[first] for first in firsts)
    if len(set(lengths.prompts)) == 1:  # else the order of equally long rows decides as well
        assert len(parts) == epochs * fewest[-1]


@given(sizes, st.integers(1, 400))
@settings(deadline=None, max_examples=40)
def test_shorter_rows_share_minibatches_with_rows_of_their_length(lengths: Lengths, tokens: int) -> None:
    parts = budgeted_minibatches(lengths, tokens, 1, torch.Generator().manual_seed(0))
    spans = sorted((min(total), max(total)) for total in ([lengths.prompts[r] + lengths.answers[r] for r in p] for p in parts))
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


def test_minibatches_by_tokens_are_even_and_come_in_random_order() -> None:
    lengths = Lengths([8] * 240, [1 + row % 24 for row in range(240)])
    parts = budgeted_minibatches(lengths, 1000, 1, torch.Generator().manual_seed(0))
    tokens = [lengths.padded(part) for part in parts]
    assert len(parts) == len(cut_by_budget(lengths, by_length(lengths, range(240)), 1000))
    assert max(tokens) <= 1000
    assert min(tokens) > 0.75 * max(tokens), tokens
    longest = [max(lengths.answers[row] for row in part) for part in parts]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))
    again, other = (budgeted_minibatches(lengths, 1000, 1, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert parts == again
    assert sorted(map(sorted, parts)) != sorted(map(sorted, other)), "rows of one length are told apart by lot"


def test_ranks_with_fewer_minibatches_get_more_of_one_row() -> None:
    assert minibatches_on_every_rank([[1, 2], [3]], lambda count: count) == ([[1, 2], [3]], 0)
    assert minibatches_on_every_rank([[1, 2], [3]], lambda count: 4) == ([[1, 2], [3], [1], [1]], 2)


def test_the_generator_alone_decides_the_order_and_epochs_differ() -> None:
    first, again, other = (permuted_minibatches(50, 50, 2, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
    assert first[0] != first[1]


@given(st.integers(0, 1000), st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=6, unique=True))
@settings(deadline=None, max_examples=40)
def test_cutting_keeps_everything_that_counts_in_its_order_and_nothing_longer_than_the_longest(
    seed: int, rows: list[int]
) -> None:
    batch = iteration(seed)
    part = cut(batch, rows, lengths_of(batch))
    prompt_mask = part.get("prompt_mask", torch.ones_like(part["prompt_ids"], dtype=torch.bool))
    for new, old in enumerate(rows):
        for name in ("mask", "loss_mask"):
            assert torch.equal(part["ids"][new][part[name][new]], batch["ids"][old][batch[name][old]])
        assert torch.equal(part["prompt_ids"][new][prompt_mask[new]], batch["prompt_ids"][old][batch["prompt_mask"][old]])
    assert part["mask"].any(dim=0).all()
    assert prompt_mask.any(dim=0).all()
    assert ("prompt_mask" in part) == (not prompt_mask.all()), "a mask is given only where something is padded"
    assert part["ids"].shape == part["mask"].shape == part["loss_mask"].shape


@given(st.integers(0, 1000), st.lists(st.integers(0, 3 * ROWS - 1), min_size=1, max_size=12, unique=True))
@settings(deadline=None, max_examples=40)
def test_answers_that_share_a_prompt_find_it_again_and_it_stands_there_once(seed: int, rows: list[int]) -> None:
    single = iteration(seed)
    batch = {name: value if "prompt" in name else value.repeat_interleave(3, dim=0) for name, value in single.items()}
    lengths = Lengths([n for n in lengths_of(single).prompts for _ in range(3)], lengths_of({**batch}).answers)
    shared = cut(batch, rows, lengths, samples=3)
    alone = cut(
        {name: value.repeat_interleave(3, dim=0) if "prompt" in name else value for name, value in batch.items()}, rows, lengths
    )
    assert torch.equal(shared["prompt_ids"][shared["prompt_of"]], alone["prompt_ids"])
    assert ("prompt_mask" in shared) == ("prompt_mask" in alone)
    if "prompt_mask" in shared:
        assert torch.equal(shared["prompt_mask"][shared["prompt_of"]], alone["prompt_mask"])
    assert len(shared["prompt_ids"]) == len({row // 3 for row in rows})


def test_cutting_leaves_the_iteration_itself_as_it_was_and_rows_without_answers_keep_one_column() -> None:
    batch = iteration()
    before = {name: value.clone() for name, value in batch.items()}
    cut(batch, [0, 1], lengths_of(batch))
    assert all(torch.equal(batch[name], before[name]) for name in batch)
    nothing = {**batch, "mask": torch.zeros_like(batch["mask"])}
    assert cut(nothing, [0, 1], lengths_of(nothing))["mask"].shape == (2, 1)
