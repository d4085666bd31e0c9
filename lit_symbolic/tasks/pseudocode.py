"""From pseudo-code to C++: programs told line by line, to be written so that they compile and pass their tests."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

from lit_symbolic.certificate import Finding, Problem
from lit_symbolic.tasks.base import PromptStyle, Split, Task
from lit_symbolic.tasks.generating.bench import TestBench
from lit_symbolic.tasks.generating.expected import ExpectedOutputs
from lit_symbolic.tasks.generating.program_sketches import draw_operators
from lit_symbolic.tasks.generating.programs import DrawnProgram, draw_program
from lit_symbolic.tasks.listing import Layout, Line, excerpt, program, pseudocode
from lit_symbolic.tasks.reading.spoc import PREFIX, STANDARD, AnnotatedProgram, Spoc, read_spoc
from lit_symbolic.tasks.renaming import in_other_names
from lit_symbolic.tasks.splitting import ProblemGenerator
from lit_symbolic.verifiers.cpp import GOAL, CppVerifier
from lit_symbolic.vocabulary import LearnedVocabulary

HEADERS = ("algorithm", "iostream", "sstream", "vector")
"""All that drawn programs need, and few: reading them takes most of the time of verifying an answer."""
DRAWN_STANDARD = "gnu++17"
FLAGS = ("-O0",)

INPUTS_EACH = 24
WORKED_EXAMPLES = 2
VOCABULARY_PROGRAMS = 400
PIECES = (
    r"int main\(\) \{\n *|return 0;\n|;\n *|\{\n *|\} else \{\n *|\}\n *|\}|\n *| ?[A-Za-z_]\w*| ?\d{1,2}| ?[<>=!+\-*/%&|]+| ?//|"
    r" ?[\s\S]"
)

INSTRUCTION = """\
Translate the pseudo-code into a C++ program, line by line. Lines that are C++ already stay as they are. The usual headers are \
included and namespace std is used. Write the program and nothing else.
"""
COMMENTED = "Write each line's pseudo-code above it as a comment.\n"


class PseudocodeToCpp(Task):
    """Programs to be written from their pseudo-code: those of a small grammar, drawn without end, or those of SPoC.

    A prompt has a line for each line of the program; one that goes without saying (``int main() {``, a closing brace) is shown as
    its code, as SPoC does. An answer is right if it compiles and passes the tests, public and hidden.

    Drawn programs read and print integers. Two are the same problem if their code is the same but for the names of variables.
    Their tests are made by g++ and the program itself, in the sandbox, when they are first looked at, many at once; what they wrote
    is kept in ``cache_dir``.

    ``data`` is SPoC's own folder, with ``train/split/spoc-train-train.tsv`` (or ``train/spoc-train.tsv``),
    ``train/split/spoc-train-eval.tsv`` for validation, a file for test, and ``testcases/``. Or it is the id of a data set on the
    hub with splits ``train``, ``validation`` and ``test``, whose rows have the columns of those files; its tests are in a column
    ``tests`` or in the folder ``testcases``. A problem of Codeforces is in one split only. Programs without tests, too long ones
    and those with a line that is missing are left out and counted: see :attr:`spoc`.

    Args:
        data: Folder or hub id; None is the generator.
        layout: ``plain`` is code alone; ``commented`` puts each line's pseudo-code above it, as a comment that the model writes too.
        blocks: Of a drawn program: fewest and most statements between what it reads and what it prints.
        train_problems: How many drawn problems the train split lists; :meth:`sample` draws others without end.
        validation_problems: The same of validation.
        test_problems: The same of test.
        public_tests: Tests of a drawn program that a failed answer is told of.
        hidden_tests: Its other tests.
        split_seed: Seed of the splits.
        test_file: SPoC's ``test`` (a part of its training set), or its hidden tests: ``testp`` has other problems, ``testw`` other
            workers.
        cut_by_hash: Where SPoC's training file is missing, train on the validation file, a sixth of whose problems stay validation.
        testcases: Folder of test cases; None is ``testcases`` in ``data``.
        max_lines: Lines of a program at most; longer ones of SPoC are left out and counted.
        max_characters: The same of the characters of pseudo-code and code together.
        max_corrupt: Share of corrupt rows up to which the others are used.
        prompt_style: ``plain``, the pseudo-code and a blank line; ``few_shot``, an instruction and worked examples of the train split.
        strict: Whether the answer is the program and nothing else; otherwise a program in a Markdown fence is found.
        vocabulary_size: Tokens of a tokenizer made for this task.
        operators_kept: Probability that an operator of a demonstration is the reference's; the others are drawn from those of its kind
            (:mod:`~lit_symbolic.tasks.generating.program_sketches`). Below 1 it needs the plain layout.
        other_names: SPoC's training programs are drawn with other names of one letter each time
            (:mod:`~lit_symbolic.tasks.renaming`): many programs out of few. Those of the generator have drawn names already.
        excerpt_share: Share of SPoC's lessons in supervised fine-tuning that are some lines on end of a training program, too long ones
            among them, instead of a whole one: how a line is written is learned from more places, and no program by heart.
        locate_departure: A program that fails its tests is wrong where it left the reference, see
            :class:`~lit_symbolic.verifiers.cpp.CppVerifier`; otherwise it is as a whole.
        compiler: Name or path of g++.
        sandbox: Mode of the sandbox, for drawn programs and for answers.
        cache_dir: Folder for the precompiled header and for what drawn programs wrote; None is the user's cache.

    Raises:
        ValueError: If an argument is out of range; on first use, if ``data`` gives no problems for a split or its rows are corrupt.
        CompilerUnavailable: On first look at the tests of a drawn program, if there is no g++; says what to install.

    Example:
        >>> problem = PseudocodeToCpp().problems("test")[2]
        >>> print(problem.prompt + (problem.reference or ""))
        int main() {
          declare integer d
          input d
          create integer k with value d + 10
          output k
          return 0;
        }
        <BLANKLINE>
        int main() {
          int d;
          cin >> d;
          int k = d + 10;
          cout << k << endl;
          return 0;
        }
    """

    name = "pseudocode"
    metrics = ("comp_acc", "f_corr_acc")

    def __init__(
        self,
        data: str | Path | None = None,
        layout: Layout = "plain",
        blocks: tuple[int, int] = (1, 2),
        train_problems: int = 1000,
        validation_problems: int = 100,
        test_problems: int = 300,
        public_tests: int = 2,
        hidden_tests: int = 4,
        split_seed: int = 0,
        test_file: Literal["test", "testp", "testw"] = "test",
        cut_by_hash: bool = False,
        testcases: str | Path | None = None,
        max_lines: int | None = None,
        max_characters: int | None = None,
        max_corrupt: float = 0.01,
        prompt_style: PromptStyle = "plain",
        strict: bool = True,
        vocabulary_size: int = 512,
        operators_kept: float = 1.0,
        other_names: bool = False,
        excerpt_share: float = 0.0,
        locate_departure: bool = False,
        compiler: str = "g++",
        sandbox: Literal["required", "best_effort", "off"] = "required",
        cache_dir: str | None = None,
    ) -> None:
        if not 1 <= blocks[0] <= blocks[1] <= 8:
            raise ValueError(f"blocks are two numbers from 1 to 8, the smaller first, got {blocks}")
        if min(train_problems, validation_problems, test_problems) < 1:
            raise ValueError("train_problems, validation_problems and test_problems are at least 1")
        for name, bound in (("max_lines", max_lines), ("max_characters", max_characters)):
            if bound is not None and bound < 1:
                raise ValueError(f"{name} is at least 1, or null for no bound; got {bound}")
        if public_tests < 0 or hidden_tests < 0 or not 1 <= public_tests + hidden_tests <= INPUTS_EACH:
            raise ValueError(
                f"public_tests and hidden_tests are 1 to {INPUTS_EACH} together, got {public_tests} and {hidden_tests}"
            )
        if not 0.0 <= operators_kept <= 1.0:
            raise ValueError(f"operators_kept is a probability between 0 and 1, got {operators_kept}")
        if operators_kept < 1.0 and layout != "plain":
            raise ValueError(f"operators_kept: {operators_kept} would draw operators in comments too; it needs layout: plain")
        if not 0.0 <= excerpt_share <= 1.0:
            raise ValueError(f"excerpt_share is a share between 0 and 1, got {excerpt_share}")
        self.operators_kept, self.other_names, self.excerpt_share = operators_kept, other_names, excerpt_share
        self.data, self.layout, self.blocks = data, layout, (blocks[0], blocks[1])
        self.sizes: dict[Split, int] = {"train": train_problems, "validation": validation_problems, "test": test_problems}
        self.split_seed, self.test_file, self.cut_by_hash, self.testcases = split_seed, test_file, cut_by_hash, testcases
        self.max_lines, self.max_characters, self.max_corrupt = max_lines, max_characters, max_corrupt
        self.prompt_style, self.strict, self.vocabulary_size = prompt_style, strict, vocabulary_size
        self.locate_departure = locate_departure
        self.compiler, self.sandbox, self.cache_dir = compiler, sandbox, cache_dir
        self._problems: dict[Split, list[Problem]] = {}
        expected = ExpectedOutputs(compiler, (f"-std={DRAWN_STANDARD}", *FLAGS), HEADERS, sandbox, cache_dir)
        self._bench = TestBench(expected, public_tests, hidden_tests)

    @property
    def verifier(self) -> CppVerifier:
        """The symbolic tool for this task's answers."""
        return CppVerifier(
            compiler=self.compiler,
            standard=DRAWN_STANDARD if self.data is None else STANDARD,
            flags=FLAGS,
            headers=HEADERS if self.data is None else ("bits/stdc++.h",),
            code_fence=not self.strict,
            locate_departure=self.locate_departure,
            sandbox=self.sandbox,
            cache_dir=self.cache_dir,
        )

    @cached_property
    def spoc(self) -> Spoc:
        """What was read of SPoC, with what was left out.

        Raises:
            ValueError: If there is no ``data``.
        """
        if self.data is None:
            raise ValueError("drawn programs are not read from anywhere: give data")
        return read_spoc(
            self.data,
            self.testcases,
            self.test_file,
            self.cut_by_hash,
            self.max_lines,
            self.max_characters,
            self.max_corrupt,
            self.split_seed,
        )

    @property
    def next_example(self) -> str:
        """See :attr:`Task.next_example`."""
        return "\nPseudo-code:" if self.prompt_style == "few_shot" else ""

    @property
    def generator(self) -> ProblemGenerator[DrawnProgram]:
        """Draws programs; two are the same if they do the same under other names."""
        return ProblemGenerator(lambda rng: draw_program(rng, self.blocks), lambda found: found.key, self.split_seed)

    def problems(self, split: Split) -> Sequence[Problem]:
        """The problems of one split, in a fixed order; of drawn ones the first so many."""
        if split not in self.sizes:
            raise ValueError(f"the splits are {', '.join(self.sizes)}; got {split!r}")
        if split not in self._problems:
            if self.data is None:
                programs = self.generator.split(split)
                self._problems[split] = [self._drawn_problem(found) for found in islice(programs, self.sizes[split])]
            else:
                self._problems[split] = [self._read_problem(found) for found in self.spoc.splits[split]]
        return self._problems[split]

    def sample(self, rng: random.Random) -> Problem:
        """One training problem: newly drawn, or one of SPoC's."""
        if self.data is not None:
            if not self.other_names:
                return rng.choice(self.problems("train"))
            return self._read_problem(self._in_other_names(rng.choice(self.spoc.splits["train"]), rng))
        return self._drawn_problem(self.generator.one(rng))

    def lesson(self, rng: random.Random) -> Problem:
        """A training problem, or an excerpt of one."""
        if self.data is None or rng.random() >= self.excerpt_share:
            return self.sample(rng)
        found = rng.choice(self.spoc.lessons)
        cut = excerpt(found.lines, rng, self.max_lines, self.max_characters)
        return self._read_problem(self._in_other_names(replace(found, lines=cut), rng))

    def _in_other_names(self, found: AnnotatedProgram, rng: random.Random) -> AnnotatedProgram:
        return replace(found, lines=in_other_names(found.lines, rng)) if self.other_names else found

    def demonstration(self, problem: Problem, rng: random.Random) -> str:
        """The reference, some of its operators drawn anew where ``operators_kept`` is below 1."""
        reference = super().demonstration(problem, rng)
        return reference if self.operators_kept == 1.0 else draw_operators(reference, self.operators_kept, rng)

    def tellable(self, answer: str, finding: Finding) -> Finding | None:
        """All but the place where a program that fails its tests left the reference."""
        return replace(finding, start=0, end=len(answer)) if finding.kind == GOAL else finding

    def vocabulary(self) -> LearnedVocabulary:
        """Texts of training problems; a token is a word, an operator, a digit, or the end of a line with the next one's indentation."""
        return self._vocabulary

    @cached_property
    def _vocabulary(self) -> LearnedVocabulary:
        rng = random.Random(f"vocabulary/{self.split_seed}")
        texts = [
            f"{pseudocode(lines)}\n\n{program(lines, self.layout)}" for lines in self._training_lines(rng, VOCABULARY_PROGRAMS)
        ]
        return LearnedVocabulary(texts, PIECES, self.vocabulary_size)

    def _training_lines(self, rng: random.Random, count: int) -> list[Sequence[Line]]:
        if self.data is None:
            return [self.generator.one(rng).lines for _ in range(count)]
        train = self.spoc.splits["train"]
        return [found.lines for found in rng.sample(train, min(count, len(train)))]

    # ---------------------------------------------------------------- problems

    def _drawn_problem(self, found: DrawnProgram) -> Problem:
        code = program(found.lines)
        rng = random.Random(code)
        inputs = tuple(found.input(rng) for _ in range(INPUTS_EACH))
        prefix = "".join(f"#include <{header}>\n" for header in HEADERS) + "using namespace std;\n"
        identifier = hashlib.blake2b(f"{pseudocode(found.lines)}\0{code}".encode(), digest_size=8).hexdigest()
        return Problem(
            self.name,
            identifier,
            self._prompt(found.lines),
            self._bench.facts(prefix, code, inputs),
            program(found.lines, self.layout),
        )

    def _read_problem(self, found: AnnotatedProgram) -> Problem:
        facts = {"prefix": PREFIX, "tests": list(found.tests)}
        return Problem(self.name, found.id, self._prompt(found.lines), facts, program(found.lines, self.layout))

    def _prompt(self, lines: Sequence[Line]) -> str:
        if self.prompt_style == "plain":
            return f"{pseudocode(lines)}\n\n"
        worked = [example for example in self._worked if example != lines][:WORKED_EXAMPLES]
        shown = [f"{_question(example)}{program(example, self.layout)}\n" for example in worked]
        return "\n".join([INSTRUCTION + (COMMENTED if self.layout == "commented" else ""), *shown, _question(lines)])

    @cached_property
    def _worked(self) -> list[Sequence[Line]]:
        return self._training_lines(random.Random(f"worked/{self.split_seed}"), WORKED_EXAMPLES + 1)


def _question(lines: Sequence[Line]) -> str:
    return f"Pseudo-code:\n{pseudocode(lines)}\nProgram:\n"
