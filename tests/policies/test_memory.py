"""What memory is computed to be needed, against what real models, caches and optimizers hold."""

from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch
import yaml
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from architectures import ARCHITECTURES, save_architecture
from lit_symbolic.optimizers import adamw
from lit_symbolic.policies import Critic, HuggingFacePolicy, Lora, Reference
from lit_symbolic.policies.forward import response_hidden
from lit_symbolic.policies.memory import STATE_BYTES, Memory, header_line, memory_need, memory_of_overlay
from lit_symbolic.policies.shapes import SHAPES
from lit_symbolic.rollouts.decoders import TransformersDecoder
from tiny import CONFIGS

OVERLAYS = [path for path in sorted((CONFIGS / "models").glob("*.yaml")) if path.stem != "tiny"]
SIZES = {"hidden_size": 256, "max_position_embeddings": 512}
WIDE = {
    "llama": {**SIZES, "intermediate_size": 768, "head_dim": 64},
    "gemma": {**SIZES, "intermediate_size": 768},
    "qwen2": {**SIZES, "intermediate_size": 768},
    "opt": {**SIZES, "ffn_dim": 1024, "word_embed_proj_dim": 256},
}
LORA = Lora(r=4)
ROWS, PROMPT, ANSWER = 4, 96, 96

# As published: parameters of each model.
PARAMETERS = {
    "meta-llama/Llama-2-7b-chat-hf": 6_738_415_616,
    "mistralai/Mistral-7B-Instruct-v0.3": 7_248_023_552,
    "google/codegemma-2b": 2_506_172_416,
    "facebook/galactica-1.3b": 1.3e9,
    "Qwen/Qwen2.5-7B-Instruct": 7_615_616_512,
    "meta-llama/Llama-3.1-8B-Instruct": 8_030_261_248,
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_has_the_published_number_of_parameters(name: str) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(SHAPES[name]())
    count = sum(parameter.numel() for parameter in model.parameters())
    # Galactica's is published in two digits only.
    assert count == pytest.approx(PARAMETERS[name], rel=0.02 if "galactica" in name else 0)


@pytest.fixture(scope="module", params=WIDE)
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[PreTrainedModel, Memory]:
    """A model in 4 bits with LoRA and gradient checkpointing, and what it is computed to need."""
    folder = save_architecture(request.param, tmp_path_factory.mktemp("wide"), **WIDE[request.param])
    model, _ = HuggingFacePolicy(str(folder), "nf4", LORA, gradient_checkpointing=True).load(())
    need = memory_need(
        model.config,
        lora=LORA,
        prompt_tokens=PROMPT,
        new_tokens=ANSWER,
        sampling_rows=ROWS,
        minibatch_rows=ROWS,
        critic="adapter",
    )
    return model.train(), need


def held(model: nn.Module, *names: str) -> int:
    """Bytes of a model's weights of these adapters, or with none of what is not LoRA, constants of quantisation included."""
    total = 0
    for key, parameter in model.named_parameters():
        adapter = ".lora_" in key
        if adapter is bool(names) and (not names or any(f".{name}." in key for name in names)):
            total += parameter.numel() * parameter.element_size()
            if isinstance(parameter, bnb.nn.Params4bit):
                state = parameter.quant_state
                total += sum(constants.numel() * constants.element_size() for constants in (state.absmax, state.state2.absmax))
    return total


def test_the_base_holds_the_bytes_that_are_computed_and_no_float32_copy_of_anything(
    wide: tuple[PreTrainedModel, Memory],
) -> None:
    model, need = wide
    base = [parameter for key, parameter in model.named_parameters() if ".lora_" not in key]
    assert {parameter.dtype for parameter in base} == {torch.uint8, torch.bfloat16}
    assert not [name for name, buffer in model.named_buffers() if buffer.dtype == torch.float32 and buffer.ndim > 1]
    embeddings = {id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())}
    assert {weight.dtype for weight in embeddings.values()} == {torch.bfloat16}  # type: ignore[union-attr]
    # The constants of quantisation come in whole blocks.
    assert held(model) == pytest.approx(need.base, rel=0.005)


