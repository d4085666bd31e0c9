"""Programs as lines: what an excerpt keeps of one."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.tasks.listing import Line, excerpt, program

LINES = st.lists(
    st.builds(Line, st.text("abc ;", min_size=1, max_size=9), st.text("xyz", max_size=9), st.integers(0, 4)), min_size=1
)


def flush(lines):
    """Moved to the left as a whole, as far as they go."""
    return [replace(line, indent=line.indent - min(other.indent for other in lines)) for line in lines]


@given(LINES, st.integers(0, 2**32), st.none() | st.integers(1, 5), st.none() | st.integers(1, 40))
def test_an_excerpt_is_some_lines_on_end_within_its_bounds_and_flush_with_the_margin(lines, seed, max_lines, max_characters):
    kept = excerpt(lines, random.Random(seed), max_lines, max_characters)
    count = len(kept)
    candidates = [lines[at : at + count] for at in range(len(lines) - count + 1)]
    assert flush(kept) == list(kept)
    assert list(kept) in [flush(candidate) for candidate in candidates]
    assert 1 <= count <= (max_lines or len(lines))
    if max_characters is not None and any(len(program(flush([line]), "commented")) <= max_characters for line in lines):
        assert len(program(kept, "commented")) <= max_characters


def test_every_line_and_every_length_are_drawn():
    lines = [Line(f"{letter};") for letter in "abcd"]
    drawn = {program(excerpt(lines, random.Random(seed))) for seed in range(500)}
    assert len(drawn) == 10
