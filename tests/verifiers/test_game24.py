import pickle
import random
import subprocess
import sys
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brute_force import OPERATORS, brute_final_values
from lit_symbolic.certificate import Problem
from lit_symbolic.verifiers.base import Verifier
from lit_symbolic.verifiers.calculating import game24_solver as solver
from lit_symbolic.verifiers.calculating.arithmetic import apply, write_step
from lit_symbolic.verifiers.game24 import Game24Verifier

SOLVABLE = [cards for cards in solver.all_card_sets() if solver.solvable(cards, 24)]
GOLD = "4 + 8 = 12 (left: 4 6 12)\n6 - 4 = 2 (left: 2 12)\n2 * 12 = 24 (left: 24)"

puzzles = st.sampled_from(SOLVABLE)
seeds = st.integers(0, 10_000)


def problem(cards=(4, 4, 6, 8), target=24):
    return Problem("game24", "", "", {"cards": cards, "target": target})


def verify(text, cards=(4, 4, 6, 8), target=24, **options):
    return Game24Verifier(**options).verify(problem(cards, target), text)


def faults(text, certificate):
    return [(finding.kind, text[finding.start : finding.end], finding.start) for finding in certificate.findings]


def random_solution(cards, rng, target=24):
    """Steps of a random solution with the position that each is taken in."""
    numbers, steps = tuple(sorted(cards)), []
    while len(numbers) > 1:
        step = rng.choice(solver.winning_steps(numbers, target))
        steps.append((numbers, step))
        numbers = solver.play(numbers, step)
    return steps


def write(steps):
    return [write_step(*step, left=solver.play(numbers, step)) for numbers, step in steps]


# --- right answers ---


def test_a_solution_is_certified():
    certificate = verify(GOLD)
    assert (certificate.correct, certificate.score, certificate.findings) == (True, 1.0, ())
    assert certificate.measures == {"solved": 1, "steps": 3, "steps_valid": 3, "step_validity": 1, "reachable_steps": 3}


@given(puzzles, seeds, st.data())
@settings(max_examples=100, deadline=None)
def test_every_random_solution_is_certified_whatever_the_order_of_its_lists(cards, seed, data):
    rng = random.Random(seed)
    lines = []
    for numbers, step in random_solution(cards, rng):
        lines.append(write_step(*step, left=data.draw(st.permutations(solver.play(numbers, step)))))
    text = "\n".join(lines)
    certificate = verify(text, cards)
    assert certificate.correct, (text, certificate)


def test_blank_lines_and_blanks_do_not_matter():
    assert verify("\n\n" + GOLD.replace("\n", " \r\n\n").replace(" + ", "+") + "\n \n").correct


def test_fractions_are_exact():
    text = "8 / 3 = 8/3 (left: 3 8 8/3)\n3 - 8/3 = 1/3 (left: 8 1/3)\n8 / 1/3 = 24 (left: 24)"
    assert verify(text, (3, 3, 8, 8)).correct
    wrong = text.replace("1/3 (left: 8 1/3)", "1/4 (left: 8 1/4)")
    assert faults(wrong, verify(wrong, (3, 3, 8, 8)))[0] == ("false_arithmetic", "1/4", wrong.index("1/4"))


def test_other_counts_of_cards_and_other_targets_are_certified():
    assert verify("3 * 5 = 15 (left: 15)", (3, 5), 15).correct
    text = "1 + 2 = 3 (left: 3 3 4 5)\n3 + 3 = 6 (left: 4 5 6)\n4 * 5 = 20 (left: 6 20)\n20 - 6 = 14 (left: 14)"
    assert verify(text, (1, 2, 3, 4, 5), 14).correct
    assert verify("", (24,)).correct


