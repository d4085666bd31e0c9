import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.certificate import Problem
from lit_symbolic.verifiers.chemistry import MoleculeVerifier
from lit_symbolic.verifiers.molecule_in_prose import MoleculeInProse, molecule_span

VERIFIER = MoleculeInProse(MoleculeVerifier())
PROBLEM = Problem("molecules", "0", "")


@pytest.mark.parametrize(
    ("text", "molecule"),
    [
        ("CCO", "CCO"),
        (" CCO\n", " CCO\n"),
        ("The molecule is CCO.", "CCO"),
        ('I would say "CC(=O)Nc1ccccc1", which has a benzene ring.', "CC(=O)Nc1ccccc1"),
        ("SMILES: CC(=O)[O-].[Na+]", "CC(=O)[O-].[Na+]"),
        ("First `CC`, better `CCN`.", "CCN"),
        ("```smiles\nCC#N\n```\nCyanides are toxic: C#N", "CC#N\n"),
        ("<SMILES>CCBr</SMILES> it is", "CCBr"),
        ("Try [C][C][=O] and see", "[C][C][=O]"),
        ("It is C1CC(=O, I think", "C1CC(=O"),
        ("No such molecule exists", "No such molecule exists"),
        ("", ""),
    ],
)
def test_the_molecule_is_found(text, molecule):
    start, end = molecule_span(text)
    assert text[start:end] == molecule


def test_findings_stand_at_their_place_in_the_whole_answer():
    text = "The answer is CN(C)(C)(C)C, of course."
    certificate = VERIFIER.verify(PROBLEM, text)
    assert [text[finding.start : finding.end] for finding in certificate.findings] == ["N"]
    assert VERIFIER.verify(PROBLEM, "The answer is CN(C)C, of course.").correct


@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(["CCO", "`", "```\n", " ", "C1", "is", "\n", "."])).map("".join)))
@settings(max_examples=200, deadline=None)
def test_any_answer_has_findings_inside_it(text):
    certificate = VERIFIER.verify(PROBLEM, text)
    start, end = molecule_span(text)
    assert 0 <= start <= end <= len(text)
    assert all(start <= finding.start <= finding.end <= end for finding in certificate.findings)
    assert certificate.correct == MoleculeVerifier().verify(PROBLEM, text[start:end]).correct


def test_a_long_answer_is_not_searched():
    text = "word " * 10_000
    assert molecule_span(text) == (0, len(text))


def test_it_is_picklable():
    assert pickle.loads(pickle.dumps(VERIFIER)) == VERIFIER
