"""Searches in validation, test and predict: what the tool rules out is not gone on with, and costs are counted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import RewardCallback, VerifierReward
from engine_checks import exact_logprobs
from lit_symbolic.cli import TRAINER_DEFAULTS
from lit_symbolic.data import SymbolicDataModule
from lit_symbolic.decoding import TreeOfThoughts
from lit_symbolic.modules import SFTModule, SymbolicModule
from lit_symbolic.modules.settings import Evaluation
from lit_symbolic.policies import TinyLlama
from lit_symbolic.policies.tiny import task_tokenizer
from lit_symbolic.rollouts.batch import SampledAnswer
from lit_symbolic.rollouts.engine import SamplingSettings
from lit_symbolic.seeding import generator_for
from lit_symbolic.tasks import Task
from lit_symbolic.vocabulary import LearnedVocabulary, Vocabulary
from scripted import Script, ScriptedEngine
from tiny import tiny_args
from toys import Climb, FailsAsTold, Say

QUIET: dict[str, Any] = {
    **TRAINER_DEFAULTS,
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
}


class Written(Climb):
    """With a tokenizer whose tokens hold a line break with what stands beside it."""

    def vocabulary(self) -> Vocabulary:
        return LearnedVocabulary(["a\nb\nc", "x\nb\nc", "a\nx"] * 9, r"[\s\S]+", 268)


def answered(
    task: Task, script: Script, policy: TinyLlama, samples: int = 1, callback: RewardCallback | None = None, **search: Any
) -> tuple[list[SampledAnswer], dict[str, float], ScriptedEngine]:
    """The answers to the test split's problems, and what was logged about them."""
    engine = ScriptedEngine(script, task_tokenizer(task.vocabulary()))
    evaluation = Evaluation(samples=samples, pass_at=(1,), search=TreeOfThoughts(**search))
    module = SFTModule(policy, max_new_tokens=12, evaluation=evaluation, engine=engine)
    trainer = Trainer(callbacks=[callback or VerifierReward(workers=1)], **QUIET)
    trainer.test(module, datamodule=SymbolicDataModule(task), verbose=False)
    logged = {name.removeprefix("test/"): float(value) for name, value in trainer.callback_metrics.items()}
    batches = trainer.predict(module, datamodule=SymbolicDataModule(task))
    assert batches is not None
    return [answer for batch in batches for answer in batch], logged, engine


def by_line(*lines: tuple[str, ...]) -> Script:
    """Proposals of each line, by the number of lines that stand already."""
    return lambda text, sample: lines[text.count("\n")][sample]


@pytest.mark.parametrize("task", [Climb(count=2), Written(count=2)], ids=["words", "bytes"])
def test_the_tool_discards_steps_with_a_finding_and_certifies_the_answer(task: Task, tiny_policy: TinyLlama) -> None:
    script = by_line(("x\n", "a\n"), ("b\n", "x\n"), ("x", "c"))
    answers, logged, _ = answered(task, script, tiny_policy, proposals=2, keep=2)
    assert [answer.text for answer in answers] == ["a\nb\nc"] * 2
    assert all(answer.certificate.correct and answer.ended for answer in answers)
    assert logged["success_rate"] == logged["pass@1"] == logged["end_rate"] == 1.0
    assert (logged["spent/samples"], logged["spent/tool_calls"]) == (6, 6)
    assert (logged["spent/model_calls"], logged["spent/dead_ends"]) == (0, 0)


def test_a_step_that_begins_in_the_token_that_ends_the_last_one_is_not_judged_before_it_is_whole(tiny_policy: TinyLlama) -> None:
    seen: list[str] = []

    class Watched(Written):
        def ruled_out(self, problem: Any, beginning: str, certificate: Any) -> bool:
            seen.append(beginning)
            return super().ruled_out(problem, beginning, certificate)

    task = Watched(count=1)
    answers, _, engine = answered(
        task, lambda text, sample: "a\nb\nc"[len(text) - len("say") :], tiny_policy, proposals=1, keep=1
    )
    assert [answer.text for answer in answers] == ["a\nb\nc"]
    assert any(not text.endswith("\n") for call in engine.asked[1:] for text in call), "a beginning ends within a line"
    assert seen
    assert all(text.endswith("\n") for text in seen)


def test_without_a_way_on_the_search_ends_and_its_answer_is_wrong(tiny_policy: TinyLlama) -> None:
    answers, logged, engine = answered(Climb(count=1), by_line(("x\n", "d\n")), tiny_policy, proposals=2, keep=2)
    assert [(answer.text.strip(), answer.ended) for answer in answers] == [("x", False)]
    assert (logged["success_rate"], logged["end_rate"], logged["spent/dead_ends"]) == (0, 0, 1)
    assert len(engine.asked) == 2, "one round in test, one in predict"


