import random
from collections import Counter

import pytest
from rdkit import Chem

from lit_symbolic.certificate import Problem
from lit_symbolic.tasks.generating.reaction_table import TABLE, draw_reaction, product_of
from lit_symbolic.verifiers.chemistry import ForwardSynthesisVerifier, RetrosynthesisVerifier

BY_NAME = {kind.name: kind for kind in TABLE}

KNOWN = [
    ("amide coupling", ["CC(=O)O", "NCC"], "CCNC(C)=O"),
    ("esterification", ["OC(=O)c1ccccc1", "OCC"], "CCOC(=O)c1ccccc1"),
    ("Suzuki coupling", ["Brc1ccccc1", "OB(O)c1ccncc1"], "c1ccc(-c2ccncc2)cc1"),
    ("reductive amination", ["O=Cc1ccccc1", "C1CCNCC1"], "c1ccc(CN2CCCCC2)cc1"),
    ("N-arylation (SNAr)", ["Fc1ccc([N+](=O)[O-])cc1", "NCC"], "CCNc1ccc([N+](=O)[O-])cc1"),
    ("Boc removal", ["CC(C)(C)OC(=O)N1CCOCC1"], "C1COCCN1"),
    ("Boc protection", ["C1COCCN1", "CC(C)(C)OC(=O)OC(=O)OC(C)(C)C"], "CC(C)(C)OC(=O)N1CCOCC1"),
    ("ester hydrolysis", ["COC(=O)CCC"], "CCCC(=O)O"),
    ("Williamson ether synthesis", ["Oc1ccccc1", "BrCC"], "CCOc1ccccc1"),
    ("Mitsunobu ether synthesis", ["Oc1ccccc1", "OC(C)C"], "CC(C)Oc1ccccc1"),
    ("nitro reduction", ["O=[N+]([O-])c1ccccc1"], "Nc1ccccc1"),
    ("sulfonamide formation", ["CS(=O)(=O)Cl", "NC"], "CNS(C)(=O)=O"),
    ("Buchwald-Hartwig amination", ["Brc1ccccc1", "C1CCNC1"], "c1ccc(N2CCCC2)cc1"),
    ("alcohol oxidation", ["OCCC"], "CCC=O"),
    ("Grignard addition", ["O=CC", "Br[Mg]CC"], "CCC(C)O"),
    ("Sonogashira coupling", ["Ic1ccccc1", "C#CC"], "CC#Cc1ccccc1"),
    ("urea formation", ["O=C=NC", "NCC"], "CCNC(=O)NC"),
    ("acylation with an acid chloride", ["CC(=O)Cl", "Nc1ccccc1"], "CC(=O)Nc1ccccc1"),
    ("ketone reduction", ["CC(=O)CC"], "CCC(C)O"),
    ("benzyl ether removal", ["c1ccccc1COc1ccncc1"], "Oc1ccncc1"),
    ("benzylic bromination", ["OCc1ccccc1"], "BrCc1ccccc1"),
    ("chlorination of an acid", ["CCC(=O)O"], "CCC(=O)Cl"),
]


@pytest.mark.parametrize(("name", "reactants", "product"), KNOWN, ids=[name for name, *_ in KNOWN])
def test_each_class_makes_what_a_textbook_says(name, reactants, product):
    assert product_of(BY_NAME[name], reactants) == Chem.CanonSmiles(product)


def test_every_class_of_the_table_is_known_and_there_are_more_than_twelve():
    assert {name for name, *_ in KNOWN} == set(BY_NAME)
    assert len(TABLE) >= 12


def test_what_gives_several_products_or_none_gives_no_reaction():
    assert product_of(BY_NAME["nitro reduction"], ["Cc1cc([N+](=O)[O-])cc([N+](=O)[O-])c1C(C)C"]) is None
    assert product_of(BY_NAME["amide coupling"], ["OC(=O)CCN", "NCC"]) == "CCNC(=O)CCN"
    assert product_of(BY_NAME["nitro reduction"], ["c1ccccc1"]) is None


def test_drawn_reactions_pass_their_own_verifiers_in_both_directions():
    rng = random.Random(0)
    for _ in range(100):
        drawn = draw_reaction(rng)
        facts = {"reactants": drawn.reactants, "reagents": drawn.reagents, "product": drawn.product}
        # Without a reference: what the checks alone say. Reagents may give atoms in a few classes (bromination, chlorination).
        assert ForwardSynthesisVerifier().verify(Problem("t", "0", "", facts), drawn.product).correct, drawn.key
        certificate = RetrosynthesisVerifier().verify(Problem("t", "0", "", facts, drawn.reactants), drawn.reactants)
        assert certificate.correct
        assert all(Chem.CanonSmiles(side) == side for side in (drawn.reactants, drawn.product))


def test_all_classes_are_drawn_and_nearly_all_reactions_are_different():
    rng = random.Random(1)
    reactions = [draw_reaction(rng) for _ in range(500)]
    assert set(Counter(reaction.kind.name for reaction in reactions)) == set(BY_NAME)
    assert len({reaction.key for reaction in reactions}) > 450
    assert [draw_reaction(random.Random(2)).key for _ in range(2)] == [draw_reaction(random.Random(2)).key] * 2


def test_a_class_without_reactions_is_told():
    with pytest.raises(ValueError, match="no unambiguous reaction in"):
        draw_reaction(random.Random(0), (BY_NAME["nitro reduction"].__class__("none", 1, "[Xe:1]>>[Xe:1]", ("{aryl}",)),))
