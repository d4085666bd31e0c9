"""The reference of PPO after supervised fine-tuning is the fine-tuned policy: through a warm start, training, and a resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch
from lightning import Trainer
from torch import Tensor
from transformers import PreTrainedModel

from architectures import save_architecture
from callbacks import VerifierReward
from lit_symbolic.modules import PPOModule, SFTModule
from lit_symbolic.modules.settings import Advantage, Optimization
from lit_symbolic.objectives.logprobs import token_logprobs
from lit_symbolic.policies import CriticKind, HuggingFacePolicy, Lora
from lit_symbolic.policies.forward import response_hidden
from lit_symbolic.policies.tiny import tiny_tokenizer
from toys import Arbitrary, Say

Fit = Callable[..., Trainer]
TASK = Say(judge=Arbitrary())
PROMPTS, IDS = torch.tensor([[1, 5, 6], [1, 8, 9]]), torch.tensor([[10, 11, 12, 13], [14, 15, 16, 2]])
ANSWERS = torch.ones_like(IDS, dtype=torch.bool)


def logprobs(model: PreTrainedModel) -> Tensor:
    with torch.no_grad():
        hidden = response_hidden(model, PROMPTS, None, IDS, ANSWERS)
        return token_logprobs(hidden, model.get_output_embeddings(), IDS, ANSWERS)[0]


@pytest.mark.parametrize(("quantization", "critic"), [("none", "head"), ("none", "adapter"), ("nf4", "head"), ("nf4", "adapter")])
def test_the_reference_is_the_policy_that_sft_left_and_not_its_base(
    quantization: Literal["none", "nf4"], critic: CriticKind, fit: Fit, tmp_path: Path
) -> None:
    torch.manual_seed(0)  # the adapters' first weights are drawn from the global generator
    folder = save_architecture("llama", tmp_path, tiny_tokenizer([*"abcd", "say"]))
    policy = HuggingFacePolicy(
        str(folder), quantization=quantization, lora=Lora(r=2), dtype="float32", gradient_checkpointing=True
    )
    fast = Optimization(learning_rate=0.02)
    sft = SFTModule(policy, demonstrations=8, max_new_tokens=4, minibatch_rows=4, optimization=fast)
    fit(sft, TASK, 2).save_checkpoint(tmp_path / "sft.ckpt")
    tuned, base = logprobs(sft.model), logprobs(policy.load(())[0])
    assert (tuned - base).abs().max() > 0.01

    def ppo() -> PPOModule:
        return PPOModule(
            policy,
            problems=2,
            samples=2,
            critic=critic,
            advantage=Advantage(whiten=False),  # answers that are all alike teach something too
            critic_warmup_iterations=0,
            init_from=str(tmp_path / "sft.ckpt"),
            max_new_tokens=4,
            minibatch_rows=2,
            optimization=fast,
        )

    module = ppo()
    fit(module, TASK, 2, [VerifierReward(scheme="graded", workers=1, deadline_seconds=60.0)]).save_checkpoint(
        tmp_path / "ppo.ckpt"
    )
    resumed = ppo()
    fit(resumed, TASK, 3, [VerifierReward(scheme="graded", workers=1, deadline_seconds=60.0)], ckpt_path=tmp_path / "ppo.ckpt")
    for run in (module, resumed):
        assert run.reference.kind == "adapter"
        with run.reference.of(run.model) as reference:
            assert torch.equal(logprobs(reference), tuned)
        assert (logprobs(run.model) - tuned).abs().max() > 0.01
    assert not torch.equal(logprobs(module.model), logprobs(resumed.model))
    # The weights that the checkpoint's reference holds are what makes it so, not the warm start before the resume.
    state = torch.load(tmp_path / "ppo.ckpt", weights_only=True)["state_dict"]
    saved = {key.replace(".reference.", ".default."): value for key, value in state.items() if ".reference." in key}
    trained = {f"model.{key}": value for key, value in sft.model.named_parameters() if value.requires_grad}
    assert saved.keys() == trained.keys()
    assert all(torch.equal(saved[key], trained[key]) for key in saved)
