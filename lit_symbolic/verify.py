"""Verifies answers from a file and shows what is wrong with them: ``python -m lit_symbolic.verify --task Game24 answers.jsonl``.

A line of input is a JSON object with ``answer``, a string, and what it answers: either ``id``, the id of one of the task's
problems (of any split), or ``problem``, an object with ``facts`` (what the verifier reads) and, if you like, ``prompt``,
``reference`` and ``id``.

Exit status: 0 if all answers are correct, 1 if some are not, or have no evidence, 2 if the command line or a line of input is wrong,
or a tool is missing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import jsonargparse
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import lit_symbolic.tasks
import lit_symbolic.verifiers
from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.reporting.terminal import show_answer
from lit_symbolic.tasks.base import Split, Task
from lit_symbolic.verifiers.base import ToolUnavailable, Verifier, check_start
from lit_symbolic.verifiers.pool import AnswerPool, VerifierPool
from lit_symbolic.verifiers.ray_pool import RayVerifierPool

CORRECT, WRONG, USAGE, INTERRUPTED = 0, 1, 2, 130
POOLS: dict[str, type[AnswerPool]] = {"local": VerifierPool, "ray": RayVerifierPool}


class UsageError(Exception):
    """The command line or the input is wrong; the message says where and what was expected."""


@dataclass(frozen=True)
class Row:
    """One line of input.

    Args:
        place: File and line.
        problem: What is answered.
        answer: The answer.
    """

    place: str
    problem: Problem
    answer: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status.

    Args:
        arguments: In place of ``sys.argv[1:]``.
    """
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    try:
        judge, pool, settings = _parse(list(sys.argv[1:] if arguments is None else arguments))
        verifier = judge.verifier if isinstance(judge, Task) else judge
        rows = list(read_rows(settings.file, judge))
        if isinstance(pool, VerifierPool):  # a cluster's nodes have tools of their own
            print(*(f"{told}\n" for told in check_start([verifier])), sep="", end="", file=sys.stderr)
        with pool:
            return _verify(rows, verifier, pool, as_json=settings.json, only_wrong=settings.only_wrong)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:  # whoever read the output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return WRONG
    except (ToolUnavailable, ImportError, ConnectionError) as error:  # also if Ray is not installed, or its cluster is not there
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED


# --- the command line ---


def _parse(arguments: list[str]) -> tuple[Task | Verifier, AnswerPool, Any]:
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    first.add_argument("--task")
    first.add_argument("--pool", choices=POOLS, default="local")
    try:
        chosen, arguments = first.parse_known_args(arguments)
    except argparse.ArgumentError as error:
        raise UsageError(str(error)) from None
    name = chosen.task
    if name is not None:
        arguments = ["--task", name, *arguments]
    parser = jsonargparse.ArgumentParser(
        prog="python -m lit_symbolic.verify", description=__doc__, exit_on_error=False, allow_abbrev=False
    )
    parser.add_argument("file", nargs="?", default="-", help="JSON lines; - is standard input.")
    parser.add_argument(
        "--task",
        type=str,
        required=True,
        help="Task or verifier that judges, by its class: Game24, or lit_symbolic.verifiers.game24.Game24Verifier. "
        "Its settings are flags, --task.max_value 50; give --task and --help to see them.",
    )
    parser.add_argument("--json", action="store_true", help="A JSON object for each answer, instead of words.")
    parser.add_argument("--only_wrong", action="store_true", help="Leave out answers that are correct.")
    # Not as a group of its own, which would add another --pool, for a file of settings.
    where = "Where answers are verified: --pool local (the default), processes of this machine; --pool ray, a Ray cluster"
    parser.add_argument_group(where).add_class_arguments(POOLS[chosen.pool], "pool", as_group=False)
    kind: Any = find_class(name) if name else None
    if kind is not None:
        parser.add_class_arguments(kind, "judge")
    try:
        settings = parser.parse_args([re.sub(r"^--task\.", "--judge.", argument) for argument in arguments])
        # The older name is deprecated where there is the newer one.
        objects = (getattr(parser, "instantiate", None) or parser.instantiate_classes)(settings)
        judge = objects.judge if hasattr(objects, "judge") else kind()  # a class may have no settings
        return judge, POOLS[chosen.pool](**vars(settings.pool)), settings
    except (argparse.ArgumentError, ValueError, TypeError, OSError) as error:
        words = " ".join(str(error).split()).replace("judge.", "task.")
        raise UsageError(words or type(error).__name__) from None


def find_class(name: str) -> type[Task] | type[Verifier]:
    """The task or verifier of that name: a class path, or the bare name of a class of this package.

    Raises:
        UsageError: If there is none, or it is something else.

    Example:
        >>> find_class("Game24").__module__
        'lit_symbolic.tasks.game24'
    """
    path = name if "." in name else _path_of(name)
    module_name, _, class_name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"--task: {path} cannot be imported: {error}") from None
    is_task = isinstance(found, type) and issubclass(found, Task)
    if not is_task and not (isinstance(found, type) and callable(getattr(found, "verify", None))):
        raise UsageError(f"--task: {path} is neither a Task nor a Verifier")
    return found


