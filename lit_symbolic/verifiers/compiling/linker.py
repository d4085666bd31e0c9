"""Reads what the linker and the assembler say: plain text with symbols, which are looked up in the program."""

from __future__ import annotations

import re

from lit_symbolic.certificate import Finding
from lit_symbolic.verifiers.compiling.diagnostics import MAX_MESSAGE_CHARACTERS, SEMANTIC, SOURCE_NAME, in_one_line
from lit_symbolic.verifiers.compiling.program import Program, Span

LINKER = "linker"
"""A name that is declared and used, but defined nowhere."""

_UNDEFINED = re.compile(r"undefined reference to [`'‘](.+?)['’]\s*$", re.MULTILINE)
_ASSEMBLER = re.compile(r"^(\{standard input\}|\S+):(\d+): Error: (.+)$", re.MULTILINE)
_SYMBOL = re.compile(r"(multiple definition of|relocation truncated to fit: \w+ against (?:symbol)?) ?[`'](.+?)'")


def linker_findings(output: str, program: Program, forbidden: frozenset[str] = frozenset()) -> list[Finding]:
    """Findings for symbols that are defined nowhere, each at its uses, else at its declaration, else at the answer's end.

    Args:
        output: The linker's text.
        program: What was linked.
        forbidden: Functions that exist, but that the answer may not call.
    """
    first, last = program.answer_span
    findings: list[Finding] = []
    for symbol in dict.fromkeys(_UNDEFINED.findall(output)):
        name = _identifier(symbol)
        message = f"{symbol[:MAX_MESSAGE_CHARACTERS]} is declared and used, but not defined"
        if name in forbidden:
            message = f"{name}() would end the tests before they are over"
        elif name == "main":
            message = "the program has no main function"
        for start, end in _uses(name, program) or [(last, last)]:
            findings.append(Finding(start - first, end - first, LINKER, message))
    return sorted(set(findings))


def assembler_findings(output: str, program: Program) -> list[Finding]:
    """Findings for what the assembler and the linker say otherwise: at the ``asm`` or the symbol they name, else over all."""
    first, last = program.answer_span
    findings: list[Finding] = []
    statements = [span for name in ("asm", "__asm__", "__asm") for span in _uses(name, program)]
    for file, line, message in dict.fromkeys(_ASSEMBLER.findall(output)):
        offset = program.offset(int(line), 0) if file == SOURCE_NAME and not program.renumbers_lines else None
        of_line = [] if offset is None else [span for span in statements if program.line_span(span[0])[0] >= offset][:1]
        for start, end in of_line or statements:
            findings.append(Finding(start - first, end - first, SEMANTIC, in_one_line(message)))
    for message, symbol in dict.fromkeys(_SYMBOL.findall(output)):
        findings += [
            Finding(start - first, end - first, LINKER, in_one_line(f"{message} {symbol}"))
            for start, end in _uses(_identifier(symbol), program)
        ]
    if not findings and (_ASSEMBLER.search(output) or "ld returned" in output):
        findings.append(Finding(0, last - first, LINKER, "the program cannot be assembled and linked"))
    return sorted(set(findings))


def _identifier(symbol: str) -> str:
    """The last name of a demangled symbol: ``area`` of ``Shape::area(int) const``, ``Shape`` of ``vtable for Shape``."""
    symbol = symbol.removeprefix("__wrap_")
    symbol = symbol.rpartition(" for ")[2]
    name = re.sub(r"(\[abi:\w+\]|\(.*|<.*)", "", symbol.replace("operator", " operator "))
    words = re.findall(r"~?\w+", name)
    return words[-1] if words else symbol


def _uses(name: str, program: Program) -> list[Span]:
    """Where the answer uses a name; where it declares it, if it does not use it."""
    first, last = program.answer_span
    text = program.text
    uses: list[Span] = []
    declarations: list[Span] = []
    tokens = program.tokens
    for index, (start, end, kind) in enumerate(tokens):
        if kind == "word" and text[start:end] == name and first <= start and end <= last:
            before = tokens[index - 1] if index else None
            word = text[before.start : before.end] if before else ""
            declared = before is not None and (
                (before.kind == "word" and word not in ("return", "else", "do", "throw")) or word in ("*", "&", "~")
            )
            (declarations if declared else uses).append((start, end))
    return uses or declarations[:1]
