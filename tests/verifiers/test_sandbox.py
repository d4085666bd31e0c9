"""What the sandbox promises to who uses it, with bubblewrap and without."""

import contextlib
import os
import pickle
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_symbolic.verifiers import sandbox as module
from lit_symbolic.verifiers.confinement import landlock, server
from lit_symbolic.verifiers.sandbox import Execution, Layer, Limits, Outcome, Sandbox, SandboxUnavailable

ROOT = Path(__file__).parents[2]
STDLIB = tuple({path for path in (sysconfig.get_path("stdlib"), sysconfig.get_config_var("DESTSHARED")) if os.path.isdir(path)})
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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


def available(sandbox: Sandbox) -> Sandbox:
    if sandbox.means == "bubblewrap" and shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap")
    if sandbox.layers().missing:
        pytest.skip(f"needs a kernel that has all layers: {sandbox.layers()}")
    return sandbox


def python(sandbox: Sandbox, source: str) -> Execution:
    with sandbox.prestart(None, readable=STDLIB) as prepared:
        return prepared.run(textwrap.dedent(source).encode())


def eventually(condition: object, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.02)
    return bool(condition())  # type: ignore[operator]


def running(word: str) -> list[int]:
    """Processes with a word in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word in path.read_text() and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


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


class TestSeparation:
    def test_no_answer_finds_what_another_did_to_the_interpreter(self, sandbox: Sandbox) -> None:
        poison = """
            import builtins, math, os, sys
            builtins.print_, builtins.sum = print, lambda *_: 666
            math.pi = 3
            sys.modules["json"] = None
            os.environ["POISON"] = "1"
            open("/work/poison", "w").write("1")
            open("/tmp/other", "w").write("1")
            print(sum([1]), os.getpid())
        """
        look = """
            import builtins, json, math, os
            print(sum([1]), hasattr(builtins, "print_"), math.pi > 3, os.environ.get("POISON"), os.listdir("/work"), os.getpid())
        """
        assert python(sandbox, poison).stdout == b"666 2\n"
        assert python(sandbox, look).stdout == b"1 False True None [] 2\n"

    def test_each_execution_has_namespaces_of_its_own(self, sandbox: Sandbox) -> None:
        word = f"{time.time_ns()}.5"
        kinds = ("user", "mnt", "pid", "net", "ipc", "uts", "cgroup")
        with contextlib.ExitStack() as stack:
            for _ in range(2):
                prepared = stack.enter_context(sandbox.prestart(["sh", "-c", "cat; sleep 0", word]))
                prepared._launch.wait_until_running()  # type: ignore[union-attr]
            assert eventually(lambda: len(running(word)) == 2)
            seen = [tuple(os.readlink(f"/proc/{pid}/ns/{kind}") for kind in kinds) for pid in (*running(word), os.getpid())]
        for kind, *spaces in zip(kinds, *seen, strict=True):
            assert len(set(spaces)) == 3, kind
        assert eventually(lambda: not running(word))

    def test_a_prestarted_command_is_used_once(self, sandbox: Sandbox) -> None:
        with sandbox.prestart(["cat"], limits=Limits(wall_seconds=1.0)) as prepared:
            time.sleep(1.2)  # waiting costs it no time
            assert prepared.run(b"late").stdout == b"late"
            with pytest.raises(RuntimeError, match="used once"):
                prepared.run(b"again")

    def test_source_is_executed_as_a_main_module_with_what_was_imported_ahead(self, sandbox: Sandbox) -> None:
        with sandbox.prestart(None, modules=["fractions"], readable=STDLIB) as prepared:
            source = (
                b"import fractions, json, sys\nprint(__name__, fractions.Fraction(1, 3), json.dumps(1), 'torch' in sys.modules)"
            )
            assert prepared.run(source).stdout == b"__main__ 1/3 1 False\n"
        for source, code in (("raise SystemExit(3)", 3), ("1 / 0", 1), ("def", 1), ("import sys; sys.exit('no')", 1), ("", 0)):
            assert python(sandbox, source).returncode == code
        assert b"ZeroDivisionError" in python(sandbox, "1 / 0").stderr
        with pytest.raises(ValueError, match="no command"):
            sandbox.prestart(["cat"], modules=["math"])


class TestLifetimes:
    def test_threads_use_it_at_once(self, sandbox: Sandbox) -> None:
        results: dict[int, bytes] = {}

        def work(number: int) -> None:
            for turn in range(5):
                results[10 * number + turn] = sandbox.run(["cat"], stdin=b"%d" % (10 * number + turn)).stdout

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert results == {10 * number + turn: b"%d" % (10 * number + turn) for number in range(4) for turn in range(5)}

    def test_a_forked_process_has_servers_of_its_own(self, sandbox: Sandbox) -> None:
        with sandbox.prestart(["cat"]) as prepared:
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = int(sandbox.run(["echo", "hi"]).stdout != b"hi\n")
                    server.close_servers()
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0
            assert prepared.run(b"parent").stdout == b"parent"

    def test_killed_servers_are_started_again(self, sandbox: Sandbox) -> None:
        assert sandbox.run(["true"]).returncode == 0
        first = server._servers[()]
        places = [int(pid) for pid in Path(f"/proc/{first._process.pid}/task/{first._process.pid}/children").read_text().split()]
        assert places
        for pid in places:
            os.kill(pid, signal.SIGKILL)
        assert eventually(
            lambda: not any(Path(f"/proc/{pid}/fd").exists() and os.path.exists(f"/proc/{pid}/exe") for pid in places)
        )
        assert sandbox.run(["echo", "1"]).stdout == b"1\n"
        os.kill(first._process.pid, signal.SIGKILL)
        first._process.wait()
        server.close_servers()
        assert sandbox.run(["echo", "2"]).stdout == b"2\n"

    def test_nothing_is_left_when_the_process_that_asked_is_killed(self, sandbox: Sandbox) -> None:
        word = f"{time.time_ns()}.25"
        script = f"""
            from lit_symbolic.verifiers.sandbox import Sandbox
            sandbox = Sandbox(means={sandbox.means!r})
            prepared = sandbox.prestart(["sh", "-c", "cat; sleep 0", "{word}"])
            sandbox.run(["sh", "-c", "(setsid sleep {word} &) ; sleep {word}"])
        """
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        trainer = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], env=environment)
        try:
            assert eventually(lambda: len(running(word)) >= 4, 60.0)
        finally:
            trainer.kill()
            trainer.wait()
        assert eventually(lambda: not running(word))
        assert eventually(lambda: not orphaned_servers())

    def test_places_that_are_not_used_any_more_are_given_up(self, sandbox: Sandbox, folder: Path) -> None:
        server.close_servers()
        for number in range(server.MAX_PLACES + 3):
            path = folder / str(number)
            path.mkdir()
            assert sandbox.run(["true"], readable=[str(path)]).returncode == 0
            assert sandbox.run(["true"], writable_dir=str(path)).returncode == 0
        main = server._servers[()]._process.pid
        children = Path(f"/proc/{main}/task/{main}/children")
        assert eventually(lambda: len(children.read_text().split()) <= server.MAX_PLACES)
        server.close_servers()
        assert not Path(f"/proc/{main}").exists()


def orphaned_servers() -> list[int]:
    found = []
    for pid in running("confinement import server"):
        with contextlib.suppress(OSError):
            if int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) == 1:
                found.append(pid)
    return found


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

    def test_without_namespaces_best_effort_still_limits_and_cleans_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = module.Layers(frozenset({Layer.LANDLOCK, Layer.SECCOMP, Layer.RLIMITS}), "", {Layer.TMPFS: "a test"})
        sandbox = Sandbox(mode="best_effort")
        monkeypatch.setattr(module, "_FOUND", {sandbox: found})
        word = f"{time.time_ns()}.125"
        before = set(Path(tempfile.gettempdir()).glob("lit-symbolic-run-*"))
        execution = sandbox.run(
            ["sh", "-c", f"cat given; (setsid sleep {word} &) ; cat /etc/passwd"],
            files={"given": b"1"},
            limits=Limits(wall_seconds=5),
        )
        assert execution.stdout == b"1"
        assert b"denied" in execution.stderr
        assert not running(word)
        assert set(Path(tempfile.gettempdir()).glob("lit-symbolic-run-*")) <= before

    def test_off_is_off(self) -> None:
        module._FOUND.pop(Sandbox(mode="off"), None)
        with pytest.warns(UserWarning, match="the sandbox is off"):
            execution = Sandbox(mode="off").run(["sh", "-c", "cat /etc/passwd; ulimit -n"])
        assert b"root:" in execution.stdout
        assert execution.stdout.endswith(b"64\n")
