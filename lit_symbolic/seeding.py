"""Seeds that depend only on what they are for, so that a resumed run draws what an unbroken one would have drawn."""

from __future__ import annotations

import hashlib
import os
import random

import numpy as np
import torch


def seed_for(*parts: int | str) -> int:
    """A 63-bit seed for one purpose, the same on every machine.

    Args:
        parts: What the numbers are for, such as ``(seed, "sampling", iteration, rank)``.

    Example:
        >>> seed_for(0, "sampling", 1, 0) == seed_for(0, "sampling", 1, 0) != seed_for(0, "sampling", 2, 0)
        True
    """
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_globals(*parts: int | str) -> None:
    """Seed the global generators of torch, NumPy and ``random`` for one purpose, for libraries that draw from them."""
    seed = seed_for("global", *parts)
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - libraries that use the legacy generator are who this is for
    random.seed(seed)


def generator_for(*parts: int | str) -> torch.Generator:
    """A generator on the CPU of its own, seeded for one purpose."""
    return torch.Generator().manual_seed(seed_for(*parts))


def run_seed() -> int:
    """The run's seed, as Lightning's ``seed_everything`` left it; 0 if it was never called."""
    return int(os.environ.get("PL_GLOBAL_SEED", "0"))
