"""What an answer may try on the compiler: to read through it, and to keep it busy for ever."""

import contextlib
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_symbolic.verifiers.sandbox import Execution, Layer, Limits, Outcome, Sandbox
from sandbox_targets import Targets, assert_nothing_left
from sandboxes import available

# Some run as nobody on the host, whose processes are limited in sum: not beside each other.
pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++"),
    pytest.mark.xdist_group("nobody on the host"),
]

READ_WALLS = frozenset({Layer.MOUNT_NAMESPACE, Layer.LANDLOCK})
BUILD_AND_RUN = ["sh", "-c", "g++ -w answer.cpp -o answer && ./answer"]
MAIN = "\nint main() {}\n"

READS = {
    "include": "#include <PATH>",
    "include of the system's kind": "#include <RAW>",
    "include by dots": '#include "../../../../../../../..<INNER>"',
    "include by a macro": "#define OUT <PATH>\n#include OUT",
    "include_next": "#include_next <PATH>",
    "import": "#import <PATH>",
    "asm incbin": '#include <stdio.h>\nextern char s[]; __asm__("s: .incbin <ESCAPED>\\n.byte 0"); int main() { puts(s); }\n#define main unused',
    "asm include": '__asm__(".include <ESCAPED>");',
    "embed": "#include <stdio.h>\nconst char s[] = {\n#embed <PATH>\n, 0}; int main() { puts(s); }\n#define main unused",
    "has_include": "#if __has_include(<PATH>)\n#error <TOKEN>\n#endif",
    "dependency": "#pragma GCC dependency <PATH> <TOKEN>",
}
CANNOT_BITE = {
    "embed": "this compiler may be too old for it",
    "include_next": "it searches no absolute path on every version",
    "dependency": "it says something only of a newer file",
}

BOMBS = {
    "templates": "template <long N> struct A { A<N + 1> a; static const long v = A<N + 1>::v + A<N + 2>::v; }; long x = A<0>::v;",
    "templates, wide": "template <int N, class... T> struct A : A<N - 1, T..., T...> {}; template <class... T> struct A<0, T...> {};"
    " A<40, int, long> a;",
    "constexpr": "constexpr long f(long n) { long s = 0; for (long i = 0; i < n; ++i) for (long j = 0; j < n; ++j) s += i ^ j; return s; }"
    " constexpr long x = f(1L << 30);",
    "constexpr memory": "#include <vector>\nconstexpr long f() { long s = 0; for (;;) { auto p = new int[1 << 16]{}; s += p[0]; } return s; }"
    " constexpr long x = f();",
    "macros": "".join(f"#define M{i} M{i - 1} M{i - 1} M{i - 1} M{i - 1}\n" for i in range(1, 30)) + "#define M0 int f();\nM29",
    "itself, twice": "#include __FILE__\n#include __FILE__\n",
    "a device": '#include "/dev/zero"',
    "a large object": "char a[1 << 30] = {1};",
    "filled by the assembler": '__asm__(".fill 1 << 30, 8, 1");',
    "a long line": "int a = " + "(" * 200_000 + "1" + ")" * 200_000 + ";",
}


@pytest.fixture(scope="module")
def targets() -> Iterator[Targets]:
    with contextlib.ExitStack() as stack:
        yield Targets(stack)


def compile_and_run(source: str, targets: Targets, sandbox: Sandbox) -> Execution:
    targets.reset()
    path = json.loads(targets.values["SECRET"])
    for name, value in (("RAW", f"<{path}>"), ("ESCAPED", f'\\"{path}\\"'), ("INNER", path), ("PATH", f'"{path}"')):
        source = source.replace(f"<{name}>", value)
    source = source.replace("<TOKEN>", targets.token) + MAIN
    limits = Limits(wall_seconds=60.0, cpu_seconds=1, memory_megabytes=512, file_megabytes=16)
    return sandbox.run(BUILD_AND_RUN, files={"answer.cpp": source.encode()}, limits=limits)


def leaks(execution: Execution, targets: Targets) -> bool:
    return targets.token.encode() in execution.stdout + execution.stderr


@pytest.mark.parametrize("way", READS)
def test_nothing_of_the_host_is_read_at_compile_time(way: str, targets: Targets) -> None:
    for wall in READ_WALLS:
        sandbox = available(Sandbox(without=READ_WALLS - {wall}))
        if way in ("has_include", "dependency"):  # their source names the token; a compiler that errs on it would quote it
            execution = compile_and_run(READS[way].replace("<TOKEN>", "BITES"), targets, sandbox)
            assert b"#error BITES" not in execution.stderr
            assert b"current file is older" not in execution.stderr
        else:
            execution = compile_and_run(READS[way], targets, sandbox)
            assert not leaks(execution, targets), execution
    assert_nothing_left(targets)


@pytest.mark.parametrize("way", [way for way in READS if way not in CANNOT_BITE])
def test_the_compiler_reads_all_where_the_walls_are_taken_away(way: str, targets: Targets) -> None:
    execution = compile_and_run(READS[way], targets, available(Sandbox(without=READ_WALLS)))
    assert leaks(execution, targets), execution


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_at_compile_time_ends_within_its_limits(bomb: str, targets: Targets, temporary_folder: Path) -> None:
    began = time.monotonic()
    execution = compile_and_run(BOMBS[bomb], targets, available(Sandbox()))
    assert time.monotonic() - began < 75.0
    assert execution.returncode != 0 or execution.outcome is not Outcome.EXITED
    assert execution.cpu_seconds < 6.0
    assert_nothing_left(targets)
    assert not list(temporary_folder.iterdir())