def test_the_models_likeliest_step_wins_where_the_tool_is_not_asked(tiny_policy: TinyLlama) -> None:
    table = {
        0: (("x\n", -0.1), ("a\n", -0.5), ("d\n", -2.0)),
        1: (("b\n", -0.3), ("x\n", -0.6), ("d\n", -0.4)),
        2: (("c", -1.0),) * 3,
    }

    def script(text: str, sample: int) -> tuple[str, float]:
        return table[text.count("\n")][sample]

    answers, logged, _ = answered(Climb(count=1), script, tiny_policy, proposals=3, keep=1, judge="model")
    assert answers[0].text == "x\nb\nc"
    assert (logged["success_rate"], logged["spent/tool_calls"], logged["spent/model_calls"]) == (0, 0, 0)
    answers, logged, _ = answered(Climb(count=1), script, tiny_policy, proposals=3, keep=1, judge="both")
    assert answers[0].text == "a\nb\nc"
    assert logged["spent/tool_calls"] == 3 + 3 + 1


def test_the_model_can_be_asked_for_its_verdict(tiny_policy: TinyLlama) -> None:
    answers, logged, _ = answered(
        Climb(count=1),
        by_line(("a\n", "x\n"), ("b\n", "x\n"), ("c", "x")),
        tiny_policy,
        proposals=2,
        keep=1,
        judge="both",
        opinion="verdict",
    )
    assert answers[0].text == "a\nb\nc"
    assert (logged["spent/tool_calls"], logged["spent/model_calls"]) == (6, 2)


def test_each_sample_of_a_problem_is_a_search_of_its_own(tiny_policy: TinyLlama) -> None:
    answers, logged, engine = answered(
        Climb(count=2), by_line(("x\n", "a\n"), ("b\n", "b\n"), ("c", "c")), tiny_policy, samples=3, proposals=2
    )
    assert len(answers) == 6
    assert len(engine.asked[0]) == 6
    assert logged["spent/samples"] == 6


def test_a_tool_that_comes_to_no_end_discards_nothing(tiny_policy: TinyLlama) -> None:
    class Stuck(Climb):
        def problems(self, split: Any) -> Any:
            return [*super().problems("train")]

    task = Stuck(count=1, judge=FailsAsTold(), faults=("crash",))
    answers, logged, _ = answered(task, by_line(("a\n", "b\n"), ("b\n", "b\n"), ("c", "c")), tiny_policy, proposals=2)
    assert (answers[0].text, answers[0].ended) == ("a\nb\nc", True)
    assert (logged["no_evidence_count"], logged["spent/dead_ends"]) == (1, 0)


def test_tasks_without_steps_and_other_callbacks_are_refused(tiny_policy: TinyLlama) -> None:
    class Other(RewardCallback):
        def on_rollouts(self, *_: object) -> None: ...

    with pytest.raises(MisconfigurationException, match=r"Task\.step_end"):
        answered(Say(), by_line(("a",)), tiny_policy, proposals=1)
    with pytest.raises(MisconfigurationException, match="Other is no VerifierReward"):
        answered(Climb(), by_line(("a",)), tiny_policy, callback=Other("other", primary=True), proposals=1)
    with pytest.raises(ValueError, match=r"the same at evaluation\.temperature 0"):
        Evaluation(temperature=0.0, search=TreeOfThoughts())


# ---------------------------------------------------------------- with a model


def test_searched_answers_are_the_policys_own_with_their_log_probs(tiny_policy: TinyLlama) -> None:
    module = SFTModule(tiny_policy, max_new_tokens=9, evaluation=Evaluation(samples=2))
    task = Climb(count=3)
    trainer = Trainer(callbacks=[VerifierReward(workers=1)], **QUIET)
    trainer.validate(module, datamodule=SymbolicDataModule(task), verbose=False)
    problems, found = task.problems("test"), []
    for judge in ("model", "both", "model"):
        search = TreeOfThoughts(proposals=3, keep=2, judge=judge)  # type: ignore[arg-type]
        rollouts = module.rollout(problems, 2, SamplingSettings(9, 1.0), generator_for(0, "search"), search)
        found.append(rollouts.ids)
        for row, length in enumerate(rollouts.mask.sum(dim=1).tolist()):
            prompt = rollouts.prompt_ids[row][rollouts.prompt_mask[row]].tolist()
            expected = exact_logprobs(module.model, prompt, rollouts.ids[row, :length].tolist())
            torch.testing.assert_close(rollouts.logprobs[row, :length], expected.detach(), atol=1e-4, rtol=0)
            assert rollouts.ended[row] == (int(rollouts.ids[row, length - 1]) == module.tokenizer.eos_token_id)
        assert rollouts.spent["samples"].min() >= 3
    assert torch.equal(found[0], found[2]), "the same seed finds the same"


def test_a_search_is_chosen_on_the_command_line(run_cli: Any, sft_checkpoint: Path, tmp_path: Path) -> None:
    flags = ["--model.evaluation.search.proposals=2", "--model.evaluation.search.keep=1", "--model.evaluation.search.judge=both"]
    more = ["--model.evaluation.samples=2", "--model.evaluation.attempts=2", f"--ckpt_path={sft_checkpoint}"]
    cli = run_cli(tiny_args("sft", tmp_path, *flags, *more, subcommand="test"))
    module: SymbolicModule = cli.model
    assert module.evaluation.search == TreeOfThoughts(2, 1, "both")
    logged = {name: float(value) for name, value in cli.trainer.callback_metrics.items()}
    assert logged["test/attempt_1/spent/samples"] >= 2
    assert logged["test/spent/tool_calls"] > 0
    assert logged["test/attempt_1/answers"] == 8
