import gzip
import json
import logging
import os
from pathlib import Path

import pytest
import selfies
from rdkit import Chem

from lit_symbolic.tasks.reactions import ForwardSynthesis, Retrosynthesis
from lit_symbolic.tasks.reading import reaction_records
from lit_symbolic.tasks.reading.files import delimited_rows
from lit_symbolic.tasks.reading.reaction_records import read_reactions

SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", Path(__file__).parents[4] / "shared" / "data"))

AMIDES = [(f"CC(=O)O.N{'C' * n}", f"CC(=O)N{'C' * n}") for n in range(1, 41)]


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines))


def smi(pairs):
    return [f"{product} >> {reactants}" for reactants, product in pairs]


def keys(reactions):
    return [reaction.key for reaction in reactions]


# --- formats ---


def test_a_folder_of_smi_files_has_its_own_splits_and_validation_serves_as_test(tmp_path):
    write(tmp_path / "retrosynthesis-train.smi", smi(AMIDES[:36]))
    write(tmp_path / "retrosynthesis-valid.smi", smi(AMIDES[36:]))
    splits = read_reactions(tmp_path, "retro").splits
    assert len(splits["test"]) == 4
    assert len(splits["train"]) + len(splits["validation"]) == 36
    assert splits["test"][0].product == AMIDES[36][1]
    assert splits["test"][0].reactants == AMIDES[36][0]
    assert splits["test"][0].id == "retrosynthesis-valid.smi:1"


def test_with_a_test_file_all_splits_are_those_of_the_files(tmp_path):
    for name, pairs in (("train", AMIDES[:20]), ("valid", AMIDES[20:30]), ("test", AMIDES[30:])):
        with gzip.open(tmp_path / f"{name}.smi.gz", "wt") as file:
            file.writelines(f"{line}\n" for line in smi(pairs))
    assert {split: len(found) for split, found in read_reactions(tmp_path, "retro").splits.items()} == {
        "train": 20,
        "validation": 10,
        "test": 10,
    }


def test_maps_are_taken_off_and_molecules_without_an_atom_of_the_product_are_reagents(tmp_path):
    path = tmp_path / "canonicalized_eval.csv"
    mapped = "[CH3:1][C:2](=[O:3])[OH:9].[NH2:4][CH3:5].[OH2:7]>CCN(CC)CC>[CH3:1][C:2](=[O:3])[NH:4][CH3:5]"
    write(path, ["id,class,reactants>reagents>production", f"US1,2,{mapped}"])
    [reaction] = [each for split in read_reactions(tmp_path, "forward").splits.values() for each in split]
    assert (reaction.reactants, reaction.reagents, reaction.product) == ("CC(=O)O.CN", "O.CCN(CC)CC", "CNC(C)=O")
    assert reaction.kind == "2"


def test_mapped_reactants_with_a_plain_product_and_edits_behind(tmp_path):
    write(tmp_path / "train.txt", ["[CH3:1][C:2](=[O:3])[Cl:9].[NH2:4][CH3:5]>>CNC(C)=O 2;;2-9-1.0;2-4-1.0"])
    [reaction] = [each for split in read_reactions(tmp_path / "train.txt", "forward").splits.values() for each in split]
    assert (reaction.reactants, reaction.product) == ("CC(=O)Cl.CN", "CNC(C)=O")


def test_maps_make_no_stereo_so_a_mapped_reaction_of_train_is_found_again_plain_in_test(tmp_path):
    mapped = "[CH3:1][C@H:2]([OH:3])[CH3:4].[Cl:5][C:6](=[O:7])[CH3:8]>>[CH3:1][C@H:2]([O:3][C:6](=[O:7])[CH3:8])[CH3:4]"
    write(tmp_path / "train.txt", [mapped, "CCO.CC(=O)Cl>>CCOC(C)=O"])
    write(tmp_path / "test.txt", ["CC(O)C.ClC(=O)C>>CC(C)OC(C)=O"])
    for direction in ("forward", "retro"):
        found = read_reactions(tmp_path, direction)
        assert found.skipped == {"repeated": 1}
        assert len(found.splits["test"]) == 1
    [reaction] = read_reactions(tmp_path / "train.txt", "forward").splits["train"][:1]
    assert "@" not in reaction.reactants + reaction.product + reaction.key


