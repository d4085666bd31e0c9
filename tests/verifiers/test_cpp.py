"""The whole way of a C++ answer: g++ and the program in the sandbox."""

import doctest
import itertools
import os
import pickle
import random
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpp_gold import HUMANEVAL_X, INJECTIONS, SPOC, SPOC_PREFIX, SPOC_STANDARD, humaneval_x, spoc
from lit_symbolic.certificate import Problem, Status
from lit_symbolic.verifiers import cpp
from lit_symbolic.verifiers.compiling.prelude import CompilerUnavailable, prelude, toolchain
from lit_symbolic.verifiers.cpp import CppVerifier
from lit_symbolic.verifiers.sandbox import Limits, Sandbox, SandboxUnavailable
from sandboxes import available


def sandboxed() -> bool:
    try:
        return Sandbox().run(["true"]).returncode == 0
    except SandboxUnavailable:
        return False


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
needs_sandbox = pytest.mark.skipif(not sandboxed(), reason="needs bubblewrap, or a kernel that lets users make namespaces")
runs_programs = [needs_compiler, needs_sandbox]

VERIFIER = CppVerifier(patience=100)  # a machine may be busy
LIGHT = replace(VERIFIER, headers=("cstdio",), standard="gnu++11")
"""A header that is built and read in no time, for programs that need no more."""
TESTS = [{"input": "4", "output": "8"}, {"input": "1", "output": "2", "hidden": True}]
DOUBLE = Problem("cpp", "double", "", {"tests": TESTS})
ANSWER = '#include <cstdio>\nint main() {\n  int n;\n  scanf("%d", &n);\n  printf("%d\\n", 2 * n);\n}\n'
FUNCTION = Problem(
    "cpp",
    "twice",
    "",
    {
        "prefix": "int twice(int x) {\n",
        "suffix": "#include <assert.h>\nint main() { assert(twice(2) == 4); }",
        "tests": [{"hidden": True}],
    },
)


@pytest.fixture(scope="module")
def light(tmp_path_factory):
    verifier = replace(LIGHT, cache_dir=str(tmp_path_factory.mktemp("headers")))
    verifier.prepare()
    return verifier


def broken(old, new, answer=ANSWER):
    assert old in answer
    return answer.replace(old, new)


def underlined(certificate, text):
    return [(text[f.start : f.end], f.kind) for f in certificate.findings]


