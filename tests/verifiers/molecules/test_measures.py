import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nltk.translate.bleu_score import corpus_bleu as nltk_corpus_bleu
from nltk.translate.bleu_score import sentence_bleu
from rdkit import Chem, DataStructs
from rdkit.Chem import MACCSkeys

from lit_symbolic.verifiers.molecules import measures as molecule_measures
from lit_symbolic.verifiers.molecules.measures import corpus_bleu, fingerprints, similarities, text_measures

MOLECULES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "CC(=O)Nc1ccc(O)cc1",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "CCO",
    "C1CCCCC1",
    "OC[C@H]1OC(O)[C@H](O)[C@@H]1O",
]
texts = st.text(alphabet="CNO()=1c[]@H+", min_size=1, max_size=40)


def levenshtein(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, start=1):
        before, row[0] = row[0], i
        for j, y in enumerate(b, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (x != y))
    return row[-1]


@settings(max_examples=150, deadline=None)
@given(texts, texts)
def test_levenshtein_is_the_textbooks(a, b):
    assert text_measures(a, b)["levenshtein"] == levenshtein(a, b)


@pytest.mark.filterwarnings("ignore:(?s).*The hypothesis contains 0 counts")
@settings(max_examples=150, deadline=None)
@given(texts.filter(lambda text: len(text) >= 4), texts)
def test_bleu_is_nltks(a, b):
    expected = sentence_bleu([list(b)], list(a))
    if expected > 1e-6:  # without a match of some order NLTK gives a tiny number instead of 0
        assert text_measures(a, b)["bleu"] == pytest.approx(expected)
    else:
        assert text_measures(a, b)["bleu"] == 0


def test_counts_summed_over_answers_give_nltks_corpus_bleu():
    rng = random.Random(0)
    pairs = []
    for _ in range(40):
        reference = rng.choice([molecule for molecule in MOLECULES if len(molecule) > 3])  # NLTK gives shorter ones a 4-gram
        answer = list(reference)
        for _ in range(rng.randrange(5)):
            answer[rng.randrange(len(answer))] = rng.choice("CNO")
        pairs.append(("".join(answer), reference))
    measured = [text_measures(*pair) for pair in pairs]
    sums = {key: sum(each[key] for each in measured) for key in measured[0]}
    means = {key: value / len(pairs) for key, value in sums.items()}
    expected = nltk_corpus_bleu([[list(reference)] for _, reference in pairs], [list(answer) for answer, _ in pairs])
    assert corpus_bleu(sums) == pytest.approx(expected)
    assert corpus_bleu(means) == pytest.approx(expected)


def test_an_answer_without_text_has_no_bleu():
    measures = text_measures("", "CCO")
    assert (measures["bleu"], measures["levenshtein"], corpus_bleu(measures)) == (0.0, 3.0, 0.0)


@pytest.mark.parametrize("answer", MOLECULES)
@pytest.mark.parametrize("reference", MOLECULES)
def test_similarities_are_those_of_the_published_evaluation(answer, reference):
    ours, theirs = Chem.MolFromSmiles(answer), Chem.MolFromSmiles(reference)
    maccs = DataStructs.FingerprintSimilarity(MACCSkeys.GenMACCSKeys(ours), MACCSkeys.GenMACCSKeys(theirs))
    rdk = DataStructs.FingerprintSimilarity(Chem.RDKFingerprint(ours), Chem.RDKFingerprint(theirs))
    measured = similarities(ours, reference)
    assert measured["maccs_tanimoto"] == pytest.approx(maccs)
    assert measured["rdk_tanimoto"] == pytest.approx(rdk)
    assert (measured["morgan_tanimoto"] == 1) == (answer == reference)


def test_morgan_similarity_is_that_of_counts_at_radius_two():
    ours, theirs = (Chem.MolFromSmiles(smiles) for smiles in ("CCCCO", "CCCCCO"))
    counts = [mol_counts.GetNonzeroElements() for mol_counts in (fingerprints(mol)["morgan_tanimoto"] for mol in (ours, theirs))]
    common = sum(min(counts[0].get(key, 0), counts[1].get(key, 0)) for key in counts[0])
    union = sum(counts[0].values()) + sum(counts[1].values()) - common
    assert similarities(ours, "CCCCCO")["morgan_tanimoto"] == pytest.approx(common / union)


def test_the_references_fingerprints_are_made_once(monkeypatch):
    made = []
    original = molecule_measures.fingerprints
    monkeypatch.setattr(molecule_measures, "fingerprints", lambda mol, every=True: made.append(mol) or original(mol, every))
    mol = Chem.MolFromSmiles("CCN")
    for _ in range(3):
        similarities(mol, "CCCCCCCCCCCCCN")
    assert len(made) == 4  # three answers, one reference


def test_a_dense_lattice_is_not_given_to_the_slow_fingerprints():
    atoms = 9
    numbers = {(a, b): 100 + a * atoms + b for a in range(atoms) for b in range(a + 2, atoms)}
    complete = "".join("*" + "".join(f"%({number})" for pair, number in numbers.items() if atom in pair) for atom in range(atoms))
    assert list(fingerprints(Chem.MolFromSmiles(complete))) == ["morgan_tanimoto"]
