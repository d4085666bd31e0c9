import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rdkit import Chem, rdBase

from lit_symbolic.certificate import Certificate, Problem, Status
from lit_symbolic.verifiers.chemistry import (
    KINDS,
    ForwardSynthesisVerifier,
    MoleculeGenerationVerifier,
    MoleculeVerifier,
    RetrosynthesisVerifier,
)

CASES = (
    (MoleculeVerifier(), Problem("smiles", "0", "")),
    (MoleculeVerifier(), Problem("smiles", "0", "", {}, "CC(=O)Oc1ccccc1C(=O)O")),
    (
        MoleculeGenerationVerifier(),
        Problem("m", "0", "", {"description": "a nitrile, an ester and a ketone"}, "N#CCC(=O)CC(=O)OC"),
    ),
    (ForwardSynthesisVerifier(), Problem("f", "0", "", {"reactants": "CC(=O)Cl.NCc1ccccc1"}, "CC(=O)NCc1ccccc1")),
    (ForwardSynthesisVerifier(), Problem("f", "0", "", {"reactants": "[C][C][=Branch1][C][=O][Cl].[N][C]"})),
    (RetrosynthesisVerifier(), Problem("r", "0", "", {"product": "CC(=O)NCc1ccccc1"})),
    (RetrosynthesisVerifier(), Problem("r", "0", "", {"product": "CC(=O)NCc1ccccc1"}, "CC(=O)Cl.NCc1ccccc1")),
)
ALPHABET = (*"bcnopsBCNOPSFI*-=#:$~/\\()[].%0123456789+@H", "Cl", "Br", "->", "<-")
PARTS = (
    *ALPHABET,
    "C",
    "c1ccccc1",
    "(=O)",
    "[nH]",
    "[C@@H]",
    "[O-]",
    "[N+]",
    "c1cnc",
    "1",
    "1",
    "[H]",
    "C(=O)N",
    "[2H]",
    "Br",
)
SELFIES = ("[C]", "[=C]", "[N]", "[=O]", "[Branch1]", "[Ring1]", "[Xx]", "[", "]", ".", "[O-1]", "[Br]", "[#N]", "[P+1]")

molecules = st.lists(st.sampled_from(PARTS), min_size=1, max_size=12).map("".join)
answers = st.one_of(molecules, st.lists(st.sampled_from(SELFIES), max_size=10).map("".join), st.text(max_size=50))


def complete_graph(atoms):
    numbers = {(a, b): 100 + a * atoms + b for a in range(atoms) for b in range(a + 2, atoms)}
    return "".join("[U]" + "".join(f"%({number})" for pair, number in numbers.items() if atom in pair) for atom in range(atoms))


def lattice(rows, columns):
    text, opened = "", {}
    for row in range(rows):
        for column in range(columns)[:: 1 if row % 2 == 0 else -1]:
            text += "C"
            if (row, column) in opened:
                text += f"%({opened[row, column]})"
            if row + 1 < rows and column != (columns - 1 if row % 2 == 0 else 0):
                opened[row + 1, column] = 100 + len(opened)
                text += f"%({opened[row + 1, column]})"
    return text


def branched(depth):
    return f"C({branched(depth - 1)})({branched(depth - 1)}){branched(depth - 1)}" if depth else "C"


HOSTILE = {
    "a megabyte": "C" * 1_000_000,
    "a megabyte of brackets": "[C]" * 350_000,
    "null bytes": "\0" * 100,
    "lone surrogates": "C\ud800C\udfff",
    "emoji": "🧪" * 30,
    "right to left": "C\u202eC",
    "a long chain": "C" * 2_000,
    "open branches": "C(" * 1_000,
    "deep branches": "C(" * 600 + "C" + ")" * 600,
    "closed branches": "C" + ")" * 2_000,
    "open rings": "C1C2" * 500,
    "open brackets": "[" * 2_000,
    "a huge isotope": "[999999]",
    "huge numbers": "[" + "9" * 2_000 + "C]",
    "a huge ring number": "C%(99999)CC%(99999)",
    "an unknown element": "[#119]C[#255]",
    "hydrogens": "[*H200]C[CH99]",
    "charges": "[C+99999999999][O-128]",
    "a complete graph": complete_graph(9),
    "a large complete graph": complete_graph(20),
    "a lattice": lattice(12, 12),
    "a dendrimer": branched(5),
    "cages": "C12C3C4C1C5C4C3C25" * 100,
    "arenes": "c1ccccc1" * 200,
    "broken arenes": "c1cccc1" * 200,
    "broken azoles": "c1cncc1" * 200,
    "stereo centres": "[C@@H](F)" * 200 + "C",
    "double bonds": "/C=C" * 400 + "/C",
    "fragments": "C." * 900 + "C",
    "over-valent atoms": "CF(C)" * 400,
    "many findings": "!C" * 1_000,
    "nested SELFIES": "[Branch1][Ring2]" * 120,
    "long SELFIES": "[C][=C][Branch1][C][O]" * 90,
    "unknown SELFIES": "[C][Xx]" * 300,
    "HTML": "<script>alert(1)</script>",
    "format": "{0.__class__} %s %(x)s",
}


def check(certificate, text):
    assert isinstance(certificate, Certificate)
    assert certificate.status in (Status.OK, Status.REJECTED)
    assert certificate.correct or certificate.findings
    assert list(certificate.findings) == sorted(certificate.findings)
    assert len(certificate.findings) <= 40
    for finding in certificate.findings:
        assert finding.end <= len(text)
        assert finding.kind in KINDS
        finding.message.encode("ascii")
    certificate.evidence.encode("utf-8")


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_get_a_certificate_in_bounded_time(name):
    text = HOSTILE[name]
    for verifier, problem in CASES[1:6:2]:
        since = time.process_time()
        check(verifier.verify(problem, text), text)
        assert time.process_time() - since < 3


@pytest.mark.parametrize("case", range(len(CASES)))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=answers)
def test_any_answer_gets_the_same_certificate_twice_with_spans_inside_it(case, text):
    verifier, problem = CASES[case]
    since = time.process_time()
    certificate = verifier.verify(problem, text)
    assert time.process_time() - since < 3
    check(certificate, text)
    assert verifier.verify(problem, text) == certificate


@settings(max_examples=500, deadline=None)
@given(molecules)
def test_valid_is_what_rdkit_parses_and_the_rest_has_a_finding(text):
    certificate = MoleculeVerifier(notation="smiles").verify(CASES[0][1], text)
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(text)
    assert certificate.correct == (mol is not None and "*" not in text) == (certificate.measures["validity"] == 1)
    assert certificate.correct or certificate.findings
    assert all(finding.kind != "chemistry" for finding in certificate.findings)
