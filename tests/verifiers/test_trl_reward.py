"""Verifiers as reward functions of TRL."""

from __future__ import annotations

import math
import os
import pickle
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers import as_trl_reward
from lit_symbolic.verifiers.game24 import Game24Verifier
from lit_symbolic.verifiers.pool import VerifierPool

RIGHT, CLOSE, WRONG = "(4 + 8) * (6 - 4)", "4 + 8 = 12 (left: 4 6 12)\n6 - 4 = 2 (left: 2 12)\n", "4"
CARDS = {"cards": [[4, 4, 6, 8]] * 3, "target": [24] * 3}


@dataclass
class InThisProcess(VerifierPool):
    """A pool without processes, which remembers what it was asked."""

    def __post_init__(self) -> None:
        self.asked: list[tuple[Problem, str]] = []

    def verify(self, verifier, items):
        self.asked += list(items)
        return [verifier.verify(problem, text) for problem, text in self.asked[-len(items) :]]

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Words:
    """Correct is ``yes``, no evidence is ``?``; the score is the length of the answer in tens."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        if "?" in text:
            return Certificate.without_evidence(Status.TIMEOUT, "stopped")
        if text == "yes":
            return Certificate(True, 1.0, measures={"length": 3.0})
        return Certificate(False, len(text) / 10, (Finding(0, len(text), "goal", "no"),), {"length": len(text)})


def test_rewards_are_1_for_correct_answers_and_0_for_others_and_columns_are_facts():
    reward = as_trl_reward(Game24Verifier(), pool=VerifierPool(workers=1))
    try:
        assert reward(
            prompts=["p"] * 3, completions=[RIGHT, CLOSE, WRONG], completion_ids=[[1]] * 3, trainer_state=None, **CARDS
        ) == [1, 0, 0]
    finally:
        reward.close()


def test_the_score_or_a_function_of_the_certificate_may_be_paid_instead():
    words = ["yes", "no", "maybe"]
    assert as_trl_reward(Words(), reward="score", pool=InThisProcess())(["p"] * 3, words) == [1.0, 0.2, 0.5]
    by_findings = as_trl_reward(Words(), reward=lambda certificate: -len(certificate.findings), pool=InThisProcess())
    assert by_findings(["p"] * 3, words) == [0.0, -1.0, -1.0]


def test_no_evidence_is_none_and_not_a_bad_reward():
    assert as_trl_reward(Words(), pool=InThisProcess())(["p"] * 2, ["?", "yes"]) == [None, 1.0]


def test_completions_may_be_texts_or_chats():
    pool = InThisProcess()
    chats = [
        [{"role": "assistant", "content": "yes"}],
        [{"role": "assistant", "content": "?"}, {"role": "tool", "content": "x"}, {"role": "assistant", "content": "yes"}],
        [{"role": "assistant", "content": [{"type": "text", "text": "y"}, {"type": "image"}, {"type": "text", "text": "es"}]}],
        [{"role": "assistant", "content": None}],
        [],
        "yes",
    ]
    assert as_trl_reward(Words(), pool=pool)([[{"role": "user", "content": "Say it"}]] * 6, chats) == [1, 1, 1, 0, 0, 1]
    assert {problem.prompt for problem, _ in pool.asked} == {"Say it"}


def test_facts_are_taken_from_columns_by_name_or_by_a_function():
    pool = InThisProcess()
    as_trl_reward(Words(), {"target": "label"}, pool=pool)(["p"], ["yes"], label=[3], other=[4], id=["a"])
    as_trl_reward(Words(), lambda row: {"n": row["label"] + 1, "of": row["prompt"]}, pool=pool)(["p"], ["yes"], label=[3])
    as_trl_reward(Words(), pool=pool)(["p"], ["yes"], label=[3], id=["b"])
    assert [dict(problem.facts) for problem, _ in pool.asked] == [{"target": 3}, {"n": 4, "of": "p"}, {"label": 3}]
    assert [problem.id for problem, _ in pool.asked] == ["a", "", "b"]


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="no column 'label', only 'prompt', 'x'"):
        as_trl_reward(Words(), {"target": "label"}, pool=InThisProcess())(["p"], ["yes"], x=[1])
    with pytest.raises(ValueError, match="column 'x' is a list of 2 entries"):
        as_trl_reward(Words(), pool=InThisProcess())(["p"] * 2, ["yes"] * 2, x=[1])
    with pytest.raises(TypeError, match="verify"):
        as_trl_reward("Game24")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="'correct', 'score'"):
        as_trl_reward(Words(), reward="best")  # type: ignore[arg-type]


def test_measures_and_findings_are_logged_where_trl_asks_for_them():
    metrics, extra = {}, {}
    reward = as_trl_reward(Words(), pool=InThisProcess(), name="words")
    reward(["p"] * 4, ["yes", "?", "no", "no!!!"], log_metric=metrics.__setitem__, log_extra=extra.__setitem__)
    assert metrics == {"words/no_evidence": 0.25, "words/length": pytest.approx(10 / 3)}
    assert extra == {"words/findings": ["", "timeout: stopped", "0-2 goal: no", "0-5 goal: no"]}


def test_it_has_a_name_and_can_be_pickled_and_its_workers_are_reused():
    reward = as_trl_reward(Game24Verifier(), pool=VerifierPool(workers=1))
    try:
        assert reward.__name__ == "Game24Verifier"
        for _ in range(2):
            reward(["p"] * 3, [RIGHT, CLOSE, WRONG], **CARDS)
        assert reward.pool.statistics.restarts == 0
        copy = pickle.loads(pickle.dumps(reward))
        assert copy.__name__ == "Game24Verifier"
        assert copy.verifier.strict
    finally:
        reward.close()


def test_it_is_imported_only_when_it_is_asked_for():
    code = (
        "import sys, lit_symbolic.verifiers as v; print('loky' in sys.modules, v.as_trl_reward.__name__, 'torch' in sys.modules)"
    )
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": root}, check=True
    )
    assert done.stdout == "False as_trl_reward False\n"


# --- with TRL itself ---


@dataclass(frozen=True)
class FirstWord:
    """Correct if the answer begins with the fact ``word``; no evidence if it begins with ``unknown``."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        first = text.split()[0] if text.split() else ""
        if first == "unknown":
            return Certificate.without_evidence(Status.TIMEOUT, "stopped")
        return Certificate(
            first == problem.facts["word"], float(first == problem.facts["word"]), measures={"words": len(text.split())}
        )


