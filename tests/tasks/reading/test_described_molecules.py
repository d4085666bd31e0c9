"""Described molecules: metadata in every form, and one split for each problem. What else is read: see the task's own tests."""

import json
import logging

import pytest

from lit_symbolic.tasks.reading import described_molecules, hub
from lit_symbolic.tasks.reading.described_molecules import HELD_OUT, OTHER_TASK, read_described
from lit_symbolic.tasks.reading.rows import Row

SPLITS = ("train", "validation", "test")
ROWS = [
    ("OCC#N", "The molecule is a nitrile that has a hydroxy group."),
    ("CC(=O)O", "The molecule is a monocarboxylic acid."),
    ("CCBr", "It is an organobromine compound."),
    ("CCS", "It is a thiol."),
    ("CSC", "It is a thioether."),
]


def hub_of(monkeypatch, metadata):
    rows = [
        Row(f"zjunlp/Mol-Instructions[{n}]", {"input": description, "output": smiles, "metadata": each})
        for n, ((smiles, description), each) in enumerate(zip(ROWS, metadata, strict=False))
    ]
    monkeypatch.setattr(described_molecules, "hub_rows", lambda source, split: iter(rows))


@pytest.mark.parametrize("written", [dict, json.dumps, str])
@pytest.mark.parametrize(
    "task", ["description_guided_molecule_design", "description-guided molecule design", "Description guided molecule design"]
)
def test_the_split_and_the_task_of_a_hub_row_count_however_its_metadata_are_written(monkeypatch, task, written):
    metadata = [{"task": task, "split": split} for split in SPLITS] + [{"task": "reagent prediction", "split": "train"}]
    hub_of(monkeypatch, map(written, metadata))
    found = read_described("zjunlp/Mol-Instructions", hub_split=task)
    assert [[item.description for item in found.splits[split]] for split in SPLITS] == [[row[1]] for row in ROWS[:3]]
    assert found.skipped == {OTHER_TASK: 1}


def test_metadata_that_are_no_object_make_a_corrupt_row(monkeypatch):
    hub_of(monkeypatch, [str({"split": split}) for split in SPLITS] + ["split: test"])
    with pytest.raises(
        ValueError, match=r"1 of 4 rows are corrupt(.|\n)*\[3\]: expected an object, or its text in JSON or Python"
    ):
        read_described("zjunlp/Mol-Instructions", hub_split="x")
    assert len(read_described("zjunlp/Mol-Instructions", hub_split="x", max_corrupt=0.3).corrupt) == 1


def test_what_two_splits_ask_stays_in_the_later_one_alone(tmp_path, caplog):
    asked = {"train": ROWS[:3], "validation": [ROWS[1], ROWS[3], ROWS[4]], "test": [ROWS[2], ("SCC", "it is  a THIOL.")]}
    for split, rows in asked.items():
        lines = [f"{n}\t{smiles}\t{description}" for n, (smiles, description) in enumerate(rows)]
        (tmp_path / f"{split}.txt").write_text("\n".join(["CID\tSMILES\tdescription", *lines]) + "\n")
    with caplog.at_level(logging.WARNING, "lit_symbolic.data"):
        found = read_described(tmp_path)
    keys = {split: [item.key for item in found.splits[split]] for split in SPLITS}
    assert keys == {
        "train": [ROWS[0][1].casefold()],
        "validation": [ROWS[1][1].casefold(), ROWS[4][1].casefold()],
        "test": [ROWS[2][1].casefold(), "it is a thiol."],
    }
    assert found.skipped == {HELD_OUT: 3}
    assert f"3 of 8 rows are left out: {HELD_OUT}" in caplog.text
    assert sum(map(len, keys.values())) + 3 == found.total


def test_a_quotation_mark_too_many_loses_one_description(tmp_path):
    for split, rows in {"train": ROWS[:3], "validation": ROWS[3:4], "test": ROWS[4:]}.items():
        lines = [f"{smiles},{description}" for smiles, description in rows]
        (tmp_path / f"{split}.csv").write_text("\n".join(["SMILES,description", *lines]).replace("It is an", '"It is an') + "\n")
    found = read_described(tmp_path, max_corrupt=0.4)
    assert {split: len(items) for split, items in found.splits.items()} == {"train": 2, "validation": 1, "test": 1}
    assert found.total == 5
    assert found.corrupt[0].startswith(f"{tmp_path / 'train.csv'}:4: a quotation mark")


def test_a_name_behind_a_tab_is_no_column_in_a_file_of_smiles(tmp_path):
    for split, smiles in zip(SPLITS, ("CC#N", "CCBr", "CC(=O)O"), strict=True):
        (tmp_path / f"{split}.smi").write_text(f"{smiles}\tZINC1\n")
    found = read_described(tmp_path)
    assert [[item.answer for item in found.splits[split]] for split in SPLITS] == [["CC#N"], ["CCBr"], ["CC(=O)O"]]
    (tmp_path / "test.smi").write_text("CID\tSMILES\tdescription\n7\tCCS\tIt is a thiol.\n")
    assert [item.description for item in read_described(tmp_path).splits["test"]] == ["It is a thiol."]
    (tmp_path / "a.txt").write_text("CCO\tname\n")
    with pytest.raises(ValueError, match="expected a header with the columns SMILES, description"):
        read_described(tmp_path / "a.txt", cut_by_hash=True)


