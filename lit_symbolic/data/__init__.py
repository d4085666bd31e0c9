"""Problems as Lightning data modules."""

from lit_symbolic.data.datamodule import SymbolicDataModule

__all__ = ["SymbolicDataModule"]
