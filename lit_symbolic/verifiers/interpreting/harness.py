"""Runs one Python program inside the sandbox and reports what became of it. Standard library only, imports nothing of ours.

An interpreter that has imported this file is started ahead of time, waits for one request, calls :func:`serve` and is thrown
away. Request and reports are JSON. A report is a line on the descriptor that was standard output at the start, and begins with
the request's ``nonce``; the program's own standard output is a file in memory by then. What a program prints is thus never taken
for a report. A program that digs the nonce out of this interpreter can send a report of its own: it gains what it could also
have had by returning that value, since what was expected never enters the sandbox.

Request: ``nonce``, ``source``, ``mode`` (``auto``, ``solution``, ``printed``, ``tests``), ``tests`` (``[source, is
expression]`` each), ``cpu_seconds``, ``output_bytes``, ``paths`` (further places to import from).
Reports: ``{"stage": "running"}`` when the program was compiled, then one with ``end``: ``syntax``, ``exception``, ``exit`` or
``value``. A signal that kills the interpreter leaves the lines that it stood in, written by :mod:`faulthandler`.
"""

from __future__ import annotations

import _ast
import faulthandler
import io
import json
import numbers
import os
import resource
import signal
import sys
import types

TYPE_CHECKING = False  # what typing.TYPE_CHECKING is, without the time that its import takes
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Report = dict[str, Any]
    Place = tuple[int | None, int | None, int | None, int | None]

ANSWER = "<answer>"
TEST = "<test>"
MAX_NODES = 10_000
MAX_CHARACTERS = 100_000
MAX_MESSAGE = 400


class Output(io.TextIOWrapper):
    """The program's standard output, which remembers the place of the last call that wrote something to be seen."""

    last: tuple[types.CodeType, int] | None = None

    def write(self, text: str) -> int:
        """Write, and remember who did."""
        if not text.isspace():
            frame = sys._getframe(1)
            if frame.f_code.co_filename == ANSWER:
                self.last = frame.f_code, frame.f_lasti
        return super().write(text)


class TooLarge(Exception):
    """A value that is not reported: too many parts, or too many characters."""


class Encoder:
    """Turns a value into JSON that keeps its type: ``["int", "0x2a"]``, ``["list", [...]]``."""

    def __init__(self) -> None:
        self.nodes = self.characters = 0

    def encode(self, value: Any) -> list[Any]:
        """The value as JSON. Raises TooLarge, or whatever the value's own methods raise."""
        self.nodes += 1
        kind, parts = self._parts(value)
        if isinstance(parts, str):
            self.characters += len(parts)
        if self.nodes > MAX_NODES or self.characters > MAX_CHARACTERS:
            raise TooLarge
        return [kind, parts]

    def _parts(self, value: Any) -> tuple[str, Any]:
        if value is None or isinstance(value, bool):
            return ("none" if value is None else "bool"), str(value)
        if isinstance(value, int):
            return "int", hex(value)  # int.__str__ refuses many digits
        if isinstance(value, float):
            return "float", float.__repr__(value)
        if isinstance(value, complex):
            return "complex", [float.__repr__(value.real), float.__repr__(value.imag)]
        if isinstance(value, str):
            return "str", str.__str__(value)[: MAX_CHARACTERS + 1]
        if isinstance(value, bytes):
            return "bytes", value[: MAX_CHARACTERS + 1].hex()
        if isinstance(value, numbers.Rational):  # also SymPy's
            return "fraction", [hex(int(value.numerator)), hex(int(value.denominator))]
        if "decimal" in sys.modules and isinstance(value, sys.modules["decimal"].Decimal):
            return "decimal", str(value)
        for kind in (list, tuple, set, frozenset):
            if isinstance(value, kind):
                parts: Any = kind  # its own iteration: a subclass may have one without an end
                return kind.__name__, [self.encode(part) for part in parts.__iter__(value)]
        if isinstance(value, dict):
            return "dict", [[self.encode(key), self.encode(part)] for key, part in dict.items(value)]
        try:
            return "number", [float.__repr__(float(value)), str(value)[:MAX_MESSAGE]]  # SymPy's sqrt(2)
        except Exception:
            return "object", f"{type(value).__name__}: {str(value)[:MAX_MESSAGE]}"


