import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from lit_symbolic.modules.saving import keep_trained_weights, load_start, require_trained_weights
from lit_symbolic.policies import Critic, CriticKind, HuggingFacePolicy, Lora, PolicyLoader, Reference, ReferenceKind, TinyLlama

WORDS = [str(i) for i in range(30)]
TINY = TinyLlama(hidden_size=16, layers=1, heads=2, intermediate_size=32)
IDS = torch.tensor([[5, 6, 7, 8]])


class Module(LightningModule):
    """What saving needs of a module: a policy, perhaps a critic, a reference and a buffer of its own."""

    def __init__(self, loader: PolicyLoader, critic: CriticKind | None = None, reference: ReferenceKind | None = None) -> None:
        super().__init__()
        self.model, self.tokenizer = loader.load(WORDS)
        if reference is not None:
            self.reference = Reference(self.model, reference)
        if critic is not None:
            self.critic = Critic(self.model, critic)
            self.register_buffer("kl_coefficient", torch.tensor(0.05))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    model, tokenizer = TINY.load(WORDS)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def lora(folder: Path, **options: Any) -> HuggingFacePolicy:
    return HuggingFacePolicy(str(folder), lora=Lora(**{"r": 2, **options}), dtype="float32")


def disturb(module: torch.nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) if parameter.requires_grad else 0.0)


def logits(model: torch.nn.Module) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


def checkpoint_of(module: Module) -> dict[str, Any]:
    checkpoint = {"state_dict": copy.deepcopy(module.state_dict())}
    keep_trained_weights(module, checkpoint)
    return checkpoint


def saved(module: Module, path: Path) -> str:
    torch.save(checkpoint_of(module), path / "last.ckpt")
    return str(path / "last.ckpt")


# ---------------------------------------------------------------- what a checkpoint holds


@pytest.mark.parametrize(
    ("critic", "reference"),
    [(None, None), ("head", "adapter"), ("adapter", "adapter"), ("own", "copy"), ("head", "adapters_off")],
)
def test_a_checkpoint_restores_policy_critic_and_reference_into_a_fresh_module(
    critic: CriticKind | None, reference: ReferenceKind | None, folder: Path
) -> None:
    torch.manual_seed(0)
    module = Module(lora(folder), critic, None)
    disturb(module)
    if reference is not None:
        module.reference = Reference(module.model, reference)
    disturb(module)
    checkpoint = checkpoint_of(module)
    torch.manual_seed(1)
    fresh = Module(lora(folder), critic, reference)
    require_trained_weights(fresh, checkpoint)
    fresh.load_state_dict(checkpoint["state_dict"], strict=False)
    ours, theirs = module.state_dict(), fresh.state_dict()
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_a_frozen_base_stays_out_and_everything_trained_or_frozen_as_reference_goes_in(folder: Path) -> None:
    module = Module(lora(folder), "adapter", "adapter")
    kept = set(checkpoint_of(module)["state_dict"])
    assert {name for name in kept if "base_layer" in name or "embed" in name or "lm_head" in name} == set()
    assert {name for name, p in module.named_parameters() if p.requires_grad} <= kept
    assert {name for name in module.state_dict() if ".reference." in name} <= kept
    assert {"kl_coefficient", "critic.head.weight"} <= kept


def test_a_wholly_trained_model_keeps_all_weights_the_tied_head_too() -> None:
    module = Module(TINY, "own", "copy")
    kept = checkpoint_of(module)["state_dict"]
    assert {name for name in module.state_dict() if name.startswith(("model.", "critic."))} <= set(kept)
    assert any(name.startswith("reference.frozen.") for name in kept)


def test_a_checkpoint_can_be_read_without_running_code(folder: Path, tmp_path: Path) -> None:
    path = saved(Module(lora(folder), "head", "adapter"), tmp_path)
    assert set(torch.load(path, weights_only=True)) == {"state_dict", "lit_symbolic_vocabulary", "lit_symbolic_adapter"}


def test_a_checkpoint_of_another_module_or_shape_or_scale_is_refused_by_name(folder: Path) -> None:
    plain, with_critic = Module(lora(folder)), Module(lora(folder), "head", "adapter")
    require_trained_weights(plain, checkpoint_of(with_critic))
    with pytest.raises(MisconfigurationException, match=r"lacks .* --model.init_from"):
        require_trained_weights(with_critic, checkpoint_of(plain))
    small, large = Module(TINY), Module(TinyLlama(hidden_size=32, layers=1, heads=2, intermediate_size=32))
    with pytest.raises(MisconfigurationException, match=r"another shape .*lm_head.*\(\d+, 32\), not \(\d+, 16\)"):
        require_trained_weights(small, checkpoint_of(large))
    with pytest.raises(MisconfigurationException, match="lora_alpha is 4 there and 32 here"):
        require_trained_weights(plain, checkpoint_of(Module(lora(folder, lora_alpha=4))))


# ---------------------------------------------------------------- what a run may start from


def test_without_a_start_the_policy_is_loaded_as_it_is() -> None:
    model, tokenizer = load_start(TINY, None, WORDS)
    assert torch.equal(logits(model), logits(TINY.load(WORDS)[0]))
    assert tokenizer.get_vocab() == TINY.load(WORDS)[1].get_vocab()


