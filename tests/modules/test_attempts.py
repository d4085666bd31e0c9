"""Second attempts: what the verifier refused is asked for again with its findings, and each attempt is reported apart."""

from pathlib import Path
from typing import Any

import pytest
from lightning import Trainer

from architectures import save_architecture
from callbacks import VerifierReward
from lit_symbolic.cli import TRAINER_DEFAULTS
from lit_symbolic.data import SymbolicDataModule
from lit_symbolic.modules import PPOModule, SFTModule, SymbolicModule
from lit_symbolic.modules.settings import Evaluation
from lit_symbolic.policies import HuggingFacePolicy, Lora, TinyLlama
from lit_symbolic.policies.tiny import task_tokenizer, tiny_tokenizer
from lit_symbolic.rollouts.batch import SampledAnswer
from scripted import Script, ScriptedEngine
from toys import DiesOn, FailsAsTold, Say

QUIET: dict[str, Any] = {
    **TRAINER_DEFAULTS,
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
}
# Words of the second prompt, so that a tokenizer of words can show it.
WORDS = Say(
    answers=(
        "a",
        "b",
        "c",
        "d",
        "This answer is wrong. What was found in the whole answer: it: The corrected line 1, - another word belongs here",
    )
)


class Talking(Say):
    def vocabulary(self) -> Any:
        return WORDS.vocabulary()


def run(
    script: Script, task: Say, policy: TinyLlama, attempts: int, samples: int = 1, max_new_tokens: int = 6, kind: Any = SFTModule
) -> tuple[list[SampledAnswer], dict[str, float], ScriptedEngine]:
    engine = ScriptedEngine(script, task_tokenizer(task.vocabulary()))
    evaluation = Evaluation(samples=samples, pass_at=(1, samples), attempts=attempts)
    module: SymbolicModule = kind(policy, max_new_tokens=max_new_tokens, evaluation=evaluation, engine=engine)
    trainer = Trainer(callbacks=[VerifierReward(workers=1)], **QUIET)
    trainer.test(module, datamodule=SymbolicDataModule(task), verbose=False)
    logged = {name.removeprefix("test/"): float(value) for name, value in trainer.callback_metrics.items()}
    engine.asked.clear()
    batches = trainer.predict(module, datamodule=SymbolicDataModule(task))
    assert batches is not None
    return [answer for batch in batches for answer in batch], logged, engine


def mends(text: str, sample: int) -> str:
    """Right at once for every second sample; else wrong, wrong again in another way, then right."""
    if sample % 2:
        return "c"
    return ("a", "b", "c")[text.count("wrong")]


@pytest.fixture(scope="module")
def policy() -> TinyLlama:
    return TinyLlama(hidden_size=16, layers=1, heads=2, intermediate_size=32, max_length=256, seed=0)


@pytest.mark.parametrize("kind", [SFTModule, PPOModule])
def test_what_was_refused_is_asked_for_again_with_its_findings(policy: TinyLlama, kind: Any) -> None:
    answers, logged, engine = run(mends, Talking(count=3), policy, attempts=3, samples=2, kind=kind)
    assert [len(call) for call in engine.asked] == [3, 3, 3], "problems first, then their refused answers"
    assert engine.asked[0] == ["say"] * 3
    assert engine.asked[1][0].startswith(
        "say\na\n\nThis answer is wrong. What was found in it:\n- in the whole answer: another word"
    )
    assert engine.asked[2][0].count("wrong") == 2, "the third attempt is told of both others"
    assert [answer.text for answer in answers] == ["c"] * 6
    assert [[before.text for before in answer.earlier] for answer in answers] == [["a", "b"], []] * 3
    assert all(not before.certificate.correct and not before.earlier for answer in answers for before in answer.earlier)
    assert (logged["success_rate"], logged["pass@1"], logged["pass@2"]) == (1.0, 1.0, 1.0)
    assert [logged[f"attempt_{k}/success_rate"] for k in (1, 2, 3)] == [0.5, 0.0, 1.0]
    assert [logged[f"attempt_{k}/answers"] for k in (1, 2, 3)] == [6, 3, 3]
    assert logged["attempt_1/pass@2"] == 1.0
    assert logged["spent/samples"] == logged["spent/tool_calls"] == (6 + 3 + 3) / 6
    assert logged["spent/tokens"] == pytest.approx(2 * logged["spent/samples"]), "a word and the end"


def test_an_answer_that_stays_wrong_counts_as_the_last_attempt_gave_it(policy: TinyLlama) -> None:
    answers, logged, _ = run(lambda text, sample: "a b"[: 1 + 2 * text.count("wrong")], Talking(count=2), policy, attempts=2)
    assert [(answer.text, answer.earlier[0].text) for answer in answers] == [("a b", "a")] * 2
    assert (logged["success_rate"], logged["mean_length"], logged["attempt_1/mean_length"]) == (0.0, 3.0, 2.0)


