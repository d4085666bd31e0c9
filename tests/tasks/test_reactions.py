import json
import pickle
import random
import subprocess
import sys

import pytest

from lit_symbolic.certificate import Problem
from lit_symbolic.policies.tiny import learned_tokenizer
from lit_symbolic.tasks.reactions import ForwardSynthesis, Retrosynthesis
from lit_symbolic.tasks.splitting import split_of

SMALL = {"validation_problems": 20, "test_problems": 30, "train_problems": 200}
TASKS = [ForwardSynthesis, Retrosynthesis]


@pytest.fixture(scope="module", params=TASKS, ids=["forward", "retro"])
def task(request):
    return request.param(**SMALL)


def test_splits_share_no_reaction_and_are_the_same_in_another_task(task):
    ids = {split: {problem.id for problem in task.problems(split)} for split in ("train", "validation", "test")}
    assert {split: len(found) for split, found in ids.items()} == {"train": 200, "validation": 20, "test": 30}
    assert not ids["train"] & ids["validation"]
    assert not ids["train"] & ids["test"]
    assert not ids["validation"] & ids["test"]
    again = type(task)(**SMALL | {"test_problems": 10})
    assert list(again.problems("test")) == list(task.problems("test"))[:10]
    rng = random.Random(0)
    normal_form = (lambda problem: problem.facts["product"]) if isinstance(task, Retrosynthesis) else (lambda problem: problem.id)
    assert all(split_of(normal_form(task.sample(rng))) == "train" for _ in range(30))


def test_what_is_asked_in_test_is_never_trained_on(task):
    """Not with another answer either: several reactions make one product."""
    held_out = {problem.prompt for split in ("validation", "test") for problem in task.problems(split)}
    held_out |= {problem.prompt for problem in type(task)(**SMALL | {"test_problems": 60}).problems("test")}
    rng = random.Random(4)
    assert not held_out & {task.sample(rng).prompt for _ in range(600)}


def test_a_prompt_and_its_demonstration_are_certified(task):
    rng = random.Random(1)
    for problem in task.problems("test"):
        answer = task.demonstration(problem, rng)
        certificate = task.verifier_of(problem).verify(problem, answer)
        assert certificate.correct
        assert certificate.measures["exact"] == 1.0
        assert problem.facts["class"] not in problem.prompt


def test_so_many_demonstrations_are_solutions_and_the_others_can_be_read(task):
    sketching = type(task)(solution_share=0.25, **SMALL)
    rng, solved = random.Random(2), 0
    for _ in range(400):
        problem = sketching.sample(rng)
        certificate = sketching.verifier.verify(problem, sketching.demonstration(problem, rng))
        assert certificate.measures["validity"] == 1.0
        solved += certificate.correct
    assert 75 <= solved <= 125  # 100 expected, standard deviation 8.7
    with pytest.raises(ValueError, match="solution_share"):
        type(task)(solution_share=1.5, **SMALL)


def test_selfies_are_demonstrated_whole_and_never_sketched(task):
    problem = Problem(task.name, "row 7", "", {"product": "[C][C][O]", "reactants": "[C][C][O]"}, "[C][C][=O]")
    assert task.demonstration(problem, random.Random(0)) == "[C][C][=O]"
    with pytest.raises(ValueError, match=r"row 7.*SELFIES"):
        type(task)(solution_share=0.0, **SMALL).demonstration(problem, random.Random(0))


def test_the_prompts_are_compact_and_name_what_is_known():
    forward = next(p for p in ForwardSynthesis(**SMALL).problems("test") if p.facts["class"] == "nitro reduction")
    assert forward.prompt == f"Reactants: {forward.facts['reactants']}\nReagents: [Fe]\nProduct: "
    retro = Retrosynthesis(known_class=True, **SMALL).problems("test")[0]
    assert retro.prompt == f"Class: {retro.facts['class']}\nProduct: {retro.facts['product']}\nReactants: "


