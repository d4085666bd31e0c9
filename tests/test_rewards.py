import random
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lit_symbolic.certificate import Certificate, Finding, Status
from lit_symbolic.rewards import SchemeName, combine, left_out, token_rewards
from lit_symbolic.rollouts.alignment import tokens_in

SCHEMES = get_args(SchemeName)
CORRECT = Certificate(correct=True, score=1.0)


def wrong(*findings, score=0.25):
    return Certificate(correct=False, score=score, findings=tuple(Finding(start, end, "fault", "") for start, end in findings))


def spans_of(sizes, ended):
    spans, at = [], 0
    for size in sizes:
        spans.append((at, at + size))
        at += size
    return spans + [(at, at)] * ended


def by_loop(scheme, certificate, spans, ended, prefix_weight, failure_reward, score_weight):
    """The schemes, token by token in plain Python; shuffled ones not shuffled."""
    n, length = len(spans), max((end for _, end in spans), default=0)
    success = certificate.correct and ended
    values, mask, faulty, located = [0.0] * n, [True] * n, [False] * n, []
    for finding in certificate.findings:
        whole = finding.start == 0 and finding.end >= length
        for k, hit in enumerate(tokens_in(spans, finding.start, finding.end)):
            if hit or (whole and k < n - ended):
                faulty[k] = True
                if not whole and finding.start < length:
                    located.append(k)
    is_end = [ended and k == n - 1 for k in range(n)]
    token = [float(success) if is_end[k] else float(not faulty[k]) for k in range(n)]
    if scheme in ("token", "token_shuffled"):
        values = token
    elif scheme == "token_penalty":
        values = [value - 1 for value in token]
    elif scheme == "token_sum_at_end":
        values[-1] = sum(token)
    elif scheme == "boolean":
        values[-1] = float(success)
    elif scheme == "graded":
        values[-1] = certificate.score if ended else 0.0
    else:
        first = min(located) if located else n - 1
        for k in range(n):
            right = k in range(min(located)) if located else not faulty[k] and (success or k < n - 1)
            if right and not is_end[k]:
                values[k] += prefix_weight / (n - ended)
        if success:
            values[-1] += 1.0
        else:
            values[first] += failure_reward * (1 - score_weight * (certificate.score if ended else 0))
            if located:
                mask = [k <= first for k in range(n)]
    return values, mask, faulty


@st.composite
def answers(draw):
    ended = draw(st.booleans())
    sizes = draw(st.lists(st.integers(0, 3), min_size=0 if ended else 1, max_size=8))
    spans = spans_of(sizes, ended)
    length = sum(sizes)
    if draw(st.integers(0, 3)) == 0:
        return CORRECT, spans, ended
    place = st.integers(0, length)
    findings = draw(st.lists(st.tuples(place, place).map(lambda pair: (min(pair), max(pair))), max_size=3))
    return wrong(*sorted(findings), score=draw(st.sampled_from([0.0, 0.25, 0.75]))), spans, ended


