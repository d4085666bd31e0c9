"""Speed, gold programs and injected faults of the C++ verifier, for the tables of ``benchmarks/verifiers.py``.

    python benchmarks/verifiers.py --tools cpp   # all 3,135 gold programs: half an hour; what was verified before is not again

Gold programs: SPoC's, assembled from their lines, and HumanEval-X's (``tests/support/cpp_gold.py``).
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.verifiers.compiling.prelude import prelude
from lit_symbolic.verifiers.cpp import CppVerifier
from lit_symbolic.verifiers.pool import VerifierPool
from runs import ROOT
from verifier_tables import Faults, Gold, Speed

sys.path.insert(0, str(ROOT / "tests" / "support"))

from cpp_gold import HUMANEVAL_X, INJECTIONS, SPOC, SPOC_PREFIX, SPOC_STANDARD, Answer, humaneval_x, spoc

VERIFIER = CppVerifier(standard=SPOC_STANDARD, patience=1000)  # no deadline says anything on a machine that others use
PROCESSES = 2
DEADLINE_SECONDS = 4000.0
RESULTS = ROOT / "runs" / "verifier_cpp_gold.jsonl"
BATCH = 20
NO_RETURN = "undefined: a function that must return something ends without a `return`"
REASONS = {
    "52A-47507694-02": "undefined: it counts in `n1`, `n2` and `n3`, which nothing sets",
    "169A-47725179-54": NO_RETURN,
    "727A-48045717-01": NO_RETURN,
    "727A-47536703-02": NO_RETURN,
    "492A-48426978-10": "undefined: an index out of its array's bounds",
    "628A-44224243-01": "its own `void pause()` clashes with the system's",
    "CPP/22": "it needs boost",
}
"""Why a gold program does not pass here, looked up one by one."""


def speed(quick: bool) -> list[Speed]:
    """Processor time of a syntax certificate and of one with a test, beside g++ alone, in turn on the same programs."""
    if not SPOC.exists():
        return []
    repetitions, programs = (3, 4) if quick else (9, 12)
    VERIFIER.prepare()
    flags = (f"-std={VERIFIER.standard}", *VERIFIER.flags)
    header = str(prelude(VERIFIER.compiler, flags, VERIFIER.headers, VERIFIER.cache_dir))
    sample = random.Random(0).sample(list(spoc("eval")), programs)
    problem = Problem("spoc", "", "", {"prefix": SPOC_PREFIX})
    with tempfile.TemporaryDirectory() as folder:
        command = [VERIFIER.compiler, *flags, "-w", "-fdiagnostics-format=json"]

        def compiled(answer: Answer, *options: str) -> None:
            source = Path(folder, "answer.cpp")
            source.write_text(SPOC_PREFIX + answer.text)
            subprocess.run([*command, *options, str(source)], check=True, capture_output=True)

        def tested(answer: Answer) -> None:
            one = {"tests": answer.problem.facts["tests"][:1]}
            VERIFIER.verify(replace(answer.problem, facts={**answer.problem.facts, **one}), answer.text)

        ways: dict[str, Callable[[Answer], object]] = {
            "plain": lambda answer: compiled(answer, "-fsyntax-only"),
            "bare": lambda answer: compiled(answer, "-include", header, "-fsyntax-only"),
            "certificate": lambda answer: VERIFIER.verify(problem, answer.text),
            "linked": lambda answer: compiled(answer, "-include", header, "-pipe", "-o", str(Path(folder, "answer"))),
            "tested": tested,
        }
        for way in ways.values():
            way(sample[0])
        rows: list[dict[str, float]] = []
        for _ in range(repetitions):
            rows.append(dict.fromkeys(ways, 0.0))
            for answer in sample:
                for name, way in ways.items():
                    since = _processor_seconds()
                    way(answer)
                    rows[-1][name] += (_processor_seconds() - since) / programs

    def figure(what: str, of: Callable[[dict[str, float]], float], target: str = "") -> Speed:
        values = [of(row) for row in rows]
        return Speed(what, statistics.median(values), min(values), max(values), target)

    return [
        figure("g++ -fsyntax-only, ms of processor time", lambda row: 1e3 * row["plain"]),
        figure("the same with the shared header, ms", lambda row: 1e3 * row["bare"]),
        figure("syntax certificate, ms", lambda row: 1e3 * row["certificate"]),
        figure("plain g++ over certificate", lambda row: row["plain"] / row["certificate"], "at least 4"),
        figure("certificate above g++ with the header, ms", lambda row: 1e3 * (row["certificate"] - row["bare"]), "at most 15"),
        figure("g++ with the header, and its usual linker, ms", lambda row: 1e3 * row["linked"]),
        figure("certificate with one test, ms", lambda row: 1e3 * row["tested"]),
        figure("g++ with the header and its usual linker over that", lambda row: row["linked"] / row["tested"]),
    ]


def _processor_seconds() -> float:
    """Processor time of this process, of the children it waited for, and of its descendants that live on (the sandbox's)."""
    parents: dict[int, tuple[int, float]] = {}
    tick = os.sysconf("SC_CLK_TCK")
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                fields = Path("/proc", entry, "stat").read_bytes().rpartition(b")")[2].split()
            except OSError:
                continue
            parents[int(entry)] = int(fields[1]), sum(map(int, fields[11:15])) / tick
    own = os.getpid()

    def descends(process: int) -> bool:
        while process in parents:
            process = parents[process][0]
            if process == own:
                return True
        return False

    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    mine = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return mine + sum(seconds for process, (_, seconds) in parents.items() if descends(process))


def gold(quick: bool) -> list[Gold]:
    """Gold programs with all their public and hidden tests: SPoC's and HumanEval-X's, or a sample of both."""
    rows = []
    sets: dict[str, tuple[CppVerifier, list[Answer], int]] = {}
    if SPOC.exists():
        answers = [*spoc("eval"), *spoc("test")]
        sets["SPoC, train/split eval and test"] = VERIFIER, answers, 40
    if HUMANEVAL_X.exists():
        sets["HumanEval-X C++"] = replace(VERIFIER, standard=CppVerifier.standard), list(humaneval_x()), 20
    for source, (verifier, answers, count) in sets.items():
        name = source
        if quick:
            answers, name = random.Random(0).sample(answers, count), f"{source}: a sample of {count}"
        certified = list(_certified(verifier, answers, None if quick else RESULTS))
        exceptions = [_exception(identifier, why) for identifier, correct, why in certified if not correct]
        rows.append(Gold(name, len(certified), len(certified) - len(exceptions), exceptions))
    return rows


def _exception(identifier: str, symptom: str) -> str:
    return f"{identifier}: {REASONS.get(identifier, 'no reason known')} ({symptom})"


def _certified(verifier: CppVerifier, answers: list[Answer], results: Path | None) -> Iterator[tuple[str, bool, str]]:
    """For each answer whether it is correct, and why not. Those that stand in the file of results are not verified again."""
    known: dict[str, tuple[bool, str]] = {}
    if results is not None and results.exists():
        known = {row["id"]: (row["correct"], row["why"]) for row in map(json.loads, results.read_text().splitlines())}
    verifier.prepare()
    with VerifierPool(workers=PROCESSES, deadline_seconds=DEADLINE_SECONDS) as pool:
        todo = [answer for answer in answers if answer.problem.id not in known]
        for first in range(0, len(todo), BATCH):
            batch = todo[first : first + BATCH]
            for answer, certificate in zip(batch, pool.verify(verifier, [tuple(answer) for answer in batch]), strict=True):
                known[answer.problem.id] = certificate.correct, _reason(certificate)
                if results is not None:
                    results.parent.mkdir(exist_ok=True)
                    with results.open("a") as file:
                        row = {"id": answer.problem.id, "correct": certificate.correct, "why": _reason(certificate)}
                        file.write(json.dumps(row) + "\n")
    for answer in answers:
        yield answer.problem.id, *known[answer.problem.id]


def _reason(certificate: Certificate) -> str:
    words = certificate.findings[0].message if certificate.findings else f"{certificate.status}: {certificate.evidence}"
    return "" if certificate.correct else words[:200]


def faults(quick: bool) -> list[Faults]:
    """SPoC's programs with one fault each; what still compiles then is none, and left out."""
    if not SPOC.exists():
        return []
    answers = list(spoc("test"))
    random.Random(0).shuffle(answers)
    rows = []
    VERIFIER.prepare()
    with VerifierPool(workers=PROCESSES, deadline_seconds=DEADLINE_SECONDS) as pool:
        for number, (kind, inject) in enumerate(INJECTIONS.items()):
            generator = random.Random(number)
            row = Faults(kind)
            injected = (fault for answer in answers if (fault := inject(answer.text, generator)) is not None)
            while len(row.overlapped) < (12 if quick else 50):
                batch = [fault for fault, _ in zip(injected, range(BATCH), strict=False)]
                if not batch:
                    break
                problem = Problem("spoc", "", "", {"prefix": SPOC_PREFIX})
                certificates = pool.verify(VERIFIER, [(problem, fault.text) for fault in batch])
                for fault, certificate in zip(batch, certificates, strict=True):
                    if not certificate.correct:
                        row.add(certificate, fault.text, fault.start, fault.end)
            rows.append(row)
    return rows
