from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger
from torch.utils.data import DataLoader

from callbacks.report import TABLE_COLUMNS, HtmlReport, answer_view
from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.rollouts.batch import SampledAnswer

WRONG = Certificate(False, 0.0, (Finding(4, 5, "arithmetic", "1 + 1 is 2"),))
RIGHT = Certificate(True, 1.0)


def sampled(problem: str, text: str, certificate: Certificate = WRONG, ended: bool = True) -> SampledAnswer:
    spans = (*((i, i + 1) for i in range(len(text))), *([(len(text), len(text))] if ended else []))
    rewards = tuple(float(certificate.correct and i == len(text)) for i in range(len(spans)))
    return SampledAnswer(Problem("t", problem, f"<{problem}>"), text, spans, certificate, rewards, (True,) * len(spans), ended)


class Counting(LightningModule):
    """Logs the number of finished iterations, and solves problem ``a`` from the second validation on."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.validation_samples: list[SampledAnswer] = []
        self.validations = 0

    def train_dataloader(self) -> DataLoader:
        return DataLoader(torch.zeros(2, 1))

    def val_dataloader(self) -> DataLoader:
        return DataLoader(torch.zeros(2, 1))

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        self.log("train/success_rate", float(self.current_epoch), on_step=False, on_epoch=True)
        self.log("train/grad", 1.0, on_step=True, on_epoch=True)
        return self.weight.sum()

    def on_train_epoch_end(self) -> None:
        self.log("train/late", 100.0 + self.current_epoch)

    def validation_step(self, batch: torch.Tensor) -> None:
        self.log("val/pass@1", 10.0 + self.current_epoch + (0 if self.trainer.sanity_checking else 1))

    def on_validation_epoch_end(self) -> None:
        first = self.trainer.sanity_checking
        answer = sampled("a", "1+1=3") if first else sampled("a", "1+1=2", RIGHT)
        self.validation_samples = [answer, sampled("a", "second answer to a"), sampled("b", "1+1=3")]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def trainer_for(folder: Path, epochs: int, *callbacks: Any, **options: Any) -> Trainer:
    settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": -1} | options
    return Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        **settings,
    )


def points(report: HtmlReport) -> dict[str, dict[int, float]]:
    return report.state_dict()["points"]


def test_every_figure_stands_at_the_iteration_that_it_measures(tmp_path: Path) -> None:
    report = HtmlReport()
    trainer_for(tmp_path, 3, report).fit(Counting())
    found = points(report)
    assert found["val/pass@1"] == {0: 10.0, 1: 11.0, 2: 12.0, 3: 13.0}
    assert found["train/success_rate"] == {1: 0.0, 2: 1.0, 3: 2.0}
    assert found["train/late"] == {1: 100.0, 2: 101.0, 3: 102.0}
    assert not any(key.endswith(("_step", "_epoch")) for key in found)


def test_a_validation_of_only_some_batches_before_training_gives_answers_but_no_figure(tmp_path: Path) -> None:
    report = HtmlReport()
    trainer_for(tmp_path, 1, report, num_sanity_val_steps=1).fit(Counting())
    assert points(report)["val/pass@1"] == {1: 11.0}
    assert report.state_dict()["before_iteration"] == 0


def test_the_page_shows_the_same_problems_before_and_after(tmp_path: Path) -> None:
    trainer_for(tmp_path, 2, HtmlReport(title="my run")).fit(Counting())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<h1>my run</h1>" in page
    assert "2 problems: 0 solved before training, 1 after iteration 2" in page
    assert "newly solved <span>1," in page
    assert "held-out pass@1, iteration 0 to 2" in page
    assert "second answer" not in page
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_the_page_after_the_last_iteration_holds_that_iterations_training_figures(tmp_path: Path) -> None:
    written: list[str] = []

    class Spy(HtmlReport):
        def _write(self, trainer: Trainer) -> None:
            super()._write(trainer)
            written.append(self.file(trainer).read_text(encoding="utf-8"))

    trainer_for(tmp_path, 1, Spy()).fit(Counting())
    assert "train/success_rate" not in written[0]
    assert "train/success_rate" in written[-2]
    assert "train/late" in written[-1]


def test_a_resumed_run_goes_on_with_its_curves_and_its_first_answers(tmp_path: Path) -> None:
    def keeper() -> ModelCheckpoint:
        return ModelCheckpoint(dirpath=tmp_path / "ckpt", save_last=True, save_top_k=1, enable_version_counter=False)

    trainer_for(tmp_path, 2, HtmlReport(), keeper(), enable_checkpointing=True).fit(Counting())
    resumed = HtmlReport()
    trainer = trainer_for(tmp_path, 4, resumed, keeper(), enable_checkpointing=True)
    trainer.fit(Counting(), ckpt_path=tmp_path / "ckpt" / "last.ckpt", weights_only=True)
    assert points(resumed)["val/pass@1"] == {0: 10.0, 1: 11.0, 2: 12.0, 3: 13.0, 4: 14.0}
    assert list(points(resumed)["train/success_rate"]) == [1, 2, 3, 4]
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "0 solved before training, 1 after iteration 4" in page


def test_the_state_comes_back_as_it_was(tmp_path: Path) -> None:
    report, other = HtmlReport(), HtmlReport()
    trainer_for(tmp_path, 1, report).fit(Counting())
    state = report.state_dict()
    torch.save(state, tmp_path / "state.pt")
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    back = other.state_dict()
    assert back.pop("seconds") == pytest.approx(state.pop("seconds"), abs=1.0)
    assert back == state


def test_at_most_so_many_problems_are_shown(tmp_path: Path) -> None:
    report, none = HtmlReport(max_samples=1), HtmlReport(path=str(tmp_path / "deep" / "none.html"), max_samples=0)
    for callback in (report, none):
        trainer_for(tmp_path, 1, callback).fit(Counting())
    assert list(report.state_dict()["after"]) == ["a"]
    assert "<article>" not in (tmp_path / "deep" / "none.html").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="0 or more, got -1"):
        HtmlReport(max_samples=-1)


def test_validating_alone_leaves_the_page_of_the_training_alone(tmp_path: Path) -> None:
    trainer_for(tmp_path, 1, HtmlReport()).validate(Counting(), verbose=False)
    assert not (tmp_path / "report.html").exists()


def test_a_module_without_answers_gets_its_curves(tmp_path: Path) -> None:
    class Plain(Counting):
        def on_validation_epoch_end(self) -> None:
            del self.validation_samples

        def on_validation_epoch_start(self) -> None:
            self.validation_samples = []

    trainer_for(tmp_path, 1, HtmlReport()).fit(Plain())
    assert "<svg" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_wandb_gets_every_answer_as_a_table_row(tmp_path: Path) -> None:
    tables: list[dict[str, Any]] = []

    class Recorder(WandbLogger):
        def __init__(self) -> None:
            pass

        name = version = save_dir = None  # type: ignore[assignment]

        def log_table(self, **table: Any) -> None:  # type: ignore[override]
            tables.append(table)

        def log_metrics(self, metrics: Any, step: Any = None) -> None: ...

        def log_hyperparams(self, *_: Any) -> None: ...

        def log_graph(self, *_: Any) -> None: ...

        def save(self) -> None: ...

        def finalize(self, status: str) -> None: ...

        def after_save_checkpoint(self, *_: Any) -> None: ...

    trainer_for(tmp_path, 1, HtmlReport(), logger=Recorder()).fit(Counting())
    assert [table["key"] for table in tables] == ["samples", "samples"]
    rows = [dict(zip(table["columns"], table["data"][0], strict=True)) for table in tables]
    assert list(rows[0]) == TABLE_COLUMNS
    assert [(row["iteration"], row["correct"], row["findings"]) for row in rows] == [
        (0, False, "4-5 arithmetic: 1 + 1 is 2"),
        (1, True, ""),
    ]


@given(st.data())
def test_the_tokens_of_an_answer_add_up_to_its_text_and_carry_the_findings_that_touch_them(data: st.DataObject) -> None:
    text = data.draw(st.text(min_size=1, max_size=12))
    place = st.integers(0, len(text))
    starts = sorted(data.draw(st.lists(place, min_size=1, max_size=8)))
    spans = tuple((start, data.draw(st.integers(start, len(text)))) for start in starts)
    first, past = sorted((data.draw(place), data.draw(place)))
    certificate = Certificate(False, 0.0, (Finding(first, past, "k", "m"),))
    answer = SampledAnswer(Problem("t", "p", "q"), text, spans, certificate, (0.0,) * len(spans), (True,) * len(spans), True)
    view = answer_view(answer)
    assert "".join(token.text for token in view.tokens) == text
    for token, (start, end) in zip(view.tokens, spans, strict=True):
        if first < past:
            assert bool(token.findings) == bool(set(range(start, end)) & set(range(first, past)))


def test_a_character_shared_by_several_tokens_is_shown_on_the_first() -> None:
    answer = SampledAnswer(
        Problem("t", "p", "q"), "a€b", ((0, 1), (1, 2), (1, 2), (1, 2), (2, 3)), RIGHT, (0.0,) * 5, (True,) * 5, True
    )
    assert [token.text for token in answer_view(answer).tokens] == ["a", "€", "", "", "b"]


def test_what_is_missing_at_the_end_is_found_on_the_end_token() -> None:
    view = answer_view(sampled("p", "1+", Certificate(False, 0.0, (Finding(2, 2, "syntax", "a number is missing"),))))
    assert [token.findings for token in view.tokens] == [(), (), ("syntax: a number is missing",)]
    assert [token.is_end for token in view.tokens] == [False, False, True]


def test_an_answer_that_did_not_end_is_neither_correct_nor_ended() -> None:
    view = answer_view(sampled("p", "24", RIGHT, ended=False))
    assert (view.correct, view.status) == (False, "cut off")
    assert not any(token.is_end for token in view.tokens)
    assert answer_view(sampled("p", "24", Certificate.without_evidence(Status.TIMEOUT, ""), ended=False)).status == "timeout"