class TestCorrectAndWrong:
    pytestmark = runs_programs

    def test_a_program_that_passes_all_tests_is_correct(self, light):
        certificate = light.verify(DOUBLE, ANSWER)
        assert certificate.correct, certificate
        assert certificate.measures == {
            "compiled": 1.0,
            "tests": 2.0,
            "tests_passed": 2.0,
            "tests_fraction": 1.0,
            "public_fraction": 1.0,
            "hidden_fraction": 1.0,
        }

    def test_a_failed_test_is_a_goal_finding_over_the_whole_answer_and_hidden_tests_are_not_told(self, light):
        answer = broken("2 * n", "n + 1")
        certificate = light.verify(DOUBLE, answer)
        assert underlined(certificate, answer) == [(answer, "goal")]
        assert (certificate.score, certificate.measures["hidden_fraction"]) == (0.5, 1.0)
        assert "it writes '5\\n', not '8'" in certificate.findings[0].message
        secret = Problem("cpp", "", "", {"tests": [{"input": "777", "output": "888", "hidden": True}]})
        told = light.verify(secret, broken("2 * n", "n"))
        assert "hidden test 1 of 1: its output is wrong" in told.evidence
        assert not any(number in str(told) for number in ("777", "888"))

    def test_without_tests_an_answer_is_correct_if_it_compiles(self, light):
        problem = Problem("cpp", "", "", {})
        certificate = light.verify(problem, "int f(int);\nint g() { return f(1); }")
        assert certificate.correct
        assert certificate.measures["tests_fraction"] == certificate.measures["compiled"] == 1.0
        assert not light.verify(problem, "int g() { return f(1); }").correct

    @pytest.mark.parametrize(
        ("old", "new", "kind"),
        [
            ("2 * n);", "2 * n)[]", "syntax"),
            ("&n", "&[m]", "semantic"),
            ("2 * n", '[2 * "né"] * n', "semantic"),
            ("2 * n", "[h](n)", "semantic"),
        ],
    )
    def test_errors_are_found_at_their_characters(self, light, old, new, kind):
        start, end = (broken(old, new).replace(other, "").index(bracket) for bracket, other in ("[]", "]["))
        answer = broken(old, new.replace("[", "").replace("]", ""))
        certificate = light.verify(DOUBLE, answer)
        assert [(f.start, f.end, f.kind) for f in certificate.findings] == [(start, end, kind)]

    def test_a_function_that_is_defined_nowhere_is_found_where_it_is_called(self, light):
        assert light.verify(DOUBLE, broken("int main", "int h(int);\nint main")).correct
        answer = broken("2 * n", "h(n)", "int h(int);\n" + ANSWER)
        certificate = light.verify(DOUBLE, answer)
        assert [(f.start, f.kind) for f in certificate.findings] == [(answer.index("h(n)"), "linker")]
        assert certificate.measures["compiled"] == 0.0

    def test_the_linker_makes_no_difference(self, light, monkeypatch):
        answers = [ANSWER, broken("2 * n", "3 * n"), broken("2 * n", "h(n)", "int h(int);\n" + ANSWER), broken("main", "mine")]
        found = []
        tool = toolchain(light.compiler)
        for flags in (tool.quick_linker, (), ("-Wl,--no-such-option",)):  # quick, usual, one that always fails
            monkeypatch.setattr(cpp, "toolchain", lambda _, flags=flags: replace(tool, quick_linker=flags))
            found.append([light.verify(DOUBLE, answer) for answer in answers])
        assert found[0] == found[1] == found[2]
        assert [certificate.measures["compiled"] for certificate in found[0]] == [1.0, 1.0, 0.0, 0.0]

    def test_options_choose_lines_the_first_error_and_the_fenced_code(self, light):
        answer = broken("2 * n", "k * q")
        problem = Problem("cpp", "", "", {})
        assert [text for text, _ in underlined(light.verify(problem, answer), answer)] == ["k", "q"]
        lines = replace(light, spans="line", errors="first").verify(problem, answer)
        assert [text for text, _ in underlined(lines, answer)] == ['printf("%d\\n", k * q);']
        fenced = f"Here:\n```cpp\n{answer}```\nDone."
        assert [text for text, _ in underlined(replace(light, code_fence=True).verify(problem, fenced), fenced)] == ["k", "q"]

    def test_an_error_in_a_header_is_found_where_the_answer_led_to_it(self):
        answer = "#include <algorithm>\n#include <list>\nvoid f(std::list<int>& l) {\n  std::sort(l.begin(), l.end());\n}\n"
        certificate = VERIFIER.verify(Problem("cpp", "", "", {}), answer)
        assert ("sort(l.begin(), l.end())", "semantic") in underlined(certificate, answer)


class TestCodeAroundTheAnswer:
    pytestmark = runs_programs

    def test_an_answer_between_prefix_and_suffix_is_certified(self, light):
        assert light.verify(FUNCTION, "  return 2 * x;\n}").correct

    @pytest.mark.parametrize(
        ("answer", "spans", "kind"),
        [
            ("  return 2 * x;\n", ["\n"], "syntax"),
            ("  return 2 * x\n}\n", [""], "syntax"),
            ("  return 2 * x;\n}\nint main() {}\n", ["main"], "semantic"),
            ("  return 2 * x;\n}\nint main() {}\n#define main other\n", ["main"], "semantic"),
            ("  exit(0);\n}\n", ["exit"], "linker"),
            ("  return 3 * x;\n}\n", ["  return 3 * x;\n}\n"], "goal"),
        ],
    )
    def test_what_goes_wrong_outside_is_found_inside(self, light, answer, spans, kind):
        problem = replace(FUNCTION, facts={**FUNCTION.facts, "prefix": "#include <stdlib.h>\nint twice(int x) {\n"})
        assert underlined(light.verify(problem, answer), answer) == [(span, kind) for span in spans]


