"""Fixtures for the scripts under ``benchmarks/``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from tiny import ROOT

if TYPE_CHECKING:
    from lit_symbolic.cli import SymbolicCLI


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules of the scripts can be imported, whichever test is first, and run from the root of the repository."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.chdir(ROOT)


@pytest.fixture
def runs_made(scripts: None, monkeypatch: pytest.MonkeyPatch, run_cli: Callable[[list[str]], SymbolicCLI]) -> list[SymbolicCLI]:
    """Every ``runs.Run`` is made in this process, which has imported what each new one would; what was run, in order."""
    import runs

    made: list[SymbolicCLI] = []
    monkeypatch.setattr(runs.Run, "_call", lambda self, command, label: made.append(run_cli(list(command[1:]))))
    return made


@pytest.fixture
def run_script(scripts: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Calls ``main`` of a script with arguments, in this process; returns what it printed."""

    def run(script: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [f"{script}.py", *arguments])
        capsys.readouterr()
        importlib.import_module(script).main()
        return capsys.readouterr().out

    return run
