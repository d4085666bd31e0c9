"""Metrics: they aggregate over answers what verifiers measured about one."""

from lit_symbolic.metrics.answers import ErrorTokenFraction, MeanLength, MeanMeasure, NoEvidenceCount, SuccessRate
from lit_symbolic.metrics.evaluation import AnswerMetrics
from lit_symbolic.metrics.pass_at_k import PassAtK, bootstrap_interval, pass_at_k

__all__ = [
    "AnswerMetrics",
    "ErrorTokenFraction",
    "MeanLength",
    "MeanMeasure",
    "NoEvidenceCount",
    "PassAtK",
    "SuccessRate",
    "bootstrap_interval",
    "pass_at_k",
]
