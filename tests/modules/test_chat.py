"""Prompts sent through a tokenizer's chat template."""

from collections.abc import Callable
from pathlib import Path

import pytest
from lightning import Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from architectures import save_architecture
from lit_symbolic.modules import PPOModule, SFTModule
from lit_symbolic.policies import HuggingFacePolicy, Lora
from lit_symbolic.policies.tiny import tiny_tokenizer
from toys import Say

Fit = Callable[..., Trainer]
# The template begins the text itself: a second begin-of-sequence token would be one too many.
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] }} : {{ message['content'] }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)


def folder_with(template: str | None, folder: Path) -> Path:
    tokenizer = tiny_tokenizer(["a", "b", "c", "d", "say", "user", "assistant", ":"])
    tokenizer.chat_template = template
    return save_architecture("llama", folder, tokenizer)


@pytest.mark.parametrize("kind", [SFTModule, PPOModule])
def test_a_prompt_is_one_turn_of_the_user_and_the_beginning_of_an_answer(
    kind: type[SFTModule] | type[PPOModule], fit: Fit, tmp_path: Path
) -> None:
    policy = HuggingFacePolicy(str(folder_with(TEMPLATE, tmp_path)), lora=Lora(r=2), dtype="float32")
    sizes = {"demonstrations": 4} if kind is SFTModule else {"problems": 2, "samples": 2}
    for chat, wanted in ((True, "<s> user : say</s> assistant :"), (False, "<s> say")):
        module = kind(policy, chat=chat, max_new_tokens=4, **sizes)  # type: ignore[arg-type]
        batch = next(iter(fit(module, Say()).train_dataloader or ()))
        words = wanted.replace("</s>", " </s>").split()
        assert module.tokenizer.convert_ids_to_tokens(batch["prompt_ids"][0].tolist()) == words


def test_a_tokenizer_without_a_template_is_refused_before_anything_is_sampled(fit: Fit, tmp_path: Path) -> None:
    module = SFTModule(HuggingFacePolicy(str(folder_with(None, tmp_path)), lora=Lora(r=2), dtype="float32"), chat=True)
    with pytest.raises(MisconfigurationException, match=r"no chat template; set model\.chat to false"):
        fit(module, Say())