# --- faults in steps ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOLD.replace("6 - 4 = 2", "7 - 4 = 3"), [("unavailable_number", "7", 26)]),
        (GOLD.replace("4 + 8", "4 + 9", 1), [("unavailable_number", "9", 4), ("false_arithmetic", "12", 8)]),
        (GOLD.replace("4 + 8 = 12", "8 + 8 = 16"), [("unavailable_number", "8", 4)]),
        (GOLD.replace("4 + 8 = 12", "4 + 8 = 13"), [("false_arithmetic", "13", 8)]),
        (GOLD.replace("4 + 8 = 12 (left: 4 6 12)", "4 + 8 = 13 (left: 4 6 13)"), [("false_arithmetic", "13", 8)]),
        (GOLD.replace("(left: 4 6 12)", "(left: 4 7 12)"), [("wrong_remainder", "7", 20)]),
        (GOLD.replace("(left: 4 6 12)", "(left: 4 4 6 12)"), [("wrong_remainder", "4", 20)]),
        (
            GOLD.replace("(left: 4 6 12)", "(left: 9 4 8 6 1 2 12)"),
            [("wrong_remainder", w, GOLD.index("4 6") + i) for w, i in (("9", 0), ("8", 4), ("1 2", 8))],
        ),
        (GOLD.replace("(left: 4 6 12)", "(left: 4 12)"), [("wrong_remainder", ")", 22)]),
        (GOLD.replace("(left: 24)", "(left: )"), [("wrong_remainder", ")", len(GOLD) - 3)]),
        (GOLD.replace("6 - 4", "6 minus 4"), [("malformed_step", "minus 4 = 2 (left: 2 12)", 28)]),
        (GOLD + "\n24 * 1 = 24 (left: 24)\nDone", [("extra_step", "24 * 1 = 24 (left: 24)\nDone", len(GOLD) + 1)]),
        (GOLD + " ok", [("malformed_step", "ok", len(GOLD) + 1)]),
        (GOLD[:-1], [("malformed_step", "", len(GOLD) - 1)]),
        ("Steps:\n" + GOLD, [("malformed_step", "Steps:", 0)]),
        (GOLD[: GOLD.rindex("\n")], [("goal", "", GOLD.rindex("\n"))]),
        ("4 + 8 = 12 (left: 4 6 12)\n", [("goal", "", 26)]),
        ("", [("goal", "", 0)]),
        (" \n", [("goal", "", 2)]),
    ],
)
def test_a_fault_is_located_at_its_characters(text, expected):
    certificate = verify(text)
    assert faults(text, certificate) == expected
    assert not certificate.correct
    assert certificate.score < 1


def test_division_by_zero_is_located_at_the_divisor_and_ends_the_checking():
    text = "4 - 4 = 0 (left: 0 6 8)\n6 / 0 = 0 (left: 0 8)\nnonsense"
    certificate = verify(text)
    assert ("division_by_zero", "0", 28) in faults(text, certificate)
    assert all(finding.kind != "malformed_step" for finding in certificate.findings)


@pytest.mark.parametrize(
    ("cards", "step", "lost_at"),
    [
        # 4 4 6 8 is won by 4 - 6, 6 - 4, 4 + 8, 8 + 4, 6 - 8 and 8 - 6 alone; 2 3 5 12 by 5 / 2 alone.
        ((4, 4, 6, 8), "4 + 8 = 12 (left: 4 6 12)", ""),
        ((4, 4, 6, 8), "4 - 6 = -2 (left: -2 4 8)", ""),
        ((4, 4, 6, 8), "4 + 6 = 10 (left: 4 8 10)", "6"),
        ((4, 4, 6, 8), "8 - 4 = 4 (left: 4 4 6)", "4"),
        ((4, 4, 6, 8), "8 / 6 = 4/3 (left: 4 4 4/3)", "/ 6"),
        ((2, 3, 5, 12), "5 / 2 = 5/2 (left: 3 5/2 12)", ""),
        ((2, 3, 5, 12), "5 / 3 = 5/3 (left: 2 5/3 12)", "3"),
        ((2, 3, 5, 12), "5 * 2 = 10 (left: 3 10 12)", "* 2"),
        ((2, 3, 5, 12), "2 * 12 = 24 (left: 3 5 24)", "2 * 12"),
    ],
)
def test_the_span_of_a_lost_game_is_the_shortest_end_of_the_step_from_the_point_of_no_return(cards, step, lost_at):
    kind, text, start = faults(step, verify(step, cards))[0]
    if lost_at:
        assert (kind, text, start) == ("unreachable", lost_at, step.index(" =") - len(lost_at))
    else:
        assert kind == "goal"


def reference_point_of_no_return(numbers, step, target):
    """By plain recursion: which words of "a op b" can still be the beginning of a step that does not lose."""
    wins = [
        (a, operator)
        for i, j in permutations(range(len(numbers)), 2)
        for operator in OPERATORS
        for a, b in [(numbers[i], numbers[j])]
        if (result := apply(operator, a, b)) is not None
        and target in brute_final_values([*(n for k, n in enumerate(numbers) if k not in (i, j)), result])
    ]
    if step.a not in [a for a, _ in wins]:
        return 0
    return 1 if (step.a, step.operator) not in wins else 2