def hub_with(monkeypatch, splits):
    def rows(source, split):
        if split not in splits:
            raise ValueError(f"{source}: the split {split!r} cannot be had: ValueError: Unknown split")
        for n in range(120):
            yield Row(
                f"{source}[{split}][{n}]", {"SMILES": "CCO", "description": f"The molecule is alcohol number {n} of {split}."}
            )

    monkeypatch.setattr(hub, "hub_rows", rows)


@pytest.mark.parametrize("there", [("train",), ("validation",), ("train", "test"), ("test",)])
def test_splits_that_the_hub_lacks_are_made_by_the_hash_of_those_that_are_there(monkeypatch, caplog, there):
    hub_with(monkeypatch, there)
    with caplog.at_level(logging.WARNING, "lit_symbolic.data"):
        found = read_described("someone/chebi", cut_by_hash=True, need_groups=False)
    assert sum(map(len, found.splits.values())) == found.total == 120 * len(there)
    assert all(found.splits[split] for split in SPLITS)
    told = [message for message in caplog.messages if "cannot be had" in message]
    assert len(told) == 3 - len(there)
    if "test" in there and len(there) > 1:
        assert len(found.splits["test"]) == 120
    with pytest.raises(ValueError, match=r"cannot be had.*; cut_by_hash: true makes the missing splits"):
        read_described("someone/chebi", need_groups=False)


def test_a_data_set_that_is_not_there_is_not_cut(monkeypatch):
    hub_with(monkeypatch, ())
    with pytest.raises(ValueError, match=r"the split 'train' cannot be had: ValueError: Unknown split$"):
        read_described("someone/chebi", cut_by_hash=True)


def test_a_file_without_rows_is_no_split_to_be_cut(tmp_path):
    for split in ("train", "validation"):
        (tmp_path / f"{split}.smi").write_text("".join(f"{'C' * n}O\n" for n in range(1, 60)))
    (tmp_path / "test.smi").write_text("\n")
    with pytest.raises(ValueError, match=r"test\.smi holds no rows"):
        read_described(tmp_path, cut_by_hash=True, need_groups=False)


def test_a_ruined_file_does_not_hide_behind_a_large_one(tmp_path):
    alcohols = [f"{'C' * n}O" for n in range(1, 200)]
    (tmp_path / "train.smi").write_text("\n".join(alcohols))
    (tmp_path / "validation.smi").write_text("CCN\n")
    (tmp_path / "test.smi").write_text("CCS\nCC(C)(C)(C)(C)C\n")
    with pytest.raises(ValueError, match=r"test\.smi: 1 of 2 rows are corrupt"):
        read_described(tmp_path, max_corrupt=0.01, need_groups=False)


def test_so_many_first_rows_are_read_of_each_file_and_official_splits_stay(tmp_path):
    for split, smiles in zip(SPLITS, ("CC#N", "CCBr", "CC(=O)O"), strict=True):
        (tmp_path / f"{split}.smi").write_text(f"{smiles}\nC{smiles}\n")
    found = read_described(tmp_path, first_rows=1, cut_by_hash=True)
    assert (found.total, {split: rows[0].answer for split, rows in found.splits.items()}) == (
        3,
        dict(zip(SPLITS, ("CC#N", "CCBr", "CC(=O)O"), strict=True)),
    )


@pytest.mark.parametrize("name", ["val", "valid", "validation", "eval", "dev"])
def test_a_validation_file_is_read_whatever_it_is_called(tmp_path, name, caplog):
    for split, smiles in zip(("train", name, "test"), ("CC#N", "CCBr", "CC(=O)O"), strict=True):
        (tmp_path / f"{split}.txt").write_text(f"{smiles}\n")
    assert [row.answer for row in read_described(tmp_path, cut_by_hash=True).splits["validation"]] == ["CCBr"]
    assert not caplog.messages


def test_a_second_file_of_a_split_is_told(tmp_path, caplog):
    for split, smiles in zip(("train", "valid", "dev", "test"), ("CC#N", "CCBr", "CCCl", "CC(=O)O"), strict=True):
        (tmp_path / f"{split}.txt").write_text(f"{smiles}\n")
    assert read_described(tmp_path).total == 3
    [told] = caplog.messages
    assert "dev.txt is not read: valid.txt is the validation split" in told


def test_a_split_of_no_known_name_is_a_corrupt_row(tmp_path):
    rows = [{"input": "a nitrile", "output": "CC#N", "metadata": {"split": split}} for split in ("train", "tset")]
    (tmp_path / "m.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"m\.json\[1\].*there is no split 'tset'"):
        read_described(tmp_path / "m.json", cut_by_hash=True)


def test_splits_that_are_made_are_told(tmp_path, caplog):
    rows = [{"input": f"A nitrile, number {n}.", "output": "CC#N"} for n in range(60)]
    (tmp_path / "m.json").write_text(json.dumps(rows))
    read_described(tmp_path / "m.json", cut_by_hash=True)
    assert any(
        "made by a hash of what is asked: train and validation and test, of rows of no split" in m for m in caplog.messages
    )
