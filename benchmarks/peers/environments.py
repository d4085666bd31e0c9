"""Virtual environments for peers, made once with the torch of ``constraints.txt`` and kept."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "runs" / "peers"


def installed(name: str, requirements: Sequence[str], folder: Path = FOLDER) -> Path | None:
    """The interpreter of a peer's environment, or None where it was not made, or not to its end, or for other requirements.

    Args:
        name: Folder of the environment.
        requirements: As pip takes them.
        folder: Where environments are kept.
    """
    python = folder / name / ("Scripts" if os.name == "nt" else "bin") / "python"
    note = folder / name / "requirements.txt"
    return python if note.exists() and note.read_text().split("\n") == [*requirements, ""] else None


def install(name: str, requirements: Sequence[str], folder: Path = FOLDER) -> Path:
    """Make a peer's environment unless it is there; returns its interpreter.

    Versions are those of ``constraints.txt`` where it names any, so the peer computes with the same torch.

    Raises:
        RuntimeError: If pip cannot install it, with the end of what pip says.
    """
    if (python := installed(name, requirements, folder)) is not None:
        return python
    print(f"installing {', '.join(requirements)} into {folder / name}, once; this takes minutes …", file=sys.stderr, flush=True)
    venv.create(folder / name, with_pip=True, clear=True)
    python = folder / name / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [str(python), "-m", "pip", "install", "-c", str(ROOT / "constraints.txt"), *requirements]
    pip = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if pip.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {pip.returncode}:\n{pip.stdout[-3000:]}")
    (folder / name / "requirements.txt").write_text("".join(f"{line}\n" for line in requirements))
    return python
