"""What every task does by default: tell a model what was wrong, and say when the tool rules a beginning out."""

import pytest

from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.data import TaskMixture
from lit_symbolic.tasks.game24 import Game24
from toys import Climb, Say

PROBLEM = Problem("say", "0", "say it\n")


def refused(*findings, status=Status.OK, evidence=""):
    return Certificate(False, 0.0, findings, status=status, evidence=evidence)


def second(answer, certificate, prompt="say it\n"):
    return Say().second_prompt(Problem("say", "0", prompt), answer, certificate)


# ---------------------------------------------------------------- second prompts


def test_a_second_prompt_holds_the_first_the_answer_and_each_finding_in_its_own_words():
    answer = "1 + 1 = 3\n3 * 8 = 24"
    told = second(answer, refused(Finding(8, 9, "arithmetic", "1 + 1 is 2"), Finding(10, 15, "number", "3 is not there")))
    assert told == (
        "say it\n1 + 1 = 3\n3 * 8 = 24\n\nThis answer is wrong. What was found in it:\n"
        "- line 1, '3': 1 + 1 is 2\n- line 2, '3 * 8': 3 is not there\nThe corrected answer:\n"
    )


def test_places_without_words_of_their_own_are_described():
    told = second(
        "ab\ncd", refused(Finding(0, 5, "goal", "tests fail"), Finding(4, 4, "syntax", "lacks ;"), Finding(5, 5, "goal", "more"))
    )
    assert "- in the whole answer: tests fail\n- line 2, before 'd': lacks ;\n- at the end: more\n" in told


def test_many_findings_and_long_ones_are_cut():
    answer = "x" * 200
    told = second(answer, refused(*(Finding(k, k + 100, "syntax", f"fault {k}") for k in range(8))))
    assert told.count("\n- line") == 5
    assert "- and 3 more\n" in told
    assert max(map(len, told.split("\n")[3:])) < 100


def test_without_findings_the_evidence_is_told_and_a_prompt_without_a_line_break_gets_one():
    assert "- off by one\n" in second("7", refused(evidence="off by one"))
    assert "- it does not reach its goal\n" in second("7", refused())
    assert second("7", refused(), prompt="3 + 3 =").startswith("3 + 3 =\n7\n\nThis answer")


def test_what_is_left_out_is_told_by_no_other_way():
    class Secretive(Say):
        def tellable(self, answer, finding):
            return None if finding.kind == "departure" else finding

    findings = [Finding(k, k + 1, "departure", "the reference has b") for k in range(6)]
    told = Secretive().second_prompt(PROBLEM, "abcdef", refused(*findings, evidence="the reference has b"))
    assert "reference" not in told
    assert "- it does not reach its goal\n" in told
    both = Secretive().second_prompt(PROBLEM, "abcdef", refused(*findings, Finding(2, 3, "syntax", "no such word")))
    assert "What was found in it:\n- line 1, 'c': no such word\nThe corrected" in both


# ---------------------------------------------------------------- beginnings


@pytest.mark.parametrize(
    ("findings", "lost"),
    [
        ((), False),
        ((Finding(4, 4, "goal", "the end is missing"),), False),  # "a\nb\n" has four characters
        ((Finding(3, 3, "goal", "behind the last word"),), False),
        ((Finding(0, 4, "goal", "tests fail"),), False),
        ((Finding(0, 1, "word", ""),), True),
        ((Finding(2, 3, "word", ""),), True),
        ((Finding(0, 3, "word", "all but the line break"),), True),
        ((Finding(4, 4, "goal", ""), Finding(2, 2, "word", "lacks one")), True),
    ],
)
def test_a_beginning_is_ruled_out_by_a_fault_that_has_a_place_in_it(findings, lost):
    assert Climb().ruled_out(PROBLEM, "a\nb\n", refused(*findings)) == lost


def test_a_beginning_that_the_tool_refuses_is_ruled_out():
    assert Climb().ruled_out(PROBLEM, "a\n", refused(Finding(0, 2, "too_long", ""), status=Status.REJECTED))


def test_of_several_tasks_the_problems_own_says_what_rules_out():
    class Patient(Climb):
        name = "patient"

        def ruled_out(self, problem, beginning, certificate):
            return False

    mixture = TaskMixture([Climb(), Patient()])
    fault = refused(Finding(0, 1, "word", ""))
    assert mixture.ruled_out(PROBLEM, "x\n", fault)
    assert not mixture.ruled_out(Problem("patient", "0", ""), "x\n", fault)
    assert isinstance(mixture.task_of(Problem("patient", "0", "")), Patient)
    assert mixture.task_of(PROBLEM).task_of(PROBLEM).name == "say"


# ---------------------------------------------------------------- the Game of 24, step by step


def ruled_out(text, **options):
    task = Game24(**options)
    problem = task.problem((4, 4, 6, 8), 24)
    return task.ruled_out(problem, text, task.verifier.verify(problem, text))


def test_every_beginning_of_a_solution_stands():
    task = Game24()
    for problem in task.problems("test")[:40]:
        lines = problem.reference.split("\n")
        for count in range(len(lines) + 1):
            text = "".join(f"{line}\n" for line in lines[:count])
            assert not task.ruled_out(problem, text, task.verifier.verify(problem, text)), text


@pytest.mark.parametrize(
    "text",
    [
        "4 + 8 = 13 (left: 4 6 13)\n",
        "4 + 9 = 13 (left: 4 6 13)\n",
        "4 + 8 = 12 (left: 4 6)\n",
        "8 / 4 = 2 (left: 2 4 6)\n2 + 4 = 6 (left: 6 6)\n",  # 6 and 6 make no 24
        "hello\n",
    ],
)
def test_a_false_step_or_one_that_loses_the_game_rules_a_beginning_out(text):
    assert ruled_out(text)


def test_words_before_the_first_step_are_no_fault_of_a_chat_model():
    assert ruled_out("Here is my answer:\n")
    assert not ruled_out("Here is my answer:\n", strict=False)
    assert ruled_out("Here is my answer:\n4 + 8 = 13 (left: 4 6 13)\n", strict=False)
