"""Which aromatic atom is to blame where a ring has no alternating double bonds.

RDKit lists all atoms of the ring system that were left over. Usually one of them is wrong: a nitrogen whose hydrogen is
missing or too much, or an oxygen in a ring of six. So each such atom is changed in turn, and blamed if that mends the ring.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rdkit import Chem

MAX_TRIALS = 48
_CARBON, _NITROGEN, _PHOSPHORUS = 6, 7, 15


def kekulization_culprits(mol: Chem.Mol, unkekulized: tuple[int, ...]) -> tuple[tuple[int, ...], str]:
    """Atoms to blame, and what to tell a person.

    Args:
        mol: As parsed without sanitizing; not changed.
        unkekulized: The atoms that RDKit names.

    Example:
        >>> kekulization_culprits(Chem.MolFromSmiles("c1ccc2nccc2c1", sanitize=False), (3, 4, 5, 6, 7))
        ((4,), 'no alternating double bonds fit this ring; [nH] here would mend it')
    """
    suspects = _suspects(mol, unkekulized)
    trials = (
        ([atom for atom in suspects if _can_take_hydrogen(atom)], _add_hydrogen, "[nH] here would mend it"),
        (
            [atom for atom in suspects if _is_pnictogen(atom) and atom.GetNumExplicitHs()],
            _drop_hydrogen,
            "without its H it would do",
        ),
        ([atom for atom in suspects if atom.GetAtomicNum() != _CARBON], _make_carbon, "a carbon here would mend it"),
    )
    for atoms, change, message in trials:
        blamed = tuple(atom.GetIdx() for atom in atoms if _mends(mol, atom.GetIdx(), change, unkekulized))
        if blamed:
            return blamed, f"no alternating double bonds fit this ring; {message}"
    return tuple(sorted(unkekulized)), "no alternating double bonds fit these aromatic atoms"


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
