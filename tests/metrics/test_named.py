"""Named metrics against what others compute: plain loops, sacrebleu and nltk on whole corpora, RDKit, an edit distance of one's own."""

import math

import nltk.translate.bleu_score as nltk
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, DataStructs
from rdkit.Chem import MACCSkeys, rdFingerprintGenerator

from lit_symbolic.certificate import Certificate, Problem, Status
from lit_symbolic.metrics import MeanMeasure, named_metric
from lit_symbolic.metrics.named import NAMED
from lit_symbolic.verifiers.chemistry import MoleculeVerifier

REFERENCES = ["CC(=O)Oc1ccccc1C(=O)O", "CCO", "C1CCCCC1N", "CN1C=NC2=C1C(=O)N(C(=O)N2C)C", "CCO", "OCC(N)C"]
ANSWERS = ["CC(=O)Oc1ccccc1C(=O)N", "OCC", "C1CCCCC", "CN1C=NC2=C1C(=O)NC(=O)N2C", "", "CC(N)CO"]
CERTIFICATES = [
    MoleculeVerifier().verify(Problem("smiles", str(k), "", reference=reference), answer)
    for k, (reference, answer) in enumerate(zip(REFERENCES, ANSWERS, strict=True))
]
VALID = [
    (Chem.MolFromSmiles(a), Chem.MolFromSmiles(r)) for a, r in zip(ANSWERS, REFERENCES, strict=True) if a not in ("", "C1CCCCC")
]


def value(name, certificates):
    metric = named_metric(name)
    metric.update(certificates)
    return metric.compute().item()


def spaced(texts):
    return [" ".join(text) for text in texts]


def plain_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        above, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (x != y))
    return row[-1]


def mean(values):
    return sum(values) / len(values)


# ---------------------------------------------------------------- molecules


def test_an_answer_that_is_too_long_counts_as_an_invalid_one_in_every_mean():
    problem, long = Problem("smiles", "0", "", reference="CCO"), "C(" * 4_000
    refused = MoleculeVerifier().verify(problem, f" {long}\n")
    read = MoleculeVerifier(max_characters=9_000).verify(problem, long)
    assert (refused.status, read.status) == (Status.REJECTED, Status.OK)
    assert refused.measures == read.measures
    assert refused.measures["levenshtein"] == plain_distance(long, "CCO")
    for name in ("exact_match", "plausible", "validity", "bleu", "levenshtein", "morgan_tanimoto"):
        assert value(name, [refused, *CERTIFICATES]) == value(name, [read, *CERTIFICATES])
    assert MoleculeVerifier().verify(problem, "C" * 1_000_000).measures["levenshtein"] == 100_000 - 2


def test_bleu_is_sacrebleus_of_the_whole_corpus():
    theirs = sacrebleu.corpus_bleu(spaced(ANSWERS), [spaced(REFERENCES)], tokenize="none", smooth_method="none", force=True)
    assert value("bleu", CERTIFICATES) == pytest.approx(theirs.score / 100, abs=1e-6)
    assert value("bleu", CERTIFICATES) != pytest.approx(mean([c.measures["bleu"] for c in CERTIFICATES]), abs=0.05)


def test_bleu_is_nltks_of_the_whole_corpus():
    long = [row for row, answer in enumerate(ANSWERS) if len(answer) > 3]  # nltk counts n-grams that a shorter one has not
    theirs = nltk.corpus_bleu([[list(REFERENCES[row])] for row in long], [list(ANSWERS[row]) for row in long])
    assert value("bleu", [CERTIFICATES[row] for row in long]) == pytest.approx(theirs, abs=1e-6)


def test_tanimotos_are_rdkits_over_valid_answers():
    morgan = rdFingerprintGenerator.GetMorganGenerator(radius=2)
    makers = {
        "morgan_tanimoto": morgan.GetSparseCountFingerprint,
        "maccs_tanimoto": MACCSkeys.GenMACCSKeys,
        "rdk_tanimoto": Chem.RDKFingerprint,
    }
    for name, make in makers.items():
        expected = mean([DataStructs.TanimotoSimilarity(make(answer), make(reference)) for answer, reference in VALID])
        assert value(name, CERTIFICATES) == pytest.approx(expected, abs=1e-6), name


