"""RLSF's comparison on its five tasks: supervised fine-tuning, Boolean reward, token reward, and the token reward shuffled.

    python benchmarks/rlsf.py                # runs what is missing, two runs side by side, and writes the table after each cell
    python benchmarks/rlsf.py --hours 2      # begins no cell after two hours
    python benchmarks/rlsf.py --report       # writes the table from the cells that are there

A cell is one arm of one task, data set and seed: a small file under ``benchmarks/results/rlsf/``. All arms of a task, data set and
seed start from one supervised policy. Each arm's estimator of advantages is the better of its trials on a seed that is not reported, by
success on the training problems of the last ten iterations, which are drawn anew; all arms have the same trials. One seed of everything
comes first. A cell that was interrupted goes on from its last checkpoint. A cell whose recipes, iterations or best trial are others now is run
again; until then the table still shows it, and marks older recipes and few iterations. Controls, what an arm would be with one setting
changed, are run if ``--arms`` names them.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlsf_report import last, pictures, report
from rlsf_sources import SOURCES, Source, digest_of
from runs import Run, Scale, environment, iteration_seconds, shown, write_json

TUNING_SEED = 100
ITERATIONS = 60
TUNING_ITERATIONS = 15
TRIALS = {"gae": ("--model.advantage.estimator", "gae"), "rloo": ("--model.advantage.estimator", "rloo")}
"""What is tried for each arm: advantages by a critic, or by the other answers to the prompt."""
ARMS = {
    "boolean": ("ppo_boolean", ()),
    "token": ("ppo_token", ()),
    "shuffled": ("ppo_token", ("--reward.scheme", "until_error_shuffled")),
}
"""Recipe and flags of the arms of reinforcement learning."""


@dataclass(frozen=True)
class Control:
    """What an arm would be with one setting changed, of one seed.

    Args:
        arm: Of which it is a variant; it takes that arm's estimator.
        flags: What is changed.
        sources: On which it is run.
        asks: What it tells, for the table.
    """

    arm: str
    flags: tuple[str, ...]
    sources: tuple[str, ...]
    asks: str


CONTROLS = {
    "boolean_half_kl": Control(
        "boolean",
        ("--model.kl.coefficient", "0.005"),
        ("molecules-generator", "forward_synthesis-generator", "retrosynthesis-generator"),
        "Boolean reward, half the weight of the KL: the token arm pays from -1 to 1, so that its rewards weigh twice as much against it "
        "where `rloo` does not divide by their deviation",
    ),
    "token_plain": Control(
        "token",
        ("--reward.score_weight", "0"),
        ("molecules-generator",),
        "token reward, all failures cost the same: what the score of a failure is worth",
    ),
    "graded": Control(
        "token",
        ("--reward.scheme", "graded"),
        ("molecules-generator",),
        "the score of the answer on its last token: what it is worth without a place",
    ),
}
"""Variants that tell what makes the difference; run for the first seed of a source when they are asked for."""
KEPT = (
    *("train/success_rate", "train/kl", "train/mean_length", "train/end_rate", "train/entropy", "train/error_token_fraction"),
    *("train/no_evidence_count", "train/prompts_all_failed", "train/explained_variance"),
    *("time/sampling_seconds", "time/verifying_seconds", "time/evaluating_seconds", "time/learning_seconds"),
)


@dataclass(frozen=True)
class Bench:
    """The runs and their cells.

    Args:
        scale: Where they work, and how large they are.
        iterations: Of every arm.
        tuning_iterations: Of every trial.
        until: ``time.monotonic()`` after which no cell begins.
        trials: Of :data:`TRIALS`, for each arm; a single one is taken untried.
    """

    scale: Scale
    iterations: int
    tuning_iterations: int
    until: float
    trials: tuple[str, ...] = tuple(TRIALS)

    def start(self, source: Source, seed: int) -> Run:
        """The supervised policy from which all arms of a seed start."""
        flags = (
            "--seed_everything",
            str(seed),
            *source.flags,
            *source.evaluation,
            *source.sft,
            *self.scale.flags,
            *self.scale.sft,
        )
        return self._run(source, f"start-seed{seed}", "sft", flags)

    def trained(self, source: Source, arm: str, seed: int, iterations: int, trial: str) -> Run:
        """One arm of reinforcement learning; its folder names all that may change at the same recipes, so that it goes on with its own."""
        recipe, flags = recipe_and_flags(arm)
        start = self.start(source, seed)
        return self._run(
            source,
            f"{arm}-{trial}-{iterations}-seed{seed}",
            recipe,
            (
                *("--seed_everything", str(seed), "--model.init_from", shown(start.checkpoint)),
                *("--trainer.max_epochs", str(iterations), "--trainer.check_val_every_n_epoch", str(iterations)),
                *(*flags, *source.flags, *source.evaluation, *self.scale.flags, *self.scale.ppo, *TRIALS[trial]),
            ),
        )

    def _run(self, source: Source, folder: str, recipe: str, flags: Sequence[str]) -> Run:
        place = f"{folder}-{digest_of(source, recipe)}"  # a run with other recipes is not gone on with
        return Run(self.scale.folder / source.name / place, (f"configs/{source.task}/{recipe}.yaml",), tuple(flags), threads=1)

    # --- cells ---

    def cell(
        self, name: str, source: Source, arm: str, work: Callable[[], dict[str, Any]], **wanted: Any
    ) -> dict[str, Any] | None:
        """The content of a cell, which is run if it is missing, or was run otherwise, and there is time; None if there is none.

        Args:
            name: Of its file.
            source: What it is about.
            arm: The same.
            work: Runs it.
            wanted: What a cell says of its run, as it is to be: iterations, trial. A cell that does not say it is not contradicted.
        """
        path = self.scale.results / f"{name}.json"
        recipes = digest_of(source, recipe_of(arm))
        if path.exists():
            found = json.loads(path.read_text())
            if found.get("recipes") == recipes and all(found.get(key, value) == value for key, value in wanted.items()):
                return found
        if time.monotonic() > self.until:
            return None
        print(f"{time.strftime('%H:%M:%S')} {name} …", flush=True)
        result = {**work(), "recipes": recipes, "environment": environment()}
        result["curves"] = {key: values for key, values in result.get("curves", {}).items() if key in KEPT}
        write_json(path, result)
        print(f"{time.strftime('%H:%M:%S')} {name} done", flush=True)
        return result

    def start_cell(self, source: Source, seed: int) -> dict[str, Any]:
        """The supervised policy, evaluated."""
        run = self.start(source, seed)
        return {**of(source, "start", seed), "command": run.command("fit"), **run.fit(), "test": run.test(source.test)}

    def trial(self, source: Source, arm: str, trial: str) -> dict[str, Any]:
        """One trial of an arm."""
        self.start(source, TUNING_SEED).fit()
        run = self.trained(source, arm, TUNING_SEED, self.tuning_iterations, trial)
        fitted = run.fit()
        return {
            **of(source, arm, TUNING_SEED),
            "trial": trial,
            "iterations": self.tuning_iterations,
            "command": run.command("fit"),
            **fitted,
        }

    def best_trial(self, source: Source, arm: str) -> str | None:
        """The trial of an arm with the best success at its end, on the generator's data for real data too."""
        if len(self.trials) == 1:
            return self.trials[0]
        tuned_on = next(each for each in SOURCES if each.task == source.task)
        found = {}
        for trial in self.trials:
            work = functools.partial(self.trial, tuned_on, arm, trial)
            name = f"trial-{tuned_on.name}-{arm}-{trial}"
            cell = self.cell(name, tuned_on, arm, work, iterations=self.tuning_iterations)
            if cell is None:
                return None
            found[trial] = last(cell, "train/success_rate")
        return max(found, key=lambda trial: found[trial])

    def arm_cell(self, source: Source, arm: str, seed: int, trial: str) -> dict[str, Any]:
        """One arm of one seed, evaluated."""
        self.start(source, seed).fit()
        run = self.trained(source, arm, seed, self.iterations, trial)
        fitted = run.fit()
        return {
            **of(source, arm, seed),
            "trial": trial,
            "iterations": self.iterations,
            "command": run.command("fit"),
            **fitted,
            "test": run.test(source.test),
        }

    def continued_cell(self, source: Source, seed: int, seconds: float) -> dict[str, Any]:
        """Supervised fine-tuning continued from the same start for as many seconds as the token arm learned."""
        start = self.start(source, seed)
        each = statistics.median(iteration_seconds(start.fit()["curves"]))
        iterations = max(1, round(seconds / each))
        flags = (
            *("--seed_everything", str(seed + 1000), "--model.init_from", shown(start.checkpoint)),
            *("--trainer.max_epochs", str(iterations), "--trainer.check_val_every_n_epoch", "1000"),
            *("--model.optimization.warmup_iterations", "1", *source.flags, *source.evaluation, *self.scale.flags),
        )
        run = self._run(source, f"continued-{iterations}-seed{seed}", "sft", flags)
        return {
            **of(source, "continued", seed),
            "iterations": iterations,
            "token_seconds": seconds,
            "command": run.command("fit"),
            **run.fit(),
            "test": run.test(source.test),
        }

    # --- in order ---

    def group(self, source: Source, seed: int, arms: Sequence[str]) -> None:
        """All cells of a source and a seed, as far as there is time."""
        with _locks[source.task]:  # the trials are shared
            best = {arm: self.best_trial(source, arm) for arm in ARMS if arm in arms}
        if None in best.values():
            return
        work = functools.partial(self.start_cell, source, seed)
        if self.cell(f"{source.name}-start-seed{seed}", source, "start", work) is None:
            return
        for arm, trial in best.items():
            assert trial is not None
            work = functools.partial(self.arm_cell, source, arm, seed, trial)
            cell = self.cell(f"{source.name}-{arm}-seed{seed}", source, arm, work, iterations=self.iterations, trial=trial)
            if arm == "token" and cell is not None and "continued" in arms:
                seconds = sum(iteration_seconds(cell["curves"]))
                work = functools.partial(self.continued_cell, source, seed, seconds)
                self.cell(f"{source.name}-continued-seed{seed}", source, "continued", work, token_seconds=seconds)
            self.write()
        for name, control in CONTROLS.items():
            if name in arms and source.name in control.sources and seed == source.seeds[0]:
                with _locks[source.task]:
                    trial = self.best_trial(source, control.arm)
                if trial is not None:
                    work = functools.partial(self.arm_cell, source, name, seed, trial)
                    self.cell(f"{source.name}-{name}-seed{seed}", source, name, work, iterations=self.iterations, trial=trial)
                    self.write()

    def group_or_failure(self, source: Source, seed: int, arms: Sequence[str]) -> None:
        """The same; a failure is told at once, since other groups may go on for hours."""
        try:
            self.group(source, seed, arms)
        except Exception as error:
            print(f"{time.strftime('%H:%M:%S')} {source.name}, seed {seed}: {error}", flush=True)
            raise

    def write(self) -> None:
        """Write the table and the pictures."""
        with _writing:
            asked = {name: control.asks for name, control in CONTROLS.items()}
            self.scale.write(report(self.scale.results, SOURCES, ITERATIONS, is_current, asked))
            for name, picture in pictures(self.scale.results, SOURCES).items():
                (self.scale.results / f"{name}.svg").write_text(picture)


