"""Metrics: they aggregate over answers what verifiers measured about one."""

from lit_symbolic.metrics.answers import (
    EndRate,
    ErrorTokenFraction,
    MeanCost,
    MeanLength,
    MeanMeasure,
    NoEvidenceCount,
    SuccessRate,
)
from lit_symbolic.metrics.evaluation import AnswerMetrics
from lit_symbolic.metrics.named import named_metric
from lit_symbolic.metrics.pass_at_k import PassAtK, bootstrap_interval, pass_at_k

__all__ = [
    "AnswerMetrics",
    "EndRate",
    "ErrorTokenFraction",
    "MeanCost",
    "MeanLength",
    "MeanMeasure",
    "NoEvidenceCount",
    "PassAtK",
    "SuccessRate",
    "bootstrap_interval",
    "named_metric",
    "pass_at_k",
]
