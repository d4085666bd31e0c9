import pickle
import subprocess
import sys

import pytest
from rdkit import Chem

from lit_symbolic.certificate import Problem, Status
from lit_symbolic.verifiers import Verifier
from lit_symbolic.verifiers.chemistry import (
    KINDS,
    ForwardSynthesisVerifier,
    MoleculeGenerationVerifier,
    MoleculeVerifier,
    RetrosynthesisVerifier,
)
from lit_symbolic.verifiers.pool import VerifierPool

VERIFIERS = (MoleculeVerifier, MoleculeGenerationVerifier, ForwardSynthesisVerifier, RetrosynthesisVerifier)
ANY = Problem("smiles", "0", "")


def found(certificate, text):
    return [(finding.kind, text[finding.start : finding.end]) for finding in certificate.findings]


def verify(text, reference=None, verifier=None, **facts):
    certificate = (verifier or MoleculeVerifier()).verify(Problem("t", "0", "", facts, reference), text)
    assert all(finding.kind in KINDS for finding in certificate.findings)
    return certificate


# --- valid molecules ---


@pytest.mark.parametrize(
    "text", ["CCO", " CCO\n", "c1ccccc1", "[Na+].[Cl-]", "[C][C][O]", "[C][=C][Branch1][C][O][C]", "[2H]O[2H]", "[H][H]"]
)
def test_a_valid_molecule_is_correct_without_a_reference(text):
    assert verify(text).correct
    assert verify(text).measures == {"validity": 1.0}


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("CC(C)(C)(C)C", [("valence", "C")]),
        ("CF(C)", [("valence", "F")]),
        ("[CH3:1][C:12](C)(C)(C)[CH3:3]", [("valence", "[C:12]")]),
        ("C[C:2:3]", [("bad_bracket", ":3")]),
        ("C[NH4]", [("valence", "[NH4]")]),
        ("O=O=O.CN(C)(C)C", [("valence", "O"), ("valence", "N")]),
        ("cc", [("kekulization", "c"), ("kekulization", "c")]),
        ("Cc1cncc1", [("kekulization", atom) for atom in "ccncc"]),
        ("CC1=oC=CC1", [("valence", "o")]),
        ("", [("empty", "")]),
        ("  ", [("empty", "")]),
        ("CCO is it", [("syntax", " is it")]),
        ("CCO |name|", [("syntax", " |name|")]),
        ("C\0C", [("syntax", "\0")]),
        ("CCé", [("unknown_atom", "é")]),
        ("CC\ud800", [("syntax", "\ud800")]),
        ("[C][Xx][O][=C]", [("unknown_symbol", "[Xx]")]),
        ("[C][*H99999]", [("unknown_symbol", "[*H99999]")]),
        ("C[CH99999]", [("bad_bracket", "99999")]),
        ("C[#9999]", [("bad_bracket", "9999")]),
    ],
)
def test_what_is_not_valid_has_findings_at_its_characters(text, findings):
    certificate = verify(text)
    assert found(certificate, text) == findings
    assert (certificate.correct, certificate.score, certificate.measures["validity"]) == (False, 0.0, 0.0)
    assert certificate.status == Status.OK


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("*CC", [("unknown_atom", "*")]),
        ("CC([2*:1])[#0]O", [("unknown_atom", "[2*:1]"), ("unknown_atom", "[#0]")]),
        ("*1C", [("unknown_atom", "*"), ("unclosed_ring", "1")]),
        ("*CF(C)", [("unknown_atom", "*"), ("valence", "F")]),
        ("*CCO is **it**", [("unknown_atom", "*"), ("syntax", " is **it**")]),
        ("*" * 90, [("unknown_atom", "*")] * 40),
    ],
)
def test_a_wildcard_is_no_atom_of_an_answer(text, findings):
    certificate = verify(text)
    assert found(certificate, text) == findings
    assert (certificate.correct, certificate.measures["validity"]) == (False, 0.0)
    assert not verify(text, "CCO", MoleculeVerifier(must_match=False)).correct
    assert [each for each in found(verify(text, "CCO"), text) if each[0] == "unknown_atom"]