def test_a_wrong_answer_has_a_place_where_it_left_the_reference(task):
    problem = next(each for each in task.problems("test") if "CC" in each.reference)
    place = problem.reference.index("CC")
    wrong = problem.reference[: place + 1] + "[SiH2]" + problem.reference[place + 1 :]
    findings = task.verifier.verify(problem, wrong).findings
    assert ("departure", place + 1, place + 7) in [(finding.kind, finding.start, finding.end) for finding in findings]


@pytest.mark.parametrize("kind", TASKS)
def test_a_chat_model_is_given_worked_examples_and_may_write_prose(kind):
    task = kind(prompt_style="few_shot", strict=False, **SMALL)
    problem = task.problems("test")[0]
    question = kind(**SMALL).problems("test")[0].prompt.rstrip(" ")
    assert problem.prompt.endswith(question)
    assert problem.prompt.count(question.split(": ")[0]) >= 4
    assert problem.reference not in problem.prompt.removesuffix(question)
    assert task.verifier.verify(problem, f"Sure:\n```smiles\n{problem.reference}\n```\nGood luck!").correct
    assert not kind(**SMALL).verifier.verify(problem, f"Sure:\n```smiles\n{problem.reference}\n```\nGood luck!").correct


def test_other_reactants_are_correct_only_where_the_reference_need_not_be_matched():
    product, others = "CC(=O)NCC", "CC(=O)OCC.NCC"
    strict, free = Retrosynthesis(**SMALL), Retrosynthesis(must_match=False, **SMALL)
    problem = strict.problems("test")[0].__class__("retrosynthesis", "0", "", {"product": product}, "CC(=O)Cl.NCC")
    certificate = strict.verifier.verify(problem, others)
    assert not certificate.correct
    assert certificate.measures["plausible"] == 1.0
    assert free.verifier.verify(problem, others).correct


def test_tokens_hold_one_atom_at_most_and_every_text_comes_back():
    task = Retrosynthesis(known_class=True, **SMALL)
    tokenizer = learned_tokenizer(task.vocabulary())
    problem = next(p for p in task.problems("train") if p.facts["class"] == "nitro reduction")
    tokens = tokenizer.tokenize(problem.reference)
    assert "[N+]" in tokens
    assert all(
        sum(character.isalpha() for character in token) <= 1 or token[0] == "[" or token in ("Cl", "Br") for token in tokens
    )
    ids = tokenizer(problem.prompt, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == problem.prompt
    assert len(tokenizer.tokenize(f"Class: {problem.facts['class']}\n")) <= 3


def test_the_vocabulary_is_the_same_in_every_process():
    code = (
        "from lit_symbolic.tasks.reactions import ForwardSynthesis; import hashlib, sys;"
        "v = ForwardSynthesis(train_problems=50).vocabulary(); assert 'torch' not in sys.modules;"
        "print(hashlib.sha256(repr((v.texts, v.pieces, v.size)).encode()).hexdigest())"
    )
    outputs = {subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout for _ in range(2)}
    assert len(outputs) == 1


def test_the_verifier_can_be_sent_to_a_worker(task):
    assert pickle.loads(pickle.dumps(task.verifier)) == task.verifier


@pytest.mark.parametrize(
    "wrong", [{"validation_problems": 0}, {"max_corrupt": 1.0}, {"prompt_style": "chatty"}, {"test_problems": -1}], ids=str
)
@pytest.mark.parametrize("kind", TASKS)
def test_arguments_out_of_range_are_told(kind, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        kind(**wrong)


def test_read_reactions_are_kept_with_their_counts(tmp_path):
    rows = [{"reactants": f"CC(=O)O.N{'C' * n}", "product": f"CC(=O)N{'C' * n}"} for n in range(1, 30)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    task = ForwardSynthesis(data=tmp_path)
    assert task.read.skipped == {"repeated": 1}
    assert sum(len(task.problems(split)) for split in ("train", "validation", "test")) == 29
    assert task.sample(random.Random(0)) in task.problems("train")
    with pytest.raises(ValueError, match="the splits are"):
        task.problems("exam")
