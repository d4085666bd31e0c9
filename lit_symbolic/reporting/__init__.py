"""Renders a run as one self-contained HTML page; plain data in, text out, no torch and no Lightning."""

from lit_symbolic.reporting.curves import Curve
from lit_symbolic.reporting.html import AnswerView, Report, ReportSample, TokenView, render_report

__all__ = ["AnswerView", "Curve", "Report", "ReportSample", "TokenView", "render_report"]
