"""The LightningModules."""

from lit_symbolic.modules.base import Evaluation, Optimization, SymbolicModule
from lit_symbolic.modules.ppo import KL, Advantage, PPOModule
from lit_symbolic.modules.sft import SFTModule

__all__ = ["KL", "Advantage", "Evaluation", "Optimization", "PPOModule", "SFTModule", "SymbolicModule"]
