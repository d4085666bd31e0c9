"""The Python verifier: how fast it is, whether gold programs are certified, whether findings hit injected faults.

    python benchmarks/verifiers.py --tools python       # its tables
    python benchmarks/verifier_python.py --answers 100  # verifies so many answers, says nothing: for measuring from outside

Real programs: GSM-Hard's (PAL, ``solution()``), MBPP's and HumanEval's (with their tests), from the data folder beside the checkout.
"""

from __future__ import annotations

import argparse
import ast
import functools
import gzip
import io
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import time
import tokenize
from collections.abc import Callable
from pathlib import Path

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.verifiers.pool import VerifierPool
from lit_symbolic.verifiers.python_program import PythonProgramVerifier
from verifier_tables import Faults, Gold, Speed

DATA = Path(__file__).parents[2] / "shared" / "data"
VERIFIER = PythonProgramVerifier(fenced=False, wall_seconds=60)  # a busy machine is no fault
PROCESSES = 2

Program = tuple[Problem, str]
Fault = tuple[str, int, int]
Injection = Callable[[str, random.Random], Fault | None]


def gold_programs() -> dict[str, list[Program]]:
    """Gold programs by their set; those sets that are there."""
    sets: dict[str, list[Program]] = {}
    gsmhard, mbpp, humaneval = DATA / "gsmhard/gsmhardv2.jsonl", DATA / "mbpp/mbpp.jsonl", DATA / "humaneval/HumanEval.jsonl.gz"
    if gsmhard.exists():
        rows = [json.loads(line) for line in gsmhard.read_text().splitlines()]
        sets["GSM-Hard"] = [
            (Problem("gsmhard", f"row {place}", row["input"], {"answer": row["target"]}), row["code"])
            for place, row in enumerate(rows, 1)
        ]
    if mbpp.exists():
        rows = [json.loads(line) for line in mbpp.read_text().splitlines()]
        sets["MBPP"] = [
            (
                Problem(
                    "mbpp",
                    f"task {row['task_id']}",
                    row["text"],
                    {"tests": [*filter(None, [row["test_setup_code"]]), *row["test_list"]]},
                ),
                row["code"],
            )
            for row in rows
        ]
    if humaneval.exists():
        with gzip.open(humaneval, "rt") as file:
            rows = [json.loads(line) for line in file]
        sets["HumanEval"] = [
            (
                Problem("humaneval", row["task_id"], row["prompt"], {"tests": [f"{row['test']}\ncheck({row['entry_point']})"]}),
                row["prompt"] + row["canonical_solution"],
            )
            for row in rows
        ]
    return sets


def verify(items: list[Program]) -> list[Certificate]:
    """Certificates from a pool."""
    with VerifierPool(PROCESSES, deadline_seconds=90) as pool:
        return pool.verify(VERIFIER, items)


@functools.cache
def certified_gold(quick: bool) -> dict[str, list[tuple[Program, Certificate]]]:
    """Gold programs with their certificates."""
    chosen = {name: programs[: 40 if quick else None] for name, programs in gold_programs().items()}
    return {name: list(zip(programs, verify(programs), strict=True)) for name, programs in chosen.items()}


def speed(quick: bool) -> list[Speed]:
    """Processor time of an answer, all its processes together, and what two cores do with it."""
    answers, repetitions = (50, 3) if quick else (200, 5)
    milliseconds = []
    for _ in range(repetitions):
        start, whole = (_processor_seconds([__file__, "--answers", str(count)]) for count in (0, answers))
        milliseconds.append((whole - start) / answers * 1_000)
    bare = [_processor_seconds(["-I", "-S", "-c", "pass"]) * 1_000 for _ in range(4 * repetitions)]
    rate = [2_000 / each for each in milliseconds]
    problem, text = _sums(1)[0]
    with VerifierPool(PROCESSES, deadline_seconds=90, cache_megabytes=0) as pool:
        pool.verify(VERIFIER, [(problem, text)] * PROCESSES)
        walls = []
        for _ in range(repetitions):
            since = time.monotonic()
            pool.verify(VERIFIER, _sums(answers))
            walls.append(answers / (time.monotonic() - since))
    return [
        Speed("Python: processor time per program, sandbox and all, ms", *_spread(milliseconds)),
        Speed("Python: beside it, a bare interpreter that does nothing (`python -I -S -c pass`), ms", *_spread(bare)),
        Speed("Python: programs per second that this is on two free cores", *_spread(rate), target="at least 40"),
        Speed("Python: programs per second by the clock, two workers, on the machine as it was", *_spread(walls)),
    ]


