"""Three tools for one molecule, each of which certifies one aspect: its syntax, its valences, its functional groups.

Side by side as reward callbacks they say more than one tool does. Syntax comes first in any reader, so a ring that is left open
near the end hides a carbon with five bonds near the beginning; here the tool for valences reads what can be read, and both
are told. An answer may be right for one tool and wrong for another; all three agree on what is right in every way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rdkit import Chem, rdBase

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.chemistry import MISSING_GROUP, in_words
from lit_symbolic.verifiers.chemistry import TOO_LONG as ANSWER_TOO_LONG
from lit_symbolic.verifiers.molecules.functional_groups import group_matches, groups_of_problem
from lit_symbolic.verifiers.molecules.no_return import Places, placed
from lit_symbolic.verifiers.molecules.partial import read_part
from lit_symbolic.verifiers.molecules.reading import (
    CHEMISTRY,
    KEKULIZATION,
    VALENCE,
    Notation,
    read_answer,
    read_molecule,
    wildcards_in,
)
from lit_symbolic.verifiers.molecules.selfies_text import UNKNOWN_SYMBOL
from lit_symbolic.verifiers.molecules.smiles import EMPTY, MAX_FINDINGS, SYNTAX_KINDS

_SYNTAX = (*SYNTAX_KINDS, UNKNOWN_SYMBOL)
_VALENCE = (VALENCE, KEKULIZATION, CHEMISTRY)


@dataclass(frozen=True)
class MoleculeSyntaxVerifier:
    """Certifies that an answer can be read as SMILES or SELFIES, whatever molecule that would be.

    A wildcard (``*``) is no atom, but for as many as the reference has; the tools for valences and groups let it pass.

    Measure: ``syntax``, 1 if it can.

    Args:
        notation: ``smiles``, ``selfies``, or ``auto`` for either.
        max_characters: Longer answers are rejected unread.
        places: Where findings stand, see :mod:`~lit_symbolic.verifiers.molecules.no_return`.

    Example:
        >>> problem, verifier = Problem("molecules", "0", ""), MoleculeSyntaxVerifier()
        >>> verifier.verify(problem, "CN(C)(C)(C)C").correct  # five bonds, but well written
        True
        >>> [(finding.start, finding.kind) for finding in verifier.verify(problem, "CN(C)(C)(C)C1").findings]
        [(12, 'unclosed_ring')]
    """

    notation: Notation = "auto"
    max_characters: int = 5_000
    places: Places = "culprit"

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify an answer, see the class."""
        if len(text) > self.max_characters:
            return _too_long(text, self.max_characters, "syntax")
        reading = read_answer(text, self.notation, wildcards_in(problem.reference))
        findings = [finding for finding in reading.findings if finding.kind in _SYNTAX]
        return _certificate(placed(text, findings, self.places), "syntax", 0.0)


