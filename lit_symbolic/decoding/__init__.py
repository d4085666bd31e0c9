"""Answers that are searched for, step by step, instead of sampled in one go."""

from lit_symbolic.decoding.tree_of_thoughts import TreeOfThoughts

__all__ = ["TreeOfThoughts"]
