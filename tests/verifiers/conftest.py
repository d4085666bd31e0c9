"""Fixtures of the sandbox's tests."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_symbolic.verifiers.sandbox import Sandbox
from sandboxes import available


@pytest.fixture(params=["bubblewrap", "kernel"])
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    return available(Sandbox(means=request.param))


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that an ordinary user may come to, unlike pytest's own."""
    path = Path(tempfile.mkdtemp(prefix="sandbox-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def temporary_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process, and no other, makes its temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder
