"""Problems as Lightning data modules."""

from lit_symbolic.data.datamodule import SymbolicDataModule
from lit_symbolic.data.mixture import TaskMixture

__all__ = ["SymbolicDataModule", "TaskMixture"]
