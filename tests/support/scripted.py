"""An engine without a model: what it answers is written down."""

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_symbolic.rollouts.engine import Generation, OnFinished, RolloutEngine, SamplingSettings

Script = Callable[[str, int], str | tuple[str, float]]
"""From the text so far (prompt and beginning) and the number of the sample to what comes next, with the log-prob of each token. What
does not end with a line break ends the answer, unless its last character is ``…``."""


class ScriptedEngine(RolloutEngine):
    """Gives each prompt the script's continuations, cut where a token ends the answer as any engine does.

    Args:
        script: What to answer.
        tokenizer: Reads prompts and writes answers.
    """

    def __init__(self, script: Script, tokenizer: PreTrainedTokenizerBase) -> None:
        self.script, self.tokenizer = script, tokenizer
        self.asked: list[list[str]] = []
        """Prompts of each call."""
        self.prompts: list[list[list[int]]] = []
        self.rooms: list[int] = []

    def generate(
        self,
        model: PreTrainedModel,
        prompts: Sequence[Sequence[int]],
        samples: int,
        settings: SamplingSettings,
        eos_ids: Sequence[int],
        pad_id: int,
        generator: torch.Generator,
        on_finished: OnFinished | None = None,
    ) -> Generation:
        self.asked.append([self.tokenizer.decode(prompt, skip_special_tokens=True) for prompt in prompts])
        self.prompts.append([list(prompt) for prompt in prompts])
        self.rooms.append(settings.max_new_tokens)
        answers, levels = [], []
        for text in self.asked[-1]:
            for sample in range(samples):
                said = self.script(text, sample)
                said, level = said if isinstance(said, tuple) else (said, -1.0)
                ids = self.tokenizer(said.removesuffix("…"), add_special_tokens=False)["input_ids"]
                if not said.endswith(("\n", "…")):
                    ids.append(self.tokenizer.eos_token_id)
                ids = ids[: settings.max_new_tokens]
                first = next((place for place, token in enumerate(ids) if token in eos_ids), len(ids) - 1)
                answers.append(ids[: first + 1])
                levels.append(level)
        longest = max(map(len, answers))
        if on_finished is not None:
            on_finished(list(range(len(answers))), answers)
        return Generation(
            ids=torch.tensor([ids + [pad_id] * (longest - len(ids)) for ids in answers]),
            lengths=torch.tensor([len(ids) for ids in answers]),
            logprobs=torch.tensor(
                [[level] * len(ids) + [0.0] * (longest - len(ids)) for ids, level in zip(answers, levels, strict=True)]
            ),
            ended=torch.tensor([ids[-1] in eos_ids for ids in answers]),
        )
