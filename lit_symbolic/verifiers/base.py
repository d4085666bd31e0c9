"""What a symbolic tool must offer to be used for rewards."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from lit_symbolic.certificate import Certificate, Problem


class ToolUnavailable(RuntimeError):
    """What a verifier needs is missing on this machine; the message says what, and what to do."""


@runtime_checkable
class Verifier(Protocol):
    """Wraps one symbolic tool.

    An implementation is picklable, deterministic, and imports neither torch nor Lightning: it runs in worker
    processes. The text comes from a model and is hostile: it is parsed, or run in a sandbox, never evaluated.

    One that needs what may be missing on a machine can also have a method ``check_start() -> str``, called once before the first
    answer, in the process that asks: it says what is active, in a line, or raises :class:`ToolUnavailable`.
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


def check_start(verifiers: Iterable[Verifier]) -> list[str]:
    """Ask verifiers whether they can start here; what they tell, each line once. Most need nothing, and tell nothing.

    Raises:
        ToolUnavailable: If something that one of them requires is missing.

    Example:
        >>> from lit_symbolic.verifiers.game24 import Game24Verifier
        >>> check_start([Game24Verifier()])
        []
    """
    told: dict[str, None] = {}
    for verifier in verifiers:
        tool: object = verifier
        while tool is not None:  # one that wraps another has it as ``verifier``
            check = getattr(tool, "check_start", None)
            if check is not None:
                told[check()] = None
            tool = getattr(tool, "verifier", None)
    return list(told)
