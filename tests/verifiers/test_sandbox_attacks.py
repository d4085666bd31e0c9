"""Each attack is contained, and nothing of it is left: no process, no file, and whoever asked goes on."""

import contextlib
import os
import pty
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_symbolic.verifiers.sandbox import Sandbox
from sandbox_attacks import ATTACKS, BITES, Attack
from sandbox_targets import CPP_ATTACKS, PYTHON_ATTACKS, Targets, assert_nothing_left, left_behind, number
from sandboxes import available

# Some run as nobody on the host, whose processes are limited in sum: not beside each other.
pytestmark = pytest.mark.xdist_group("nobody on the host")

# Those that use up processor time are shown once: the means make no difference to them.
CASES = [(attack, means) for attack in ATTACKS for means in ("bubblewrap", "kernel")[attack.limits.cpu_seconds == 1 :]]


@pytest.fixture(scope="module")
def targets() -> Iterator[Targets]:
    with contextlib.ExitStack() as stack:
        yield Targets(stack)


@pytest.mark.parametrize(("attack", "means"), CASES, ids=[f"{attack.name}-{means}" for attack, means in CASES])
def test_an_attack_is_contained_and_nothing_of_it_is_left(attack: Attack, means: str, targets: Targets) -> None:
    sandbox = available(Sandbox(means=means))  # type: ignore[arg-type]
    began = time.monotonic()
    execution = targets.attack(attack, sandbox)
    assert BITES not in execution.stdout, execution
    assert execution.outcome in attack.outcomes, execution
    assert attack.says in execution.stdout, execution
    assert time.monotonic() - began < attack.limits.wall_seconds + 15.0
    assert_nothing_left(targets)


@pytest.mark.parametrize("name", ["the environment's secrets", "descriptors that were left open, in Python"])
def test_what_could_be_inherited_is_inherited_only_outside(name: str, targets: Targets) -> None:
    attack = next(attack for attack in PYTHON_ATTACKS if attack.name == name)
    targets.reset()
    bare = subprocess.run(
        [sys.executable, "-c", targets.fill_in(attack.source)], close_fds=False, capture_output=True, check=True
    )
    assert BITES in bare.stdout
    assert BITES not in targets.attack(attack, available(Sandbox())).stdout


WITH_A_TERMINAL = """
import json, os, sys
sys.path[:0] = {paths}
from lit_symbolic.verifiers.sandbox import Layer, Sandbox
from sandboxes import python
os.close(os.open(os.ttyname(0), os.O_RDWR))  # the first that a session opens is its terminal
attack = {attack!r}
exec(attack)
for sandbox in (Sandbox(), Sandbox(without=frozenset({{Layer.MOUNT_NAMESPACE, Layer.LANDLOCK}}))):
    print("then", python(sandbox, attack).stdout.decode())
"""


def test_the_terminal_is_reached_only_outside_also_where_its_device_is_seen() -> None:
    available(Sandbox())
    attack = next(attack for attack in PYTHON_ATTACKS if attack.name == "the terminal")
    paths = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "support")]
    script = WITH_A_TERMINAL.format(paths=paths, attack=attack.source)
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"typed\n")
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, stdin=theirs, capture_output=True, start_new_session=True, timeout=120)
    finally:
        os.close(ours)
        os.close(theirs)
    outside, inside, seen = done.stdout.split(b"then")
    assert BITES in outside, done
    assert b"No such file or directory" in inside
    assert b"No such device or address" in seen  # it is there, and the execution's session has none


def test_there_are_at_least_forty_attacks_in_both_languages() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 40
    assert min(len(PYTHON_ATTACKS), len(CPP_ATTACKS)) >= 15


@pytest.mark.parametrize("bare", [False, True])
def test_a_daemon_outlives_its_parent_only_outside(bare: bool, targets: Targets) -> None:
    attack = next(attack for attack in CPP_ATTACKS if attack.name.startswith("a daemon"))
    targets.attack(attack, available(Sandbox()))
    assert not left_behind(targets.token)
    if bare:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "attacks")
            path.write_bytes(targets.program)
            path.chmod(0o755)
            subprocess.run([path, str(number(attack)), targets.token], stdout=subprocess.DEVNULL, check=True)
        left = left_behind(targets.token)
        for pid in left:
            os.kill(pid, 9)
        assert left
