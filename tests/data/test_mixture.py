"""Several tasks as one: each problem keeps its own task's verifier, demonstration and second prompt, and weights are kept."""

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.data import SymbolicDataModule, TaskMixture
from lit_symbolic.policies.tiny import task_tokenizer
from lit_symbolic.tasks import Split, Task
from lit_symbolic.vocabulary import LearnedVocabulary, Vocabulary
from toys import FindsWord, Say


@dataclass
class Tell(Say):
    """The same under another name."""

    name = "tell"
    metrics = ("volume", "pitch")

    def problems(self, split: Split) -> Sequence[Problem]:
        return [replace(problem, task="tell") for problem in super().problems(split)]

    def lesson(self, rng: random.Random) -> Problem:
        return replace(self.sample(rng), id="lesson")

    def second_prompt(self, problem: Problem, answer: str, certificate: Certificate) -> str:
        return f"again: {answer}"


class Written(Say):
    """With texts to learn a tokenizer from instead of words."""

    def __init__(self, name: str, texts: Sequence[str], pieces: str) -> None:
        super().__init__()
        self.name, self.texts, self.pieces = name, texts, pieces

    def vocabulary(self) -> Vocabulary:
        return LearnedVocabulary(self.texts, self.pieces, 280)


def test_training_problems_come_by_weight() -> None:
    mixture, rng = TaskMixture([Say(), Tell()], [1.0, 3.0]), random.Random(0)
    drawn = Counter(mixture.sample(rng).task for _ in range(4_000))
    assert drawn["tell"] / 4_000 == pytest.approx(0.75, abs=0.03)
    rng = random.Random(0)
    equal = Counter(TaskMixture([Say(), Tell()]).sample(rng).task for _ in range(4_000))
    assert equal["tell"] / 4_000 == pytest.approx(0.5, abs=0.03)


def test_lessons_come_by_weight_from_each_tasks_own() -> None:
    mixture, rng = TaskMixture([Say(), Tell()], [1.0, 3.0]), random.Random(0)
    drawn = Counter((problem.task, problem.id == "lesson") for problem in (mixture.lesson(rng) for _ in range(4_000)))
    assert set(drawn) == {("say", False), ("tell", True)}
    assert drawn["tell", True] / 4_000 == pytest.approx(0.75, abs=0.03)


def test_a_task_of_weight_zero_is_evaluated_and_never_trained_on() -> None:
    mixture, rng = TaskMixture([Say(), Tell()], [1, 0]), random.Random(0)
    assert {mixture.sample(rng).task for _ in range(300)} == {"say"}
    assert {problem.task for problem in mixture.problems("test")} == {"say", "tell"}


def test_the_same_seed_draws_the_same_problems() -> None:
    mixture = TaskMixture([Say(), Tell()])
    draws = [[mixture.sample(random.Random(seed)).id for seed in range(20)] for _ in range(2)]
    assert draws[0] == draws[1]


def test_splits_hold_the_problems_of_all_tasks_in_their_order() -> None:
    say, tell = Say(count=2), Tell(count=3)
    for split in ("train", "validation", "test"):
        assert TaskMixture([say, tell]).problems(split) == [*say.problems(split), *tell.problems(split)]


def test_each_problem_has_its_own_tasks_verifier_demonstration_and_second_prompt() -> None:
    say, tell = Say(answers=("a",)), Tell(answers=("b",), judge=FindsWord(0))
    mixture, certificate = TaskMixture([say, tell]), Certificate(False, 0.0)
    ours, theirs = say.problems("test")[0], tell.problems("test")[0]
    assert mixture.verifier_of(ours) == say.judge
    assert mixture.verifier_of(theirs) == tell.judge
    rng = random.Random(0)
    assert (mixture.demonstration(ours, rng), mixture.demonstration(theirs, rng)) == ("a", "b")
    assert mixture.second_prompt(theirs, "b", certificate) == "again: b"
    assert mixture.second_prompt(ours, "b", certificate) == say.second_prompt(ours, "b", certificate)
    with pytest.raises(ValueError, match="verifier_of"):
        _ = mixture.verifier