@pytest.mark.parametrize("scheme", SCHEMES)
@given(
    answer=answers(),
    prefix_weight=st.sampled_from([0.0, 0.5, 1.0]),
    failure_reward=st.sampled_from([0.0, -1.0]),
    score_weight=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_each_scheme_equals_its_definition_token_by_token(scheme, answer, prefix_weight, failure_reward, score_weight):
    certificate, spans, ended = answer
    options = {"failure_reward": failure_reward, "score_weight": score_weight}
    reward = token_rewards(
        scheme,
        certificate,
        spans,
        ended,
        prefix_weight=prefix_weight,
        **options,
        generator=torch.Generator().manual_seed(0),
    )
    values, mask, faulty = by_loop(scheme, certificate, spans, ended, prefix_weight, **options)
    got = reward.values.tolist()
    if scheme == "until_error_shuffled" and not (certificate.correct and ended):
        moved = token_rewards(scheme, certificate, spans, ended, **options, generator=torch.Generator().manual_seed(0))
        paid = failure_reward * (1 - score_weight * (certificate.score if ended else 0))
        at_the_end = [paid * (k == len(spans) - 1) for k in range(len(spans))], [True] * len(spans)
        anywhere = [
            ([paid * (k == place) for k in range(len(spans))], [k <= place for k in range(len(spans))])
            for place in range(len(spans) - ended)
        ]
        assert (moved.values.tolist(), moved.loss_mask.tolist()) in [at_the_end, *anywhere]
        return
    if scheme == "token_shuffled":
        responses = len(spans) - ended
        assert got[responses:] == values[responses:]
        assert sorted(got[:responses]) == sorted(values[:responses])
    else:
        assert got == pytest.approx(values)
    assert reward.loss_mask.tolist() == mask
    assert reward.in_finding.tolist() == faulty
    assert reward.values.dtype == torch.float32


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("status", [Status.TIMEOUT, Status.CRASHED])
def test_without_evidence_nothing_is_paid_and_nothing_counts(scheme, status):
    reward = token_rewards(scheme, Certificate.without_evidence(status, ""), spans_of([1, 2], True), True, failure_reward=-1.0)
    assert reward.values.tolist() == [0.0, 0.0, 0.0]
    assert not reward.loss_mask.any()
    assert not reward.in_finding.any()
    assert reward.objection == -1


def test_rewards_stay_float32_under_another_default():
    torch.set_default_dtype(torch.bfloat16)
    try:
        dtypes = {token_rewards(scheme, CORRECT, spans_of([1], True), True).values.dtype for scheme in SCHEMES}
    finally:
        torch.set_default_dtype(torch.float32)
    assert dtypes == {torch.float32}


def test_a_rejected_answer_is_at_fault_and_counts():
    certificate = Certificate(False, 0.0, (Finding(0, 3, "too_long", ""),), status=Status.REJECTED)
    reward = token_rewards("token", certificate, spans_of([1, 2], True), True)
    assert reward.values.tolist() == [0.0, 0.0, 0.0]
    assert reward.loss_mask.all()


@pytest.mark.parametrize("scheme", ["boolean", "graded"])
def test_a_correct_answer_that_was_cut_off_gets_nothing_at_its_end(scheme):
    assert token_rewards(scheme, CORRECT, spans_of([1, 2], False), False).values.tolist() == [0.0, 0.0]
    assert token_rewards(scheme, CORRECT, spans_of([1, 2], True), True).values.tolist() == [0.0, 0.0, 1.0]


def test_a_cut_off_answer_is_a_failure_of_until_error_on_its_last_token():
    reward = token_rewards("until_error", CORRECT, spans_of([1, 2], False), False, failure_reward=-1.0)
    assert reward.values.tolist() == [0.0, -1.0]
    assert reward.loss_mask.all()
    assert reward.objection == 1


@pytest.mark.parametrize("findings", [[], [(0, 6)], [(6, 6)]], ids=["none", "whole answer", "missing at the end"])
def test_a_failure_without_a_place_stands_on_the_last_token_and_masks_nothing(findings):
    reward = token_rewards("until_error", wrong(*findings), spans_of([2, 2, 2], True), True, failure_reward=-1.0)
    assert reward.values.tolist() == [0.0, 0.0, 0.0, -1.0]
    assert reward.loss_mask.all()
    assert reward.objection == 3


def test_the_first_of_several_findings_ends_the_episode_whatever_their_order():
    reward = token_rewards("until_error", wrong((0, 8), (4, 6), (2, 6)), spans_of([2, 2, 2, 2], True), True, failure_reward=-1.0)
    assert reward.values.tolist() == [0.0, -1.0, 0.0, 0.0, 0.0]
    assert reward.loss_mask.tolist() == [True, True, False, False, False]
    assert reward.objection == 1


def test_a_finding_over_the_whole_answer_zeroes_its_tokens_without_characters_too():
    assert token_rewards("token", wrong((0, 4)), spans_of([2, 0, 2], True), True).values.tolist() == [0.0] * 4


@given(answers(), st.floats(0, 1))
def test_what_is_paid_for_right_tokens_is_at_most_the_weight(answer, weight):
    certificate, spans, ended = answer
    paid = token_rewards("until_error", certificate, spans, ended, prefix_weight=weight).values.sum().item()
    success = certificate.correct and ended
    assert 0 <= paid - success <= weight + 1e-5
    if success and len(spans) > 1:
        assert paid == pytest.approx(1 + weight, abs=1e-5)


@pytest.mark.parametrize("scheme", ["token_shuffled", "until_error_shuffled"])
def test_a_shuffle_is_repeated_by_its_seed_and_moves_rewards(scheme):
    spans, certificate = spans_of([1] * 20, True), wrong((3, 10))

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return token_rewards(scheme, certificate, spans, True, failure_reward=-1.0, generator=generator).values.tolist()

    assert draw(1) == draw(1)
    assert len({tuple(draw(seed)) for seed in range(5)}) > 1


def test_a_shuffled_failure_stands_on_every_response_token_alike():
    spans, certificate = spans_of([1] * 5, True), wrong((1, 2))
    generator = torch.Generator().manual_seed(0)
    counts = [0] * 6
    for _ in range(2000):
        values = token_rewards("until_error_shuffled", certificate, spans, True, failure_reward=-1.0, generator=generator).values
        counts[int(values.argmin())] += 1
    assert counts[5] == 0
    assert all(330 < count < 470 for count in counts[:5]), "a fifth each"


@pytest.mark.parametrize(
    "options", [{"prefix_weight": 1.5}, {"prefix_weight": -0.1}, {"failure_reward": 0.5}, {"score_weight": 2.0}]
)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match="got"):
        token_rewards("until_error", CORRECT, [(0, 1)], True, **options)


