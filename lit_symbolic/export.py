"""Writes the policy of a checkpoint as a folder that other programs open.

    python -m lit_symbolic.export --config RUN/logs/version_0/config.yaml --checkpoint RUN/checkpoints/last.ckpt --to FOLDER

The config is the one that the run saved: it names the policy, and the task, whose words a tiny policy's ids mean. A policy with
adapters gives a PEFT folder, another its whole weights; --merged gives a plain model, the adapter merged into its base.

Exit status: 0 if the folder was written, 1 if the checkpoint does not fit or a file is missing, 2 if the command line is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import yaml
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import lit_symbolic.tasks.game24  # noqa: F401 - imported classes can be named shortly in a config
from lit_symbolic.cli import OneLineParser, concise, fail
from lit_symbolic.modules.saving import load_trained
from lit_symbolic.policies import PolicyLoader
from lit_symbolic.policies.exporting import MergedDtype, require_replaceable, write_merged, write_policy
from lit_symbolic.tasks import Task


class UsageError(Exception):
    """The command line or the config is wrong; the message says where and what was expected."""


@dataclass(frozen=True)
class Run:
    """What a run's config says of its policy.

    Args:
        policy: How the policy is made.
        init_from: Weights that the run started from.
        task: Gives the words of a tiny policy.
    """

    policy: PolicyLoader
    init_from: str | None
    task: Task


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status.

    Args:
        arguments: In place of ``sys.argv[1:]``.
    """
    settings = _parser().parse_args(list(sys.argv[1:] if arguments is None else arguments))
    folder = Path(settings.to)
    try:
        for option in ("config", "checkpoint"):
            if not Path(settings[option]).is_file():
                raise UsageError(f"--{option}: there is no file {settings[option]}")
        if folder.is_dir() and any(folder.iterdir()) and not settings.overwrite:
            raise UsageError(f"--to: {folder} is not empty; give --overwrite to replace the model in it")
        require_replaceable(folder)
        run = read_run(Path(settings.config))
    except (UsageError, ValueError) as error:
        fail(str(error), code=2)
    try:
        model, tokenizer = load_trained(run.policy, run.init_from, Path(settings.checkpoint), run.task.vocabulary())
        if settings.merged:
            write_merged(model, tokenizer, folder, settings.dtype)
        else:
            write_policy(model, tokenizer, folder)
    except (MisconfigurationException, ValueError, OSError) as error:
        fail(concise(str(error)), code=1)
    print(folder)
    return 0


def read_run(config: Path) -> Run:
    """Read the policy, its start and the task from the config that a run saved.

    Raises:
        UsageError: If the file is no config of a run, or what it names cannot be built.
    """
    try:
        content = yaml.safe_load(config.read_text())
        model = content["model"]["init_args"]
        parts = {"policy": model["policy"], "task": content["data"]["task"]}
        init_from = model.get("init_from")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--config: {config} is not the config of a run, which names model.policy and data.task ({type(error).__name__})"
        ) from error
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PolicyLoader, "policy", required=True)
    parser.add_subclass_arguments(Task, "task", required=True)
    try:
        # The older name is deprecated where there is the newer one.
        instantiate = getattr(parser, "instantiate", None) or parser.instantiate_classes
        objects: Any = instantiate(parser.parse_object(parts))
    except (jsonargparse.ArgumentError, ValueError, TypeError, OSError) as error:
        raise UsageError(f"--config: {config}: {concise(str(error))}") from error
    return Run(objects.policy, init_from, objects.task)


def _parser() -> OneLineParser:
    parser = OneLineParser(prog="python -m lit_symbolic.export", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--config", type=str, required=True, help="The config that the run saved: RUN/logs/version_0/config.yaml."
    )
    parser.add_argument("--checkpoint", type=str, required=True, help="A checkpoint of that run: RUN/checkpoints/last.ckpt.")
    parser.add_argument("--to", type=str, required=True, help="Folder to write.")
    parser.add_argument(
        "--merged",
        action="store_true",
        help="A plain model with the adapter merged into its base; it takes CPU memory for all weights in --dtype.",
    )
    parser.add_argument("--dtype", type=MergedDtype, default="bfloat16", help="Type of the merged weights.")
    parser.add_argument("--overwrite", action="store_true", help="Replace a model that stands in the folder.")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
