import csv
import os
from pathlib import Path

import pytest
import selfies
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem

from lit_symbolic.verifiers.molecules.selfies_text import looks_like_selfies, read_selfies

SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", Path(__file__).parents[4] / "shared" / "data"))
CHEBI = SHARED / "chebi20" / "validation.txt"
needs_chebi = pytest.mark.skipif(not CHEBI.exists(), reason=f"needs the public data: {CHEBI}")

SYMBOLS = (
    "[C]",
    "[=C]",
    "[#N]",
    "[O]",
    "[N+1]",
    "[Branch1]",
    "[=Branch2]",
    "[Ring1]",
    "[C@@H1]",
    "[Cl]",
    "[nop]",
    ".",
    "[F]",
    "[/C]",
    "[Na+1]",
)


def read(text):
    return [(finding.kind, text[finding.start : finding.end]) for finding in read_selfies(text).findings]


@pytest.mark.parametrize(
    ("text", "findings"),
    [
        ("[C][Xx][O]", [("unknown_symbol", "[Xx]")]),
        ("[C][CH9][Branch7]", [("unknown_symbol", "[CH9]"), ("unknown_symbol", "[Branch7]")]),
        ("[C][O", [("syntax", "[O")]),
        ("[C] [O]", [("syntax", " ")]),
        ("[C]CO[O]", [("syntax", "CO")]),
        ("[C]]", [("syntax", "]")]),
        ("", [("empty", "")]),
        ("[nop]", [("empty", "")]),
        ("[Branch1]" * 2000, [("empty", "")]),
        ("[C][Branch1][Ring2]" * 3000, [("syntax", "[C][Branch1][Ring2]" * 3000)]),
    ],
)
def test_each_fault_is_found_at_its_own_characters(text, findings):
    assert read(text) == findings


def test_what_looks_like_selfies():
    assert all(map(looks_like_selfies, ["[C][C]", "[C][=C].[O]", "[C][Branch1][O", "xx[Ring1]", "[=C]"]))
    assert not any(map(looks_like_selfies, ["CC", "", "[Na+].[Cl-]", "[C@@H](C)(F)Cl", "[O-][N+](=O)C", "C[=C", "[H]"]))


@needs_chebi
def test_atoms_are_put_at_the_symbols_that_made_them():
    with CHEBI.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[:400]
    read_ones = 0
    for row in rows:
        try:
            text = selfies.encoder(row["SMILES"])
        except selfies.EncoderError:
            continue
        reading = read_selfies(text)
        mol = Chem.MolFromSmiles(reading.smiles, sanitize=False)
        spans = reading.atoms()
        assert len(spans) == mol.GetNumAtoms() == len(set(spans))
        read_ones += 1
        for atom, (start, end) in zip(mol.GetAtoms(), spans, strict=True):
            assert atom.GetSymbol() in text[start:end]
    assert read_ones > 300


@settings(max_examples=120, deadline=None)
@given(st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=14).map("".join), st.sampled_from(["", "ab", "  "]))
def test_it_is_read_as_the_package_reads_it(text, before):
    reading = read_selfies(before + text, len(before))
    assert (reading.smiles or "") == selfies.decoder(text)
    for start, end in reading.atoms():
        assert (before + text)[start] + (before + text)[end - 1] == "[]"


@settings(max_examples=120, deadline=None)
@given(
    st.text(max_size=40) | st.lists(st.sampled_from((*SYMBOLS, "[", "]", "[Q]", "é", "\ud800", "\0")), max_size=12).map("".join)
)
def test_any_text_is_read_with_spans_inside_it(text):
    reading = read_selfies(text)
    assert (reading.smiles is None) == bool(reading.findings)
    assert all(finding.end <= len(text) for finding in reading.findings)
    assert all(end <= len(text) for _, end in reading.atoms())