def test_an_unknown_scheme_is_refused_by_name():
    with pytest.raises(ValueError, match="'tokens'"):
        token_rewards("tokens", CORRECT, [(0, 1)], True)


# ---- A bandit in which failing at once is possible


def answer_return(scheme, certificate, sizes, **options):
    reward = token_rewards(scheme, certificate, spans_of(sizes, True), True, **options)
    return float((reward.values * reward.loss_mask).sum())


TRIES = 10  # tokens of an answer that is tried in earnest
OPTIONS = [(scheme, {}) for scheme in SCHEMES] + [
    ("until_error", {"failure_reward": -1.0}),
    ("until_error", {"failure_reward": -1.0, "score_weight": 1.0}),
    ("until_error", {"prefix_weight": 0.5}),
]


def returns(scheme, options):
    """Returns of: giving up at once, trying and failing at each token, solving."""
    at_once = answer_return(scheme, wrong((0, 1), score=0.0), [1, 1], **options)
    tried = [answer_return(scheme, wrong((k, k + 1), score=k / TRIES), [1] * TRIES, **options) for k in range(TRIES)]
    return at_once, tried, answer_return(scheme, CORRECT, [1] * TRIES, **options)


@pytest.mark.parametrize(("scheme", "options"), OPTIONS)
def test_no_scheme_prefers_failing_at_once_to_trying_or_trying_to_solving(scheme, options):
    at_once, tried, solved = returns(scheme, options)
    assert at_once <= min(tried)
    assert tried == sorted(tried)
    assert max(tried) < solved


@pytest.mark.parametrize(("scheme", "options"), OPTIONS)
def test_a_policy_that_may_fail_at_once_does_not_learn_to(scheme, options):
    """Exact policy gradient of one choice: give up, or try and fail anywhere, rarely winning."""
    at_once, tried, solved = returns(scheme, options)
    rng, chance = random.Random(0), 0.035
    weights = [rng.random() for _ in tried]
    try_it = chance * solved + (1 - chance) * sum(w * r for w, r in zip(weights, tried, strict=True)) / sum(weights)
    logit = torch.zeros((), requires_grad=True)
    for _ in range(200):
        giving_up = torch.sigmoid(logit)
        (gradient,) = torch.autograd.grad(giving_up * at_once + (1 - giving_up) * try_it, logit)
        logit = (logit + gradient).detach().requires_grad_()
    assert torch.sigmoid(logit) < 0.5


def test_the_literal_penalty_prefers_an_empty_answer_to_trying_where_winning_is_rare():
    """A known fault of ``token_penalty``: each further wrong token costs, so the end at once is the cheapest failure."""
    empty = answer_return("token_penalty", wrong((0, 0)), [])
    several = answer_return("token_penalty", wrong((2, 4), (6, 9)), [1] * TRIES)
    assert empty == -1.0
    assert several == -6.0
    assert answer_return("token_penalty", CORRECT, [1] * TRIES) > empty
    for scheme, options in OPTIONS:
        if scheme != "token_penalty":
            nothing = answer_return(scheme, wrong((0, 0), score=0.0), [], **options)
            assert nothing <= answer_return(scheme, wrong((2, 4), (6, 9)), [1] * TRIES, **options)


