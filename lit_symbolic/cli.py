"""The command line: LightningCLI with this package's classes, defaults and error messages."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pkgutil
import re
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from jsonargparse import ActionConfigFile
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import lit_symbolic.modules
import lit_symbolic.policies
import lit_symbolic.rollouts.continuous_batching
import lit_symbolic.rollouts.hf
import lit_symbolic.rollouts.native
import lit_symbolic.rollouts.vllm
import lit_symbolic.tasks
from callbacks.checkpoint import IterationCheckpoint
from callbacks.export import AdapterExport
from callbacks.predictions import PredictionWriter
from callbacks.progress import IterationProgressBar
from callbacks.report import HtmlReport
from callbacks.reward import VerifierReward
from lit_symbolic.data import SymbolicDataModule
from lit_symbolic.modules import SymbolicModule
from lit_symbolic.verifiers.base import ToolUnavailable

for _task in pkgutil.iter_modules(lit_symbolic.tasks.__path__, "lit_symbolic.tasks."):
    importlib.import_module(_task.name)  # imported classes can be named shortly in a config: a new task is one file

TRAINER_DEFAULTS = {
    # An iteration is an epoch, collected anew each time.
    "reload_dataloaders_every_n_epochs": 1,
    # Ranks draw their own problems.
    "use_distributed_sampler": False,
    # Validation samples with the same engine as training; inference tensors would not mix with its cache.
    "inference_mode": False,
    # The whole validation split before the first iteration: where training began.
    "num_sanity_val_steps": -1,
    "log_every_n_steps": 1,
    "enable_model_summary": False,
}

NOISE = re.compile(r"Does not validate against|Subtypes: |Errors:$|Given value|Expected a <class 'NoneType'>")


# Said at every start, of what is meant to be so here, or of things that nobody asked for.
NOT_NEWS = (
    r".*isinstance\(treespec, LeafSpec\)",
    r".*You have overridden `transfer_batch_to_device`",
    r".*module\(s\) in eval mode at the start of training",
    r".*does not have many workers which may be a bottleneck",
)


class OneLineParser(LightningArgumentParser):
    """Says what is wrong with a config in one line, without the usage text."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the line and exit with 2."""
        if not getattr(self, "exit_on_error", True):
            super().error(message, ex)
        fail(concise(message), code=2)


