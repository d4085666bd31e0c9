"""Which pool a run verifies with is chosen in its config; the flags of the local one stay as they were."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from callbacks import VerifierReward
from lit_symbolic.cli import SymbolicCLI
from lit_symbolic.verifiers.pool import VerifierPool
from lit_symbolic.verifiers.ray_pool import RayVerifierPool

RunCLI = Callable[[list[str]], SymbolicCLI]
CONFIG = Path(__file__).parents[2] / "configs" / "game24" / "ppo_token.yaml"


def test_without_a_pool_the_reward_has_a_local_one_with_the_settings_given() -> None:
    assert type(VerifierReward().pool) is VerifierPool
    assert (VerifierReward().pool.workers, VerifierReward().pool.deadline_seconds) == (2, 5.0)
    pool = VerifierReward(workers=3, deadline_seconds=0.5).pool
    assert (pool.workers, pool.deadline_seconds) == (3, 0.5)


def test_a_pool_that_is_given_is_the_one_used() -> None:
    pool = VerifierPool(workers=1, cache_megabytes=0)
    assert VerifierReward(pool=pool).pool is pool


@pytest.mark.parametrize("options", [{"workers": 2}, {"deadline_seconds": 5.0}, {"workers": 2, "deadline_seconds": 5.0}])
def test_settings_of_a_pool_beside_a_pool_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"reward\.pool has its own {' and '.join(options)}"):
        VerifierReward(pool=VerifierPool(), **options)


YAML = """
reward:
  pool:
    class_path: RayVerifierPool
    init_args:
      workers: 64
      address: auto
      max_losses: 1
"""


@pytest.mark.parametrize("by_flags", [False, True])
def test_the_pool_is_named_in_yaml_or_by_flags(
    by_flags: bool, run_cli: RunCLI, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "pool.yaml"
    file.write_text(YAML)
    flags = ["", ".workers=64", ".address=auto", ".max_losses=1"]
    flags[0] = "=RayVerifierPool"
    more = [f"--reward.pool{flag}" for flag in flags] if by_flags else [f"--config={file}"]
    with pytest.raises(SystemExit) as ending:
        run_cli(["fit", f"--config={CONFIG}", *more, "--print_config"])
    output = capsys.readouterr()
    assert ending.value.code == 0, output.err
    chosen = yaml.safe_load(output.out)["reward"]["pool"]
    assert chosen["class_path"].endswith("RayVerifierPool")
    assert RayVerifierPool(**chosen["init_args"])._settings == RayVerifierPool(64, address="auto", max_losses=1)._settings