def test_reagents_that_are_not_shown_make_no_other_reaction(tmp_path):
    header, mapped = "id,reactants>reagents>production", "[CH3:1][CH2:2][OH:3].[Cl:9][C:6](=[O:7])[CH3:8]"
    product = "[CH3:1][CH2:2][O:3][C:6](=[O:7])[CH3:8]"
    write(tmp_path / "train.csv", [header, f"a,{mapped}.CCN(CC)CC>>{product}", "b,CCCO.CC(=O)Cl>>CCCOC(C)=O"])
    write(tmp_path / "test.csv", [header, f"a,c1ccncc1.{mapped}>>{product}"])
    found = read_reactions(tmp_path, "retro")
    assert found.skipped == {"repeated": 1}
    assert keys(found.splits["test"]) == ["CC(=O)Cl.CCO>>CCOC(C)=O"]
    assert read_reactions(tmp_path, "forward").skipped == {}  # there they are shown


@pytest.mark.parametrize("in_selfies", [False, True])
def test_mol_instructions_rows_name_their_split_and_stay_as_they_are_written(tmp_path, in_selfies):
    encode = selfies.encoder if in_selfies else str
    rows = [
        {
            "instruction": "Predict",
            "input": encode(reactants),
            "output": encode(product),
            "metadata": json.dumps(metadata) if in_selfies else metadata,
        }
        for (reactants, product), metadata in zip(
            AMIDES[:3],
            [{"task": "forward reaction prediction", "split": split} for split in ("train", "train", "test")],
            strict=True,
        )
    ]
    path = tmp_path / "forward_reaction_prediction.json"
    path.write_text(json.dumps(rows))
    for source in (path, tmp_path):
        splits = read_reactions(source, "forward").splits
        assert len(splits["train"]) + len(splits["validation"]) == 2
        assert splits["test"][0].product == encode(AMIDES[2][1])
    with pytest.raises(ValueError, match="none of its rows can be used: 3 of another task"):
        read_reactions(path, "retro")


def test_a_hub_id_is_read_by_the_same_option(tmp_path, monkeypatch):
    rows = [{"reactants": reactants, "product": product, "class": 2} for reactants, product in AMIDES]
    (tmp_path / "data").mkdir()
    for split, part in (("train", rows[:30]), ("test", rows[30:])):
        write(tmp_path / "data" / f"{split}.jsonl", map(json.dumps, part))
    import datasets

    load = datasets.load_dataset
    monkeypatch.setattr(
        datasets,
        "load_dataset",
        lambda name, config, split, revision: load(str(tmp_path / "data"), split=split, cache_dir=str(tmp_path / "cache")),
    )
    task = Retrosynthesis(data="someone/reactions", known_class=True)
    assert len(task.problems("test")) == 10
    assert len(task.problems("train")) + len(task.problems("validation")) == 30
    assert task.problems("test")[0].prompt == f"Class: 2\nProduct: {AMIDES[30][1]}\nReactants: "


def test_mol_instructions_on_the_hub_has_a_split_for_each_of_its_tasks(monkeypatch):
    asked = []

    def rows(source, split):
        asked.append((source, split))
        return iter([reaction_records.Row(f"{source}[{n}]", {"input": a, "output": b}) for n, (a, b) in enumerate(AMIDES)])

    monkeypatch.setattr(reaction_records, "hub_rows", rows)
    found = read_reactions("zjunlp/Mol-Instructions:Molecule-oriented Instructions", "forward").splits
    assert asked == [("zjunlp/Mol-Instructions:Molecule-oriented Instructions", "forward_reaction_prediction")]
    assert sum(map(len, found.values())) == 40


def hub_of(monkeypatch, metadata):
    rows = [
        reaction_records.Row(f"zjunlp/Mol-Instructions[{n}]", {"input": reactants, "output": product, "metadata": each})
        for n, ((reactants, product), each) in enumerate(zip(AMIDES, metadata, strict=False))
    ]
    monkeypatch.setattr(reaction_records, "hub_rows", lambda source, split: iter(rows))


