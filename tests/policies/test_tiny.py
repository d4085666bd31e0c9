import random
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from lit_symbolic.policies.tiny import learned_tokenizer, task_tokenizer, tiny_llama, tiny_tokenizer
from lit_symbolic.rollouts.alignment import align
from lit_symbolic.tasks.game24 import Game24
from lit_symbolic.vocabulary import LearnedVocabulary
from tiny import processes

TASK = Game24(classic_share=0.5, generator_targets="random", fraction_share=0.5)
TOKENIZER = tiny_tokenizer(TASK.vocabulary())


def ids_of(text: str, tokenizer: PreTrainedTokenizerFast = TOKENIZER) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def small_llama(seed: int = 0) -> LlamaForCausalLM:
    return tiny_llama(TOKENIZER, hidden_size=16, layers=2, heads=2, intermediate_size=32, seed=seed)


def test_every_prompt_and_demonstration_of_the_game_of_24_comes_back_from_its_ids() -> None:
    rng = random.Random(0)
    unknown = TOKENIZER.unk_token_id
    for _ in range(200):
        problem = TASK.sample(rng)
        for text in (problem.prompt, TASK.demonstration(problem, rng)):
            ids = ids_of(text)
            assert unknown not in ids, text
            assert TOKENIZER.decode(ids) == text


number = st.integers(0, 10**9).map(str)
fraction = st.tuples(st.integers(0, 5000), st.integers(1, 5000)).map(lambda pair: f"{pair[0]}/{pair[1]}")


@given(st.lists(st.tuples(st.sampled_from(["", "-"]), number | fraction).map("".join), min_size=1, max_size=6))
@settings(deadline=None)
def test_numbers_fractions_and_signs_outside_the_vocabulary_come_back_from_their_ids(numbers: list[str]) -> None:
    text = f"{' '.join(numbers)} = {numbers[0]} (left: {' '.join(numbers)})\n{numbers[-1]}, {numbers[0]}"
    ids = ids_of(text)
    assert TOKENIZER.unk_token_id not in ids
    assert TOKENIZER.decode(ids) == text


def test_a_number_of_the_vocabulary_is_one_token_and_another_is_spelled() -> None:
    assert len(ids_of("24")) == 1
    assert len(ids_of("987654")) > 1


def test_a_text_begins_with_the_beginning_of_sequence_only_where_special_tokens_are_asked_for() -> None:
    assert TOKENIZER("4 + 4")["input_ids"] == [TOKENIZER.bos_token_id, *ids_of("4 + 4")]
    special = [TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id, TOKENIZER.unk_token_id]
    assert special == [0, 1, 2, 3]


def test_a_saved_tokenizer_opens_as_the_same_tokenizer(tmp_path: Path) -> None:
    TOKENIZER.save_pretrained(tmp_path)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    assert opened.get_vocab() == TOKENIZER.get_vocab()
    assert opened.padding_side == "left"
    assert (opened.pad_token_id, opened.bos_token_id, opened.eos_token_id, opened.unk_token_id) == (0, 1, 2, 3)
    rng = random.Random(1)
    for _ in range(20):
        problem = TASK.sample(rng)
        text = f"{problem.prompt}{TASK.demonstration(problem, rng)} , 7 (1 )"
        ids = TOKENIZER(text)["input_ids"]
        assert opened(text)["input_ids"] == ids
        assert opened.decode(ids, skip_special_tokens=True) == TOKENIZER.decode(ids, skip_special_tokens=True)


def test_equal_words_make_equal_ids_and_repeated_words_count_once() -> None:
    assert tiny_tokenizer(["4", "+"]).get_vocab() == tiny_tokenizer(["4", "+", "4"]).get_vocab()


@pytest.mark.parametrize("words", [[], [""], ["two words"]])
def test_no_words_empty_words_and_words_with_blanks_are_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="tiny tokenizer"):
        tiny_tokenizer(words)


