import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem
from rdkit.Chem import Fragments

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


RDKIT_COUNTS = {
    "aldehyde": Fragments.fr_aldehyde,
    "amidine": Fragments.fr_amidine,
    "azide": Fragments.fr_azide,
    "carboxylic acid": Fragments.fr_COO,
    "carboxylic ester": Fragments.fr_ester,
    "ether": Fragments.fr_ether,
    "ethyl ester": Fragments.fr_ester,
    "furan": Fragments.fr_furan,
    "guanidine": Fragments.fr_guanido,
    "hydrazone": Fragments.fr_hdrzone,
    "imidazole": Fragments.fr_imidazole,
    "imine": Fragments.fr_Imine,
    "isocyanate": Fragments.fr_isocyan,
    "lactone": Fragments.fr_lactone,
    "methyl ester": Fragments.fr_ester,
    "morpholine": Fragments.fr_morpholine,
    "nitrile": Fragments.fr_nitrile,
    "nitro": Fragments.fr_nitro,
    "oxazole": Fragments.fr_oxazole,
    "piperazine": Fragments.fr_piperzine,
    "piperidine": Fragments.fr_piperdine,
    "pyridine": Fragments.fr_pyridine,
    "sulfonamide": Fragments.fr_sulfonamd,
    "tetrazole": Fragments.fr_tetrazole,
    "thiazole": Fragments.fr_thiazole,
    "thiophene": Fragments.fr_thiophene,
    "urea": Fragments.fr_urea,
}


def test_a_group_that_is_asked_for_is_one_by_rdkits_own_counts():
    counted = Counter()
    for found in DRAWN:
        mol = Chem.MolFromSmiles(found.smiles)
        for name in set(found.groups) & set(RDKIT_COUNTS):
            counted[name] += 1
            assert RDKIT_COUNTS[name](mol), (name, found.smiles)
    assert set(counted) == set(RDKIT_COUNTS)


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


def test_questions_have_one_normal_form_exactly_if_the_same_molecules_answer_them():
    def demanded(found):
        return {(group_named(name).smarts, group_named(name).at_least) for name in found.groups}, found.rings, found.heavy_atoms

    by_key = {}
    for found in DRAWN:
        assert by_key.setdefault(found.key, demanded(found)) == demanded(found)
        assert len(demanded(found)[0]) == len(found.groups), "none is named twice"
    assert len({repr(sorted(groups)) + repr(size) for groups, *size in by_key.values()}) == len(by_key)
    assert Assembled(("benzene", "nitro"), 1, (9, 12), "").key == Assembled(("nitro", "phenyl"), 1, (9, 12), "").key


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