class TestHostileAnswers:
    """The suite of the sandbox has the attacks; these ask what the certificate says."""

    pytestmark = runs_programs

    @pytest.mark.parametrize(
        "attack",
        [
            '#include "/etc/passwd"',
            "#include </etc/hostname>",
            '#include "../../../../etc/passwd"',
            '__asm__(".incbin \\"/etc/passwd\\"");',
            '#include "/proc/self/environ"',
            '#include "/work/../etc/shadow"',
            'const char stolen[] = {\n#embed "/etc/passwd"\n};',
            f'#include "{__file__}"',
        ],
    )
    def test_nothing_of_the_host_can_be_read_at_compile_time(self, light, attack, monkeypatch):
        monkeypatch.setenv("SECRET", "hunter2")
        certificate = light.verify(DOUBLE, f"{attack}\n{ANSWER}")
        assert not any(secret in str(certificate) for secret in ("root:", "hunter2", "nobody", "pytestmark"))
        assert certificate.is_evidence

    @pytest.mark.parametrize(
        "bomb",
        [
            "template<int N, int M> struct B { static const int v = B<N-1, 2*M>::v + B<N-1, 2*M+1>::v; };\n"
            "template<int M> struct B<0, M> { static const int v = 1; };\nint z = B<28, 0>::v;",
            "#define A(x) x x x x x x x x x x\nint z = 0 A(A(A(A(A(A(A(A(+1))))))));",
            "(" * 30_000,
            "constexpr long f(int n, long m) { return n == 0 ? m : f(n - 1, 2 * m) + f(n - 1, 2 * m + 1); }\n"
            "constexpr long z = f(40, 0);",
        ],
        ids=["templates", "macros", "parentheses", "constexpr"],
    )
    def test_a_bomb_is_rejected_or_an_error_within_bounded_time(self, light, bomb):
        began = time.monotonic()
        impatient = replace(light, compile_seconds=1.0, patience=20.0)  # seconds by the clock: a machine may be busy
        certificate = impatient.verify(Problem("cpp", "", "", {}), f"{bomb}\n{ANSWER}")
        assert time.monotonic() - began < 25.0
        assert certificate.is_evidence
        assert not certificate.correct
        assert certificate.findings

    def test_a_program_that_never_ends_fails_and_one_that_sleeps_is_no_evidence(self, light):
        endless = replace(light, run_seconds=1).verify(DOUBLE, broken("int n;", "int n; for (volatile int i = 0;; i = 1);"))
        assert endless.status is Status.OK
        assert "too much processor time" in endless.findings[0].message
        assert endless.measures["tests_passed"] == 0.0
        asleep = broken("int n;", "int n; sleep(1000);", "#include <unistd.h>\n" + ANSWER)
        certificate = replace(light, compile_seconds=100, run_seconds=1, patience=1).verify(DOUBLE, asleep)
        assert (certificate.status, certificate.findings) == (Status.TIMEOUT, ())

    def test_what_the_assembler_and_the_linker_refuse_is_found(self, light):
        assembly = broken("int n;", 'int n; asm("nonsense");')
        assert [text for text, _ in underlined(light.verify(DOUBLE, assembly), assembly)] == ["asm"]
        huge = broken("int n;", "int n; huge[n] = after[n] = 1;", "char huge[3000000000], after[3000000000];\n" + ANSWER)
        certificate = light.verify(DOUBLE, huge)
        assert certificate.is_evidence
        assert not certificate.correct

    def test_text_of_any_kind_has_a_certificate(self, light):
        for text in ("", "\0", "\ud800", "x" * 1_000_000, "é" * 100, "\\", "#", '"', "#include __FILE__"):
            certificate = light.verify(DOUBLE, text)
            assert not certificate.correct
            assert all(0 <= f.start <= f.end <= len(text) for f in certificate.findings)
        assert light.verify(DOUBLE, "x" * 1_000_000).status is Status.REJECTED

    @settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(cut=st.integers(0, len(ANSWER)), noise=st.text(max_size=8), keep=st.integers(0, 20))
    def test_damaged_programs_have_findings_inside(self, light, cut, noise, keep):
        text = ANSWER[:cut] + noise + ANSWER[cut + keep :]
        began = time.process_time()
        certificate = light.verify(Problem("cpp", "", "", {}), text)
        assert time.process_time() - began < 2  # here; the compiler's is limited, and without evidence where that is not enough
        assert certificate.is_evidence
        assert certificate.correct == (not certificate.findings)
        assert all(0 <= f.start <= f.end <= len(text) for f in certificate.findings)
        assert certificate == light.verify(Problem("cpp", "", "", {}), text)