def test_trl_s_grpo_trainer_learns_from_a_verifier(tmp_path):
    trl = pytest.importorskip("trl", reason="needs trl (the optional extra trl)")
    datasets = pytest.importorskip("datasets", reason="needs trl (the optional extra trl has datasets)")
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    words = ["<pad>", "<eos>", "say", "red", "green", "blue", "unknown"]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", padding_side="left")
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(words),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            pad_token_id=0,
            eos_token_id=1,
        )
    )
    pool = InThisProcess()
    reward = as_trl_reward(FirstWord(), {"word": "colour"}, pool=pool)
    arguments = trl.GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=16,
        num_generations=16,
        max_completion_length=2,
        max_steps=25,
        learning_rate=0.01,
        logging_steps=1,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        seed=0,
    )
    rows = datasets.Dataset.from_list([{"prompt": f"say {colour}", "colour": colour} for colour in ("red", "red")])
    trainer = trl.GRPOTrainer(model=model, reward_funcs=reward, args=arguments, train_dataset=rows, processing_class=fast)
    trainer.train()
    history = [entry for entry in trainer.state.log_history if "rewards/FirstWord/mean" in entry]
    rewards = [entry["rewards/FirstWord/mean"] for entry in history]
    assert len(rewards) == 25
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.3
    assert all(math.isfinite(entry["loss"]) for entry in history)
    assert all(0 <= entry["FirstWord/words"] <= 2 for entry in history)
    assert any(text.startswith("unknown") for _, text in pool.asked), "no evidence never came up"
    assert any(entry["FirstWord/no_evidence"] > 0 for entry in history)
    assert {problem.prompt for problem, _ in pool.asked} == {"say red"}
    assert all(re.fullmatch("[a-z ]*", text) for _, text in pool.asked)
