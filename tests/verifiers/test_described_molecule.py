import pickle
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.verifiers import Verifier
from lit_symbolic.verifiers.described_molecule import KINDS, DescribedMoleculeVerifier, ring_closures, rings_of

VERIFIER = DescribedMoleculeVerifier(must_match=False)
PARTS = (*"CNOcno()=#12.", "C", "c1ccccc1", "(=O)", "[nH]", "Br", "[H]", "%12", "[13CH3]", "[C][C]", "[Ring1]", "[=C]")

ATOM = re.compile(r"\[(?!H\])[^\]]*\]|Br|[CNOcno]")


def asked(reference=None, **facts):
    return Problem("molecules", "0", "", facts, reference)


def found(text, reference=None, verifier=VERIFIER, **facts):
    certificate = verifier.verify(asked(reference, **facts), text)
    return [(finding.kind, text[finding.start : finding.end], finding.start) for finding in certificate.findings]


def test_a_molecule_as_large_as_asked_for_is_right():
    for atoms in range(1, 9):
        right = 3 <= atoms <= 5
        certificate = VERIFIER.verify(asked(heavy_atoms=(3, 5)), "C" * atoms)
        assert certificate.correct == right
        assert certificate.measures["size_right"] == float(right)


def test_the_first_atom_that_is_one_too_many_is_where_it_grew_too_large():
    assert found("CC(=O)NC", heavy_atoms=(1, 3)) == [("too_many_atoms", "NC", 6)]
    assert found("[13CH3]C[O-]", heavy_atoms=(1, 2)) == [("too_many_atoms", "[O-]", 8)]
    assert found("[C][C][Branch1][C][O][N]", heavy_atoms=(1, 3)) == [("too_many_atoms", "[N]", 21)]
    assert found("CC", heavy_atoms=(3, 5)) == [("too_few_atoms", "", 2)]


def test_wildcards_solve_no_description():
    facts = {"groups": ["nitro", "hydroxy"], "heavy_atoms": (10, 13), "rings": 1, "molecules": 1}
    text = "O**1*****1[N+](=O)[O-]"
    assert found(text, **facts) == [("unknown_atom", "*", place) for place in (1, 2, 4, 5, 6, 7, 8)]
    assert VERIFIER.verify(asked(**facts), text).score == 0.0


def test_hydrogens_that_are_written_are_no_heavy_atoms():
    assert found("[H]C([H])([H])C", heavy_atoms=(2, 2)) == []
    assert found("[H]C([H])([H])CO", heavy_atoms=(2, 2)) == [("too_many_atoms", "O", 15)]


def test_the_ring_number_that_closes_one_too_many_is_pointed_at():
    assert found("C1CC1C2CC2C%13CC%13", rings=1) == [("too_many_rings", "2", 9), ("too_many_rings", "%13", 16)]
    assert found("C1CC1", rings=2) == [("too_few_rings", "", 5)]
    assert found("C1CC1", rings=1) == []
    assert found("[C][C][C][Ring1][Ring1]", rings=0) == [("too_many_rings", "", 23)]


def test_a_dot_begins_another_molecule():
    assert found("CC.O.N", molecules=1) == [("several_molecules", ".", 2), ("several_molecules", ".", 4)]
    assert found("CC.O", molecules=2) == []
    assert found("C1CC.C1", molecules=1) == [], "the ring number joins them"


def test_what_the_facts_do_not_give_is_not_checked():
    certificate = VERIFIER.verify(asked(), "C.C1CC1")
    assert certificate.correct
    assert "size_right" not in certificate.measures


def test_a_missing_group_has_no_place_unless_the_answer_must_be_the_reference():
    facts = {"groups": ["nitrile"]}
    assert found("CCOC", "N#CCOC", **facts) == [("missing_group", "", 4)]
    placed = found("CCOC", "N#CCOC", DescribedMoleculeVerifier(), **facts)
    assert placed[0][0] == "missing_group"
    assert placed[0][2] < 4


def test_a_wrong_answer_scores_by_the_checks_that_it_passes():
    certificate = VERIFIER.verify(asked(groups=["hydroxy", "nitrile"], heavy_atoms=(2, 4), rings=0, molecules=1), "CCCCO")
    assert certificate.score == pytest.approx(3 / 5)
    assert certificate.measures["checks_passed"] == pytest.approx(3 / 5)
    assert certificate.measures["groups_found"] == 0.5
    assert certificate.measures["size_right"] == pytest.approx(2 / 3)


@given(st.lists(st.sampled_from(PARTS), max_size=14).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_answer_has_spans_inside_it_and_what_stands_before_the_first_can_be_right(text):
    problem = asked(groups=["hydroxy"], heavy_atoms=(2, 6), rings=1, molecules=1)
    certificate = VERIFIER.verify(problem, text)
    assert isinstance(certificate, Certificate)
    assert certificate.correct or certificate.findings
    assert all(finding.end <= len(text) and finding.kind in KINDS for finding in certificate.findings)
    for finding in certificate.findings:
        if finding.kind == "too_many_atoms" and "][" not in text:
            assert len(ATOM.findall(text[: finding.start])) == 6


@given(st.lists(st.sampled_from(["C", "C1", "C2", "N", "(C)", "%12", "=C"]), max_size=12).map("".join))
@settings(max_examples=200, deadline=None)
def test_ring_numbers_that_close_are_as_many_as_the_rings(text):
    mol = Chem.MolFromSmiles(text)
    if mol is not None and text:
        assert len(ring_closures(text, 0, len(text))) == rings_of(mol)


def test_it_is_picklable_and_hashable():
    assert isinstance(VERIFIER, Verifier)
    assert pickle.loads(pickle.dumps(VERIFIER)) == VERIFIER
    assert hash(VERIFIER) == hash(DescribedMoleculeVerifier(must_match=False))