def test_a_reference_with_wildcards_allows_as_many():
    assert verify("C(*)C#N", "*CC#N").correct
    assert verify("*CC#N", "[1*]CC#N").measures["validity"] == 1.0
    assert found(verify("*CC(*)#N", "*CC#N"), "*CC(*)#N") == [("valence", "C"), ("unknown_atom", "*")]
    assert not verify("**1**1C#N", "*CC#N", MoleculeGenerationVerifier(must_match=False), groups=["nitrile"]).correct
    assert verify("*CC#N", "*CC#N", MoleculeGenerationVerifier(must_match=False), groups=["nitrile"]).correct
    assert forward("CC(=O)N*", "CC(=O)Cl.N*", "CC(=O)N*").correct
    assert retro("*N.CC(=O)Cl", "CC(=O)N*", "CC(=O)Cl.N*").correct


def test_a_wildcard_that_is_put_in_is_no_product_of_its_own():
    assert found(forward("*", "CC(=O)Cl.N*"), "*") == [("unknown_atom", "*")]


def test_the_message_says_what_would_mend_a_ring():
    messages = {finding.start: finding.message for finding in verify("Cc1cncc1").findings}
    assert "[nH] here would mend it" in messages[4]


def test_a_long_answer_is_rejected_unread():
    certificate = verify("C" * 5_001)
    assert (certificate.status, certificate.score) == (Status.REJECTED, 0.0)
    assert [(finding.kind, finding.start, finding.end) for finding in certificate.findings] == [("too_long", 0, 5_001)]
    assert MoleculeVerifier(max_characters=6_000).verify(ANY, "C" * 5_001).correct


def test_the_notation_can_be_fixed():
    assert not verify("[C][=C]", verifier=MoleculeVerifier(notation="smiles")).correct
    assert not verify("CCO", verifier=MoleculeVerifier(notation="selfies")).correct
    assert verify("[C][C][O]", "CCO").correct
    assert not verify("[C][C][O]", "CCO", MoleculeVerifier(notation="smiles")).correct
    assert verify("[NH4+][Cl-]").correct == (Chem.MolFromSmiles("[NH4+][Cl-]") is not None)


# --- a reference ---


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        ("OCC", "CCO", True),
        ("C1=CC=CC=C1", "c1ccccc1", True),
        ("[CH3:1][OH:2]", "CO", True),
        ("CO", "[CH3:1][OH:2]", True),
        ("[CH3:1][C@H](O)[CH3:2]", "CC(C)O", True),
        ("[CH3:1]/C=C(/C)[CH3:2]", "CC=C(C)C", True),
        ("[CH3:1][C@H:4](F)[Cl:2]", "C[C@@H](F)Cl", False),
        ("O.CC", "CC.O", True),
        ("CC", "CC.CC", False),
        ("C[C@H](F)Cl", "C[C@@H](F)Cl", False),
        ("CCN", "CCO", False),
    ],
)
def test_the_same_molecule_as_the_reference_is_correct(answer, reference, same):
    certificate = verify(answer, reference)
    assert certificate.correct == same
    assert certificate.measures["exact"] == same
    if not same:
        assert [(finding.kind, finding.start, finding.end) for finding in certificate.findings] == [("goal", 0, len(answer))]
        assert 0 < certificate.score < 1


def test_stereo_can_be_left_out_of_the_comparison():
    blind = MoleculeVerifier(stereo=False)
    assert verify("C[C@H](F)Cl", "C[C@@H](F)Cl", blind).correct
    assert verify("[H]/N=C(/C)CC", "CCC(C)=N", blind).correct
    assert verify("F/C=C/F", "F/C=C\\F", blind).correct
    for answer in ("[13CH3]C(F)Cl", "CC([2H])(F)Cl", "C[C@H](F)[35Cl]"):
        assert not verify(answer, "C[C@@H](F)Cl", blind).correct
        assert verify(answer, answer, blind).correct


def test_another_molecule_can_be_allowed():
    certificate = verify("CCN", "CCO", MoleculeVerifier(must_match=False))
    assert certificate.correct
    assert certificate.measures["exact"] == 0.0


