"""Molecules from descriptions: assembled ones, and those of ChEBI-20, Mol-Instructions and lists of SMILES."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

from lit_symbolic.certificate import Finding, Problem
from lit_symbolic.tasks.base import PromptStyle, Split, Task
from lit_symbolic.tasks.generating.molecule_parts import Assembled, describe, draw_described, with_articles
from lit_symbolic.tasks.reading.described_molecules import SPLITS, Described, DescribedMolecule, read_described
from lit_symbolic.tasks.reading.hub import is_on_hub
from lit_symbolic.tasks.splitting import ProblemGenerator
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.verifiers.chemistry import MISSING_GROUP
from lit_symbolic.verifiers.described_molecule import DescribedMoleculeVerifier
from lit_symbolic.verifiers.molecule_in_prose import MoleculeInProse
from lit_symbolic.verifiers.molecules.departure import DEPARTURE
from lit_symbolic.verifiers.molecules.no_return import Places
from lit_symbolic.vocabulary import LearnedVocabulary

WORKED_EXAMPLES = 3
VOCABULARY_TEXTS = 1_500

INSTRUCTION = """\
Write the SMILES of a molecule that fits the description: every functional group that it names is there, and its size is as it says.
Write the SMILES and nothing else.
"""

# Words and numbers have a blank before them, or are followed by one or by a comma; a SMILES holds neither.
PIECES = (
    r" ?[A-Za-z]+(?=[ ,;])| [A-Za-z]+| [0-9]+"
    r"|\[[^\]\s]{1,20}\]|Br|Cl|%\([0-9]+\)|%[0-9]{2}|[\s\S]"
)
"""An atom is a token (a bracket atom, where it is frequent, else its parts), and so is a bond, a ring number, a parenthesis."""


class MoleculeGeneration(Task):
    """Write a molecule that a description describes: with the functional groups it names, and of the size it gives.

    Without data the molecules are assembled from parts (:mod:`lit_symbolic.tasks.generating.molecule_parts`) and described by two
    or three of their groups, their number of rings and a range of heavy atoms; 167,216 draws gave 100,000 different problems.
    Training problems are drawn without end; which split a problem belongs to is decided by a hash of what it asks, whatever its
    words. Any molecule with all that is right.

    ``data`` is one of

    - a folder with ``train.txt``, ``validation.txt`` and ``test.txt`` as ChEBI-20 has them (a tab between ``CID``, ``SMILES``
      and ``description``), or one such file;
    - a file of Mol-Instructions (JSON with ``instruction``, ``input``, ``output`` in SELFIES or SMILES, and ``metadata`` whose
      ``split`` counts);
    - a file of SMILES, one a line, as ZINC's (a name may stand behind a blank; in ``.smi`` behind a tab too): the prompt lists the groups
      that the molecule has;
    - the id of a data set on the hub with such fields.

    A row that lacks text, or whose molecule RDKit refuses, is corrupt (see ``max_corrupt``). A description without a known group
    that its molecule has, and what is longer than the settings allow, is skipped; :attr:`loaded` has the counts. Of ChEBI-20 that is
    about half of the rows, of its official test split too: figures are of the other half, unless ``must_match`` makes groups needless.

    Args:
        data: See above; None is the generator.
        cut_by_hash: Make the splits that the data lack by a hash of the description: of the training rows if there are any, else
            of what is there. Without it a missing split is an error.
        hub_split: The split of a hub's data set to read (``description_guided_molecule_design``); None reads ``train``,
            ``validation`` and ``test``.
        first_rows: Read so many rows of each file, or of each split on the hub; None reads all.
        longest_description: Skip longer ones, in characters.
        longest_molecule: The same for molecules.
        max_corrupt: Share of corrupt rows up to which the rest is used.
        answers: References as canonical SMILES, or as the data write them.
        split_seed: Of the cut, and of the generator's held-out problems.
        validation_problems: Of the generator.
        test_problems: Of the generator.
        min_groups: Fewest groups that a generated description names.
        max_groups: Most groups that it names.
        window: How many numbers of heavy atoms a generated description allows.
        max_heavy_atoms: Size of an assembled molecule.
        faithful_share: Probability that a demonstration is a molecule of its description; the others are molecules of another
            problem: they teach what a molecule is, not what is asked.
        must_match: Only the reference is right. Otherwise every molecule that passes all checks is.
        all_measures: Also MACCS and RDK similarity, which cost more than all the rest.
        places: Where a fault that the rest of the answer might have mended stands: where nothing could any more (``no_return``, for
            rewards that stop at the first fault), or at its ``culprit``, see :mod:`lit_symbolic.verifiers.molecules.no_return`.
        prompt_style: ``plain``, the description and a line break; or ``few_shot``, an instruction and worked examples.
        strict: Whether the whole answer must be the molecule, or it is looked for in prose, see :class:`MoleculeInProse`.

    Raises:
        ValueError: If an argument is out of range; on first use, if the data cannot be used.

    Example:
        >>> task = MoleculeGeneration()
        >>> problem = task.problems("test")[1]
        >>> problem.prompt
        'A compound with a benzimidazole and an acetyl group; it has between 10 and 13 heavy atoms and two rings.\\n'
        >>> task.verifier.verify(problem, problem.reference).correct
        True
    """

    name = "molecules"
    metrics = (
        "validity",
        "groups_found",
        "size_right",
        "exact_match",
        "morgan_tanimoto",
        "maccs_tanimoto",
        "rdk_tanimoto",
        "bleu",
        "levenshtein",
    )

    def __init__(
        self,
        data: str | Path | None = None,
        cut_by_hash: bool = False,
        hub_split: str | None = None,
        first_rows: int | None = None,
        longest_description: int | None = None,
        longest_molecule: int | None = None,
        max_corrupt: float = 0.01,
        answers: Literal["smiles", "as_written"] = "smiles",
        split_seed: int = 0,
        validation_problems: int = 100,
        test_problems: int = 300,
        min_groups: int = 2,
        max_groups: int = 3,
        window: int = 4,
        max_heavy_atoms: int = 24,
        faithful_share: float = 1.0,
        must_match: bool = False,
        all_measures: bool = True,
        places: Places = "no_return",
        prompt_style: PromptStyle = "plain",
        strict: bool = True,
    ) -> None:
        if not 0.0 <= faithful_share <= 1.0:
            raise ValueError(f"faithful_share is a probability between 0 and 1, got {faithful_share}")
        if not 1 <= min_groups <= max_groups:
            raise ValueError(
                f"a description names at least one group: 1 <= min_groups <= max_groups, got {min_groups}, {max_groups}"
            )
        if window < 1 or max_heavy_atoms < 4:
            raise ValueError(f"window is at least 1 and max_heavy_atoms at least 4, got {window} and {max_heavy_atoms}")
        if validation_problems < 0 or test_problems < 0:
            raise ValueError(f"splits have no negative size, got {validation_problems=} and {test_problems=}")
        if hub_split is not None and (data is None or not is_on_hub(data)):
            raise ValueError(f"hub_split is for a data set on the hub; data is {data}")
        self.data = data
        self.cut_by_hash, self.hub_split, self.first_rows, self.max_corrupt = cut_by_hash, hub_split, first_rows, max_corrupt
        self.longest_description, self.longest_molecule = longest_description, longest_molecule
        self.answers: Literal["smiles", "as_written"] = answers
        self.split_seed = split_seed
        self.held_out: dict[Split, int] = {"validation": validation_problems, "test": test_problems}
        self.min_groups, self.max_groups, self.window, self.max_heavy_atoms = min_groups, max_groups, window, max_heavy_atoms
        self.faithful_share, self.must_match, self.all_measures = faithful_share, must_match, all_measures
        self.places: Places = places
        self.prompt_style: PromptStyle = prompt_style
        self.strict = strict
        self._made: dict[Split, list[Problem]] = {}
        self._shown: dict[Split, list[Problem]] = {}

    @property
    def verifier(self) -> Verifier:
        """The symbolic tool for this task's answers."""
        verifier = DescribedMoleculeVerifier(must_match=self.must_match, all_measures=self.all_measures, places=self.places)
        return verifier if self.strict else MoleculeInProse(verifier)

    @cached_property
    def loaded(self) -> Described:
        """The data as they were read, with what was left out.

        Raises:
            ValueError: If there are none: the problems are generated.
        """
        if self.data is None:
            raise ValueError("the problems of this task are generated: it has no data")
        return read_described(
            self.data,
            self.cut_by_hash,
            self.hub_split,
            self.answers,
            self.longest_description,
            self.longest_molecule,
            need_groups=not self.must_match,
            first_rows=self.first_rows,
            max_corrupt=self.max_corrupt,
            seed=self.split_seed,
        )

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split; of the generator's train split, which has no end, the first ones drawn."""
        if split not in SPLITS:
            raise ValueError(f"the splits are {', '.join(SPLITS)}; got {split!r}")
        if split not in self._shown:
            self._shown[split] = [self._styled(problem) for problem in self._plain(split)]
        return self._shown[split]

    @property
    def next_example(self) -> str:
        """See :attr:`Task.next_example`."""
        return "\nDescription:" if self.prompt_style == "few_shot" else ""

    @property
    def generator(self) -> ProblemGenerator[Assembled]:
        """Assembles molecules; two that are described alike are the same problem."""
        return ProblemGenerator(self._draw, lambda asked: asked.key, self.split_seed)

    def sample(self, rng: random.Random) -> Problem:
        """One training problem, drawn from the data or assembled."""
        if self.data is not None:
            return rng.choice(self.problems("train"))
        return self._styled(self._assembled(self.generator.one(rng), rng))

    def demonstration(self, problem: Problem, rng: random.Random) -> str:
        """The reference, or with probability ``1 - faithful_share`` that of another problem."""
        if rng.random() >= self.faithful_share:
            problem = self.sample(rng)
        return super().demonstration(problem, rng)

    def tellable(self, answer: str, finding: Finding) -> Finding | None:
        """All but where the answer left the reference, and where the reference has a group that is missing."""
        if finding.kind == MISSING_GROUP:
            return replace(finding, start=len(answer), end=len(answer))
        return None if finding.kind == DEPARTURE else finding

    def vocabulary(self) -> LearnedVocabulary:
        """Learned from prompts and references of the train split."""
        return self._vocabulary

    @cached_property
    def _vocabulary(self) -> LearnedVocabulary:
        problems = self._plain("train")[:VOCABULARY_TEXTS]
        size = 1024 if self.data is None else 2048
        texts = [text for problem in problems for text in (problem.prompt, problem.reference) if text]
        return LearnedVocabulary(texts, PIECES, size)

    def _plain(self, split: Split) -> list[Problem]:
        """Problems of one split, with plain prompts."""
        if split not in self._made:
            if self.data is not None:
                self._made[split] = [self._read(item) for item in self.loaded.splits[split]]
            else:
                rng = random.Random(f"{self.split_seed}/{split}/words")
                found = self.generator.split(split)
                count = self.held_out.get(split, VOCABULARY_TEXTS)
                self._made[split] = [self._assembled(each, rng) for each in islice(found, count)]
        return self._made[split]

    def _draw(self, rng: random.Random) -> Assembled:
        return draw_described(rng, (self.min_groups, self.max_groups), self.window, self.max_heavy_atoms)

    def _assembled(self, asked: Assembled, rng: random.Random) -> Problem:
        facts = {"groups": asked.groups, "heavy_atoms": asked.heavy_atoms, "rings": asked.rings, "molecules": 1}
        return Problem(self.name, asked.key, describe(asked, rng) + "\n", facts, asked.smiles)

    def _read(self, item: DescribedMolecule) -> Problem:
        description = item.description or f"The molecule has {with_articles(item.groups)}."
        facts = {"groups": item.groups, "molecules": item.molecules}
        return Problem(self.name, item.id, f"{' '.join(description.split())}\n", facts, item.answer)

    def _styled(self, problem: Problem) -> Problem:
        if self.prompt_style == "plain":
            return problem
        examples = [example for example in self._plain("train")[: WORKED_EXAMPLES + 1] if example.id != problem.id]
        worked = [f"Description: {example.prompt}SMILES: {example.reference}\n" for example in examples[:WORKED_EXAMPLES]]
        prompt = "\n".join([INSTRUCTION, *worked, f"Description: {problem.prompt}SMILES:"])
        return Problem(problem.task, problem.id, prompt, problem.facts, problem.reference)
