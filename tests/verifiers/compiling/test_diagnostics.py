"""Reading what the compiler says: places, tokens, brackets, messages. Nothing here runs a compiler."""

import json
import time
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lit_symbolic.verifiers.compiling.braces import brace_fault, unclosed_bracket
from lit_symbolic.verifiers.compiling.cases import cases_of, same_output
from lit_symbolic.verifiers.compiling.diagnostics import (
    Pointing,
    compiler_findings,
    read_diagnostics,
    read_origins,
)
from lit_symbolic.verifiers.compiling.linker import assembler_findings, linker_findings
from lit_symbolic.verifiers.compiling.program import Program, fenced_code, tokenize

texts = st.text(st.sampled_from("ab1{}()[]\"'\\/*#R\n\t é→𝄞\ud800\0;<>%:"), max_size=60)


def place(line, column, file="answer.cpp"):
    return {"file": file, "line": line, "column": column, "byte-column": column, "display-column": 99}


def said(message, *carets, children=(), fixits=(), finish=None):
    locations = [{"caret": place(*caret), **({"finish": place(*finish)} if finish else {})} for caret in carets]
    return {"kind": "error", "message": message, "locations": locations, "children": list(children), "fixits": list(fixits)}


def found(program, *entries, origins=None, **pointing):
    errors, _ = read_diagnostics(json.dumps(entries), program)
    findings = compiler_findings(errors, origins or {}, program, Pointing(**pointing))
    return [(program.answer[f.start : f.end], f.start, f.kind) for f in findings]


# --- places ---


@settings(deadline=None)
@given(prefix=texts, answer=texts, suffix=texts)
@example(prefix="", answer="\tx = “é”; 𝄞", suffix="")
def test_lines_and_byte_columns_lead_back_to_every_character(prefix, answer, suffix):
    program = Program(prefix, answer, suffix)
    first, last = program.answer_span
    assert program.text[first:last] == answer
    for offset in range(len(program.text)):
        before = program.text[:offset]
        column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogatepass")) + 1
        assert program.offset(before.count("\n") + 1, column) == offset


def test_a_place_behind_a_line_is_its_end_and_a_line_that_is_not_there_has_no_place():
    program = Program("", "ab\ncd", "")
    assert [program.offset(1, 3), program.offset(1, 50), program.offset(2, 0)] == [2, 2, 3]
    assert [program.offset(0, 1), program.offset(3, 1)] == [None, None]


@settings(deadline=None)
@given(texts)
def test_tokens_are_in_order_and_leave_out_only_blanks_and_comments(text):
    tokens = tokenize(text)
    assert all(token.start < token.end for token in tokens)
    assert all(one.end <= other.start for one, other in pairwise(tokens))
    gaps = [text[one.end : other.start] for one, other in pairwise(tokens)]
    assert all(not gap.strip() or "//" in gap or "/*" in gap for gap in gaps)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("a<<=b->c::d", ["a", "<<=", "b", "->", "c", "::", "d"]),
        ("x // } \n/* { */ y", ["x", "y"]),
        ('f("// {", \'"\', R"(")" })")', ["f", "(", '"// {"', ",", "'\"'", ",", 'R"(")"', "}", ")", '")']),
        ('R"x(a)" )x" ;', ['R"x(a)" )x"', ";"]),
        ("#define A { \\\n  (\nB", ["#define A { \\\n  (", "B"]),
        ("1'000.5e-3f+2", ["1'000.5e-3f", "+", "2"]),
        ("u8\"é\" L'x'", ['u8"é"', "L'x'"]),
    ],
)
def test_tokens_are_those_of_the_language(text, tokens):
    assert [text[start:end] for start, end, _ in tokenize(text)] == tokens