def test_measures_of_valid_and_invalid_answers():
    valid, invalid = verify("CCN", "CCO").measures, verify("CC(", "CCO").measures
    assert valid.keys() - invalid.keys() == {"maccs_tanimoto", "rdk_tanimoto", "morgan_tanimoto"}
    assert (invalid["validity"], invalid["exact"], invalid["levenshtein"]) == (0.0, 0.0, 1.0)
    assert verify("CCO", "OCC").measures["morgan_tanimoto"] == 1.0
    quick = verify("CCN", "CCO", MoleculeVerifier(all_measures=False)).measures
    assert valid.keys() - quick.keys() == {"maccs_tanimoto", "rdk_tanimoto"}


def test_an_answer_nearer_to_the_reference_scores_higher():
    scores = [verify(answer, "CCCCCCO").score for answer in ("C1CC", "c1ccccc1", "CCCCO", "CCCCCO", "CCCCCCO")]
    assert scores == sorted(scores)
    assert (scores[0], scores[-1]) == (0.0, 1.0)


def test_a_problem_with_a_broken_molecule_is_the_problems_fault():
    with pytest.raises(ValueError, match="a problem's molecule is not valid: 'C1CC'"):
        verify("CCO", "C1CC")


# --- molecule generation ---


def generation(text, reference=None, verifier=None, **facts):
    return verify(text, reference, verifier or MoleculeGenerationVerifier(), **facts)


def test_groups_named_in_the_description_must_be_there():
    description = "It is a nitrile, a ketone and a primary alcohol."
    assert generation("N#CCC(=O)CO", description=description).correct
    certificate = generation("N#CCC(=O)C", description=description)
    assert [(finding.kind, finding.start, finding.end) for finding in certificate.findings] == [("missing_group", 10, 10)]
    assert certificate.score == certificate.measures["groups_found"] == pytest.approx(2 / 3)


def test_groups_can_be_given_by_name():
    assert generation("CCN", groups=("amine",), description="It is a ketone.").correct
    assert not generation("CCO", groups=["amine"]).correct


def test_a_missing_group_is_shown_where_the_reference_has_it():
    reference = "OC(=O)CCCCCCC#N"
    description = "It is a nitrile and a carboxylic acid."
    for answer, missing in (("OC(=O)CCCCCCC", (13, 13)), ("OC(=O)CCCCCCCF", (13, 14)), ("CCCCCCCC#N", (0, 0))):
        findings = generation(answer, reference, description=description).findings
        assert [(finding.kind, finding.start, finding.end) for finding in findings] == [("missing_group", *missing)]


def test_a_group_that_the_reference_lacks_is_not_asked_for():
    certificate = generation("CCCl", "CCBr", description="It is a ketone and an organobromine compound.")
    assert [finding.message for finding in certificate.findings] == ["bromo is asked for"]


# --- synthesis ---


def forward(text, reactants, reference=None, **facts):
    return verify(text, reference, ForwardSynthesisVerifier(), reactants=reactants, **facts)


def test_atoms_of_a_product_come_from_what_is_put_in():
    assert forward("CC(=O)NC", "CC(=O)Cl.CN").correct
    assert found(forward("CC(=O)NCBr", "CC(=O)Cl.CN"), "CC(=O)NCBr") == [("unsupplied_atom", "Br")]
    assert forward("CC(=O)NCBr", "CC(=O)Cl.CN", reagents="BrBr").correct
    assert found(forward("FC(F)c1ccccc1", "FCc1ccccc1"), "FC(F)c1ccccc1") == [("unsupplied_atom", "F")]


def test_a_product_is_none_of_the_reactants():
    assert found(forward("OCC", "CCO.CC(=O)O"), "OCC") == [("copied_reactant", "OCC")]
    text = "CC(=O)OCC.CCO"
    assert found(forward(text, "CCO.CC(=O)O.CCO"), text) == [("copied_reactant", "CCO")]
    assert forward("CC[NH3+].[Cl-]", "CCN.[Cl-].[H+]").correct  # an ion may stay


def test_what_the_reference_takes_from_elsewhere_is_allowed():
    certificate = forward("CCC(C)(Br)", "CCC=C", reference="CC(Br)CC")
    assert certificate.correct
    assert [kind for kind, _ in found(forward("CCCC(Br)Br", "CCC=C", "CC(Br)CC"), "CCCC(Br)Br")] == ["unsupplied_atom"]


