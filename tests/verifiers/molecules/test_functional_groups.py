import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from lit_symbolic.verifiers.molecules.functional_group_table import FUNCTIONAL_GROUPS
from lit_symbolic.verifiers.molecules.functional_groups import group_matches, group_named, groups_asked_for


def names(description):
    return [group.name for group in groups_asked_for(description)]


def has(smiles, group):
    return len(group_matches(Chem.MolFromSmiles(smiles), group)) >= group.at_least


@pytest.mark.parametrize("group", FUNCTIONAL_GROUPS, ids=lambda group: group.name)
def test_each_pattern_finds_its_example_and_not_its_near_miss(group):
    assert has(group.present, group)
    assert not has(group.absent, group)


def test_every_name_means_one_group_and_is_found_in_singular_and_plural():
    listed = [name for group in FUNCTIONAL_GROUPS for name in group.names]
    assert len(listed) == len(set(listed)) >= 200
    for group in FUNCTIONAL_GROUPS:
        for name in group.names:
            assert group_named(name) is group
            assert names(f"The molecule is a {name}.") == [group.name]
            assert names(f"It has three {name.removesuffix('s')}s.") == [group.name]
            assert names(f"It has a {name.upper()} there") == [group.name]


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
