"""Which atom of one molecule became which of another: a greedy common subgraph, and atoms that are too many or lacking.

An exact maximum common subgraph takes exponential time, and with a time limit its answer depends on the machine. Here the
atoms whose surroundings agree farthest are paired first, and each pair grows along its bonds: linear, deterministic, and
exact in what the certificates rest on, the number of atoms of each element. Only which of several equal atoms is named is a choice.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rdkit import Chem

MAX_RADIUS = 4
_HYDROGEN = 1


class _Graph:
    """Elements, neighbours and surroundings of a molecule's atoms, out of RDKit once."""

    def __init__(self, mol: Chem.Mol) -> None:
        self.elements = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
        self.near: list[list[tuple[int, int]]] = [[] for _ in self.elements]  # (neighbour, bond)
        for bond in mol.GetBonds():
            first, second, kind = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), int(bond.GetBondType())
            self.near[first].append((second, kind))
            self.near[second].append((first, kind))
        self.around = [self.elements]  # around[radius][atom]; hashes of integers, the same in every process
        for _ in range(MAX_RADIUS):
            inner = self.around[-1]
            self.around.append(
                [
                    hash((inner[atom], tuple(sorted((kind, inner[to]) for to, kind in near))))
                    for atom, near in enumerate(self.near)
                ]
            )


def map_atoms(source: Chem.Mol, target: Chem.Mol) -> dict[int, int]:
    """Pair atoms of ``source`` with atoms of ``target`` of the same element, each used once; hydrogen atoms are left out.

    Example:
        >>> map_atoms(Chem.MolFromSmiles("CCO"), Chem.MolFromSmiles("OCCCl"))
        {0: 2, 1: 1, 2: 0}
    """
    ours, theirs = _Graph(source), _Graph(target)
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for radius in range(MAX_RADIUS, 0, -1):
        free: dict[int, deque[int]] = {}
        for atom, around in enumerate(theirs.around[radius]):
            if atom not in taken and theirs.elements[atom] != _HYDROGEN:
                free.setdefault(around, deque()).append(atom)
        for atom, around in enumerate(ours.around[radius]):
            if atom in pairs or ours.elements[atom] == _HYDROGEN:
                continue
            candidates = free.get(around, ())
            while candidates and candidates[0] in taken:
                candidates.popleft()
            if candidates:
                pairs[atom] = candidates[0]
                taken.add(candidates[0])
                _grow(ours, theirs, pairs, taken, atom)
    return dict(sorted(pairs.items()))


def _grow(ours: _Graph, theirs: _Graph, pairs: dict[int, int], taken: set[int], seed: int) -> None:
    """Pair the neighbours of a pair, and theirs, wherever element and bond agree; the most similar first."""
    queue = deque([seed])
    while queue:
        atom = queue.popleft()
        image = pairs[atom]
        choices = []
        for near, kind in ours.near[atom]:
            if near in pairs or ours.elements[near] == _HYDROGEN:
                continue
            for other, other_kind in theirs.near[image]:
                if other not in taken and ours.elements[near] == theirs.elements[other]:
                    shift = abs((other - image) - (near - atom))  # equal atoms are paired in the order of writing
                    choices.append((-_likeness(ours, theirs, near, other), kind != other_kind, shift, near, other))
        for *_, near, other in sorted(choices):
            if near not in pairs and other not in taken:
                pairs[near] = other
                taken.add(other)
                queue.append(near)


def _likeness(ours: _Graph, theirs: _Graph, atom: int, other: int) -> int:
    radius = 0
    while radius < MAX_RADIUS and ours.around[radius + 1][atom] == theirs.around[radius + 1][other]:
        radius += 1
    return radius


def element_counts(mol: Chem.Mol) -> Counter[str]:
    """How many atoms of each element; hydrogens and wildcards are not counted.

    Example:
        >>> element_counts(Chem.MolFromSmiles("CCO")) == {"C": 2, "O": 1}
        True
    """
    return Counter(atom.GetSymbol() for atom in mol.GetAtoms() if atom.GetAtomicNum() > _HYDROGEN)


def surplus_atoms(mol: Chem.Mol, supply: Chem.Mol, surplus: Counter[str]) -> tuple[int, ...]:
    """The atoms of ``mol`` that most likely do not come from ``supply``: as many of each element as ``surplus`` says.

    Example:
        >>> surplus_atoms(Chem.MolFromSmiles("BrCCCl"), Chem.MolFromSmiles("OCCCl"), Counter({"Br": 1}))
        (0,)
    """
    pairs = map_atoms(mol, supply)
    chosen: list[int] = []
    for element, number in sorted(surplus.items()):
        atoms = [atom for atom in mol.GetAtoms() if atom.GetSymbol() == element]
        # Unpaired atoms first, of these the ones among paired ones: where a whole region is unpaired, the pairing failed.
        atoms.sort(key=lambda atom: (atom.GetIdx() in pairs, -_paired_share(atom, pairs)))
        chosen += [atom.GetIdx() for atom in atoms[:number]]
    return tuple(sorted(chosen))


