"""Where a molecule could not be mended any more by what is written next: the place to reward or to blame in a text that grows.

A finding points at the culprit: the ring number that has no partner, the atom with five bonds. To a writer who goes from left to
right these were no faults yet when they were written. A ring can be closed up to the end; an atom has too many bonds when the
last of them is written; an aromatic ring is none when it closes. A reward that stops at the first fault and learns from nothing behind
it must stop there, or it teaches to open no ring rather than to close it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from rdkit import Chem, rdBase

from lit_symbolic.certificate import Finding
from lit_symbolic.verifiers.molecules.partial import read_part
from lit_symbolic.verifiers.molecules.reading import KEKULIZATION, VALENCE, MoleculeReading, Span
from lit_symbolic.verifiers.molecules.selfies_text import looks_like_selfies
from lit_symbolic.verifiers.molecules.smiles import MAX_FINDINGS, UNBALANCED_BRANCH, UNCLOSED_RING, read_smiles

Places = Literal["culprit", "no_return"]
"""Where a finding stands: at the characters to blame, or where nothing behind them could mend it any more."""

_TOKEN = re.compile(r"\[[^\]]*\]|Br|Cl|%\([0-9]+\)|%[0-9]{2}|[A-Za-z0-9*]")
_RINGS = re.compile(r"(?:[-=#:$~/\\]?(?:%\([0-9]+\)|%[0-9]{2}|[0-9]))*")


def placed(text: str, findings: Iterable[Finding], places: Places) -> tuple[Finding, ...]:
    """Findings of syntax, valence and aromatic rings at the places asked for; others stay, and so do those of SELFIES.

    Args:
        text: The answer.
        findings: Where the culprits are.
        places: ``culprit`` changes nothing.

    Example:
        >>> from lit_symbolic.verifiers.molecules.reading import read_molecule
        >>> for text in ("C1CC(C)C", "CN(C)(C)(C)C", "Cc1cncc1CC"):
        ...     found = placed(text, read_molecule(text).findings, "no_return")
        ...     print([(finding.kind, finding.start, text[finding.start : finding.end]) for finding in found])
        [('unclosed_ring', 8, '')]
        [('valence', 9, 'C')]
        [('kekulization', 6, 'c1')]
    """
    found = tuple(findings)
    if places == "culprit" or not found or looks_like_selfies(text.strip()):
        return found
    aromatic = [finding for finding in found if finding.kind == KEKULIZATION]
    moved = [_moved(finding, text) for finding in found if finding.kind != KEKULIZATION]
    if aromatic:
        last = max(aromatic)
        closed = _RINGS.match(text, last.end)
        moved.append(replace(last, end=closed.end() if closed else last.end))
    return tuple(sorted(moved)[:MAX_FINDINGS])


def _moved(finding: Finding, text: str) -> Finding:
    if finding.kind == UNCLOSED_RING or (finding.kind == UNBALANCED_BRANCH and _is_open(finding, text)):
        message = f"{finding.message} (character {finding.start})"
        return replace(finding, start=len(text), end=len(text), message=message)
    if finding.kind == VALENCE:
        start, end = _one_bond_too_many((finding.start, finding.end), text)
        return replace(finding, start=start, end=end)
    return finding


def _is_open(finding: Finding, text: str) -> bool:
    """Whether a parenthesis lacks its partner alone: one that hangs on no atom cannot be mended."""
    if text[finding.start : finding.end] != "(":
        return False
    start = len(text) - len(text.lstrip())
    so_far = read_smiles(text, start, finding.end).findings
    return sum((each.start, each.kind) == (finding.start, finding.kind) for each in so_far) == 1


def _one_bond_too_many(atom: Span, text: str) -> Span:
    """The atom or ring number with which an atom has more bonds than it can have; the atom itself if it had from the beginning."""
    start = len(text) - len(text.lstrip())
    for token in _TOKEN.finditer(text, atom[0]):
        part = read_part(MoleculeReading(text, (start, token.end()), None, text[start : token.end()]))
        if part.mol is None or atom not in part.spans:
            continue
        index = part.spans.index(atom)
        with rdBase.BlockLogs():
            problems = Chem.DetectChemistryProblems(part.mol)
        if any(each.GetType() == "AtomValenceException" and each.GetAtomIdx() == index for each in problems):
            return token.span()
    return atom