class TestSharedHeader:
    pytestmark = needs_compiler

    def test_the_compiler_takes_the_header_and_a_second_build_is_none(self, tmp_path):
        flags = ("-std=gnu++11", "-O1")
        header = prelude("g++", flags, ("cstdio",), str(tmp_path))
        (tmp_path / "a.cpp").write_text("int main() { puts(NULL); }")
        command = ["g++", *flags, "-Winvalid-pch", "-H", "-fsyntax-only", "-include", str(header), str(tmp_path / "a.cpp")]
        used = subprocess.run(command, capture_output=True, text=True).stderr
        assert f"! {header}.gch" in used  # "!" is how g++ says that it was used, "x" that it was not
        built = header.with_name("prelude.h.gch").stat().st_mtime_ns
        assert prelude("g++", flags, ("cstdio",), str(tmp_path)) == header
        assert header.with_name("prelude.h.gch").stat().st_mtime_ns == built
        assert prelude("g++", ("-std=gnu++11", "-O2"), ("cstdio",), str(tmp_path)) != header

    @pytest.mark.parametrize("means", ["bubblewrap", "kernel"])
    def test_its_folder_is_closed_to_others_and_who_executes_in_the_sandbox_still_reads_it(self, tmp_path, means):
        flags, before = ("-std=gnu++11", "-O1"), os.umask(0o077)
        try:
            header = prelude("g++", flags, ("cstdio",), str(tmp_path / "cache"))
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700
        command = ["g++", *flags, "-H", "-fsyntax-only", "-include", str(header), "a.cpp"]
        limits = Limits(wall_seconds=60, cpu_seconds=20, memory_megabytes=1024)
        files, readable = {"a.cpp": b"int main() { puts(NULL); }"}, [*toolchain("g++").readable, str(header.parent)]
        done = available(Sandbox(means=means)).run(command, files=files, readable=readable, limits=limits)
        assert done.returncode == 0
        assert f"! {header}.gch" in done.stderr.decode()

    def test_processes_that_want_it_at_once_build_it_once_and_what_a_killed_one_left_is_removed(self, tmp_path):
        counted = tmp_path / "bin" / "g++"
        counted.parent.mkdir()
        counted.write_text(
            f'#!/bin/sh\ncase "$*" in *c++-header*) echo >> {tmp_path}/builds;; esac\nexec {shutil.which("g++")} "$@"\n'
        )
        counted.chmod(0o755)
        code = (
            "from lit_symbolic.verifiers.compiling.prelude import prelude\n"
            f"print(prelude({str(counted)!r}, (), ('cstdio',), {str(tmp_path / 'c')!r}))"
        )
        processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
        (header,) = {process.communicate()[0].strip() for process in processes}
        assert (tmp_path / "builds").read_text().count("\n") == 1
        folder = tmp_path / "c" / header.split("/")[-2]
        shutil.rmtree(folder)
        folder.with_name(f"{folder.name}.1.partial").mkdir()
        subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
        assert sorted(path.name for path in (tmp_path / "c").iterdir()) == sorted([folder.name, f"{folder.name}.lock"])

    def test_a_compiler_that_takes_too_long_is_ended_with_what_it_started(self, tmp_path, monkeypatch):
        slow = tmp_path / "bin" / "g++"
        slow.parent.mkdir()
        hangs = f'case "$*" in *c++-header*) sleep 1000 & echo $! > {tmp_path}/pid; wait;; esac'
        slow.write_text(f'#!/bin/sh\n{hangs}\nexec {shutil.which("g++")} "$@"\n')
        slow.chmod(0o755)
        toolchain(str(slow))
        monkeypatch.setattr("lit_symbolic.verifiers.compiling.prelude.BUILD_SECONDS", 5)
        with pytest.raises(CompilerUnavailable, match="within 5 s"):
            prelude(str(slow), (), ("cstdio",), str(tmp_path / "c"))
        started, end = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat"), time.monotonic() + 5
        while (alive := started.exists() and started.read_text().rpartition(")")[2].split()[0] != "Z") and time.monotonic() < end:
            time.sleep(0.02)  # a killed process still counts as running until it is next scheduled
        assert not alive
        assert [path.suffix for path in (tmp_path / "c").iterdir()] == [".lock"]

    @needs_sandbox
    def test_programs_cannot_write_it(self, light):
        header = light.cache_dir + "/" + next(name for name in os.listdir(light.cache_dir) if "." not in name) + "/prelude.h"
        answer = f'#include <cstdio>\nint main() {{ FILE* f = fopen("{header}", "a"); if (f) fputs("#error", f); }}\n'
        assert light.verify(Problem("cpp", "", "", {"tests": [{"output": ""}]}), answer).correct
        assert "#error" not in Path(header).read_text()

    def test_headers_that_do_not_compile_are_the_users_mistake(self, tmp_path):
        with pytest.raises(CompilerUnavailable, match="no_such_header"):
            prelude("g++", (), ("no_such_header",), str(tmp_path))
        assert not list(tmp_path.glob("*.partial"))

    def test_a_verifier_that_was_unpickled_has_its_header(self, tmp_path):
        verifier = replace(LIGHT, cache_dir=str(tmp_path))
        assert pickle.loads(pickle.dumps(verifier)) == verifier
        assert list(tmp_path.glob("*/prelude.h.gch"))