@pytest.mark.parametrize("written", [dict, json.dumps, str])
def test_the_split_and_the_task_of_a_hub_row_count_however_its_metadata_are_written(monkeypatch, written):
    task = {dict: "forward reaction prediction", str: "forward-reaction prediction"}.get(written, "Forward_reaction_prediction")
    metadata = [{"task": task, "split": "train"}] * 15 + [{"task": task, "split": "test"}] * 5
    metadata += [{"task": "retrosynthesis", "split": "train"}]
    hub_of(monkeypatch, map(written, metadata))
    found = read_reactions("zjunlp/Mol-Instructions", "forward")
    assert [reaction.reactants for reaction in found.splits["test"]] == [reactants for reactants, _ in AMIDES[15:20]]
    assert len(found.splits["train"]) + len(found.splits["validation"]) == 15
    assert found.skipped == {"of another task": 1}


def test_metadata_that_are_no_object_make_a_corrupt_row(monkeypatch):
    hub_of(monkeypatch, ["{'split': 'test'}"] * 9 + ["split: test"])
    with pytest.raises(
        ValueError, match=r"1 of 10 rows are corrupt(.|\n)*\[9\]: expected an object, or its text in JSON or Python"
    ):
        read_reactions("zjunlp/Mol-Instructions", "forward")
    [accepted] = read_reactions("zjunlp/Mol-Instructions", "forward", max_corrupt=0.1).accepted.values()
    assert (len(accepted.items), len(accepted.corrupt)) == (9, 1)


def test_a_quotation_mark_too_many_in_a_table_of_mapped_reactions_loses_one_of_them(tmp_path):
    lines = [f"US{n},1,{reactants}>>{product}" for n, (reactants, product) in enumerate(AMIDES)]
    lines[20] = lines[20].replace(",1,", ',1,"')
    write(tmp_path / "eval.csv", ["id,class,reactants>reagents>production", *lines])
    found = read_reactions(tmp_path, "retro", max_corrupt=0.05)
    assert sum(map(len, found.splits.values())) == 39
    [accepted] = found.accepted.values()
    assert accepted.total == 40
    assert accepted.corrupt[0].startswith(f"{tmp_path / 'eval.csv'}:22: a quotation mark")


def test_how_splits_came_to_be_that_are_no_part_of_the_source_is_told(tmp_path, caplog):
    write(tmp_path / "retrosynthesis-train.smi", smi(AMIDES[:30]))
    write(tmp_path / "retrosynthesis-valid.smi", smi(AMIDES[30:]))
    write(tmp_path / "retrosynthesis-test.tsv", smi(AMIDES[30:]))
    with caplog.at_level(logging.WARNING, "lit_symbolic.data"):
        found = read_reactions(tmp_path, "retro").splits
    assert "there is no test part: the validation part serves as test" in caplog.text
    assert f"there is no validation part: {len(found['validation'])} reactions of train" in caplog.text
    assert "not read, since they are no .smi, .txt, .csv, .json or .jsonl: retrosynthesis-test.tsv" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING, "lit_symbolic.data"):
        read_reactions(tmp_path / "retrosynthesis-train.smi", "retro")
    assert "30 rows name no split: they are cut by a hash of what is asked" in caplog.text


def test_a_split_of_no_known_name_makes_a_corrupt_row(monkeypatch):
    hub_of(monkeypatch, [{"split": "train"}] * 9 + [{"split": "holdout"}])
    with pytest.raises(ValueError, match=r"\[9\]: there is no split 'holdout'; there are train, valid"):
        read_reactions("zjunlp/Mol-Instructions", "forward")


# --- what cannot be used ---


