"""A tool that errs on purpose: how often, about what, and the same everywhere."""

import pickle
import random
import re
from dataclasses import dataclass
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.tasks.game24 import Game24
from lit_symbolic.verifiers import Verifier
from lit_symbolic.verifiers.base import ToolUnavailable, check_start
from lit_symbolic.verifiers.cpp import CppVerifier
from lit_symbolic.verifiers.game24 import Game24Verifier
from lit_symbolic.verifiers.molecule_in_prose import MoleculeInProse
from lit_symbolic.verifiers.noisy import NoiseKind, NoisyVerifier
from lit_symbolic.verifiers.pool import VerifierPool
from toys import SaysTheRightWords

KINDS = get_args(NoiseKind)
PROBLEM = Problem("say", "1", "say", facts={"right": "a b c"})


def covered(certificate: Certificate) -> set[int]:
    return {place for finding in certificate.findings for place in range(finding.start, finding.end)}


@dataclass(frozen=True)
class Certifies:
    """Says what it was given, whatever the answer."""

    certificate: Certificate

    def verify(self, problem: Problem, text: str) -> Certificate:
        return self.certificate


@st.composite
def verified(draw: st.DrawFn) -> tuple[str, Certificate]:
    """Any text and any certificate about it."""
    text = draw(st.text(max_size=30))
    if draw(st.booleans()):
        return text, Certificate(True, 1.0, measures={"steps": 3.0})
    place = st.integers(0, len(text))
    spans = draw(st.lists(st.tuples(place, place), max_size=4))
    findings = tuple(sorted(Finding(min(span), max(span), "goal", "wrong") for span in spans))
    status = draw(st.sampled_from([Status.OK, Status.REJECTED]))
    return text, Certificate(False, draw(st.floats(0, 1)), findings, {"steps": 3.0}, status, "seen")


@given(verified(), st.sampled_from(KINDS), st.floats(0, 1), st.integers(0, 5))
@settings(deadline=None, max_examples=200)
def test_whatever_it_wraps_it_gives_a_certificate_that_is_the_truth_or_the_stated_error(
    given_: tuple[str, Certificate], kind: NoiseKind, rate: float, seed: int
) -> None:
    text, truth = given_
    said = NoisyVerifier(Certifies(truth), rate, kind, seed).verify(PROBLEM, text)
    assert said == NoisyVerifier(Certifies(truth), rate, kind, seed).verify(PROBLEM, text)
    assert said.measures == truth.measures
    assert all(0 <= finding.start <= finding.end <= len(text) for finding in said.findings)
    if said == truth:
        return
    assert rate > 0
    assert "on purpose" in said.evidence
    if kind == "outcome":
        assert said.correct != truth.correct
        assert said.findings == (() if said.correct else (Finding(len(text), len(text), "noise", "called wrong, and it is not"),))
    else:
        assert not said.correct
        made_up = [finding for finding in said.findings if finding.kind == "noise"]
        assert len(made_up) <= 1
        assert all(text[f.start : f.end].strip() and not covered(truth) & set(range(f.start, f.end)) for f in made_up)
        before = text[: min((f.start for f in truth.findings), default=len(text))]
        if re.search(r"\S+\s", before) or (not truth.findings and before.strip()):  # a whole word stands before the first fault
            assert all(f.end <= len(before) for f in made_up)
        kept = [finding for finding in said.findings if finding.kind != "noise"]
        assert len(kept) == max(0, len(truth.findings) - 1)
        assert set(kept) <= set(truth.findings)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.3, 1.0])
def test_it_errs_at_its_rate_about_other_answers_with_another_seed(kind: NoiseKind, rate: float) -> None:
    truth = SaysTheRightWords()
    answers = [f"a b {number}" for number in range(2000)]
    erred = [
        {text for text in answers if NoisyVerifier(truth, rate, kind, seed).verify(PROBLEM, text) != truth.verify(PROBLEM, text)}
        for seed in (0, 1)
    ]
    for texts in erred:
        assert len(texts) / len(answers) == pytest.approx(rate, abs=0.035)
    assert (erred[0] == erred[1]) == (rate in (0.0, 1.0))
    assert len(erred[0] & erred[1]) / len(answers) == pytest.approx(rate * rate, abs=0.035), "seeds err independently"


def test_beside_the_tool_that_it_wraps_they_disagree_about_the_same_characters() -> None:
    task, rng, truth = Game24(max_value=50), random.Random(0), Game24Verifier()
    noisy = NoisyVerifier(truth, 1.0, "contradict")
    disagreed = 0
    for problem in task.problems("validation")[:60]:
        text = task.demonstration(problem, rng)
        right, wrong = truth.verify(problem, text), noisy.verify(problem, text)
        assert covered(wrong) - covered(right), "an objection where the tool has none"
        disagreed += bool(covered(right) - covered(wrong))
    assert disagreed > 30, "and none where it has one"


def test_nothing_is_made_up_where_there_is_no_evidence() -> None:
    stopped = Certificate.without_evidence(Status.TIMEOUT, "stopped")
    for kind in KINDS:
        assert NoisyVerifier(Certifies(stopped), 1.0, kind).verify(PROBLEM, "a") == stopped


def test_an_empty_right_answer_offers_no_place_to_contradict() -> None:
    right = Certificate(True, 1.0)
    assert NoisyVerifier(Certifies(right), 1.0, "contradict").verify(PROBLEM, "") == right
    assert not NoisyVerifier(Certifies(right), 1.0, "outcome").verify(PROBLEM, "").correct


def test_another_process_errs_about_the_same_answers() -> None:
    noisy = NoisyVerifier(SaysTheRightWords(), 0.5, "contradict", seed=3)
    assert isinstance(noisy, Verifier)
    assert pickle.loads(pickle.dumps(noisy)) == noisy
    answers = [(PROBLEM, f"a b {number}") for number in range(40)]
    here = [noisy.verify(*answer) for answer in answers]
    with VerifierPool(workers=1) as pool:
        assert pool.verify(noisy, iter(answers)) == here
        assert pool.verify(noisy, iter(answers)) == here
        assert pool.statistics.hits == 40, "it is known by its settings, and so is what it wraps"
        assert pool.verify(NoisyVerifier(SaysTheRightWords(), 0.5, "contradict", seed=4), iter(answers)) != here


def test_a_rate_that_is_no_share_and_an_unknown_kind_are_refused() -> None:
    for rate in (-0.1, 1.1):
        with pytest.raises(ValueError, match="share between 0 and 1"):
            NoisyVerifier(SaysTheRightWords(), rate, "outcome")
    with pytest.raises(ValueError, match=r"'outcome'.*'contradict'"):
        NoisyVerifier(SaysTheRightWords(), 0.1, "place")  # type: ignore[arg-type]


def test_what_the_wrapped_tool_needs_is_asked_for_at_the_start() -> None:
    missing = CppVerifier(compiler="g++-none", headers=())
    for verifier in (NoisyVerifier(missing, 0.1, "outcome"), MoleculeInProse(NoisyVerifier(missing, 0.1, "outcome"))):
        with pytest.raises(ToolUnavailable, match="g\\+\\+-none"):
            check_start([verifier])