def test_a_missing_compiler_is_named_with_what_to_install():
    with pytest.raises(CompilerUnavailable, match=r"g\+\+-99, which was not found.*apt-get install g\+\+"):
        CppVerifier(compiler="g++-99").verify(Problem("cpp", "", "", {}), "int x;")


def test_a_compiler_that_is_no_compiler_is_refused():
    with pytest.raises(CompilerUnavailable, match="no g\\+\\+"):
        toolchain("true")


class TestDeparture:
    """A program that compiles and fails its tests, and a reference that passes them."""

    pytestmark = runs_programs

    REFERENCE = (
        '#include <cstdio>\nint main() {\n  int n;\n  scanf("%d", &n);\n  int twice = 2 * n;\n  printf("%d\\n", twice);\n'
        "  return 0;\n}\n"
    )
    PROBLEM = replace(DOUBLE, reference=REFERENCE)

    @pytest.mark.parametrize(
        ("changes", "place"),
        [
            ([("2 * n", "3 * n")], "3"),
            ([("2 * n", "n + n"), ("twice);", "twice + 1);")], "+ 1"),  # another right line is none of the fault
            ([("int n;", "int n = 1;"), ("2 * n", "2 - n"), ("return 0;", "return 0 + 0;")], "- n"),
            ([("  return 0;\n", ""), ("  int twice = 2 * n;\n", "  int twice;\n  twice = n;\n")], ";\n  twice = n"),
        ],
    )
    def test_the_finding_stands_on_what_makes_the_reference_fail(self, light, changes, place):
        answer = self.REFERENCE
        for old, new in changes:
            assert old in answer
            answer = answer.replace(old, new)
        located = replace(light, locate_departure=True, locate_seconds=60).verify(self.PROBLEM, answer)
        whole = light.verify(self.PROBLEM, answer)
        (finding,), (everywhere,) = located.findings, whole.findings
        assert (everywhere.start, everywhere.end) == (0, len(answer))
        assert finding.kind == "goal"
        assert answer[finding.start :].startswith(place)
        assert (finding.message, located.score, located.measures) == (everywhere.message, whole.score, whole.measures)
        assert "2 * n" not in located.evidence + finding.message  # an answer is not told the reference

    def test_right_answers_others_and_problems_without_a_reference_are_as_without_it(self, light):
        located = replace(light, locate_departure=True)
        wrong = self.REFERENCE.replace("2 * n", "3 * n")
        broken = self.REFERENCE.replace(";", "", 1)
        for problem, answer in ((self.PROBLEM, self.REFERENCE), (self.PROBLEM, broken), (DOUBLE, wrong)):
            assert located.verify(problem, answer) == light.verify(problem, answer)
        two = wrong.replace("return 0;", "return 0 + 0;")
        assert replace(located, locate_seconds=0.0).verify(self.PROBLEM, two) == light.verify(self.PROBLEM, two)

    def test_the_place_is_counted_from_the_answers_begin_though_the_program_stands_in_a_fence(self, light):
        answer = f"Here:\n```cpp\n{self.REFERENCE.replace('2 * n', '3 * n')}```\n"
        (finding,) = replace(light, locate_departure=True, code_fence=True).verify(self.PROBLEM, answer).findings
        assert answer[finding.start : finding.end + 4] == "3 * n"


