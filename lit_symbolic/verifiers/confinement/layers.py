"""The walls of the sandbox, and which of them can be had on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from lit_symbolic.verifiers.confinement import landlock, seccomp, syscalls


class Layer(StrEnum):
    """One of the walls. Each holds by itself."""

    USER_NAMESPACE = "user namespace"
    MOUNT_NAMESPACE = "mount namespace"
    PID_NAMESPACE = "pid namespace"
    NETWORK_NAMESPACE = "network namespace"
    IPC_NAMESPACE = "ipc namespace"
    UTS_NAMESPACE = "uts namespace"
    CGROUP_NAMESPACE = "cgroup namespace"
    TMPFS = "private tmpfs"
    LANDLOCK = "landlock"
    SECCOMP = "seccomp"
    RLIMITS = "resource limits"


NAMESPACES = {
    Layer.USER_NAMESPACE: syscalls.CLONE_NEWUSER,
    Layer.MOUNT_NAMESPACE: syscalls.CLONE_NEWNS,
    Layer.PID_NAMESPACE: syscalls.CLONE_NEWPID,
    Layer.NETWORK_NAMESPACE: syscalls.CLONE_NEWNET,
    Layer.IPC_NAMESPACE: syscalls.CLONE_NEWIPC,
    Layer.UTS_NAMESPACE: syscalls.CLONE_NEWUTS,
    Layer.CGROUP_NAMESPACE: syscalls.CLONE_NEWCGROUP,
}
_OF_BUBBLEWRAP = {Layer.USER_NAMESPACE, Layer.MOUNT_NAMESPACE, Layer.PID_NAMESPACE}
"""Without one of these it cannot serve."""


@dataclass(frozen=True)
class Layers:
    """Which layers are active, by what means the namespaces are made, and why other layers are missing.

    Example:
        >>> print(Layers(frozenset({Layer.LANDLOCK, Layer.SECCOMP}), "", {Layer.TMPFS: "no mount namespace"}))
        active: landlock, seccomp
        missing: private tmpfs (no mount namespace)
    """

    active: frozenset[Layer]
    means: str
    missing: Mapping[Layer, str] = field(default_factory=dict)

    def __str__(self) -> str:
        active = ", ".join(layer for layer in Layer if layer in self.active) or "none"
        lines = [f"active: {active}" + (f"; namespaces by {self.means}" if self.means else "")]
        by_reason: dict[str, list[Layer]] = {}
        for layer, reason in self.missing.items():
            by_reason.setdefault(reason, []).append(layer)
        lines += [f"missing: {', '.join(layers)} ({reason})" for reason, layers in by_reason.items()]
        return "\n".join(lines)


def find_layers(
    off: bool,
    means: Literal["auto", "bubblewrap", "kernel"],
    without: frozenset[Layer],
    what_fails: Callable[[Layers], str],
) -> Layers:
    """Find out what can be had here.

    Args:
        off: Whether none but resource limits are wanted.
        means: Who may make the namespaces.
        without: Layers that are not wanted; they do not count as missing.
        what_fails: Tries layers out; says what does not work, or nothing.
    """
    if off:
        rest = [layer for layer in Layer if layer is not Layer.RLIMITS]
        return Layers(frozenset({Layer.RLIMITS}), "", dict.fromkeys(rest, "the sandbox is off"))
    missing: dict[Layer, str] = {}
    try:
        landlock.abi()
    except OSError as error:
        missing[Layer.LANDLOCK] = f"the kernel has none or it is switched off: {error.strerror}"
    if syscalls.MACHINE not in seccomp.AUDIT_ARCH:
        missing[Layer.SECCOMP] = f"no filter is written for {syscalls.MACHINE}"
    wanted = frozenset(Layer) - without - missing.keys()
    if Layer.MOUNT_NAMESPACE not in wanted:
        wanted -= {Layer.TMPFS}
    inside = wanted & {*NAMESPACES, Layer.TMPFS}
    if not inside:
        return Layers(wanted, "", missing)

    reasons = []
    for candidate in ("bubblewrap", "kernel"):
        if means not in ("auto", candidate) or (candidate == "bubblewrap" and not inside >= _OF_BUBBLEWRAP):
            continue
        if candidate == "bubblewrap" and shutil.which("bwrap") is None:
            reasons.append("bubblewrap is not installed")
            continue
        failure = what_fails(Layers(wanted, candidate))
        if not failure:
            return Layers(wanted, candidate, missing)
        reasons.append(f"{candidate}: {failure}")
    missing |= dict.fromkeys((layer for layer in Layer if layer in inside), "; ".join(reasons))
    return Layers(wanted - inside, "", missing)
