"""Supervised fine-tuning: the loss against a plain loop, cut and accumulated as one likes."""

import math
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lit_symbolic.certificate import Problem
from lit_symbolic.modules import SFTModule
from lit_symbolic.modules.minibatches import Minibatch
from lit_symbolic.modules.settings import Optimization
from lit_symbolic.policies import TinyLlama
from tiny import prompt_in, same, weights
from toys import Say

Fit = Callable[..., Trainer]


class PlainSFT(SFTModule):
    """Plain gradient descent: what the weights moved is the gradient."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameter_groups(), lr=self.optimization.learning_rate)


def descent(policy: TinyLlama, rows: int, **options: Any) -> PlainSFT:
    settings = {"demonstrations": 20, "max_new_tokens": 6, "optimization": Optimization(learning_rate=1.0), **options}
    return PlainSFT(policy, minibatch_rows=rows, **settings)


LENGTHS = Say(answers=("a", "b c", "a b c d", "d d d"))


def test_the_loss_is_the_mean_over_the_tokens_of_all_demonstrations(tiny_policy: TinyLlama, fit: Fit) -> None:
    module = descent(tiny_policy, rows=7, optimization=Optimization(learning_rate=1e-9))
    minibatches: list[Minibatch] = []
    collect = module.collect
    module.collect = lambda iteration: minibatches.extend(collect(iteration)) or minibatches  # type: ignore[method-assign,func-returns-value]
    trainer = fit(module, LENGTHS)
    model, tokenizer = module.model.double().eval(), module.tokenizer
    total, count = 0.0, 0
    assert [len(batch["ids"]) for batch in minibatches] == [7, 7, 6]
    for batch in minibatches:
        for row in range(len(batch["ids"])):
            prompt = prompt_in(batch, row)
            answer = batch["ids"][row][batch["mask"][row]].tolist()
            assert prompt == tokenizer("say")["input_ids"]
            assert answer[-1] == tokenizer.eos_token_id
            assert tokenizer.decode(answer[:-1]) in LENGTHS.answers
            with torch.no_grad():
                logprobs = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
            total -= sum(float(logprobs[len(prompt) - 1 + i, word]) for i, word in enumerate(answer))
            count += len(answer)
    assert float(trainer.callback_metrics["train/loss"]) == pytest.approx(total / count, rel=1e-5)


class Excerpts(Say):
    """Shows parts of its problems in supervised fine-tuning."""

    def lesson(self, rng: random.Random) -> Problem:
        return replace(self.sample(rng), prompt="a b")


def test_a_tasks_lessons_are_what_is_shown(tiny_policy: TinyLlama, fit: Fit) -> None:
    module = descent(tiny_policy, rows=20)
    fit(module, Excerpts())
    (minibatch,) = module.collect(0)
    assert {tuple(prompt_in(minibatch, row)) for row in range(20)} == {tuple(module.tokenizer("a b")["input_ids"])}


@pytest.mark.parametrize("rows", [10, 4, 3])
def test_accumulating_over_minibatches_equals_one_large_minibatch(rows: int, tiny_policy: TinyLlama, fit: Fit) -> None:
    accumulate = math.ceil(20 / rows)
    whole, parts = descent(tiny_policy, rows=20), descent(tiny_policy, rows=rows)
    for module, every in ((whole, 1), (parts, accumulate)):
        trainer = fit(module, LENGTHS, accumulate_grad_batches=every)
        assert trainer.global_step == 1
    check_close(weights(whole), weights(parts))


def test_cut_by_tokens_it_learns_from_every_demonstration_once(tiny_policy: TinyLlama, fit: Fit) -> None:
    whole, parts = descent(tiny_policy, rows=20), descent(tiny_policy, rows=20, minibatch_tokens=32)
    fit(whole, LENGTHS)
    trainer = fit(parts, LENGTHS, accumulate_grad_batches=99)
    assert trainer.global_step == 1
    assert trainer.fit_loop.epoch_loop.batch_progress.current.completed > 3
    check_close(weights(whole), weights(parts))


def test_a_last_step_with_fewer_minibatches_is_weighted_right(tiny_policy: TinyLlama, fit: Fit) -> None:
    # Steps of 8, 8 and 4 demonstrations both ways; Lightning divides the last by two where it holds one minibatch.
    ends = []
    for rows, every in ((8, 1), (4, 2)):
        module = descent(tiny_policy, rows=rows)
        assert fit(module, LENGTHS, accumulate_grad_batches=every).global_step == 3
        ends.append(weights(module))
    check_close(*ends)


def check_close(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


def test_gradients_are_clipped(tiny_policy: TinyLlama, fit: Fit) -> None:
    module = descent(tiny_policy, rows=20)
    model, _ = tiny_policy.load(Say().vocabulary())
    before = weights(model)
    fit(module, LENGTHS, gradient_clip_val=0.01)
    moved = {name: module.model.state_dict()[name] - value for name, value in before.items() if name != "lm_head.weight"}
    norm = math.sqrt(sum(float(change.double().square().sum()) for change in moved.values()))
    assert norm == pytest.approx(0.01, rel=1e-3)


@pytest.mark.parametrize("precision", ["bf16-mixed", "32-true", "64-true"])
def test_it_learns_under_every_precision_of_a_cpu(precision: str, tiny_policy: TinyLlama, fit: Fit) -> None:
    module = SFTModule(tiny_policy, demonstrations=64, max_new_tokens=6, minibatch_rows=16, optimization=Optimization(3e-2))
    trainer = fit(module, Say(answers=("c",)), iterations=6, precision=precision)
    assert float(trainer.callback_metrics["train/loss"]) < 0.2


def test_it_imitates_the_demonstrations(tiny_policy: TinyLlama, fit: Fit) -> None:
    module = SFTModule(tiny_policy, demonstrations=64, max_new_tokens=6, minibatch_rows=16, optimization=Optimization(3e-2))
    trainer = fit(module, Say(answers=("c",)), iterations=8, limit_val_batches=1, check_val_every_n_epoch=8)
    assert float(trainer.callback_metrics["val/success_rate"]) > 0.9


def test_both_optimizers_learn_and_repeat_themselves(tiny_policy: TinyLlama, fit: Fit) -> None:
    for optimizer in ("adamw", "muon"):
        ends = []
        for _ in range(2):
            settings = Optimization(learning_rate=3e-2, optimizer=optimizer)  # type: ignore[arg-type]
            module = SFTModule(tiny_policy, demonstrations=64, max_new_tokens=6, minibatch_rows=16, optimization=settings)
            trainer = fit(module, Say(answers=("c",)), iterations=4)
            ends.append(weights(module))
        assert float(trainer.callback_metrics["train/loss"]) < 0.5
        assert same(*ends)


def test_a_demonstration_longer_than_an_answer_may_be_is_refused(tiny_policy: TinyLlama, fit: Fit) -> None:
    with pytest.raises((ValueError, MisconfigurationException), match="raise it, or no answer could ever end"):
        fit(SFTModule(tiny_policy, demonstrations=8, max_new_tokens=4), LENGTHS)


def test_a_folder_with_the_trained_policy_opens_anywhere(tiny_policy: TinyLlama, fit: Fit, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    module = SFTModule(tiny_policy, demonstrations=8, max_new_tokens=6)
    fit(module, Say())
    module.model.save_pretrained(tmp_path)
    module.tokenizer.save_pretrained(tmp_path)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    prompt = torch.tensor([tokenizer("say")["input_ids"]])
    ours, theirs = (m.eval()(input_ids=prompt).logits for m in (module.model, model))
    assert torch.equal(ours, theirs)