@needs_compiler
@needs_sandbox
def test_the_example_of_the_documentation_runs():
    text = CppVerifier.__doc__.replace("  # doctest: +SKIP", "").replace(
        "CppVerifier()", f"CppVerifier(patience={VERIFIER.patience})"
    )
    example = doctest.DocTestParser().get_doctest(text, {"Problem": Problem, "CppVerifier": CppVerifier}, "CppVerifier", None, 0)
    assert len(example.examples) == 5
    assert doctest.DocTestRunner().run(example).failed == 0


class TestRealPrograms:
    pytestmark = runs_programs

    @pytest.mark.skipif(not SPOC.exists(), reason=f"needs the public data: {SPOC}")
    def test_gold_programs_of_spoc_pass_their_tests(self):
        verifier = replace(VERIFIER, standard=SPOC_STANDARD)
        answers = list(spoc("eval"))
        assert len(answers) == 2010
        for problem, text in random.Random(0).sample(answers, 4):
            assert verifier.verify(problem, text).correct, problem.id

    @pytest.mark.skipif(not HUMANEVAL_X.exists(), reason=f"needs the public data: {HUMANEVAL_X}")
    def test_gold_programs_of_humaneval_x_pass_their_assertions(self):
        answers = list(humaneval_x())
        assert len(answers) == 100
        for problem, text in random.Random(0).sample(answers, 4):
            assert VERIFIER.verify(problem, text).correct, problem.id

    @pytest.mark.skipif(not SPOC.exists(), reason=f"needs the public data: {SPOC}")
    def test_injected_faults_are_hit(self):
        verifier = replace(VERIFIER, standard=SPOC_STANDARD)
        answers = random.Random(0).sample(list(spoc("test")), 60)
        misses, injected = [], 0
        for number, (kind, inject) in enumerate(INJECTIONS.items()):
            if kind.startswith("(declar"):
                continue  # found where it shows, not where it was made
            generator = random.Random(number)
            faults = (fault for _, text in answers if (fault := inject(text, generator)) is not None)
            for fault in itertools.islice(faults, 3):
                injected += 1
                certificate = verifier.verify(Problem("spoc", "", "", {"prefix": SPOC_PREFIX}), fault.text)
                if not any(f.start <= fault.end and fault.start <= f.end for f in certificate.findings):
                    misses.append((kind, fault, certificate.findings))
        assert injected >= 36
        assert len(misses) <= 0.1 * injected, misses
