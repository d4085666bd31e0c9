import random

import pytest
from rdkit import Chem

from lit_symbolic.tasks.generating.reaction_sketches import cut_anywhere, join_anywhere
from lit_symbolic.tasks.generating.reaction_table import draw_reaction


def heavy_atoms(smiles: str) -> int:
    return Chem.MolFromSmiles(smiles).GetNumHeavyAtoms()


def cuts_by_hand(smiles: str) -> set[str]:
    """Every single bond outside rings, cut in turn by RDKit's editable molecule."""
    mol = Chem.MolFromSmiles(smiles)
    found = set()
    for bond in mol.GetBonds():
        if bond.GetBondTypeAsDouble() == 1.0 and not bond.IsInRing():
            edited = Chem.RWMol(mol)
            edited.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
            Chem.SanitizeMol(edited)
            found.add(Chem.CanonSmiles(Chem.MolToSmiles(edited)))
    return found


def test_a_cut_is_one_of_all_cuts_and_each_is_made():
    for smiles in ("CC(=O)Nc1ccccc1", "OCC1CCN(C)CC1", "CC(C)(C)OC(=O)N1CCCC1"):
        drawn = {cut_anywhere(smiles, random.Random(seed)) for seed in range(200)}
        assert drawn == cuts_by_hand(smiles)


def test_a_join_has_all_atoms_of_two_molecules_and_one_bond_more():
    rng = random.Random(0)
    for _ in range(150):
        reactants = draw_reaction(rng).reactants
        joined = join_anywhere(reactants, rng)
        parts = reactants.split(".")
        assert Chem.CanonSmiles(joined) == joined
        if len(parts) == 2 and "." not in joined:
            assert heavy_atoms(joined) == heavy_atoms(reactants)
            assert Chem.MolFromSmiles(joined).GetNumBonds() == Chem.MolFromSmiles(reactants).GetNumBonds() + 1


def test_what_cannot_be_cut_or_joined_stays():
    assert cut_anywhere("c1ccccc1", random.Random(0)) == "c1ccccc1"
    assert join_anywhere("OCC", random.Random(0)) == "CCO"
    assert join_anywhere("FC(F)(F)F.CC", random.Random(0)) == "CC.FC(F)(F)F"  # one has no hydrogen to give


def test_of_three_molecules_two_are_joined():
    drawn = {join_anywhere("C.O.N", random.Random(seed)) for seed in range(50)}
    assert drawn == {"CO", "CN", "NO"}


@pytest.mark.parametrize("sketch", [cut_anywhere, join_anywhere])
def test_what_rdkit_cannot_read_is_named(sketch):
    with pytest.raises(ValueError, match="c1ccc"):
        sketch("c1ccc", random.Random(0))
