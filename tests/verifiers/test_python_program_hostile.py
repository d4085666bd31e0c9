"""Programs that attack the one who judges them: other answers, the report, the comparison; and texts that are no programs."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_symbolic.certificate import Certificate, Problem, Status
from lit_symbolic.verifiers.pool import VerifierPool
from lit_symbolic.verifiers.python_program import PythonProgramVerifier
from lit_symbolic.verifiers.sandbox import Sandbox, SandboxUnavailable


def sandboxed() -> bool:
    try:
        return Sandbox().run(["true"]).returncode == 0
    except SandboxUnavailable:
        return False


pytestmark = pytest.mark.skipif(not sandboxed(), reason="needs bubblewrap, or a kernel that lets users make namespaces")

VERIFIER = PythonProgramVerifier(cpu_seconds=0.4, wall_seconds=60.0)
PROBLEM = Problem("math", "0", "", {"answer": 42})
RIGHT = "def solution():\n    return 42"


def certify(text: str) -> Certificate:
    certificate = VERIFIER.verify(PROBLEM, text)
    for finding in certificate.findings:
        assert finding.end <= len(text)
        f"{finding.message}{certificate.evidence}".encode()
    return certificate


# --- no two answers share anything ---


def test_what_one_answer_does_to_builtins_the_next_does_not_see():
    poison = "import builtins, math, sys\nbuiltins.poison = 42\nmath.pi = 42\nsys.modules['poison'] = sys\ndef solution(): return poison"
    assert certify(poison).correct
    assert certify("def solution():\n    return poison").findings[0].message == "NameError: name 'poison' is not defined"
    assert certify("import math\nprint(math.pi)").findings[0].message == "this is '3.141592653589793', not 42"
    assert not certify("import poison\nprint(42)").correct


def test_an_answer_finds_no_file_of_another():
    write = "\n".join(
        [
            "import os",
            "for folder in ('/tmp', '/work', '/dev/shm', '/var/tmp', os.path.expanduser('~'), '.'):",
            "    try:",
            "        open(folder + '/left_behind', 'w').write('42')",
            "    except OSError:",
            "        pass",
            "found = [f for d in ('/tmp', '/work', '/dev/shm', '/var/tmp', '.') if os.path.isdir(d) for f in os.listdir(d)]",
            "print(42 if 'left_behind' in found else 0)",
        ]
    )
    read = write.replace("open(folder + '/left_behind', 'w').write('42')", "pass")
    assert certify(write).correct
    assert not certify(read).correct


def test_every_answer_has_its_own_processes():
    """Process ids start anew: a child of the second answer has the same small number as one of the first."""
    text = "import os\nchild = os.fork()\nif not child:\n    os._exit(0)\nos.waitpid(child, 0)\nprint(child)"
    first, second = (int(certify(text).findings[0].message.split("'")[1]) for _ in range(2))
    assert first == second
    assert first < 50


# --- the report cannot be had for nothing ---


def test_a_report_that_is_printed_is_not_taken_for_one():
    for fd in range(3, 10):
        forged = """import os\nline = b'{"end": "value", "from": "solution", "value": ["int", "0x2a"], "at": null}'\ntry:\n"""
        forged += f"    os.write({fd}, b'\\n' + line + b'\\n')\nexcept OSError:\n    pass\ndef solution():\n    return 41"
        assert not certify(forged).correct


def test_what_is_expected_is_not_in_the_interpreter():
    """A program that reads every object of its interpreter finds the request, and in it no answer."""
    search = "\n".join(
        [
            "import sys",
            "def strings(value):",
            "    if isinstance(value, dict):",
            "        return [s for k, v in value.items() for s in [repr(k), *strings(v)]]",
            "    return [repr(value)]",
            "frame, found = sys._getframe(), []",
            "while frame:",
            "    request = getattr(frame.f_locals.get('self'), 'request', None)",
            "    found += strings(request) if request else []",
            "    frame = frame.f_back",
            "print(len(found) > 5, any('73195' in s for s in found if 'getframe' not in s))",
        ]
    )
    certificate = VERIFIER.verify(Problem("math", "0", "", {"answer": 73195}), search)
    assert "'True False'" in certificate.findings[0].message


def test_a_forged_report_is_at_best_a_result_and_at_worst_a_wrong_answer():
    forge = "\n".join(
        [
            "import os, sys",
            "frame = sys._getframe()",
            "while 'self' not in frame.f_locals:",
            "    frame = frame.f_back",
            "harness = frame.f_locals['self']",
            "os.write(harness.reports, (harness.request['nonce'] + {!r} + '\\n').encode())",
            "os._exit(0)",
        ]
    )
    for line in (
        "{}",
        '{"end": "value"}',
        '{"end": "value", "value": 1, "at": [1, 2]}',
        '{"end": "syntax", "at": ["x", 1, 1, 1]}',
        '{"end": "exception", "at": [1, 999999999, 3, -5], "message": {}}',
        '{"end": "value", "tests": []}',
        '{"end": 3}',
        "[" * 100_000,
    ):
        certificate = certify(forge.format(line))
        assert certificate.is_evidence
        assert not certificate.correct


@pytest.mark.parametrize(
    "text",
    [
        "import os\nos.fork()\n" + RIGHT,
        "import sys\nsys.stdout = None\n" + RIGHT,
        "import sys\nsys.stdout.close()\n" + RIGHT,
        "import builtins\nbuiltins.isinstance = builtins.len = None\n" + RIGHT.replace("42", "41"),
        "import json\njson.dumps = lambda *a: 1/0\n" + RIGHT,
        "import sys\nsys.setrecursionlimit(50)\n" + RIGHT,
        "import sys\nsys.modules.clear()\n" + RIGHT,
        "import signal\nsignal.setitimer(signal.ITIMER_PROF, 0)\nwhile True: pass",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
        "import os\nos.closerange(0, 1000)\n" + RIGHT,
        "class E(Exception):\n    def __str__(self): raise self\nraise E",
        "class E(int):\n    __index__ = __int__ = __repr__ = None\ndef solution(): return E(41)",
        "class L(list):\n    def __iter__(self):\n        while True: yield 1\ndef solution(): return L()",
        "def solution():\n    x = []\n    x.append(x)\n    return x",
        "def solution():\n    return [0] * 10**6",
        "def solution():\n    return 10**10**6",
        "def solution():\n    return '😀' * 10**6",
        "x = " + "(" * 5_000,
        "x = " + "-" * 15_000 + "1",
        "x = " + "+".join(["1"] * 9_000),
        "\n".join(" " * n + "if 1:" for n in range(150)),
        "x = " + "9" * 19_000,
        "x = 1 << 10**11",
        "lambda: " * 2_000 + "1",
    ],
)
def test_a_hostile_program_gets_a_certificate_in_bounded_time(text):
    before = time.monotonic()
    certificate = certify(text)
    assert time.monotonic() - before < 100
    if not certificate.correct:
        assert certificate.is_evidence, certificate
        assert certificate.findings


# --- texts ---


WORDS = [
    "def solution():\n",
    "    return ",
    "42",
    "print(",
    ")",
    "(",
    "'",
    '"""',
    "\n",
    "\r\n",
    "\t",
    " ",
    "x",
    "=",
    ":",
    "lambda",
]
ODD = [
    "é",
    "😀",
    "\0",
    "\ud83d",
    "\x1b[2J",
    "\u2028",
    "```python\n",
    "```",
    "while True:",
    "raise",
    "import os",
    "\\",
    "#",
    "if",
    "9" * 50,
]


