"""Reads as much of a SMILES as its syntax allows, so that what is right or wrong about its atoms can be told all the same.

An atom that has too many bonds in what is written so far has too many in the whole; a group that is written is there, whatever
follows. A molecule that RDKit cannot sanitize is kept as it was written.
"""

from __future__ import annotations

from dataclasses import dataclass

from rdkit import Chem, rdBase

from lit_symbolic.certificate import Finding
from lit_symbolic.verifiers.molecules.reading import UNSANITIZED, MoleculeReading, Span
from lit_symbolic.verifiers.molecules.smiles import UNBALANCED_BRANCH, UNCLOSED_RING, read_smiles

MAX_REPAIRS = 5
_BONDS = "-=#:$~/\\<>"


@dataclass(frozen=True, eq=False)
class PartialReading:
    """The part of an answer that could be read.

    Args:
        mol: As written, not sanitized; ``None`` if nothing could be read.
        spans: Characters of each atom in the answer.
        end: Where reading ended; the answer's end if all of it was read.
    """

    mol: Chem.Mol | None
    spans: tuple[Span, ...]
    end: int


def read_part(reading: MoleculeReading) -> PartialReading:
    """The longest beginning of an answer that can be read, its open branches and rings left open.

    Example:
        >>> from lit_symbolic.verifiers.molecules.reading import read_molecule
        >>> part = read_part(read_molecule("CN(C)(C)C1CC)O"))
        >>> part.end, part.spans[-1], Chem.MolToSmiles(part.mol)
        (12, (11, 12), 'CCCN(C)(C)C')
    """
    start, end = reading.span
    if reading.selfies is not None:
        mol = _parsed(reading.smiles) if reading.smiles else None
        return PartialReading(mol, reading.written_atoms if mol is not None else (), end)
    blanks = (reading.text.find(blank, start, end) for blank in " \t\r\n")
    end = min((place for place in blanks if place >= 0), default=end)
    for _ in range(MAX_REPAIRS):
        found = read_smiles(reading.text, start, end)
        left_open = [span for finding in found.findings if (span := _left_open(finding, reading.text))]
        stops = [finding.start for finding in found.findings if not _left_open(finding, reading.text)]
        if not stops:
            written = "".join(reading.text[i] for i in range(start, end) if not any(a <= i < b for a, b in left_open))
            mol = _parsed(written) if written.isascii() and found.atoms else None
            if mol is not None and mol.GetNumAtoms() == len(found.atoms):
                return PartialReading(mol, found.atoms, end)
            stops = [finding.start for finding in found.findings]
        if not stops or stops[0] == start:
            break
        end = stops[0]
    return PartialReading(None, (), start)


def _left_open(finding: Finding, text: str) -> Span | None:
    """Characters of a parenthesis or a ring number without a partner, with its bond: the atoms can be read without them."""
    start, end = finding.start, finding.end
    if finding.kind == UNBALANCED_BRANCH and text[start:end] == "(":
        return start, end
    if finding.kind != UNCLOSED_RING:
        return None
    while start and text[start - 1] in _BONDS:
        start -= 1
    return start, end


def _parsed(smiles: str) -> Chem.Mol | None:
    with rdBase.BlockLogs():
        try:
            return Chem.MolFromSmiles(smiles, UNSANITIZED)
        except (RuntimeError, ValueError):
            return None
