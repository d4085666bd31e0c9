"""What ``benchmarks/gpu_7b.py`` trains: a model of a given shape with random weights, made of words, on random words."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning import Trainer
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from callbacks.reward import RewardCallback
from lit_symbolic.certificate import Certificate, Finding, Problem
from lit_symbolic.modules import SymbolicModule
from lit_symbolic.policies.tiny import tiny_tokenizer
from lit_symbolic.rewards import token_rewards
from lit_symbolic.rollouts.batch import Rollouts
from lit_symbolic.tasks import Split, Task
from lit_symbolic.verifiers import Verifier


@dataclass(frozen=True)
class Shape:
    """The model's sizes and the work."""

    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    vocabulary: int
    prompt: int
    response: int
    rollouts: int
    minibatch_rows: int
    iterations: int

    @property
    def linear_weights(self) -> int:
        """Weights of the matrices that every token goes through, the head included."""
        block = 4 * self.hidden_size**2 + 3 * self.hidden_size * self.intermediate_size
        return self.layers * block + self.hidden_size * self.vocabulary


SHAPES = {
    "7b": Shape(4096, 32, 32, 11008, 32000, 512, 512, 16, 4, 2),
    "tiny": Shape(64, 2, 4, 128, 512, 16, 16, 4, 2, 1),
}


def words(shape: Shape) -> list[str]:
    """A vocabulary of made-up words, one token each."""
    return [f"w{index}" for index in range(shape.vocabulary - 32)]


def write_model(folder: Path, shape: Shape, device: torch.device) -> None:
    """A model folder with random bfloat16 weights, a file a layer, never all in memory."""
    tokenizer = tiny_tokenizer(words(shape))
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=4096,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        architectures=["LlamaForCausalLM"],
        dtype="bfloat16",
    )
    config.save_pretrained(folder)
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in LlamaForCausalLM(config).state_dict().items()}
    files: dict[str, list[str]] = {}
    for name in shapes:
        files.setdefault(f"model-{name.split('.')[2] if '.layers.' in name else 'rest'}.safetensors", []).append(name)
    generator = torch.Generator(device).manual_seed(0)
    for file, names in files.items():
        tensors = {
            name: torch.ones(shapes[name], dtype=torch.bfloat16)
            if "norm" in name
            else torch.randn(shapes[name], generator=generator, device=device, dtype=torch.float32).mul_(0.02).bfloat16().cpu()
            for name in names
        }
        save_file(tensors, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, names in files.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


class RandomWords(Task):
    """Prompts and answers of random words, each of a fixed number of tokens."""

    name = "random_words"

    def __init__(self, shape: Shape) -> None:
        self.shape = shape

    @property
    def verifier(self) -> Verifier:
        """None is needed: the reward callback certifies by itself."""
        raise RuntimeError("random words have no verifier")

    def problems(self, split: Split) -> Sequence[Problem]:
        """A few problems."""
        return [self.sample(random.Random(seed)) for seed in range(4)]

    def sample(self, rng: random.Random) -> Problem:
        """A prompt of the wanted length, its begin-of-sequence token included."""
        return Problem(self.name, str(rng.random()), self._text(rng, self.shape.prompt - 1))

    def demonstration(self, problem: Problem, rng: random.Random) -> str:
        """An answer of the wanted length, its end-of-sequence token included."""
        return self._text(rng, self.shape.response - 1)

    def _text(self, rng: random.Random, length: int) -> str:
        known = words(self.shape)
        return " ".join(rng.choices(known, k=length))


class FirstHalf(RewardCallback):
    """A reward that costs nothing: an answer's fault is its second half."""

    def __init__(self) -> None:
        super().__init__("first_half", primary=True)

    def on_rollouts(self, trainer: Trainer, module: SymbolicModule, rollouts: Rollouts) -> None:
        """Certify in this process and write the rewards."""
        certificates = []
        for text in rollouts.texts:
            finding = Finding(len(text) // 2, len(text), "semantic", "the second half")
            certificates.append(Certificate(correct=False, score=0.0, findings=(finding,)))
        rewards = torch.zeros(rollouts.ids.shape)
        in_finding = torch.zeros(rollouts.ids.shape, dtype=torch.bool)
        for row, certificate in enumerate(certificates):
            reward = token_rewards("token_penalty", certificate, rollouts.spans[row], bool(rollouts.ended[row]))
            rewards[row, : len(reward.values)] = reward.values
            in_finding[row, : len(reward.values)] = reward.in_finding
        device, rows = rollouts.ids.device, len(rollouts)
        rollouts.rewards[self.name] = rewards.to(device)
        rollouts.loss_masks[self.name] = rollouts.mask.clone()
        rollouts.evidence[self.name] = torch.ones(rows, dtype=torch.bool, device=device)
        rollouts.objections[self.name] = torch.full((rows,), -1, device=device)
        rollouts.certificates, rollouts.in_finding = certificates, in_finding.to(device)
