"""Certifies molecules with RDKit: of a description, of the product of reactants, of the reactants of a product.

An answer is one SMILES or SELFIES, several molecules joined by dots. It must be valid, without a wildcard (``*``) that the reference
does not have; then each task has checks that hold for every right answer: atoms are conserved, the groups asked for are there.
They need no reference. With a reference the answer is correct if it is the same molecule, and a check that the reference itself
fails is not held against an answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

from rdkit import Chem

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.molecules.atom_mapping import element_counts, exchanged_atom, place_of_lack, surplus_atoms
from lit_symbolic.verifiers.molecules.departure import DEPARTURE, departure
from lit_symbolic.verifiers.molecules.functional_groups import FunctionalGroup, group_matches, groups_of_problem
from lit_symbolic.verifiers.molecules.measures import similarities, text_measures
from lit_symbolic.verifiers.molecules.no_return import placed
from lit_symbolic.verifiers.molecules.reading import (
    CHEMISTRY,
    KEKULIZATION,
    VALENCE,
    MoleculeReading,
    Notation,
    Span,
    canonical,
    known_molecule,
    read_answer,
    wildcards_in,
)
from lit_symbolic.verifiers.molecules.selfies_text import UNKNOWN_SYMBOL
from lit_symbolic.verifiers.molecules.smiles import MAX_FINDINGS, SYNTAX_KINDS

UNSUPPLIED_ATOM = "unsupplied_atom"
"""An atom of a product that no reactant or reagent supplies: its characters."""
COPIED_REACTANT = "copied_reactant"
"""A molecule of a product that is one of the reactants: all of it."""
MISSING_ATOM = "missing_atom"
"""Atoms of the product that the reactants lack: what stands in their place, or the place; the end if that is not clear."""
COPIED_PRODUCT = "copied_product"
"""A molecule of the reactants that is the product: all of it."""
MISSING_GROUP = "missing_group"
"""A group that was asked for: its place if the reference shows it, else the end."""
GOAL = "goal"
"""The whole answer: valid, every check passed, and another molecule than the reference (with ``locate_departure``: in stereo alone)."""
TOO_LONG = "too_long"
"""The whole answer: it was not read."""

KINDS = (
    *SYNTAX_KINDS,
    UNKNOWN_SYMBOL,
    VALENCE,
    KEKULIZATION,
    CHEMISTRY,
    UNSUPPLIED_ATOM,
    COPIED_REACTANT,
    MISSING_ATOM,
    COPIED_PRODUCT,
    MISSING_GROUP,
    DEPARTURE,
    GOAL,
    TOO_LONG,
)


MEASURED_CHARACTERS = 100_000
_COUNTED = (UNSUPPLIED_ATOM, MISSING_ATOM, MISSING_GROUP)


@dataclass(frozen=True)
class Checks:
    """What the checks of a task say about a valid answer.

    Args:
        findings: Faults.
        passed: Number of checks without one.
        total: Number of checks.
        measures: Numbers of this task.
    """

    findings: Sequence[Finding] = ()
    passed: int = 0
    total: int = 0
    measures: Mapping[str, float] | None = None


@dataclass(frozen=True)
class MoleculeVerifier:
    """Certifies that an answer is a valid molecule, and the reference if the problem has one; the other tasks stand on it.

    Measures: ``validity``; with a reference also ``exact``, ``plausible`` (valid, every check passed, and not the reference),
    ``levenshtein``, ``bleu`` with its counts (see :mod:`~lit_symbolic.verifiers.molecules.measures`), and of a valid answer
    ``morgan_tanimoto``, ``maccs_tanimoto``, ``rdk_tanimoto``; where there are checks, ``checks_passed``, the share of them.

    The score of a wrong answer is 0 if it is not valid; else the share of the checks passed and, with a reference, the mean of
    that and Morgan similarity; at most 0.99.

    Args:
        notation: Of answers, references and facts: ``smiles``, ``selfies``, or ``auto`` for either.
        must_match: An answer to a problem with a reference must be that molecule. Otherwise one that passes all checks is
            correct, and the reference serves the measures only.
        stereo: Stereo centres and double bonds count in "the same molecule".
        all_measures: Also MACCS and RDK similarity, which cost more than all the rest.
        max_characters: Longer answers are rejected unread; they count as invalid ones in the measures, with the first 100,000 of their
            characters (a quarter of a second) in ``levenshtein`` and ``bleu``.
        locate_departure: Where an answer must match and does not, a finding says from where on it cannot become the reference any
            more (see :mod:`~lit_symbolic.verifiers.molecules.departure`); faults that what follows might have mended stand where it
            could not any more (``no_return`` of :mod:`~lit_symbolic.verifiers.molecules.no_return`).

    Example:
        >>> verifier, problem = MoleculeVerifier(), Problem("smiles", "0", "")
        >>> verifier.verify(problem, "c1ccccc1O").correct
        True
        >>> for answer in ("c1ccccc1O)C", "CC1CCO", "C[Xx]C", "CN(C)(C)(C)C", "CC(C)c1cncc1"):
        ...     findings = verifier.verify(problem, answer).findings
        ...     print([answer[finding.start : finding.end] for finding in findings], findings[0].kind)
        [')'] unbalanced_branch
        ['1'] unclosed_ring
        ['[Xx]'] unknown_atom
        ['N'] valence
        ['c', 'c', 'n', 'c', 'c'] kekulization
        >>> problem = Problem("smiles", "0", "", reference="CC(=O)OCC")
        >>> MoleculeVerifier(locate_departure=True).verify(problem, "CC(=O)NCC").findings[0]
        Finding(start=6, end=7, kind='departure', message="with 'N' here the answer cannot become the reference any more")
    """

    notation: Notation = "auto"
    must_match: bool = True
    stereo: bool = True
    all_measures: bool = True
    max_characters: int = 5_000
    locate_departure: bool = False

    molecules_as_set: ClassVar[bool] = False
    """Whether the molecules between dots are the reference's in any number."""

    def verify(self, problem: Problem, text: str) -> Certificate:
        """Certify an answer, see the class.

        Raises:
            ValueError: If a molecule of the problem is not valid.
        """
        reference = None if problem.reference is None else known_molecule(problem.reference, self.notation)
        if len(text) > self.max_characters:
            message = f"the answer has {len(text)} characters; at most {self.max_characters} are read"
            measures = {"validity": 0.0}
            if reference is not None:
                measures |= _unlike(text.strip()[:MEASURED_CHARACTERS], reference)
            return Certificate(False, 0.0, (Finding(0, len(text), TOO_LONG, message),), measures, Status.REJECTED, message)
        answer = read_answer(text, self.notation, wildcards_in(problem.reference))
        measures = {"validity": float(answer.valid)}
        if reference is not None:
            measures |= _unlike(answer.smiles or text[slice(*answer.span)], reference)
        if not answer.valid:
            findings = answer.findings
            if reference is not None and self.must_match and self.locate_departure:
                findings = self._with_departure(placed(text, findings, "no_return"), problem, answer)
            return Certificate(False, 0.0, findings, measures, evidence=in_words(findings))

        if reference is not None:
            measures |= similarities(answer.mol, str(problem.reference), self.notation, self.all_measures)
            if self._same(canonical(answer.mol, self.stereo), _canonical(str(problem.reference), self.notation, self.stereo)):
                measures["exact"] = 1.0
                return Certificate(True, 1.0, (), measures, evidence="the reference")
        checks = self._check(problem, answer, reference)
        measures |= checks.measures or {}
        share = checks.passed / checks.total if checks.total else 1.0
        if checks.total:
            measures["checks_passed"] = share
        findings = tuple(sorted(checks.findings)[:MAX_FINDINGS])
        if reference is not None:
            measures["plausible"] = float(not findings)
            if self.must_match and self.locate_departure:
                findings = self._with_departure(findings, problem, answer)
        if not findings and reference is not None and self.must_match:
            findings = (Finding(*answer.span, GOAL, "a valid molecule that passes every check, but not the reference"),)
        if not findings:
            return Certificate(True, 1.0, (), measures, evidence="valid, and every check passed")
        score = share if reference is None else (share + measures["morgan_tanimoto"]) / 2
        return Certificate(False, min(score, 0.99), findings, measures, evidence=in_words(findings))

    def _with_departure(self, findings: Sequence[Finding], problem: Problem, answer: MoleculeReading) -> tuple[Finding, ...]:
        place = departure(answer, str(problem.reference), self.notation, self.molecules_as_set)
        if place is None:
            return tuple(findings)
        # Up to the departure the reference could still be reached: no atom was missing or too many yet.
        moved = [
            replace(each, start=place.start, end=place.end) if each.kind in _COUNTED and each.start < place.start else each
            for each in findings
        ]
        return tuple(sorted([place, *moved])[:MAX_FINDINGS])

    def _same(self, answer: str, reference: str) -> bool:
        if self.molecules_as_set:
            return set(answer.split(".")) == set(reference.split("."))
        return answer == reference

    def _check(self, problem: Problem, answer: MoleculeReading, reference: MoleculeReading | None) -> Checks:
        return Checks()


