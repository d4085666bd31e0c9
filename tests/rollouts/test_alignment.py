import json
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AddedToken, PreTrainedTokenizerFast

from lit_symbolic.rollouts import alignment
from lit_symbolic.rollouts.alignment import align, tokens_in

SPECIALS = ["<pad>", "<s>", "</s>", "<unk>"]
CORPUS = [
    "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich, été naïve façade.",
    "天地玄黃 宇宙洪荒 日月盈昃 辰宿列張。今日は良い天気ですね",
    "👩‍👩‍👧‍👦 family 🏳️‍🌈 flag 👍🏽 ok 😀😃😄 é è n\u0303 combining a\u0301\u0327",
    "def f(x):\n\treturn (x + 1) * 24\n\n\n4 + 8 = 12 (left: 4 6 12)\n6 - 4 = 2 (left: 2 12)\n",
    "Ελληνικά русский язык हिन्दी العربية ∑∫√ ≠ ≤",
] * 3
texts = st.one_of(
    st.text(max_size=25),
    st.text(alphabet="aé天👩\u200d👧\u0301\n\t ()1+中🏽", max_size=25),
    st.lists(st.sampled_from(" ".join(CORPUS).split(" ")), max_size=6).map(" ".join),
)


def wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    fast.add_tokens([AddedToken("[tool]", normalized=False), AddedToken("→", normalized=False)])
    return fast


@cache
def word_level() -> PreTrainedTokenizerFast:
    words = sorted(
        {w for line in CORPUS for part in line.split(" ") for w in (part, part.strip("\n)(:.,"))} | set("()\n\t+-*/=:")
    )
    pieces = [
        *SPECIALS,
        *(w for w in words if w and (len(w) == 1 or not set(w) & set("\n)"))),
        *"0123456789",
        *(f"##{d}" for d in "0123456789/é天"),
    ]
    tokenizer = Tokenizer(models.WordPiece({w: i for i, w in enumerate(dict.fromkeys(pieces))}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split(Regex(r"[\n)]"), "isolated")]
    )
    replaced = [decoders.Replace(" )", ")"), decoders.Replace(" \n", "\n"), decoders.Replace("\n ", "\n")]
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=False), decoders.Fuse(), *replaced])
    return wrapped(tokenizer)


@cache
def byte_level() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=520, special_tokens=SPECIALS, initial_alphabet=alphabet, show_progress=False)
    )
    return wrapped(tokenizer)


@cache
def sentence_piece() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    learned = [line for line in CORPUS if "family" not in line and "天" not in line]  # emoji and CJK are left to bytes
    tokenizer.train_from_iterator(learned, trainers.BpeTrainer(vocab_size=400, special_tokens=SPECIALS, show_progress=False))
    described = json.loads(tokenizer.to_str())
    vocabulary = described["model"]["vocab"]
    for byte in range(256):
        vocabulary[f"<0x{byte:02X}>"] = len(vocabulary)
    tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return wrapped(tokenizer)


TOKENIZERS = [word_level, byte_level, sentence_piece]
every_tokenizer = pytest.mark.parametrize("make", TOKENIZERS, ids=lambda make: make.__name__)


def decoded(tokenizer, ids):
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def random_ids(tokenizer):
    """Mostly arbitrary ids, in between the bytes of characters that are cut anywhere."""
    vocabulary, anything = tokenizer.get_vocab(), st.integers(0, len(tokenizer) + 3)
    rare = [i for token, i in vocabulary.items() if token.startswith("<0x") or len(token) == 1]
    halves = texts.map(lambda text: tokenizer(text, add_special_tokens=False)["input_ids"][:4])
    part = st.one_of(anything.map(lambda i: [i]), st.sampled_from(rare).map(lambda i: [i]), halves)
    return st.lists(part, max_size=8).map(lambda parts: [i for p in parts for i in p])


def check_properties(tokenizer, ids, aligned):
    text, spans = aligned.text, aligned.spans
    assert text == tokenizer.decode(ids, skip_special_tokens=True)
    assert len(spans) == len(ids)
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert {c for start, end in spans for c in range(start, end)} == set(range(len(text)))
    full = [span for span in spans if span[0] < span[1]]
    assert [s for s, _ in full] == sorted(s for s, _ in full)
    assert [e for _, e in full] == sorted(e for _, e in full)
    for token, (start, end) in zip(ids, spans, strict=True):
        if token in tokenizer.all_special_ids:
            assert start == end


# ---- What each id wrote, from the bytes of the vocabulary: knows the decoders, and decodes nothing.


@cache
def byte_of_character():
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {chr(b): b for b in shown}
    return table | {chr(256 + k): b for k, b in enumerate(b for b in range(256) if b not in shown)}


