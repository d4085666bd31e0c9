import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lit_symbolic.objectives.logprobs import token_logprobs

VOCABULARY, WIDTH = 11, 6


def batch(seed: int, rows: int = 3, length: int = 5) -> tuple[Tensor, nn.Linear, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, length, WIDTH, generator=generator)
    head = nn.Linear(WIDTH, VOCABULARY)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    ids = torch.randint(VOCABULARY, (rows, length), generator=generator)
    return hidden, head, ids, torch.rand(rows, length, generator=generator) < 0.6


def reference(hidden: Tensor, head: nn.Linear, ids: Tensor, mask: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """All logits in float64, then log_softmax."""
    assert head.bias is not None
    logits = hidden.double() @ head.weight.double().T + head.bias.double()
    logprobs = (logits / temperature).log_softmax(-1)
    entropy = torch.distributions.Categorical(logits=logprobs).entropy()
    return logprobs.gather(2, ids[..., None]).squeeze(2) * mask, entropy * mask


@given(st.integers(0, 10_000), st.floats(0.2, 3.0), st.integers(1, 20))
@settings(deadline=None, max_examples=40)
def test_logprobs_entropies_and_gradients_are_those_of_a_float64_log_softmax(seed: int, temperature: float, chunk: int) -> None:
    hidden, head, ids, mask = batch(seed)
    hidden.requires_grad_()
    weights = torch.randn(2, *ids.shape, generator=torch.Generator().manual_seed(seed))
    results = []
    for logprobs, entropy in (
        token_logprobs(hidden, head, ids, mask, temperature, chunk),
        reference(hidden, head, ids, mask, temperature),
    ):
        gradients = torch.autograd.grad((weights[0] * logprobs + weights[1] * entropy).sum(), [hidden, *head.parameters()])
        results.append((logprobs.double(), entropy.double(), *gradients))
    for got, wanted in zip(*results, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk", [1, 2, 4, 1000])
def test_the_size_of_the_chunks_changes_nothing(chunk: int) -> None:
    hidden, head, ids, mask = batch(0, rows=4)
    hidden.requires_grad_()
    outcomes = []
    for size in (chunk, int(mask.sum())):
        logprobs, entropy = token_logprobs(hidden, head, ids, mask, chunk_tokens=size)
        outcomes.append((logprobs, entropy, *torch.autograd.grad((logprobs + entropy).sum(), [hidden, head.weight])))
    for got, wanted in zip(*outcomes, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-6, atol=1e-6)


def test_where_nothing_counts_there_are_zeros_and_a_backward_pass_still_works() -> None:
    hidden, head, ids, mask = batch(0)
    hidden.requires_grad_()
    logprobs, entropy = token_logprobs(hidden, head, ids, torch.zeros_like(mask))
    assert not logprobs.any()
    assert not entropy.any()
    (logprobs.sum() + entropy.sum()).backward()
    assert hidden.grad is not None
    assert not hidden.grad.any()


def test_what_stands_at_masked_positions_does_not_matter() -> None:
    hidden, head, ids, mask = batch(3)
    spoiled, other_ids = hidden.clone(), ids.clone()
    spoiled[~mask] = float("nan")
    other_ids[~mask] = VOCABULARY + 7
    torch.testing.assert_close(token_logprobs(spoiled, head, other_ids, mask), token_logprobs(hidden, head, ids, mask))


def test_no_call_of_the_head_sees_more_positions_than_a_chunk_nor_any_that_is_masked() -> None:
    hidden, head, ids, mask = batch(4, rows=5)
    sizes: list[int] = []
    head.register_forward_hook(lambda module, args, output: sizes.append(output.numel() // VOCABULARY))
    logprobs, _ = token_logprobs(hidden.requires_grad_(), head, ids, mask, chunk_tokens=3)
    assert sum(sizes) == int(mask.sum())
    logprobs.sum().backward()
    assert max(sizes) <= 3
    assert sum(sizes) == 2 * int(mask.sum()), "logits are computed anew in the backward pass, not kept"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_results_are_float32_whatever_the_model_computes_in(dtype: torch.dtype) -> None:
    hidden, head, ids, mask = batch(5)
    logprobs, entropy = token_logprobs(hidden.to(dtype), head.to(dtype), ids, mask)
    assert logprobs.dtype == entropy.dtype == torch.float32


@pytest.mark.parametrize(("temperature", "chunk"), [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_a_temperature_or_chunk_that_is_not_positive_is_refused(temperature: float, chunk: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        token_logprobs(*batch(0), temperature=temperature, chunk_tokens=chunk)
