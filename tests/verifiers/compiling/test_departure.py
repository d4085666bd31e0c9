"""Where a failing program left its reference: against trying every prefix, and with programs whose fault is known."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.verifiers.compiling.departure import MAX_LINES, first_that_breaks, pieces

LINES = st.lists(st.sampled_from(["a = 1;", "b = a + 2;", "if (a) {", "}", "", "// note", "c = 3; // note"]), max_size=8)


@given(LINES, LINES)
def test_the_pieces_lead_from_the_reference_to_the_answer(answer: list[str], reference: list[str]) -> None:
    ours, theirs = "\n".join(answer), "\n".join(reference)
    found = pieces(ours, theirs)
    ends = [(piece.end, piece.reference_end) for piece in found]
    assert ends == sorted(ends)
    for piece in found:
        assert 0 <= piece.place[0] <= piece.place[1] <= len(ours)
    if found:
        last = found[-1]
        assert pieces(ours, ours[: last.end] + theirs[last.reference_end :]) == []  # with all of them it is the answer
    else:
        assert [w for line in answer for w in _words(line)] == [w for line in reference for w in _words(line)]


def _words(line: str) -> list[str]:
    return line.partition("//")[0].split()


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_the_first_piece_is_found_after_which_all_are_wrong(wrong: list[bool]) -> None:
    reference = [f"x{i} = {i};" for i in range(len(wrong))]
    answer = [f"x{i} = 9{i};" if bad else f"x{i} = 0 + {i};" for i, bad in enumerate(wrong)]
    text = "\n".join(answer)

    def passes(program: str) -> bool:
        return "= 9" not in program

    if passes(text):
        return
    found = first_that_breaks(text, "\n".join(reference), passes)
    first = next(i for i, line in enumerate(answer) if "= 9" in line)
    assert found is not None
    assert found.place[0] == text.index(f"9{first}")


def test_what_is_missing_stands_where_the_program_goes_on_without_it_and_at_its_end() -> None:
    reference = "cin >> a;\na = a + 1;\ncout << a;\n"
    middle, end = "cin >> a;\ncout << a;\n", "cin >> a;\na = a + 1;\n"
    (piece,), (last,) = pieces(middle, reference), pieces(end, reference)
    assert middle[piece.place[0] :].startswith("cout")
    assert last.place == (len(end), len(end))


def test_one_difference_is_not_tried_and_a_trial_that_says_nothing_ends_the_search() -> None:
    def refuses(program: str) -> None:
        raise AssertionError("there was nothing to try")

    one = first_that_breaks("a = 2;", "a = 1;", refuses)
    assert one is not None
    assert one.place == (4, 5)
    assert first_that_breaks("a = 2;\nb = 3;", "a = 1;\nb = 1;", lambda program: None) is None
    assert first_that_breaks("a = 1; // same", "a = 1;", refuses) is None


@pytest.mark.parametrize("lines", [MAX_LINES + 1])
def test_very_long_programs_are_not_compared(lines: int) -> None:
    assert pieces("a;\n" * lines, "b;\n" * lines) == []