@given(puzzles, seeds, st.integers(0, 2))
@settings(max_examples=60, deadline=None)
def test_a_losing_step_is_found_once_at_its_exact_choice_with_a_proof(cards, seed, lost_in):
    rng = random.Random(seed)
    steps = random_solution(cards, rng)[:lost_in]
    numbers = solver.play(*steps[-1]) if steps else cards
    losing = [step for step in solver.legal_steps(numbers) if step not in solver.winning_steps(numbers, 24)]
    if not losing:
        return
    steps.append((numbers, rng.choice(losing)))
    before = "".join(line + "\n" for line in write(steps[:-1]))
    lost_step = steps[-1][1]
    left = solver.play(*steps[-1])
    while len(left) > 1:
        steps.append((left, rng.choice(solver.legal_steps(left))))
        left = solver.play(*steps[-1])
    text = "\n".join(write(steps))
    certificate = verify(text, cards)
    words = [f"{lost_step.a} {lost_step.operator} {lost_step.b}", f"{lost_step.operator} {lost_step.b}", f"{lost_step.b}"]
    expected = words[reference_point_of_no_return(numbers, lost_step, 24)]
    end = len(before) + len(words[0])
    assert faults(text, certificate) == [("unreachable", expected, end - len(expected))]
    assert certificate.score == pytest.approx(lost_in / 3)
    assert certificate.measures["reachable_steps"] == lost_in
    assert certificate.measures["step_validity"] == 1
    assert "the last number" in certificate.evidence or "ways to play" in certificate.evidence


def test_the_proof_names_what_was_exhausted():
    certificate = verify("4 + 8 = 12 (left: 4 6 12)\n12 / 6 = 2 (left: 2 4)\n2 * 4 = 8 (left: 8)")
    assert "all 6 ways to play 2 4 to the end were tried, they give -2 1/2 2 6 8" in certificate.evidence
    assert "24 can no longer be reached" in certificate.findings[0].message


def test_after_false_arithmetic_the_game_goes_on_from_the_true_result():
    text = GOLD.replace("4 + 8 = 12 (left: 4 6 12)", "4 + 8 = 11 (left: 4 6 11)")
    certificate = verify(text)
    assert [finding.kind for finding in certificate.findings] == ["false_arithmetic"]
    assert certificate.measures["steps_valid"] == 2
    lost = text.replace("2 * 12 = 24 (left: 24)", "2 + 12 = 24 (left: 24)")
    assert [finding.kind for finding in verify(lost).findings] == ["false_arithmetic", "unreachable", "false_arithmetic"]


def test_puzzles_without_a_solution_get_a_goal_finding_and_no_blame_of_a_step():
    text = "1 + 1 = 2 (left: 1 1 2)\n1 + 1 = 2 (left: 2 2)\n2 * 2 = 4 (left: 4)"
    certificate = verify(text, (1, 1, 1, 1))
    assert faults(text, certificate) == [("goal", "4", text.index("4"))]
    assert certificate.score < 1


def test_lines_without_an_equals_sign_are_skipped_on_request():
    prose = f"Steps:\n```\n{GOLD}\n```\nDone."
    assert verify(prose, strict=False).correct
    assert not verify(prose).correct
    assert faults("Hello", verify("Hello", strict=False)) == [("malformed_step", "Hello", 0)]