class Harness:
    """One request, served once."""

    def __init__(self, request: dict[str, Any], reports: int, memory: int, output: Output) -> None:
        self.request, self.reports, self.memory, self.output, self.pid = request, reports, memory, output, os.getpid()
        self.returned: Place | None = None
        self.module = types.ModuleType("__main__")
        self.names = self.module.__dict__

    def run(self) -> Report:
        """Serve the request; what is returned is the last report."""
        source, mode = self.request["source"], self.request["mode"]
        self.report({"stage": "compiling"})
        if "random" in source:  # the same answer, the same certificate
            import random

            random.seed(0)
        try:
            program = compile(source, ANSWER, "exec", dont_inherit=True)
        except SyntaxError as error:
            place = error.lineno, error.end_lineno, error.offset, error.end_offset
            return {"end": "syntax", "message": str(error.msg)[:MAX_MESSAGE], "at": place}
        except (ValueError, MemoryError, RecursionError, OverflowError) as error:
            return {"end": "syntax", "message": f"cannot be compiled: {error}"[:MAX_MESSAGE], "at": None}
        self.report({"stage": "running"})
        sys.modules["__main__"] = self.module
        exited = self.attempt(exec, program, self.names)
        if exited and exited["end"] == "exception":
            return exited
        if mode == "tests":
            return {"end": "value", "tests": [self.test(*test) for test in self.request["tests"]]}
        solution = self.names.get("solution")
        if mode == "solution" or (mode == "auto" and callable(solution)):
            if not callable(solution):
                return exited or {"end": "value", "value": None, "at": None, "from": "nothing"}
            return self.call(solution, source)
        self.attempt(self.output.flush)  # which fails if the program closed it
        size = os.fstat(self.memory).st_size
        tail = os.pread(self.memory, MAX_CHARACTERS, max(0, size - MAX_CHARACTERS)).decode("utf-8", "replace")
        at = position(*self.output.last) if self.output.last else exited and exited["at"]
        return {"end": "value", "value": ["str", tail], "at": at, "from": "output"}

    def call(self, solution: Callable[[], Any], source: str) -> Report:
        """Call ``solution()`` and note which ``return`` ended it."""
        code = getattr(solution, "__code__", None)
        returns = return_statements(source)
        if len(returns) > 1 and code is not None:
            sys.settrace(lambda frame, event, argument: self.watch(frame) if frame.f_code is code else None)
        value: list[Any] = []
        fault = self.attempt(lambda: value.append(solution()))
        sys.settrace(None)
        if fault:
            return fault
        if len(returns) > 1:
            line, column = (self.returned or (None,) * 4)[::2]
            returns = [at for at in returns if line and (at[0], at[2]) <= (line, column or 0) <= (at[1], at[3])]
        at = returns[0][4:] if len(returns) == 1 else None
        return {"end": "value", "at": at, "from": "solution", **self.encoded(value[0])}

    def watch(self, frame: types.FrameType) -> Callable[..., Any]:
        """Have the interpreter tell when this call returns, and nothing else."""
        frame.f_trace_lines = False

        def returning(frame: types.FrameType, event: str, argument: Any) -> Callable[..., Any]:
            if event == "return":
                self.returned = position(frame.f_code, frame.f_lasti)
            return returning

        return returning

    def test(self, source: str, is_expression: bool) -> Report:
        """One test: the value of an expression, or whether statements ran to their end."""
        value: list[Any] = []
        try:
            code = compile(source, TEST, "eval" if is_expression else "exec", dont_inherit=True)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            return {"end": "exception", "message": f"the test cannot be compiled: {error}"[:MAX_MESSAGE], "at": None}
        fault = self.attempt(lambda: value.append(eval(code, self.names)))
        return fault or {"end": "value", **(self.encoded(value[0]) if is_expression else {"value": None})}

    def encoded(self, value: Any) -> Report:
        """The value as JSON, or why it cannot be."""
        encoded: list[Any] = []
        fault = self.attempt(lambda: encoded.append(Encoder().encode(value)))
        if fault:
            return {"value": ["object", f"{type(value).__name__} that cannot be reported: {fault['message']}"[:MAX_MESSAGE]]}
        return {"value": encoded[0]}

    def attempt(self, function: Callable[..., Any], *arguments: Any) -> Report | None:
        """Call it; a report of how it failed, None if it did not."""
        try:
            function(*arguments)
        except SystemExit as error:
            return {"end": "exit", "message": f"exit with {error.code!r}"[:MAX_MESSAGE], "at": innermost(error)}
        except BaseException as error:
            return {"end": "exception", "message": describe(error), "at": innermost(error), "line": line_of_test(error)}
        return None

    def report(self, report: Report) -> None:
        """Write a report, unless this is a process that the program forked."""
        if os.getpid() != self.pid:
            os._exit(0)
        data = (self.request["nonce"] + json.dumps(report) + "\n").encode()
        while data:
            data = data[os.write(self.reports, data) :]


