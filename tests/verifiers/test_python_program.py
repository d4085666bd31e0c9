"""Certificates of Python programs: what is right, and where what is wrong stands."""

from __future__ import annotations

import doctest
import json
import os
import pickle
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from lit_symbolic.certificate import Certificate, Problem, Status
from lit_symbolic.verifiers import Verifier
from lit_symbolic.verifiers.python_program import KINDS, PythonProgramVerifier
from lit_symbolic.verifiers.sandbox import Sandbox, SandboxUnavailable


def sandboxed() -> bool:
    try:
        return Sandbox().run(["true"]).returncode == 0
    except SandboxUnavailable:
        return False


pytestmark = pytest.mark.skipif(not sandboxed(), reason="needs bubblewrap, or a kernel that lets users make namespaces")

ROOT = Path(__file__).parents[2]
GSMHARD = Path(__file__).parents[3] / "shared" / "data" / "gsmhard" / "gsmhardv2.jsonl"
VERIFIER = PythonProgramVerifier(wall_seconds=60)  # waiting is no fault, also on a busy machine


def certify(text: str, verifier: PythonProgramVerifier = VERIFIER, **facts: object) -> Certificate:
    return verifier.verify(Problem("math", "0", "", facts or {"answer": 42}), text)


def findings(text: str, verifier: PythonProgramVerifier = VERIFIER, **facts: object) -> list[tuple[str, str]]:
    certificate = certify(text, verifier, **facts)
    assert not certificate.correct
    assert all(finding.kind in KINDS for finding in certificate.findings)
    return [(finding.kind, text[finding.start : finding.end]) for finding in certificate.findings]


# --- right answers ---


@pytest.mark.parametrize(
    "text",
    [
        "def solution():\n    return 42",
        "def solution():\r\n    x = 6\r\n    return x * 7\r\n",
        "from fractions import Fraction\ndef solution():\n    return Fraction(84, 2)",
        "from decimal import Decimal\ndef solution():\n    return Decimal('42.0')",
        "import math\ndef solution():\n    return math.sqrt(1764)",
        "solution = lambda: '42'",
        "print('working')\nprint(6 * 7)",
        "import sys\nsys.stdout.buffer.write(b'42\\n')",
        "print('The answer is 42.')\nexit()",
        "import os\nos.system('echo 42')",
        "if __name__ == '__main__':\n    print(42)",
        "Let me compute.\n```python\nprint(42)\n```\nSo it is 42.",
        "print(1)\ndef solution():\n    return 42",
        "import threading\nthreading.Thread(target=lambda: None).start()\ndef solution(): return 42",
        "def solution():\n    été = 42\n    return été",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    x: int = 42\nprint(A().x)",
        "import random\nprint(42 if random.random() == 0.8444218515250481 else 0)",
    ],
)
def test_a_program_whose_result_is_expected_is_correct_and_has_no_findings(text):
    certificate = certify(text)
    assert certificate.correct, certificate
    assert certificate.findings == ()
    assert certificate.measures == {"compiles": 1, "runs": 1, "result": 1, "solved": 1}


def test_the_result_may_be_fixed_to_what_solution_returns_or_to_what_is_printed():
    text = "print(1)\ndef solution():\n    return 42"
    assert certify(text, replace(VERIFIER, result="solution")).correct
    assert certify(text, replace(VERIFIER, result="printed"), answer=1).correct
    assert findings("print(42)", replace(VERIFIER, result="solution")) == [("no_result", "")]


def test_a_problem_may_bring_its_own_tolerance_and_order():
    text = "def solution():\n    return [3.14, 2]"
    assert not certify(text, answer=[2, 3.14159]).correct
    assert certify(text, answer=[2, 3.14159], tolerance=0.01, ordered=False).correct


