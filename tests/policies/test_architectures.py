"""Every architecture that the overlays and the README name, as a tiny random model of the real class, loaded from a folder."""

import math
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from architectures import ARCHITECTURES, save_architecture
from lit_symbolic.objectives.logprobs import token_logprobs
from lit_symbolic.policies import Critic, HuggingFacePolicy, Lora
from lit_symbolic.policies.forward import response_hidden
from lit_symbolic.rollouts.engine import SamplingSettings, left_padded
from lit_symbolic.rollouts.native import NativeEngine

PROMPTS = [[1, 25, 26, 27, 28, 29], [1, 40, 41], [1, 32, 33, 34]]
ANSWERS = [[20, 21], [22, 23, 24, 2], [25]]
PAD, EOS = 0, 2


class Case(NamedTuple):
    """One architecture, loaded in one way."""

    name: str
    folder: Path
    form: str
    model: PreTrainedModel


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("architectures")
    return {name: save_architecture(name, folder) for name in ARCHITECTURES}


@pytest.fixture(
    scope="module",
    params=[(name, form) for name in ARCHITECTURES for form in ("all weights", "lora", "nf4")],
    ids=lambda param: "-".join(param),
)
def case(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Case:
    name, form = request.param
    model, _ = HuggingFacePolicy(
        str(folders[name]),
        quantization="nf4" if form == "nf4" else "none",
        lora=None if form == "all weights" else Lora(r=2, lora_alpha=2),
        dtype="float32",
        gradient_checkpointing=form == "lora",
    ).load(())
    torch.manual_seed(0)
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if ".default." in key:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return Case(name, folders[name], form, model.train())


def batch() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    prompt_ids, prompt_mask = left_padded(PROMPTS, PAD, torch.device("cpu"))
    assert prompt_mask is not None
    longest = max(map(len, ANSWERS))
    ids = torch.tensor([answer + [PAD] * (longest - len(answer)) for answer in ANSWERS])
    return prompt_ids, prompt_mask, ids, torch.arange(longest) < torch.tensor([[len(answer)] for answer in ANSWERS])


def logprobs(model: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies as the modules compute them."""
    prompt_ids, prompt_mask, ids, mask = batch()
    return token_logprobs(response_hidden(model, prompt_ids, prompt_mask, ids, mask), model.get_output_embeddings(), ids, mask)


def plain(model: PreTrainedModel) -> list[Tensor]:
    """Log-probs of each answer alone, by the model's own forward pass."""
    rows = []
    with torch.no_grad():
        for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
            logits = model(input_ids=torch.tensor([prompt + answer]), use_cache=False).logits[0, len(prompt) - 1 : -1]
            rows.append(logits.log_softmax(dim=-1).gather(1, torch.tensor(answer)[:, None]).squeeze(1))
    return rows


def test_log_probs_of_a_padded_batch_are_those_of_each_answer_alone(case: Case) -> None:
    reference = case.model
    if case.form == "all weights":
        reference = AutoModelForCausalLM.from_pretrained(case.folder, dtype=torch.float64)
    with torch.no_grad():
        ours, entropy = logprobs(case.model)
    assert entropy[batch()[3]].min() > 0.1, "where one word has all probability, all models agree"
    for row, wanted in zip(ours, plain(reference), strict=True):
        torch.testing.assert_close(row[: len(wanted)], wanted.float(), rtol=1e-4, atol=1e-4)


def test_dropout_is_off_and_the_first_ratio_is_one(case: Case) -> None:
    with torch.no_grad():
        old = logprobs(case.model.train())[0]
        still = logprobs(case.model.eval())[0]
    new = logprobs(case.model.train())[0]
    assert torch.equal((new.detach() - old).exp(), torch.ones_like(old))
    torch.testing.assert_close(still, old)


def test_the_generic_decoder_samples_greedily_what_generate_does_with_the_log_probs_of_a_forward_pass(case: Case) -> None:
    steps = 5
    generation = NativeEngine(fused=False).generate(
        case.model, PROMPTS, 1, SamplingSettings(steps, 0.0), [EOS], PAD, torch.Generator()
    )
    assert case.model.training
    case.model.eval()
    for row, prompt in enumerate(PROMPTS):
        ids = torch.tensor([prompt])
        whole = case.model.generate(  # type: ignore[operator]
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=steps
        )[0]
        ours = generation.ids[row, : generation.lengths[row]]
        assert ours.tolist() == whole[len(prompt) :].tolist()
        with torch.no_grad():
            logits = case.model(input_ids=whole[None], use_cache=False).logits[0, len(prompt) - 1 : -1]
        wanted = logits.log_softmax(dim=-1).gather(1, ours[:, None]).squeeze(1)
        torch.testing.assert_close(generation.logprobs[row, : len(ours)], wanted, rtol=0, atol=1e-4)
    case.model.train()


def test_a_step_of_the_optimizer_changes_what_is_trained_and_nothing_else(case: Case) -> None:
    critic = Critic(case.model, "head")
    torch.nn.init.normal_(critic.head.weight, std=1 / math.sqrt(critic.head.in_features))
    trained = {key: p for key, p in case.model.named_parameters() if p.requires_grad}
    before = {key: value.clone() for key, value in case.model.state_dict().items()}
    prompt_ids, prompt_mask, ids, mask = batch()
    hidden = response_hidden(case.model, prompt_ids, prompt_mask, ids, mask)
    values = critic(case.model, hidden, prompt_ids, prompt_mask, ids, mask)
    loss = token_logprobs(hidden, case.model.get_output_embeddings(), ids, mask)[0].sum() + values[mask].sum()
    optimizer = torch.optim.AdamW([*trained.values(), *critic.parameters()], lr=1e-3, weight_decay=0.0)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    changed = {key for key, value in case.model.state_dict().items() if not torch.equal(value, before[key])}
    if case.form == "all weights":
        assert changed == before.keys()
    else:
        assert changed == trained.keys() == {key for key in before if ".default." in key}
        head = case.model.get_output_embeddings()
        assert not any(key in changed for key in ("lm_head.weight", "embed_out.weight"))
        assert type(head) is torch.nn.Linear
    assert critic.head.weight.shape == (1, case.model.get_output_embeddings().in_features)
