"""No two executions share anything, and none outlives who asked for it."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from lit_symbolic.verifiers.confinement import server
from lit_symbolic.verifiers.sandbox import Limits, Sandbox
from sandbox_targets import processes
from sandboxes import STDLIB, eventually, python, running

ROOT = Path(__file__).parents[2]


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
                prepared = stack.enter_context(sandbox.prestart(["sleep", word]))  # forks nothing that would be counted too
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
            family = descendants(trainer.pid)
            assert len(family) >= 4
        finally:
            trainer.kill()
            trainer.wait()
        assert eventually(lambda: not running(word), 30.0)
        assert eventually(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in family), 30.0)

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


def descendants(pid: int) -> set[int]:
    """Processes below one: its servers, their runners, what those run."""
    found, parents = {pid}, {process: parent for process, (parent, _) in processes().items()}
    while True:
        more = {process for process, parent in parents.items() if parent in found} - found
        if not more:
            return found - {pid}
        found |= more
