"""Tests for drawn programs, made when they are first looked at, for all that wait at once."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lit_symbolic.tasks.generating.expected import TOGETHER, ExpectedOutputs
from lit_symbolic.tasks.generating.program_sketches import one_operator_wrong

MISTAKES = 7
"""So many wrong programs are run beside each, spread over its operators: what they write says which inputs tell them apart."""


class TestBench:
    """Gives programs their tests. What they are depends on the program and its inputs alone, not on what else was asked for.

    Args:
        expected: What programs write.
        public: Tests that a failed answer is told of.
        hidden: Those that it is not.
    """

    __test__ = False

    def __init__(self, expected: ExpectedOutputs, public: int, hidden: int) -> None:
        self.expected, self.public, self.hidden = expected, public, hidden
        self._waiting: weakref.WeakValueDictionary[int, LateFacts] = weakref.WeakValueDictionary()
        self._drawn = 0
        self._lock = threading.Lock()

    def facts(self, prefix: str, code: str, inputs: tuple[str, ...]) -> LateFacts:
        """The facts of a problem, ``tests`` among them.

        Args:
            prefix: The fact of that name.
            code: The program.
            inputs: More than are needed: those come first on which programs with one wrong operator write something else.
        """
        with self._lock:
            self._drawn += 1
            facts = LateFacts(self, self._drawn, {"prefix": prefix}, code, inputs)
            self._waiting[self._drawn] = facts
        return facts

    def settle(self, wanted: LateFacts) -> None:
        """Make the tests of these facts, and of others that wait, those that were drawn next first."""
        with self._lock:
            if "tests" in wanted.known:
                return
            waiting = [facts for _, facts in sorted(self._waiting.items())]
            others = [facts for facts in waiting if facts is not wanted]
            others.sort(key=lambda facts: facts.number < wanted.number)
            settled = [wanted, *others[: TOGETHER // (1 + MISTAKES) - 1]]
            groups = [[facts.code, *_some(one_operator_wrong(facts.code))] for facts in settled]
            programs = [(code, facts.inputs) for facts, codes in zip(settled, groups, strict=True) for code in codes]
            outputs = iter(self.expected.of(programs))
            for facts, codes in zip(settled, groups, strict=True):
                written, *mistaken = [next(outputs) for _ in codes]
                facts.known["tests"] = self._chosen(facts.inputs, written, mistaken)
                self._waiting.pop(facts.number, None)

    def _chosen(self, inputs: Sequence[str], outputs: Sequence[str], mistaken: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
        """Tests, each of which finds as many mistakes as it can that those before it did not, and then writes something new."""
        left = [index for index, given in enumerate(inputs) if given not in inputs[:index]]
        unfound, seen, tests = list(mistaken), set[str](), list[dict[str, Any]]()
        while left and len(tests) < self.public + self.hidden:
            index = max(
                left,
                key=lambda index: (sum(other[index] != outputs[index] for other in unfound), outputs[index] not in seen, -index),
            )
            left.remove(index)
            unfound = [other for other in unfound if other[index] == outputs[index]]
            seen.add(outputs[index])
            tests.append({"input": inputs[index], "output": outputs[index], "hidden": len(tests) >= self.public})
        return tests


def _some(mistakes: Sequence[str]) -> Sequence[str]:
    """At most so many as are run, evenly spread."""
    step = max(1, -(-len(mistakes) // MISTAKES))
    return mistakes[::step]


class LateFacts(Mapping[str, Any]):
    """Facts whose ``tests`` are made when somebody looks at them. Pickled, they are a plain dictionary.

    Supervised fine-tuning never looks; reinforcement learning does at all problems of an iteration, which costs one compilation.

    Args:
        bench: Makes the tests.
        number: The place among those that it has drawn.
        known: What is known already.
        code: The program.
        inputs: Its inputs.
    """

    def __init__(self, bench: TestBench, number: int, known: dict[str, Any], code: str, inputs: tuple[str, ...]) -> None:
        self.bench, self.number, self.known, self.code, self.inputs = bench, number, known, code, inputs

    def __getitem__(self, name: str) -> Any:
        if name == "tests" and name not in self.known:
            self.bench.settle(self)
        return self.known[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*(name for name in self.known if name != "tests"), "tests"))

    def __len__(self) -> int:
        return len({*self.known, "tests"})

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.known!r})"

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)
