import hashlib
import json
import logging
import math
import os
import pickle
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from rdkit import Chem

from lit_symbolic.policies.tiny import task_tokenizer
from lit_symbolic.tasks.molecules import MoleculeGeneration
from lit_symbolic.tasks.reading import described_molecules
from lit_symbolic.tasks.reading.described_molecules import HELD_OUT, NO_GROUP, OTHER_TASK, TOO_LONG, groups_of
from lit_symbolic.tasks.reading.rows import Row
from lit_symbolic.tasks.splitting import split_of
from lit_symbolic.verifiers.molecules.functional_groups import groups_asked_for
from tiny import CONFIGS

SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", Path(__file__).parents[3] / "shared" / "data"))
SPLITS = ("train", "validation", "test")
TASK = MoleculeGeneration(validation_problems=20, test_problems=40)

ROWS = [
    ("11", "OCC#N", "The molecule is a nitrile that has a hydroxy group."),
    ("12", "CC(=O)O", "The molecule is a monocarboxylic acid."),
    ("13", "CCBr", "It is an organobromine compound."),
    ("14", "Oc1ccccc1", "The molecule is a member of phenols."),
    ("15", "CCS", "It is a thiol."),
    ("16", "CSC", "It is a thioether."),
]


def certify(task, problem, text):
    return task.verifier_of(problem).verify(problem, text)


def table(rows, header="CID\tSMILES\tdescription"):
    return "\n".join([header, *("\t".join(row) for row in rows)]) + "\n"


def chebi(folder, **splits):
    for name, rows in splits.items():
        (folder / f"{name}.txt").write_text(table(rows))
    return folder


def instructions(*rows):
    return json.dumps([{"instruction": "Make it.", "input": asked, "output": out, "metadata": meta} for asked, out, meta in rows])


# --- the generator ---


def test_references_are_right_and_no_problem_is_in_two_splits():
    keys = {split: {problem.id for problem in TASK.problems(split)} for split in SPLITS}
    assert not keys["train"] & (keys["validation"] | keys["test"])
    assert not keys["validation"] & keys["test"]
    assert [len(TASK.problems(split)) for split in ("validation", "test")] == [20, 40]
    for split in SPLITS:
        for problem in TASK.problems(split)[:40]:
            assert split_of(problem.id) == split
            assert problem.task == TASK.name
            assert problem.prompt.endswith(".\n")
            assert certify(TASK, problem, problem.reference).correct
            assert {group.name for group in groups_asked_for(problem.prompt)} == set(problem.facts["groups"])
    assert pickle.loads(pickle.dumps(TASK.problems("test")[0])) == TASK.problems("test")[0]


def test_training_problems_are_drawn_without_end_and_never_held_out():
    drawn = [TASK.sample(random.Random(seed)) for seed in range(300)]
    assert drawn == [TASK.sample(random.Random(seed)) for seed in range(300)]
    assert {split_of(problem.id) for problem in drawn} == {"train"}
    assert len({problem.id for problem in drawn}) > 290


def test_splits_depend_on_their_seed_and_not_on_each_others_size():
    assert MoleculeGeneration(validation_problems=7, test_problems=15).problems("test") == TASK.problems("test")[:15]
    other = MoleculeGeneration(split_seed=1, test_problems=3).problems("test")
    assert not {problem.id for problem in other} & {problem.id for problem in TASK.problems("test")}


def test_a_description_of_another_molecule_is_not_right():
    problems = TASK.problems("test")
    right = [certify(TASK, problem, other.reference).correct for problem, other in pairwise(problems)]
    assert sum(right) <= 2


def test_any_molecule_with_what_is_asked_is_right_unless_it_must_match():
    problem = TASK.problems("test")[0]
    other = Chem.MolToSmiles(Chem.MolFromSmiles(problem.reference), doRandom=True)
    assert certify(TASK, problem, other).correct
    facts = {**problem.facts, "groups": (), "heavy_atoms": (1, 99)}
    loose = type(problem)(problem.task, "x", "", {**facts, "rings": None}, problem.reference)
    assert certify(TASK, loose, "CCO").correct
    assert not certify(MoleculeGeneration(must_match=True), loose, "CCO").correct


