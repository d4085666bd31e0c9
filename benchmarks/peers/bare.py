"""The bare work of an iteration: the model's own passes over the tokens that there are, and nothing else.

No sampling from the logits, no log-probs, loss, optimizer, verifier or critic: what an iteration cannot do without as long as it
runs transformers' ``LlamaForCausalLM``. It is a yardstick, not a law: a sampler that fuses operations may be below its decode.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaForCausalLM, StaticCache

from sampling_floor import attention_products, linear_products

DECODE, PRODUCTS, FORWARD, LEARN = "decode", "products", "forward", "learn"


class BareWork:
    """Times the parts of the bound in this process.

    Args:
        start: Folder with model, tokenizer and ``prompts.json``, whose prompts have one length.
        prompts: How many of them.
        samples: Answers per prompt.
        max_new_tokens: Tokens of each answer.
        epochs: Passes over the answers.
        minibatch_rows: Answers in one forward pass.

    Raises:
        ValueError: If the prompts differ in length.
    """

    def __init__(self, start: str, prompts: int, samples: int, max_new_tokens: int, epochs: int, minibatch_rows: int) -> None:
        self.model = LlamaForCausalLM.from_pretrained(start, dtype=torch.float32)
        texts = json.loads((Path(start) / "prompts.json").read_text())[:prompts]
        ids = AutoTokenizer.from_pretrained(start)(texts)["input_ids"]
        if len({len(prompt) for prompt in ids}) > 1:
            raise ValueError("the bare work is defined for prompts of one length, so that nothing is padded")
        self.prompts = torch.tensor(ids)
        self.samples = samples
        self.max_new_tokens = max_new_tokens
        self.epochs = epochs
        generator = torch.Generator().manual_seed(0)
        words = self.model.config.vocab_size
        answers = torch.randint(words, (len(ids) * samples, max_new_tokens), generator=generator)
        # The last token is never read from, so it is not fed.
        rows = torch.cat([self.prompts.repeat_interleave(samples, dim=0), answers], dim=1)[:, :-1]
        self.minibatches = rows.split(minibatch_rows)
        self.gradients = [torch.randn(len(part), max_new_tokens, words, generator=generator) for part in self.minibatches]
        config, size = self.model.config, (len(ids[0]), len(ids) * samples, max_new_tokens)
        self._products = (linear_products(config, len(ids), *size, torch.float32), attention_products(config, *size))

    def times(self) -> dict[str, dict[str, float]]:
        """Wall and processor seconds of each part, once, as ``{"seconds": {...}, "processor": {...}}``.

        - ``decode``: sampling's passes in a plain loop: each prompt read once, its keys and values repeated for its samples
          in transformers' static cache, then one token a row and step, the likeliest.
        - ``products``: the products with weights and of attention in that, as bare matrix products (see ``sampling.py``).
        - ``forward``: a pass without gradients over all answers, logits of answer tokens only.
        - ``learn``: forward and backward from a given gradient of these logits, over all answers, for all epochs.
        """
        parts = {DECODE: self.decode, PRODUCTS: self.products, FORWARD: self.forward, LEARN: self.learn}
        times = {name: _timed(part) for name, part in parts.items()}
        return {
            "seconds": {name: wall for name, (wall, _) in times.items()},
            "processor": {n: own for n, (_, own) in times.items()},
        }

    @torch.no_grad()
    def decode(self) -> None:
        """See :meth:`times`."""
        prefill = self.model(self.prompts, use_cache=True, logits_to_keep=1)
        cache = StaticCache(self.model.config, max_cache_len=self.prompts.shape[1] + self.max_new_tokens - 1)
        for index, layer in enumerate(prefill.past_key_values.layers):
            keys, values = (read.repeat_interleave(self.samples, dim=0) for read in (layer.keys, layer.values))
            cache.update(keys, values, index)
        tokens = prefill.logits[:, -1].argmax(dim=-1).repeat_interleave(self.samples)[:, None]
        for _ in range(self.max_new_tokens - 1):
            logits = self.model(tokens, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
            tokens = logits[:, -1].argmax(dim=-1, keepdim=True)

    @torch.no_grad()
    def products(self) -> None:
        """See :meth:`times`."""
        for run in self._products:
            run()

    @torch.no_grad()
    def forward(self) -> None:
        """See :meth:`times`."""
        for rows in self.minibatches:
            self.model(rows, use_cache=False, logits_to_keep=self.max_new_tokens)

    def learn(self) -> None:
        """See :meth:`times`."""
        for _ in range(self.epochs):
            for rows, gradient in zip(self.minibatches, self.gradients, strict=True):
                self.model(rows, use_cache=False, logits_to_keep=self.max_new_tokens).logits.backward(gradient)
                self.model.zero_grad()


def bound(parts: dict[str, float], networks: int = 1, decode: str = DECODE) -> float:
    """Seconds of an iteration of nothing but passes: sampling, two evaluations (policy, reference), and learning.

    Args:
        parts: Seconds of each, from :meth:`BareWork.times`.
        networks: Networks that learn: a critic that is not a head on the policy is a second one, and its evaluation takes the
            place of the policy's, whose log-probs are known from sampling.
        decode: What sampling counts as: ``decode``, or ``products`` for its bare matrix products.

    Example:
        >>> bound({"decode": 1.0, "products": 0.5, "forward": 2.0, "learn": 8.0}, networks=2)
        21.0
    """
    return parts[decode] + 2 * parts[FORWARD] + networks * parts[LEARN]


def _timed(run: Callable[[], None]) -> tuple[float, float]:
    wall, own = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - own
