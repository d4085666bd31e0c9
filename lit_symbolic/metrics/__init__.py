"""Metrics."""

from lit_symbolic.metrics.evaluation import AnswerMetrics

__all__ = ["AnswerMetrics"]