def test_validity_exact_match_and_levenshtein_count_every_answer():
    assert value("validity", CERTIFICATES) == pytest.approx(len(VALID) / len(ANSWERS))
    assert value("exact_match", CERTIFICATES) == pytest.approx(2 / len(ANSWERS))
    expected = mean([plain_distance(a, r) for a, r in zip(ANSWERS, REFERENCES, strict=True)])
    assert value("levenshtein", CERTIFICATES) == pytest.approx(expected)


def test_an_answer_refused_unread_is_neither_valid_nor_exact():
    problem = Problem("smiles", "0", "", reference="CCO")
    refused = MoleculeVerifier(max_characters=5).verify(problem, "CCCCCCCC")
    assert refused.status is Status.REJECTED
    assert value("validity", [*CERTIFICATES, refused]) == pytest.approx(len(VALID) / (len(ANSWERS) + 1))
    assert value("exact_match", [*CERTIFICATES, refused]) == pytest.approx(2 / (len(ANSWERS) + 1))
    assert value("bleu", [*CERTIFICATES, refused]) < value("bleu", CERTIFICATES)


def test_a_problem_without_reference_has_no_exact_match():
    free = MoleculeVerifier().verify(Problem("smiles", "0", ""), "CCO")
    assert math.isnan(value("exact_match", [free]))
    assert value("validity", [free]) == 1.0


# ---------------------------------------------------------------- programs

program = st.one_of(
    st.tuples(st.just(1.0), st.integers(0, 5), st.integers(0, 5)),  # compiled, tests passed, tests failed
    st.tuples(st.just(0.0), st.just(0), st.integers(0, 5)),
    st.sampled_from(["refused", "timeout", "another task"]),
)


def certificate_of(kind):
    if kind == "timeout":
        return Certificate.without_evidence(Status.TIMEOUT, "")
    if kind == "refused":
        return Certificate(False, 0.0, status=Status.REJECTED)
    if kind == "another task":
        return Certificate(True, 1.0, measures={"validity": 1.0})
    compiled, passed, failed = kind
    tests = passed + failed
    share = passed / tests if tests else compiled
    return Certificate(False, 0.0, measures={"compiled": compiled, "tests": float(tests), "tests_fraction": share})


@given(st.lists(program, max_size=12))
@settings(deadline=None)
def test_program_accuracies_equal_plain_means(kinds):
    certificates = [certificate_of(kind) for kind in kinds]
    known = [kind for kind in kinds if kind not in ("timeout", "another task")]
    compiled = [0.0 if kind == "refused" else kind[0] for kind in known]
    tested = [kind for kind in known if kind == "refused" or kind[1] + kind[2]]
    passed = [0.0 if kind == "refused" else kind[0] * kind[1] / (kind[1] + kind[2]) for kind in tested]
    for name, values in (("comp_acc", compiled), ("f_corr_acc", passed)):
        expected = mean(values) if values else math.nan
        assert value(name, certificates) == pytest.approx(expected, nan_ok=True)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", [*NAMED, "step_validity"])
def test_batches_and_merged_states_give_what_all_at_once_gives(name):
    more = [certificate_of(kind) for kind in ("timeout", "refused", (1.0, 2, 1), (0.0, 0, 3), "another task")]
    more += [Certificate(False, 0.5, measures={"step_validity": 0.5})]
    together, apart, first, second = (named_metric(name) for _ in range(4))
    together.update([*CERTIFICATES, *more])
    for batch in (CERTIFICATES[:2], [], more, CERTIFICATES[2:]):
        apart.update(batch)
    first.update(CERTIFICATES)
    second.update(more)
    first.merge_state(second)
    assert apart.compute().item() == first.compute().item() == pytest.approx(together.compute().item(), abs=1e-6)
    assert not together.compute().isnan()
    apart.reset()
    apart.update([])
    assert apart.compute().isnan()


def test_a_name_that_is_no_metrics_is_a_measure():
    metric = named_metric("groups_found")
    assert isinstance(metric, MeanMeasure)
    assert value("groups_found", [Certificate(False, 0.5, measures={"groups_found": 0.25}), Certificate(True, 1.0)]) == 0.25
