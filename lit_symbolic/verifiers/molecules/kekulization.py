"""Which aromatic ring is to blame where no alternating double bonds exist, and what would mend it.

RDKit lists all atoms of the ring system that were left over. Often it is one ring, and one change mends it: a nitrogen whose
hydrogen is missing or too much, an oxygen in a ring of six. So each such atom is changed in turn. Another change of the same
ring would do as well (an atom more or less), so it is the ring that is blamed, and the atom named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rdkit import Chem

MAX_TRIALS = 48
USUAL_SIZES = (5, 6)
_CARBON, _NITROGEN, _PHOSPHORUS = 6, 7, 15


def kekulization_culprits(mol: Chem.Mol, unkekulized: tuple[int, ...]) -> dict[int, str]:
    """Atoms to blame, each with what to tell a person: the rings that one change mends, else all that RDKit names.

    Args:
        mol: As parsed without sanitizing; not changed.
        unkekulized: The atoms that RDKit names.

    Example:
        >>> culprits = kekulization_culprits(Chem.MolFromSmiles("c1ccc2nccc2c1", sanitize=False), (3, 4, 5, 6, 7))
        >>> list(culprits), culprits[4]
        ([3, 4, 5, 6, 7], 'no alternating double bonds fit this ring; [nH] here would mend it')
    """
    rings = _aromatic_rings(mol)
    trials: tuple[tuple[str, Callable[[Chem.Atom], bool], Callable[[Chem.Atom], None]], ...] = (
        ("[nH] here would mend it", _can_take_hydrogen, _add_hydrogen),
        ("without its H it would do", _can_lose_hydrogen, _drop_hydrogen),
        ("a carbon here would mend it", _is_no_carbon, _make_carbon),
    )
    cures: dict[int, str] = {}
    suspects = _suspects(mol, unkekulized)
    for cure, applies, change in trials:
        for atom in suspects:
            if applies(atom) and atom.GetIdx() not in cures and _mends(mol, atom.GetIdx(), change, unkekulized):
                cures[atom.GetIdx()] = f"no alternating double bonds fit this ring; {cure}"
    message = "no alternating double bonds fit this ring"
    unusual = [ring for ring in rings if len(ring) not in USUAL_SIZES and not set(ring).isdisjoint(unkekulized)]
    blamed = {atom for ring in unusual for atom in ring}
    for index in () if unusual else cures:
        around = sorted((ring for ring in rings if index in ring), key=len)
        blamed.update(around[0] if around else (index,))
    return {atom: cures.get(atom, message) for atom in sorted(blamed or unkekulized)}


def _aromatic_rings(mol: Chem.Mol) -> list[tuple[int, ...]]:
    copy = Chem.Mol(mol)
    Chem.GetSymmSSSR(copy)
    rings = copy.GetRingInfo().AtomRings()
    return [tuple(ring) for ring in rings if all(copy.GetAtomWithIdx(atom).GetIsAromatic() for atom in ring)]


def _suspects(mol: Chem.Mol, unkekulized: Iterable[int]) -> list[Chem.Atom]:
    """The atoms named and their aromatic neighbours: an ``[nH]`` that needs no double bond is never named itself."""
    indices = set(unkekulized)
    for index in unkekulized:
        indices.update(near.GetIdx() for near in mol.GetAtomWithIdx(index).GetNeighbors() if near.GetIsAromatic())
    return [mol.GetAtomWithIdx(index) for index in sorted(indices)][:MAX_TRIALS]


def _is_pnictogen(atom: Chem.Atom) -> bool:
    return atom.GetAtomicNum() in (_NITROGEN, _PHOSPHORUS)


def _can_take_hydrogen(atom: Chem.Atom) -> bool:
    return _is_pnictogen(atom) and not atom.GetNumExplicitHs() and atom.GetDegree() == 2 and not atom.GetFormalCharge()


def _can_lose_hydrogen(atom: Chem.Atom) -> bool:
    return _is_pnictogen(atom) and atom.GetNumExplicitHs() > 0


def _is_no_carbon(atom: Chem.Atom) -> bool:
    return atom.GetAtomicNum() != _CARBON


def _add_hydrogen(atom: Chem.Atom) -> None:
    atom.SetNumExplicitHs(1)
    atom.SetNoImplicit(True)


def _drop_hydrogen(atom: Chem.Atom) -> None:
    atom.SetNumExplicitHs(0)


def _make_carbon(atom: Chem.Atom) -> None:
    atom.SetAtomicNum(_CARBON)
    atom.SetFormalCharge(0)
    atom.SetNumExplicitHs(0)
    atom.SetNoImplicit(False)


def _mends(mol: Chem.Mol, index: int, change: Callable[[Chem.Atom], None], unkekulized: tuple[int, ...]) -> bool:
    trial = Chem.RWMol(mol)
    change(trial.GetAtomWithIdx(index))
    for problem in Chem.DetectChemistryProblems(trial):
        if problem.GetType() == "KekulizeException" and set(problem.GetAtomIndices()) & {*unkekulized, index}:
            return False
        if problem.GetType() != "KekulizeException" and problem.GetAtomIdx() == index:
            return False
    return True
