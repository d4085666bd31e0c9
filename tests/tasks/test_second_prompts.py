"""Second attempts in each task, with its own tool: what is told is what a tool knows that has no reference."""

import shutil

import pytest

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.tasks import Task
from lit_symbolic.tasks.game24 import Game24
from lit_symbolic.tasks.molecules import MoleculeGeneration
from lit_symbolic.tasks.pseudocode import PseudocodeToCpp
from lit_symbolic.tasks.reactions import ForwardSynthesis, Retrosynthesis

FEW = {"train_problems": 20, "validation_problems": 1, "test_problems": 3}


def asked_again(task: Task, problem: Problem, answer: str) -> tuple[Certificate, str]:
    """The certificate of a wrong answer, and what is told of it."""
    certificate = task.verifier_of(problem).verify(problem, answer)
    assert not certificate.correct
    prompt = task.second_prompt(problem, answer, certificate)
    assert prompt.startswith(problem.prompt)
    told = prompt.removeprefix(problem.prompt)
    assert answer in told
    told = told.partition("What was found in it:")[2]
    assert "\n- " in told
    assert "reference" not in told.replace("not the reference", ""), told
    return certificate, told


def test_a_wrong_step_is_told_with_its_place() -> None:
    task = Game24()
    _, told = asked_again(
        task, Problem("game24", "0", "4 4 6 8\n", {"cards": (4, 4, 6, 8), "target": 24}), "4 + 4 = 9 (left: 6 8 9)"
    )
    assert "line 1, '9'" in told


def test_a_molecule_that_lacks_a_group_is_told_so_and_not_where_the_reference_has_it() -> None:
    task = MoleculeGeneration(must_match=True)
    problem = Problem("molecules", "0", "a nitrile with a hydroxy group\n", {"groups": ["nitrile", "hydroxy"]}, "OCC#N")
    _, told = asked_again(task, problem, "CC#N")
    assert told == "\n- at the end: hydroxy is asked for\nThe corrected answer:\n"


@pytest.mark.parametrize("kind", [ForwardSynthesis, Retrosynthesis])
def test_where_a_molecule_left_the_reference_is_not_told(kind: type[Task]) -> None:
    task = kind(**FEW)  # type: ignore[call-arg]
    for problem in task.problems("test"):
        certificate, told = asked_again(task, problem, "CCCCCCCCCCCCCCN")
        assert any(finding.kind == "departure" for finding in certificate.findings)
        assert "any more" not in told
        assert problem.reference not in told


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: scripts/install-system-packages.sh")
def test_the_place_where_a_program_left_the_reference_is_not_told() -> None:
    task = PseudocodeToCpp(locate_departure=True, **FEW)  # type: ignore[arg-type]
    code = "int main() {\n  int a, b;\n  cin >> a >> b;\n  cout << a + b << endl;\n  return 0;\n}\n"
    facts = {"prefix": "#include <iostream>\nusing namespace std;\n", "tests": [{"input": "1 2", "output": "3"}]}
    problem, answer = Problem("pseudocode", "0", "print the sum\n\n", facts, code), code.replace("+", "-")
    certificate, told = asked_again(task, problem, answer)
    [finding] = certificate.findings
    assert (finding.start, finding.end) != (0, len(answer)), "training is told the place"
    assert told.startswith("\n- in the whole answer: 1 of 1 tests failed")
