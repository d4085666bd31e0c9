"""Symbolic tools behind one call: ``verify(problem, text) -> Certificate``. No torch, no Lightning."""

from typing import TYPE_CHECKING, Any

from lit_symbolic.verifiers.base import Verifier

if TYPE_CHECKING:
    from lit_symbolic.verifiers.trl_reward import as_trl_reward

__all__ = ["Verifier", "as_trl_reward"]


def __getattr__(name: str) -> Any:
    if name == "as_trl_reward":  # not before it is asked for: a worker, and an interpreter that runs answers, stay small
        from lit_symbolic.verifiers.trl_reward import as_trl_reward

        return as_trl_reward
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
