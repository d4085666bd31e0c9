"""Which tokens end a step, also where no token is the line break alone."""

import pytest

from lit_symbolic.decoding.steps import decoded, step_stops, whole_steps
from lit_symbolic.policies.tiny import learned_tokenizer, tiny_tokenizer
from lit_symbolic.rollouts.alignment import align
from lit_symbolic.vocabulary import LearnedVocabulary

# Pieces of two lines: tokens then hold a line break with what stands before and behind it.
ACROSS = learned_tokenizer(LearnedVocabulary(["a1)\nb2)\n\nc3)\n  d"] * 4, r"[\s\S]+", 280))


def test_of_words_the_line_break_is_the_only_one() -> None:
    tokenizer = tiny_tokenizer(["a", "b"])
    assert step_stops(tokenizer, "\n") == (tokenizer.convert_tokens_to_ids("\n"),)


def test_every_token_with_a_line_break_in_it_ends_a_step_and_no_other() -> None:
    stops = step_stops(ACROSS, "\n")
    for token in range(len(ACROSS)):
        alone = ACROSS.decode([token])
        assert (token in stops) == ("\n" in alone and token not in ACROSS.all_special_ids), alone
    assert any(len(ACROSS.decode([token]).strip("\n")) > 0 for token in stops), "one holds more than the line break"
    assert len(stops) > 1


def test_every_line_break_of_a_text_is_in_a_token_that_stops() -> None:
    stops = step_stops(ACROSS, "\n")
    for text in ("a1)\nb2)", "x\n\ny\n", "c3)\n  d\n"):
        ids = ACROSS(text, add_special_tokens=False)["input_ids"]
        assert decoded(ACROSS, [*ids, ACROSS.eos_token_id]) == text
        aligned = align(ACROSS, ids)
        for token, (start, end) in zip(ids, aligned.spans, strict=True):
            assert (token in stops) == ("\n" in text[start:end])


def test_what_ends_no_step_is_refused() -> None:
    with pytest.raises(ValueError, match="one character"):
        step_stops(ACROSS, "")
    with pytest.raises(ValueError, match="no token of this tokenizer writes 'é'"):
        step_stops(tiny_tokenizer(["a"]), "é")


def test_steps_that_are_not_complete_are_left_out() -> None:
    assert whole_steps("a\nb\nc", "\n") == "a\nb\n"
    assert whole_steps("a", "\n") == ""
