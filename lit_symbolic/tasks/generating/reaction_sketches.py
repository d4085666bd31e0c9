"""Answers to reaction problems that copy all that is to be copied and know no chemistry: random cuts, random joins.

They teach a model from scratch to write and to copy molecules, as random play teaches the Game of 24's arithmetic, and leave to feedback
what is to be cut or joined.
"""

from __future__ import annotations

import random

from rdkit import Chem, rdBase


def cut_anywhere(smiles: str, rng: random.Random) -> str:
    """Cut one single bond that is in no ring, hydrogens on both ends; the parts in RDKit's canonical order, dots between them.

    A molecule without such a bond stays whole.

    Raises:
        ValueError: If RDKit cannot read the molecule.

    Example:
        >>> sorted({cut_anywhere("CCOC", random.Random(seed)) for seed in range(20)})
        ['C.CCO', 'C.COC', 'CC.CO']
    """
    mol = _read(smiles)
    bonds = [bond.GetIdx() for bond in mol.GetBonds() if bond.GetBondType() == Chem.BondType.SINGLE and not bond.IsInRing()]
    if not bonds:
        return Chem.MolToSmiles(mol)
    pieces = Chem.FragmentOnBonds(mol, [rng.choice(bonds)], addDummies=False)
    return _written(pieces) or Chem.MolToSmiles(mol)


def join_anywhere(smiles: str, rng: random.Random) -> str:
    """Join two of several molecules by a single bond between atoms that have a hydrogen to give; the others are left out.

    One molecule stays as it is.

    Raises:
        ValueError: If RDKit cannot read the molecules.

    Example:
        >>> sorted({join_anywhere("CO.CCl", random.Random(seed)) for seed in range(20)})
        ['COCCl', 'OCCCl']
    """
    mol = _read(smiles)
    atoms = [[i for i in piece if mol.GetAtomWithIdx(i).GetTotalNumHs()] for piece in Chem.GetMolFrags(mol)]
    atoms = [piece for piece in atoms if piece]
    if len(atoms) < 2:
        return Chem.MolToSmiles(mol)
    ends = [rng.choice(piece) for piece in rng.sample(atoms, 2)]
    joined = Chem.RWMol(mol)
    joined.AddBond(ends[0], ends[1], Chem.BondType.SINGLE)
    for end in ends:
        atom = joined.GetAtomWithIdx(end)
        atom.SetNumExplicitHs(max(0, atom.GetNumExplicitHs() - 1))
    piece = next(piece for piece in Chem.GetMolFrags(joined) if ends[0] in piece)
    for index in sorted(set(range(joined.GetNumAtoms())) - set(piece), reverse=True):
        joined.RemoveAtom(index)
    return _written(joined) or Chem.MolToSmiles(mol)


def _read(smiles: str) -> Chem.Mol:
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        raise ValueError(f"RDKit cannot read {smiles!r}")
    return mol


def _written(mol: Chem.Mol) -> str | None:
    """Canonical SMILES; None if it is no molecule any more (a tautomer's aromatic ring that lost its hydrogen)."""
    with rdBase.BlockLogs():
        read = Chem.MolFromSmiles(Chem.MolToSmiles(mol))
    return None if read is None else Chem.MolToSmiles(read)
