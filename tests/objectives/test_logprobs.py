from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lit_symbolic.objectives.linear_logprobs import Tile, linear_logprobs, tile_for
from lit_symbolic.objectives.logprobs import Entropy, is_plain_linear, token_logprobs

VOCABULARY, WIDTH = 11, 6
EVERYTHING = 2**30


def batch(
    seed: int, rows: int = 3, length: int = 5, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, nn.Linear, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, length, WIDTH, generator=generator).to(dtype)
    head = nn.Linear(WIDTH, VOCABULARY, dtype=dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    ids = torch.randint(VOCABULARY, (rows, length), generator=generator)
    return hidden, head, ids, torch.rand(rows, length, generator=generator) < 0.6


def reference(hidden: Tensor, head: nn.Module, ids: Tensor, mask: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """All logits in float64, then log_softmax."""
    weight, bias = head.weight.double(), 0.0 if head.bias is None else head.bias.double()
    logprobs = ((hidden.double() @ weight.T + bias) / temperature).log_softmax(-1)
    entropy = torch.distributions.Categorical(logits=logprobs).entropy()
    return logprobs.gather(2, ids[..., None]).squeeze(2) * mask, entropy * mask


def outcome(results: tuple[Tensor, Tensor | None], inputs: list[Tensor], seed: int = 0, entropy: bool = True) -> list[Tensor]:
    """Results, and gradients of a random weighting of them."""
    weights = torch.randn(2, *results[0].shape, generator=torch.Generator().manual_seed(seed))
    total = (weights[0] * results[0]).sum()
    if entropy and results[1] is not None:
        total = total + (weights[1] * results[1]).sum()
    tensors = [result.detach() for result in results if result is not None]
    return [t.double() for t in (*tensors, *torch.autograd.grad(total, inputs))]


def assert_all_close(got: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    """The largest error is at most ``tolerance`` of the largest entry (or of 1)."""
    for mine, theirs in zip(got, wanted, strict=True):
        scale = max(1.0, float(theirs.abs().max()))
        assert mine.shape == theirs.shape
        assert float((mine - theirs).abs().max()) <= tolerance * scale


# ---------------------------------------------------------------- against the plain formula in float64


@given(
    st.integers(0, 10_000),
    st.floats(0.2, 3.0),
    st.integers(4, 15 * VOCABULARY * 4),
    st.sampled_from(["none", "value", "gradient"]),
)
@settings(deadline=None, max_examples=40)
def test_logprobs_entropies_and_gradients_are_those_of_a_float64_log_softmax(
    seed: int, temperature: float, budget: int, entropy: Entropy
) -> None:
    hidden, head, ids, mask = batch(seed)
    inputs = [hidden.requires_grad_(), *head.parameters()]
    wanted = reference(hidden, head, ids, mask, temperature)
    got = token_logprobs(hidden, head, ids, mask, temperature, entropy=entropy, logits_bytes=budget)
    kept = (wanted[0], None if entropy == "none" else wanted[1])
    assert_all_close(outcome(got, inputs, seed, entropy == "gradient"), outcome(kept, inputs, seed, entropy == "gradient"), 1e-5)


@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(1, 13), st.booleans())
@settings(deadline=None, max_examples=30)
def test_tiles_of_every_size_give_the_float64_result(seed: int, tokens: int, words: int, biased: bool) -> None:
    hidden, head, ids, mask = batch(seed, dtype=torch.float64)
    if not biased:
        head.bias = None
    inputs = [hidden.requires_grad_(), *head.parameters()]
    states = hidden[mask]
    got = linear_logprobs(states, head.weight, head.bias, ids[mask], 0.7, "gradient", Tile(tokens, words))
    wanted = tuple(result[mask] for result in reference(hidden, head, ids, mask, 0.7))
    assert_all_close(outcome(got, inputs, seed), outcome(wanted, inputs, seed), 1e-12)


@pytest.mark.parametrize("tile", [Tile(2, 4), Tile(1, 11), Tile(9, 3)])
def test_gradients_pass_torchs_own_check(tile: Tile) -> None:
    hidden, head, ids, mask = batch(1, rows=2, length=3, dtype=torch.float64)
    states = hidden[mask].detach().requires_grad_()

    def function(states: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor | None]:
        return linear_logprobs(states, weight, bias, ids[mask], 1.3, "gradient", tile)

    assert torch.autograd.gradcheck(function, (states, head.weight, head.bias))


@given(st.integers(1, 300), st.integers(1, 5000), st.integers(1, 100_000), st.none() | st.integers(0, 50))
def test_a_tile_stays_within_its_budget_and_covers_something(tokens: int, words: int, elements: int, widest: int | None) -> None:
    tile = Tile.within(elements, tokens, words, widest)
    assert 1 <= tile.tokens <= tokens
    assert 1 <= tile.words <= words
    assert tile.tokens * tile.words <= elements
    assert widest is None or tile.words <= max(1, widest)


@pytest.mark.parametrize("budget", [4, 40, 400, EVERYTHING])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_near_to_float64_as_its_own_rounding_of_logits(dtype: torch.dtype, budget: int) -> None:
    """Stated tolerance: 8 roundings of the largest entry; sums over tiles are in float32 and add none of their own."""
    for seed in range(5):
        hidden, head, ids, mask = batch(seed, rows=6, dtype=dtype)
        inputs = [hidden.requires_grad_(), *head.parameters()]
        got = outcome(token_logprobs(hidden, head, ids, mask, 0.8, logits_bytes=budget), inputs, seed)
        assert_all_close(got, outcome(reference(hidden, head, ids, mask, 0.8), inputs, seed), 8 * torch.finfo(dtype).eps)


def test_a_half_precision_weight_gradient_of_many_tokens_is_summed_in_float32() -> None:
    torch.manual_seed(0)
    tokens = 600
    states = torch.rand(tokens, WIDTH, dtype=torch.bfloat16) + 0.5  # all of one sign: sums in bfloat16 would stop growing
    weight = torch.zeros(VOCABULARY, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    chosen = torch.full((tokens,), 3)
    logprobs, _ = linear_logprobs(states, weight, None, chosen, 1.0, "none", Tile(1, 4))
    (gradient,) = torch.autograd.grad(logprobs.sum(), weight)
    wanted = (torch.nn.functional.one_hot(chosen, VOCABULARY).double() - 1 / VOCABULARY).T @ states.double()
    torch.testing.assert_close(gradient.double(), wanted, rtol=0.01, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("budget", [40, EVERYTHING])
def test_the_results_are_float32_whatever_the_model_computes_in(dtype: torch.dtype, budget: int) -> None:
    logprobs, entropy = token_logprobs(*batch(5, dtype=dtype), logits_bytes=budget)
    assert logprobs.dtype == entropy.dtype == torch.float32


def test_a_tied_weight_gets_the_gradients_of_both_its_uses() -> None:
    _, head, ids, mask = batch(6)
    embedding = nn.Embedding(VOCABULARY, WIDTH)
    embedding.weight = head.weight
    outcomes = [
        outcome(function(embedding(ids.flip(1)).tanh(), head, ids, mask), [head.weight])
        for function in (reference, lambda *args: token_logprobs(*args, logits_bytes=60))
    ]
    assert_all_close(*reversed(outcomes), 1e-5)


# ---------------------------------------------------------------- masks, ids, options


@pytest.mark.parametrize("budget", [4, 100, EVERYTHING])
def test_where_nothing_counts_gradients_are_zeros_and_not_missing(budget: int) -> None:
    hidden, head, ids, mask = batch(0)
    hidden.requires_grad_()
    logprobs, entropy = token_logprobs(hidden, head, ids, torch.zeros_like(mask), logits_bytes=budget)
    assert not logprobs.any()
    assert not entropy.any()
    (logprobs.sum() + entropy.sum()).backward()
    for tensor in (hidden, *head.parameters()):
        assert tensor.grad is not None
        assert not tensor.grad.any()


def test_no_tokens_in_a_tiled_head_give_zero_gradients() -> None:
    _, head, _, _ = batch(0)
    states = torch.zeros(0, WIDTH, requires_grad=True)
    logprobs, _ = linear_logprobs(states, head.weight, head.bias, torch.zeros(0, dtype=torch.long), 1.0, "none", Tile(1, 4))
    gradients = torch.autograd.grad(logprobs.sum(), [states, *head.parameters()])
    assert [g.shape for g in gradients] == [states.shape, head.weight.shape, head.bias.shape]
    assert not any(g.any() for g in gradients)


@pytest.mark.parametrize("budget", [40, EVERYTHING])
def test_what_stands_at_masked_positions_does_not_matter(budget: int) -> None:
    hidden, head, ids, mask = batch(3)
    spoiled, other_ids = hidden.clone(), ids.clone()
    spoiled[~mask] = float("nan")
    other_ids[~mask] = VOCABULARY + 7
    results = []
    for states, chosen in ((hidden, ids), (spoiled, other_ids)):
        states.requires_grad_()
        results.append(outcome(token_logprobs(states, head, chosen, mask, logits_bytes=budget), [states, head.weight]))
    torch.testing.assert_close(*results)


def test_hidden_states_may_be_a_slice_of_a_longer_sequence() -> None:
    hidden, head, ids, mask = batch(3)
    longer = torch.cat([hidden, hidden], dim=1)
    torch.testing.assert_close(token_logprobs(longer[:, 5:], head, ids, mask), token_logprobs(hidden, head, ids, mask))


@pytest.mark.parametrize("budget", [40, EVERYTHING])
def test_an_entropy_that_is_only_looked_at_has_no_gradient_and_changes_none(budget: int) -> None:
    hidden, head, ids, mask = batch(7)
    hidden.requires_grad_()
    looked, value = token_logprobs(hidden, head, ids, mask, entropy="value", logits_bytes=budget)
    with_gradient, entropy = token_logprobs(hidden, head, ids, mask, entropy="gradient", logits_bytes=budget)
    without, nothing = token_logprobs(hidden, head, ids, mask, entropy="none", logits_bytes=budget)
    assert not value.requires_grad
    assert entropy.requires_grad
    assert nothing is None
    torch.testing.assert_close(value, entropy)
    gradients = [torch.autograd.grad(x.square().sum(), [hidden, head.weight]) for x in (looked, with_gradient, without)]
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], gradients[2])


@pytest.mark.parametrize("budget", [40, 200, EVERYTHING])
def test_without_gradients_the_values_are_the_same_bit_for_bit(budget: int) -> None:
    hidden, head, ids, mask = batch(8)
    learning = token_logprobs(hidden.requires_grad_(), head, ids, mask, 0.9, logits_bytes=budget)
    with torch.no_grad():
        looking = token_logprobs(hidden, head, ids, mask, 0.9, logits_bytes=budget)
    for mine, theirs in zip(learning, looking, strict=True):
        assert not theirs.requires_grad
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("temperature", "budget"), [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_a_temperature_or_budget_that_is_not_positive_is_refused(temperature: float, budget: int) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        token_logprobs(*batch(0), temperature=temperature, logits_bytes=budget)


def test_shapes_that_do_not_belong_together_are_refused() -> None:
    hidden, head, ids, mask = batch(0)
    with pytest.raises(ValueError, match=r"belong together.*\(3, 4\)"):
        token_logprobs(hidden, head, ids[:, :4], mask)
    with pytest.raises(ValueError, match="boolean mask"):
        token_logprobs(hidden, head, ids, mask.long())


@pytest.mark.parametrize("budget", [40, EVERYTHING])
@pytest.mark.parametrize("wrong", [-1, VOCABULARY])
def test_an_id_that_is_no_word_is_refused(budget: int, wrong: int) -> None:
    hidden, head, ids, _ = batch(0)
    ids[1, 1] = wrong
    with pytest.raises(ValueError, match=f"no word of the head.*{wrong}"):
        token_logprobs(hidden, head, ids, torch.ones_like(ids, dtype=torch.bool), logits_bytes=budget)
    logprobs, _ = linear_logprobs(hidden[1], head.weight, None, ids[1], 1.0, "none", Tile(2, 4))
    assert logprobs.isnan().tolist() == [False, True, False, False, False]  # where nothing can look without waiting


# ---------------------------------------------------------------- what autograd and its users rely on


@pytest.mark.parametrize("budget", [40, EVERYTHING])
def test_gradients_add_up_over_backward_passes_and_reach_a_weights_hooks_once_each(budget: int) -> None:
    hidden, head, ids, mask = batch(9)
    calls: list[int] = []
    head.weight.register_post_accumulate_grad_hook(lambda weight: calls.append(1))
    for part in (slice(0, 1), slice(1, 3)):
        token_logprobs(hidden[part], head, ids[part], mask[part], logits_bytes=budget)[0].sum().backward()
    assert len(calls) == 2
    (whole,) = torch.autograd.grad(reference(hidden, head, ids, mask)[0].sum(), head.weight)
    torch.testing.assert_close(head.weight.grad, whole, rtol=1e-4, atol=1e-5)


def test_a_graph_that_is_kept_can_be_gone_through_again() -> None:
    hidden, head, ids, mask = batch(10)
    logprobs, entropy = token_logprobs(hidden.requires_grad_(), head, ids, mask, logits_bytes=40)
    total = logprobs.sum() + entropy.sum()
    first = torch.autograd.grad(total, [hidden, head.weight], retain_graph=True)
    torch.testing.assert_close(first, torch.autograd.grad(total, [hidden, head.weight]))


def test_a_second_derivative_is_refused() -> None:
    hidden, head, ids, mask = batch(10)
    logprobs, _ = token_logprobs(hidden.requires_grad_(), head, ids, mask, logits_bytes=40)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(logprobs.sum(), hidden, create_graph=True)
    kept, _ = token_logprobs(hidden, head, ids, mask, logits_bytes=EVERYTHING)
    (gradient,) = torch.autograd.grad(kept.sum(), hidden, create_graph=True)
    assert torch.autograd.grad(gradient.sum(), hidden)[0].any()  # as the error says


@pytest.mark.parametrize("budget", [40, 200, EVERYTHING])
@pytest.mark.parametrize("hidden_dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_it_is_what_the_head_and_log_softmax_are(budget: int, hidden_dtype: torch.dtype) -> None:
    hidden, head, ids, mask = batch(11, rows=6)
    hidden = hidden.to(hidden_dtype).requires_grad_()
    inputs = [hidden, *head.parameters()]
    with torch.autocast("cpu", torch.bfloat16):
        got = token_logprobs(hidden, head, ids, mask, 0.9, logits_bytes=budget)
        normalised = (head(hidden).float() / 0.9).log_softmax(-1)
    plain = (
        normalised.gather(2, ids[..., None]).squeeze(2) * mask,
        -(normalised.exp() * normalised).sum(-1) * mask,
    )
    assert got[0].dtype == torch.float32
    assert_all_close(outcome(got, inputs), outcome(plain, inputs), 8 * torch.finfo(torch.bfloat16).eps)


# ---------------------------------------------------------------- memory and device


class Recorder(TorchDispatchMode):
    """Notes the largest tensor that any operation makes, its shapes, and the operations' names."""

    def __init__(self) -> None:
        super().__init__()
        self.largest, self.names, self.shapes = 0, [], []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.names.append(func.overloadpacket.__name__)
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, Tensor) and not func.is_view:
                self.largest = max(self.largest, tensor.numel())
                self.shapes.append(tuple(tensor.shape))
        return result


def wide(frozen: bool, dtype: torch.dtype = torch.float32) -> tuple[Tensor, nn.Linear, Tensor, Tensor]:
    """300 tokens over 5000 words of width 8."""
    torch.manual_seed(0)
    head = nn.Linear(8, 5000, bias=False, dtype=dtype).requires_grad_(not frozen)
    hidden = torch.randn(3, 100, 8, dtype=dtype, requires_grad=True)
    return hidden, head, torch.randint(5000, (3, 100)), torch.ones(3, 100, dtype=torch.bool)


@pytest.mark.parametrize("entropy", ["none", "value", "gradient"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_tensor_is_larger_than_the_budget_or_the_weights_gradient(entropy: Entropy, dtype: torch.dtype) -> None:
    hidden, head, ids, mask = wide(frozen=False, dtype=dtype)
    elements = 5000 * 10
    with Recorder() as seen:
        results = token_logprobs(hidden, head, ids, mask, 0.9, entropy=entropy, logits_bytes=4 * elements)
        sum(result.sum() for result in results if result is not None and result.requires_grad).backward()
    assert seen.largest <= max(elements, head.weight.numel()) < hidden.shape[0] * hidden.shape[1] * 5000
    assert seen.names.count("mm") + seen.names.count("addmm_") >= 3 * 30, "logits anew in the backward pass, tile by tile"


def test_logits_that_all_fit_are_computed_once() -> None:
    hidden, head, ids, mask = wide(frozen=False)
    with Recorder() as seen:
        token_logprobs(hidden, head, ids, mask)[0].sum().backward()
    assert seen.names.count("mm") == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frozen_head_gets_no_gradient_and_no_memory_for_one(dtype: torch.dtype) -> None:
    hidden, head, ids, mask = wide(frozen=True, dtype=dtype)
    elements = 100 * 300
    with Recorder() as seen:
        token_logprobs(hidden, head, ids, mask, logits_bytes=4 * elements)[0].sum().backward()
    assert head.weight.grad is None
    assert hidden.grad is not None
    assert seen.largest <= elements < head.weight.numel()
    assert tuple(head.weight.shape) not in seen.shapes


@pytest.mark.parametrize("budget", [4 * 5000 * 10, EVERYTHING])
def test_the_device_is_waited_for_once(budget: int) -> None:
    """Counting positions is what waits; reading numbers back, or indexing by masks, would each wait again."""
    hidden, head, ids, mask = wide(frozen=False)
    waits = {"nonzero", "_local_scalar_dense", "item", "masked_select", "is_nonzero", "equal", "unique_dim", "_unique2"}
    with Recorder() as seen:
        logprobs, entropy = token_logprobs(hidden, head, ids, mask, 0.9, logits_bytes=budget)
        (logprobs.sum() + entropy.sum()).backward()
    assert [name for name in seen.names if name in waits] == ["nonzero"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_on_cuda_results_are_those_of_float64(dtype: torch.dtype) -> None:
    hidden, head, ids, mask = wide(frozen=False, dtype=dtype)
    hidden, head, ids, mask = hidden.detach().cuda().requires_grad_(), head.cuda(), ids.cuda(), mask.cuda()
    for budget in (4 * 5000 * 10, EVERYTHING):
        logprobs, entropy = token_logprobs(hidden, head, ids, mask, 0.9, logits_bytes=budget)
        got = [logprobs, entropy, *torch.autograd.grad(logprobs.sum() + entropy.sum(), [hidden, head.weight])]
        logprobs, entropy = reference(hidden, head, ids, mask, 0.9)
        wanted = [logprobs, entropy, *torch.autograd.grad(logprobs.sum() + entropy.sum(), [hidden, head.weight])]
        assert_all_close([g.double() for g in got], wanted, 16 * torch.finfo(dtype).eps + 1e-5)


# ---------------------------------------------------------------- other heads


def lora_head(seed: int) -> nn.Module:
    model = nn.ModuleDict({"lm_head": batch(seed)[1]})
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["lm_head"], lora_alpha=4), model)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter)
    return model["lm_head"]


class Hooked(nn.Linear):
    """A subclass whose weight is not what it multiplies by."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(2 * input)


def hooked(seed: int) -> nn.Module:
    head = batch(seed)[1]
    head.register_forward_hook(lambda module, args, output: 2 * output)
    return head


def overridden(seed: int) -> nn.Module:
    head = batch(seed)[1]
    original = head.forward
    head.forward = lambda states: 2 * original(states)
    return head


@pytest.mark.parametrize("budget", [4, 4 * VOCABULARY * 2, EVERYTHING])
@pytest.mark.parametrize(
    "make", [lora_head, lambda seed: Hooked(WIDTH, VOCABULARY), hooked, overridden, lambda seed: nn.Sequential(batch(seed)[1])]
)
def test_a_head_that_is_no_plain_linear_is_called_as_it_is(make: Any, budget: int) -> None:
    hidden, _, ids, mask = batch(12)
    head = make(12)
    assert not is_plain_linear(head, hidden)
    inputs = [hidden.requires_grad_(), *(p for p in head.parameters() if p.requires_grad)]
    normalised = (head(hidden) / 0.9).double().log_softmax(-1)
    plain = normalised.gather(2, ids[..., None]).squeeze(2) * mask, -(normalised.exp() * normalised).sum(-1) * mask
    got = token_logprobs(hidden, head, ids, mask, 0.9, logits_bytes=budget)
    assert_all_close(outcome(got, inputs), outcome(plain, inputs), 1e-5)


def test_a_head_whose_weights_are_four_bit_is_called_as_it_is() -> None:
    bitsandbytes = pytest.importorskip("bitsandbytes")
    torch.manual_seed(0)
    head = bitsandbytes.nn.Linear4bit(64, VOCABULARY, bias=False, compute_dtype=torch.float32, quant_type="nf4").to("cpu")
    hidden = torch.randn(2, 4, 64, requires_grad=True)
    ids, mask = torch.randint(VOCABULARY, (2, 4)), torch.ones(2, 4, dtype=torch.bool)
    normalised = head(hidden).log_softmax(-1)
    plain = normalised.gather(2, ids[..., None]).squeeze(2), -(normalised.exp() * normalised).sum(-1)
    got = token_logprobs(hidden, head, ids, mask, logits_bytes=4 * VOCABULARY * 3)
    assert not is_plain_linear(head, hidden)
    assert_all_close(outcome(got, [hidden]), outcome(plain, [hidden]), 1e-5)


def test_no_call_of_another_head_sees_more_positions_than_fit_nor_any_that_is_masked() -> None:
    hidden, head, ids, mask = batch(4, rows=5)
    sizes: list[int] = []
    head.register_forward_hook(lambda module, args, output: sizes.append(output.numel() // VOCABULARY))
    logprobs, _ = token_logprobs(hidden.requires_grad_(), head, ids, mask, logits_bytes=3 * 4 * VOCABULARY)
    assert sum(sizes) == int(mask.sum())
    logprobs.sum().backward()
    assert max(sizes) <= 3
    assert sum(sizes) == 2 * int(mask.sum()), "logits are computed anew in the backward pass, not kept"


def test_where_nothing_counts_the_weights_of_a_lora_head_get_zeros_too() -> None:
    hidden, _, ids, mask = batch(13)
    head = lora_head(13)
    token_logprobs(hidden, head, ids, torch.zeros_like(mask))[0].sum().backward()
    gradients = [parameter.grad for parameter in head.parameters() if parameter.requires_grad]
    assert gradients
    assert all(gradient is not None and not gradient.any() for gradient in gradients)


def test_half_precision_tiles_hold_no_wider_copy_of_the_weights_than_of_logits() -> None:
    states = torch.zeros(4, 64, dtype=torch.bfloat16)
    weight = nn.Parameter(torch.zeros(5000, 64, dtype=torch.bfloat16))
    assert tile_for(states, weight, 64 * 100).words <= 100
    assert tile_for(states, weight.requires_grad_(False), 64 * 100).words == 1600  # nothing is copied
    with torch.autocast("cpu", torch.bfloat16):
        assert tile_for(states.float(), weight.float(), 64 * 100).words <= 100
