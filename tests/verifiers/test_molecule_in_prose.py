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
        ("`CCO`", "CCO"),
        ("<SMILES>CCO</SMILES>", "CCO"),
        ("**CCO**", "CCO"),
        ('"CCO"', "CCO"),
        ("CCO.", "CCO"),
        ("Answer:CCO", "CCO"),
        ("**Answer:** CCO", "CCO"),
        ("$CCO$", "CCO"),
        ("CCO<|im_end|>", "CCO"),
        ("<b>CCO</b>", "CCO"),
        ("The SMILES (CCO)", "CCO"),
        ("It is (CC(C)), I think", "CC(C)"),
        ("It is **(C(C)O)**.", "C(C)O"),
        ("Salt:[Na+].[Cl-]", "[Na+].[Cl-]"),
        ("(see [Na+].[Cl-])", "[Na+].[Cl-]"),
        ("See [NH4+].", "[NH4+]"),
        ("Try [[NH4+]] or $[NH4+]$", "[NH4+]"),
        ("Say C(C) now", "C(C)"),
        ("CC(=O)O)", "CC(=O)O)"),
        ("It is (CCO)O.", "(CCO)O"),
        ("It is [CCO.", "[CCO"),
        ("It is **C1CC(=O**.", "C1CC(=O"),
        ("CCO\n\nReactants: CCCCO.CC(=O)Cl\nProduct: `CC(=O)OCCCC`", "CCO"),
        ("\n CCO \nReactants: CCCCO", "CCO"),
        ("Answer:\nCCO\nReactants: C", "CCO"),
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


WRAPPED = (
    "{}",
    "`{}`",
    "**{}**",
    "({})",
    '"{}"',
    "{}.",
    "Answer:{}",
    "$({})$",
    "<SMILES>{}</SMILES>",
    "It is **{}**!",
    "[{}]",
    "{}\n\nand so on",
)


@given(
    st.lists(
        st.sampled_from([*"CNO", "C(C)", "[Na+]", "[NH4+]", ".", "=O", "c1ccccc1", "F(C)", "(C)(C)(C)"]), min_size=1, max_size=6
    )
    .map("".join)
    .filter(lambda molecule: len(molecule) > 1 and MoleculeVerifier().verify(PROBLEM, molecule).correct),
    st.sampled_from(WRAPPED),
)
@settings(max_examples=200, deadline=None)
def test_what_encloses_a_molecule_is_taken_off_and_nothing_of_the_molecule(molecule, wrapped):
    text = wrapped.format(molecule)
    start, end = molecule_span(text)
    assert text[start:end] == molecule


@pytest.mark.parametrize(
    "wrapped", ["`{}`", "<SMILES>{}</SMILES>", "```\n{}\n```", "The answer is **{}**.", '"{}"', "It is {}, yes"]
)
@pytest.mark.parametrize("molecule", ["CN(C)(C)(C)C", "CC1CC(=O", "C[Xx]CC(=O)O", "CC(=O)OCF(C)"])
def test_a_finding_stands_at_the_same_character_with_and_without_the_prose(molecule, wrapped):
    text = wrapped.format(molecule)
    alone = MoleculeVerifier().verify(PROBLEM, molecule).findings
    inside = VERIFIER.verify(PROBLEM, text).findings
    assert alone
    place = text.index(molecule)
    assert [(each.start - place, each.end - place, each.kind) for each in inside] == [
        (each.start, each.end, each.kind) for each in alone
    ]


def test_wildcards_of_a_reference_are_part_of_the_molecule():
    for text in ("*CC(=O)O", "The molecule is *CC(=O)O."):
        assert VERIFIER.verify(Problem("molecules", "0", "", {}, "*CC(=O)O"), text).correct
        assert not VERIFIER.verify(PROBLEM, text).correct


def test_a_long_answer_is_not_searched():
    text = "word " * 10_000
    assert molecule_span(text) == (0, len(text))


def test_it_is_picklable():
    assert pickle.loads(pickle.dumps(VERIFIER)) == VERIFIER
