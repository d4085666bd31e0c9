"""Symbolic tools behind one call: ``verify(problem, text) -> Certificate``. No torch, no Lightning."""

from lit_symbolic.verifiers.base import Verifier

__all__ = ["Verifier"]