def test_the_literal_token_reward_pays_for_length():
    """A known fault of ``token`` and its two controls: a long failure pays more than a short success."""
    for scheme in SCHEMES:
        long_failure = answer_return(scheme, wrong((5, 6)), [1] * 40)
        assert (long_failure > answer_return(scheme, CORRECT, [1] * 10)) == (
            scheme in ("token", "token_sum_at_end", "token_shuffled")
        )


def test_the_share_of_right_tokens_is_counted_in_the_answers_own_length():
    """A known fault of ``prefix_weight``: a short failure may have a larger share than a long one that went further."""
    short = answer_return("until_error", wrong((1, 2)), [1] * 2, prefix_weight=0.5)
    further = answer_return("until_error", wrong((10, 11)), [1] * 30, prefix_weight=0.5)
    assert (short, further) == (pytest.approx(0.5 / 2), pytest.approx(0.5 / 3))


def test_an_answer_that_never_ends_equals_a_solved_one_under_the_literal_token_forms_only():
    for scheme, options in OPTIONS:
        reward = token_rewards(scheme, wrong(), spans_of([1] * 11, False), False, **options).values.sum().item()
        solved = answer_return(scheme, CORRECT, [1] * 10, **options)
        assert (reward == solved) == scheme.startswith("token"), scheme


# ---- Several callbacks


def batch(**callbacks):
    """Rollouts of three rows of four tokens: ended, ended after three, cut off."""
    mask = torch.tensor([[True] * 4, [True, True, True, False], [True] * 4])
    fields = {"rewards": {}, "loss_masks": {}, "evidence": {}}
    for name, (rewards, loss_mask, evidence) in callbacks.items():
        fields["rewards"][name] = torch.tensor(rewards) * mask
        fields["loss_masks"][name] = torch.tensor(loss_mask) & mask
        fields["evidence"][name] = torch.tensor(evidence)
    return SimpleNamespace(**fields, mask=mask, ended=torch.tensor([True, True, False]))


def combined_by_loop(rollouts, primary, rule, objections):
    rows, length = rollouts.mask.shape
    values, loss_mask = torch.zeros(rows, length), torch.zeros(rows, length, dtype=torch.bool)
    names = [primary, *(name for name in rollouts.rewards if name != primary)]
    for row in range(rows):
        if not rollouts.evidence[primary][row]:
            continue
        here = [name for name in names if rollouts.evidence[name][row]]
        if rule == "first_to_object":
            objecting = [name for name in here if objections[name][row] >= 0]
            here = [min(objecting, key=lambda name: objections[name][row])] if objecting else [primary]
        last = int(rollouts.mask[row].sum()) - 1
        for t in range(last + 1):
            rewards = [rollouts.rewards[name][row, t].item() for name in here]
            values[row, t] = min(rewards) if rule == "minimum" else sum(rewards)
            if t == last and rollouts.ended[row]:
                values[row, t] = rollouts.rewards[primary][row, t]
            counts = [bool(rollouts.loss_masks[name][row, t]) for name in here]
            loss_mask[row, t] = all(counts) if rule == "minimum" else any(counts)
    return values, loss_mask


tables = st.tuples(
    st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=4, max_size=4), min_size=3, max_size=3),
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=3, max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
)
places = st.lists(st.integers(-1, 3), min_size=3, max_size=3)


@pytest.mark.parametrize("rule", ["sum", "minimum", "first_to_object"])
@given(
    st.fixed_dictionaries({"b": tables, "a": tables, "c": tables}), st.fixed_dictionaries({"a": places, "b": places, "c": places})
)
def test_combining_equals_a_loop_over_rows_and_tokens(rule, callbacks, objections):
    rollouts = batch(**callbacks)
    objections = {name: torch.tensor(values) for name, values in objections.items()}
    values, loss_mask = combine(rollouts, "a", rule, objections)
    expected_values, expected_mask = combined_by_loop(rollouts, "a", rule, objections)
    assert torch.equal(values, expected_values)
    assert torch.equal(loss_mask, expected_mask)


