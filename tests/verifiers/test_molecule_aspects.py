import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, rdBase

from lit_symbolic.certificate import Certificate, Problem, Status
from lit_symbolic.verifiers import Verifier
from lit_symbolic.verifiers.chemistry import KINDS, MoleculeGenerationVerifier
from lit_symbolic.verifiers.molecule_aspects import FunctionalGroupsVerifier, MoleculeSyntaxVerifier, ValenceVerifier
from lit_symbolic.verifiers.molecules.partial import read_part
from lit_symbolic.verifiers.molecules.reading import KEKULIZATION, read_molecule
from lit_symbolic.verifiers.molecules.smiles import SYNTAX_KINDS

TOOLS = (MoleculeSyntaxVerifier(), ValenceVerifier(), FunctionalGroupsVerifier())
PROBLEM = Problem("molecules", "0", "", {"groups": ["nitrile", "hydroxy"]})

PARTS = (*"CNOcno()=#12[].*", "C", "c1ccccc1", "(=O)", "[nH]", "C#N", "O", "Br", "%12", "F", "N(C)", "[C]", "[=C]", "[Xx]", " ")
answers = st.one_of(st.lists(st.sampled_from(PARTS), max_size=14).map("".join), st.text(max_size=30))


def correct(text):
    return tuple(tool.verify(PROBLEM, text).correct for tool in TOOLS)


def found(tool, text):
    return [(finding.kind, text[finding.start : finding.end], finding.start) for finding in tool.verify(PROBLEM, text).findings]


@pytest.mark.parametrize(
    ("text", "aspects"),
    [
        ("N#CCCO", (True, True, True)),
        ("N#CCCO)", (False, True, True)),
        ("N#CC(C)(C)(C)O", (True, False, True)),
        ("N#CCC", (True, True, False)),
        ("N#CC(C)(C)(C)C1", (False, False, False)),
        ("OC#C1cccc1", (True, False, False)),
        ("[N][#C][C][O]", (True, True, True)),
        ("[N][#C][Q]", (False, False, False)),
        ("N#C*CO", (False, True, True)),
        ("", (False, False, False)),
        ("C" * 6_000, (False, False, False)),
    ],
)
def test_each_tool_certifies_its_own_aspect(text, aspects):
    assert correct(text) == aspects


def test_a_wildcard_is_told_unless_the_reference_has_it():
    assert found(TOOLS[0], "N#C*CO") == [("unknown_atom", "*", 3)]
    assert TOOLS[0].verify(Problem("molecules", "0", "", {}, "N#C*CO"), "OC*C#N").correct
    assert not TOOLS[0].verify(Problem("molecules", "0", "", {}, "N#C*CO"), "O**C#N").correct


def test_a_fault_of_syntax_does_not_hide_an_earlier_one_of_valence():
    text = "CN(C)(C)(C)CC1CO"
    assert found(MoleculeGenerationVerifier(), text) == [("unclosed_ring", "1", 13)]
    assert found(TOOLS[0], text) == [("unclosed_ring", "1", 13)]
    assert found(TOOLS[1], text) == [("valence", "N", 1)]
    assert found(TOOLS[2], text) == [("missing_group", "", 16)]


def test_valences_are_judged_in_what_is_written_and_not_in_what_a_repair_would_make_of_it():
    for text in ("C=C=1C", "C(C", "CC(C)(C", "C1CC(C)(C", "c1ccc", "CC(", "CC=", "CC=1CC#N", "C[Xx]C(F)(F)(F)F"):
        assert found(TOOLS[1], text) == [], text
    assert found(TOOLS[1], "CF(C) and no more") == [("valence", "F", 1)]
    assert found(TOOLS[1], "C(F)(F)(F)(F)C(") == [("valence", "C", 0)]


@given(answers)
@settings(max_examples=150, deadline=None)
def test_any_answer_gets_certificates_with_spans_inside_it_and_the_same_ones_twice(text):
    for tool in TOOLS:
        certificate = tool.verify(PROBLEM, text)
        assert isinstance(certificate, Certificate)
        assert certificate.status == Status.OK
        assert certificate.correct or certificate.findings
        assert list(certificate.findings) == sorted(certificate.findings)
        assert all(finding.end <= len(text) and finding.kind in KINDS for finding in certificate.findings)
        assert tool.verify(PROBLEM, text) == certificate


@given(answers)
@settings(max_examples=150, deadline=None)
def test_what_all_three_certify_is_what_the_one_tool_certifies(text):
    assert all(correct(text)) == MoleculeGenerationVerifier().verify(PROBLEM, text).correct


@given(answers)
@settings(max_examples=100, deadline=None)
def test_the_one_tools_findings_are_found_by_one_of_the_three(text):
    theirs = {finding for tool in TOOLS for finding in tool.verify(PROBLEM, text).findings}
    assert set(MoleculeGenerationVerifier().verify(PROBLEM, text).findings) <= theirs


@given(st.lists(st.sampled_from(PARTS), max_size=12).map("".join), st.lists(st.sampled_from(PARTS), max_size=6).map("".join))
@settings(max_examples=150, deadline=None)
def test_a_valence_that_is_wrong_in_a_beginning_is_wrong_in_the_whole(beginning, rest):
    early = [f for f in ValenceVerifier("smiles").verify(PROBLEM, beginning).findings if f.kind == "valence"]
    whole = read_molecule(beginning + rest, "smiles")
    with rdBase.BlockLogs():
        syntax_holds = Chem.MolFromSmiles(beginning + rest, sanitize=False) is not None
    # A hydrogen, a ring number or a bond of the rest may follow the last atom: "F" may yet be "Fe" in no SMILES, but 1 may be 12.
    if early and syntax_holds and " " not in beginning + rest:
        assert not whole.valid, (beginning, rest)


def test_a_part_has_a_place_for_each_of_its_atoms():
    part = read_part(read_molecule("CC(N)1C(Br"))
    assert part.mol is None or part.mol.GetNumAtoms() == len(part.spans)
    text = "C=1C(Br)C[13CH2](O"
    part = read_part(read_molecule(text))
    assert [text[slice(*span)] for span in part.spans] == ["C", "C", "Br", "C", "[13CH2]", "O"]
    assert [atom.GetSymbol() for atom in part.mol.GetAtoms()] == ["C", "C", "Br", "C", "C", "O"]
    assert part.end == len(text)
    assert Chem.MolToSmiles(part.mol) == Chem.MolToSmiles(Chem.MolFromSmiles("CC(Br)C[13CH2]O", sanitize=False))


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: type(tool).__name__)
def test_a_tool_is_picklable_and_compared_by_its_settings(tool):
    assert isinstance(tool, Verifier)
    assert pickle.loads(pickle.dumps(tool)) == tool != type(tool)(notation="smiles")
    assert hash(tool) == hash(type(tool)())


def test_kinds_are_told_apart():
    assert KEKULIZATION not in SYNTAX_KINDS
    assert found(TOOLS[0], "c1cncc1") == []
    assert {kind for kind, _, _ in found(TOOLS[1], "c1cncc1")} == {KEKULIZATION}


def test_the_recipe_with_three_tools_names_them():
    recipe = (Path(__file__).parents[2] / "configs" / "molecules" / "ppo_three_tools.yaml").read_text()
    assert all(type(tool).__name__ in recipe for tool in TOOLS)