def test_a_share_of_demonstrations_answers_another_problem():
    task = MoleculeGeneration(faithful_share=0.5)
    rng = random.Random(0)
    problems = [task.sample(rng) for _ in range(120)]
    faithful = [task.demonstration(problem, rng) == problem.reference for problem in problems]
    assert 0.35 < sum(faithful) / len(faithful) < 0.65
    assert all(TASK.demonstration(problem, rng) == problem.reference for problem in problems[:20])


def test_few_shot_prompts_show_other_problems_of_the_train_split():
    task = MoleculeGeneration(prompt_style="few_shot", validation_problems=5)
    train = task.problems("train")
    for problem in [*task.problems("validation"), *train[:5]]:
        assert problem.prompt.startswith("Write the SMILES of a molecule")
        assert problem.prompt.count("Description: ") == 4
        assert problem.prompt.endswith("\nSMILES:")
        shown = [line.removeprefix("SMILES: ") for line in problem.prompt.splitlines() if line.startswith("SMILES: ")]
        assert problem.reference not in shown
        assert set(shown) <= {each.reference for each in train[:4]}


def test_a_chat_models_answer_is_looked_for_in_its_prose():
    problem = TASK.problems("test")[0]
    answer = f"Here it is:\n```\n{problem.reference}\n```\nThat should do."
    assert not certify(TASK, problem, answer).correct
    assert certify(MoleculeGeneration(strict=False), problem, answer).correct


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faithful_share": 1.5}, "faithful_share is a probability"),
        ({"min_groups": 0}, "at least one group"),
        ({"min_groups": 3, "max_groups": 2}, "at least one group"),
        ({"window": 0}, "window is at least 1"),
        ({"test_problems": -1}, "no negative size"),
        ({"hub_split": "train"}, "hub_split is for a data set on the hub"),
    ],
)
def test_settings_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MoleculeGeneration(**options)


def test_an_unknown_split_is_named_and_generated_problems_are_not_loaded():
    with pytest.raises(ValueError, match="train, validation, test; got 'dev'"):
        TASK.problems("dev")
    with pytest.raises(ValueError, match="it has no data"):
        _ = TASK.loaded


# --- tokens ---


def test_an_atom_is_a_token_and_a_word_is_one():
    tokenizer = task_tokenizer(TASK.vocabulary())
    assert tokenizer.tokenize("CC(Br)c1ccc(Cl)[nH]1") == [
        "C",
        "C",
        "(",
        "Br",
        ")",
        "c",
        "1",
        "c",
        "c",
        "c",
        "(",
        "Cl",
        ")",
        "[nH]",
        "1",
    ]
    assert tokenizer.tokenize("O=[N+]([O-])C") == ["O", "=", "[N+]", "(", "[O-]", ")", "C"]
    assert tokenizer.tokenize("The molecule has a nitro group, a nitrile and 12 to 15 heavy atoms.\n") == [
        "The",
        *(f"Ġ{word}" for word in ("molecule", "has", "a", "nitro", "group")),
        ",",
        *(f"Ġ{word}" for word in ("a", "nitrile", "and", "12", "to", "15", "heavy", "atoms")),
        ".",
        "Ċ",
    ]
    assert len(tokenizer) <= 1024


def test_no_token_of_an_answer_crosses_two_atoms():
    tokenizer = task_tokenizer(TASK.vocabulary())
    for problem in TASK.problems("validation"):
        tokens = tokenizer.tokenize(problem.reference)
        assert "".join(tokens) == problem.reference
        assert all(len(token) == 1 or token in ("Br", "Cl") or token[0] == "[" or "]" not in token[:-1] for token in tokens)
        heavy = Chem.MolFromSmiles(problem.reference).GetNumHeavyAtoms()
        assert sum(any(letter.isalpha() for letter in token) for token in tokens) >= heavy


