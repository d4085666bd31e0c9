"""The Game of 24: make 24 of four cards, each used once, with + - * and /. Puzzles, prompts, splits and demonstrations."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from math import gcd
from pathlib import Path
from typing import Literal

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.tasks.base import Split, Task
from lit_symbolic.tasks.reading.puzzles import Cards, PuzzlesRead, read_card_sets
from lit_symbolic.tasks.splitting import ProblemGenerator
from lit_symbolic.verifiers.calculating.arithmetic import OPERATORS, Number, write_step
from lit_symbolic.verifiers.calculating.game24_solver import (
    Step,
    all_card_sets,
    legal_steps,
    plainest,
    play,
    solvable,
    solve,
    winning_steps,
)
from lit_symbolic.verifiers.game24 import Game24Verifier

WORKED_EXAMPLES = 3
MAX_DRAWS = 10_000

INSTRUCTION = """\
Use each of the given numbers exactly once, with + - * and /, to make the target. Each step takes two of the numbers that \
are left and puts back their result, so that after the last step only the target is left.
Write one step per line, in exactly this form: a op b = c (left: the numbers left after the step). Write fractions like 8/3. \
Write nothing else.
"""


class Game24(Task):
    """Puzzles that are all solvable; validation and test hold classic ones, and no training problem is one of theirs.

    The classic puzzles are every solvable set of ``cards`` cards up to ``max_card`` (1,362 with the defaults), or those of
    ``data``. What ``data`` itself puts into test or validation stays there (of 4nums' list ranks 901 to 1000 are test, as in Tree of
    Thoughts); where it says nothing a seeded shuffle cuts test, then validation, so the test split does not depend on
    ``validation_problems``. Beside them a generator makes training problems without end: some 128,000 with
    ``generator_cards=(4, 4, 4, 5)`` and ``generator_max_card=25``; by default it draws from the classic puzzles alone.

    Args:
        cards: Number of cards of a classic puzzle.
        max_card: Largest card of a classic puzzle; cards start at 1.
        target: The number to make.
        split_seed: Seed of the split.
        validation_problems: Size of the validation split, where ``data`` has none.
        test_problems: The same of the test split.
        data: A csv file in 4nums.com's format, a header with the column ``Puzzles`` (``1 1 4 6``), or the id of a data set on
            the hub with such a column or one of lists, ``numbers``; its puzzles are then the classic ones. All are enumerated
            if not given. See :func:`~lit_symbolic.tasks.reading.puzzles.read_card_sets`; :attr:`read` has the counts.
        max_corrupt: Share of corrupt rows up to which the rest is used.
        held_out: What validation and test hold: classic puzzles, or generated ones.
        classic_share: Probability that a training problem is a classic one rather than generated.
        generator_cards: Numbers of cards that generated puzzles have, one drawn for each.
        generator_max_card: Largest card of a generated puzzle.
        generator_targets: Make ``target`` (``fixed``), or any number from 1 to ``generator_max_target`` (``random``).
        generator_max_target: Largest random target.
        prompt_style: ``plain``, ``Make 24 from 4 4 6 8`` and a line break, for a model that knows the game only; or
            ``few_shot``, an instruction and worked examples of the train split, for a chat model.
        solution_share: Probability that a demonstration solves its puzzle; the others are random legal play.
        fraction_share: Probability that a step of random play may give a fraction.
        max_value: Largest number of random play, and of a solution where it has the choice; the vocabulary goes so far.
        strict: Whether every line of an answer must be a step, see :class:`Game24Verifier`.

    Raises:
        ValueError: If an argument is out of range; on first use, if too many rows of ``data`` are corrupt or the
            puzzles do not fill the splits.

    Example:
        >>> task = Game24()
        >>> problem = task.problem((4, 4, 6, 8), 24)
        >>> problem.id, problem.prompt
        ('24:4-4-6-8', 'Make 24 from 4 4 6 8\\n')
        >>> print(problem.reference)
        6 - 4 = 2 (left: 2 4 8)
        8 - 2 = 6 (left: 4 6)
        4 * 6 = 24 (left: 24)
        >>> {split: len(task.problems(split)) for split in ("train", "validation", "test")}
        {'train': 962, 'validation': 100, 'test': 300}
    """

    name = "game24"
    metrics = ("step_validity",)
    step_end = "\n"

    def __init__(
        self,
        cards: int = 4,
        max_card: int = 13,
        target: int = 24,
        split_seed: int = 0,
        validation_problems: int = 100,
        test_problems: int = 300,
        data: str | Path | None = None,
        max_corrupt: float = 0.01,
        held_out: Literal["classic", "generated"] = "classic",
        classic_share: float = 1.0,
        generator_cards: Sequence[int] = (4,),
        generator_max_card: int = 13,
        generator_targets: Literal["fixed", "random"] = "fixed",
        generator_max_target: int = 100,
        prompt_style: Literal["plain", "few_shot"] = "plain",
        solution_share: float = 0.1,
        fraction_share: float = 0.0,
        max_value: int = 200,
        strict: bool = True,
    ) -> None:
        for name, share in (("classic", classic_share), ("solution", solution_share), ("fraction", fraction_share)):
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name}_share is a probability between 0 and 1, got {share}")
        if not 0.0 <= max_corrupt < 1.0:
            raise ValueError(f"max_corrupt is a share below 1, got {max_corrupt}")
        counts = ("cards", cards), *(("generator_cards", count) for count in generator_cards or (0,))
        for name, count in counts:
            if not 2 <= count <= 6:
                raise ValueError(f"{name} lies between 2 and 6, the solver's reach, got {count or 'none'}")
        for name, bound in (
            ("max_card", max_card),
            ("generator_max_card", generator_max_card),
            ("generator_max_target", generator_max_target),
        ):
            if bound < 1:
                raise ValueError(f"{name} is at least 1, got {bound}")
        if max_value < max(max_card, generator_max_card):
            raise ValueError(f"max_value ({max_value}) is at least as large as the largest card")
        if validation_problems < 0 or test_problems < 0:
            raise ValueError(f"splits have no negative size, got {validation_problems=} and {test_problems=}")
        self.cards, self.max_card, self.target = cards, max_card, target
        self.split_seed, self.validation_problems, self.test_problems = split_seed, validation_problems, test_problems
        if held_out == "generated" and classic_share:
            raise ValueError("held_out: generated needs classic_share: 0, since a classic puzzle may be a generated one too")
        self.data, self.max_corrupt = data, max_corrupt
        self.held_out = held_out
        self.classic_share = classic_share
        self.generator_cards, self.generator_max_card = tuple(generator_cards), generator_max_card
        self.generator_targets, self.generator_max_target = generator_targets, generator_max_target
        self.prompt_style: Literal["plain", "few_shot"] = prompt_style
        self.solution_share, self.fraction_share, self.max_value = solution_share, fraction_share, max_value
        self.strict = strict

    @property
    def verifier(self) -> Game24Verifier:
        """The symbolic tool for this task's answers."""
        return Game24Verifier(strict=self.strict)

    @cached_property
    def read(self) -> PuzzlesRead | None:
        """What was read of ``data``, with its corrupt and skipped rows counted; ``None`` where every puzzle is enumerated."""
        return None if self.data is None else read_card_sets(self.data, self.cards, self.max_card, self.target, self.max_corrupt)

    @property
    def next_example(self) -> str:
        """See :attr:`Task.next_example`."""
        return "\nMake " if self.prompt_style == "few_shot" else ""

    @property
    def generator(self) -> ProblemGenerator[tuple[Cards, int]]:
        """Draws solvable puzzles, cards and target; those of ``held_out: generated`` are cut by it."""
        return ProblemGenerator(self._draw, lambda puzzle: _puzzle_id(*puzzle), self.split_seed)

    def problems(self, split: Split) -> Sequence[Problem]:
        """The puzzles of one split, in an order fixed by the seed; of generated training puzzles the first so many."""
        if split not in self._problems:
            raise ValueError(f"the splits are {', '.join(self._problems)}; got {split!r}")
        return self._problems[split]

    def sample(self, rng: random.Random) -> Problem:
        """One training problem, classic or generated; never a puzzle of the validation or the test split.

        Raises:
            ValueError: If the generator's settings allow (nearly) no solvable puzzle.
        """
        if rng.random() < self.classic_share:
            return rng.choice(self.problems("train"))
        if self.held_out == "generated":
            return self.problem(*self.generator.one(rng))
        for _ in range(MAX_DRAWS):
            cards, target = self._draw(rng)
            if target != self.target or cards not in self._held_out:
                return self.problem(cards, target)
        raise ValueError(self._too_few)

    def _draw(self, rng: random.Random) -> tuple[Cards, int]:
        """A solvable puzzle of the generator."""
        for _ in range(MAX_DRAWS):
            count = rng.choice(self.generator_cards)
            cards = tuple(sorted(rng.randint(1, self.generator_max_card) for _ in range(count)))
            target = self.target if self.generator_targets == "fixed" else rng.randint(1, self.generator_max_target)
            if solvable(cards, target):
                return cards, target
        raise ValueError(self._too_few)

    @property
    def _too_few(self) -> str:
        return (
            f"no solvable puzzle in {MAX_DRAWS} draws of {self.generator_cards} cards up to {self.generator_max_card} that is "
            "not held out; allow more cards, larger cards or random targets"
        )

    def demonstration(self, problem: Problem, rng: random.Random) -> str:
        """A random solution with probability ``solution_share``, otherwise random legal play; true arithmetic always."""
        if rng.random() < self.solution_share:
            return self.random_solution(problem, rng)
        return self.random_play(problem, rng)

    def random_solution(self, problem: Problem, rng: random.Random) -> str:
        """A solution of random winning steps, plain numbers where there is a choice."""
        return _write(_solution(problem.facts["cards"], problem.facts["target"], self.max_value, rng), problem.facts["cards"])

    def random_play(self, problem: Problem, rng: random.Random) -> str:
        """Random legal steps to the last number, their results natural numbers up to ``max_value``.

        With probability ``fraction_share`` a step may also give a fraction, and then a later step may have to.
        """
        numbers: Sequence[Number] = problem.facts["cards"]
        steps: list[Step] = []
        while len(numbers) > 1:
            # Never empty: of a - b and b - a one lies between 0 and the larger number.
            candidates: Sequence[Step] = [step for step in legal_steps(numbers) if 0 <= step.result <= self.max_value]
            if rng.random() >= self.fraction_share:
                candidates = plainest(candidates)
            steps.append(rng.choice(candidates))
            numbers = play(numbers, steps[-1])
        return _write(steps, problem.facts["cards"])

    def ruled_out(self, problem: Problem, beginning: str, certificate: Certificate) -> bool:
        """See :meth:`Task.ruled_out`; words before the first step are no fault where the verifier skips them."""
        return (self.strict or "=" in beginning) and super().ruled_out(problem, beginning, certificate)

    def vocabulary(self) -> Sequence[str]:
        """Every word of plain prompts and of answers in natural numbers, and the quotients of two cards up to 13."""
        largest = min(self.max_card, 13)
        quotients = [f"{a}/{b}" for b in range(2, largest + 1) for a in range(1, largest + 1) if gcd(a, b) == 1]
        words = ["Make", "from", "\n", "=", "(left:", ")", *OPERATORS]
        return [*words, *map(str, range(self.max_value + 1)), *quotients]

    def problem(self, cards: Cards, target: int) -> Problem:
        """The problem of one puzzle, cards ascending, with one solution as its reference.

        Raises:
            ValueError: If it has no solution.
        """
        cards = tuple(sorted(cards))
        return Problem(
            task=self.name,
            id=_puzzle_id(cards, target),
            prompt=self._prompt(cards, target),
            facts={"cards": cards, "target": target},
            reference=_reference(cards, target),
        )

    def _prompt(self, cards: Cards, target: int) -> str:
        if self.prompt_style == "plain":
            return _question(cards, target)
        examples = [example for example in self._split["train"][: WORKED_EXAMPLES + 1] if example != cards][:WORKED_EXAMPLES]
        worked = [_question(example, self.target) + _reference(example, self.target) + "\n" for example in examples]
        return "\n".join([INSTRUCTION, *worked, _question(cards, target)])

    @cached_property
    def _split(self) -> dict[Split, list[Cards]]:
        official = self.read.official if self.read is not None else {}
        held_out = {split: list(official.get(split, ())) for split in ("test", "validation")}
        taken = {cards for puzzles in held_out.values() for cards in puzzles}
        puzzles = sorted(cards for cards in self._classic_puzzles() if cards not in taken)
        wanted = {"test": self.test_problems, "validation": self.validation_problems}
        to_cut = {split: count for split, count in wanted.items() if not held_out[split]}
        if len(puzzles) <= sum(to_cut.values()):
            shares = " and ".join(f"{count} {split}" for split, count in to_cut.items()) or "none"
            raise ValueError(
                f"{len(puzzles)} solvable puzzles cannot give {shares} problems and leave some to train on; lower test_problems or "
                "validation_problems"
            )
        random.Random(self.split_seed).shuffle(puzzles)
        for split, count in to_cut.items():
            held_out[split], puzzles = puzzles[:count], puzzles[count:]
        return {"train": puzzles, "validation": held_out["validation"], "test": held_out["test"]}

    @cached_property
    def _held_out(self) -> frozenset[Cards]:
        return frozenset(self._split["validation"]) | frozenset(self._split["test"])

    @cached_property
    def _problems(self) -> dict[Split, list[Problem]]:
        return {split: [self.problem(*puzzle) for puzzle in puzzles] for split, puzzles in self._puzzles().items()}

    def _puzzles(self) -> dict[Split, list[tuple[Cards, int]]]:
        """Cards and target of each split; of generated ones as many as there are classic ones."""
        if self.held_out == "classic":
            return {split: [(cards, self.target) for cards in classic] for split, classic in self._split.items()}
        return {split: list(islice(self.generator.split(split), len(classic))) for split, classic in self._split.items()}

    def _classic_puzzles(self) -> list[Cards]:
        if self.read is not None:
            return self.read.puzzles
        return [cards for cards in all_card_sets(self.cards, self.max_card) if solvable(cards, self.target)]