def _sums(count: int) -> list[Program]:
    """Small programs that are all different."""
    return [
        (Problem("sums", str(n), "", {"answer": 5 * n}), f"def solution():\n    items = [{n}] * 5\n    return sum(items)")
        for n in range(count)
    ]


def _spread(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


def _processor_seconds(arguments: list[str]) -> float:
    """Of an interpreter started with these arguments and of all the processes that came of it.

    Counted by a control group of its own, where one can be made (by root). Elsewhere only what was waited for is counted, and a
    sandbox's first process, which the kernel kills and removes, is not.
    """
    for folder, file, per_second in (("cpuacct/", "cpuacct.usage", 1e9), ("", "cpu.stat", 1e6)):
        group = Path("/sys/fs/cgroup", f"{folder}verifier_python_{os.getpid()}")
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            _run(["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh", sys.executable, *arguments])
            while (group / "cgroup.procs").read_text():
                time.sleep(0.1)
            return int(re.findall(r"\d+", (group / file).read_text())[0]) / per_second
        finally:
            group.rmdir()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _run([sys.executable, *arguments])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run(command: list[str]) -> None:
    folders = [str(Path(__file__).parents[1]), str(Path(__file__).parent)]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)})


def gold(quick: bool) -> list[Gold]:
    """How many gold programs are certified correct."""
    rows = []
    for name, certified in certified_gold(quick).items():
        exceptions = [
            f"{problem.id}: {certificate.status}: {certificate.evidence.splitlines()[0] if certificate.evidence else ''}"
            for (problem, _), certificate in certified
            if not certificate.correct
        ]
        rows.append(Gold(name, len(certified), len(certified) - len(exceptions), exceptions))
    return rows


def faults(quick: bool) -> list[Faults]:
    """Inject faults of each kind into gold programs and see whether findings overlap them."""
    programs = [
        (problem, text.replace("\r\n", "\n"))
        for certified in certified_gold(quick).values()
        for (problem, text), certificate in certified
        if certificate.correct
    ]
    limit = 12 if quick else 200
    tables = []
    for kind, inject in INJECTIONS.items():
        rng = random.Random(kind)
        rng.shuffle(programs)
        broken = [(problem, fault) for problem, text in programs if (fault := inject(text, rng)) is not None][: 2 * limit]
        certificates = verify([(problem, fault[0]) for problem, fault in broken])
        table = Faults(kind)
        for (_, fault), certificate in zip(broken, certificates, strict=True):
            # A change that alters no result is no fault: the program is as right as before.
            if not certificate.correct and certificate.is_evidence and len(table.overlapped) < limit:
                table.add(certificate, *fault)
        tables.append(table)
    return tables


# --- faults ---


def _choose(
    text: str, rng: random.Random, kind: type[ast.AST], keep: Callable[[ast.AST], bool] = lambda node: True
) -> tuple[int, int, ast.AST] | None:
    """Characters of a random node of one kind inside a function."""
    lines = [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]

    def character(line: int, column: int) -> int:
        start = lines[line - 1]
        end = lines[line] if line < len(lines) else len(text)
        return start + len(text[start:end].encode()[:column].decode())

    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    nodes = [node for function in functions for statement in function.body for node in ast.walk(statement)]
    nodes = [node for node in nodes if isinstance(node, kind) and keep(node)]
    if not nodes:
        return None
    node = rng.choice(nodes)
    return character(node.lineno, node.col_offset), character(node.end_lineno, node.end_col_offset), node


def _loaded(node: ast.AST) -> bool:
    return isinstance(node.ctx, ast.Load)


def undefined_variable(text: str, rng: random.Random) -> Fault | None:
    """A use of a variable gets a name that is not defined."""
    found = _choose(text, rng, ast.Name, _loaded)
    if found is None:
        return None
    start, end, _ = found
    return f"{text[:end]}_zz{text[end:]}", start, end + 3


def wrong_attribute(text: str, rng: random.Random) -> Fault | None:
    """An attribute or method gets a name that does not exist."""
    found = _choose(text, rng, ast.Attribute, _loaded)
    if found is None:
        return None
    _, end, node = found
    return f"{text[:end]}_zz{text[end:]}", end - len(node.attr), end + 3


def division_by_zero(text: str, rng: random.Random) -> Fault | None:
    """An operation becomes a division by zero."""
    found = _choose(text, rng, ast.BinOp)
    if found is None:
        return None
    start, end, _ = found
    inserted = " / 0"
    return f"{text[:start]}({text[start:end]}){inserted}{text[end:]}", end + 2, end + 2 + len(inserted)


def type_error(text: str, rng: random.Random) -> Fault | None:
    """None is added to an operation's value."""
    found = _choose(text, rng, ast.BinOp)
    if found is None:
        return None
    start, end, _ = found
    return f"{text[:start]}({text[start:end]}) + None{text[end:]}", end + 2, end + 9


