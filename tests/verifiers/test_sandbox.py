"""What the sandbox promises to who uses it, with bubblewrap and without."""

import contextlib
import os
import pickle
import shutil
import signal
import time
from pathlib import Path

import pytest

from lit_symbolic.verifiers import sandbox as module
from lit_symbolic.verifiers.confinement import landlock
from lit_symbolic.verifiers.sandbox import Layer, Limits, Outcome, Sandbox, SandboxUnavailable
from sandboxes import available, python, running

# Some run as nobody on the host, whose processes are limited in sum: not beside each other.
pytestmark = pytest.mark.xdist_group("nobody on the host")

ROOT = Path(__file__).parents[2]
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class TestExecution:
    def test_a_command_gets_input_and_files_and_gives_output_and_a_code(self, sandbox: Sandbox) -> None:
        execution = sandbox.run(
            ["sh", "-c", "pwd; cat a folder/b -; ls | tr '\\n' ' '; echo bad >&2; exit 3"],
            stdin=b"c\n",
            files={"a": b"a\n", "folder/b": b"b\n"},
        )
        assert (execution.outcome, execution.returncode) == (Outcome.EXITED, 3)
        assert (execution.stdout, execution.stderr) == (b"/work\na\nb\nc\na folder ", b"bad\n")
        assert not execution.truncated
        assert 0 < execution.wall_seconds < 10
        assert 0 <= execution.cpu_seconds < 5

    def test_a_signal_is_told(self, sandbox: Sandbox) -> None:
        execution = sandbox.run(["sh", "-c", "kill -SEGV $$"])
        assert (execution.outcome, execution.returncode) == (Outcome.SIGNALED, -signal.SIGSEGV)

    @pytest.mark.parametrize("command", ["no-such-command", "/work", "./text"])
    def test_what_cannot_be_executed_ends_as_in_a_shell(self, sandbox: Sandbox, command: str) -> None:
        execution = sandbox.run([command], files={"text": b"\x00\x01"})
        assert (execution.outcome, execution.returncode) == (Outcome.EXITED, 127)
        assert b"cannot be executed" in execution.stderr

    def test_large_input_is_fed_and_input_that_nobody_reads_is_dropped(self, sandbox: Sandbox) -> None:
        data = bytes(range(256)) * 20_000
        limits = Limits(output_bytes=len(data))
        assert sandbox.run(["cat"], stdin=data, limits=limits).stdout == data
        assert sandbox.run(["true"], stdin=data).outcome is Outcome.EXITED

    def test_output_is_read_up_to_the_limit_and_not_further(self, sandbox: Sandbox) -> None:
        for stream, read in (("1", "stdout"), ("2", "stderr")):
            execution = sandbox.run(["sh", "-c", f"yes >&{stream}"], limits=Limits(output_bytes=1_000))
            assert execution.outcome is Outcome.OUTPUT_LIMIT
            assert execution.truncated
            assert getattr(execution, read) == b"y\n" * 500
        exactly = sandbox.run(["printf", "%01000d"], limits=Limits(output_bytes=1_000))
        assert (len(exactly.stdout), exactly.truncated, exactly.outcome) == (1_000, False, Outcome.EXITED)

    def test_time_runs_out(self, sandbox: Sandbox) -> None:
        execution = sandbox.run(["sleep", "60"], limits=Limits(wall_seconds=0.2))
        assert (execution.outcome, execution.returncode) == (Outcome.TIMEOUT, -signal.SIGKILL)
        assert 0.2 <= execution.wall_seconds < 10
        assert execution.cpu_seconds < 0.5

    def test_a_program_without_memory_says_so(self, sandbox: Sandbox) -> None:
        execution = python(sandbox, "x = bytearray(1 << 40)")
        assert execution.outcome is Outcome.MEMORY_LIMIT
        said = sandbox.run(["sh", "-c", "echo std::bad_alloc >&2"])
        assert said.outcome is Outcome.EXITED  # it did not fail

    def test_nothing_of_the_environment_is_inherited(self, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SECRET", "hunter2")
        execution = sandbox.run(["env"], environment={"GIVEN": "1"})
        lines = set(execution.stdout.decode().splitlines())
        assert lines == {"PATH=/usr/bin:/bin", "HOME=/work", "TMPDIR=/tmp", "LANG=C.UTF-8", "GIVEN=1"}

    def test_the_compiler_works_inside(self, sandbox: Sandbox) -> None:
        if shutil.which("g++") is None:
            pytest.skip("needs g++")
        source = b'#include <cstdio>\nint main() { int n; scanf("%d", &n); printf("%d", 6 * n); }'
        execution = sandbox.run(
            ["sh", "-c", "g++ a.cpp && ./a.out"], files={"a.cpp": source}, stdin=b"7", limits=Limits(wall_seconds=60)
        )
        assert execution.stdout == b"42"

    @pytest.mark.parametrize("name", ["../a", "/a", "a/../../b", "", "a\0", "./a", "a//b"])
    def test_files_outside_are_refused(self, name: str) -> None:
        with pytest.raises(ValueError, match="relative path"):
            Sandbox().run(["true"], files={name: b""})

    def test_bad_arguments_are_refused(self, folder: Path) -> None:
        for argv in ("true", [], ["a\0b"]):
            with pytest.raises(ValueError, match="a command is"):
                Sandbox().run(argv)
        with pytest.raises(ValueError, match="do not fit"):
            Sandbox().run(["true"], files={"a": bytes(2 << 20)}, limits=Limits(tmpfs_megabytes=1))
        with pytest.raises(ValueError, match="no_such"):
            Sandbox().run(["true"], readable=["/no_such_path"])
        for path in ("relative", "/", "/usr/.."):
            with pytest.raises(ValueError, match="absolute"):
                Sandbox().run(["true"], readable=[path])
        for path in ("/work", "/tmp"):
            with pytest.raises(ValueError, match=r"absolute|writes|does not"):
                Sandbox().run(["true"], readable=[path])
        with pytest.raises(ValueError, match="directory that exists"):
            Sandbox().run(["true"], writable_dir=str(folder / "none"))

    def test_settings_are_pickled(self) -> None:
        settings = Sandbox("best_effort", "kernel", frozenset({Layer.LANDLOCK}))
        assert pickle.loads(pickle.dumps(settings)) == settings


class TestFiles:
    def test_readable_paths_are_seen_at_their_place_and_cannot_be_written(self, sandbox: Sandbox, folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "inner" / "file").write_text("seen")
        (folder / "link").symlink_to("inner")
        script = f"cat {folder}/inner/file && touch {folder}/inner/new"
        execution = sandbox.run(["sh", "-c", script], readable=[str(folder)])
        assert (execution.stdout, execution.returncode) == (b"seen", 1)
        assert sandbox.run(["cat", f"{folder}/link/file"], readable=[f"{folder}/link"]).stdout == b"seen"
        assert sandbox.run(["cat", f"{folder}/inner/file"], readable=[f"{folder}/inner/file"]).stdout == b"seen"
        assert sandbox.run(["cat", f"{folder}/inner/file"]).returncode == 1

    def test_an_inner_path_is_not_hidden_by_an_outer_one(self, sandbox: Sandbox, folder: Path) -> None:
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "b" / "file").write_text("seen")
        execution = sandbox.run(["cat", f"{folder}/a/b/file"], readable=[f"{folder}/a/b", str(folder)])
        assert execution.stdout == b"seen"

    def test_a_readable_folder_that_was_made_anew_is_seen_anew(self, sandbox: Sandbox, folder: Path) -> None:
        path = folder / "inner"
        for text in ("old", "new"):
            path.mkdir()
            (path / "file").write_text(text)
            assert sandbox.run(["cat", f"{path}/file"], readable=[str(path)]).stdout == text.encode()
            (path / "file").write_text(f"{text}, changed")
            assert sandbox.run(["cat", f"{path}/file"], readable=[str(path)]).stdout == f"{text}, changed".encode()
            path.rename(folder / text)

    def test_a_writable_directory_takes_the_working_directorys_place(self, sandbox: Sandbox, folder: Path) -> None:
        (folder / "source").write_text("from outside")
        execution = sandbox.run(
            ["sh", "-c", "cat source extra > result; echo x > $TMPDIR/temporary; ln -s /etc/passwd link; mkfifo pipe"],
            files={"extra": b", and given"},
            writable_dir=str(folder),
        )
        assert (folder / "result").read_text() == "from outside, and given"
        assert execution.returncode == 1  # neither links nor pipes
        assert sorted(path.name for path in folder.iterdir()) == ["extra", "result", "source"]
        assert not any(path.is_symlink() for path in folder.iterdir())

    def test_a_link_that_lies_in_a_writable_directory_is_not_followed_outside(self, sandbox: Sandbox, folder: Path) -> None:
        outside = folder / "outside"
        outside.write_text("kept")
        outside.chmod(0o666)
        inside = folder / "inside"
        inside.mkdir()
        (inside / "extra").symlink_to(outside)
        (inside / "deep").symlink_to(folder)
        sandbox.run(["true"], files={"extra": b"new"}, writable_dir=str(inside))
        with contextlib.suppress(SandboxUnavailable):
            sandbox.run(["true"], files={"deep/outside": b"new"}, writable_dir=str(inside))
        assert outside.read_text() == "kept"

    def test_paths_below_the_working_directory_can_be_readable_but_not_beside_a_writable_one(self, folder: Path) -> None:
        if not os.access("/", os.W_OK) or os.path.exists("/work/sandbox-test"):
            pytest.skip("needs root")
        path = Path("/work/sandbox-test")
        path.mkdir(parents=True)
        try:
            (path / "file").write_text("seen")
            for means in ("kernel", "bubblewrap"):
                sandbox = available(Sandbox(means=means))  # type: ignore[arg-type]
                assert sandbox.run(["cat", str(path / "file")], readable=[str(path)]).stdout == b"seen"
            with pytest.raises(ValueError, match="cannot be readable"):
                Sandbox().run(["true"], readable=[str(path)], writable_dir=str(folder))
        finally:
            shutil.rmtree(path)
            with contextlib.suppress(OSError):
                path.parent.rmdir()

    @root_only
    def test_root_executes_as_nobody_who_reads_what_root_gives(self, sandbox: Sandbox, folder: Path) -> None:
        private = folder / "private"
        private.mkdir(mode=0o700)
        (private / "file").write_text("root's")
        (private / "file").chmod(0o600)
        execution = sandbox.run(["sh", "-c", f"id -u; cat {private}/file"], readable=[str(private)])
        if execution.returncode != 0:
            pytest.skip("needs a file system that can give files other owners")
        assert execution.stdout == b"65534\nroot's"
        assert sandbox.run(["sh", "-c", "echo mine > new"], writable_dir=str(private)).returncode == 0
        assert (private / "new").read_text() == "mine\n"


