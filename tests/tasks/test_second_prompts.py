"""Second attempts in each task, with its own tool: what is told is what a tool knows that has no reference."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_symbolic.certificate import Certificate, Problem
from lit_symbolic.tasks import Task
from lit_symbolic.tasks.game24 import Game24
from lit_symbolic.tasks.molecules import MoleculeGeneration
from lit_symbolic.tasks.pseudocode import PseudocodeToCpp
from lit_symbolic.tasks.reactions import ForwardSynthesis, Retrosynthesis
from tiny import CONFIGS

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


@pytest.mark.parametrize(
    ("task", "facts", "answer", "references", "told"),
    [
        (
            ForwardSynthesis(**FEW),  # type: ignore[arg-type]
            {"reactants": "CC(=O)O.NCC"},
            "OC(=O)NCCO",
            ("CC(=O)NCC", "OC(=O)NCC"),
            "- in the whole answer: O: the answer has 3, what is put in has 2",
        ),
        (
            Retrosynthesis(**FEW),  # type: ignore[arg-type]
            {"product": "CC(=O)NCCBr"},
            "NCC.CC(=O)Cl",
            ("NCCBr.CC(=O)Cl", "NCCCC.CC(=O)CBr"),
            "- at the end: Br: the product has 1, the answer has 0",
        ),
    ],
)
def test_what_is_told_does_not_depend_on_the_reference(
    task: Task, facts: dict[str, str], answer: str, references: tuple[str, str], told: str
) -> None:
    asked = [Problem(task.name, "0", "?\n", facts, reference) for reference in references]
    places = [[(f.start, f.end) for f in task.verifier.verify(problem, answer).findings] for problem in asked]
    assert places[0] != places[1], "training is told where it left the reference"
    second = [asked_again(task, problem, answer)[1] for problem in asked]
    assert second[0] == second[1]
    assert second[0].splitlines()[1:-1] == [told]


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


@pytest.mark.parametrize("task", ["game24", "molecules", "forward_synthesis", "retrosynthesis", "pseudocode"])
def test_predictions_of_each_task_hold_both_attempts(task: str, run_cli: Any, tmp_path: Path) -> None:
    if task == "pseudocode" and shutil.which("g++") is None:
        pytest.skip("needs g++: scripts/install-system-packages.sh")
    sizes: dict[str, Any] = {"validation_problems": 1, "test_problems": 2}
    sizes |= {} if task == "molecules" else {"train_problems": 20}
    small = {
        "model": {"init_args": {"policy": {"init_args": {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 32}}}},
        "data": {"task": {"init_args": {} if task == "game24" else sizes}},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    run_cli(
        [
            "predict",
            f"--config={CONFIGS / task / 'sft.yaml'}",
            f"--config={tmp_path / 'small.yaml'}",
            "--model.evaluation.attempts=2",
            "--model.evaluation.samples=2",
            "--model.evaluation.pass_at=[1]",
            "--model.max_new_tokens=4",
            "--data.test_limit=2",
            "--trainer.accelerator=cpu",
            "--trainer.enable_progress_bar=false",
            "--trainer.logger=false",
            "--reward.workers=1",
            "--export.enabled=false",
            f"--trainer.default_root_dir={tmp_path}",
        ]
    )
    (written,) = tmp_path.glob("**/predictions.jsonl")
    answers = [json.loads(line) for line in written.read_text().splitlines()]
    assert len(answers) == 4
    assert all(len(answer["earlier"]) == 1 for answer in answers), (
        "four tokens of an untrained model are refused, and asked for again"
    )