def test_a_saved_llama_opens_with_the_same_logits(tmp_path: Path) -> None:
    model = small_llama().eval()
    model.save_pretrained(tmp_path)
    opened = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(opened) is LlamaForCausalLM
    assert opened.config.eos_token_id == TOKENIZER.eos_token_id
    ids = torch.tensor([TOKENIZER("Make 24 from 1 2 3 4\n")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(opened(ids).logits, model(ids).logits)


def test_the_seed_alone_decides_the_weights_and_the_global_generator_is_left_as_it_was() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = small_llama(seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    for (name, one), (_, other) in zip(first.named_parameters(), small_llama(seed=3).named_parameters(), strict=True):
        assert torch.equal(one, other), name
    assert not torch.equal(first.lm_head.weight, small_llama(seed=4).lm_head.weight)


def test_the_weights_do_not_depend_on_the_default_device_or_type() -> None:
    wanted = small_llama()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            model = small_llama()
    finally:
        torch.set_default_dtype(torch.float32)
    assert model.dtype == torch.float32
    assert torch.equal(model.lm_head.weight, wanted.lm_head.weight)


def test_a_width_that_the_heads_cannot_share_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 2"):
        tiny_llama(TOKENIZER, hidden_size=18, heads=4)


# ---------------------------------------------------------------- learned from texts

PIECES = r"\[[^\]]*\]|Cl|Br| ?[a-z]+|\d|[\s\S]"
TEXTS = ["CC(=O)Nc1ccc(Cl)cc1 with an amide group", "O=C(O)c1ccccc1[C@@H](N)Br the acid", "Cl[Si](C)C the chloride"] * 3
LEARNED = learned_tokenizer(LearnedVocabulary(TEXTS, PIECES, 320))


@given(st.text(max_size=40) | st.lists(st.sampled_from([*TEXTS, "[C@@H]", "\n", "é", "𝄞", "\0"]), max_size=4).map("".join))
@settings(deadline=None)
def test_every_text_comes_back_from_the_ids_of_a_learned_tokenizer(text: str) -> None:
    ids = ids_of(text, LEARNED)
    assert LEARNED.unk_token_id not in ids or "<unk>" in text
    if not any(token in text for token in ("<pad>", "<s>", "</s>", "<unk>")):
        assert LEARNED.decode(ids) == align(LEARNED, ids).text == text


@given(st.lists(st.sampled_from([*TEXTS, "[C@@H]", "ClBr", " amide", "42", "é"]), max_size=4).map("".join))
@settings(deadline=None)
def test_no_token_crosses_the_border_of_a_piece(text: str) -> None:
    borders = {match.start() for match in re.finditer(PIECES, text)}
    crossed = [(start, end) for start, end in align(LEARNED, ids_of(text, LEARNED)).spans if borders & set(range(start + 1, end))]
    assert not crossed


def test_frequent_pieces_become_tokens() -> None:
    assert LEARNED.tokenize("[C@@H](Cl)") == ["[C@@H]", "(", "Cl", ")"]
    assert len(LEARNED) <= 320
    special = [LEARNED.pad_token_id, LEARNED.bos_token_id, LEARNED.eos_token_id, LEARNED.unk_token_id]
    assert special == [0, 1, 2, 3]
    assert LEARNED("C")["input_ids"][0] == LEARNED.bos_token_id


def test_the_same_texts_give_the_same_tokenizer_in_another_process() -> None:
    with processes().Pool(1) as pool:
        other = pool.apply(learned_tokenizer, (LearnedVocabulary(TEXTS, PIECES, 320),))
    assert other.get_vocab() == LEARNED.get_vocab()


def test_a_saved_learned_tokenizer_opens_as_the_same_tokenizer(tmp_path: Path) -> None:
    LEARNED.save_pretrained(tmp_path)
    opened = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    for text in [*TEXTS, "é\n 42  "]:
        assert opened(text)["input_ids"] == LEARNED(text)["input_ids"]
        assert opened.decode(ids_of(text, opened)) == text


def test_a_vocabulary_says_which_kind_of_tokenizer_it_makes() -> None:
    assert task_tokenizer(LearnedVocabulary(TEXTS, PIECES, 320)).get_vocab() == LEARNED.get_vocab()
    assert task_tokenizer(["4", "+"]).get_vocab() == tiny_tokenizer(["4", "+"]).get_vocab()


@pytest.mark.parametrize("vocabulary", [LearnedVocabulary([], PIECES, 320), LearnedVocabulary(TEXTS, PIECES, 259)])
def test_no_texts_and_too_few_tokens_are_refused(vocabulary: LearnedVocabulary) -> None:
    with pytest.raises(ValueError, match="a learned vocabulary needs texts and a size of at least 260"):
        learned_tokenizer(vocabulary)