class TestLayers:
    def test_all_layers_are_told_and_by_what_means(self, sandbox: Sandbox) -> None:
        layers = sandbox.layers()
        assert layers.active == set(Layer)
        assert layers.means == sandbox.means
        assert str(layers).startswith("active: user namespace, mount namespace, ")
        assert str(layers).endswith(f"namespaces by {sandbox.means}")

    def test_missing_layers_are_refused_unless_the_user_goes_on_without_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        available(Sandbox())

        def no_landlock() -> int:
            raise OSError(95, "Operation not supported")

        monkeypatch.setattr(landlock, "abi", no_landlock)
        monkeypatch.setattr(module, "_FOUND", {})
        with pytest.raises(
            SandboxUnavailable, match=r"missing: landlock .*Operation not supported(?s:.*)apt-get install bubblewrap"
        ):
            Sandbox().run(["true"])
        with pytest.warns(UserWarning, match="missing: landlock"):
            execution = Sandbox(mode="best_effort").run(["true"])
        assert execution.outcome is Outcome.EXITED

    def test_without_bubblewrap_the_kernels_own_means_serve(self, monkeypatch: pytest.MonkeyPatch) -> None:
        available(Sandbox(means="kernel"))
        monkeypatch.setattr(module, "_FOUND", {})
        monkeypatch.setattr(shutil, "which", lambda _: None)
        assert Sandbox().layers().means == "kernel"
        with pytest.raises(SandboxUnavailable, match="bubblewrap is not installed"):
            Sandbox(means="bubblewrap").run(["true"])

    def test_what_keeps_bubblewrap_from_working_is_told(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        broken = folder / "bwrap"
        broken.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
        broken.chmod(0o755)
        monkeypatch.setattr(module, "_FOUND", {})
        monkeypatch.setattr(shutil, "which", lambda _: str(broken))
        with pytest.raises(SandboxUnavailable, match="setting up uid map: Permission denied"):
            Sandbox(means="bubblewrap").run(["true"])

    def test_without_namespaces_best_effort_still_limits_and_cleans_up(
        self, monkeypatch: pytest.MonkeyPatch, temporary_folder: Path
    ) -> None:
        found = module.Layers(frozenset({Layer.LANDLOCK, Layer.SECCOMP, Layer.RLIMITS}), "", {Layer.TMPFS: "a test"})
        sandbox = Sandbox(mode="best_effort")
        monkeypatch.setattr(module, "_FOUND", {sandbox: found})
        word = f"{time.time_ns()}.125"
        execution = sandbox.run(
            ["sh", "-c", f"cat given; (setsid sleep {word} &) ; cat /etc/passwd"],
            files={"given": b"1"},
            limits=Limits(wall_seconds=5),
        )
        assert execution.stdout == b"1"
        assert b"denied" in execution.stderr
        assert not running(word)
        assert not list(temporary_folder.iterdir())

    def test_off_is_off(self) -> None:
        module._FOUND.pop(Sandbox(mode="off"), None)
        with pytest.warns(UserWarning, match="the sandbox is off"):
            execution = Sandbox(mode="off").run(["sh", "-c", "cat /etc/passwd; ulimit -n"])
        assert b"root:" in execution.stdout
        assert execution.stdout.endswith(b"64\n")