def innermost(error: BaseException) -> Place | None:
    """The innermost place of the traceback that lies in the answer."""
    at, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == ANSWER:
            at = trace.tb_frame.f_code, trace.tb_lasti
        trace = trace.tb_next
    return at and position(*at)


def line_of_test(error: BaseException) -> int | None:
    """The line of the test in which the exception arose."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == TEST:
            return trace.tb_lineno
        trace = trace.tb_next
    return None


def position(code: types.CodeType, instruction: int) -> Place | None:
    """Line, last line, column, last column of an instruction; lines from 1, columns in bytes from 0."""
    for index, at in enumerate(code.co_positions()):
        if 2 * index == instruction:
            return at
    return None


def describe(error: BaseException) -> str:
    """Type and message of an exception, whatever its methods do."""
    name = type(error).__name__
    try:
        message = str(error)
    except BaseException:
        message = ""
    return f"{name}: {message}"[:MAX_MESSAGE] if message else name[:MAX_MESSAGE]


def return_statements(source: str) -> list[list[Any]]:
    """Places of the ``return`` statements of the last ``solution`` defined at the top, each with that of its expression.

    Those of functions inside it are not among them. Nodes come from the compiler itself: importing ``ast`` takes longer than
    most programs run.
    """
    try:
        tree: Any = compile(source, ANSWER, "exec", _ast.PyCF_ONLY_AST, dont_inherit=True)
    except (MemoryError, RecursionError):
        return []
    functions = [node for node in tree.body if isinstance(node, _ast.FunctionDef) and node.name == "solution"]
    found: list[list[Any]] = []
    waiting: list[Any] = list(functions[-1].body) if functions else []
    while waiting:
        node = waiting.pop()
        if isinstance(node, _ast.Return):
            found.append([*place(node), *place(node.value or node)])
        elif not isinstance(node, (_ast.FunctionDef, _ast.AsyncFunctionDef, _ast.ClassDef, _ast.expr)):
            for name in node._fields:
                part = getattr(node, name, None)
                waiting.extend(x for x in (part if isinstance(part, list) else [part]) if isinstance(x, _ast.AST))
    return found


def place(node: Any) -> Place:
    """Line, last line, column, last column of a node, as :func:`position` gives them."""
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def confine(request: dict[str, Any], reports: int) -> tuple[int, Output]:
    """Point the standard streams away from the reports, and set the limits that leave a trace.

    Returns:
        Descriptor of the file in memory that is standard output now, and the stream that the program has on it.
    """
    memory = os.memfd_create("output")
    nothing = os.open(os.devnull, os.O_RDWR)
    for target, source in ((0, nothing), (1, memory), (2, nothing)):
        os.dup2(source, target)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    output = Output(os.fdopen(1, "wb", closefd=False), encoding="utf-8", errors="replace")
    sys.stdout = output
    size = request["output_bytes"]
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))  # more is an OSError at the line that writes it
    faulthandler.enable(reports, all_threads=False)
    faulthandler.register(signal.SIGPROF, reports, all_threads=False, chain=True)  # then die, which is SIGPROF's default
    signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])
    return memory, output


def serve(request: str) -> None:
    """Serve a request, given as JSON, and end this process."""
    parts = json.loads(request)
    # What else is installed here is not there for programs: an answer is right on every machine or on none.
    installed = ("site-packages", "dist-packages")
    sys.path[:] = [path for path in sys.path if os.path.basename(path) not in installed] + parts["paths"]
    reports = os.dup(1)
    harness = Harness(parts, reports, *confine(parts, reports))
    last = harness.run()
    harness.report(last)
    os._exit(0)
