import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from lit_symbolic.modules.minibatches import mask_or_none, permuted_minibatches, step_weights, trimmed
from lit_symbolic.policies.forward import response_hidden

ROWS, PROMPT, LENGTH = 11, 4, 6
PER_TOKEN = ("ids", "mask", "loss_mask")


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


def totals(policy: GPT2LMHeadModel, batch: dict[str, Tensor]) -> Tensor:
    """Two sums over tokens, each over its own mask, in float64."""
    hidden = response_hidden(policy, batch["prompt_ids"], mask_or_none(batch["prompt_mask"]), batch["ids"], batch["mask"])
    logprobs = policy.lm_head(hidden).log_softmax(-1).gather(2, batch["ids"][..., None]).squeeze(2)
    return torch.stack([(-logprobs * batch["loss_mask"]).sum(), (logprobs.square() * batch["mask"]).sum()])


def gradient(policy: GPT2LMHeadModel, loss: Tensor) -> Tensor:
    gradients = torch.autograd.grad(loss, list(policy.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in gradients if g is not None])


def counts(batch: dict[str, Tensor]) -> Tensor:
    return torch.stack([batch["loss_mask"].sum(), batch["mask"].sum()])


@pytest.mark.parametrize("size", [1, 3, 4, 8, 11, 64])
@pytest.mark.parametrize("accumulate", [1, 2, 3])
def test_padding_accumulation_and_splitting_leave_the_gradient_of_each_step_as_it_is(size: int, accumulate: int) -> None:
    policy, batch = model(), iteration()
    rows = permuted_minibatches(ROWS, size, 1, torch.Generator().manual_seed(1))
    minibatches = [trimmed(batch, indices, PER_TOKEN) for indices in rows]
    weights = step_weights([counts(m) for m in minibatches], accumulate, lambda total: total, 1)
    for first in range(0, len(rows), accumulate):
        # As Lightning does: each loss divided by N, also where the last step holds fewer, and the gradients added.
        stepped = sum(
            gradient(policy, (weight.double() * totals(policy, minibatch)).sum() / accumulate)
            for minibatch, weight in zip(
                minibatches[first : first + accumulate], weights[first : first + accumulate], strict=True
            )
        )
        whole = {name: value[torch.cat(rows[first : first + accumulate])] for name, value in batch.items()}
        wanted = gradient(policy, (totals(policy, whole) / counts(whole).clamp(min=1)).sum())
        assert isinstance(stepped, Tensor)
        torch.testing.assert_close(stepped, wanted, rtol=1e-6, atol=1e-7)


def test_one_optimizer_step_over_everything_is_the_same_however_it_is_cut() -> None:
    policy, batch = model(), iteration()
    wanted = gradient(policy, (totals(policy, batch) / counts(batch)).sum())
    for size in (1, 2, 4, 5, 8):
        rows = permuted_minibatches(ROWS, size, 1, torch.Generator().manual_seed(size))
        minibatches = [trimmed(batch, indices, PER_TOKEN) for indices in rows]
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
@settings(deadline=None)
def test_averaged_over_ranks_the_weights_give_the_mean_over_all_of_a_steps_tokens(
    ranks: list[list[int]], accumulate: int
) -> None:
    counted = [[torch.tensor([float(n)]) for n in rank] for rank in ranks]
    steps = [
        torch.stack([sum(rank[i : i + accumulate], torch.zeros(1)) for rank in counted]).sum(0)
        for i in range(0, len(ranks[0]), accumulate)
    ]
    for rank in counted:
        reductions = iter(steps)
        weights = step_weights(rank, accumulate, lambda total, r=reductions: next(r), len(ranks))  # type: ignore[misc]
        for index, weight in enumerate(weights):
            total = steps[index // accumulate]
            # Divided by N by Lightning and by the ranks by DDP, each token has the same share.
            torch.testing.assert_close(weight / accumulate / len(ranks), torch.where(total > 0, 1 / total, torch.zeros(1)))


def test_a_step_that_counts_nothing_weighs_nothing_and_each_kind_of_mean_has_its_own_factor() -> None:
    weights = step_weights([torch.tensor([0, 2]), torch.tensor([0, 6]), torch.tensor([4, 0])], 2, lambda total: total, 1)
    assert [w.tolist() for w in weights] == [[0.0, 0.25], [0.0, 0.25], [0.5, 0.0]]


@given(st.integers(1, 40), st.integers(1, 50), st.integers(1, 4), st.integers(0, 99))
@settings(deadline=None)
def test_every_row_comes_once_per_epoch_and_no_minibatch_spans_two_epochs(rows: int, size: int, epochs: int, seed: int) -> None:
    parts = permuted_minibatches(rows, size, epochs, torch.Generator().manual_seed(seed))
    assert all(1 <= len(part) <= size for part in parts)
    per_epoch = len(parts) // epochs
    assert per_epoch == -(-rows // size)
    for epoch in range(epochs):
        order = torch.cat(parts[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert sorted(order.tolist()) == list(range(rows))


def test_the_generator_alone_decides_the_order_and_epochs_differ() -> None:
    first, again, other = (permuted_minibatches(50, 50, 2, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(torch.cat(first), torch.cat(again))
    assert not torch.equal(torch.cat(first), torch.cat(other))
    assert not torch.equal(first[0], first[1])


@given(st.integers(0, 1000), st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=6))
@settings(deadline=None)
def test_trimming_keeps_everything_that_counts_in_its_order_and_nothing_longer_than_the_longest(
    seed: int, rows: list[int]
) -> None:
    batch = iteration(seed)
    cut = trimmed(batch, torch.tensor(rows), PER_TOKEN)
    for new, old in enumerate(rows):
        for name in ("mask", "loss_mask"):
            assert torch.equal(cut["ids"][new][cut[name][new]], batch["ids"][old][batch[name][old]])
        assert torch.equal(cut["prompt_ids"][new][cut["prompt_mask"][new]], batch["prompt_ids"][old][batch["prompt_mask"][old]])
    assert cut["mask"].any(dim=0).all()
    assert cut["prompt_mask"].any(dim=0).all()
    assert cut["ids"].shape == cut["mask"].shape == cut["loss_mask"].shape
    assert cut["prompt_ids"].shape == cut["prompt_mask"].shape


def test_trimming_leaves_the_iteration_itself_as_it_was_and_rows_without_answers_keep_one_column() -> None:
    batch = iteration()
    before = {name: value.clone() for name, value in batch.items()}
    trimmed(batch, torch.tensor([0, 1]), PER_TOKEN)
    assert all(torch.equal(batch[name], before[name]) for name in batch)
    empty = trimmed({"mask": torch.zeros(2, 5, dtype=torch.bool)}, torch.tensor([0, 1]), ["mask"])
    assert empty["mask"].shape == (2, 1)


def test_a_mask_is_given_only_where_something_is_padded() -> None:
    full, padded = torch.ones(2, 3, dtype=torch.bool), torch.tensor([[False, True], [True, True]])
    assert mask_or_none(full) is None
    assert mask_or_none(padded) is padded
