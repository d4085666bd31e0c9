"""The command line that verifies answers."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from lit_symbolic import verify
from lit_symbolic.verifiers.sandbox import Sandbox
from sandboxes import available

TWO_STEPS = "4 + 8 = 12 (left: 4 6 12)\n6 - 4 = 2 (left: 2 12)\n"
RIGHT = {"id": "24:4-4-6-8", "answer": "(4 + 8) * (6 - 4)"}
WRONG = {"id": "24:4-4-6-8", "answer": TWO_STEPS + "2 + 12 = 14 (left: 14)"}
GIVEN = {"problem": {"facts": {"cards": [1, 2, 3, 4], "target": 24}, "id": "mine"}, "answer": "1 * 2 * 3 * 4"}


def lines_of(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command line on rows, and returns its exit status, output and errors."""

    def run(*rows: object, text: str | None = None, arguments: tuple[str, ...] = ("--task", "Game24")) -> tuple[int, str, str]:
        file = tmp_path / "answers.jsonl"
        file.write_text(lines_of(*rows) if text is None else text)
        status = verify.main([*arguments, str(file), "--pool.workers", "1"])
        output, errors = capsys.readouterr()
        return status, output, errors.replace(str(tmp_path) + "/", "")

    return run


def test_the_exit_status_is_0_if_all_are_correct_and_1_if_one_is_not(run):
    assert run(RIGHT, GIVEN)[0] == 0
    assert run(RIGHT, WRONG)[0] == 1
    assert run()[0] == 0


def test_answers_are_shown_in_order_with_their_findings(run):
    _, output, errors = run(RIGHT, WRONG, GIVEN)
    assert [line.split()[1] for line in output.split("\n") if line[:1] in ("✓", "✗")] == ["24:4-4-6-8", "24:4-4-6-8", "mine"]
    assert "3:3 unreachable: 24 can no longer be reached: 2 + 12 leaves 14" in output
    assert "     │   ^^^^\n" in output
    assert output.endswith("3 answers: 2 correct, 1 wrong\n")
    assert "\x1b" not in output
    assert errors == ""


def test_only_wrong_leaves_out_what_is_correct(run):
    _, output, _ = run(RIGHT, WRONG, GIVEN, arguments=("--task", "Game24", "--only_wrong"))
    assert "✓" not in output
    assert output.count("✗") == 1


def test_json_has_an_object_for_each_answer_and_nothing_else(run):
    status, output, _ = run(RIGHT, {**GIVEN, "answer": "\ud800\x1b[31m"}, arguments=("--task", "Game24", "--json"))
    first, second = map(json.loads, output.splitlines())
    assert status == 1
    assert (first["id"], first["correct"], first["score"], first["status"], first["findings"]) == (
        "24:4-4-6-8",
        True,
        1,
        "ok",
        [],
    )
    assert second["id"] == "mine"
    assert second["findings"][0].keys() == {"start", "end", "kind", "message"}
    assert second["measures"]["solved"] == 0
    assert output.isascii()


def test_what_an_answer_would_do_to_a_terminal_is_spelled_out(run):
    _, output, _ = run({**GIVEN, "answer": "\x1b[2J[red]\ud83d\u202e1"})
    assert "␛[2J[red]⟨U+D83D⟩⟨U+202E⟩1" in output
    assert "\x1b" not in output


def test_settings_of_the_task_are_flags(run):
    chatty = {**GIVEN, "answer": "Sure!\n1 * 2 * 3 * 4 = 24"}
    assert run(chatty)[0] == 1
    assert run(chatty, arguments=("--task", "Game24", "--task.strict", "false"))[0] == 0
    assert run(chatty, arguments=("--task=Game24", "--task.strict=false"))[0] == 0


