"""Answers that do not end by themselves: a model that was shown worked examples goes on with an example of its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lit_symbolic.rollouts.alignment import AlignedText
from lit_symbolic.rollouts.engine import Generation


def ended_by(stop: str, answer: AlignedText) -> AlignedText | None:
    """An answer up to where a text begins that is no part of it any more; None where the text is not there.

    The first token that writes anything behind the answer takes the place of the end-of-sequence token, and is the last that is kept.

    Args:
        stop: What begins behind an answer; blanks and line breaks in front of it are no part of the answer either.
        answer: All that was sampled.

    Returns:
        The answer, with a span for each token that is kept.

    Example:
        >>> sampled = AlignedText("CCO\\n\\nProduct: CC", ((0, 3), (3, 5), (5, 12), (12, 13), (13, 16)))
        >>> ended_by("\\nProduct:", sampled)
        AlignedText(text='CCO', spans=((0, 3), (3, 3)))
        >>> ended_by("\\nClass:", sampled) is None
        True
    """
    at = answer.text.find(stop)
    if at < 0:
        return None
    text = answer.text[:at].rstrip()
    last = next(k for k, (_, end) in enumerate(answer.spans) if end > len(text))
    return AlignedText(text, tuple((min(start, len(text)), min(end, len(text))) for start, end in answer.spans[: last + 1]))


def shortened(generation: Generation, lengths: Mapping[int, int], pad_id: int) -> Generation:
    """Answers with some of them cut to so many tokens: these have ended.

    Args:
        generation: The answers as they were sampled.
        lengths: Row of each answer that is cut, and how many tokens are kept of it.
        pad_id: Id put behind the end.

    Example:
        >>> sampled = torch.tensor([[5, 6, 7], [5, 2, 0]])
        >>> one = Generation(sampled, torch.tensor([3, 2]), torch.zeros(2, 3), torch.tensor([False, True]))
        >>> cut = shortened(one, {0: 1}, pad_id=0)
        >>> cut.ids.tolist(), cut.lengths.tolist(), cut.ended.tolist()
        ([[5, 0], [5, 2]], [1, 2], [True, True])
    """
    if not lengths:
        return generation
    rows = torch.tensor(list(lengths), device=generation.ids.device)
    kept = generation.lengths.index_copy(0, rows, torch.tensor(list(lengths.values())).to(generation.lengths))
    longest = int(kept.max())
    behind = torch.arange(longest, device=rows.device) >= kept[:, None]
    return Generation(
        ids=generation.ids[:, :longest].masked_fill(behind, pad_id),
        lengths=kept,
        logprobs=generation.logprobs[:, :longest].masked_fill(behind, 0.0),
        ended=generation.ended.index_fill(0, rows, True),
    )
