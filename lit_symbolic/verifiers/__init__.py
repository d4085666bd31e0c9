"""Symbolic tools behind one call: ``verify(problem, text) -> Certificate``. No torch, no Lightning.

A file here is what others use; what stands under it is in a folder:

============================================  ====================  ==========================================================
``cpp``                                       ``compiling/``        C++ programs, by g++ and by test cases
``chemistry``                                 ``molecules/``        molecules and reactions, by RDKit
``python_program``                            ``interpreting/``     Python programs, by running them
``logic``, ``fol``                            ``reasoning/``        logic programs, first-order logic
``game24``                                    ``calculating/``      the Game of 24
``sandbox``                                   ``confinement/``      where everything that a model wrote is executed
``pool``, ``ray_pool``                        ``pooling/``          worker processes, on one machine or on many
``noisy``                                                           any of them, erring at a stated rate
``base``, ``trl_reward``                                            the interface of a verifier; verifiers for TRL's trainers
============================================  ====================  ==========================================================
"""

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
