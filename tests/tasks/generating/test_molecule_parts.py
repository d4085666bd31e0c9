import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from lit_symbolic.tasks.generating.molecule_parts import (
    ASKED,
    LINKERS,
    SCAFFOLDS,
    SUBSTITUENTS,
    Assembled,
    describe,
    draw_described,
    draw_molecule,
    has_group,
    joined,
)
from lit_symbolic.verifiers.molecules.functional_groups import group_named, groups_asked_for

DRAWN = [draw_described(random.Random(seed)) for seed in range(1_500)]


def test_parts_are_molecules_with_places_and_bring_groups_that_the_table_has():
    for parts, places in ((SCAFFOLDS, range(1, 4)), (SUBSTITUENTS, range(1, 2)), (LINKERS, range(2, 3))):
        for smiles, names in parts:
            assert Chem.MolFromSmiles(smiles) is not None
            assert smiles.count("*") in places
            assert [group_named(name).name for name in names] == list(names)


def test_every_group_is_asked_for_by_some_problem_and_none_by_too_many():
    named = Counter(name for found in DRAWN for name in found.groups)
    assert set(named) == set(ASKED)
    assert max(named.values()) < 0.2 * len(DRAWN)


def test_a_drawn_molecule_has_what_its_description_asks_for():
    for found in DRAWN[:500]:
        mol = Chem.MolFromSmiles(found.smiles)
        assert Chem.MolToSmiles(mol) == found.smiles
        assert "." not in found.smiles
        assert "*" not in found.smiles
        assert all(has_group(mol, name) for name in found.groups)
        assert mol.GetRingInfo().NumRings() == found.rings
        assert found.heavy_atoms[0] <= mol.GetNumHeavyAtoms() <= found.heavy_atoms[1] == found.heavy_atoms[0] + 3


def test_settings_bound_molecules_and_descriptions():
    rng = random.Random(0)
    found = [draw_described(rng, (1, 1), 6, 10) for _ in range(100)]
    assert {len(each.groups) for each in found} == {1}
    assert {each.heavy_atoms[1] - each.heavy_atoms[0] for each in found} == {5}
    assert max(Chem.MolFromSmiles(each.smiles).GetNumHeavyAtoms() for each in found) <= 10
    with pytest.raises(ValueError, match="at most 1 heavy atoms with 1 groups in 1000 draws; allow larger ones"):
        draw_molecule(rng, 1)


@given(st.integers(0, 10**9))
@settings(max_examples=50, deadline=None)
def test_a_description_names_its_groups_in_words_that_the_verifiers_own_reader_understands(seed):
    rng = random.Random(seed)
    found = draw_described(rng)
    text = describe(found, rng)
    assert {group.name for group in groups_asked_for(text)} == set(found.groups), text
    assert all(str(number) in text for number in found.heavy_atoms)


def test_one_question_is_asked_in_several_ways_and_its_normal_form_is_the_same():
    found = DRAWN[0]
    other = Assembled(found.groups[::-1], found.rings, found.heavy_atoms, "C")
    assert other.key == found.key
    assert len({describe(found, random.Random(seed)) for seed in range(100)}) > 20


def test_atoms_that_do_not_belong_together_are_not_bound():
    assert joined("*N1CCOCC1", ["*O"]) is None
    assert Chem.MolToSmiles(joined("*N1CCOC(*)C1", ["*CO", "*OC"])) == "COC1CN(CO)CCO1"
    assert Chem.MolToSmiles(joined("*c1ccc(*)cc1", ["", ""])) == "c1ccccc1"


def test_problems_seldom_repeat():
    # 100,000 different ones came in 167,216 draws, counted once; n^2 / 2k for k repetitions in n draws is less than there are,
    # since draws that are not uniform repeat more often.
    draws = len(DRAWN)
    repeated = draws - len({found.key for found in DRAWN})
    assert draws**2 / (2 * repeated) > 30_000
