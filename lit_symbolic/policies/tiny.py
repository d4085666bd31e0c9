"""A small Llama from scratch with a tokenizer made for one task: the whole pipeline on a laptop's CPU.

Both are the real classes (``LlamaForCausalLM``, ``PreTrainedTokenizerFast``): what is saved opens anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from lit_symbolic.vocabulary import LearnedVocabulary, Vocabulary

PAD, BOS, EOS, UNKNOWN = "<pad>", "<s>", "</s>", "<unk>"
PUNCTUATION = ("\n", ")", "(", ",")
CONTINUATIONS = ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "/")


def task_tokenizer(vocabulary: Vocabulary) -> PreTrainedTokenizerFast:
    """The tokenizer of a task alone: of its words, or learned from its texts."""
    return learned_tokenizer(vocabulary) if isinstance(vocabulary, LearnedVocabulary) else tiny_tokenizer(vocabulary)


def learned_tokenizer(vocabulary: LearnedVocabulary) -> PreTrainedTokenizerFast:
    """Learn a byte-level BPE tokenizer: every text can be written and comes back as it was, and no token crosses a piece's border.

    The same texts give the same tokenizer.

    Args:
        vocabulary: What to learn from.

    Returns:
        A tokenizer with ``<pad>``, ``<s>``, ``</s>`` and ``<unk>`` as ids 0 to 3; it begins each text with ``<s>``.

    Raises:
        ValueError: If there are no texts, or too few tokens for the bytes.

    Example:
        >>> tokenizer = learned_tokenizer(LearnedVocabulary(["draw CCO", "draw CCN"], r" ?[a-z]+| |[\\s\\S]", 300))
        >>> tokenizer.tokenize("draw CCO")
        ['draw', 'Ġ', 'C', 'C', 'O']
    """
    if not vocabulary.texts or vocabulary.size < 260:
        raise ValueError(
            f"a learned vocabulary needs texts and a size of at least 260, got {len(vocabulary.texts)} texts and {vocabulary.size}"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(vocabulary.pieces), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=vocabulary.size,
        special_tokens=[PAD, BOS, EOS, UNKNOWN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(vocabulary.texts, trainer)
    return _wrapped(tokenizer)


def _wrapped(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    begin = (BOS, tokenizer.token_to_id(BOS))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{BOS} $A", special_tokens=[begin])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def tiny_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Make a word-level tokenizer over ``words``; a number outside them is spelled digit by digit.

    Text is split at single blanks; a line break and a closing parenthesis are words of their own. Decoding puts one
    blank between words and none before ``)`` or around a line break.

    Args:
        words: The task's words (:meth:`lit_symbolic.tasks.Task.vocabulary`), without blanks.

    Returns:
        A tokenizer with ``<pad>``, ``<s>``, ``</s>`` and ``<unk>`` as ids 0 to 3; it begins each text with ``<s>``.

    Raises:
        ValueError: If there are no words, or one holds a blank.

    Example:
        >>> tokenizer = tiny_tokenizer(["4", "8", "12", "+", "=", "(left:"])
        >>> ids = tokenizer("4 + 8 = 12 (left: 12)\\n128", add_special_tokens=False)["input_ids"]
        >>> tokenizer.decode(ids)
        '4 + 8 = 12 (left: 12)\\n128'
    """
    wanted = list(dict.fromkeys(words))
    if not wanted:
        raise ValueError(
            "the tiny tokenizer needs words: the task's vocabulary() is empty; name another model, or give the task a vocabulary"
        )
    for word in wanted:
        if " " in word or not word:
            raise ValueError(f"a word of the tiny tokenizer is not empty and holds no blank, got {word!r}")
    digits = [str(digit) for digit in range(10)]
    pieces = [PAD, BOS, EOS, UNKNOWN, *PUNCTUATION, *digits, "-", *(f"##{c}" for c in CONTINUATIONS), *wanted]
    vocabulary = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=64))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(" ", "removed"),
            pre_tokenizers.Split(Regex(r"[\n),]"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),
            decoders.Fuse(),
            decoders.Replace(" )", ")"),
            decoders.Replace(" ,", ","),
            decoders.Replace(" \n", "\n"),
            decoders.Replace("\n ", "\n"),
        ]
    )
    return _wrapped(tokenizer)


def tiny_llama(
    tokenizer: PreTrainedTokenizerFast,
    hidden_size: int = 192,
    layers: int = 4,
    heads: int = 6,
    intermediate_size: int = 512,
    max_length: int = 512,
    seed: int = 0,
) -> LlamaForCausalLM:
    """Make a float32 Llama with random weights, about 2 M with the defaults.

    Args:
        tokenizer: Gives the vocabulary's size and the special ids.
        hidden_size: Width of the residual stream; a multiple of twice ``heads``.
        layers: Number of blocks.
        heads: Number of attention heads.
        intermediate_size: Width of the gated feed-forward layer.
        max_length: Longest prompt plus response, in tokens.
        seed: Seed of the weights, which are drawn on the CPU in float32 whatever the default device and type; the global
            generators are left as they were.

    Raises:
        ValueError: If ``hidden_size`` is not a multiple of ``2 * heads``.

    Example:
        >>> model = tiny_llama(tiny_tokenizer(["1", "+"]), hidden_size=16, layers=1, heads=2, intermediate_size=32)
        >>> type(model).__name__
        'LlamaForCausalLM'
    """
    if hidden_size % (2 * heads):
        raise ValueError(f"hidden_size must be a multiple of 2 * heads (rotary embedding), got {hidden_size} and {heads} heads")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        intermediate_size=intermediate_size,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=max_length,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.default_generator.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
