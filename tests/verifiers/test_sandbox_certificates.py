"""The attacks as answers: each verifier gives a certificate that says so, and verifies the next answer as if nothing had been."""

import contextlib
import shutil
from collections.abc import Iterator

import pytest

from lit_symbolic.certificate import Certificate, Problem, Status
from lit_symbolic.verifiers.cpp import CppVerifier
from lit_symbolic.verifiers.python_program import PythonProgramVerifier
from lit_symbolic.verifiers.sandbox import Sandbox
from sandbox_attacks import ATTACKS, BITES, CPP_HEADER, Attack
from sandbox_targets import CPP_ATTACKS, PYTHON_ATTACKS, Targets, assert_nothing_left
from sandboxes import available

ANSWER = "BITES"
CPP = Problem("cpp", "attack", "", {"tests": [{"input": "", "output": ANSWER}]})
PYTHON = Problem("python", "attack", "", {"answer": ANSWER})
CPP_VERIFIER = CppVerifier(headers=(), compile_seconds=20.0, run_seconds=1, run_megabytes=200, patience=2.0)
PYTHON_VERIFIER = PythonProgramVerifier(result="printed", cpu_seconds=1.0, wall_seconds=3.0, memory_megabytes=300)


@pytest.fixture(scope="module")
def targets() -> Iterator[Targets]:
    available(Sandbox())
    with contextlib.ExitStack() as stack:
        yield Targets(stack)


def assert_certified(certificate: Certificate, attack: Attack, targets: Targets) -> None:
    """Not correct; the answer's fault, or time that ran out while it waited."""
    assert not certificate.correct
    assert certificate.status in (Status.OK, Status.REJECTED, Status.TIMEOUT), certificate
    assert certificate.findings or certificate.status is Status.TIMEOUT
    assert "<SHM>" in attack.source or targets.token not in str(certificate)  # that name it was given
    assert_nothing_left(targets, waiting=1)  # an interpreter for the next answer


WIDER = {
    "filling the disk": ("range(8)", "range(200)"),
    "filling /tmp": ("range(8)", "range(200)"),
    "inodes without end": ("range(512)", "range(5000)"),
    "folders in folders without end": ("range(512)", "range(5000)"),
}
"""Counts of an attack, and those that reach its limit where it is a verifier's, which is wider."""
OWN = "descriptors that were left open, in Python"
"""No attack on the verifier: its interpreter has opened two by itself, one to report and one to nothing."""


def source_of(attack: Attack, targets: Targets) -> str:
    count, wider = WIDER.get(attack.name, ("", ""))
    assert count in attack.source
    return targets.fill_in(attack.source.replace(count, wider))


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.parametrize("attack", CPP_ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_in_cpp_gets_a_certificate(attack: Attack, targets: Targets) -> None:
    targets.reset()
    source = f"{CPP_HEADER}int main(int argc, char** argv) {{ {source_of(attack, targets)} }}\n"
    assert_certified(CPP_VERIFIER.verify(CPP, source), attack, targets)
    assert CPP_VERIFIER.verify(CPP, '#include <stdio.h>\nint main() { puts("BITES"); }\n').correct


@pytest.mark.parametrize("attack", [a for a in PYTHON_ATTACKS if a.name != OWN], ids=lambda attack: attack.name)
def test_an_attack_in_python_gets_a_certificate(attack: Attack, targets: Targets) -> None:
    targets.reset()
    assert_certified(PYTHON_VERIFIER.verify(PYTHON, source_of(attack, targets)), attack, targets)
    assert PYTHON_VERIFIER.verify(PYTHON, 'print("BITES")').correct


def test_the_attacks_with_wider_counts_are_attacks() -> None:
    assert {attack.name for attack in ATTACKS} >= WIDER.keys() | {OWN}
    assert BITES.decode() == ANSWER