def test_adapters_critic_and_reference_hold_the_bytes_that_are_computed(wide: tuple[PreTrainedModel, Memory]) -> None:
    model, need = wide
    assert held(model, "default") * 4 == need.adapters, "weights, gradients and two moments"
    critic, reference = Critic(model, "adapter"), Reference(model, "auto")
    assert reference.kind == "adapter"
    trained = held(model, "critic") + sum(p.numel() * p.element_size() for p in critic.parameters())
    assert trained * 4 == need.critic
    assert held(model, "reference") == need.reference


def test_the_cache_holds_the_bytes_that_are_computed(wide: tuple[PreTrainedModel, Memory]) -> None:
    model, need = wide
    decoder = TransformersDecoder(model.eval())
    with torch.no_grad():
        decoder.prefill(torch.randint(3, 50, (ROWS // 2, PROMPT)), None, 2, ANSWER)
    model.train()
    cache = sum(t.numel() * t.element_size() for layer in decoder.layers for t in (layer.keys, layer.values))
    config = model.config
    shorter = memory_need(config, lora=LORA, prompt_tokens=PROMPT, new_tokens=0, sampling_rows=ROWS)
    assert need.sampling - shorter.sampling == pytest.approx(cache * ANSWER / (PROMPT + ANSWER))


def test_a_training_pass_keeps_no_more_than_is_computed_and_not_much_less(wide: tuple[PreTrainedModel, Memory]) -> None:
    model, _ = wide
    ids = torch.randint(3, 50, (ROWS, PROMPT)), None, torch.randint(3, 50, (ROWS, ANSWER)), torch.ones(ROWS, ANSWER).bool()
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}

    def kept(checkpointing: bool) -> int:
        found: dict[int, Tensor] = {}

        def keep(tensor: Tensor) -> Tensor:
            found.setdefault(tensor.untyped_storage().data_ptr(), tensor)
            return tensor

        for module in model.modules():
            if hasattr(module, "gradient_checkpointing"):
                module.gradient_checkpointing = checkpointing  # type: ignore[assignment]
        with torch.autocast("cpu", torch.bfloat16), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            response_hidden(model, *ids)
        return sum(t.untyped_storage().nbytes() for place, t in found.items() if place not in own)

    def computed(checkpointing: bool) -> float:
        one, two = (
            memory_need(
                model.config,
                lora=LORA,
                gradient_checkpointing=checkpointing,
                prompt_tokens=PROMPT,
                new_tokens=ANSWER,
                minibatch_rows=rows,
            ).learning
            for rows in (ROWS, 2 * ROWS)
        )
        return two - one

    assert kept(False) < computed(False) < 2 * kept(False)
    assert kept(True) < computed(True)


@pytest.mark.parametrize("name", ["adamw", "adamw8bit"])
def test_an_optimizer_holds_the_bytes_that_are_computed(name: str) -> None:
    layer = nn.Linear(256, 256, bias=False)
    optimizer = adamw(name)(layer.parameters(), lr=0.1)  # type: ignore[arg-type]
    layer(torch.ones(1, 256)).sum().backward()
    optimizer.step()
    tables = ("step", "qmap1", "qmap2")
    state = {key: value for key, value in optimizer.state[layer.weight].items() if key not in tables}
    assert sum(value.numel() * value.element_size() for value in state.values()) == STATE_BYTES[name] * layer.weight.numel()


def test_training_all_weights_needs_them_their_gradients_and_two_moments() -> None:
    config = ARCHITECTURES["qwen2"]
    with torch.device("meta"):
        weights = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    need = memory_need(config, quantization="none", critic="own")
    assert need.base == 16 * weights
    assert need.critic >= 16 * weights
    assert need.reference == 4 * weights
    with pytest.raises(ValueError, match="cannot be trained"):
        memory_need(config, quantization="nf4")


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.stem)
def test_the_header_of_an_overlay_says_what_its_settings_are_computed_to_need(overlay: Path) -> None:
    written = overlay.read_text()
    comment = " ".join(line.lstrip("# ") for line in written.splitlines() if line.startswith("#"))
    need = memory_of_overlay(overlay)
    assert header_line(need) in comment, "write this line into the header"
    assert need.total < 16e9, "a card of 24 GB has room for more than what is computed"
    assert yaml.safe_load(written)["model"]["init_args"]["policy"]["init_args"]["name"] in SHAPES
