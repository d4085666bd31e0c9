"""What a symbolic tool must offer to be used for rewards."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from lit_symbolic.certificate import Certificate, Problem


@runtime_checkable
class Verifier(Protocol):
    """Wraps one symbolic tool.

    An implementation is picklable, deterministic, and imports neither torch nor Lightning: it runs in worker
    processes. The text comes from a model and is hostile: it is parsed, or run in a sandbox, never evaluated.
    """

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify ``text`` as an answer to ``problem``.

        Args:
            problem: The question, with the facts that this tool reads.
            text: What the model wrote, special tokens removed.

        Returns:
            A certificate whose findings are spans of characters of ``text``. A bad answer is a finding, never an
            exception.
        """
        ...