def test_one_attempt_reports_nothing_of_attempts(policy: TinyLlama) -> None:
    answers, logged, engine = run(mends, Talking(count=2), policy, attempts=1)
    assert len(engine.asked) == 1
    assert all(not answer.earlier for answer in answers)
    assert not [name for name in logged if "attempt" in name or "spent" in name]


def test_where_all_is_right_nobody_is_asked_again(policy: TinyLlama) -> None:
    _, logged, engine = run(lambda text, sample: "c", Talking(count=2), policy, attempts=2)
    assert len(engine.asked) == 1
    assert (logged["attempt_1/success_rate"], logged["attempt_2/answers"]) == (1.0, 0.0)
    assert "attempt_2/success_rate" not in logged


def test_an_answer_that_was_cut_off_is_told_so(policy: TinyLlama) -> None:
    said: list[str] = []

    class Listening(Talking):
        def second_prompt(self, problem: Any, answer: str, certificate: Any) -> str:
            said.append(super().second_prompt(problem, answer, certificate))
            return said[-1]

    answers, logged, _ = run(
        lambda text, sample: "c" if "wrong" in text else "c…", Listening(count=1), policy, attempts=2, max_new_tokens=1
    )
    assert (answers[0].text, answers[0].ended) == ("c", False)
    assert "- at the end: the answer was cut off here" in said[0]
    assert logged["success_rate"] == 0.0


def test_an_answer_without_evidence_is_not_asked_for_again(policy: TinyLlama) -> None:
    class Faulty(Talking):
        def problems(self, split: Any) -> Any:
            return super().problems("train")

    task = Faulty(count=2, judge=FailsAsTold(), faults=("crash",))
    _, logged, _ = run(lambda text, sample: "a", task, policy, attempts=2)
    assert (logged["attempt_1/answers"], logged["attempt_2/answers"], logged["no_evidence_count"]) == (2, 1, 1)


def test_an_attempt_about_which_nothing_is_known_leaves_the_refused_answer_standing(policy: TinyLlama) -> None:
    task = Talking(count=3, judge=DiesOn("d"))
    answers, logged, _ = run(lambda text, sample: "d" if "wrong" in text else "ca"[sample], task, policy, attempts=3, samples=2)
    assert [answer.text for answer in answers] == ["c", "a"] * 3
    assert [[other.text for other in answer.earlier] for answer in answers] == [[], ["d", "d"]] * 3
    assert (logged["success_rate"], logged["pass@1"], logged["pass@2"], logged["no_evidence_count"]) == (0.5, 0.5, 1.0, 0.0)
    assert [logged[f"attempt_{k}/answers"] for k in (1, 2, 3)] == [6, 3, 3]
    assert [logged[f"attempt_{k}/no_evidence_count"] for k in (1, 2, 3)] == [0, 3, 3]
    assert logged["spent/samples"] == (6 + 3 + 3) / 6


def test_a_second_prompt_that_does_not_fit_is_counted_and_the_first_answer_stands() -> None:
    small = TinyLlama(hidden_size=16, layers=1, heads=2, intermediate_size=32, max_length=16, seed=0)
    answers, logged, engine = run(mends, Talking(count=2), small, attempts=2)
    assert len(engine.asked) == 1
    assert [answer.text for answer in answers] == ["a"] * 2
    assert (logged["attempt_1/too_long_to_ask_again"], logged["attempt_2/answers"]) == (2.0, 0.0)


def test_a_chat_model_is_asked_again_through_its_template(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer([*WORDS.vocabulary(), "user", "assistant", ":"])  # type: ignore[list-item]
    tokenizer.chat_template = (
        "{{ bos_token }}{% for message in messages %}{{ message['role'] }} : {{ message['content'] }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}assistant :{% endif %}"
    )
    policy = HuggingFacePolicy(str(save_architecture("llama", tmp_path, tokenizer)), lora=Lora(r=2), dtype="float32")
    engine = ScriptedEngine(mends, tokenizer)
    module = SFTModule(
        policy, chat=True, max_new_tokens=2, evaluation=Evaluation(samples=1, pass_at=(1,), attempts=2), engine=engine
    )
    trainer = Trainer(callbacks=[VerifierReward(workers=1)], **QUIET)
    trainer.test(module, datamodule=SymbolicDataModule(Talking(count=1)), verbose=False)
    second = tokenizer.convert_ids_to_tokens(engine.prompts[1][0])
    assert second[:6] == ["<s>", "user", ":", "say", "\n", "a"]
    assert second[-3:] == ["</s>", "assistant", ":"]
    assert {"wrong.", "corrected"} <= set(second)