@pytest.mark.parametrize("rule", ["sum", "minimum", "first_to_object"])
@given(table=tables)
def test_one_callback_alone_is_left_as_it_is_where_it_has_evidence(rule, table):
    rollouts = batch(only=table)
    values, loss_mask = combine(rollouts, "only", rule)
    rows = rollouts.evidence["only"][:, None]
    assert torch.equal(values, rollouts.rewards["only"] * rows)
    assert torch.equal(loss_mask, rollouts.loss_masks["only"] & rows)


def test_callbacks_that_contradict_each_other_on_one_token_follow_the_rule():
    everything = [[True] * 4] * 3, [True] * 3
    rollouts = batch(primary=([[1.0, 1.0, -1.0, 1.0]] * 3, *everything), other=([[1.0, -1.0, 1.0, 0.0]] * 3, *everything))
    objections = {"primary": torch.tensor([2, 2, 2]), "other": torch.tensor([1, 1, -1])}
    assert combine(rollouts, "primary", "sum")[0][0].tolist() == [2.0, 0.0, 0.0, 1.0]
    assert combine(rollouts, "primary", "minimum")[0][0].tolist() == [1.0, -1.0, -1.0, 1.0]
    first = combine(rollouts, "primary", "first_to_object", objections)[0]
    assert first[0].tolist() == [1.0, -1.0, 1.0, 1.0]
    assert first[2].tolist() == [1.0, 1.0, -1.0, 1.0]


def test_by_minimum_nothing_behind_the_first_fault_is_learned_from_whoever_sees_it():
    spans = [(i, i + 1) for i in range(3)] + [(3, 3)]
    for faults in ((1, None), (None, 1), (2, 1)):  # where each of two tools sees a fault
        tools = {}
        for name, fault in zip(("primary", "other"), faults, strict=True):
            findings = () if fault is None else (Finding(fault, fault + 1, "syntax", ""),)
            reward = token_rewards(
                "until_error", Certificate(not findings, float(not findings), findings), spans, True, failure_reward=-1.0
            )
            tools[name] = ([reward.values.tolist()] * 3, [reward.loss_mask.tolist()] * 3, [True] * 3)
        values, loss_mask = combine(batch(**tools), "primary", "minimum")
        assert values[0][loss_mask[0]].tolist() == [0.0, -1.0]


def test_rows_left_out_are_counted_for_every_other_callback():
    evidence = {
        "a": torch.tensor([True, True, False]),
        "b": torch.tensor([False, True, False]),
        "c": torch.tensor([True, True, True]),
    }
    assert left_out(evidence, "a") == {"b": 1, "c": 0}


def test_first_to_object_without_places_and_unknown_rules_are_refused():
    table = ([[0.0] * 4] * 3, [[True] * 4] * 3, [True] * 3)
    with pytest.raises(ValueError, match="objections"):
        combine(batch(a=table, b=table), "a", "first_to_object")
    with pytest.raises(ValueError, match="'mean'"):
        combine(batch(a=table), "a", "mean")


@given(st.tuples(*[st.sampled_from([None, 0, 1, 2, "nowhere"])] * 2), st.booleans())
def test_until_error_learns_the_same_by_minimum_and_by_first_to_object(faults, ended):
    spans = spans_of([1, 1, 1], ended)
    tools, objections = {}, {}
    for name, fault in zip(("primary", "other"), faults, strict=True):
        findings = (Finding(fault, fault + 1, "syntax", ""),) if isinstance(fault, int) else ()
        certificate = Certificate(fault is None, float(fault is None), findings)
        reward = token_rewards("until_error", certificate, spans, ended, failure_reward=-1.0)
        padding = 4 - len(spans)
        tools[name] = (
            [[*reward.values.tolist(), *[0.0] * padding]] * 3,
            [[*reward.loss_mask.tolist(), *[False] * padding]] * 3,
            [True] * 3,
        )
        objections[name] = torch.tensor([reward.objection] * 3)
    row = 0 if ended else 1
    rollouts = batch(**tools)
    rollouts.ended = torch.tensor([ended] * 3)
    least, first = (combine(rollouts, "primary", rule, objections) for rule in ("minimum", "first_to_object"))
    assert torch.equal(least[1][row], first[1][row])
    assert torch.equal(least[0][row][least[1][row]], first[0][row][first[1][row]])