_locks = {source.task: threading.Lock() for source in SOURCES}
_writing = threading.Lock()


def recipe_and_flags(arm: str) -> tuple[str, tuple[str, ...]]:
    """What an arm runs: a control that which it varies, with its own flags; an arm that learns from no reward the supervised recipe."""
    if arm in CONTROLS:
        control = CONTROLS[arm]
        recipe, flags = recipe_and_flags(control.arm)
        return recipe, (*flags, *control.flags)
    return ARMS.get(arm, ("sft", ()))


def recipe_of(arm: str) -> str:
    """Name of an arm's recipe."""
    return recipe_and_flags(arm)[0]


def is_current(cell: dict[str, Any]) -> bool:
    """Whether a cell was run with the recipes and flags that its source has now."""
    about = (cell["task"], cell["data"])
    source = next((each for each in SOURCES if (each.task, each.data) == about), None)
    return source is not None and cell.get("recipes") == digest_of(source, recipe_of(cell["arm"]))


def of(source: Source, arm: str, seed: int) -> dict[str, Any]:
    """What a cell is about."""
    return {"task": source.task, "data": source.data, "arm": arm, "seed": seed}


def groups(sources: Iterable[Source], seeds: Sequence[int] | None) -> Iterator[tuple[Source, int]]:
    """One seed of everything first."""
    wanted = list(sources)
    for number in range(max((len(source.seeds) for source in wanted), default=0)):
        for source in wanted:
            if number < len(source.seeds) and (seeds is None or source.seeds[number] in seeds):
                yield source, source.seeds[number]


