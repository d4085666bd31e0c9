"""Engines in a config: by short name with every flag, and an iteration of PPO through each that runs here."""

from collections.abc import Callable
from dataclasses import asdict
from inspect import signature
from typing import Any

import pytest
import torch
import yaml
from lightning import Trainer

from callbacks import VerifierReward
from lit_symbolic.cli import SymbolicCLI
from lit_symbolic.modules import PPOModule
from lit_symbolic.modules.settings import Optimization
from lit_symbolic.policies import TinyLlama
from lit_symbolic.rollouts.continuous_batching import ContinuousBatchingEngine
from lit_symbolic.rollouts.engine import RolloutEngine
from lit_symbolic.rollouts.hf import HuggingFaceEngine
from lit_symbolic.rollouts.native import NativeEngine
from lit_symbolic.rollouts.vllm import VLLMEngine
from tiny import CONFIGS, weights
from toys import Arbitrary, Say

# Every flag of an engine with a value that is not its default.
FLAGS: dict[type[RolloutEngine], dict[str, Any]] = {
    NativeEngine: {
        "max_rows": 7,
        "max_cache_tokens": 99,
        "max_padding": 5,
        "compact_share": 0.5,
        "fused": False,
        "dtype": "bfloat16",
        "threads": 2,
        "cuda_graphs": "off",
        "check_every": 3,
    },
    HuggingFaceEngine: {"max_rows": 7},
    ContinuousBatchingEngine: {"max_rows": 7, "page_size": 64, "batch_tokens": 9, "flash": False},
    VLLMEngine: {
        "base": "some/model",
        "dtype": "policy",
        "gpu_memory_utilization": 0.25,
        "max_model_len": 99,
        "sleep": True,
        "options": {"enforce_eager": True},
    },
}


@pytest.mark.parametrize("engine", list(FLAGS), ids=lambda engine: engine.__name__)
def test_an_engine_is_named_shortly_and_each_of_its_arguments_is_a_flag(
    engine: type[RolloutEngine], run_cli: Callable[[list[str]], SymbolicCLI], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = FLAGS[engine]
    defaults = {name: parameter.default for name, parameter in signature(engine).parameters.items()}
    assert flags.keys() == defaults.keys()
    assert all(value != defaults[name] for name, value in flags.items())
    command = [f"--model.engine={engine.__name__}", *(f"--model.engine.{name}={value}" for name, value in flags.items())]
    with pytest.raises(SystemExit) as ending:
        run_cli(["fit", f"--config={CONFIGS / 'game24' / 'ppo_token.yaml'}", *command, "--print_config"])
    output = capsys.readouterr()
    assert ending.value.code == 0, output.err
    chosen = yaml.safe_load(output.out)["model"]["init_args"]["engine"]
    assert chosen == {"class_path": f"{engine.__module__}.{engine.__name__}", "init_args": flags}
    made = vars(engine(**flags))
    limits = {f"max_{name}": value for name, value in asdict(made["limits"]).items()} if "limits" in made else {}
    assert {**made, **limits}.items() >= flags.items()


@pytest.mark.parametrize("engine", [HuggingFaceEngine(), ContinuousBatchingEngine()], ids=lambda engine: type(engine).__name__)
@pytest.mark.parametrize(("precision", "tolerance"), [("32-true", 1e-4), ("bf16-true", 0.1)])
def test_ppo_learns_from_what_an_engine_samples(
    engine: RolloutEngine, precision: str, tolerance: float, tiny_policy: TinyLlama, fit: Callable[..., Trainer]
) -> None:
    module = PPOModule(
        tiny_policy,
        problems=4,
        samples=4,
        epochs=1,
        critic="own",
        critic_warmup_iterations=0,
        old_logprobs="engine",
        max_new_tokens=6,
        minibatch_rows=16,
        optimization=Optimization(learning_rate=1e-2),
        engine=engine,
    )
    before: dict[str, torch.Tensor] = {}
    collect = module.collect

    def collecting(iteration: int) -> list[dict[str, torch.Tensor]]:
        before.update(weights(module.model))
        return collect(iteration)

    module.collect = collecting  # type: ignore[method-assign]
    trainer = fit(module, Say(judge=Arbitrary()), callbacks=[VerifierReward(scheme="graded", workers=1)], precision=precision)
    assert trainer.global_step == 1
    assert module.model.training
    assert any(not torch.equal(before[name], value) for name, value in weights(module.model).items())
    # In the only step the policy is the one that was sampled from: the ratio is 1 up to rounding.
    assert float(trainer.callback_metrics["train/ratio_max"]) == pytest.approx(1.0, abs=tolerance)
