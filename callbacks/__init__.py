"""Lightning callbacks: rewards, checkpoints, what there is to look at."""

from callbacks.checkpoint import IterationCheckpoint
from callbacks.export import AdapterExport
from callbacks.predictions import PredictionWriter
from callbacks.progress import IterationProgressBar
from callbacks.report import HtmlReport
from callbacks.reward import RewardCallback, VerifierReward

__all__ = [
    "AdapterExport",
    "HtmlReport",
    "IterationCheckpoint",
    "IterationProgressBar",
    "PredictionWriter",
    "RewardCallback",
    "VerifierReward",
]
