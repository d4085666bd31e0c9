"""The LightningModules and their settings."""

from lit_symbolic.modules.base import SymbolicModule
from lit_symbolic.modules.ppo import PPOModule
from lit_symbolic.modules.settings import KL, Advantage, Evaluation, Optimization
from lit_symbolic.modules.sft import SFTModule

__all__ = ["KL", "Advantage", "Evaluation", "Optimization", "PPOModule", "SFTModule", "SymbolicModule"]
