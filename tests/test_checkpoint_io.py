import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lit_symbolic.checkpoint_io import AtomicCheckpointIO

# A process of its own forks the writers, so that none inherits this one's threads and each starts at once.
KILLER = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from lit_symbolic.checkpoint_io import AtomicCheckpointIO

torch.set_num_threads(1)
target, io, rng = Path(sys.argv[1]), AtomicCheckpointIO(), random.Random(0)
SIZE = 500_000
io.save_checkpoint({"number": 0, "weights": torch.zeros(SIZE)}, target)
before, seen = 0, []
for _ in range(12):
    writer = os.fork()
    if writer == 0:
        number = before
        while True:
            number += 1
            io.save_checkpoint({"number": number, "weights": torch.full((SIZE,), float(number))}, target)
    time.sleep(rng.uniform(0.0, rng.choice((0.03, 0.2))))  # the long ones for a machine that is busy
    os.kill(writer, signal.SIGKILL)
    os.waitpid(writer, 0)
    litter = [path.name for path in target.parent.iterdir() if path != target]
    checkpoint = io.load_checkpoint(target)
    whole = bool((checkpoint["weights"] == checkpoint["number"]).all()) and len(checkpoint["weights"]) == SIZE
    seen.append({"before": before, "number": checkpoint["number"], "whole": whole, "litter": litter})
    before = checkpoint["number"]
print(json.dumps(seen))
"""


def test_a_writer_killed_at_any_moment_leaves_the_old_or_a_new_checkpoint_whole_and_litter_goes_with_the_next_save(
    tmp_path: Path,
) -> None:
    target = tmp_path / "last.ckpt"
    outcome = subprocess.run([sys.executable, "-c", KILLER, str(target)], capture_output=True, text=True, check=True, timeout=60)
    seen = json.loads(outcome.stdout)
    assert all(kill["whole"] and kill["number"] >= kill["before"] for kill in seen)
    assert any(kill["litter"] for kill in seen), "no kill fell into a write: the test would see nothing"
    assert seen[-1]["number"] > 0
    assert all(len(kill["litter"]) <= 1 for kill in seen), "litter piles up"
    (tmp_path / ".last.ckpt.unfinished").write_bytes(b"torn")
    AtomicCheckpointIO().save_checkpoint({"number": -1}, target)
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_what_was_saved_comes_back_and_folders_are_made(tmp_path: Path) -> None:
    io, target = AtomicCheckpointIO(), tmp_path / "new" / "folder" / "epoch=1[2].ckpt"
    io.save_checkpoint({"weights": torch.arange(3.0)}, target)
    io.save_checkpoint({"weights": torch.arange(4.0)}, str(target))
    assert torch.equal(io.load_checkpoint(target)["weights"], torch.arange(4.0))


def test_a_failing_write_leaves_the_old_checkpoint_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    io, target = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"number": 1}, target)

    def disk_full(checkpoint: object, file: object) -> None:
        file.write(b"torn")  # type: ignore[attr-defined]
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", disk_full)
    with pytest.raises(OSError, match="no space"):
        io.save_checkpoint({"number": 2}, target)
    assert io.load_checkpoint(target) == {"number": 1}
    assert [path.name for path in tmp_path.iterdir()] == [target.name]


def test_a_checkpoint_is_as_readable_as_any_file_that_is_made_here(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt")
    finally:
        os.umask(before)
    assert (tmp_path / "last.ckpt").stat().st_mode & 0o777 == 0o644