@pytest.mark.parametrize("adapted", [False, True])
def test_a_run_starts_from_the_policy_of_a_lightning_checkpoint(adapted: bool, folder: Path, tmp_path: Path) -> None:
    loader: PolicyLoader = lora(folder) if adapted else TINY
    module = Module(loader, "head", "auto")
    disturb(module)
    model, _ = load_start(loader, saved(module, tmp_path), WORDS)
    assert torch.equal(logits(model), logits(module.model))
    assert {p.requires_grad for p in model.parameters()} == ({True, False} if adapted else {True})


@pytest.mark.parametrize("loader", [TINY, HuggingFacePolicy("elsewhere", dtype="float32")], ids=["tiny", "hugging face"])
def test_a_run_starts_from_a_model_folder(loader: PolicyLoader, tmp_path: Path) -> None:
    model, tokenizer = TINY.load(WORDS)
    disturb(model)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    started, opened = load_start(loader, str(tmp_path), WORDS)
    assert torch.equal(logits(started), logits(model))
    assert opened.get_vocab() == tokenizer.get_vocab()
    assert all(p.requires_grad for p in started.parameters())


def test_a_run_starts_from_an_adapter_folder_and_trains_that_adapter(folder: Path, tmp_path: Path) -> None:
    model, _ = lora(folder).load(())
    disturb(model)
    model.save_pretrained(tmp_path)
    started, _ = load_start(lora(folder), str(tmp_path), ())
    assert torch.equal(logits(started), logits(model))
    names = [{name for name, p in m.named_parameters() if p.requires_grad} for m in (started, model)]
    assert names[0] == names[1] != set()


def test_a_checkpoint_of_another_size_or_vocabulary_is_refused(tmp_path: Path) -> None:
    path = saved(Module(TINY), tmp_path)
    with pytest.raises(MisconfigurationException, match="another vocabulary"):
        load_start(TINY, path, [*WORDS, "more"])
    with pytest.raises(MisconfigurationException, match="another vocabulary"):
        load_start(TINY, path, WORDS[::-1])
    for other in (TinyLlama(32, 1, 2, 32), TinyLlama(16, 2, 2, 32)):
        with pytest.raises(MisconfigurationException, match="do not belong to this policy"):
            load_start(other, path, WORDS)


def test_a_model_folder_of_another_vocabulary_is_refused_for_the_tiny_policy(folder: Path) -> None:
    with pytest.raises(MisconfigurationException, match="another vocabulary"):
        load_start(TINY, str(folder), [*WORDS, "more"])


def test_a_checkpoint_of_a_whole_model_is_refused_for_adapters_and_the_other_way_round(folder: Path, tmp_path: Path) -> None:
    whole, adapter = tmp_path / "whole", tmp_path / "adapter"
    whole.mkdir()
    adapter.mkdir()
    with pytest.raises(MisconfigurationException, match="do not belong to this policy"):
        load_start(lora(folder), saved(Module(TINY), whole), WORDS)
    with pytest.raises(MisconfigurationException, match="do not belong to this policy"):
        load_start(TINY, saved(Module(lora(folder)), adapter), WORDS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"r": 4}, "r is 2 there and 4 here"),
        ({"lora_alpha": 4}, "lora_alpha is 32 there and 4 here"),
        ({"options": {"use_rslora": True}}, "use_rslora is False there and True here"),
        ({"target_modules": ["q_proj"]}, "other layers"),
    ],
)
def test_an_adapter_that_would_compute_something_else_here_is_refused(
    options: dict[str, Any], message: str, folder: Path, tmp_path: Path
) -> None:
    module = Module(lora(folder))
    module.model.save_pretrained(tmp_path)
    with pytest.raises(MisconfigurationException, match=message):
        load_start(lora(folder, **options), str(tmp_path), ())
    if "layers" not in message:
        with pytest.raises(MisconfigurationException, match=message):
            load_start(lora(folder, **options), saved(module, tmp_path), ())


def test_an_adapter_on_fewer_layers_is_refused_rather_than_half_loaded(folder: Path, tmp_path: Path) -> None:
    lora(folder, target_modules=["q_proj"]).load(())[0].save_pretrained(tmp_path)
    with pytest.raises(MisconfigurationException, match="other layers"):
        load_start(lora(folder), str(tmp_path), ())


def test_an_adapter_folder_for_a_policy_without_adapters_is_refused(folder: Path, tmp_path: Path) -> None:
    lora(folder).load(())[0].save_pretrained(tmp_path)
    with pytest.raises(MisconfigurationException, match="the policy has none"):
        load_start(TINY, str(tmp_path), WORDS)


def test_files_that_are_missing_torn_or_something_else_are_refused_in_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "torn.ckpt").write_bytes(Path(saved(Module(TINY), tmp_path)).read_bytes()[:2000])
    (tmp_path / "text.ckpt").write_text("not a checkpoint")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.ckpt")
    torch.save(torch.zeros(2), tmp_path / "tensor.ckpt")
    for name in ("missing.ckpt", "torn.ckpt", "text.ckpt", "other.ckpt", "tensor.ckpt"):
        with pytest.raises(MisconfigurationException, match="not a Lightning checkpoint of this package"):
            load_start(TINY, str(tmp_path / name), WORDS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="neither a model"):
        load_start(TINY, str(tmp_path / "empty"), WORDS)