def main() -> None:
    """Run what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sources", nargs="+", choices=[source.name for source in SOURCES], help="all by default")
    parser.add_argument("--seeds", type=int, nargs="+", help="those of each source by default")
    parser.add_argument("--arms", nargs="+", choices=[*ARMS, "continued", *CONTROLS], default=[*ARMS, "continued"])
    parser.add_argument("--iterations", type=int, default=ITERATIONS)
    parser.add_argument("--tuning-iterations", type=int, default=TUNING_ITERATIONS)
    parser.add_argument("--trials", nargs="+", choices=list(TRIALS), default=list(TRIALS), help="a single one is taken untried")
    parser.add_argument("--hours", type=float, default=12.0, help="begin no cell after so long")
    parser.add_argument("--side-by-side", type=int, default=2)
    parser.add_argument("--report", action="store_true", help="write the table only")
    parser.add_argument("--quick", type=Path, help="a folder: run a very small version there, to see that all of it works")
    arguments = parser.parse_args()
    scale = Scale.of("rlsf", arguments.quick)
    until = time.monotonic() + 3600 * arguments.hours
    bench = Bench(scale, arguments.iterations, arguments.tuning_iterations, until, tuple(arguments.trials))
    chosen = [source for source in SOURCES if arguments.sources is None or source.name in arguments.sources]
    for source in chosen:
        if source.missing:
            print(f"{source.name}: there is no {source.files}; its cells are not run", flush=True)
    if not arguments.report:
        with ThreadPoolExecutor(arguments.side_by_side) as pool:
            futures = [
                pool.submit(bench.group_or_failure, source, seed, arguments.arms)
                for source, seed in groups((source for source in chosen if not source.missing), arguments.seeds)
            ]
            failed = [error for future in futures if (error := future.exception()) is not None]
        bench.write()
        if failed:
            raise SystemExit(f"{len(failed)} of {len(futures)} groups failed; what they said stands above")
    bench.write()


if __name__ == "__main__":
    main()
