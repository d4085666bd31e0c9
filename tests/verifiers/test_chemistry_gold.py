import csv
import os
import random
import sys
from pathlib import Path

import pytest
from rdkit import Chem

from lit_symbolic.verifiers.molecules.atom_mapping import element_counts, map_atoms, surplus_atoms

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", ROOT.parent / "shared" / "data"))
NEEDED = [
    SHARED / name for name in ("chebi20", "zinc250k", "uspto15k_forward", "uspto50k_retro", "uspto50k_mapped", "mol_instructions")
]

pytestmark = pytest.mark.skipif(
    not all(folder.exists() for folder in NEEDED),
    reason=f"needs the public data: {', '.join(folder.name for folder in NEEDED)} in {SHARED}",
)


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import verifier_chemistry

        yield verifier_chemistry
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_gold_answers_are_correct_but_for_the_exceptions_that_have_a_reason(benchmark):
    for row in benchmark.gold(quick=True):
        assert row.answers >= 150
        assert row.correct + len(row.exceptions) == row.answers
        assert not [line for line in row.exceptions if benchmark.UNEXPLAINED in line]
        if "groups" not in row.source and "products" not in row.source:
            assert row.correct == row.answers


def test_findings_hit_injected_faults(benchmark):
    overlapped, covered = [], []
    for row in benchmark.faults(quick=True, kinds=benchmark.FAULTS):
        assert len(row.overlapped) == 40
        assert sum(row.overlapped) >= 0.75 * 40, row.kind
        overlapped += row.overlapped
        covered += row.covered
    assert sum(overlapped) >= 0.95 * len(overlapped)
    assert sum(covered) <= 0.25 * len(covered)


def mapped_reactions(number):
    with (SHARED / "uspto50k_mapped" / "canonicalized_eval.csv").open() as file:
        rows = random.Random(0).sample(list(csv.DictReader(file)), number)
    for row in rows:
        reactants, _, product = row["reactants>reagents>production"].split(">")
        yield Chem.MolFromSmiles(reactants), Chem.MolFromSmiles(product)


def take_maps(mol):
    maps = {atom.GetIdx(): atom.GetAtomMapNum() for atom in mol.GetAtoms()}
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    return maps


def test_atoms_are_paired_as_in_the_published_mapping():
    atoms = right = 0
    for reactants, product in mapped_reactions(150):
        published = take_maps(product)
        places = {number: atom for atom, number in take_maps(reactants).items() if number}
        classes = list(Chem.CanonicalRankAtoms(reactants, breakTies=False))  # equal atoms are as right as each other
        pairs = map_atoms(product, reactants)
        for atom, number in published.items():
            atoms += 1
            right += atom in pairs and number in places and classes[pairs[atom]] == classes[places[number]]
    assert right >= 0.98 * atoms > 0


def test_pairs_are_of_one_element_and_used_once_and_a_surplus_is_as_large_as_it_is():
    for reactants, product in mapped_reactions(60):
        pairs = map_atoms(reactants, product)
        assert len(set(pairs.values())) == len(pairs)
        for ours, theirs in pairs.items():
            assert reactants.GetAtomWithIdx(ours).GetSymbol() == product.GetAtomWithIdx(theirs).GetSymbol()
        surplus = element_counts(reactants) - element_counts(product)
        atoms = surplus_atoms(reactants, product, surplus)
        assert sorted(reactants.GetAtomWithIdx(atom).GetSymbol() for atom in set(atoms)) == sorted(surplus.elements())