@pytest.mark.parametrize("unit", ['R"(', "/*", "{", "(", '"', "#", "a", "'", "\\\n", "# line 1\n", "1'"])
def test_tokens_brackets_and_fences_take_time_in_proportion_to_the_text(unit):
    program = Program("", unit * (100_000 // len(unit)), "")
    began = time.process_time()
    brace_fault(program), unclosed_bracket(program), fenced_code(program.text), program.renumbers_lines
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    "directive", ["#line 7", '# 7 "x.h"', "  #  line 7", "%:line 7", "# /* a */ line 7", "/**/ #line 7", "#\\\nline 7"]
)
def test_a_line_directive_in_the_answer_is_seen(directive):
    assert Program("", f"int a;\n{directive}\nint b;", "").renumbers_lines
    assert not Program(f"{directive}\n", "int b;\n#define A\n#include <list>", directive).renumbers_lines


def test_a_fence_holds_the_code_and_an_open_one_holds_the_rest():
    assert fenced_code("int x;") == (0, 6)
    for text in ("Sure:\n```c++\nint x;\n```\nDone.", "```\nint x;\n"):
        start, end = fenced_code(text)
        assert text[start:end] == "int x;\n"


# --- brackets ---

NESTED = "int main() {\n  for (;;) {\n    if (a) {\n      b();\n    } else {\n      c();\n    }\n  }\n  return 0;\n}\n"


@pytest.mark.parametrize("index", [i for i, mark in enumerate(NESTED) if mark in "{}"])
def test_a_brace_deleted_from_indented_code_is_missed_where_it_stood(index):
    answer = NESTED[:index] + NESTED[index + 1 :]
    start, end = brace_fault(Program("", answer, "")).span
    assert start <= index <= end
    assert not answer[start:end].strip()


def test_a_brace_too_many_is_the_finding_and_matching_braces_are_none():
    answer = "  return 1;\n}\n}\n"
    fault = brace_fault(Program("int f() {\n", answer, ""))
    assert fault.span == (10 + len("  return 1;\n}\n"), 10 + len("  return 1;\n}\n}"))
    assert brace_fault(Program("int f() {\n", answer[:-2], "")) is None


def test_labels_directives_and_code_without_indentation_are_no_sign_of_a_missing_brace():
    switch = "void f(int a) {\n  switch (a) {\n  case 1:\n    g();\n  default:\n    h();\n  }\n#if 1\n  k();\n#endif\n"
    start, _ = brace_fault(Program("", switch, "")).span
    assert switch[:start].endswith("k();\n#endif") or switch[:start].endswith("k();")
    flat = "int main() {\nint a;\nif (a) {\na = 1;\nreturn 0;\n}\n"
    assert brace_fault(Program("", flat, "")).span[0] >= len(flat.rstrip())


def test_an_unclosed_parenthesis_reaches_from_it_to_the_end_of_its_line():
    answer = "int main() {\n  f(1,\n    2);\n  g(h(3);\n  k(4);\n}\n"
    start, end = unclosed_bracket(Program("", answer, ""))
    assert answer[start:end] == "(h(3);"
    assert unclosed_bracket(Program("", answer.replace("h(3)", "h(3))"), "")) is None


# --- findings ---


def test_a_missing_semicolon_is_where_it_should_stand_not_on_the_next_line():
    program = Program("", "int f() {\n  int a = 1\n  return a;\n}\n", "")
    error = said("expected ',' or ';' before 'return'", (3, 3))
    assert found(program, error) == [("", program.answer.index("\n  return"), "syntax")]
    assert found(program, error, previous_line=False) == [("return", program.answer.index("return"), "syntax")]
    assert [span[0] for span in found(program, error, whole_lines=True)] == ["int a = 1"]
    fix = {"start": place(2, 12), "next": place(2, 12), "string": ";"}
    located = said("expected ';' before 'return'", (2, 12), (3, 3), fixits=[fix])
    assert found(program, located) == [("", program.answer.index("\n  return"), "syntax")]


def test_tabs_and_wide_characters_before_an_error_do_not_shift_it():
    line = '\tcout << "é→𝄞" << zz << "é";'
    column = len(line[: line.index("zz")].encode()) + 1
    error = said("'zz' was not declared in this scope", (2, column), finish=(2, column + 1))
    program = Program("// é\n", line, "")
    assert found(program, error) == [("zz", line.index("zz"), "semantic")]


def test_an_error_in_a_macro_argument_is_at_the_argument():
    program = Program("", "assert(one == two);", "")
    assert found(program, said("'two' was not declared in this scope", (1, 1))) == [("two", 14, "semantic")]


def test_an_error_behind_the_answer_is_in_the_answer():
    program = Program("", "int f() { return 1; }\n", "int main() { g(); f(2); }")
    note = {"kind": "note", "message": "declared here", "locations": [{"caret": place(1, 5)}]}
    missing = said("'g' was not declared in this scope", (4, 14))
    assert found(program, missing) == [(program.answer, 0, "semantic")]
    assert found(program, said("too many arguments to function 'int f()'", (4, 20), children=[note])) == [("f", 4, "semantic")]
    assert found(program, said("expected ';' before 'int'", (4, 1))) == [("", program.answer.index("\n"), "syntax")]


def test_an_error_in_a_header_is_where_the_answer_led_to_it_and_foreign_files_are_not_quoted():
    program = Program("", "int main() {\n  sort(a, b);\n}\n", "")
    output = "answer.cpp:2:7:   required from here\n/usr/include/c++/12/bits/stl_algo.h:19:2: error: no match\n"
    origins = read_origins(output, program)
    error = said("no match", (19, 2, "/usr/include/c++/12/bits/stl_algo.h"))
    assert found(program, error, origins=origins) == [("sort(a, b)", 15, "semantic")]
    secret = said("'root' does not name a type", (1, 1, "/etc/passwd"))
    errors, _ = read_diagnostics(json.dumps([secret]), program)
    (finding,) = compiler_findings(
        errors, read_origins("In file included from answer.cpp:1:\n/etc/passwd:1:1: error: x", program), program, Pointing()
    )
    assert "root" not in finding.message
    assert program.answer[finding.start : finding.end] == "int main() {"


def test_what_follows_a_missing_brace_is_left_out():
    answer = "int f() {\n  if (1) {\n    x();\n  return 0;\n}\nint main() {\n  return 0;\n}\n"
    program = Program("", answer, "")
    errors = [
        said("'x' was not declared in this scope", (3, 5)),
        said("a function-definition is not allowed here before '{' token", (6, 12)),
    ]
    assert [(text, kind) for text, _, kind in found(program, *errors)] == [("x", "semantic"), ("\n  ", "syntax")]


def test_line_numbers_that_the_answer_forged_are_not_believed():
    program = Program("", 'int a;\n#line 1 "answer.cpp"\nint b = zz;\n', "")
    ((text, _, _),) = found(program, said("'zz' was not declared in this scope", (1, 5)))
    assert text == program.answer


def test_json_that_was_cut_gives_the_errors_before_the_cut_and_text_beside_it_is_kept():
    program = Program("", "a b c", "")
    output = json.dumps([said("one", (1, 1)), said("two", (1, 3))])
    errors, rest = read_diagnostics(f"{output[:-30]}\ncollect2: error: ld returned 1 exit status", program)
    assert [error.message for error in errors] == ["one"]
    assert rest.strip() == "collect2: error: ld returned 1 exit status"
    assert len(read_diagnostics(output, program, max_errors=1)[0]) == 1


@settings(deadline=None)
@given(answer=texts, message=st.text(max_size=20), line=st.integers(-1, 6), column=st.integers(-1, 70), width=st.integers(0, 9))
def test_findings_lie_in_the_answer_wherever_the_compiler_points(answer, message, line, column, width):
    program = Program("int f() {\n", answer, "int main() {}")
    error = said("expected ';' " + message, (line, column), finish=(line, column + width))
    findings = found(program, error)
    assert findings
    assert all(start + len(text) <= len(answer) for text, start, _ in findings)


def test_an_undefined_symbol_is_found_at_its_uses_else_its_declaration_else_the_end():
    answer = "int area(int);\nstruct Shape { virtual void draw(); };\nint main() { return area(1) + area(2); }\n"
    program = Program("", answer, "")

    def spans(symbol):
        output = f"/usr/bin/ld: /work/x.o: in function `main':\nanswer.cpp:(.text+0x9): undefined reference to `{symbol}'\n"
        return [answer[f.start : f.end] + f"@{f.start}" for f in linker_findings(output, program)]

    assert spans("area(int)") == [f"area@{answer.index('area(1')}", f"area@{answer.index('area(2')}"]
    assert spans("vtable for Shape") == [f"Shape@{answer.index('Shape')}"]
    assert spans("Shape::draw()") == [f"draw@{answer.index('draw')}"]
    assert spans("elsewhere(std::vector<int>)") == [f"@{len(answer)}"]


def test_what_the_assembler_refuses_is_found_at_the_asm_and_what_says_nothing_of_the_place_over_all():
    program = Program("", 'int main() {\n  asm("x");\n  asm("y");\n}', "")

    def starts(output):
        return [(f.start, f.message) for f in assembler_findings(f"answer.cpp: Assembler messages:\n{output}", program)]

    places = [program.answer.index("asm"), program.answer.rindex("asm")]
    assert starts("answer.cpp:3: Error: no such instruction: `y'") == [(places[1], "no such instruction: `y'")]
    assert starts("{standard input}:17: Error: bad") == [(place, "bad") for place in places]
    output = "x.o: in function `main':\nx.cpp:(.text+0x3): relocation truncated to fit: R_X86_64_PC32 against symbol `main' defined in .bss\n"
    assert [program.answer[f.start : f.end] for f in assembler_findings(output, program)] == ["main"]
    (whole,) = assembler_findings("/usr/bin/ld: it broke\ncollect2: error: ld returned 1 exit status", program)
    assert (whole.start, whole.end) == program.answer_span
    assert assembler_findings("sh: g++: not found", program) == []


# --- test cases ---


def test_outputs_are_compared_by_words_and_numbers_within_a_tolerance():
    assert same_output(" 1\n2 ", "1 2\n\n")
    assert not same_output("12", "1 2")
    assert not same_output("1 2 3", "1 2")
    assert not same_output("0.30000001", "0.3")
    assert same_output("0.30000001 yes", "0.3 yes", 1e-6)
    assert not same_output("nan", "0.3", 1e-6)


def test_a_test_case_with_an_unknown_key_is_named():
    with pytest.raises(ValueError, match="input, output and hidden"):
        cases_of({"tests": [{"stdin": "1"}]})
