import csv
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, rdBase

from lit_symbolic.verifiers.molecules.smiles import MAX_FINDINGS, SYNTAX_KINDS, read_smiles

SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", Path(__file__).parents[4] / "shared" / "data"))
CHEBI = SHARED / "chebi20" / "validation.txt"
needs_chebi = pytest.mark.skipif(not CHEBI.exists(), reason=f"needs the public data: {CHEBI}")

ALPHABET = (*"bcnopsBCNOPSFI*-=#:$~/\\()[].%0123456789+@H", "Cl", "Br", "->", "<-")
BRACKETS = ("[nH]", "[C@@H]", "[NH4+]", "[13C]", "[Na+]", "[O-]", "[Fe+2]", "[se]", "[*:1]", "[#6]", "[2H]")
FRAGMENTS = (*ALPHABET, *BRACKETS, "(C)", "=O", "c1ccccc1", "C", "C", "1", "1")
IN_BRACKET = (
    "C",
    "H",
    "N",
    "@",
    "@@",
    "+",
    "-",
    "2",
    "13",
    ":",
    "1",
    "0",
    "#",
    "6",
    "c",
    "se",
    "Cl",
    "Xx",
    "Uuo",
    "'",
    "TH",
    "OH",
    "]",
    "[",
)

smiles_like = st.one_of(
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=12).map("".join),
    st.lists(st.sampled_from(IN_BRACKET), min_size=1, max_size=6).map(lambda parts: f"C[{''.join(parts)}]C"),
)


def rdkit_reads(text):
    parameters = Chem.SmilesParserParams()
    parameters.sanitize = parameters.removeHs = parameters.allowCXSMILES = parameters.parseName = False
    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(text, parameters)


def read(text):
    """Kinds of the findings, each with its characters."""
    return [(finding.kind, text[finding.start : finding.end]) for finding in read_smiles(text).findings]


def chebi():
    with CHEBI.open(encoding="utf-8") as file:
        return [row["SMILES"] for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("", [("empty", "")]),
        ("C1CCCCC", [("unclosed_ring", "1")]),
        ("C%12CCCCC", [("unclosed_ring", "%12")]),
        ("C1CC2CC3", [("unclosed_ring", "1"), ("unclosed_ring", "2"), ("unclosed_ring", "3")]),
        ("CC(C", [("unbalanced_branch", "(")]),
        ("C(C(C)C", [("unbalanced_branch", "(")]),
        ("CC)C", [("unbalanced_branch", ")")]),
        ("(C)C", [("unbalanced_branch", "(")]),
        ("C()C", [("unbalanced_branch", "()")]),
        ("C((C)C)C", [("unbalanced_branch", "(")]),
        ("CXC", [("unknown_atom", "X")]),
        ("C[Xx]C", [("unknown_atom", "[Xx]")]),
        ("C[]C", [("unknown_atom", "[]")]),
        ("CHO", [("unknown_atom", "H")]),
        ("C[C@@H", [("bad_bracket", "[C@@H")]),
        ("C[CH3C]C", [("bad_bracket", "C")]),
        ("C]C", [("bad_bracket", "]")]),
        ("C[C+-]C", [("bad_bracket", "-")]),
        ("C[999999C]C", [("bad_bracket", "999999C")]),
        ("C[#119]C", [("bad_bracket", "119")]),
        ("C==C", [("misplaced_bond", "==")]),
        ("C=", [("misplaced_bond", "=")]),
        ("=C", [("misplaced_bond", "=")]),
        ("C(C=)C", [("misplaced_bond", "=")]),
        ("C=(C)C", [("misplaced_bond", "=")]),
        ("C11", [("bad_ring", "1")]),
        ("C1C1", [("bad_ring", "1")]),
        ("1CC1", [("bad_ring", "1")]),
        ("C%1C", [("bad_ring", "%1")]),
        ("C!C", [("syntax", "!")]),
        ("C.", [("syntax", ".")]),
        ("CC é", [("syntax", " "), ("unknown_atom", "é")]),
    ],
)
def test_each_fault_is_found_at_its_own_characters(text, findings):
    assert read(text) == findings


def test_several_faults_are_all_found_and_in_order():
    assert read("C1CX(C==O)C)C[Zz]!") == [
        ("unclosed_ring", "1"),
        ("unknown_atom", "X"),
        ("misplaced_bond", "=="),
        ("unbalanced_branch", ")"),
        ("unknown_atom", "[Zz]"),
        ("syntax", "!"),
    ]


def test_a_part_of_a_text_is_read_at_its_own_places():
    reading = read_smiles("say: C1CC.", 5, 9)
    assert [(finding.start, finding.end) for finding in reading.findings] == [(6, 7)]
    assert reading.atoms == ((5, 6), (7, 8), (8, 9))


@pytest.mark.parametrize(
    "text",
    ["C->[Cu]", "C<-[Cu]", "C$C", "C~C", "C%(123)CC%(123)", "[#6]", "[U]", "['Rf']", "C(C.C)", "C1.C1", "F\\\\C=C/F", "[C@TB15]"],
)
def test_the_extensions_that_rdkit_reads_are_read(text):
    assert rdkit_reads(text) is not None
    assert read(text) == []


@settings(max_examples=1000, deadline=None)
@given(smiles_like)
def test_there_are_findings_exactly_where_rdkit_refuses(text):
    mol, reading = rdkit_reads(text), read_smiles(text)
    if any(finding.message.startswith("expected a smaller number") for finding in reading.findings):
        return  # RDKit wraps such numbers, or raises
    assert (mol is None) == bool(reading.findings)
    if mol is not None:
        assert mol.GetNumAtoms() == len(reading.atoms)


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | smiles_like)
def test_any_text_is_read_with_spans_inside_it(text):
    reading = read_smiles(text)
    assert len(reading.findings) <= MAX_FINDINGS
    assert list(reading.findings) == sorted(reading.findings)
    for finding in reading.findings:
        assert finding.kind in SYNTAX_KINDS
        assert finding.end <= len(text)
        finding.message.encode("ascii")
    assert all(0 <= start < end <= len(text) for start, end in reading.atoms)


@needs_chebi
def test_real_molecules_have_no_findings_and_rdkits_atoms_in_rdkits_order():
    for smiles in chebi()[::3]:
        reading, mol = read_smiles(smiles), rdkit_reads(smiles)
        assert not reading.findings
        assert mol.GetNumAtoms() == len(reading.atoms)
        for atom, (start, end) in zip(mol.GetAtoms(), reading.atoms, strict=True):
            assert smiles[start:end].strip("[]0123456789").lower().startswith(atom.GetSymbol().lower())


@pytest.mark.parametrize("part", ["C", "(", "[", "C1", "!", "x", "9", "%", "[9", "[C]", "=", ".", "C("])
def test_time_is_linear_in_the_length(part):
    def seconds(length):
        text = part * (length // len(part))
        repetitions = []
        for _ in range(2):
            since = time.process_time()
            read_smiles(text)
            repetitions.append(time.process_time() - since)
        return min(repetitions)

    assert seconds(24_000) < 40 * max(seconds(3_000), 0.001)
