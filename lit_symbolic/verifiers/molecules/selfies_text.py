"""Reads SELFIES with the place of every symbol, and hands it on as SMILES.

SELFIES is written so that every chain of known symbols is a molecule: what can be wrong is a symbol that it does not know,
and text between symbols. The package ``selfies`` decodes and says which symbols made which atom.

https://github.com/aspuru-guzik-group/selfies, Krenn et al., "Self-referencing embedded strings", 2020.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import selfies

from lit_symbolic.certificate import Finding
from lit_symbolic.verifiers.molecules.smiles import EMPTY, MAX_FINDINGS, SYNTAX

UNKNOWN_SYMBOL = "unknown_symbol"
"""A symbol in brackets that SELFIES does not know: its characters."""

Span = tuple[int, int]

_SYMBOL = re.compile(r"\[[^\[\].]*\]|\.")
_ALL_SYMBOLS = re.compile(r"(?:\[[^\[\].]*\]|\.)+")
_NEVER_SMILES = re.compile(r"\[(?:[=#/\\-]{0,2}(?:Branch|Ring)[1-3]|[=#][A-Z][^\[\]]*|nop)\]")
_ATOM = re.compile(r"[A-Za-z*]")


@dataclass(frozen=True)
class SelfiesReading:
    """What stands where in a SELFIES.

    Args:
        smiles: The molecule, ``None`` if the text is no SELFIES.
        findings: Faults, in order of their place.
        start: Where the text began.
        text: The text itself.
    """

    smiles: str | None
    findings: tuple[Finding, ...]
    start: int
    text: str

    def atoms(self) -> tuple[Span, ...]:
        """Characters of the symbol that made each atom of :attr:`smiles`, in its order."""
        if self.smiles is None:
            return ()
        spans = []
        # Fragment by fragment: the package counts wrong behind a fragment that ends within a branch symbol.
        for fragment in re.finditer(r"[^.]+", self.text):
            symbols = [match.span() for match in _SYMBOL.finditer(fragment[0])]
            offset = self.start + fragment.start()
            _, made = selfies.decoder(fragment[0], attribute=True)
            for token in made:
                if _ATOM.search(token.token):
                    first, last = symbols[token.attribution[-1].index]  # the atom's own; branch symbols come before
                    spans.append((offset + first, offset + last))
        return tuple(spans)


def looks_like_selfies(text: str) -> bool:
    """Whether a text is rather SELFIES than SMILES: it has a symbol that SMILES lacks, or is all brackets, two side by side.

    Example:
        >>> [looks_like_selfies(text) for text in ("[C][=C][F]", "[C][C][O]", "[Na+].[Cl-]", "[O-][N+](=O)C", "[C]")]
        [True, True, False, False, False]
    """
    return bool(_NEVER_SMILES.search(text)) or ("][" in text and bool(_ALL_SYMBOLS.fullmatch(text)))


def read_selfies(text: str, start: int = 0, end: int | None = None) -> SelfiesReading:
    """Read ``text[start:end]``; places are those of ``text``.

    Example:
        >>> reading = read_selfies("[C][Branch1][C][O][C]")
        >>> reading.smiles, reading.atoms()
        ('C(O)C', ((0, 3), (15, 18), (18, 21)))
        >>> [(finding.start, finding.end, finding.kind) for finding in read_selfies("[C][Q][O").findings]
        [(3, 6, 'unknown_symbol'), (6, 8, 'syntax')]
    """
    end = len(text) if end is None else end
    written = text[start:end]
    findings: list[Finding] = []
    unread = start
    for match in _SYMBOL.finditer(text, start, end):
        if match.start() > unread:
            findings.append(Finding(unread, match.start(), SYNTAX, "this is no SELFIES symbol"))
        unread = match.end()
        if match[0] != "." and not _is_symbol(match[0][:40]):
            findings.append(Finding(*match.span(), UNKNOWN_SYMBOL, f"SELFIES knows no symbol {match[0][:20]!a}"))
    if unread < end:
        findings.append(Finding(unread, end, SYNTAX, "this is no SELFIES symbol"))
    smiles = None
    if not findings:
        smiles = _decode(written)
        if smiles is None:
            findings.append(Finding(start, end, SYNTAX, "its branches are nested too deeply to be decoded"))
        elif not smiles:
            findings.append(Finding(end, end, EMPTY, "no atom is written"))
            smiles = None
    return SelfiesReading(smiles, tuple(findings[:MAX_FINDINGS]), start, written)


@lru_cache(maxsize=4096)
def _is_symbol(symbol: str) -> bool:
    return _decode(symbol) is not None


def _decode(text: str) -> str | None:
    try:
        return str(selfies.decoder(text))
    except (selfies.DecoderError, RecursionError, ValueError, KeyError, IndexError):
        return None
