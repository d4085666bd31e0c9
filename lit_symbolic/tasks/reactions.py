"""Forward synthesis and retrosynthesis: the product of reactants, the reactants of a product. Problems, prompts and demonstrations."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import ClassVar, get_args

from lit_symbolic.certificate import Finding, Problem
from lit_symbolic.tasks.base import PromptStyle, Split, Task
from lit_symbolic.tasks.generating.reaction_sketches import cut_anywhere, join_anywhere
from lit_symbolic.tasks.generating.reaction_table import GeneratedReaction, draw_reaction
from lit_symbolic.tasks.reading.reaction_records import Direction, Reaction, ReactionData, read_reactions
from lit_symbolic.tasks.splitting import ProblemGenerator
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.verifiers.chemistry import MISSING_ATOM, UNSUPPLIED_ATOM, ForwardSynthesisVerifier, RetrosynthesisVerifier
from lit_symbolic.verifiers.molecule_in_prose import MoleculeInProse
from lit_symbolic.verifiers.molecules.departure import DEPARTURE
from lit_symbolic.verifiers.molecules.selfies_text import looks_like_selfies
from lit_symbolic.vocabulary import LearnedVocabulary

WORKED_EXAMPLES = 3
VOCABULARY_TEXTS = 1_000
VOCABULARY_SIZE = 1024
PIECES = r"(?:Reactants|Reagents|Product|Class): ?|(?<=Class: )[^\n]+|\[[^\[\]\s]*\]|Br|Cl|%[0-9]{2}|[\s\S]"
"""No token holds more than one atom, bond, ring number or parenthesis."""


class ReactionTask(Task):
    """What both directions share.

    Args:
        data: A folder, a file or the id of a data set on the hub; None draws reactions.
        known_class: The prompt names the reaction's class, where it is known.
        validation_problems: Size of the validation split, if reactions are drawn.
        test_problems: The same of test.
        train_problems: The same of train, from which worked examples and the vocabulary come; training draws new ones.
        solution_share: Probability that a demonstration is the reference; the others copy what is to be copied and know no chemistry
            (:mod:`~lit_symbolic.tasks.generating.reaction_sketches`).
        seed: Of the drawn splits, and of those cut from what is read.
        max_corrupt: Share of corrupt rows up to which the rest is used.
        prompt_style: ``plain``, or ``few_shot`` with an instruction and worked examples of the train split.
        strict: The answer is the molecule alone; otherwise it is looked for in prose and code fences.
        must_match: Only the reference is correct; otherwise every answer that passes the checks is.
        stereo: Stereo counts in "the same molecule".
        all_measures: Also MACCS and RDK similarity, which cost more than the rest of a certificate.

    Raises:
        ValueError: If an argument is out of range; on first use, if ``data`` cannot be used.
    """

    direction: ClassVar[Direction]
    given: ClassVar[str]
    """The fact that a demonstration copies from."""
    metrics = (
        "exact_match",
        "plausible",
        "validity",
        "morgan_tanimoto",
        "maccs_tanimoto",
        "rdk_tanimoto",
        "bleu",
        "levenshtein",
    )

    def __init__(
        self,
        data: str | Path | None = None,
        known_class: bool = False,
        validation_problems: int = 200,
        test_problems: int = 300,
        train_problems: int = 1_000,
        solution_share: float = 1.0,
        seed: int = 0,
        max_corrupt: float = 0.01,
        prompt_style: PromptStyle = "plain",
        strict: bool = True,
        must_match: bool = True,
        stereo: bool = True,
        all_measures: bool = False,
    ) -> None:
        for name, number in (("validation", validation_problems), ("test", test_problems), ("train", train_problems)):
            if number < 1:
                raise ValueError(f"{name}_problems must be at least 1, got {number}")
        if not 0.0 <= max_corrupt < 1.0:
            raise ValueError(f"max_corrupt is a share below 1, got {max_corrupt}")
        if not 0.0 <= solution_share <= 1.0:
            raise ValueError(f"solution_share is a probability between 0 and 1, got {solution_share}")
        if prompt_style not in get_args(PromptStyle):
            raise ValueError(f"prompt_style is one of {', '.join(get_args(PromptStyle))}, got {prompt_style!r}")
        self.data = data
        self.known_class, self.seed, self.max_corrupt = known_class, seed, max_corrupt
        self.sizes: dict[Split, int] = {"train": train_problems, "validation": validation_problems, "test": test_problems}
        self.solution_share = solution_share
        self.prompt_style: PromptStyle = prompt_style
        self.strict, self.must_match, self.stereo, self.all_measures = strict, must_match, stereo, all_measures

    @property
    @abstractmethod
    def _strict_verifier(self) -> Verifier: ...

    @abstractmethod
    def _question(self, reaction: Reaction) -> str: ...

    @abstractmethod
    def _facts(self, reaction: Reaction) -> dict[str, str]: ...

    @abstractmethod
    def _answer(self, reaction: Reaction) -> str: ...

    @abstractmethod
    def _normal_form(self, reaction: GeneratedReaction) -> str:
        """Drawn reactions with the same one are in the same split."""

    @abstractmethod
    def _sketch(self, given: str, rng: random.Random) -> str: ...

    @property
    @abstractmethod
    def _instruction(self) -> str: ...

    @property
    def verifier(self) -> Verifier:
        """The symbolic tool for this task's answers."""
        return self._strict_verifier if self.strict else MoleculeInProse(self._strict_verifier)

    @cached_property
    def read(self) -> ReactionData | None:
        """What was read of ``data``, with its corrupt and skipped rows counted; ``None`` of the generator."""
        return None if self.data is None else read_reactions(self.data, self.direction, self.max_corrupt, self.seed)

    @property
    def next_example(self) -> str:
        """See :attr:`Task.next_example`."""
        examples = self._reactions("train")[:1] if self.prompt_style == "few_shot" else []
        return "".join(f"\n{self._question(example).partition(':')[0]}:" for example in examples)

    @property
    def generator(self) -> ProblemGenerator[GeneratedReaction]:
        """Draws reactions."""
        return ProblemGenerator(draw_reaction, self._normal_form, self.seed)

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split; of the generator the first of each."""
        if split not in self.sizes:
            raise ValueError(f"the splits are {', '.join(self.sizes)}; got {split!r}")
        if split not in self._problems:
            self._problems[split] = [self._problem(reaction) for reaction in self._reactions(split)]
        return self._problems[split]

    def sample(self, rng: random.Random) -> Problem:
        """One training problem.

        Raises:
            ValueError: If ``data`` has no reactions to train on (Mol-Instructions' file of test rows).
        """
        if self.data is None:
            return self._problem(_as_record(self.generator.one(rng)))
        problems = self.problems("train")
        if not problems:
            raise ValueError(f"{self.data} has no training reactions: its rows are all held out")
        return rng.choice(problems)

    def demonstration(self, problem: Problem, rng: random.Random) -> str:
        """The reference with probability ``solution_share``, otherwise a sketch.

        Raises:
            ValueError: If it would be a sketch, and the problem's notation is SELFIES.
        """
        if rng.random() < self.solution_share:
            return super().demonstration(problem, rng)
        given = problem.facts[self.given]
        if looks_like_selfies(given):
            raise ValueError(f"problem {problem.id!r} is in SELFIES, of which there are no sketches: use solution_share: 1")
        return self._sketch(given, rng)

    def tellable(self, answer: str, finding: Finding) -> Finding | None:
        """All but where the answer left the reference: atoms too many or too few are told without the place that it gives them."""
        if finding.kind == UNSUPPLIED_ATOM:
            return replace(finding, start=0, end=len(answer))
        if finding.kind == MISSING_ATOM:
            return replace(finding, start=len(answer), end=len(answer))
        return None if finding.kind == DEPARTURE else finding

    def vocabulary(self) -> LearnedVocabulary:
        """Learned from training prompts, as short as they get, and answers."""
        return self._vocabulary

    @cached_property
    def _vocabulary(self) -> LearnedVocabulary:
        reactions = self._reactions("train")[:VOCABULARY_TEXTS]
        texts = [self._question(reaction) + self._answer(reaction) for reaction in reactions]
        return LearnedVocabulary(texts or ["C"], PIECES, VOCABULARY_SIZE)

    @cached_property
    def _problems(self) -> dict[Split, list[Problem]]:
        return {}

    def _reactions(self, split: Split) -> Sequence[Reaction]:
        if self.read is not None:
            return self.read.splits[split]
        if split not in self._generated:
            found = islice(self.generator.split(split), self.sizes[split])
            self._generated[split] = [_as_record(reaction) for reaction in found]
        return self._generated[split]

    @cached_property
    def _generated(self) -> dict[Split, list[Reaction]]:
        return {}

    def _problem(self, reaction: Reaction) -> Problem:
        return Problem(
            task=self.name,
            id=reaction.id,
            prompt=self._prompt(reaction),
            facts=self._facts(reaction),
            reference=self._answer(reaction),
        )

    def _prompt(self, reaction: Reaction) -> str:
        question = self._question(reaction)
        if self.prompt_style == "plain":
            return question
        examples = [each for each in self._reactions("train")[: WORKED_EXAMPLES + 1] if each.key != reaction.key][
            :WORKED_EXAMPLES
        ]
        worked = (self._question(each) + self._answer(each) for each in examples)
        # Without the blank at its end: a tokenizer of byte pairs writes it in front of the next word.
        return "\n\n".join([self._instruction, *worked, question]).rstrip(" ")

    def _class_line(self, reaction: Reaction) -> str:
        return f"Class: {reaction.kind}\n" if self.known_class and reaction.kind else ""


class ForwardSynthesis(ReactionTask):
    """Write the product of reactants (and reagents).

    Reactions are drawn from a table of templates without end (see :mod:`~lit_symbolic.tasks.generating.reaction_table`), or read
    (see :func:`~lit_symbolic.tasks.reading.reaction_records.read_reactions` for formats, splits and what is skipped).

    Args: see :class:`ReactionTask`.

    Example:
        >>> problem = ForwardSynthesis(test_problems=1).problems("test")[0]
        >>> print(problem.prompt + problem.reference)
        Reactants: CC(=O)c1ccc([N+](=O)[O-])cn1
        Reagents: [Fe]
        Product: CC(=O)c1ccc(N)cn1
    """

    name = "forward_synthesis"
    direction = "forward"
    given = "reactants"

    @property
    def _strict_verifier(self) -> ForwardSynthesisVerifier:
        return ForwardSynthesisVerifier(
            must_match=self.must_match, stereo=self.stereo, all_measures=self.all_measures, locate_departure=self.must_match
        )

    @property
    def _instruction(self) -> str:
        return (
            "Predict the main product of the reaction from its reactants and reagents. Answer with the product alone, in the notation "
            "of the reactants (SMILES or SELFIES), and write nothing else."
        )

    def _question(self, reaction: Reaction) -> str:
        reagents = f"Reagents: {reaction.reagents}\n" if reaction.reagents else ""
        return f"{self._class_line(reaction)}Reactants: {reaction.reactants}\n{reagents}Product: "

    def _facts(self, reaction: Reaction) -> dict[str, str]:
        return {"reactants": reaction.reactants, "reagents": reaction.reagents, "class": reaction.kind}

    def _answer(self, reaction: Reaction) -> str:
        return reaction.product

    def _normal_form(self, reaction: GeneratedReaction) -> str:
        return reaction.key

    def _sketch(self, given: str, rng: random.Random) -> str:
        return join_anywhere(given, rng)


class Retrosynthesis(ReactionTask):
    """Write the reactants of a product, dots between them.

    Reactions are drawn or read as those of :class:`ForwardSynthesis`. Many reactants are right for a product: an answer that passes every
    check and is not the reference counts in the measure ``plausible``, and as correct only with ``must_match: false``.

    Args: see :class:`ReactionTask`.

    Example:
        >>> problem = Retrosynthesis(known_class=True, test_problems=1).problems("test")[0]
        >>> print(problem.prompt + problem.reference)
        Class: urea formation
        Product: CN(C)c1ccc(NC(=O)Nc2cnc(C(F)(F)F)nc2)cc1
        Reactants: CN(C)c1ccc(N)cc1.O=C=Nc1cnc(C(F)(F)F)nc1
    """

    name = "retrosynthesis"
    direction = "retro"
    given = "product"

    @property
    def _strict_verifier(self) -> RetrosynthesisVerifier:
        return RetrosynthesisVerifier(
            must_match=self.must_match, stereo=self.stereo, all_measures=self.all_measures, locate_departure=self.must_match
        )

    @property
    def _instruction(self) -> str:
        return (
            "Propose the reactants from which the product is made in one step. Answer with the reactants alone, dots between them, in the "
            "notation of the product (SMILES or SELFIES), and write nothing else."
        )

    def _question(self, reaction: Reaction) -> str:
        return f"{self._class_line(reaction)}Product: {reaction.product}\nReactants: "

    def _facts(self, reaction: Reaction) -> dict[str, str]:
        return {"product": reaction.product, "class": reaction.kind}

    def _answer(self, reaction: Reaction) -> str:
        return reaction.reactants

    def _normal_form(self, reaction: GeneratedReaction) -> str:
        return reaction.product  # whatever it is made from: a product that is asked for in test is never trained on

    def _sketch(self, given: str, rng: random.Random) -> str:
        return cut_anywhere(given, rng)


def _as_record(reaction: GeneratedReaction) -> Reaction:
    return Reaction(reaction.key, reaction.reactants, reaction.product, reaction.reagents, reaction.kind.name, reaction.key)