def retro(text, product, reference=None):
    return verify(text, reference, RetrosynthesisVerifier(), product=product)


def test_reactants_supply_the_products_atoms():
    assert retro("CC(=O)Cl.NC", "CC(=O)NC").correct
    certificate = retro("CC(=O)Cl", "CC(=O)NC")
    assert {finding.kind for finding in certificate.findings} == {"missing_atom"}
    assert {finding.message for finding in certificate.findings} == {
        "C: the product has 3, the answer has 2",
        "N: the product has 1, the answer has 0",
    }


def test_reactants_are_a_set():
    for answer in ("CN.CC(=O)Cl", "CN.CN.CC(=O)Cl", "ClC(C)=O.NC"):
        assert retro(answer, "CC(=O)NC", "CC(=O)Cl.CN").correct
    assert [kind for kind, _ in found(retro("CC(=O)O.CN", "CC(=O)NC", "CC(=O)Cl.CN"), "CC(=O)O.CN")] == ["goal"]


def test_reactants_are_not_the_product():
    assert found(retro("CC(=O)NC.CN", "CC(=O)NC"), "CC(=O)NC.CN") == [("copied_product", "CC(=O)NC")]


def test_a_ring_number_across_a_dot_hides_no_copy():
    text = "C1OC(C)=O.C1.O"
    assert found(retro(text, "CCOC(C)=O"), text) == [("copied_product", "C1OC(C)=O.C1")]
    assert found(retro(text, "CCOC(C)=O", "CCO.CC(=O)Cl"), text) == [("copied_product", "C1OC(C)=O.C1")]
    assert not retro("C12.O1C(C)=O.C2", "CCOC(C)=O", "CCO.CC(=O)O").correct
    text = "Cl.C1O.[2H][H].C1"
    assert found(forward(text, "CCO.CC(=O)Cl", "CCOC(C)=O"), text) == [("copied_reactant", "C1O.[2H][H].C1")]
    for text in ("C1.O1", "[H]1.[H]1", "[H][H].CO.[2H]1.C1"):
        assert all(retro(text, "CCC").findings)


def test_findings_of_selfies_are_at_its_symbols():
    text = "[C][C][=Branch1][C][=O][N][C][Br]"
    assert found(forward(text, "CC(=O)Cl.CN"), text) == [("unsupplied_atom", "[Br]")]
    text = "[C][C][O].[C][C][N]"
    assert found(forward(text, "CCO.CCN.CCO"), text) == [("copied_reactant", "[C][C][O]"), ("copied_reactant", "[C][C][N]")]


# --- as a tool of the trainer ---


@pytest.mark.parametrize("kind", VERIFIERS)
def test_a_verifier_is_picklable_hashable_and_compared_by_its_settings(kind):
    verifier = kind(notation="smiles", stereo=False)
    assert isinstance(verifier, Verifier)
    assert pickle.loads(pickle.dumps(verifier)) == verifier != kind()
    assert hash(verifier) == hash(kind(notation="smiles", stereo=False))


def test_it_runs_in_a_pool():
    problem = Problem("forward", "0", "", {"reactants": "CC(=O)Cl.CN"}, "CC(=O)NC")
    with VerifierPool(workers=1) as pool:
        certificates = pool.verify(ForwardSynthesisVerifier(), [(problem, "CNC(C)=O"), (problem, "CN(C"), (problem, "CBr")])
    assert [certificate.correct for certificate in certificates] == [True, False, False]
    assert certificates == [ForwardSynthesisVerifier().verify(problem, text) for text in ("CNC(C)=O", "CN(C", "CBr")]


def test_rdkit_writes_nothing_and_neither_torch_nor_lightning_is_imported():
    program = (
        "import sys\n"
        "from lit_symbolic.certificate import Problem\n"
        "from lit_symbolic.verifiers.chemistry import *\n"
        "for text in ('C1CC', 'CN(C)(C)C', 'c1cncc1', 'C(', 'C[Xx]', 'C' * 9000, 'O=n1ccccc1', 'C/C=C\\\\\\\\C', '[C][Xx]'):\n"
        "    MoleculeVerifier().verify(Problem('t', '0', '', {}, 'CCO'), text)\n"
        "print([name for name in ('torch', 'lightning') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")
