"""Answers as a terminal shows them."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from lit_symbolic.certificate import Certificate, Finding, Status
from lit_symbolic.reporting.terminal import MISSING, show_answer


def wrong(*spans: tuple[int, int]) -> Certificate:
    return Certificate(False, 0.0, tuple(Finding(start, end, "goal", f"at {start}") for start, end in spans))


def lines(certificate: Certificate, text: str) -> list[str]:
    return show_answer("id", certificate, text, colour=False).plain.split("\n")[1:]


@pytest.mark.parametrize(
    ("text", "spans", "carets"),
    [
        ("abc", [(1, 2)], [" ^"]),
        ("abc", [(0, 3)], ["^^^"]),
        ("abc", [(0, 1), (2, 3)], ["^ ^"]),
        ("abc", [(3, 3)], ["   ^"]),
        ("abc", [(1, 1)], [" ^"]),
        ("", [(0, 0)], ["^"]),
        ("ab\ncd", [(1, 4)], [" ^", "^"]),
        ("ab\n\ncd", [(3, 3)], ["^"]),
        ("ab\ncd", [(2, 3)], ["  ^"]),
        ("變變x", [(1, 2)], ["  ^^"]),
        ("\tx", [(1, 2)], ["    ^"]),
        ("\x1bx", [(0, 1)], ["^"]),
    ],
)
def test_carets_stand_under_the_characters_of_a_finding(text, spans, carets):
    shown = [line[7:] for line in lines(wrong(*spans), text) if re.fullmatch(r"     │ [ ^]+", line)]
    assert shown == carets


def test_findings_are_told_below_the_line_that_they_begin_in():
    assert lines(wrong((1, 5), (4, 5)), "abc\nde") == [
        "   1 │ abc",
        "     │  ^^",
        "     │ 1:2 goal: at 1",
        "   2 │ de",
        "     │ ^",
        "     │ 2:1 goal: at 4",
    ]


def test_the_first_line_says_what_became_of_the_answer():
    correct, unknown = Certificate(True, 1.0), Certificate.without_evidence(Status.TIMEOUT, "stopped\nafter 5 s")
    unlocated = Certificate(False, 0.25, evidence="2 of 8 tests")
    firsts = [
        show_answer("a\x1b", c, "x", colour=False).plain.split("\n")[0] for c in (correct, unknown, unlocated, wrong((0, 1)))
    ]
    assert firsts == [
        "✓ a␛  correct",
        "? a␛  timeout: stopped after 5 s",
        "✗ a␛  score 0.25, 0 findings: 2 of 8 tests",
        "✗ a␛  score 0.00, 1 finding",
    ]


def printed(certificate: Certificate, text: str, colour: bool) -> str:
    file = io.StringIO()
    console = Console(file=file, color_system="truecolor" if colour else None, force_terminal=colour, soft_wrap=True, width=80)
    console.print(show_answer("id", certificate, text, colour))
    return file.getvalue()


def test_in_colour_findings_are_underlined_and_what_is_missing_has_a_sign():
    shown = printed(wrong((1, 2), (3, 3)), "abc", colour=True)
    assert "\x1b[1;4;31mb\x1b[0m" in shown
    assert MISSING in shown
    assert "^" not in shown


@given(
    st.text(alphabet="ab \n\t\r\x1b\x00\u202e\ud800變[/]", max_size=30),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))),
)
def test_whatever_is_printed_is_safe_and_says_every_finding_once(text, spans):
    spans = [tuple(sorted((min(low, len(text)), min(high, len(text))))) for low, high in spans]
    certificate = wrong(*spans)
    shown = printed(certificate, text, colour=False)
    shown.encode()
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202e]", shown)
    assert shown.count("goal: at") == len(spans)
    assert len(re.findall(r"^ *\d+ │ ", shown, re.M)) == text.count("\n") + 1
    in_colour = re.sub(r"\x1b\[[0-9;]*m", "", printed(certificate, text, colour=True))
    without_carets = [line for line in shown.split("\n") if not re.fullmatch(r"     │ [ ^]*\^", line)]
    assert in_colour.replace(MISSING, "").split("\n") == without_carets


def test_a_mark_is_as_wide_as_what_it_marks():
    text = "變x\x00\u202ey"
    answer, carets = (line[7:] for line in lines(wrong((0, len(text))), text)[:2])
    assert cell_len(answer) == len(carets)
