"""Reads an answer as a molecule: RDKit says whether it is one, and each of its problems is put at the characters of its atoms.

A valid molecule costs one RDKit parse; everything else here is paid for by answers that need a finding.
"""

from __future__ import annotations

import re
from bisect import bisect
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

from rdkit import Chem, rdBase

from lit_symbolic.certificate import Finding
from lit_symbolic.verifiers.molecules.kekulization import kekulization_culprits
from lit_symbolic.verifiers.molecules.selfies_text import SelfiesReading, looks_like_selfies, read_selfies
from lit_symbolic.verifiers.molecules.smiles import MAX_FINDINGS, SYNTAX, UNKNOWN_ATOM, read_smiles

Notation = Literal["auto", "smiles", "selfies"]
Span = tuple[int, int]

VALENCE = "valence"
"""An atom with more bonds than it can have: its characters."""
KEKULIZATION = "kekulization"
"""Aromatic atoms for which no alternating double bonds exist: the atom whose change mends it, else all of them."""
CHEMISTRY = "chemistry"
"""RDKit refuses the molecule for another reason: the whole answer."""

_BLANKS = " \t\r\n"
_LONG_NUMBER = re.compile(r"[0-9]{3}|\[[0-9]*#")
_MAPPED = re.compile(r"(\[[^\[\]:]+):(?:0|[1-9][0-9]*)\]")
_WILDCARD = re.compile(r"\*|\[[0-9]*#0(?![0-9])")


def _parser(**settings: bool) -> Chem.SmilesParserParams:
    parameters = Chem.SmilesParserParams()
    # Text behind the SMILES is a fault, not a name.
    for name, value in {"allowCXSMILES": False, "parseName": False, **settings}.items():
        setattr(parameters, name, value)
    return parameters


_PARAMETERS = _parser()
UNSANITIZED = _parser(sanitize=False, removeHs=False)


@dataclass(frozen=True, eq=False)
class MoleculeReading:
    """An answer, read.

    Args:
        text: The whole answer.
        span: What was read as the molecule: the answer without the blanks around it.
        parsed: The molecule, hydrogens removed and sanitized by RDKit; ``None`` if it is not valid.
        smiles: As written, or as decoded from SELFIES; empty if it could not be decoded.
        findings: Why it is not valid, in order of their place; empty if it is.
        selfies: The reading of a SELFIES.
    """

    text: str
    span: Span
    parsed: Chem.Mol | None
    smiles: str
    findings: tuple[Finding, ...] = ()
    selfies: SelfiesReading | None = None

    @property
    def valid(self) -> bool:
        """Whether it is a molecule."""
        return self.parsed is not None

    @property
    def mol(self) -> Chem.Mol:
        """The molecule.

        Raises:
            ValueError: If it is not valid.
        """
        if self.parsed is None:
            raise ValueError(f"{self.text[:200]!a} is no molecule; look at its findings first")
        return self.parsed

    @cached_property
    def written_atoms(self) -> tuple[Span, ...]:
        """Characters of each written atom, hydrogens of their own included."""
        return self.selfies.atoms() if self.selfies else read_smiles(self.text, *self.span).atoms

    @cached_property
    def atom_spans(self) -> tuple[Span, ...]:
        """Characters of each atom of :attr:`mol`; those of a hydrogen atom are the whole molecule's."""
        with rdBase.BlockLogs():
            written = Chem.MolFromSmiles(self.smiles, UNSANITIZED)
        heavy = iter(
            [span for atom, span in zip(written.GetAtoms(), self.written_atoms, strict=True) if atom.GetAtomicNum() != 1]
        )
        return tuple(next(heavy) if atom.GetAtomicNum() != 1 else self.span for atom in self.mol.GetAtoms())

    @cached_property
    def fragments(self) -> tuple[tuple[Chem.Mol, Span], ...]:
        """Each molecule with the characters between its dots; if a ring number joins pieces, from the first of them to the last."""
        dots = re.finditer(r"[^.]+", self.text[slice(*self.span)])
        pieces = [(self.span[0] + piece.start(), self.span[0] + piece.end()) for piece in dots]
        if len(pieces) < 2:
            return ((self.mol, self.span),)
        atoms: list[tuple[int, ...]] = []
        mols = Chem.GetMolFrags(self.mol, asMols=True, fragsMolAtomMapping=atoms)
        ends = [end for _, end in pieces]
        held = [
            sorted({bisect(ends, self.atom_spans[at][0]) for at in each if self.mol.GetAtomWithIdx(at).GetAtomicNum() != 1})
            for each in atoms
        ]
        rest = iter(sorted(set(range(len(pieces))).difference(*held)))  # hydrogen alone, whose atoms have no place
        places = [each or [next(rest)] for each in held]
        return tuple((mol, (pieces[place[0]][0], pieces[place[-1]][1])) for mol, place in zip(mols, places, strict=True))


