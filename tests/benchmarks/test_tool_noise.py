"""The experiment on errors of the tools, at its smallest: who errs where, and that held-out answers are judged by the true tool."""

import json
import statistics
from pathlib import Path
from typing import Any

from callbacks import VerifierReward
from lit_symbolic.cli import SymbolicCLI
from lit_symbolic.verifiers.noisy import NoisyVerifier


def test_training_sees_the_noise_and_the_evaluation_does_not(runs_made: list[SymbolicCLI], tmp_path: Path) -> None:
    import tool_noise
    from runs import Scale

    scale = Scale.of("tool_noise", tmp_path)
    tool_noise.sft_start(0, scale).fit()
    for arm in ("first_to_object", "boolean"):
        result = tool_noise.cell(scale, arm, 0.3, 0, iterations=2)
        assert len(result["curves"]["train/success_rate"]) == 2
        assert 0.0 <= result["test"]["pass@1"] <= 1.0
        tool_noise.run_cells([(scale.results / f"{arm}.json", lambda result=result: result)], 1)
    token, token_test, boolean, boolean_test = ({c.name: c for c in rewards(cli)} for cli in runs_made[1:])

    assert runs_made[1].model.combine_rewards == "first_to_object"
    assert token["second"].verifier == NoisyVerifier(token["second"].verifier.verifier, 0.3, "contradict", 0)
    assert (token["second"].scheme, token["second"].failure_reward) == (
        token["verifier"].scheme,
        token["verifier"].failure_reward,
    )
    assert not token["second"].primary
    assert token["verifier"].verifier is token_test["verifier"].verifier is None, "the task's own"
    assert boolean["verifier"].scheme == "boolean"
    assert boolean["verifier"].verifier == NoisyVerifier(boolean["verifier"].verifier.verifier, 0.3, "outcome", 0)
    assert boolean_test["verifier"].verifier is None
    text = tool_noise.report(scale)
    assert "| token, `first_to_object` | 0.3 | 0 | 2 |" in text
    assert "| Boolean | 0.1 | not run |" in text


def rewards(cli: SymbolicCLI) -> list[Any]:
    return [callback for callback in cli.trainer.callbacks if isinstance(callback, VerifierReward)]


def test_the_report_counts_what_noise_costs_seed_by_seed(tmp_path: Path) -> None:
    import tool_noise
    from runs import Scale

    scale = Scale.of("tool_noise", tmp_path)
    scale.results.mkdir(parents=True)
    passed = {(0.0, 0): 0.15, (0.0, 1): 0.14, (0.3, 0): 0.10, (0.3, 1): 0.12}
    for (rate, seed), value in passed.items():
        curves = {"train/success_rate": [0.1] * 20, "train/kl": [1.0] * 20}
        cell = {"arm": "sum", "rate": rate, "seed": seed, "iterations": 20, "curves": curves, "environment": {"python": "3"}}
        cell["test"] = {"pass@1": value, "pass@8": 2 * value, "mean_length": 30.0}
        (scale.results / f"{rate}-{seed}.json").write_text(json.dumps(cell))
    text = tool_noise.report(scale)
    mean = statistics.mean([5.0, 2.0])
    assert f"| token, `sum` | 0.3 | 0, 1 | 20 | 0.110 [0.100, 0.120] | {mean:.1f} [2.0, 5.0] |" in text
    assert "- token, `sum`, rate 0, seed 1: 10: 0.100 (1.0), 20: 0.100 (1.0)" in text
