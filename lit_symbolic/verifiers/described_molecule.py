"""Certifies a molecule of a description that asks for its size too: so many heavy atoms, so many rings, one molecule.

A molecule that grows too large has a place where it does: the first atom, the ring number, the dot that is one too many. Whatever
is written behind it cannot mend that. What is missing (a group, an atom, a ring) could stand anywhere, so its place is the end.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rdkit import Chem

from lit_symbolic.certificate import Certificate, Finding, Problem
from lit_symbolic.verifiers.chemistry import KINDS as CHEMISTRY_KINDS
from lit_symbolic.verifiers.chemistry import Checks, MoleculeGenerationVerifier
from lit_symbolic.verifiers.molecules.no_return import Places, placed
from lit_symbolic.verifiers.molecules.reading import MoleculeReading, Span

TOO_MANY_ATOMS = "too_many_atoms"
"""From the first heavy atom that is one too many to the end of the molecule."""
TOO_FEW_ATOMS = "too_few_atoms"
"""The end."""
TOO_MANY_RINGS = "too_many_rings"
"""Each ring number that closes a ring too many; the end if a number closes none (rings of SELFIES, numbers across a dot)."""
TOO_FEW_RINGS = "too_few_rings"
"""The end."""
SEVERAL_MOLECULES = "several_molecules"
"""Each dot behind which a molecule too many begins; the end if a ring number joins what dots part."""

KINDS = (*CHEMISTRY_KINDS, TOO_MANY_ATOMS, TOO_FEW_ATOMS, TOO_MANY_RINGS, TOO_FEW_RINGS, SEVERAL_MOLECULES)

_RING = re.compile(r"\[[^\]]*\]|(?P<number>[0-9]|%[0-9]{2}|%\([0-9]{1,5}\))|[\s\S]")


@dataclass(frozen=True)
class DescribedMoleculeVerifier(MoleculeGenerationVerifier):
    """Certifies a molecule written from a description that may give its size, each part of it a check.

    Reads, beside the facts of :class:`~lit_symbolic.verifiers.chemistry.MoleculeGenerationVerifier`, and where they are given:
    ``heavy_atoms`` (fewest and most atoms other than hydrogen), ``rings`` (their number, see :func:`rings_of`), ``molecules`` (most of them).
    Unless the answer must be the reference, a missing group is not put where the reference has it: any molecule with the
    group is right, and the reference's is one of many. Further measures: ``size_right``, the share of the checks of size.

    Args:
        notation: See :class:`~lit_symbolic.verifiers.chemistry.MoleculeVerifier`, as for the others.
        must_match: See there.
        stereo: See there.
        all_measures: See there.
        max_characters: See there.
        locate_departure: See there.
        places: Where faults of syntax, valence and aromatic rings stand, see :mod:`~lit_symbolic.verifiers.molecules.no_return`.

    Example:
        >>> facts = {"groups": ["hydroxy"], "heavy_atoms": (6, 8), "rings": 1, "molecules": 1}
        >>> problem, verifier = Problem("molecules", "0", "", facts), DescribedMoleculeVerifier(must_match=False)
        >>> verifier.verify(problem, "Oc1ccccc1").correct
        True
        >>> for answer in ("Oc1ccc(CCC)cc1", "OC1CC2CC1C2", "Oc1ccccc1.O", "CC1CCCC1"):
        ...     print([(finding.kind, answer[finding.start : finding.end]) for finding in verifier.verify(problem, answer).findings])
        [('too_many_atoms', 'cc1')]
        [('too_many_rings', '2')]
        [('several_molecules', '.')]
        [('missing_group', '')]
    """

    places: Places = "culprit"

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify an answer, see the class.

        Raises:
            ValueError: If a molecule of the problem is not valid.
        """
        certificate = super().verify(problem, text)
        if self.places == "culprit" or certificate.measures.get("validity"):
            return certificate
        return replace(certificate, findings=placed(text, certificate.findings, self.places))

    def _check(self, problem: Problem, answer: MoleculeReading, reference: MoleculeReading | None) -> Checks:
        named = super()._check(problem, answer, reference if self.must_match else None)
        checks = [
            check(answer, problem.facts[fact])
            for fact, check in (("heavy_atoms", _atoms), ("rings", _rings), ("molecules", _molecules))
            if problem.facts.get(fact) is not None
        ]
        right = sum(not findings for findings in checks)
        return Checks(
            [*named.findings, *(finding for findings in checks for finding in findings)],
            named.passed + right,
            named.total + len(checks),
            {**(named.measures or {}), **({"size_right": right / len(checks)} if checks else {})},
        )


def _atoms(answer: MoleculeReading, bounds: Sequence[int]) -> list[Finding]:
    """Faults of the number of heavy atoms."""
    low, high = bounds
    spans = [span for atom, span in zip(answer.mol.GetAtoms(), answer.atom_spans, strict=True) if atom.GetAtomicNum() != 1]
    end = len(answer.text)
    if len(spans) > high:
        start = sorted(spans)[high][0]
        return [Finding(start, answer.span[1], TOO_MANY_ATOMS, f"{len(spans)} heavy atoms; at most {high} are asked for")]
    if len(spans) < low:
        return [Finding(end, end, TOO_FEW_ATOMS, f"{len(spans)} heavy atoms; at least {low} are asked for")]
    return []


def _rings(answer: MoleculeReading, wanted: int) -> list[Finding]:
    """Faults of the number of rings."""
    found, end = rings_of(answer.mol), len(answer.text)
    message = f"the number of rings is {found}, not {wanted}"
    if found < wanted:
        return [Finding(end, end, TOO_FEW_RINGS, message)]
    if found == wanted:
        return []
    closures = [] if answer.selfies else ring_closures(answer.text, *answer.span)
    spans = closures[wanted:] if len(closures) == found else [(end, end)]
    return [Finding(*span, TOO_MANY_RINGS, message) for span in spans]


def _molecules(answer: MoleculeReading, most: int) -> list[Finding]:
    """Faults of the number of molecules."""
    found, end = len(Chem.GetMolFrags(answer.mol)), len(answer.text)
    if found <= most:
        return []
    spans = [(end, end)]
    if answer.text.count(".", *answer.span) == found - 1:
        spans = [(begin - 1, begin) for _, (begin, _) in answer.fragments[most:]]
    return [Finding(*span, SEVERAL_MOLECULES, f"{found} molecules; {most} is asked for") for span in spans]


def rings_of(mol: Chem.Mol) -> int:
    """The number of rings: of bonds that could be cut without a molecule falling apart.

    (RDKit's symmetrical rings are more in a cage: three in norbornane, where two bonds can be cut.)

    Example:
        >>> rings_of(Chem.MolFromSmiles("C1CC2CCC1C2"))
        2
    """
    return int(mol.GetNumBonds() - mol.GetNumAtoms() + len(Chem.GetMolFrags(mol)))


def ring_closures(text: str, start: int, end: int) -> list[Span]:
    """The ring numbers of a valid SMILES that close a ring, in the order of the text.

    Example:
        >>> text = "C1CC%12CC1CC%12[13CH3]"
        >>> [text[start:end] for start, end in ring_closures(text, 0, len(text))]
        ['1', '%12']
    """
    opened: set[int] = set()
    closures = []
    for match in _RING.finditer(text, start, end):
        if match["number"]:
            number = int(match["number"].strip("%()"))
            if number in opened:
                closures.append(match.span())
            opened ^= {number}
    return closures
