"""Answers that go on with an example of their own: they end where it begins."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Trainer

from callbacks import VerifierReward
from lit_symbolic.cli import TRAINER_DEFAULTS
from lit_symbolic.data import SymbolicDataModule
from lit_symbolic.modules import SFTModule
from lit_symbolic.modules.settings import Evaluation
from lit_symbolic.policies import TinyLlama
from lit_symbolic.rollouts.alignment import AlignedText
from lit_symbolic.rollouts.engine import Generation, SamplingSettings
from lit_symbolic.rollouts.native import NativeEngine
from lit_symbolic.rollouts.stopping import ended_by, shortened
from lit_symbolic.seeding import generator_for
from lit_symbolic.tasks import Task
from lit_symbolic.tasks.game24 import Game24
from lit_symbolic.tasks.molecules import MoleculeGeneration
from lit_symbolic.tasks.pseudocode import PseudocodeToCpp
from lit_symbolic.tasks.reactions import ForwardSynthesis, Retrosynthesis

STOP = "\nMake "
SHOWN: list[type[Any]] = [Game24, MoleculeGeneration, PseudocodeToCpp, ForwardSynthesis, Retrosynthesis]


@given(
    st.text("a \n", max_size=8),
    st.sampled_from(["", "\n", " \n", "\n\n"]),
    st.text("Mab \n", max_size=8),
    st.lists(st.integers(0, 30), max_size=8),
)
def test_what_is_kept_is_the_text_before_and_the_fewest_tokens_that_show_its_end(
    answer: str, blank: str, behind: str, cuts: list[int]
) -> None:
    text = f"{answer}{blank}{STOP}{behind}"
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    spans = tuple(pairwise(places))
    kept = ended_by(STOP, AlignedText(text, spans))
    assert kept is not None
    wanted = text[: text.index(STOP)].rstrip()
    assert kept.text == wanted
    written = [text[start:end] for start, end in spans[: len(kept.spans)]]
    assert "".join(written).startswith(wanted)
    assert len("".join(written)) > len(wanted) >= len("".join(written[:-1]))
    assert "".join(kept.text[start:end] for start, end in kept.spans) == wanted


def test_an_answer_without_the_text_is_left_alone() -> None:
    assert ended_by(STOP, AlignedText("Make 24", ((0, 4), (4, 7)))) is None


def test_rows_that_are_cut_have_ended_and_the_others_stay() -> None:
    ids = torch.arange(1, 13).view(3, 4)
    lengths = torch.tensor([4, 4, 2])
    sampled = Generation(ids, lengths, -ids.float(), torch.tensor([False, False, True]))
    cut = shortened(sampled, {0: 1, 1: 3}, pad_id=0)
    assert cut.ids.tolist() == [[1, 0, 0], [5, 6, 7], [9, 10, 0]]
    assert cut.logprobs.tolist() == [[-1, 0, 0], [-5, -6, -7], [-9, -10, 0]]
    assert (cut.lengths.tolist(), cut.ended.tolist()) == ([1, 3, 2], [True, True, True])
    assert lengths.tolist() == [4, 4, 2]
    assert shortened(sampled, {}, pad_id=0) is sampled


@pytest.mark.parametrize("kind", SHOWN)
def test_prompts_with_worked_examples_show_how_another_one_begins(kind: type[Task]) -> None:
    task: Task = kind(prompt_style="few_shot")  # type: ignore[call-arg]
    prompt = task.problems("test")[0].prompt
    assert prompt.count(task.next_example) >= 3, "the examples and the question"
    assert prompt == prompt.rstrip(" ")
    assert kind().next_example == ""


@pytest.mark.parametrize(("classes", "begins"), [(["3", "4", "5"], "\nClass:"), ([None] * 3, "\nProduct:")])
def test_an_example_of_reactions_begins_with_a_class_only_where_the_data_names_one(
    tmp_path: Path, classes: list[str | None], begins: str
) -> None:
    made = [("CC(=O)Cl.NCC", "CC(=O)NCC"), ("CC(=O)Cl.NCCC", "CC(=O)NCCC"), ("CC(=O)Cl.OCC", "CC(=O)OCC")]
    for split, (reactants, product), kind in zip(("train", "validation", "test"), made, classes, strict=True):
        row = {"reactants": reactants, "product": product} | ({"class": kind} if kind else {})
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n")
    task = Retrosynthesis(data=tmp_path, known_class=True, prompt_style="few_shot")
    assert task.next_example == begins
    assert begins in task.problems("test")[0].prompt


class Scripted(NativeEngine):
    """Answers each prompt with the same texts, which it tells of as they are."""

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__()
        self.texts, self.module = texts, None

    def generate(
        self, model: Any, prompts: Any, samples: int, settings: Any, eos_ids: Any, pad_id: int, *others: Any
    ) -> Generation:
        tokenizer = self.module.tokenizer  # type: ignore[attr-defined]
        rows = [tokenizer(text, add_special_tokens=False)["input_ids"] for _ in prompts for text in self.texts]
        others[1](list(range(len(rows))), rows)
        width = max(map(len, rows))
        return Generation(
            torch.tensor([row + [pad_id] * (width - len(row)) for row in rows]),
            torch.tensor([len(row) for row in rows]),
            torch.zeros(len(rows), width),
            torch.tensor([row[-1] in eos_ids for row in rows]),
        )


@pytest.mark.parametrize("style", ["few_shot", "plain"])
def test_a_model_that_goes_on_with_another_puzzle_has_answered_the_first_one(style: Any) -> None:
    task = Game24(prompt_style=style, strict=False)
    problem = task.problems("test")[0]
    right = problem.reference
    engine = Scripted([f"{right}</s>", f"{right}\n\nMake 24 from 1 2 3 4\n1 + 2 = 3", f"{right}\n\n1 + 2 = 3"])
    module = SFTModule(
        TinyLlama(hidden_size=16, layers=1, heads=2, intermediate_size=16, max_length=512),
        engine=engine,
        max_new_tokens=64,
        evaluation=Evaluation(samples=3),
    )
    engine.module = module  # type: ignore[assignment]
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(callbacks=[VerifierReward(workers=1)], **{**TRAINER_DEFAULTS, **options, "num_sanity_val_steps": 0})  # type: ignore[arg-type]
    trainer.validate(module, datamodule=SymbolicDataModule(task, validation_limit=1), verbose=False)
    rollouts = module.rollout([problem], 3, SamplingSettings(64, 1.0), generator_for(0, "here"))
    first, second, third = rollouts.texts
    assert first == right
    if style == "plain":
        assert second.endswith("1 + 2 = 3")
        assert rollouts.correct.tolist() == [True, False, False]
        return
    assert second == right
    assert rollouts.correct.tolist() == [True, True, False]
    assert rollouts.ended.tolist() == [True, True, False]
    lengths = rollouts.mask.sum(dim=1).tolist()
    assert lengths[1] == lengths[0], "a line break in place of the end-of-sequence token"
    assert rollouts.ids[1, : lengths[1] - 1].tolist() == rollouts.ids[0, : lengths[0] - 1].tolist()
    assert [len(spans) for spans in rollouts.spans] == lengths
    assert third.endswith("1 + 2 = 3")
