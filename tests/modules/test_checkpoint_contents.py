"""What a checkpoint of an adapted policy holds, tensor by tensor, and what it weighs at 7 billion weights."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
import yaml
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from callbacks import VerifierReward
from lit_symbolic.modules import PPOModule
from lit_symbolic.modules.saving import keep_trained_weights
from lit_symbolic.modules.settings import Optimization
from lit_symbolic.policies import CriticKind, HuggingFacePolicy, Lora, TinyLlama
from lit_symbolic.policies.adapters import train_adapter
from lit_symbolic.policies.loaders import POLICY_ADAPTER
from lit_symbolic.policies.tiny import tiny_tokenizer
from tiny import CONFIGS, fit, loaded
from toys import Arbitrary, Say

OPTIMIZERS = get_args(get_type_hints(Optimization)["optimizer"])
OVERLAYS = [path for path in sorted((CONFIGS / "models").glob("*.yaml")) if "lora" in path.read_text()]
RECIPES = sorted((CONFIGS / "game24").glob("ppo_*.yaml"))
LLAMA_2_7B = LlamaConfig(
    vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32, num_attention_heads=32
)
ALL_LINEAR_R16 = 39_976_960


def tensors(node: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every tensor in a nest of dicts and sequences, by where it stands."""
    if isinstance(node, Tensor):
        yield path, node
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, (list, tuple)) else ()
    for key, value in items:
        yield from tensors(value, f"{path}/{key}")


def weight(node: Any) -> int:
    """Bytes of all tensors."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in tensors(node))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base")
    model, tokenizer = TinyLlama(hidden_size=64, layers=1, heads=2, intermediate_size=64, max_length=64).load(Say().vocabulary())
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.mark.parametrize(("critic", "optimizer"), [*(("head", name) for name in OPTIMIZERS), ("adapter", "adamw")])
def test_a_checkpoint_holds_what_was_trained_the_reference_and_counters_and_nothing_of_the_base(
    critic: CriticKind, optimizer: Any, folder: Path, tmp_path: Path
) -> None:
    policy = HuggingFacePolicy(str(folder), quantization="nf4", lora=Lora(r=2), dtype="float32")
    optimization = Optimization(optimizer=optimizer)
    module = PPOModule(
        policy, 2, 2, 1, critic=critic, critic_warmup_iterations=0, optimization=optimization, max_new_tokens=4, minibatch_rows=4
    )
    trainer = fit(module, Say(judge=Arbitrary()), callbacks=[VerifierReward("token", workers=1)], default_root_dir=tmp_path)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = loaded(tmp_path / "last.ckpt")

    state = checkpoint["state_dict"]
    adapters = {name for name in module.state_dict() if re.search(r"\.lora_[AB]\.(default|reference|critic)\.weight$", name)}
    assert set(state) == adapters | {"critic.head.weight", "critic.head.bias", "kl_coefficient"}
    # Seven linear layers, two matrices each, once per adapter.
    assert len(adapters) == 14 * (3 if critic == "adapter" else 2)
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in state.items())

    trained = [p for p in module.parameters() if p.requires_grad]
    (moments,) = checkpoint["optimizer_states"]
    assert sum(len(group["params"]) for group in moments["param_groups"]) == len(trained)
    size = sum(p.numel() for p in trained)
    if optimizer == "adamw":
        assert weight([s[name] for s in moments["state"].values() for name in ("exp_avg", "exp_avg_sq")]) == 2 * 4 * size
    # Two moments in float32 at most; besides, counters, and the tables by which 8-bit moments are read.
    assert weight(moments) <= 2 * 4 * size + len(trained) * (4 + 2 * 256 * 4 + 64)

    others = {path for path, _ in tensors(checkpoint) if not path.startswith(("/state_dict/", "/optimizer_states/"))}
    assert weight({path: tensor for path, tensor in tensors(checkpoint) if path in others}) < 1000
    # A tensor that is a view would be written with all that it is a view of.
    assert (tmp_path / "last.ckpt").stat().st_size < weight(checkpoint) + 400 * len(list(tensors(checkpoint))) + 20_000


# ---------------------------------------------------------------- at 7 billion weights, without holding one


@cache
def seven_billion(r: int, target_modules: str, critic: CriticKind) -> tuple[int, int]:
    """Trained weights, and bytes of a checkpoint's tensors, from the module's own names and shapes and AdamW's step."""
    module = PPOModule(TinyLlama(), critic=critic, reference="adapter")
    with torch.device("meta"):
        model = LlamaForCausalLM(LLAMA_2_7B)
        model.add_adapter(Lora(r=r, target_modules=yaml.safe_load(target_modules)).config(), adapter_name=POLICY_ADAPTER)
        train_adapter(model, POLICY_ADAPTER)
        module.model, module.tokenizer = model, tiny_tokenizer(["1"])
        module.build_heads()
    assert {p.device.type for p in module.parameters()} == {"meta"}
    optimizer = module.configure_optimizers()
    trained = [p for p in module.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.grad = torch.empty_like(parameter)
    optimizer.step()
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict(), "optimizer_states": [optimizer.state_dict()]}
    keep_trained_weights(module, checkpoint)
    return sum(p.numel() for p in trained), weight(checkpoint)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=[path.stem for path in OVERLAYS])
def test_a_checkpoint_of_a_shipped_overlay_on_llama_2_7b_weighs_less_than_a_gigabyte(overlay: Path) -> None:
    settings = yaml.safe_load(overlay.read_text())["model"]["init_args"]
    lora = Lora(**settings["policy"]["init_args"]["lora"])
    for recipe in RECIPES:
        both = {**yaml.safe_load(recipe.read_text())["model"]["init_args"], **settings}
        critic = both.get("critic", "head")
        size, kept = seven_billion(lora.r, str(lora.target_modules), critic)
        assert kept < 1e9, recipe
        if (lora.r, lora.target_modules, critic) == (16, "all-linear", "head"):
            assert size == ALL_LINEAR_R16 + 4097
            # Policy and reference in float32, and two moments of the policy: 640 MB.
            assert 0 < kept - 4 * 4 * ALL_LINEAR_R16 < 100_000


def test_a_critics_adapter_adds_its_weights_and_their_moments() -> None:
    size, kept = seven_billion(16, "all-linear", "adapter")
    assert size == 2 * ALL_LINEAR_R16 + 4097
    assert 0 < kept - (3 + 2 * 2) * 4 * ALL_LINEAR_R16 < 100_000
