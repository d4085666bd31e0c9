"""The root directory that executions see: built once, in a mount namespace that each execution gets a copy of.

Two ways lead there: :func:`build` asks the kernel, :func:`borrow` lets bubblewrap build it and steps in. Both change the
process that calls them; for it there is no way back.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
from dataclasses import dataclass
from pathlib import PurePosixPath

from lit_symbolic.verifiers.confinement import syscalls
from lit_symbolic.verifiers.confinement.view import DEVICES, TEMPORARY, WORK, View, within

INSIDE_ID = 65_534
"""User and group as an execution sees itself: nobody."""
_NEW_ROOT = "/usr"
"""Any directory that every machine has: the new root is mounted over it, in a mount namespace of its own."""
_SAFE = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
_FLAGS = syscalls.MS_NOSUID | syscalls.MS_NODEV


@dataclass(frozen=True, slots=True)
class Root:
    """What is in it.

    Args:
        view: Paths of the host, read-only.
        directory: A directory of the host that is seen as ``/work``; without one there will be a private tmpfs.
        bubblewrap: Path of the program that builds it; None for the kernel's own means.
    """

    view: View
    directory: str | None
    bubblewrap: str | None


def build(root: Root, proc: int, owners: int | None, as_user: bool) -> None:
    """Build the root by the kernel's own means and move into it.

    Args:
        root: What to build.
        proc: Open directory of the host's ``/proc``.
        owners: User namespace in which files of root belong to nobody, see :func:`owners_without_root`; or None.
        as_user: Whether to do it in a new user namespace, the only place where an ordinary user may mount.

    Raises:
        OSError: If the kernel refuses.
    """
    user, group = os.geteuid(), os.getegid()
    syscalls.unshare(syscalls.CLONE_NEWNS | (syscalls.CLONE_NEWUSER if as_user else 0))
    if as_user:
        map_user(proc, user, group)
    syscalls.mount("", "/", "", syscalls.MS_REC | syscalls.MS_PRIVATE)
    sealed = _SAFE | syscalls.MOUNT_ATTR_RDONLY
    trees = [(syscalls.clone_mount(source, sealed, owners), seen) for source, seen in root.view.readable]
    trees += [(syscalls.clone_mount(device, syscalls.MOUNT_ATTR_NOSUID), device) for device in DEVICES]
    if root.directory:
        trees.insert(0, (syscalls.clone_mount(root.directory, _SAFE, owners), WORK))

    syscalls.mount("tmpfs", _NEW_ROOT, "tmpfs", _FLAGS, "mode=0755,size=1m,nr_inodes=4k")
    os.chdir(_NEW_ROOT)
    syscalls.pivot_root(".", ".")
    syscalls.unmount(".")
    os.chdir("/")
    for place, target in root.view.links:
        os.symlink(target, place)
    for place in (WORK, TEMPORARY):
        os.mkdir(place)
    for tree, seen in trees:
        _attach(tree, seen)
    syscalls.mount("", "/", "", syscalls.MS_REMOUNT | syscalls.MS_BIND | syscalls.MS_RDONLY | _FLAGS)


def borrow(root: Root, owners: int | None, as_user: bool) -> None:
    """Have bubblewrap build the root, around a ``cat`` that waits, and step into its namespaces; arguments as of :func:`build`.

    Raises:
        OSError: If bubblewrap cannot do it here, with its words, or if the kernel refuses.
    """
    assert root.bubblewrap is not None
    info, theirs = os.pipe()
    pipe = subprocess.PIPE
    user = ["--unshare-user", "--uid", f"{INSIDE_ID}", "--gid", f"{INSIDE_ID}"] if as_user else []
    command = [root.bubblewrap, "--info-fd", str(theirs), *user, *_options(root), "--", "/usr/bin/cat"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=[theirs], env={}) as process:
        os.close(theirs)
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            os.write(process.stdin.fileno(), b".")
            ready = os.read(process.stdout.fileno(), 1)
        except BrokenPipeError:
            ready = b""
        if not ready:
            said = process.stderr.read(2_000).decode(errors="replace").strip()
            raise OSError(None, said or "bubblewrap ended without a word")
        pidfd = os.pidfd_open(int(json.loads(os.read(info, 4_096))["child-pid"]))
        os.close(info)
        syscalls.setns(pidfd, syscalls.CLONE_NEWNS | (syscalls.CLONE_NEWUSER if as_user else 0))
        os.close(pidfd)
    if owners is not None:
        for path in [seen for _, seen in root.view.extra] + [WORK] * bool(root.directory):
            _attach(syscalls.clone_mount(path, 0, owners), path)


def _options(root: Root) -> list[str]:
    options = ["--dir", WORK, "--dir", TEMPORARY]
    for place, target in root.view.links:
        options += ["--symlink", target, place]
    binds = [("--bind", root.directory, WORK)] if root.directory else []
    binds += [("--dev-bind", device, device) for device in DEVICES]
    binds += [("--ro-bind", *pair) for pair in root.view.readable]
    made = {"/"}
    for kind, source, seen in binds:
        for parent in reversed(PurePosixPath(seen).parents):
            if str(parent) not in made:
                made.add(str(parent))
                options += ["--dir", str(parent)]  # made by a bind, it would be closed to all but its owner
        options += [kind, source, seen]
    return [*options, "--remount-ro", "/", "--chdir", "/"]


def mount_tmpfs(root: Root, options: str, owner: tuple[int, int]) -> None:
    """In an execution's own mount namespace: give it a private tmpfs.

    Args:
        root: That it is in.
        options: Bound the tmpfs, as for ``mount``.
        owner: User and group whom it belongs to.
    """
    place = TEMPORARY if root.directory else WORK
    hidden = [seen for _, seen in root.view.extra if within(seen, WORK) or within(seen, TEMPORARY)]
    trees = [(syscalls.clone_mount(seen, 0), seen) for seen in hidden]
    syscalls.mount("tmpfs", place, "tmpfs", _FLAGS, f"{options},mode=0700")
    os.chown(place, *owner)
    if place == WORK:
        _attach(syscalls.clone_mount(WORK, 0), TEMPORARY)
    for tree, seen in trees:
        _attach(tree, seen)


def _attach(tree: int, target: str) -> None:
    """Put a detached mount at ``target``, which is made if it is not there."""
    if not os.path.lexists(target):
        if stat.S_ISDIR(os.fstat(tree).st_mode):
            os.makedirs(target)
        else:
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    syscalls.attach_mount(tree, target)
    os.close(tree)


def map_user(proc: int, user: int, group: int) -> None:
    """In a new user namespace: be :data:`INSIDE_ID`, the only user there is."""
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{INSIDE_ID} {user} 1"),
        ("gid_map", f"{INSIDE_ID} {group} 1"),
    ):
        fd = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=proc)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)


def owners_without_root() -> int | None:
    """A user namespace whose map makes files of root files of nobody; None where root cannot make one.

    Where root uses the sandbox, it executes as nobody, who could not read what only root may.
    """
    asking, answering = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            os.write(answering[1], b".")
            os.close(asking[1])
            os.read(asking[0], 1)
        finally:
            os._exit(0)
    try:
        os.close(answering[1])
        if not os.read(answering[0], 1):
            return None
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w") as file:
                file.write(f"0 {INSIDE_ID} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    finally:
        for fd in (*asking, answering[0]):
            os.close(fd)
        os.waitpid(child, 0)