@given(st.lists(st.sampled_from(WORDS + ODD), max_size=15).map("".join))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_gets_a_certificate_with_findings_inside_it(text):
    before = time.monotonic()
    certificate = certify(text)
    assert certificate.is_evidence
    assert certificate.correct or certificate.findings
    assert time.monotonic() - before < 100


@pytest.mark.parametrize("text", ["x" * 1_000_000, "\0" * 1_000_000, "\ud800" * 1_000_000, "(" * 1_000_000, "\n" * 1_000_000])
def test_a_very_long_text_is_rejected_at_once(text):
    before = time.process_time()
    assert certify(text).status is Status.REJECTED
    long = PythonProgramVerifier(max_characters=2_000_000).verify(PROBLEM, text)
    assert not long.correct
    assert time.process_time() - before < 5


def test_answers_are_verified_through_the_pool_and_leave_no_process_behind():
    texts = [
        RIGHT,
        "while True: pass",
        "import os\nwhile True: os.fork()",
        "import os\nif os.fork() == 0:\n    os.setsid()\n    while True: pass",
    ]
    verifier = replace(VERIFIER, libraries=(MARK,))
    with VerifierPool(workers=2, deadline_seconds=100) as pool:
        certificates = pool.verify(verifier, [(PROBLEM, text) for text in texts * 2])
        assert _running_interpreters()
    assert [certificate.correct for certificate in certificates[::4]] == [True, True]
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _running_interpreters():
        time.sleep(0.1)
    assert _running_interpreters() == []


MARK = "nturl2path"
"""A module that no other test has imported ahead: by it these interpreters are found among all processes."""


def _running_interpreters() -> list[str]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    command = file.read()
            except OSError:
                continue
            if MARK.encode() in command:
                found.append(entry)
    return found