def read_puzzles(source: str | Path, cards: int = 4, max_card: int = 13, target: int = 24) -> list[Cards]:
    """The puzzles of a file or of a data set on the hub, see :func:`~lit_symbolic.tasks.reading.puzzles.read_card_sets`."""
    return read_card_sets(source, cards, max_card, target).puzzles


def _solution(cards: Cards, target: int, max_value: int, rng: random.Random) -> list[Step]:
    numbers: Sequence[Number] = cards
    steps: list[Step] = []
    while len(numbers) > 1:
        steps.append(rng.choice(plainest(winning_steps(numbers, target), max_value)))
        numbers = play(numbers, steps[-1])
    return steps


def _write(steps: Sequence[Step], cards: Cards) -> str:
    """The answer that plays these steps, what is left in ascending order."""
    lines: list[str] = []
    numbers: tuple[Number, ...] = cards
    for step in steps:
        numbers = play(numbers, step)
        lines.append(write_step(*step, left=numbers))
    return "\n".join(lines)


def _reference(cards: Cards, target: int) -> str:
    return _write(solve(cards, target), cards)


def _question(cards: Cards, target: int) -> str:
    return f"Make {target} from {' '.join(map(str, cards))}\n"


def _puzzle_id(cards: Cards, target: int) -> str:
    return f"{target}:{'-'.join(map(str, cards))}"