def test_the_vocabulary_is_the_same_in_every_process():
    program = (
        "import hashlib; from lit_symbolic.tasks.molecules import MoleculeGeneration; "
        "print(hashlib.sha256('|'.join(MoleculeGeneration().vocabulary().texts).encode()).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == hashlib.sha256("|".join(TASK.vocabulary().texts).encode()).hexdigest()


# --- data ---


def test_official_splits_of_a_folder_are_kept(tmp_path):
    task = MoleculeGeneration(chebi(tmp_path, train=ROWS[:4], validation=ROWS[4:5], test=ROWS[5:]))
    assert [[problem.id for problem in task.problems(split)] for split in SPLITS] == [["11", "12", "13", "14"], ["15"], ["16"]]
    problem = task.problems("train")[0]
    assert (problem.prompt, problem.reference) == (ROWS[0][2] + "\n", "N#CCO")
    assert problem.facts == {"groups": ("nitrile", "hydroxy"), "molecules": 1}
    assert certify(task, problem, "N#CCCO").correct
    assert not certify(task, problem, "N#CC").correct
    assert not certify(task, problem, "N#C.O").correct, "the groups of two molecules are not one molecule's"
    assert task.sample(random.Random(0)) in task.problems("train")
    assert (task.loaded.total, task.loaded.corrupt, task.loaded.skipped) == (6, [], {})


def test_a_split_that_is_missing_is_an_error_unless_it_is_to_be_cut(tmp_path):
    rows = [(str(i), "C" * i + "S", f"It is a thiol with {i} carbons.") for i in range(1, 90)]
    with pytest.raises(ValueError, match="no rows of the train and test split; cut_by_hash: true"):
        MoleculeGeneration(chebi(tmp_path, validation=rows)).problems("train")
    task = MoleculeGeneration(tmp_path, cut_by_hash=True)
    ids = [problem.id for split in SPLITS for problem in task.problems(split)]
    assert sorted(ids, key=int) == [row[0] for row in rows]
    assert len(task.problems("train")) > 60
    for split in SPLITS:
        assert all(split_of(problem.prompt.strip().casefold()) == split for problem in task.problems(split))
    assert MoleculeGeneration(tmp_path / "validation.txt", cut_by_hash=True).problems("test") == task.problems("test")


def test_a_missing_validation_split_is_cut_from_train_and_test_stays_as_it_is(tmp_path):
    rows = [(str(i), "C" * i + "S", f"It is a thiol with {i} carbons.") for i in range(1, 90)]
    task = MoleculeGeneration(chebi(tmp_path, train=rows, test=ROWS), cut_by_hash=True)
    assert [problem.id for problem in task.problems("test")] == [row[0] for row in ROWS]
    assert len(task.problems("validation")) + len(task.problems("train")) == 89
    assert {split_of(problem.prompt.strip().casefold()) for problem in task.problems("validation")} == {"validation"}


def test_what_cannot_be_used_is_counted_by_its_reason(tmp_path, caplog):
    rows = [
        *ROWS[:2],
        ("20", "CC", "It is a metabolite."),
        ("21", "CCC", "It is a nitrile."),
        ("22", "CCS", "It is a thiol " + "x" * 90),
        ("23", "CCS", "IT is  a thiol."),
    ]
    chebi(tmp_path, train=rows, validation=ROWS[4:5], test=ROWS[5:])
    with caplog.at_level(logging.WARNING):
        loaded = MoleculeGeneration(tmp_path, longest_description=80).loaded
    assert loaded.skipped == {NO_GROUP: 2, TOO_LONG: 1, HELD_OUT: 1}
    assert [item.id for item in loaded.splits["train"]] == ["11", "12"]
    assert all(reason in caplog.text for reason in loaded.skipped)
    kept = MoleculeGeneration(tmp_path, must_match=True).loaded
    assert kept.skipped == {HELD_OUT: 1}, "where the reference is asked for, no group need be named"


def test_corrupt_rows_are_told_with_their_place_and_stop_the_run_if_they_are_many(tmp_path):
    broken = [("30", "C1CC", "It is a nitrile."), ("31", "CN(C)(C)(C)C", "It is an amine."), ("32", "", "It is an amine.")]
    chebi(tmp_path, train=[*ROWS[:4], *broken], validation=ROWS[4:5], test=ROWS[5:])
    with pytest.raises(ValueError, match=r"3 of 7 rows are corrupt") as error:
        MoleculeGeneration(tmp_path).problems("train")
    for told in ("train.txt:6: RDKit refuses", "train.txt:7: RDKit refuses", "train.txt:8: expected text in the field 'SMILES'"):
        assert told in str(error.value)
    task = MoleculeGeneration(tmp_path, max_corrupt=0.5)
    assert len(task.problems("train")) == 4
    assert len(task.loaded.corrupt) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no rows"),
        ("CID\tSMILES\tdescription\n", "holds no rows"),
        ("CID\tstructure\tdescription\n1\tCC\tx\n", "expected a header with the columns SMILES"),
        ("no molecule here\n", "1 of 1 rows are corrupt"),
        (table([("1", "CC", "It is nice.")]), "no usable row for the train split among 1; left out"),
    ],
)
def test_files_that_hold_nothing_of_use_are_refused(tmp_path, content, message):
    (tmp_path / "one.txt").write_text(content)
    with pytest.raises(ValueError, match=message):
        MoleculeGeneration(tmp_path / "one.txt", cut_by_hash=True).problems("train")


