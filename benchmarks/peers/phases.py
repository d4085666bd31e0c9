"""Where the wall time of an iteration goes: each moment is charged to one cause, and the causes add up to the whole."""

from __future__ import annotations

import time
from collections import defaultdict

from lightning.pytorch.profilers import Profiler

SAMPLING, VERIFYING, EVALUATING, LEARNING = "sampling", "verifying", "evaluating", "learning"
WORK = (SAMPLING, VERIFYING, EVALUATING, LEARNING)
"""What an iteration is for; all other causes are outside of it."""

CUTTING, LOADER, BAR, LOGGING, CHECKPOINT, REPORT, CALLBACKS, LOOP = (
    "drawing problems, cutting minibatches",
    "loader",
    "progress bar",
    "logging",
    "checkpoint",
    "report",
    "other callbacks",
    "Lightning's loop",
)
OUTSIDE = (CUTTING, LOADER, BAR, LOGGING, CHECKPOINT, REPORT, CALLBACKS, LOOP)

CALLBACK_CAUSES = {
    "IterationProgressBar": BAR,
    "IterationCheckpoint": CHECKPOINT,
    "HtmlReport": REPORT,
}
LEARNING_HOOKS = ("optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping")


class PhaseClock(Profiler):
    """A Lightning profiler that charges each moment to the innermost of the actions that it is told of.

    Lightning tells of its hooks. Beside them, whoever measures brackets with :meth:`profile` what Lightning does not tell of: the
    module's phases (by the names that the module logs, ``time/sampling_seconds``), ``log``, and the bar's ``on_phase``.

    Example:
        >>> clock = PhaseClock()
        >>> with clock.profile("time/sampling_seconds"), clock.profile("[Callback]IterationProgressBar.on_phase"):
        ...     pass
        >>> sorted(clock.cut())
        ["Lightning's loop", 'progress bar', 'sampling']
    """

    def __init__(self) -> None:
        super().__init__()
        self._causes = [LOOP]
        self._seconds: dict[str, float] = defaultdict(float)
        self._since = time.perf_counter()

    def start(self, action_name: str) -> None:
        """Charge what is to come to the cause of this action."""
        self._charge()
        self._causes.append(cause_of(action_name, self._causes[-1]))

    def stop(self, action_name: str) -> None:
        """Go back to what the action stood in."""
        self._charge()
        self._causes.pop()

    def cut(self) -> dict[str, float]:
        """Seconds of each cause since the last call."""
        self._charge()
        seconds, self._seconds = dict(self._seconds), defaultdict(float)
        return seconds

    def _charge(self) -> None:
        now = time.perf_counter()
        self._seconds[self._causes[-1]] += now - self._since
        self._since = now


def cause_of(action: str, within: str) -> str:
    """What an action is charged to that happens within ``within``; what is not known is a part of that.

    Example:
        >>> cause_of("[Strategy]SingleDeviceStrategy.backward", LEARNING), cause_of("[Callback]VerifierReward.on_train_start", LOOP)
        ('learning', 'other callbacks')
    """
    kind, _, rest = action.partition("]")
    hook = rest.rpartition(".")[2]
    if action.startswith("time/"):
        return action.removeprefix("time/").removesuffix("_seconds")
    if within == CHECKPOINT or action == "save_checkpoint":
        return CHECKPOINT
    if action == LOGGING:
        return LOGGING
    if kind == "[Callback":
        # Two of one class have a state key with their settings behind the name.
        return next((cause for name, cause in CALLBACK_CAUSES.items() if rest.startswith(name)), CALLBACKS)
    if kind == "[Strategy" and hook in ("training_step", "backward"):
        return LEARNING
    if kind == "[LightningModule":
        return LEARNING if hook in LEARNING_HOOKS else within
    if hook == "train_dataloader":
        return CUTTING
    if hook in ("train_dataloader_next", "batch_to_device"):
        return LOADER
    return within
