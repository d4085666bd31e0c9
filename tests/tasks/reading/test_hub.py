"""Rows of the hub: what is an id and what a path, and what is said where there is nothing."""

import json
import sys

import datasets
import pytest

from lit_symbolic.tasks.reading.hub import hub_rows, is_on_hub


@pytest.mark.parametrize(
    "source",
    [
        "owner/name",
        "owner/name@main:config",
        "owner/name-v1.5",
        "owner/name@v1.0",
        "owner/name@v1.0:small",
        "owner/name@refs/convert/parquet",
        "owner/name@refs/convert/parquet:small",
        "zjunlp/Mol-Instructions:Molecule-oriented Instructions",
        "owner.2/n_a.me",
    ],
)
def test_an_id_may_have_dots_a_revision_and_a_configuration(source):
    assert is_on_hub(source)


@pytest.mark.parametrize(
    "source",
    [
        *("../shared/data/x", "data/24.csv", "./a/b", "../a", "./a", "/a/b", "~/a", "a/b/c", "name", "a.csv", "a/", "/a", ""),
        *("data/A.CSV", "data/a.smi", "data/a.tsv.gz", "data/a.parquet", "data/run@2.jsonl", "my data/a", "C:/data/a"),
    ],
)
def test_what_looks_like_a_path_is_one_whether_it_exists_or_not(source):
    assert not is_on_hub(source)


def test_what_exists_is_not_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_on_hub("owner/name-v1.5")
    for name in ("name-v1.5", "x@y"):
        (tmp_path / "owner" / name).mkdir(parents=True)
    for path in ("owner/name-v1.5", "owner/name-v1.5@main", "owner/x@y", tmp_path):
        assert not is_on_hub(path), path


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A folder in the place of the hub: ``owner/name`` holds two splits of one configuration."""
    folder = tmp_path / "hub/owner/name"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_text("\n".join(json.dumps({"split": split, "k": k}) for k in range(3)))
    load, asked = datasets.load_dataset, []

    def load_dataset(name, config=None, split=None, revision=None):
        asked.append((name, config, split, revision))
        return load(str(tmp_path / "hub" / name), split=split, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_rows_of_the_hub_are_named_by_data_set_split_and_index(hub):
    found = list(hub_rows("owner/name", "test"))
    assert [dict(row.fields) for row in found] == [{"split": "test", "k": k} for k in range(3)]
    assert [row.place for row in found] == [f"owner/name[test][{k}]" for k in range(3)]


def test_revision_and_configuration_stand_behind_the_name(hub):
    list(hub_rows("owner/name@v1.0:small", "train"))
    list(hub_rows("owner/name@refs/convert/parquet", "train"))
    assert hub == [("owner/name", "small", "train", "v1.0"), ("owner/name", None, "train", "refs/convert/parquet")]


def test_a_split_or_a_data_set_that_is_not_there_is_named(hub):
    with pytest.raises(ValueError, match="owner/name: the split 'dev' cannot be had"):
        list(hub_rows("owner/name", "dev"))
    with pytest.raises(ValueError, match="owner/other: the split 'test' cannot be had"):
        list(hub_rows("owner/other", "test"))


def test_without_the_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'lit-symbolic\[hub\]'"):
        list(hub_rows("owner/name", "test"))


def test_a_data_set_that_is_made_by_a_script_says_what_can_be_read_in_its_place(monkeypatch):
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")

    def load_dataset(name, config, split, revision):
        raise RuntimeError("Dataset scripts are no longer supported, but found Mol-Instructions.py")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ValueError, match=r"Download its files and give their path.*zjunlp/Mol-Instructions@refs/convert/parquet"):
        list(hub_rows("zjunlp/Mol-Instructions", "retrosynthesis"))