@given(puzzles, seeds, st.integers(0, 2), st.data())
@settings(max_examples=150, deadline=None)
def test_an_injected_fault_is_found_where_it_was_put(cards, seed, place, data):
    steps = random_solution(cards, random.Random(seed))
    lines = write(steps)
    numbers, step = steps[place]
    left = list(solver.play(numbers, step))
    strange = data.draw(st.integers(500, 900))
    kind = data.draw(st.sampled_from(["a", "b", "result", "left", "more", "less", "sign", "equals", "stop", "extra"]))
    start, end, expected = None, None, None
    a, operator, b, _ = map(str, step)
    if kind == "a":
        lines[place], start, end, expected = f"{strange} {lines[place].partition(' ')[2]}", 0, 3, "unavailable_number"
    elif kind == "b":
        start, expected = len(f"{a} {operator} "), "unavailable_number"
        lines[place], end = f"{a} {operator} {strange} = {lines[place].split(' = ')[1]}", start + 3
    elif kind == "result":
        start, expected = len(f"{a} {operator} {b} = "), "false_arithmetic"
        lines[place], end = write_step(step.a, operator, step.b, strange, left), start + 3
    elif kind in ("left", "more", "less"):
        index = data.draw(st.integers(0, len(left) - 1))
        start = len(write_step(*step, left=left[:index])) - 1 + bool(index)
        end, expected = start + 3, "wrong_remainder"
        if kind == "less":
            del left[index]
            start = len(write_step(*step, left=left)) - 1
            end = start + 1
        else:
            left[index : index + (kind == "left")] = [strange]
        lines[place] = write_step(*step, left=left)
    elif kind == "sign":
        start, expected = len(f"{a} "), "malformed_step"
        lines[place] = f"{a} {data.draw(st.sampled_from('%^xX:×'))} " + lines[place].split(" ", 2)[2]
        end = len(lines[place])
    elif kind == "equals":
        start, expected = len(f"{a} {operator} {b} "), "malformed_step"
        lines[place] = lines[place].replace(" = ", " is ")
        end = len(lines[place])
    elif kind == "stop":
        lines, place, expected = lines[:place], max(place - 1, 0), "goal"
        start = end = len(lines[-1]) if lines else 0
    else:
        place, expected = 3, "extra_step"
        lines.append(write_step(24, "*", 1, 24, [24]))
        start, end = 0, len(lines[-1])
    text = "\n".join(lines)
    offset = sum(len(line) + 1 for line in lines[:place])
    certificate = verify(text, cards)
    spans = [(finding.kind, finding.start, finding.end) for finding in certificate.findings]
    assert (expected, offset + start, offset + end) in spans, (kind, text, spans)
    assert all(finding.start >= offset for finding in certificate.findings), "nothing is wrong before the fault"
    assert not certificate.correct


# --- expressions on one line ---


@pytest.mark.parametrize("text", ["(10-4)*(13-9)", "(10 - 4) * (13 - 9) = 24", " ((10-4))*(13-9)=24\n", "(13-9)*(10-4)=48/2"])
def test_an_expression_on_one_line_is_certified(text):
    assert verify(text, (4, 9, 10, 13)).correct


def test_an_expression_divides_exactly():
    assert verify("8/(3-8/3)", (3, 3, 8, 8)).correct
    assert verify("1*2*3*4", (1, 2, 3, 4)).correct


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(10-4)*(13-8)", [("unavailable_number", "8", 11)]),
        ("(10-4)*(10-4)", [("unavailable_number", "10", 8), ("unavailable_number", "4", 11)]),
        ("(10-4)*(13-9)*1", [("unavailable_number", "1", 14)]),
        ("(10-4)*(13-9) = 25", [("false_arithmetic", "25", 16)]),
        ("(10-4)+(13-9) = 24", [("goal", "10-4)+(13-9", 1), ("false_arithmetic", "24", 16)]),
        ("10+4+13-9", [("goal", "10+4+13-9", 0)]),
        ("(10-4)*4", [("unavailable_number", "4", 7)]),
        ("(10+13)+4", [("goal", "10+13)+4", 1)]),
        ("(10-4)**(13-9)", [("malformed_step", "*(13-9)", 7)]),
        ("(10-4)*(13-9", [("malformed_step", "", 12)]),
        ("(10-4)*(13-9) = 24!", [("malformed_step", "!", 18)]),
        ("10/(9+4-13)", [("division_by_zero", "9+4-13", 4)]),
        ("-(4-10)*(13-9)", [("malformed_step", "-(4-10)*(13-9)", 0)]),
    ],
)
def test_a_fault_of_an_expression_is_located_at_its_characters(text, expected):
    certificate = verify(text, (4, 9, 10, 13))
    assert faults(text, certificate) == expected
    assert (certificate.correct, certificate.score) == (False, 0.0)


def test_a_lone_step_without_its_list_is_a_step_and_not_an_expression():
    assert faults("4 + 8 = 12", verify("4 + 8 = 12")) == [("malformed_step", "", 10), ("goal", "", 10)]
    assert faults("4 +", verify("4 +")) == [("malformed_step", "", 3)]
    assert verify("3 * 8", (3, 8)).correct


# --- as a worker sees it ---


def test_the_verifier_is_picklable_and_keeps_the_contract():
    verifier = pickle.loads(pickle.dumps(Game24Verifier(strict=False, max_characters=100)))
    assert isinstance(verifier, Verifier)
    assert (verifier.strict, verifier.max_characters) == (False, 100)
    assert pickle.loads(pickle.dumps(verifier.verify(problem(), GOLD))) == verifier.verify(problem(), GOLD)


def test_verifier_and_task_load_neither_torch_nor_lightning_nor_sympy():
    code = (
        "import sys, lit_symbolic.tasks.game24, lit_symbolic.verifiers.game24;"
        "print([name for name in ('torch', 'lightning', 'sympy', 'transformers') if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.strip() == "[]"
