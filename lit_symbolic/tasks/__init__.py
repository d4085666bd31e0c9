"""Sources of problems, one file per task family. No torch, no Lightning."""

from lit_symbolic.tasks.base import Split, Task

__all__ = ["Split", "Task"]