@dataclass(frozen=True)
class ValenceVerifier:
    """Certifies that no atom of an answer has more bonds than it can have, and that its aromatic rings are ones.

    Of an answer with a fault of syntax it reads what comes before; aromatic rings are judged in whole molecules alone, and an answer
    of which nothing can be read is not certified. Measure: ``valence``, 1 if no fault is found and there is an atom.

    Args:
        notation: See :class:`MoleculeSyntaxVerifier`, as for the others.
        max_characters: See there.
        places: See there.

    Example:
        >>> problem, verifier = Problem("molecules", "0", ""), ValenceVerifier()
        >>> for answer in ("CN(C)(C)(C)C1", "c1cncc1", "CC1"):
        ...     print([(finding.start, finding.kind) for finding in verifier.verify(problem, answer).findings])
        [(1, 'valence')]
        [(0, 'kekulization'), (2, 'kekulization'), (3, 'kekulization'), (4, 'kekulization'), (5, 'kekulization')]
        []
    """

    notation: Notation = "auto"
    max_characters: int = 5_000
    places: Places = "culprit"

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify an answer, see the class."""
        if len(text) > self.max_characters:
            return _too_long(text, self.max_characters, "valence")
        reading = read_molecule(text, self.notation)
        if reading.valid:
            return _certificate((), "valence", 0.0)
        findings = [finding for finding in reading.findings if finding.kind in _VALENCE]
        if findings:
            return _certificate(placed(text, findings, self.places), "valence", 0.0)
        part = read_part(reading)
        if part.mol is None:
            return _unreadable(text, "valence")
        with rdBase.BlockLogs():
            problems = [each for each in Chem.DetectChemistryProblems(part.mol) if each.GetType() == "AtomValenceException"]
        for each in problems:
            atom = part.mol.GetAtomWithIdx(each.GetAtomIdx())
            message = f"{atom.GetSymbol()} has more bonds than it can have"
            findings.append(Finding(*part.spans[atom.GetIdx()], VALENCE, message))
        return _certificate(placed(text, findings, self.places), "valence", 0.0)


@dataclass(frozen=True)
class FunctionalGroupsVerifier:
    """Certifies that the functional groups asked for are there, in as much of an answer as can be read.

    Reads the facts ``groups`` or ``description`` as :class:`~lit_symbolic.verifiers.chemistry.MoleculeGenerationVerifier` does. A
    group that is missing could stand anywhere: its place is the end. The score is the share of groups found. Measure:
    ``groups_found``, that share.

    Args:
        notation: See :class:`MoleculeSyntaxVerifier`, as for the others.
        max_characters: See there.

    Example:
        >>> problem, verifier = Problem("molecules", "0", "", {"groups": ["nitrile", "hydroxy"]}), FunctionalGroupsVerifier()
        >>> verifier.verify(problem, "N#CC1CO").correct  # a ring is open, but both groups are written
        True
        >>> verifier.verify(problem, "N#CCC").findings
        (Finding(start=5, end=5, kind='missing_group', message='hydroxy is asked for'),)
    """

    notation: Notation = "auto"
    max_characters: int = 5_000

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify an answer, see the class."""
        if len(text) > self.max_characters:
            return _too_long(text, self.max_characters, "groups_found")
        groups = groups_of_problem(problem.facts)
        reading = read_molecule(text, self.notation)
        mol = reading.mol if reading.valid else _leniently(read_part(reading).mol)
        if mol is None:
            return _unreadable(text, "groups_found")
        missing = [group for group in groups if len(group_matches(mol, group)) < group.at_least]
        end = len(text)
        findings = [Finding(end, end, MISSING_GROUP, f"{group.name} is asked for") for group in missing]
        return _certificate(findings, "groups_found", 1 - len(missing) / len(groups) if groups else 1.0)


def _leniently(mol: Chem.Mol | None) -> Chem.Mol | None:
    """A molecule made ready for patterns, wrong valences and rings that are not aromatic left as they are written."""
    if mol is None:
        return None
    mol = Chem.Mol(mol)
    with rdBase.BlockLogs():
        try:
            mol.UpdatePropertyCache(strict=False)
            Chem.SanitizeMol(mol, Chem.SANITIZE_SYMMRINGS | Chem.SANITIZE_SETCONJUGATION | Chem.SANITIZE_SETHYBRIDIZATION)
        except (RuntimeError, ValueError):
            return None
    return mol


def _certificate(findings: Sequence[Finding], measure: str, score: float) -> Certificate:
    if not findings:
        return Certificate(True, 1.0, (), {measure: 1.0})
    kept = tuple(sorted(findings)[:MAX_FINDINGS])
    return Certificate(False, score, kept, {measure: score}, evidence=in_words(kept))


def _unreadable(text: str, measure: str) -> Certificate:
    """What cannot be read shows nothing of this aspect: not certified, and no place to blame but the end."""
    message = "no atom can be read"
    return Certificate(False, 0.0, (Finding(len(text), len(text), EMPTY, message),), {measure: 0.0}, evidence=message)


def _too_long(text: str, most: int, measure: str) -> Certificate:
    message = f"the answer has {len(text)} characters; at most {most} are read"
    return Certificate(False, 0.0, (Finding(0, len(text), ANSWER_TOO_LONG, message),), {measure: 0.0}, Status.REJECTED, message)
