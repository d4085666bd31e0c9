import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from lightning import Trainer

from callbacks.predictions import PredictionWriter, as_record
from callbacks.reward import VerifierReward
from lit_symbolic.certificate import Certificate, Finding, Problem
from lit_symbolic.data import SymbolicDataModule
from lit_symbolic.modules import SFTModule
from lit_symbolic.modules.settings import Evaluation
from lit_symbolic.policies import TinyLlama
from lit_symbolic.rollouts.batch import SampledAnswer
from toys import Arbitrary, Say

POLICY = TinyLlama(hidden_size=16, layers=1, heads=2, intermediate_size=32, max_length=256, seed=0)


def predict(folder: Path, writer: PredictionWriter, **task: Any) -> list[SampledAnswer]:
    module = SFTModule(POLICY, max_new_tokens=4, evaluation=Evaluation(samples=2, pass_at=(1,), attempts=2))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(callbacks=[VerifierReward(workers=1), writer], default_root_dir=folder, **quiet)
    batches = trainer.predict(module, datamodule=SymbolicDataModule(Say(**task), evaluation_batch=2))
    assert batches is not None
    return [answer for batch in batches for answer in batch]


def test_every_answer_is_a_line_with_its_certificate_and_earlier_attempts(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "predictions.jsonl").write_text("of another run\n")
    answers = predict(tmp_path, PredictionWriter(), judge=Arbitrary(), count=5)
    lines = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert len(lines) == len(answers) == 10
    for line, answer in zip(lines, answers, strict=True):
        assert (line["task"], line["id"], line["prompt"]) == ("say", answer.problem.id, answer.problem.prompt)
        assert (line["answer"], line["ended"], line["score"]) == (answer.text, answer.ended, answer.certificate.score)
        told = tuple(Finding(**finding) for finding in line["findings"])
        assert told == answer.certificate.findings
        assert [tuple(span) for span in line["token_spans"]] == list(answer.spans)
        assert line["token_rewards"] == pytest.approx(list(answer.rewards))
        assert [before["answer"] for before in line["earlier"]] == [before.text for before in answer.earlier]
    assert any(line["earlier"] for line in lines), "nothing here is right, and what fits into the context is asked again"
    correct = sum(line["correct"] for line in lines)
    assert f"10 answers, {correct} of them correct: {tmp_path / 'predictions.jsonl'}" in capsys.readouterr().out


def test_right_is_what_is_certified_and_ended_and_numbers_that_json_lacks_are_null() -> None:
    certificate = Certificate(True, 1.0, measures={"perplexity": math.inf, "validity": 1.0})
    answer = SampledAnswer(Problem("t", "0", "?"), "a", ((0, 1),), certificate, (1.0,), (True,), ended=False)
    record = as_record(answer)
    assert record["correct"] is False
    assert record["measures"] == {"perplexity": None, "validity": 1.0}
    assert json.loads(json.dumps(record, allow_nan=False)) == record


def test_each_of_several_processes_writes_its_own_file(tmp_path: Path) -> None:
    trainer = cast(Trainer, SimpleNamespace(default_root_dir=str(tmp_path), world_size=2, global_rank=1))
    assert PredictionWriter().file(trainer) == tmp_path / "predictions-1.jsonl"
    assert PredictionWriter(str(tmp_path / "a" / "b.jsonl")).file(trainer) == tmp_path / "a" / "b-1.jsonl"
