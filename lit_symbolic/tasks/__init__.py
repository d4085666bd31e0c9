"""Sources of problems, one file per task family. No torch, no Lightning."""

from lit_symbolic.tasks.base import PromptStyle, Split, Task

__all__ = ["PromptStyle", "Split", "Task"]
