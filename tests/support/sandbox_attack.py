"""What an attack on the sandbox is: something a hostile answer may try, and the walls that stand against it.

An attack prints ``BITES`` when it has reached its aim. In its source, ``<NAME>`` stands for a thing that the test set up for it to
go after, see ``targets`` in ``test_sandbox_attacks.py``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from lit_symbolic.verifiers.confinement import landlock
from lit_symbolic.verifiers.sandbox import Layer, Limits, Outcome

BITES = b"BITES"
MOUNT, PID, NETWORK, IPC, UTS = (
    Layer.MOUNT_NAMESPACE,
    Layer.PID_NAMESPACE,
    Layer.NETWORK_NAMESPACE,
    Layer.IPC_NAMESPACE,
    Layer.UTS_NAMESPACE,
)
TMPFS, LANDLOCK, SECCOMP, RLIMITS = Layer.TMPFS, Layer.LANDLOCK, Layer.SECCOMP, Layer.RLIMITS
NOBODY = frozenset({Layer.USER_NAMESPACE} if os.geteuid() == 0 else ())
"""The wall that only root is stopped by: not to be root."""


def _since(version: int) -> frozenset[Layer]:
    try:
        return frozenset({LANDLOCK} if landlock.abi() >= version else ())
    except OSError:
        return frozenset()


TCP_LANDLOCK, SCOPED_LANDLOCK = _since(4), _since(6)
"""Landlock, where the kernel's refuses TCP, and signals and abstract sockets to others."""


@dataclass(frozen=True)
class Attack:
    """One thing to try.

    Args:
        name: What it is.
        source: Python source, or the body of a C++ function with ``argv``.
        walls: Layers that contain it, each by itself; without all of them it bites. None: no layer, see the comment beside it.
        cpp: Whether it is C++.
        limits: Under which it runs.
        outcomes: One of these is how it ends.
        root_only: Whether it can be shown to bite only where root runs the tests.
        says: What it writes when it is contained.
    """

    name: str
    source: str
    walls: frozenset[Layer] | None = None
    cpp: bool = False
    limits: Limits = field(default_factory=lambda: Limits(wall_seconds=10.0))
    outcomes: frozenset[Outcome] = frozenset({Outcome.EXITED, Outcome.SIGNALED})
    root_only: bool = False
    says: bytes = b""


def walls(*layers: Layer | frozenset[Layer]) -> frozenset[Layer]:
    return frozenset().union(*(layer if isinstance(layer, frozenset) else {layer} for layer in layers))


CPP_HEADER = """
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
"""


def cpp_program(attacks: tuple[Attack, ...]) -> str:
    """One program of many attacks: its first argument chooses."""
    functions = [f"static int attack{i}() {{ {attack.source} }}" for i, attack in enumerate(attacks)]
    cases = [f"case {i}: return attack{i}();" for i in range(len(attacks))]
    main = f"int main(int, char** argv) {{ setbuf(stdout, nullptr); switch (atoi(argv[1])) {{ {' '.join(cases)} }} return 9; }}"
    return "\n".join([CPP_HEADER, *functions, main])