def missing_return(text: str, rng: random.Random) -> Fault | None:
    """The last return statement of a function is deleted, with its line if nothing else stands there."""
    found = _choose(text, rng, ast.Return)
    if found is None or not text[: found[0]].split("\n")[-1].isspace():
        return None
    start = len(text[: found[0]].rstrip())
    shorter = text[:start] + text[found[1] :]
    try:
        ast.parse(shorter)
    except SyntaxError:  # it was all of a block
        return None
    return shorter, start, start


def wrong_operator(text: str, rng: random.Random) -> Fault | None:
    """One operator becomes another."""
    others = {"+": "-", "-": "+", "*": "+", "/": "*", "<": ">", ">": "<", "==": "!=", "//": "*", "%": "+"}
    place = _token(text, rng, lambda token: token.type == tokenize.OP and token.string in others)
    if place is None:
        return None
    start, end = place
    other = others[text[start:end]]
    return text[:start] + other + text[end:], start, start + len(other)


def _deletion(*characters: str) -> Injection:
    def delete(text: str, rng: random.Random) -> Fault | None:
        place = _token(text, rng, lambda token: token.type == tokenize.OP and token.string in characters)
        if place is None:
            return None
        start, end = place
        shorter = text[:start] + text[end:]
        try:
            ast.parse(shorter)
        except (SyntaxError, ValueError):
            return shorter, start, start
        return None

    return delete


def missing_colon(text: str, rng: random.Random) -> Fault | None:
    """The colon at the head of a block is deleted."""
    heads = [
        match.end() - 1
        for match in re.finditer(r"^[ \t]*(?:def|if|elif|else|for|while|try|with)\b[^\n#]*:(?=[ \t]*\r?$)", text, re.M)
    ]
    if not heads:
        return None
    start = rng.choice(heads)
    shorter = text[:start] + text[start + 1 :]
    try:
        ast.parse(shorter)
    except SyntaxError:
        return shorter, start, start
    return None


def misspelled_keyword(text: str, rng: random.Random) -> Fault | None:
    """Two letters of a keyword change places."""
    words = ("return", "for", "while", "if", "else", "def", "in", "import")
    place = _token(text, rng, lambda token: token.type == tokenize.NAME and token.string in words)
    if place is None:
        return None
    start, end = place
    return f"{text[:start]}{text[start + 1]}{text[start]}{text[start + 2 :]}", start, end


def missing_quote(text: str, rng: random.Random) -> Fault | None:
    """The closing quote of a string on one line is deleted."""
    place = _token(text, rng, lambda token: token.type == tokenize.STRING and token.string[-3:] not in ('"""', "'''"))
    if place is None:
        return None
    return text[: place[1] - 1] + text[place[1] :], place[1] - 1, place[1] - 1


def wrong_indentation(text: str, rng: random.Random) -> Fault | None:
    """A line inside a function is indented by one blank more."""
    lines = [match.start() for match in re.finditer(r"^[ \t]+(?=[a-z])", text, re.M)]
    if not lines:
        return None
    start = rng.choice(lines)
    longer = f"{text[:start]} {text[start:]}"
    try:
        ast.parse(longer)
    except SyntaxError:
        return longer, start, start + 1
    return None


def _token(text: str, rng: random.Random, keep: Callable[[tokenize.TokenInfo], bool]) -> tuple[int, int] | None:
    """Characters of a random token."""
    starts = [0, *(match.end() for match in re.finditer("\n", text))]
    places = [
        (starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1])
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if keep(token)
    ]
    return rng.choice(places) if places else None


# In parentheses what stands apart from the total: there the wrong result shows, not its place.
INJECTIONS: dict[str, Injection] = {
    "deleted colon": missing_colon,
    "deleted closing bracket": _deletion(")", "]", "}"),
    "deleted opening bracket": _deletion("(", "[", "{"),
    "deleted quote": missing_quote,
    "misspelled keyword": misspelled_keyword,
    "wrong indentation": wrong_indentation,
    "undefined variable": undefined_variable,
    "wrong attribute": wrong_attribute,
    "division by zero": division_by_zero,
    "type error": type_error,
    "deleted return": missing_return,
    "(wrong operator)": wrong_operator,
}


def main() -> None:
    """Verify so many answers and say nothing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, required=True)
    for problem, text in [*_sums(1), *_sums(parser.parse_args().answers)]:  # the first starts what all use
        if not VERIFIER.verify(problem, text).correct:
            raise SystemExit(f"not certified: {text}")


if __name__ == "__main__":
    main()