def test_rows_that_cannot_be_used_are_counted_and_corrupt_ones_told_with_their_place(tmp_path):
    write(
        tmp_path / "train.smi",
        [*smi(AMIDES[:20]), "CCN >> CC(C)(C)(C)(C)N", "CCO >> CCO.CN", smi(AMIDES[:1])[0], "CCC", "C(C >> CCO"],
    )
    with pytest.raises(
        ValueError, match=r"2 of 25 rows are corrupt, more than max_corrupt = 0.01 allows:\n.*train.smi:24: expected"
    ):
        read_reactions(tmp_path / "train.smi", "retro")
    found = read_reactions(tmp_path / "train.smi", "retro", max_corrupt=0.1)
    assert sum(map(len, found.splits.values())) == 20
    assert found.skipped == {
        "with a target that RDKit refuses": 1,
        "with a product that stands among its reactants": 1,
        "repeated": 1,
    }
    [accepted] = found.accepted.values()
    assert (accepted.total, [line.rsplit("/", 1)[-1].split(": ")[0] for line in accepted.corrupt]) == (
        25,
        ["train.smi:24", "train.smi:25"],
    )


def test_a_reaction_of_a_later_split_is_dropped_from_the_earlier_ones(tmp_path):
    write(tmp_path / "train.smi", smi([(f"{Chem.CanonSmiles(a)}", b) for a, b in AMIDES[:20]]))
    write(tmp_path / "valid.smi", smi(AMIDES[18:25]))
    write(tmp_path / "test.smi", smi(AMIDES[24:30]))
    splits = read_reactions(tmp_path, "retro").splits
    assert {split: len(found) for split, found in splits.items()} == {"train": 18, "validation": 6, "test": 6}


def test_an_empty_file_a_missing_one_and_an_unknown_format_are_told(tmp_path):
    (tmp_path / "train.smi").write_text("")
    with pytest.raises(ValueError, match=r"train.smi holds no rows"):
        read_reactions(tmp_path, "retro")
    with pytest.raises(FileNotFoundError, match="there are no reactions at"):
        read_reactions(tmp_path / "missing.smi", "retro")
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(ValueError, match="reactions are read from"):
        read_reactions(tmp_path / "notes.md", "retro")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no file of reactions"):
        read_reactions(tmp_path / "empty", "retro")
    write(tmp_path / "table.csv", ["a,b", "1,2"])
    with pytest.raises(ValueError, match="expected a header with the columns"):
        read_reactions(tmp_path / "table.csv", "retro")


def test_a_folder_of_one_part_is_cut_and_that_is_told(tmp_path, caplog):
    write(tmp_path / "test.smi", smi([("CC(=O)O.N" + "C" * n, "CC(=O)N" + "C" * n) for n in range(1, 40)]))
    assert all(read_reactions(tmp_path, "retro").splits.values())
    assert "test.smi is the only part: it is cut in three, whatever its name says" in caplog.messages[0]


def test_where_no_row_can_be_used_nothing_else_is_said(tmp_path, caplog):
    write(tmp_path / "train.smi", ["CCO >> C(C)(C)(C)(C)C"])
    with pytest.raises(ValueError, match="none of its rows can be used: 1 with a target that RDKit refuses"):
        read_reactions(tmp_path, "retro")
    assert not any("validation part" in message for message in caplog.messages)


def test_a_source_of_test_rows_alone_can_be_evaluated_and_says_that_it_cannot_be_trained_on(tmp_path):
    import random

    row = {"input": AMIDES[0][0], "output": AMIDES[0][1], "metadata": {"task": "forward reaction prediction", "split": "test"}}
    (tmp_path / "forward_reaction_prediction.json").write_text(json.dumps([row]))
    task = ForwardSynthesis(data=tmp_path)
    assert len(task.problems("test")) == 1
    assert list(task.problems("train")) == []
    with pytest.raises(ValueError, match="has no training reactions"):
        task.sample(random.Random(0))