def _paired_share(atom: Chem.Atom, pairs: Mapping[int, int]) -> float:
    return sum(near.GetIdx() in pairs for near in atom.GetNeighbors()) / max(1, atom.GetDegree())


@dataclass(frozen=True)
class Lack:
    """Where in a molecule atoms are lacking.

    Args:
        before: The last atom that is written before the place, ``None`` if the place is the beginning.
        behind: The next atom written behind it, ``None`` if it is the end.
        instead: Atoms that stand there and have no counterpart.
    """

    before: int | None
    behind: int | None
    instead: tuple[int, ...]


def place_of_lack(mol: Chem.Mol, wanted: Chem.Mol, lacking: Sequence[int]) -> Lack | None:
    """Where in ``mol`` the atoms ``lacking`` of ``wanted`` should be.

    If both are written in the same order, it is between the atoms that are written around the lacking ones; else behind
    the atom that they would hang on.

    Args:
        mol: The molecule that lacks them.
        wanted: The molecule that has them.
        lacking: Their indices in ``wanted``.

    Returns:
        ``None`` if the molecules share less than half of ``wanted``, so that there is no such place.

    Example:
        >>> wanted = Chem.MolFromSmiles("CC(=O)CCCBr")
        >>> place_of_lack(Chem.MolFromSmiles("CC(=O)CCCF"), wanted, (6,))
        Lack(before=5, behind=None, instead=(6,))
        >>> place_of_lack(Chem.MolFromSmiles("CCCCC"), wanted, (2,))
        Lack(before=1, behind=2, instead=())
    """
    pairs = map_atoms(wanted, mol)
    lost = sorted(atom for atom in lacking if atom not in pairs)
    if not lost or 2 * len(pairs) < wanted.GetNumHeavyAtoms():
        return None
    images = set(pairs.values())
    anchor = _anchor(wanted, lost, pairs)
    instead: tuple[int, ...] = ()
    if anchor is not None:
        near = (atom.GetIdx() for atom in mol.GetAtomWithIdx(anchor).GetNeighbors())
        instead = tuple(sorted(atom for atom in near if atom not in images))
    first = last = lost[0]  # the run of atoms without counterpart around the first lost one, in the order of writing
    while first > 0 and first - 1 not in pairs:
        first -= 1
    while last + 1 < wanted.GetNumAtoms() and last + 1 not in pairs:
        last += 1
    before, behind = pairs.get(first - 1), pairs.get(last + 1)
    between = range(-1 if before is None else before, mol.GetNumAtoms() if behind is None else behind)[1:]
    if (before is not None or behind is not None) and (before is None or behind is None or before < behind):
        inside = tuple(atom for atom in between if atom not in images)
        if len(inside) == len(between):
            return Lack(before, behind, inside)
    if anchor is None:
        return None
    return Lack(anchor, anchor + 1 if anchor + 1 < mol.GetNumAtoms() else None, instead[:1])


def exchanged_atom(mol: Chem.Mol, wanted: Chem.Mol, element: str) -> int | None:
    """An atom of ``mol`` that stands exactly where ``wanted`` has one of ``element``: it has all its neighbours.

    Example:
        >>> exchanged_atom(Chem.MolFromSmiles("CC(=O)SCCC"), Chem.MolFromSmiles("CCCNC(C)=O"), "N")
        3
    """
    pairs = map_atoms(wanted, mol)
    images = set(pairs.values())
    for atom in wanted.GetAtoms():
        if atom.GetSymbol() != element or atom.GetIdx() in pairs:
            continue
        near = {pairs.get(other.GetIdx()) for other in atom.GetNeighbors()}
        if not near or None in near:
            continue
        around = ({other.GetIdx() for other in mol.GetAtomWithIdx(each).GetNeighbors()} for each in near if each is not None)
        found = sorted(set.intersection(*around) - images)
        if found:
            return found[0]
    return None


def _anchor(wanted: Chem.Mol, lost: Sequence[int], pairs: Mapping[int, int]) -> int | None:
    """The counterpart of the nearest atom of ``wanted`` that has one."""
    seen, queue = set(lost), deque(lost)
    while queue:
        for near in wanted.GetAtomWithIdx(queue.popleft()).GetNeighbors():
            if near.GetIdx() in pairs:
                return pairs[near.GetIdx()]
            if near.GetIdx() not in seen:
                seen.add(near.GetIdx())
                queue.append(near.GetIdx())
    return None
