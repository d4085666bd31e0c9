import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from lit_symbolic.verifiers.molecules.functional_group_table import FUNCTIONAL_GROUPS, RING_CLASSES
from lit_symbolic.verifiers.molecules.functional_groups import group_matches, group_named, groups_asked_for


def names(description):
    return [group.name for group in groups_asked_for(description)]


def has(smiles, group):
    return len(group_matches(Chem.MolFromSmiles(smiles), group)) >= group.at_least


@pytest.mark.parametrize("group", FUNCTIONAL_GROUPS, ids=lambda group: group.name)
def test_each_pattern_finds_its_example_and_not_its_near_miss(group):
    assert has(group.present, group)
    assert not has(group.absent, group)


@pytest.mark.parametrize(
    ("name", "smiles"),
    [
        ("pyridine", "C1CCNCC1"),
        ("pyridine", "O=C1CCCCN1"),
        ("piperidine", "c1ccncc1"),
        ("piperidine", "C1CC=CCN1"),
        ("indole", "C1CCC2NCCC2C1"),
        ("pyrazole", "C1CNNC1"),
        ("triazole", "c1cc[nH]c1-c1cc[nH]c1-c1cc[nH]c1"),
        ("tetrazole", "c1c[nH]c(-c2ncc[nH]2)n1"),
        ("triazine", "c1ccc(nc1)-c1ncccn1"),
        ("benzyl", "N#Cc1ccccc1"),
        ("primary amine", "NS(C)(=O)=O"),
        ("secondary amine", "CNC(C)=S"),
        ("tertiary amine", "CN(C)C=O"),
        ("ether", "CC(=O)OC"),
        ("ether", "c1ccoc1"),
        ("thioether", "CC(=O)SC"),
        ("carboxylic acid", "CNC(=O)O"),
        ("carboxylic acid", "COC(=O)O"),
        ("methyl ester", "COC(=O)N(C)C"),
        ("secondary carboxamide", "CNC(N)=O"),
        ("imine", "CC(=N)N"),
        ("amidine", "CNC(=N)N"),
    ],
)
def test_a_name_is_not_met_by_what_is_called_otherwise(name, smiles):
    assert not has(smiles, group_named(name))


@pytest.mark.parametrize(
    ("name", "smiles"),
    [
        ("pyridine", "c1ccc2ncccc2c1"),  # a ring of a larger system
        ("pyridine", "O=c1cccc[nH]1"),
        ("pyridine", "C[n+]1ccccc1"),
        ("purine", "Nc1nc2nc[nH]c2c(=O)[nH]1"),
        ("pyrrolidine", "O=C(O)C1CCCN1"),
        ("triazine", "Nc1nnccn1"),
        ("triazole", "c1c[nH]nn1"),
        ("carboxylic acid", "O=CO"),
        ("carboxylic ester", "O=C1CCCO1"),
        ("tertiary amine", "C[NH+](C)C"),
        ("primary amine", "C[NH3+]"),
        ("secondary amine", "C1CCNCC1"),
        ("ether", "C1COCCO1"),
        ("imine", "C1CC=NC1"),
    ],
)
def test_a_name_is_met_by_each_of_its_kind(name, smiles):
    assert has(smiles, group_named(name))


def test_every_name_means_one_group_and_is_found_in_singular_and_plural():
    listed = [name for group in FUNCTIONAL_GROUPS for name in group.names]
    assert len(listed) == len(set(listed)) >= 200
    for group in FUNCTIONAL_GROUPS:
        for name in group.names:
            assert group_named(name) is group
            assert names(f"The molecule is a {name}.") == [group.name]
            assert names(f"It has three {name.removesuffix('s')}s.") == [group.name]
            assert names(f"It has a {name.upper()} there") == [group.name]


def test_a_class_of_rings_takes_in_the_saturated_ones():
    for group in RING_CLASSES:
        ring = Chem.MolFromSmiles(group.present)
        saturated = Chem.RWMol(ring)
        Chem.Kekulize(saturated, clearAromaticFlags=True)
        for bond in saturated.GetBonds():
            bond.SetBondType(Chem.BondType.SINGLE)
        for molecule in (group.present, Chem.MolToSmiles(saturated)):
            assert has(molecule, group), (group.name, molecule)
        assert not has(group.absent, group)
        aromatic = group_named(group.name.removeprefix("member of "))
        assert has(group.present, aromatic)
        assert not has(Chem.MolToSmiles(saturated), aromatic)


@pytest.mark.parametrize(
    ("description", "found"),
    [
        ("It is a lactone and a member of furans.", ["lactone", "member of furan"]),
        ("The molecule is a member of the class of 1,3-oxazoles that is a nitrile.", ["member of 1,3-oxazole", "nitrile"]),
        ("It has two furans.", ["furan"]),
        ("It is a furan.", ["furan"]),
    ],
)
def test_a_class_is_asked_for_as_one(description, found):
    assert names(description) == found


@pytest.mark.parametrize(
    ("description", "found"),
    [
        ("It is a carboxylic ester.", ["carboxylic ester"]),  # not also "ester"
        ("It has a trifluoromethyl group.", ["trifluoromethyl"]),  # not also "methyl"
        ("It is a primary alcohol and a secondary alcohol.", ["primary alcohol", "secondary alcohol"]),
        ("It is a nitrile, an ether and a member of phenols.", ["nitrile", "ether", "phenol"]),
        ("substituted by hydroxy groups at positions 3 and 7 and an oxo group at position 4", ["hydroxy", "oxo group"]),
        ("It is an ethereal, methylated aminoketone.", []),  # parts of words
        ("2-hydroxy-5-methyl-ester", []),  # parts of a name
        ("It is a monocarboxylic acid amide.", ["amide"]),
        ("It is an indole alkaloid.", []),
        ("It is a (hydroxy)ester.", []),
        ("It has no hydroxy group.", []),
        ("It is a ketone that lacks an aldehyde.", ["ketone"]),
        ("It derives from a benzoic acid with a nitro group.", []),
        ("It has a role as an inhibitor of carboxylic acid synthesis.", []),
        ("It is a conjugate base of an amine.", []),
        (
            "It is an amide obtained by condensation of the carboxy group of acetic acid with the amino group of a thiol.",
            ["amide"],
        ),
        ("It is butane in which a hydrogen is replaced by a nitro group.", ["nitro"]),
        ("", []),
    ],
)
def test_what_a_description_asks_for(description, found):
    assert names(description) == found


def test_two_acids_are_asked_for_by_a_dicarboxylic_acid():
    group = group_named("dicarboxylic acid")
    assert has("OC(=O)CC(=O)O", group)
    assert not has("CC(=O)O", group)


def test_an_unknown_name_is_an_error_that_says_where_the_names_are():
    with pytest.raises(ValueError, match=r"'flux capacitor'.*functional_group_table"):
        group_named("flux capacitor")


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from([*names("hydroxy ketone"), "no", ".", "replaced by", "(", "acid"])).map(" ".join)
)
def test_any_text_can_be_asked(description):
    assert len(set(names(description))) == len(names(description))