def test_metrics_are_those_of_all_tasks_each_once() -> None:
    class Shout(Tell):
        name = "shout"
        metrics = ("pitch", "reach")

    assert TaskMixture([Say(), Tell(), Shout()]).metrics == ("volume", "pitch", "reach")


@pytest.mark.parametrize(
    ("tasks", "weights", "message"),
    [
        ([], None, "a mixture needs tasks"),
        ([Say(), Say()], None, "names differ, got say, say"),
        ([Say(), Tell()], [1.0], "a finite weight for each of say, tell"),
        ([Say(), Tell()], [1.0, -1.0], "none negative"),
        ([Say(), Tell()], [0.0, 0.0], "a finite weight for each"),
        ([Say(), Tell()], [math.nan, 1.0], "a finite weight for each"),
        ([Say(), Tell()], [math.inf, 1.0], "a finite weight for each"),
    ],
)
def test_tasks_and_weights_that_do_not_fit_are_refused(tasks: list[Task], weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskMixture(tasks, weights)


def test_two_sources_of_one_task_are_mixed_under_names_of_their_own() -> None:
    one, other = Say(answers=("a",), count=3), Say(answers=("b",), count=5, judge=FindsWord(0))
    mixture = TaskMixture([one, other], [1.0, 3.0], ["first", "second"])
    assert [problem.task for problem in mixture.problems("test")] == ["first"] * 3 + ["second"] * 5
    assert [problem.prompt for problem in mixture.problems("test")] == [
        p.prompt for t in (one, other) for p in t.problems("test")
    ]
    rng = random.Random(0)
    drawn = [mixture.lesson(rng) for _ in range(400)] + [mixture.sample(rng) for _ in range(400)]
    assert 540 < sum(problem.task == "second" for problem in drawn) < 660
    assert {(p.task, mixture.demonstration(p, rng), mixture.task_of(p) is other) for p in drawn} == {
        ("first", "a", False),
        ("second", "b", True),
    }
    assert mixture.verifier_of(mixture.problems("test")[-1]) == other.judge


@pytest.mark.parametrize(
    ("names", "message"),
    [(["one"], "2 tasks and 1 names"), (["one", "one"], "names differ, got one, one: give them others with names")],
)
def test_names_that_do_not_fit_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TaskMixture([Say(), Tell()], names=names)


def test_words_of_all_tasks_make_one_vocabulary() -> None:
    mixture = TaskMixture([Say(answers=("a", "c")), Tell(answers=("x",))])
    assert set(mixture.vocabulary()) == {"a", "c", "say", "x"}  # type: ignore[arg-type]


def test_texts_of_all_tasks_make_one_tokenizer_that_keeps_every_tasks_borders() -> None:
    letters, digits = Written("letters", ["abab abab"] * 5, "[a-z]{2}"), Written("digits", ["1212 1212"] * 5, r"\d|[\s\S]")
    vocabulary = TaskMixture([letters, digits]).vocabulary()
    assert isinstance(vocabulary, LearnedVocabulary)
    assert (vocabulary.size, len(vocabulary.texts)) == (560, 10)
    tokenizer = task_tokenizer(vocabulary)
    assert tokenizer.tokenize("abab12") == ["ab", "ab", "1", "2"]


def test_words_and_texts_together_are_refused() -> None:
    with pytest.raises(ValueError, match="words or tasks with texts, not both"):
        TaskMixture([Tell(), Written("letters", ["ab"], "[a-z]+")]).vocabulary()


def test_the_data_module_mixes_a_list_of_tasks() -> None:
    module = SymbolicDataModule([Say(count=2), Tell(count=2)], weights=[1, 2], evaluation_batch=8)
    assert isinstance(module.task, TaskMixture)
    assert [problem.task for problem in next(iter(module.test_dataloader()))] == ["say", "say", "tell", "tell"]
    with pytest.raises(ValueError, match=r"make data\.task a list"):
        SymbolicDataModule(Say(), weights=[1.0])