# --- wrong answers ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def solution():\n    x = 1\n    return x / 0", ("exception", "x / 0")),
        ("def solution():\n    x = 1\n    return undefined + x", ("exception", "undefined")),
        ("def solution():\n    return [1, 2].length", ("exception", "[1, 2].length")),
        ("def half(n):\n    return n / None\n\ndef solution():\n    return half(3)", ("exception", "n / None")),
        ("import json\nx = json.loads('{')\nprint(x)", ("exception", "json.loads('{')")),
        ("def solution():\n    'é'; raise ValueError('變')", ("exception", "raise ValueError('變')")),
        ("print(input())", ("exception", "input()")),
        ("def f(n):\n    return f(n + 1)\nf(0)", ("exception", "f(n + 1)")),
        ("class Hidden(BaseException): pass\nraise Hidden", ("exception", "raise Hidden")),
        ("def solution(): return exit(3)", ("exception", "exit(3)")),
        ("def solution(n):\n    return n", ("exception", "")),
        ("def solution():\n    x = 6\n    return x * 8", ("goal", "x * 8")),
        ("def solution():\n    if 1 > 2:\n        return 42\n    return 41", ("goal", "41")),
        ("def solution():\n    for i in range(9):\n        if i > 3:\n            return i\n    return 42", ("goal", "i")),
        ("def solution():\n    def inner():\n        return 42\n    return inner() + 1", ("goal", "inner() + 1")),
        ("def solution():\n    return object()", ("goal", "object()")),
        ("print('x', end='')\nprint(7, 8)\nprint()", ("goal", "print(7, 8)")),
        ("def solution():\n    result = 42\n", ("no_result", "")),
        ("def solution():\n    return", ("no_result", "return")),
        ("def solution():\n    x = 42\n    return None", ("no_result", "None")),
        ("x = 42", ("no_result", "")),
        ("", ("no_result", "")),
        ("exit(1)", ("no_result", "exit(1)")),
        ("import os\nos._exit(0)", ("no_result", "")),
        ("def solution()\n    return 42", ("syntax", ")")),
        ("x = '\0'", ("syntax", "\0")),
        ("x = '\ud800'", ("syntax", "\ud800")),
        ("Here:\n```python\nx = 1\nx.y\n```", ("exception", "x.y")),
    ],
)
def test_what_is_wrong_is_shown_where_it_stands(text, expected):
    assert findings(text) == [expected]


def test_the_message_names_the_result_and_what_was_expected():
    (finding,) = certify("def solution():\n    return 6 * 8").findings
    assert finding.message == "this is 48, not 42"


def test_an_empty_finding_stands_where_something_is_missing():
    text = "def solution():\n    result = 42\n\n"
    (finding,) = certify(text).findings
    assert finding.start == finding.end == text.index("\n\n")


def test_the_score_tells_apart_what_does_not_compile_does_not_run_and_is_wrong():
    texts = ("def solution(:", "def solution(): return 1/0", "def solution(): return 41", "def solution(): return 42")
    certificates = [certify(text) for text in texts]
    assert [certificate.score for certificate in certificates] == [0.0, 0.2, 0.35, 1.0]
    assert [certificate.measures["compiles"] for certificate in certificates] == [0, 1, 1, 1]
    assert [certificate.measures["runs"] for certificate in certificates] == [0, 0, 1, 1]


# --- tests as facts ---

ADD = "def add(a, b):\n    return a + b"


def test_tests_are_run_one_by_one_and_counted():
    certificate = certify(ADD, tests=["assert add(1, 2) == 3", "assert 5 == add(2, 2)", "assert add(1, 2) > 4", "add(1, 1)"])
    assert not certificate.correct
    assert certificate.measures["tests"] == 4
    assert certificate.measures["tests_passed"] == 2
    assert 0.35 < certificate.score < 1
    assert certificate.findings[0].message == "add(2, 2) is 4, not 5"
    assert certify(ADD, tests=["assert add(1, 2) == 3", "import math\nassert math.isclose(add(0.1, 0.2), 0.3)"]).correct


def test_an_exception_in_a_test_is_shown_where_it_arose():
    assert findings(ADD, tests=["assert add(1, '2') == 3"]) == [("exception", "a + b")]
    assert findings(ADD, tests=["assert add(1) == 3"]) == [("goal", "")]
    assert findings(ADD, tests=["assert subtract(1, 2) == 3"]) == [("goal", "")]


def test_of_a_test_that_compares_with_a_literal_the_value_is_compared_outside():
    always_equal = "class Yes:\n    def __eq__(self, other): return True\ndef add(a, b): return Yes()"
    assert not certify(always_equal, tests=["assert add(1, 2) == 3"]).correct
    assert findings("def f(): return [1, 2]", tests=["assert f() == (1, 2)"]) == [("goal", "")]
    assert certify("def f(): return {1: {'a': (2.5, None)}}", tests=["assert f() == {1: {'a': (2.5, None)}}"]).correct


def test_a_problem_without_anything_to_judge_by_is_the_caller_s_mistake():
    for facts, message in (
        ({"target": 1}, "needs the fact"),
        ({"tests": []}, "at least one"),
        ({"tests": ["def"]}, "not a test"),
    ):
        with pytest.raises(ValueError, match=message):
            certify("print(1)", **facts)


# --- limits ---


def test_processor_time_that_is_used_up_is_the_answer_s_fault_and_shown_at_the_line_that_ran():
    verifier = replace(VERIFIER, cpu_seconds=0.3)
    text = "def solution():\n    n = 0\n    while True:\n        n += 1"
    certificate = certify(text, verifier)
    assert certificate.status is Status.REJECTED
    (finding,) = certificate.findings
    assert finding.kind == "time"
    assert text[finding.start : finding.end] in ("n += 1", "while True:")
    assert findings("x = 7 ** 10 ** 8\nprint(x)", verifier) == [("time", "x = 7 ** 10 ** 8")]  # inside one operation