@dataclass(frozen=True)
class MoleculeGenerationVerifier(MoleculeVerifier):
    """Certifies a molecule written from a description: the functional groups that it names must be there.

    Reads the facts ``description`` (str; see :func:`~lit_symbolic.verifiers.molecules.functional_groups.groups_asked_for`) or
    ``groups`` (names of the table, used instead where given). One check for each group; a group that the reference lacks is not asked
    for. Further measure: ``groups_found``, the share of them, where there are any.

    Args:
        notation: See :class:`MoleculeVerifier`, as for the others.
        must_match: See there.
        stereo: See there.
        all_measures: See there.
        max_characters: See there.
        locate_departure: See there.

    Example:
        >>> problem = Problem("molecule", "0", "", {"description": "It is a nitrile with a hydroxy group."})
        >>> MoleculeGenerationVerifier().verify(problem, "N#CCO").correct
        True
        >>> MoleculeGenerationVerifier().verify(problem, "N#CCC").findings
        (Finding(start=5, end=5, kind='missing_group', message='hydroxy is asked for'),)
    """

    def _check(self, problem: Problem, answer: MoleculeReading, reference: MoleculeReading | None) -> Checks:
        groups = groups_of_problem(problem.facts)
        if reference is not None:
            groups = [group for group in groups if len(group_matches(reference.mol, group)) >= group.at_least]
        findings = []
        for group in groups:
            if len(group_matches(answer.mol, group)) < group.at_least:
                span = len(answer.text), len(answer.text)
                if reference is not None:
                    span = _place(answer, reference.mol, _atoms_of(reference.mol, group))
                findings.append(Finding(*span, MISSING_GROUP, f"{group.name} is asked for"))
        found = len(groups) - len(findings)
        return Checks(findings, found, len(groups), {"groups_found": found / len(groups)} if groups else None)