@pytest.mark.parametrize(
    "name", ["Game24Verifier", "lit_symbolic.verifiers.game24.Game24Verifier", "lit_symbolic.tasks.game24.Game24"]
)
def test_a_verifier_or_a_class_path_will_do(run, name):
    assert run(GIVEN, arguments=("--task", name))[0] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}\n", "answers.jsonl:1: expected an object with 'answer', a string, got {}"),
        (lines_of(RIGHT) + "\n{\n", "answers.jsonl:3: not JSON"),
        ("[" * 100_000, "answers.jsonl:1: not JSON"),
        ('{"answer": 3}', "answers.jsonl:1: expected an object with 'answer', a string"),
        ('{"answer": ""}', "answers.jsonl:1: neither 'id' nor 'problem'"),
        ('{"answer": "", "id": "24:1"}', "answers.jsonl:1: the id '24:1' is none of the task's; ids look like '24:"),
        ('{"answer": "", "id": 3}', "answers.jsonl:1: the id 3 is none of the task's"),
        ('{"answer": "", "problem": {"cards": [1]}}', "answers.jsonl:1: 'problem' is an object with 'facts'"),
        (
            '{"answer": "", "problem": {"facts": {}, "x": 1}}',
            "answers.jsonl:1: 'problem' has facts, prompt, reference, id; not 'x'",
        ),
        ('{"answer": "", "problem": {"facts": {}, "id": 1}}', "answers.jsonl:1: 'id' is a string, got 1"),
    ],
)
def test_a_bad_line_is_named_by_file_and_number_and_nothing_is_verified(run, text, message):
    status, output, errors = run(text=text)
    assert (status, output) == (2, "")
    assert errors.startswith(f"error: {message}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: task"),
        (["--task"], "argument --task: expected one argument"),
        (["--task", "Game25"], "there is no task or verifier 'Game25'; there are "),
        (["--task", "nowhere.Game24"], "nowhere.Game24 cannot be imported"),
        (["--task", "os.path"], "os.path is neither a Task nor a Verifier"),
        (["--task", "Game24", "--task.no_such", "1"], "unrecognized arguments: --task.no_such"),
        (["--task", "Game24", "--task.max_value", "x"], "task.max_value"),
        (["--task", "Game24", "--task.max_value", "1"], "max_value (1) is at least as large as the largest card"),
        (["--task", "Game24", "--pool.workers", "0"], "workers is the number of worker processes"),
        (["--task", "Game24", "--pool", "cloud"], "argument --pool: invalid choice: 'cloud'"),
        (["--task", "Game24", "--pool.address", "auto"], "unrecognized arguments: --pool.address"),
        (["--task", "Game24", "no/such/file"], "no/such/file: No such file or directory"),
        (["--task", "Game24Verifier", "-"], "<stdin>:1: the id '24:4-4-6-8' is none of the task's; only a task has ids"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines_of(RIGHT).encode())))
    assert verify.main(arguments) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert message in errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1


def test_a_verifier_that_cannot_say_is_neither_right_nor_wrong(run):
    status, output, _ = run({"problem": {"facts": {}}, "answer": "1"})
    assert status == 1
    assert output.startswith("? answers.jsonl:1  crashed: ") or "  crashed: " in output
    assert "1 without evidence" in output


def test_help_names_the_settings_of_the_task(capsys):
    with pytest.raises(SystemExit) as ended:
        verify.main(["--task", "Game24", "--help"])
    assert ended.value.code == 0
    assert "max_value" in capsys.readouterr().out


# --- as a program ---

COMMAND = [sys.executable, "-m", "lit_symbolic.verify", "--task", "Game24", "--pool.workers", "1"]
ROOT = Path(__file__).parents[1]


def environment(**more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM", "COLUMNS")}
    return {**kept, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **more}


def test_it_reads_standard_input_and_imports_no_torch():
    code = f"import sys; sys.argv[1:] = {COMMAND[3:]}; from lit_symbolic.verify import main; s = main(); print('torch' in sys.modules); sys.exit(s)"
    done = subprocess.run([sys.executable, "-c", code], input=lines_of(WRONG), capture_output=True, text=True, env=environment())
    assert done.returncode == 1, done.stderr
    assert done.stdout.endswith("1 answers: 1 wrong\nFalse\n")
    assert done.stderr == ""


def in_terminal(**more: str) -> str:
    """What the program writes to a terminal, its standard output and error both."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, env=environment(**more))
    os.close(theirs)
    assert process.stdin is not None
    process.stdin.write(lines_of(WRONG).encode())
    process.stdin.close()
    written = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        written += data
    os.close(ours)
    assert process.wait() == 1
    return written.decode()


def test_a_terminal_gets_colours_and_a_progress_bar_unless_no_color_is_set():
    colourful = in_terminal()
    assert "\x1b[1;4;31m+ 12\x1b[0m" in colourful
    assert "verifying" in colourful
    plain = in_terminal(NO_COLOR="1")
    assert "2 + 12 = 14 (left: 14)\r\n     │   ^^^^\r\n" in plain
    assert "\x1b[1;4;31m" not in plain
    assert "\x1b[31m" not in plain


def test_a_reader_that_leaves_early_is_no_error():
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment())
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdout.close()
    process.stdin.write(lines_of(*[WRONG] * 50).encode())
    process.stdin.close()
    assert process.stderr.read() == b""
    assert process.wait() in (0, 1)
    process.stderr.close()


PROGRAM = {"problem": {"facts": {"answer": 42}}, "answer": "print(6 * 7)"}


def test_the_active_layers_of_the_sandbox_are_told_once_on_standard_error(run):
    available(Sandbox())
    status, output, errors = run(PROGRAM, PROGRAM, arguments=("--task", "PythonProgramVerifier", "--json"))
    assert status == 0
    assert len(output.splitlines()) == 2
    assert errors.startswith("sandbox: active: user namespace, mount namespace, ")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (("CppVerifier", "--task.compiler", "g++-99"), "C++ answers are verified with g++-99, which was not found. Install it ("),
        (("PythonProgramVerifier", "--task.libraries", "[no_such]"), "the library 'no_such' is not installed"),
    ],
)
def test_a_missing_tool_is_told_in_one_line_and_nothing_is_verified(run, settings, message):
    status, output, errors = run(PROGRAM, arguments=("--task", *settings))
    assert (status, output) == (2, "")
    assert errors.startswith(f"error: {message}")
    assert errors.count("\n") == 1