def read_molecule(text: str, notation: Notation = "auto") -> MoleculeReading:
    """Read an answer; never raises for what it says.

    Valid is what ``Chem.MolFromSmiles`` gives a molecule for, but: blanks inside, names and CXSMILES behind it, characters
    outside ASCII, no atom at all and numbers that RDKit would wrap are faults. Atom maps are dropped, and make no stereo centre.

    Args:
        text: SMILES or SELFIES, blanks around it are ignored.
        notation: ``auto`` takes SELFIES for what :func:`~lit_symbolic.verifiers.molecules.selfies_text.looks_like_selfies`,
            unless it is valid as SMILES alone.

    Example:
        >>> read_molecule("CC(=O)O").mol.GetNumAtoms()
        4
        >>> [(finding.start, finding.end, finding.kind) for finding in read_molecule("CC(=O)(=O)O").findings]
        [(1, 2, 'valence')]
        >>> read_molecule("[C][Branch1][C][O][C]").smiles
        'C(O)C'
        >>> canonical(read_molecule("[CH3:1][C@H:2]([OH:3])[CH3:4]").mol)
        'CC(C)O'
    """
    start = len(text) - len(text.lstrip(_BLANKS))
    end = max(start, len(text.rstrip(_BLANKS)))
    written = text[start:end]
    if notation == "selfies" or (notation == "auto" and looks_like_selfies(written)):
        reading = _from_selfies(text, (start, end))
        if not reading.valid and notation == "auto":
            as_smiles = _from_smiles(text, (start, end))
            return as_smiles if as_smiles.valid else reading
        return reading
    return _from_smiles(text, (start, end))


def read_answer(text: str, notation: Notation = "auto", wildcards: int = 0) -> MoleculeReading:
    """Read an answer as :func:`read_molecule` does, in which wildcard atoms (``*``, ``[#0]``) are faults: they have no valence, so anything
    can be written with them.

    Args:
        text: See :func:`read_molecule`, as for the next.
        notation: See there.
        wildcards: So many may be written: those of the reference, see :func:`wildcards_in`.

    Example:
        >>> [(finding.start, finding.kind) for finding in read_answer("C*O").findings], read_answer("C*O", wildcards=1).valid
        ([(1, 'unknown_atom')], True)
    """
    reading = read_molecule(text, notation)
    if reading.selfies is not None or wildcards_in(reading.smiles) <= wildcards:
        return reading
    end = _first_blank(text, reading.span)
    written = [span for span in reading.written_atoms if span[1] <= end and _WILDCARD.search(text, *span)]
    message = "a wildcard is no atom of a molecule"
    findings = [Finding(*span, UNKNOWN_ATOM, message) for span in written[wildcards:]]
    if not findings:
        return reading
    kept = tuple(sorted({*reading.findings, *findings})[:MAX_FINDINGS])
    return replace(reading, parsed=None, findings=kept)


def wildcards_in(text: str | None) -> int:
    """How many wildcard atoms are written in a molecule; of ``None``, a problem without a reference, none.

    Example:
        >>> wildcards_in("*OC(=O)C[1*]"), wildcards_in("C#0CC0")
        (2, 0)
    """
    return len(_WILDCARD.findall(text or ""))


@lru_cache(maxsize=4096)
def known_molecule(text: str, notation: Notation = "auto") -> MoleculeReading:
    """A molecule of a problem, read once in each process.

    Raises:
        ValueError: If it is not valid: the problem is at fault.
    """
    reading = read_molecule(text, notation)
    if not reading.valid:
        raise ValueError(f"a problem's molecule is not valid: {text[:200]!a}: {reading.findings[0].message}")
    return reading


def canonical(mol: Chem.Mol, stereo: bool = True) -> str:
    """RDKit's canonical SMILES; without stereo its isotopes stay.

    Example:
        >>> canonical(Chem.MolFromSmiles("[13CH3][C@H](F)/C=C/C"), stereo=False)
        'CC=CC([13CH3])F'
    """
    if not stereo:
        mol = Chem.Mol(mol)
        Chem.RemoveStereochemistry(mol)
        with rdBase.BlockLogs():
            mol = Chem.RemoveHs(mol)  # those that only showed on which side of a double bond they are
    return str(Chem.MolToSmiles(mol))