def _path_of(name: str) -> str:
    """The class path of a bare name, found in the source: importing every tool would take longer than most verifications."""
    names = []
    for package in (lit_symbolic.tasks, lit_symbolic.verifiers):
        for module in pkgutil.iter_modules(package.__path__):
            source = Path(package.__path__[0], f"{module.name}.py")
            text = source.read_text() if source.is_file() else ""
            classes = re.findall(r"^class (\w+)\b.*:", text, re.M)
            if name in classes:
                return f"{package.__name__}.{module.name}.{name}"
            if package is lit_symbolic.tasks:
                names += [word for word in classes if re.search(rf"^class {word}\(.*Task\b", text, re.M)]
            else:
                names += [word for word in classes if word.endswith("Verifier") and word != "Verifier"]
    raise UsageError(f"--task: there is no task or verifier {name!r}; there are {', '.join(sorted(names))}, and class paths")


# --- input ---


def read_rows(file: str, judge: Task | Verifier) -> Iterator[Row]:
    """Read the answers of a file.

    Args:
        file: Its path; ``-`` is standard input.
        judge: The task, or the verifier, that they are for.

    Raises:
        UsageError: Names file and line of what is wrong.
    """
    name = "<stdin>" if file == "-" else file
    known: dict[str, Problem] | None = None
    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None
    for number, line in enumerate(data.split(b"\n"), 1):
        place = f"{name}:{number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{place}: not JSON: {error}") from None
        if not isinstance(row, dict) or not isinstance(row.get("answer"), str):
            raise UsageError(f"{place}: expected an object with 'answer', a string, got {_short(row)}")
        if "problem" in row:
            yield Row(place, _problem(row, judge, place), row["answer"])
            continue
        if known is None:
            known = _problems_of(judge)
        if not isinstance(row.get("id"), str) or row["id"] not in known:
            what = (
                f"the id {row['id']!r} is none of the task's" if "id" in row else f"neither 'id' nor 'problem' in {_short(row)}"
            )
            hint = f"ids look like {next(iter(known))!r}" if known else "only a task has ids; give 'problem' with 'facts'"
            raise UsageError(f"{place}: {what}; {hint}")
        yield Row(place, known[row["id"]], row["answer"])


def _problem(row: Mapping[str, Any], judge: Task | Verifier, place: str) -> Problem:
    given = row["problem"]
    if not isinstance(given, dict) or not isinstance(given.get("facts"), dict):
        raise UsageError(f"{place}: 'problem' is an object with 'facts', what the verifier reads; got {_short(given)}")
    fields = {
        "task": getattr(judge, "name", type(judge).__name__),
        "id": row.get("id", place),
        "prompt": "",
        "reference": None,
        **given,
    }
    unknown = sorted(set(fields) - {"task", "id", "prompt", "reference", "facts"})
    if unknown:
        raise UsageError(f"{place}: 'problem' has facts, prompt, reference, id; not {', '.join(map(repr, unknown))}")
    for name, value in fields.items():
        if name != "facts" and not isinstance(value, str) and not (name == "reference" and value is None):
            raise UsageError(f"{place}: {name!r} is a string, got {_short(value)}")
    return Problem(**fields)


def _problems_of(judge: Task | Verifier) -> dict[str, Problem]:
    if not isinstance(judge, Task):
        return {}
    try:
        return {problem.id: problem for split in get_args(Split) for problem in judge.problems(split)}
    except (ValueError, OSError) as error:
        raise UsageError(f"the task has no problems: {error}") from None


def _short(value: Any) -> str:
    words = json.dumps(value)
    return words if len(words) <= 100 else words[:99] + "…"


# --- output ---


def _verify(rows: Sequence[Row], verifier: Verifier, pool: AnswerPool, as_json: bool, only_wrong: bool) -> int:
    plain = bool(os.environ.get("NO_COLOR")) or not sys.stdout.isatty()
    console = Console(color_system=None if plain else "auto", soft_wrap=True, highlight=False, markup=False, emoji=False)
    counts = {"correct": 0, "wrong": 0, "without evidence": 0}
    with _progress(len(rows)) as progress:
        for row, certificate in _certificates(rows, verifier, pool):
            kind = "correct" if certificate.correct else "wrong" if certificate.is_evidence else "without evidence"
            counts[kind] += 1
            with progress():
                if certificate.correct and only_wrong:
                    pass
                elif as_json:
                    print(json.dumps({"id": row.problem.id, **certificate.as_record()}), flush=True)
                else:
                    console.print(show_answer(row.problem.id, certificate, row.answer, colour=not plain))
                    console.print()
    if not as_json:
        console.print(f"{len(rows)} answers: {', '.join(f'{count} {kind}' for kind, count in counts.items() if count) or 'none'}")
    return CORRECT if counts["correct"] == len(rows) else WRONG


def _certificates(rows: Iterable[Row], verifier: Verifier, pool: AnswerPool) -> Iterator[tuple[Row, Certificate]]:
    """Certificates in the order of the rows, each as soon as it and those before it are there."""
    pending = []
    for row in rows:
        try:
            pending.append((row, pool.submit(verifier, row.problem, row.answer)))
        except TypeError as error:
            raise UsageError(f"{row.place}: {error}") from None
    for row, verification in pending:
        yield row, verification.result()


@contextmanager
def _progress(total: int) -> Iterator[Any]:
    """A bar on standard error, where that is a terminal; what it gives is a context that counts one answer and steps aside."""
    shares_terminal = sys.stdout.isatty()
    columns = TextColumn("verifying"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())

    @contextmanager
    def step() -> Iterator[None]:
        if shares_terminal:
            bar.stop()
        yield
        bar.advance(task)
        if shares_terminal:
            bar.start()

    with bar:
        task = bar.add_task("verifying", total=total)
        yield step


if __name__ == "__main__":
    raise SystemExit(main())
