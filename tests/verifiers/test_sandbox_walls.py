"""Each wall that stands against an attack contains it alone; without all of them it bites. So each of these checks can fail."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lit_symbolic.verifiers.sandbox import Layer, Sandbox
from sandbox_attacks import ATTACKS, BITES, Attack
from sandbox_targets import Targets, assert_nothing_left
from sandboxes import available

# Some run as nobody on the host, whose processes are limited in sum: not beside each other.
pytestmark = pytest.mark.xdist_group("nobody on the host")


@pytest.fixture(scope="module")
def targets() -> Iterator[Targets]:
    with contextlib.ExitStack() as stack:
        yield Targets(stack)


WALLS = [(attack, wall) for attack in ATTACKS for wall in sorted(attack.walls or ()) if len(attack.walls or ()) > 1]


@pytest.mark.parametrize(("attack", "wall"), WALLS, ids=[f"{attack.name}-{wall}" for attack, wall in WALLS])
def test_each_of_its_walls_alone_contains_an_attack(attack: Attack, wall: Layer, targets: Targets) -> None:
    assert attack.walls is not None
    sandbox = available(Sandbox(without=attack.walls - {wall}))
    assert wall in sandbox.layers().active
    execution = targets.attack(attack, sandbox)
    assert BITES not in execution.stdout, execution
    assert_nothing_left(targets)


BITING = [attack for attack in ATTACKS if attack.walls]


@pytest.mark.parametrize("attack", BITING, ids=lambda attack: attack.name)
def test_an_attack_bites_where_its_walls_are_taken_away(attack: Attack, targets: Targets, temporary_folder: Path) -> None:
    assert attack.walls
    if attack.root_only and os.geteuid() != 0:
        pytest.skip("needs root: others could not do this anyway")
    if attack.name == "a core dump" and Path("/proc/sys/kernel/core_pattern").read_text()[0] in "|/":
        pytest.skip("needs a machine that leaves core dumps where the program ran")
    if attack.name == "IPv6" and targets.values["PORT6"] == "1":
        pytest.skip("needs IPv6")
    if attack.name == "reading the project" and not Path(__file__).stat().st_mode & 0o004:
        pytest.skip("needs a project that others may read")
    sandbox = available(Sandbox(without=attack.walls))
    assert not attack.walls & sandbox.layers().active
    execution = targets.attack(replace(attack, limits=replace(attack.limits, wall_seconds=30.0)), sandbox)
    assert BITES in execution.stdout, execution
    targets.reset()
    assert_nothing_left(targets)
    assert not list(temporary_folder.iterdir())