def _from_selfies(text: str, span: Span) -> MoleculeReading:
    reading = read_selfies(text, *span)
    if reading.smiles is None:
        return MoleculeReading(text, span, None, "", reading.findings, reading)
    mol = _parse(reading.smiles)
    found = MoleculeReading(text, span, mol, reading.smiles, (), reading)
    return found if mol is not None else _with_problems(found)


def _from_smiles(text: str, span: Span) -> MoleculeReading:
    written = text[slice(*span)]
    if not written.isascii() or any(blank in written for blank in _BLANKS) or not written:
        return MoleculeReading(text, span, None, written, _syntax(text, span))
    if _LONG_NUMBER.search(written):
        findings = read_smiles(text, *span).findings
        if findings:
            return MoleculeReading(text, span, None, written, findings)
    found = MoleculeReading(text, span, _parse(written), written)
    return found if found.valid else _with_problems(found)


def _parse(smiles: str) -> Chem.Mol | None:
    with rdBase.BlockLogs():
        try:
            # Maps must be gone before RDKit perceives stereo: to it atoms with different maps are different substituents.
            return Chem.MolFromSmiles(_MAPPED.sub(r"\1]", smiles), _PARAMETERS)
        except (RuntimeError, ValueError):  # a check inside RDKit failed
            return None


def _syntax(text: str, span: Span) -> tuple[Finding, ...]:
    """Findings of the reader up to the first blank, and what stands behind that."""
    start, end = span
    blank = _first_blank(text, span)
    findings = read_smiles(text, start, blank).findings
    if blank < end:
        findings = (
            *findings[: MAX_FINDINGS - 1],
            Finding(blank, end, SYNTAX, "text behind the molecule: a SMILES has no blanks"),
        )
    return findings


def _first_blank(text: str, span: Span) -> int:
    """Place of the first blank; the end if there is none."""
    return min((place for place in (text.find(each, *span) for each in _BLANKS) if place >= 0), default=span[1])


def _with_problems(found: MoleculeReading) -> MoleculeReading:
    with rdBase.BlockLogs():
        try:
            written = Chem.MolFromSmiles(found.smiles, UNSANITIZED)
            findings = [] if written is None else _chemistry(written, found.written_atoms)
        except (RuntimeError, ValueError):
            written, findings = None, []
    if written is None and found.selfies is None:
        findings = list(read_smiles(found.text, *found.span).findings)
    if not findings:
        kind = SYNTAX if written is None else CHEMISTRY
        findings = [Finding(*found.span, kind, "RDKit does not read this as a molecule")]
    return MoleculeReading(found.text, found.span, None, found.smiles, tuple(sorted(findings)[:MAX_FINDINGS]), found.selfies)


def _chemistry(written: Chem.Mol, spans: tuple[Span, ...]) -> list[Finding]:
    """Valence and kekulization problems of a molecule that was parsed but not sanitized."""
    findings: set[Finding] = set()
    problems = list(Chem.DetectChemistryProblems(written))
    if not problems:
        try:
            Chem.SanitizeMol(Chem.Mol(written))
        except Chem.MolSanitizeException as error:  # some problems show in a later step only
            problems = [getattr(error, "cause")]  # noqa: B009, missing in RDKit's type stubs
    for problem in problems:
        if problem.GetType() == "KekulizeException":
            culprits = kekulization_culprits(written, tuple(problem.GetAtomIndices()))
            findings.update(Finding(*spans[atom], KEKULIZATION, message) for atom, message in culprits.items())
        elif problem.GetType() == "AtomKekulizeException":  # names the first such atom alone
            outside = _aromatic_outside_rings(written)
            findings.update(Finding(*spans[atom], KEKULIZATION, "an aromatic atom that is in no ring") for atom in outside)
        elif hasattr(problem, "GetAtomIdx"):
            atom = written.GetAtomWithIdx(problem.GetAtomIdx())
            bonds = sum(bond.GetValenceContrib(atom) for bond in atom.GetBonds()) + atom.GetNumExplicitHs()
            message = f"{atom.GetSymbol()} has {bonds:g} bonds, more than it can have"
            findings.add(Finding(*spans[atom.GetIdx()], VALENCE, message))
    return sorted(findings)


def _aromatic_outside_rings(written: Chem.Mol) -> list[int]:
    mol = Chem.Mol(written)
    Chem.FastFindRings(mol)
    return [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetIsAromatic() and not atom.IsInRing()]