@pytest.mark.parametrize("direction", ["forward", "retro"])
@pytest.mark.parametrize("names", [["train.smi"], ["train.smi", "test.smi"]])
def test_a_cut_puts_what_is_asked_for_into_one_split_however_often_it_is_asked(tmp_path, direction, names):
    acids = [f"CC(=O)O{'C' * n}" for n in range(8)]  # esters and the acid: one product from many reactants
    amines = ["N" + "C" * n for n in range(1, 40)]
    halides = ["F", "Cl", "Br", "I"]
    if direction == "retro":
        pairs = [(f"{acid}.{amine}", f"CC(=O)N{amine[1:]}") for amine in amines for acid in acids]
    else:  # one pair of reactants, several products
        pairs = [(f"CC(=O)O.{amine}", f"CC({halide})N{amine[1:]}") for amine in amines for halide in halides]
    write(tmp_path / names[0], smi(pairs))
    for name in names[1:]:
        write(tmp_path / name, smi([("CC(=O)O.NCCO", "CC(=O)NCCO")]))
    splits = read_reactions(tmp_path, direction).splits
    side = 0 if direction == "forward" else 1
    asked = {split: {key.split(">>")[side] for key in keys(found)} for split, found in splits.items()}
    assert all(asked.values())
    assert sum(map(len, asked.values())) == len(set().union(*asked.values()))
    assert sum(map(len, splits.values())) == len(pairs) + len(names) - 1


# --- public data ---


def beginning(source, target, lines):
    with source.open() as file:
        write(target, [line.rstrip("\n") for line, _ in zip(file, range(lines), strict=False)])


@pytest.mark.skipif(not (SHARED / "uspto50k_mapped").exists(), reason=f"needs the public data: uspto50k_mapped in {SHARED}")
def test_the_mapped_file_of_uspto_50k_is_read_and_cut_in_three(tmp_path):
    beginning(SHARED / "uspto50k_mapped" / "canonicalized_eval.csv", tmp_path / "canonicalized_eval.csv", 401)
    found = read_reactions(tmp_path, "retro")
    sizes = {split: len(reactions) for split, reactions in found.splits.items()}
    [accepted] = found.accepted.values()
    assert (accepted.total, accepted.corrupt) == (400, [])
    assert sum(sizes.values()) + sum(found.skipped.values()) == 400
    assert sizes["train"] > 300
    assert min(sizes.values()) > 10
    assert {reaction.kind for reaction in found.splits["train"]} <= set(map(str, range(1, 11)))
    assert not set(keys(found.splits["train"])) & set(keys([*found.splits["test"], *found.splits["validation"]]))


@pytest.mark.skipif(not (SHARED / "mol_instructions").exists(), reason=f"needs the public data: mol_instructions in {SHARED}")
@pytest.mark.parametrize("direction", ["forward", "retro"])
def test_the_sample_of_mol_instructions_is_read(direction):
    found = read_reactions(SHARED / "mol_instructions", direction)
    assert len(found.splits["test"]) == 500


@pytest.mark.skipif(not (SHARED / "uspto50k_mapped").exists(), reason=f"needs the public data: uspto50k_mapped in {SHARED}")
def test_a_product_of_uspto_50k_with_its_maps_is_its_own_reference(tmp_path):
    beginning(SHARED / "uspto50k_mapped" / "canonicalized_eval.csv", tmp_path / "eval.csv", 500)
    written = {
        row.place.rsplit("/", 1)[-1]: row.text("reactants>reagents>production") for row in delimited_rows(tmp_path / "eval.csv")
    }
    task = ForwardSynthesis(data=tmp_path)
    for problem in (*task.problems("train"), *task.problems("validation"), *task.problems("test")):
        assert task.verifier.verify(problem, written[problem.id].split(">")[-1]).correct, problem


@pytest.mark.skipif(not (SHARED / "uspto15k_forward").exists(), reason=f"needs the public data: uspto15k_forward in {SHARED}")
def test_uspto_15k_and_uspto_50k_are_read_from_the_beginnings_of_their_files(tmp_path):
    for folder, names, direction in (
        ("uspto15k_forward", ("train.txt", "valid.txt"), "forward"),
        ("uspto50k_retro", ("retrosynthesis-train.smi", "retrosynthesis-valid.smi"), "retro"),
    ):
        (tmp_path / folder).mkdir()
        for name in names:
            beginning(SHARED / folder / name, tmp_path / folder / name, 150)
        found = read_reactions(tmp_path / folder, direction)
        assert sum(map(len, found.splits.values())) + sum(found.skipped.values()) == 300
        assert len(found.splits["test"]) > 140
        assert all(accepted.corrupt == [] for accepted in found.accepted.values())