def test_folders_and_files_that_are_missing_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected train\.txt, validation\.txt and test\.txt"):
        MoleculeGeneration(tmp_path).problems("train")
    with pytest.raises(FileNotFoundError, match=r"none\.txt"):
        MoleculeGeneration(tmp_path / "none.txt").problems("train")


def test_mol_instructions_come_with_their_split_and_in_selfies(tmp_path):
    meta = {split: {"task": "description guided molecule design", "split": split} for split in SPLITS}
    file = tmp_path / "description_guided_molecule_design.json"
    file.write_text(
        instructions(
            ("The molecule is a nitrile.", "[C][C][#N]", meta["train"]),
            ("The molecule is an alcohol.", "[C][C][O]", meta["validation"]),
            ("The molecule is a thiol.", "CCS", str(meta["test"])),
            ("What dissolves it?", "[O]", {"task": "reagent prediction", "split": "train"}),
        )
    )
    task = MoleculeGeneration(file)
    assert [task.problems(split)[0].reference for split in SPLITS] == ["CC#N", "CCO", "CCS"]
    assert task.problems("train")[0].prompt == "The molecule is a nitrile.\n"
    assert task.loaded.skipped == {OTHER_TASK: 1}
    written = MoleculeGeneration(file, answers="as_written")
    problem = written.problems("train")[0]
    assert problem.reference == "[C][C][#N]"
    assert all(certify(written, problem, answer).correct for answer in ("[C][C][#N]", "CCC#N"))


def test_a_data_set_on_the_hub_is_read_like_a_file(tmp_path, monkeypatch):
    asked = []

    def rows(source, split):
        asked.append((source, split))
        meta = [{"task": "description_guided_molecule_design", "split": each} for each in SPLITS]
        for i, (row, metadata) in enumerate(zip(ROWS[:3], meta, strict=True)):
            yield Row(
                f"{source}[{split}][{i}]", {"instruction": "", "input": row[2], "output": row[1], "metadata": str(metadata)}
            )

    monkeypatch.setattr(described_molecules, "hub_rows", rows)
    task = MoleculeGeneration("someone/molecules:config", hub_split="description_guided_molecule_design")
    assert [len(task.problems(split)) for split in SPLITS] == [1, 1, 1]
    assert asked == [("someone/molecules:config", "description_guided_molecule_design")]


def test_a_data_set_of_the_hubs_library_with_its_own_splits_is_read(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    files = {}
    for split, rows in zip(SPLITS, (ROWS[:4], ROWS[4:5], ROWS[5:]), strict=True):
        files[split] = str(tmp_path / f"{split}.jsonl")
        Path(files[split]).write_text(
            "".join(json.dumps(dict(zip(("CID", "SMILES", "description"), row, strict=True))) + "\n" for row in rows)
        )
    load = datasets.load_dataset
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name, config, split, revision: load("json", data_files=files, split=split, cache_dir=str(tmp_path / "cache")),
    )
    task = MoleculeGeneration("someone/chebi")
    assert [[problem.id for problem in task.problems(split)] for split in SPLITS] == [["11", "12", "13", "14"], ["15"], ["16"]]


