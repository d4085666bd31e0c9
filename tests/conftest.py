"""Fixtures of the end-to-end tests: tiny runs, made once."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from lightning import Trainer

    from lit_symbolic.cli import SymbolicCLI
    from lit_symbolic.modules import SymbolicModule
    from lit_symbolic.policies import TinyLlama
    from lit_symbolic.tasks import Task

# What the tests share, and their verifiers, are found by the same name here and in worker processes, which get this path too.
# (Not this folder: its ``callbacks`` would hide the package's.)
sys.path.insert(0, str(Path(__file__).parent / "support"))


EXPECTED_SKIPS = Path(__file__).with_name("expected_skips.txt")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In CI (the environment variable ``CI``) a skip whose reason is not on the list is a failure: nothing is lost silently."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not os.environ.get("CI") or reporter is None or hasattr(session.config, "workerinput"):
        return
    expected = [line for line in EXPECTED_SKIPS.read_text().splitlines() if line and not line.startswith("#")]
    reasons = {report.longrepr[2].removeprefix("Skipped: ") for report in reporter.stats.get("skipped", [])}
    unexpected = sorted(reason for reason in reasons if not any(reason.startswith(start) for start in expected))
    if unexpected:
        reporter.write_line(f"CI skips only what {EXPECTED_SKIPS.name} lists; also skipped: {'; '.join(unexpected)}", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(autouse=True)
def restored_environment() -> Iterator[None]:
    """A run leaves its seed in the environment: no test sees that of another, or of a fixture that several share."""
    before = {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS", "WANDB_MODE")}
    for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
        os.environ.pop(name, None)
    yield
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture(scope="session")
def run_cli() -> Callable[[list[str]], SymbolicCLI]:
    """Runs the command line in this process, on one thread: sums have one order, so two runs can be compared bit for bit."""
    from unittest.mock import patch

    import torch

    from lit_symbolic.cli import main

    def run(args: list[str]) -> SymbolicCLI:
        torch.set_num_threads(1)
        with patch("sys.argv", ["train.py"]):
            return main(args)

    return run


@pytest.fixture(scope="session")
def sft_run(run_cli: Callable[[list[str]], SymbolicCLI], tmp_path_factory: pytest.TempPathFactory) -> SymbolicCLI:
    """Two iterations of ``configs/game24/sft.yaml``."""
    from tiny import tiny_args

    return run_cli(tiny_args("sft", tmp_path_factory.mktemp("sft")))


@pytest.fixture(scope="session")
def sft_checkpoint(sft_run: SymbolicCLI) -> Path:
    from tiny import checkpoint_of

    return checkpoint_of(sft_run)


@pytest.fixture(scope="session")
def ppo_run(
    run_cli: Callable[[list[str]], SymbolicCLI], sft_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory
) -> SymbolicCLI:
    """Two iterations of ``configs/game24/ppo_token.yaml``, from where ``sft_run`` ended."""
    from tiny import tiny_args

    return run_cli(tiny_args("ppo_token", tmp_path_factory.mktemp("ppo"), start=sft_checkpoint))


@pytest.fixture(scope="session")
def ppo_checkpoint(ppo_run: SymbolicCLI) -> Path:
    from tiny import checkpoint_of

    return checkpoint_of(ppo_run)


@pytest.fixture(scope="session")
def tiny_policy() -> TinyLlama:
    """A policy of a few thousand weights."""
    from lit_symbolic.policies import TinyLlama

    return TinyLlama(hidden_size=16, layers=1, heads=2, intermediate_size=32, max_length=64, seed=0)


@pytest.fixture
def fit(tmp_path: Path) -> Callable[..., Trainer]:
    """``tiny.fit`` in the test's own folder."""
    import tiny

    def run(module: SymbolicModule, task: Task, *args: Any, **options: Any) -> Trainer:
        return tiny.fit(module, task, *args, **{"default_root_dir": tmp_path, **options})

    return run