def token_bytes(tokenizer, token):
    if token >= len(tokenizer) or token in tokenizer.all_special_ids:
        return b""
    piece, table = tokenizer.convert_ids_to_tokens(token), byte_of_character()
    return bytes(table[c] for c in piece) if all(c in table for c in piece) else piece.encode()


def characters(data, whole_run):
    """Characters of some bytes with the number of bytes of each; Unicode's replacement rule, or all or nothing."""
    found = []
    while data:
        try:
            text = data.decode()
            return found + [(c, len(c.encode())) for c in text]
        except UnicodeDecodeError as error:
            if whole_run:
                return [("\ufffd", 1)] * len(data)
            found += [(c, len(c.encode())) for c in data[: error.start].decode()]
            found.append(("\ufffd", error.end - error.start))
            data = data[error.end :]
    return found


def spans_of_bytes(pieces, found, first_character=0):
    owner, spans, at = [c for c, (_, size) in enumerate(found) for _ in range(size)], [], 0
    for piece in pieces:
        owned = owner[at : at + len(piece)]
        at += len(piece)
        spans.append((first_character + owned[0], first_character + owned[-1] + 1) if owned else None)
    return spans


def byte_level_oracle(tokenizer, ids):
    pieces = [token_bytes(tokenizer, token) for token in ids]
    found = characters(b"".join(pieces), whole_run=False)
    return "".join(c for c, _ in found), spans_of_bytes(pieces, found)


def sentence_piece_oracle(tokenizer, ids):
    kept = [
        (k, tokenizer.convert_ids_to_tokens(t))
        for k, t in enumerate(ids)
        if t < len(tokenizer) and t not in tokenizer.all_special_ids
    ]
    is_byte = [len(piece) == 6 and piece.startswith("<0x") for _, piece in kept]
    text, spans, n = "", [None] * len(ids), 0
    while n < len(kept):
        if is_byte[n]:
            behind = next((m for m in range(n, len(kept)) if not is_byte[m]), len(kept))
            run = [bytes([int(piece[3:5], 16)]) for _, piece in kept[n:behind]]
            found = characters(b"".join(run), whole_run=True)
            placed = spans_of_bytes(run, found, len(text))
            text += "".join(c for c, _ in found)
        else:
            behind, placed = n + 1, [(len(text), len(text) + len(kept[n][1]))]
            text += kept[n][1].replace("▁", " ")
        for (k, _), span in zip(kept[n:behind], placed, strict=True):
            spans[k] = span
        n = behind
    if text.startswith(" "):
        text, spans = text[1:], [span and (max(span[0] - 1, 0), span[1] - 1) for span in spans]
    return text, [span if span and span[0] < span[1] else None for span in spans]


def check_against(oracle, tokenizer, ids):
    text, expected = oracle(tokenizer, ids)
    assert decoded(tokenizer, ids) == text, "the test's own decoder is wrong"
    aligned = align(tokenizer, ids)
    check_properties(tokenizer, ids, aligned)
    assert [span if span[0] < span[1] else None for span in aligned.spans] == expected


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_byte_level_spans_are_those_of_the_bytes_for_any_ids(data):
    check_against(byte_level_oracle, byte_level(), data.draw(random_ids(byte_level())))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_byte_fallback_spans_are_those_of_the_bytes_for_any_ids(data):
    tokenizer = sentence_piece()
    ids = data.draw(random_ids(tokenizer).filter(lambda ids: not is_ambiguous(tokenizer, ids)))
    check_against(sentence_piece_oracle, tokenizer, ids)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_byte_fallback_keeps_the_properties_where_bytes_are_ambiguous(data):
    tokenizer = sentence_piece()
    byte_ids = st.sampled_from([tokenizer.get_vocab()[f"<0x{b:02X}>"] for b in b"\xef\xbf\xbd\x20A\xff"])
    ids = data.draw(st.lists(byte_ids, max_size=12))
    check_properties(tokenizer, ids, align(tokenizer, ids))


def is_ambiguous(tokenizer, ids):
    """Whether U+FFFD is written byte by byte, or a blank: no decoding tells them from bytes that are no character."""
    spelled = "".join(
        tokenizer.convert_ids_to_tokens(t) or "" for t in ids if t < len(tokenizer) and t not in tokenizer.all_special_ids
    )
    return "<0xEF><0xBF><0xBD>" in spelled or "<0x20>" in spelled


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_word_level_spans_lie_between_the_lengths_of_decoded_prefixes_for_any_ids(data):
    tokenizer = word_level()
    ids = data.draw(random_ids(tokenizer))
    aligned = align(tokenizer, ids)
    check_properties(tokenizer, ids, aligned)
    lengths = [len(decoded(tokenizer, ids[:k])) for k in range(len(ids) + 1)]
    assert list(aligned.spans) == list(pairwise(lengths))


