import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from transformers import AutoModelForCausalLM, AutoTokenizer

from callbacks import AdapterExport, VerifierReward
from lit_symbolic.modules import PPOModule
from lit_symbolic.modules.settings import Optimization
from lit_symbolic.policies import HuggingFacePolicy, Lora
from lit_symbolic.policies.tiny import tiny_llama, tiny_tokenizer
from toys import Arbitrary, Say

IDS = torch.tensor([[4, 5, 6]])


@pytest.fixture
def module() -> Any:
    tokenizer = tiny_tokenizer(["1", "2", "+"])
    return SimpleNamespace(model=tiny_llama(tokenizer, 16, 1, 2, 32), tokenizer=tokenizer)


@pytest.fixture
def adapted(module: Any, tmp_path: Path) -> HuggingFacePolicy:
    module.model.save_pretrained(tmp_path / "base")
    module.tokenizer.save_pretrained(tmp_path / "base")
    return HuggingFacePolicy(str(tmp_path / "base"), lora=Lora(r=2), dtype="float32")


def export(callback: AdapterExport, module: Any, root: Path, rank: int = 0) -> None:
    trainer = cast(Trainer, SimpleNamespace(default_root_dir=str(root), is_global_zero=rank == 0, current_epoch=0))
    callback.on_fit_start(trainer, cast(LightningModule, module))
    callback.on_train_epoch_end(trainer, cast(LightningModule, module))
    callback.on_train_end(trainer, cast(LightningModule, module))


def test_the_folder_opens_as_any_hugging_face_model_and_gives_the_same_logits(module: Any, tmp_path: Path) -> None:
    export(AdapterExport(), module, tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    ids = tokenizer("1 + 2", return_tensors="pt")["input_ids"]
    assert ids.tolist() == [module.tokenizer("1 + 2")["input_ids"]]
    with torch.no_grad():
        assert torch.equal(opened(ids).logits, module.model.eval()(ids).logits)


def test_an_older_folder_is_replaced_whole_and_nothing_is_left_beside_it(module: Any, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for name in ("config.json", "stale.txt"):
        (tmp_path / "model" / name).write_text("old")
    export(AdapterExport(), module, tmp_path)
    assert not (tmp_path / "model" / "stale.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(("enabled", "rank"), [(False, 0), (True, 1)])
def test_it_can_be_switched_off_and_writes_from_one_process_only(enabled: bool, rank: int, module: Any, tmp_path: Path) -> None:
    export(AdapterExport(enabled=enabled, every_n_epochs=1), module, tmp_path, rank)
    assert not list(tmp_path.iterdir())


def test_a_run_writes_its_adapter_as_it_goes_and_at_the_end_the_merged_model_too(
    adapted: HuggingFacePolicy, fit: Callable[..., Trainer], tmp_path: Path
) -> None:
    class Spy(AdapterExport):
        """Keeps what it wrote after each iteration."""

        written: list[bytes]

        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            super().on_train_epoch_end(trainer, pl_module)
            weights = tmp_path / "out" / "policy" / "adapter_model.safetensors"
            self.written.append(weights.read_bytes() if weights.exists() else b"")

    callback = Spy(path=str(tmp_path / "out" / "policy"), every_n_epochs=2, merged=True, merged_dtype="float32")
    callback.written = []
    learning = Optimization(learning_rate=0.1)
    ppo = PPOModule(adapted, 2, 2, 1, critic="adapter", critic_warmup_iterations=0, optimization=learning, max_new_tokens=4)
    fit(ppo, Say(judge=Arbitrary()), iterations=3, callbacks=[VerifierReward("token", workers=1), callback])
    first, second, third = callback.written
    assert first == b"" != second == third
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["policy", "policy-merged"]
    last = (tmp_path / "out" / "policy" / "adapter_model.safetensors").read_bytes()
    assert last not in (second, b"")
    settings = json.loads((tmp_path / "out" / "policy" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(tmp_path / "base")
    with torch.no_grad():
        wanted = ppo.model.eval()(IDS).logits
        for name in ("policy", "policy-merged"):
            opened = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / name)
            torch.testing.assert_close(opened(IDS).logits, wanted, atol=1e-5, rtol=0)


def test_what_could_not_be_written_is_refused_before_training(module: Any, tmp_path: Path) -> None:
    with pytest.raises(MisconfigurationException, match=r"export: the policy has no adapters to merge"):
        export(AdapterExport(merged=True), module, tmp_path)
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(MisconfigurationException, match=r"export: .* holds no model but other files"):
        export(AdapterExport(path=str(tmp_path)), module, tmp_path)
    with pytest.raises(ValueError, match="every_n_epochs must be at least 1"):
        AdapterExport(every_n_epochs=0)