@dataclass(frozen=True)
class ForwardSynthesisVerifier(MoleculeVerifier):
    """Certifies the product of a reaction: its atoms come from what is put in, and it is none of that.

    Reads the facts ``reactants`` and, if given, ``reagents`` (SMILES or SELFIES, dots between molecules). Two checks: for each
    element but hydrogen the answer has no more atoms than reactants and reagents together; none of its molecules is one of
    theirs (one without carbon may be: a salt). What the reference itself takes from elsewhere is allowed.

    Args:
        notation: See :class:`MoleculeVerifier`, as for the others.
        must_match: See there.
        stereo: See there.
        all_measures: See there.
        max_characters: See there.
        locate_departure: See there.

    Example:
        >>> problem = Problem("forward", "0", "", {"reactants": "CC(=O)Cl.NCC"})
        >>> ForwardSynthesisVerifier().verify(problem, "CC(=O)NCC").correct
        True
        >>> [finding] = ForwardSynthesisVerifier().verify(problem, "CC(=O)NCCBr").findings
        >>> finding.kind, finding.start, finding.end, finding.message
        ('unsupplied_atom', 9, 11, 'Br: the answer has 1, what is put in has 0')
    """

    def _check(self, problem: Problem, answer: MoleculeReading, reference: MoleculeReading | None) -> Checks:
        put_in = ".".join(text for text in (problem.facts["reactants"], problem.facts.get("reagents")) if text)
        supply = known_molecule(put_in, self.notation)
        has, given = element_counts(answer.mol), element_counts(supply.mol)
        surplus = has - given - (Counter() if reference is None else element_counts(reference.mol) - given)
        findings = []
        for atom in surplus_atoms(answer.mol, supply.mol, surplus) if surplus else ():
            symbol = answer.mol.GetAtomWithIdx(atom).GetSymbol()
            message = f"{symbol}: the answer has {has[symbol]}, what is put in has {given[symbol]}"
            findings.append(Finding(*answer.atom_spans[atom], UNSUPPLIED_ATOM, message))
        copies = _copies(answer, supply, reference, COPIED_REACTANT, "this is one of the reactants, not a product")
        return Checks([*findings, *copies], (not findings) + (not copies), 2)