def test_of_plain_smiles_the_prompt_lists_the_groups(tmp_path):
    lines = ["CS(=O)(=O)NCCC#N a-name", *(problem.reference for problem in TASK.problems("train")[:120])]
    (tmp_path / "valid.txt").write_text("\n".join(lines) + "\n")
    task = MoleculeGeneration(tmp_path / "valid.txt", cut_by_hash=True, first_rows=100)
    problems = [problem for split in SPLITS for problem in task.problems(split)]
    assert len(problems) == 100
    first = next(problem for problem in problems if problem.id == "valid.txt:1")
    assert first.prompt.startswith("The molecule has a")
    assert all(noun in first.prompt for noun in ("nitrile", "sulfonamide"))
    assert first.reference == "CS(=O)(=O)NCCC#N"
    assert all(certify(task, problem, problem.reference).correct for problem in problems)


def test_the_groups_of_a_molecule_leave_out_what_is_a_part_of_another():
    assert groups_of(Chem.MolFromSmiles("CC(=O)OC(C)=O")) == ("acid anhydride", "acetoxy")
    assert "carbonyl" not in groups_of(Chem.MolFromSmiles("CC(N)=O"))


# --- public data ---


@pytest.mark.skipif(not (SHARED / "chebi20").exists(), reason=f"needs the public data: chebi20 in {SHARED}")
def test_chebi_20_is_read():
    task = MoleculeGeneration(SHARED / "chebi20", cut_by_hash=True, first_rows=800)
    loaded = task.loaded
    assert loaded.corrupt == []
    used = [item for items in loaded.splits.values() for item in items]
    assert len(used) + sum(loaded.skipped.values()) == loaded.total == 800
    assert len(used) > 300
    for split in SPLITS:
        for problem in task.problems(split)[:15]:
            assert certify(task, problem, problem.reference).correct


@pytest.mark.skipif(not (SHARED / "zinc250k").exists(), reason=f"needs the public data: zinc250k in {SHARED}")
def test_zinc_is_read():
    task = MoleculeGeneration(SHARED / "zinc250k" / "valid.txt", cut_by_hash=True, first_rows=300)
    assert task.loaded.corrupt == []
    assert all(certify(task, problem, problem.reference).correct for problem in task.problems("train")[:30])
    prompts = {split: {problem.prompt for problem in task.problems(split)} for split in SPLITS}
    assert not prompts["train"] & (prompts["validation"] | prompts["test"])


# --- recipes ---


@pytest.mark.parametrize("recipe", ["sft", "ppo_three_tools"])
def test_a_recipe_takes_a_step(recipe, run_cli, tmp_path):
    small = {
        "model": {"init_args": {"policy": {"init_args": {"hidden_size": 16, "layers": 1, "heads": 2, "intermediate_size": 32}}}},
        "data": {"task": {"init_args": {"validation_problems": 2, "test_problems": 2}}},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(small))
    rows = ["demonstrations=8"] if recipe == "sft" else ["problems=2", "samples=2", "init_from=null", "max_new_tokens=8"]
    cli = run_cli(
        [
            "fit",
            f"--config={CONFIGS / 'molecules' / recipe}.yaml",
            f"--config={tmp_path / 'small.yaml'}",
            *(f"--model.{setting}" for setting in rows),
            "--trainer.max_epochs=1",
            "--trainer.accelerator=cpu",
            "--trainer.num_sanity_val_steps=0",
            "--trainer.check_val_every_n_epoch=1",
            "--trainer.enable_progress_bar=false",
            "--trainer.logger=false",
            "--reward.workers=1",
            "--export.enabled=false",
            f"--trainer.default_root_dir={tmp_path}",
        ]
    )
    assert cli.trainer.global_step == 1
    measured = {name: float(value) for name, value in cli.trainer.callback_metrics.items()}
    assert math.isfinite(measured["train/loss" if recipe == "sft" else "train/value_loss"])
    assert {"val/pass@1", "val/validity"} <= measured.keys()
    names = [callback.name for callback in cli.model.reward_callbacks()]
    assert names == (["verifier", "syntax", "valence", "groups"] if recipe == "ppo_three_tools" else ["verifier"])
