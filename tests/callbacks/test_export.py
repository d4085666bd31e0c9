from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from lightning import LightningModule, Trainer
from transformers import AutoModelForCausalLM, AutoTokenizer

from callbacks import AdapterExport
from lit_symbolic.policies.tiny import tiny_llama, tiny_tokenizer


@pytest.fixture
def module() -> Any:
    tokenizer = tiny_tokenizer(["1", "2", "+"])
    return SimpleNamespace(model=tiny_llama(tokenizer, 16, 1, 2, 32), tokenizer=tokenizer)


def export(callback: AdapterExport, module: Any, root: Path) -> None:
    trainer = SimpleNamespace(default_root_dir=str(root), is_global_zero=True)
    callback.on_train_end(cast(Trainer, trainer), cast(LightningModule, module))


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


def test_it_can_be_switched_off(module: Any, tmp_path: Path) -> None:
    export(AdapterExport(enabled=False), module, tmp_path)
    assert not list(tmp_path.iterdir())
