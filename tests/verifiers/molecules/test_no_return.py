import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from lit_symbolic.certificate import Problem
from lit_symbolic.verifiers.described_molecule import DescribedMoleculeVerifier
from lit_symbolic.verifiers.molecule_aspects import MoleculeSyntaxVerifier, ValenceVerifier
from lit_symbolic.verifiers.molecules.no_return import placed
from lit_symbolic.verifiers.molecules.reading import read_molecule

PROBLEM = Problem("molecules", "0", "")
PARTS = (*"CNOcno()=#12", "C", "c1ccccc1", "(=O)", "[nH]", "Br", "F", "N(C)", "[NH4]", "[C][=C]", " ", "x")
answers = st.one_of(st.lists(st.sampled_from(PARTS), max_size=14).map("".join), st.text(max_size=20))


def at(text):
    found = placed(text, read_molecule(text).findings, "no_return")
    return [(finding.kind, finding.start, text[finding.start : finding.end]) for finding in found]


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("C1CC(C", [("unbalanced_branch", 6, ""), ("unclosed_ring", 6, "")]),
        ("CC)C", [("unbalanced_branch", 2, ")")]),
        ("(CC", [("unbalanced_branch", 0, "("), ("unbalanced_branch", 0, "(")]),
        ("CC(C)(C)(C)O", [("valence", 11, "O")]),
        ("FC1CC(F)(F)C(C)1(F)F", [("valence", 19, "F")]),
        ("C1CF1", [("valence", 4, "1")]),
        ("CC=F", [("valence", 3, "F")]),
        ("[NH3]C", [("valence", 5, "C")]),
        ("[NH4]C", [("valence", 0, "[NH4]")]),
        ("C[CH4]", [("valence", 1, "[CH4]")]),
        ("CCc1cncc1CC", [("kekulization", 7, "c1")]),
        ("cC", [("kekulization", 0, "c")]),
        ("CX", [("unknown_atom", 1, "X")]),
        ("[C][Q]", [("unknown_symbol", 3, "[Q]")]),
        ("CCO", []),
    ],
)
def test_a_fault_stands_where_nothing_could_mend_it_any_more(text, places):
    assert at(text) == places


@given(answers)
@settings(max_examples=150, deadline=None)
def test_kinds_stay_and_places_lie_in_the_answer_and_not_before_the_culprit(text):
    found = read_molecule(text).findings
    moved = placed(text, found, "no_return")
    assert {finding.kind for finding in moved} == {finding.kind for finding in found}
    assert list(moved) == sorted(moved)
    assert all(finding.end <= len(text) for finding in moved)
    assert not found or min(moved) >= min(found) or min(moved).start >= min(found).start
    assert placed(text, found, "culprit") == tuple(found)


BEGINNINGS = [
    (molecule[:cut], molecule)
    for molecule in ("CC(=O)Nc1ccc(O)cc1", "C1CC2CCC1C2", "c1ccc2[nH]ccc2c1", "O=[N+]([O-])c1ccccc1Br", "CN(C)CCC(F)(F)F")
    for cut in range(1, len(molecule))
]


@pytest.mark.parametrize(("beginning", "whole"), BEGINNINGS)
def test_the_beginning_of_a_right_molecule_has_no_fault_before_its_end(beginning, whole):
    assert Chem.MolFromSmiles(whole) is not None
    for verifier in (DescribedMoleculeVerifier(places="no_return"), MoleculeSyntaxVerifier(places="no_return")):
        for finding in verifier.verify(PROBLEM, beginning).findings:
            # A ring that is not aromatic yet, or a token cut in two, shows at the last characters.
            assert finding.end == len(beginning) or finding.kind == "kekulization", (finding, beginning)


def test_verifiers_take_the_places_as_a_setting():
    text = "C1CC(C)(C)(C)C"
    assert [finding.start for finding in DescribedMoleculeVerifier().verify(PROBLEM, text).findings] == [1]
    assert [finding.start for finding in DescribedMoleculeVerifier(places="no_return").verify(PROBLEM, text).findings] == [14]
    assert [finding.start for finding in MoleculeSyntaxVerifier(places="no_return").verify(PROBLEM, text).findings] == [14]
    assert [finding.start for finding in ValenceVerifier(places="no_return").verify(PROBLEM, text).findings] == [13]
