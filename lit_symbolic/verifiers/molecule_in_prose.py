"""Finds the molecule in what a chat model writes around it, and has that certified."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.verifiers.molecules.reading import Span, read_answer, wildcards_in

MAX_CHARACTERS = 20_000
MAX_WORDS = 200
"""So many words, or what is left of them without what encloses them, are read as molecules, the longest first."""

_QUOTED = (
    re.compile(r"```[^\n`]*\n([^`]*)```"),
    re.compile(r"<(?:SMILES|answer)>([^<]*)", re.IGNORECASE),
    re.compile(r"`([^`\n]+)`"),
)
_WORD = re.compile(r"</?[A-Za-z|][^<>\n]*>|(?P<word>(?:(?!</?[A-Za-z|])[^\s'\"`,;])+)")
_LABEL = re.compile(r"[(\[*$<]{0,4}[A-Za-z]{1,20}\*{0,2}:")
_LONGEST_ENCLOSED = 5_000
_TELLTALE = re.compile(r"[=#()\[\]0-9]")


@dataclass(frozen=True)
class MoleculeInProse:
    """Certifies the molecule that stands somewhere in an answer; findings are at its place in the whole answer.

    Args:
        verifier: What certifies the molecule.

    Example:
        >>> from lit_symbolic.verifiers.chemistry import MoleculeVerifier
        >>> text = "Sure! Here it is:\\n```smiles\\nCC(C)(C)(C)O\\n```\\nI hope this helps."
        >>> [finding] = MoleculeInProse(MoleculeVerifier()).verify(Problem("molecules", "0", ""), text).findings
        >>> finding.kind, finding.start, text[finding.start]
        ('valence', 29, 'C')
    """

    verifier: Verifier

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify the molecule of an answer."""
        start, end = molecule_span(text, wildcards_in(problem.reference))
        certificate = self.verifier.verify(problem, text[start:end])
        findings = [replace(finding, start=finding.start + start, end=finding.end + start) for finding in certificate.findings]
        return replace(certificate, findings=tuple(findings))


def molecule_span(text: str, wildcards: int = 0) -> Span:
    """Where the molecule of an answer stands.

    It is the whole answer or its first line if that is a molecule; else the last code block, tag or quotation in backticks; else the
    longest word that is a molecule, as it stands or without what encloses it (``**CCO**``, ``(CCO)``, ``Answer:CCO``, ``CCO.``); else the
    longest that looks like one; else the whole answer.

    Args:
        text: The answer.
        wildcards: So many atoms ``*`` may be in the molecule, see :func:`~lit_symbolic.verifiers.molecules.reading.read_answer`.

    Example:
        >>> for text in ("CCO", "The molecule is CC(=O)Nc1ccccc1.", "Try `CCN`, not CCCCO", "I cannot say", "It is C1CC(=O."):
        ...     print(text[slice(*molecule_span(text))])
        CCO
        CC(=O)Nc1ccccc1
        CCN
        I cannot say
        C1CC(=O
    """

    def readable(span: Span) -> bool:
        return read_answer(text[slice(*span)], wildcards=wildcards).valid

    whole = 0, len(text)
    if len(text) > MAX_CHARACTERS or readable(whole):
        return whole
    first = _first_line(text)
    if readable(first):
        return first
    for pattern in _QUOTED:
        quoted = [match.span(1) for match in pattern.finditer(text) if match[1].strip()]
        if quoted:
            return quoted[-1]
    words = [match.span("word") for match in _WORD.finditer(text) if match["word"]]
    tried = _longest((span, word) for word in words for span in _without_enclosing(text, word))[:MAX_WORDS]
    molecules = (span for span, word in tried if _is_enclosing(text, word, span) and readable(span))
    marked = _longest((_without_mark(text, word), word) for word in words)
    alike = (span for span, _ in marked if _TELLTALE.search(text, *span))
    return next(molecules, None) or next(alike, None) or whole


def _first_line(text: str) -> Span:
    """The first line that is not blank, without the blanks around it."""
    start = len(text) - len(text.lstrip())
    line = text[start:].partition("\n")[0]
    return start, start + len(line.rstrip())


def _without_enclosing(text: str, word: Span) -> Iterator[Span]:
    """A word, and what is left of it without a label and the characters at its ends that may enclose a molecule; no single letters."""
    start, end = word
    if end - start > _LONGEST_ENCLOSED:
        yield word
        return
    label = _LABEL.match(text, start, end)
    behind = _run(text[start:end][::-1], ")]*$>.:!?")
    for begin in (start, *([label.end()] if label else ())):
        for at in range(begin, begin + _run(text[begin:end], "([*$<") + 1):
            yield from ((at, stop) for stop in range(end, end - behind - 1, -1) if stop - at > 1)


def _run(text: str, characters: str, most: int = 4) -> int:
    """How many of the characters a text begins with."""
    return min(most, len(text)) - len(text[:most].lstrip(characters))


def _without_mark(text: str, word: Span) -> Span:
    """A word without a full stop behind it and the asterisks of bold print."""
    written = text[slice(*word)].rstrip(".:!?")
    bold = len(written) > 4 and written.startswith("**") and written.endswith("**")
    return word[0] + 2 * bold, word[0] + len(written) - 2 * bold


def _is_enclosing(text: str, word: Span, span: Span) -> bool:
    """Whether what is taken off a word is in pairs, in the word or in the text: a parenthesis too many is a fault of the molecule."""
    taken = text[word[0] : span[0]] + text[span[1] : word[1]]
    pairs = [pair for pair in ("()", "[]", "<>", "**", "$$") if pair[0] in taken or pair[1] in taken]
    return all(any(_in_pairs(each, pair) for each in (taken, text[: span[0]] + text[span[1] :])) for pair in pairs)


def _in_pairs(text: str, pair: str) -> bool:
    opened, closed = map(text.count, pair)
    return opened % 2 == 0 if pair[0] == pair[1] else opened == closed


def _longest(spans: Iterable[tuple[Span, Span]]) -> list[tuple[Span, Span]]:
    """What may be a molecule, each with its word."""
    return sorted(spans, key=lambda each: (each[0][0] - each[0][1], -each[0][0]))