@every_tokenizer
def test_encoded_text_cut_off_behind_any_token_keeps_the_properties(make):
    tokenizer = make()

    @settings(max_examples=60, deadline=None)
    @given(texts)
    def check(text):
        ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        for length in range(len(ids) + 1):
            check_properties(tokenizer, ids[:length], align(tokenizer, ids[:length]))

    check()


@every_tokenizer
def test_the_fast_way_equals_plain_prefix_decoding(make):
    tokenizer = make()

    @settings(max_examples=150, deadline=None)
    @given(random_ids(tokenizer))
    def check(ids):
        prefixes = [decoded(tokenizer, ids[:k]) for k in range(len(ids) + 1)]
        plain = alignment.spans_by_prefixes(prefixes, [decoded(tokenizer, [i]) or decoded(tokenizer, [i, i]) for i in ids])
        if not is_ambiguous(tokenizer, ids):
            assert list(align(tokenizer, ids).spans) == plain

    check()


@every_tokenizer
def test_spans_agree_with_the_tokenizers_own_offsets_where_it_decodes_what_it_encoded(make):
    tokenizer, compared = make(), 0

    @settings(max_examples=150, deadline=None)
    @given(texts)
    def check(text):
        nonlocal compared
        encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        aligned = align(tokenizer, encoding["input_ids"])
        if aligned.text != text or tokenizer.unk_token_id in encoding["input_ids"]:
            return
        for (start, end), (theirs, end_theirs) in zip(aligned.spans, encoding["offset_mapping"], strict=True):
            # Tokenizers differ about blanks: word-level offsets leave them out, and a "▁" put first has its neighbour's.
            if not text[start:end].strip(" "):
                continue
            compared += 1
            ours, other = text[start:end], text[theirs:end_theirs]
            assert ours.lstrip(" ") == other.lstrip(" ")
            assert end == end_theirs

    check()
    assert compared > 100


@every_tokenizer
def test_alignment_does_not_depend_on_what_was_aligned_before(make):
    tokenizer = make()
    ids = tokenizer("4 + 8 = 12 (left: 4)\n天 é 👩‍👧 x", add_special_tokens=False)["input_ids"]
    alignment._PIECES.pop(tokenizer, None)
    cold = [align(tokenizer, ids[k:]) for k in range(len(ids))]
    assert cold == [align(tokenizer, ids[k:]) for k in range(len(ids))]
    alignment._PIECES[tokenizer] = dict.fromkeys(alignment._PIECES[tokenizer], "wrong")
    assert cold == [align(tokenizer, ids[k:]) for k in range(len(ids))]
    alignment._PIECES.pop(tokenizer, None)


def test_tokens_added_later_are_seen():
    tokenizer = byte_level()
    later = len(tokenizer)
    assert align(tokenizer, [later]).text == ""
    copy = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()))
    assert align(copy, [later]).spans == ((0, 0),)
    copy.add_tokens(["[new]"])
    assert align(copy, [later]) == alignment.AlignedText("[new]", ((0, 5),))


def test_the_bytes_of_one_character_all_have_it():
    tokenizer = sentence_piece()
    ids = [tokenizer.get_vocab()[f"<0x{b:02X}>"] for b in "天😀".encode()]
    assert align(tokenizer, ids) == alignment.AlignedText("天😀", ((0, 1),) * 3 + ((1, 2),) * 4)
    assert align(tokenizer, ids[:2]) == alignment.AlignedText("\ufffd\ufffd", ((0, 1), (1, 2)))


def test_an_answer_cut_off_within_a_character_ends_with_a_replacement_character():
    tokenizer = byte_level()
    table = {byte: character for character, byte in byte_of_character().items()}
    ids = tokenizer.convert_tokens_to_ids([table[b] for b in "a😀".encode()])
    assert align(tokenizer, ids).spans == ((0, 1),) + ((1, 2),) * 4
    assert align(tokenizer, ids[:4]) == alignment.AlignedText("a\ufffd", ((0, 1),) + ((1, 2),) * 3)


spans_strategy = st.lists(st.integers(0, 4), max_size=8).map(
    lambda sizes: [(sum(sizes[:k]), sum(sizes[: k + 1])) for k in range(len(sizes))]
)


@given(spans_strategy, st.integers(0, 30), st.integers(0, 6))
def test_a_token_is_in_a_finding_if_one_of_its_characters_is(spans, start, size):
    length = spans[-1][1] if spans else 0
    wanted = set(range(start, start + size)) if size else {start}
    if start >= length:
        wanted = {length - 1}
    assert tokens_in(spans, start, start + size) == [bool(wanted & set(range(*span))) for span in spans]


def test_where_a_character_is_missing_all_its_tokens_are_hit():
    assert tokens_in([(0, 1), (1, 2), (1, 2), (2, 3)], 1, 1) == [False, True, True, False]