@dataclass(frozen=True)
class RetrosynthesisVerifier(MoleculeVerifier):
    """Certifies reactants for a product: they supply its atoms, and the product is none of them.

    Reads the fact ``product`` (SMILES or SELFIES). Two checks: for each element but hydrogen the answer has at least as many
    atoms as the product; none of its molecules is the product. What the reference leaves to unnamed reagents is allowed.
    Reactants are the same as the reference if they are the same set of molecules, in any order and number.

    Args:
        notation: See :class:`MoleculeVerifier`, as for the others.
        must_match: See there.
        stereo: See there.
        all_measures: See there.
        max_characters: See there.
        locate_departure: See there.

    Example:
        >>> problem = Problem("retro", "0", "", {"product": "CC(=O)NCCBr"}, reference="NCCBr.CC(=O)O")
        >>> RetrosynthesisVerifier().verify(problem, "CC(=O)O.NCCBr").correct
        True
        >>> [finding] = RetrosynthesisVerifier().verify(problem, "CC(=O)O.NCCF").findings
        >>> finding.kind, finding.start, finding.end, finding.message
        ('missing_atom', 11, 12, 'Br: the product has 1, the answer has 0')
    """

    molecules_as_set: ClassVar[bool] = True

    def _check(self, problem: Problem, answer: MoleculeReading, reference: MoleculeReading | None) -> Checks:
        product = known_molecule(problem.facts["product"], self.notation)
        needed, has = element_counts(product.mol), element_counts(answer.mol)
        lack = needed - has - (Counter() if reference is None else needed - element_counts(reference.mol))
        source = product if reference is None else reference  # the reference is nearer to the answer
        findings = []
        for element in sorted(lack):
            exchanged = exchanged_atom(answer.mol, source.mol, element)
            if exchanged is None:
                span = _place(answer, source.mol, surplus_atoms(source.mol, answer.mol, Counter({element: lack[element]})))
            else:
                span = answer.atom_spans[exchanged]
            message = f"{element}: the product has {needed[element]}, the answer has {has[element]}"
            findings.append(Finding(*span, MISSING_ATOM, message))
        copies = _copies(answer, product, reference, COPIED_PRODUCT, "this is the product itself, not a reactant")
        return Checks([*findings, *copies], (not findings) + (not copies), 2)


def _unlike(written: str, reference: MoleculeReading) -> dict[str, float]:
    """Measures of an answer as a text, and as none that is right."""
    return {**text_measures(written, reference.smiles), "exact": 0.0, "plausible": 0.0}


def _copies(
    answer: MoleculeReading, given: MoleculeReading, reference: MoleculeReading | None, kind: str, message: str
) -> list[Finding]:
    """Findings over the molecules of the answer that are given already and not the reference's."""
    known = set(canonical(given.mol).split(".")) - (set() if reference is None else set(canonical(reference.mol).split(".")))
    fragments = answer.fragments
    counted = [each for each in fragments if len(fragments) == 1 or "C" in element_counts(each[0])]
    return [Finding(*span, kind, message) for mol, span in counted if canonical(mol) in known]


def _atoms_of(mol: Chem.Mol, group: FunctionalGroup) -> list[int]:
    """Atoms of a group's matches, and their neighbours: a pattern may name the first of its atoms alone."""
    atoms = {atom for match in group_matches(mol, group) for atom in match}
    return sorted(atoms.union(*({near.GetIdx() for near in mol.GetAtomWithIdx(atom).GetNeighbors()} for atom in atoms)))


def _place(answer: MoleculeReading, wanted: Chem.Mol, lacking: Sequence[int]) -> Span:
    """Characters that stand in the place of lacking atoms, or those between its neighbours; else the answer's end."""
    lack = place_of_lack(answer.mol, wanted, lacking)
    if lack is None:
        return len(answer.text), len(answer.text)
    spans = answer.atom_spans
    if lack.instead:
        return spans[lack.instead[0]][0], spans[lack.instead[-1]][1]
    start = answer.span[0] if lack.before is None else spans[lack.before][1]
    return start, max(start, answer.span[1] if lack.behind is None else spans[lack.behind][0])


def in_words(findings: Sequence[Finding]) -> str:
    """The first findings, a line each, as evidence."""
    return "\n".join(f"{finding.start}-{finding.end} {finding.kind}: {finding.message}" for finding in findings[:10])


@lru_cache(maxsize=4096)
def _canonical(text: str, notation: Notation, stereo: bool) -> str:
    return canonical(known_molecule(text, notation).mol, stereo)