class SymbolicCLI(LightningCLI):
    """``fit``, ``validate``, ``test`` and ``predict`` for the modules of this package."""

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """A parser whose errors are one line."""
        parser = OneLineParser(**kwargs)
        parser.add_argument("-c", "--config", action=ActionConfigFile, help="YAML file; several are laid over each other.")
        return parser

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Callbacks that every run has, each with a key of its own."""
        parser.add_lightning_class_args(VerifierReward, "reward")
        parser.add_lightning_class_args(IterationCheckpoint, "checkpoint")
        parser.add_lightning_class_args(AdapterExport, "export")
        parser.add_lightning_class_args(HtmlReport, "report")
        parser.add_lightning_class_args(PredictionWriter, "predictions")
        parser.add_lightning_class_args(IterationProgressBar, "progress")
        parser.add_argument(
            "--threads", type=int | None, default=None, help="CPU threads of torch; null takes torch's own choice."
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Refuse configs of different modules: laid over each other, keys that only one of them has would be dropped silently."""
        given = list(sys.argv[1:] if args is None else args)
        modules = modules_named(given)
        if len(set(modules.values())) > 1:
            described = ", ".join(f"{place} is for {name}" for place, name in modules.items())
            fail(f"these do not go together: {described}; give the configs of one module", code=2)
        super().parse_arguments(parser, args)

    def _parse_ckpt_path(self) -> None:
        """Do not lay what a checkpoint remembers over the flags: the command line wins, and the Trainer loads the file."""

    def before_instantiate_classes(self) -> None:
        """Set torch's threads before anything computes."""
        config = self.config[str(self.subcommand)] if self.subcommand else self.config
        if config.threads is not None:
            torch.set_num_threads(config.threads)

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Log to files in the run's folder unless told otherwise, and leave the bar out where Lightning's switch says so."""
        sweep, cell = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RUN_ID")
        if sweep and cell:  # the cells of a sweep share a config, and would write over each other's checkpoints
            config["default_root_dir"] = str(Path(config.get("default_root_dir") or ".") / sweep / cell)
        if config.get("logger") in (None, True):
            config["logger"] = CSVLogger(save_dir=config.get("default_root_dir") or ".", name="logs")
        if config.get("enable_progress_bar") is False:
            callbacks = [c for c in callbacks if not isinstance(c, ProgressBar)]
        return super()._instantiate_trainer(config, callbacks)

    def instantiate_classes(self) -> None:
        """Build the objects; what their constructors refuse is a fault of the config, told in one line."""
        try:
            super().instantiate_classes()
        except (ValueError, FileNotFoundError, TypeError) as error:
            fail(concise(str(error)), code=2)


def main(args: list[str] | None = None) -> SymbolicCLI:
    """Run the command line.

    Args:
        args: Arguments in place of ``sys.argv[1:]``.
    """
    if not os.environ.get("WANDB_SWEEP_ID"):  # the agent of a sweep reads its cells' figures as they come
        os.environ.setdefault("WANDB_MODE", "offline")
    for message in NOT_NEWS:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "litlogger" not in record.getMessage())
    try:
        return SymbolicCLI(
            SymbolicModule,
            SymbolicDataModule,
            subclass_mode_model=True,
            subclass_mode_data=False,
            seed_everything_default=0,
            trainer_defaults={**TRAINER_DEFAULTS, "plugins": [{"class_path": "lit_symbolic.checkpoint_io.AtomicCheckpointIO"}]},
            save_config_callback=SaveConfigCallback,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={"allow_abbrev": False},
            args=args,
        )
    except (MisconfigurationException, FileNotFoundError) as error:
        fail(concise(str(error)), code=1)
    except ToolUnavailable as error:
        fail(concise(str(error)), code=2)


def modules_named(args: list[str]) -> dict[str, str]:
    """The module class that each config file and each ``--model`` of a command line names, by where it does.

    Example:
        >>> modules_named(["fit", "--model", "lit_symbolic.modules.SFTModule", "--model.class_path=PPOModule"])
        {'--model': 'SFTModule', '--model.class_path': 'PPOModule'}
    """
    pairs = [arg.split("=", 1) if "=" in arg else [arg, following] for arg, following in zip(args, [*args[1:], ""], strict=True)]
    named: dict[str, str] = {}
    for option, value in pairs:
        if option in ("--model", "--model.class_path") and not value.lstrip().startswith("{"):
            named[option] = value.rsplit(".", 1)[-1]
        elif option in ("-c", "--config") and Path(value).is_file():
            with contextlib.suppress(yaml.YAMLError, AttributeError, UnicodeDecodeError):
                class_path = (yaml.safe_load(Path(value).read_text()).get("model") or {}).get("class_path")
                if class_path:
                    named[value] = str(class_path).rsplit(".", 1)[-1]
    return named


def concise(message: str) -> str:
    """The parts of a parser's message that say what is wrong, in one line.

    Where a value may be of several types, the parser lists why it is none of them, among them that it is not null, and
    prints all that was given; what remains here is the path to the fault and the fault.

    Example:
        >>> concise('Parser key "model":\\n  Problem with given class_path "X":\\n    Option "lr" is not accepted\\n  Given value: 3')
        'Parser key "model": Problem with given class_path "X": Option "lr" is not accepted'
    """
    lines = (line.strip(" -\t") for line in message.strip().splitlines())
    told = [line.rstrip(":") for line in lines if line and not NOISE.match(line)]
    return ": ".join(dict.fromkeys(told)) or message.strip() or "unknown error"


def fail(message: str, code: int) -> NoReturn:
    """Print one line and exit."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(code)