def test_a_program_that_only_waits_is_no_evidence():
    certificate = certify("import time\ntime.sleep(60)", PythonProgramVerifier(wall_seconds=0.5))
    assert certificate.status is Status.TIMEOUT
    assert certificate.findings == ()


def test_memory_output_and_length_are_limited():
    assert findings("x = 1\ny = bytearray(1 << 40)") == [("memory", "bytearray(1 << 40)")]
    assert findings("while True:\n    print('x' * 1000)") == [("exception", "print('x' * 1000)")]
    assert findings("#" * 20_001) == [("too_long", "#" * 20_001)]
    assert certify("#" * 20_001).status is Status.REJECTED


def test_a_program_that_kills_its_interpreter_is_at_fault():
    certificate = certify("import ctypes\nctypes.string_at(0)")
    assert certificate.status is Status.REJECTED
    assert [finding.kind for finding in certificate.findings] == ["crash"]
    assert findings("import os\nos.kill(os.getpid(), 9)")[0][0] == "crash"


# --- the verifier itself ---


def test_the_example_of_the_documentation_runs():
    text = str(PythonProgramVerifier.__doc__).replace("  # doctest: +SKIP", "").replace("Verifier()", "Verifier(wall_seconds=60)")
    names = {"Problem": Problem, "PythonProgramVerifier": PythonProgramVerifier}
    example = doctest.DocTestParser().get_doctest(text, names, "PythonProgramVerifier", None, 0)
    assert len(example.examples) == 6
    assert doctest.DocTestRunner().run(example).failed == 0


def test_a_worker_has_an_interpreter_ready_before_its_first_answer():
    code = "import pickle, sys; from lit_symbolic.verifiers.interpreting import interpreter as p; v = pickle.loads(sys.stdin.buffer.read())"
    code += "; print(len(p._Waiting._ready))"
    done = subprocess.run([sys.executable, "-c", code], input=pickle.dumps(VERIFIER), capture_output=True, cwd=ROOT, check=True)
    assert done.stdout == b"1\n"


def test_it_is_a_verifier_that_can_be_pickled_and_hashed():
    verifier = PythonProgramVerifier(libraries=["sympy", "mpmath"], tolerance=0.5)
    assert isinstance(verifier, Verifier)
    assert pickle.loads(pickle.dumps(verifier)) == verifier
    assert hash(verifier) != hash(PythonProgramVerifier())


def test_settings_that_make_no_sense_are_refused():
    for settings in ({"cpu_seconds": 0}, {"tolerance": -1}, {"memory_megabytes": 0}, {"relative_tolerance": float("nan")}):
        with pytest.raises(ValueError, match="is"):
            PythonProgramVerifier(**settings)
    with pytest.raises(ValueError, match="not installed"):
        certify("print(42)", PythonProgramVerifier(libraries=["no_such_library"]))


def test_an_interpreter_that_was_killed_while_it_waited_is_replaced():
    assert certify("print(42)").correct
    children = subprocess.run(["ps", "-eo", "pid,ppid,stat"], capture_output=True, text=True, check=True).stdout.split("\n")[1:]
    parents = {int(line.split()[0]): int(line.split()[1]) for line in children if line.split() and "Z" not in line.split()[2]}

    def is_ours(pid: int) -> bool:
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()

    for pid in parents:
        if pid != os.getpid() and is_ours(pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert certify("print(42)").correct


def test_libraries_are_there_only_on_request():
    text = "import sympy\ndef solution():\n    return sympy.Rational(1, 3) + sympy.sqrt(4)"
    with_sympy = PythonProgramVerifier(libraries=("sympy", "mpmath"), cpu_seconds=20, wall_seconds=120)
    assert certify(text, with_sympy, answer=7 / 3).correct
    assert findings(text, answer=7 / 3) == [("exception", "import sympy")]


def test_the_same_answer_has_the_same_certificate():
    text = "import random\nx = {str(n) for n in range(50)}\nprint(list(x)[0], random.random(), object())"
    assert certify(text, answer="?") == certify(text, answer="?")


@pytest.mark.skipif(not GSMHARD.exists(), reason=f"needs the public data: {GSMHARD}")
def test_gold_programs_of_gsm_hard_are_certified():
    rows = [json.loads(line) for line in GSMHARD.read_text().splitlines()][::10]
    assert [certify(row["code"], answer=row["target"]).correct for row in rows] == [True] * 10
