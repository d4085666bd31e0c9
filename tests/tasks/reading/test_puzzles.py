"""Puzzles of the Game of 24: every form in which the public data have them, and what is told of the rest."""

import gzip
import json
import logging

import pytest

from lit_symbolic.tasks.reading import hub
from lit_symbolic.tasks.reading.puzzles import UNSOLVABLE, read_card_sets
from lit_symbolic.tasks.reading.rows import Row

SETS = [(1, 1, 4, 6), (3, 3, 8, 8), (1, 1, 11, 11)]


def text(cards):
    return " ".join(map(str, cards))


def hub_of(monkeypatch, rows, **others):
    splits = {"train": rows, **others}

    def hub_rows(source, split):
        if split not in splits:
            raise ValueError(f"{source}: the split {split!r} cannot be had")
        for index, fields in enumerate(splits[split]):
            yield Row(f"{source}[{split}][{index}]", fields)

    monkeypatch.setattr(hub, "hub_rows", hub_rows)


@pytest.mark.parametrize("column", ["Puzzles", "puzzles", "numbers"])
@pytest.mark.parametrize("written", [text, list, tuple, lambda cards: str(list(cards)), lambda cards: text(reversed(cards))])
def test_a_hub_row_has_its_cards_as_a_list_or_as_text(monkeypatch, column, written):
    hub_of(monkeypatch, [{"rank": 1, column: written(cards)} for cards in SETS])
    found = read_card_sets("someone/24.game@v1.0")
    assert (found.puzzles, found.total, found.corrupt, found.skipped) == (SETS, 3, [], {})
    assert not any(found.official.values())


def test_a_data_set_with_splits_of_its_own_keeps_them(monkeypatch):
    cards = [{"numbers": list(each)} for each in SETS]
    hub_of(monkeypatch, cards[:1], validation=cards[1:2], test=cards[2:])
    found = read_card_sets("someone/24-game")
    assert found.puzzles == SETS
    assert found.official == {"train": SETS[:1], "validation": SETS[1:2], "test": SETS[2:]}


def test_a_split_of_the_hub_that_cannot_be_had_is_told(monkeypatch, caplog):
    hub_of(monkeypatch, [{"numbers": list(each)} for each in SETS])
    read_card_sets("someone/24-game")
    assert [message.split(";")[0] for message in caplog.messages] == [
        f"someone/24-game: the split {split!r} cannot be had" for split in ("validation", "test")
    ]


def test_the_ranks_of_tree_of_thoughts_are_the_test_split(tmp_path):
    path = tmp_path / "24.csv"
    path.write_text("Rank,Puzzles\n900,1 1 4 6\n901,3 3 8 8\n1000,1 1 11 11\n1001,1 1 1 8\n")
    assert read_card_sets(path).official == {"train": [], "validation": [], "test": [(3, 3, 8, 8), (1, 1, 11, 11)]}


def test_a_split_of_no_known_name_makes_a_corrupt_row(tmp_path):
    path = tmp_path / "24.jsonl"
    path.write_text('{"numbers": [1, 1, 4, 6], "split": "test"}\n{"numbers": [3, 3, 8, 8], "split": "holdout"}\n')
    with pytest.raises(ValueError, match=r"24\.jsonl:2: there is no split 'holdout'; there are train, validation, test"):
        read_card_sets(path)
    assert read_card_sets(path, max_corrupt=0.5).official["test"] == [(1, 1, 4, 6)]


@pytest.mark.parametrize("no", [False, "false", "False", 0])
def test_rows_that_say_that_they_have_no_solution_are_skipped_and_counted(monkeypatch, caplog, no):
    rows = [{"numbers": list(cards), "solvable": True} for cards in SETS] + [{"numbers": [1, 1, 1, 1], "solvable": no}]
    hub_of(monkeypatch, [*rows, {"numbers": [1, 1, 1, 8], "solvable": None}])
    with caplog.at_level(logging.WARNING, "lit_symbolic.data"):
        found = read_card_sets("nlile/24-game")
    assert found.puzzles == [*SETS, (1, 1, 1, 8)]
    assert (found.total, found.skipped) == (5, {UNSOLVABLE: 1})
    assert f"1 of 5 rows are left out: {UNSOLVABLE}" in caplog.text
    hub_of(monkeypatch, [{"numbers": [1, 1, 1, 1], "solvable": no}])
    with pytest.raises(ValueError, match="nlile/24-game: no puzzle among 1 rows; left out"):
        read_card_sets("nlile/24-game")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"numbers": [1, 1, 4]}, r"expected a puzzle of 4 numbers such as '1 1 4 6' in the field 'numbers', got \[1, 1, 4\]"),
        ({"numbers": None}, "expected a puzzle of 4 numbers"),
        ({"numbers": [1, 1, True, 6]}, "expected a puzzle of 4 numbers"),
        ({"numbers": [1, 1, 4.5, 6]}, "expected a puzzle of 4 numbers"),
        ({"numbers": {"a": 1}}, "expected a puzzle of 4 numbers"),
        ({"numbers": [1, 1, 4, 14]}, "cards lie between 1 and 13"),
        ({"numbers": [1, 1, 1, 1], "solvable": True}, "has no solution for 24"),
        ({"numbers": [6, 4, 1, 1]}, r"the puzzle '1 1 4 6' stands at nlile/24-game\[train\]\[0\] already"),
        ({"cards": [1, 1, 4, 6]}, "expected a column Puzzles, puzzles or numbers, got cards"),
    ],
)
def test_a_corrupt_row_is_told_with_its_place_and_counted(monkeypatch, fields, told):
    hub_of(monkeypatch, [*({"numbers": list(cards)} for cards in SETS), fields])
    with pytest.raises(ValueError, match=rf"1 of 4 rows are corrupt(.|\n)*nlile/24-game\[train\]\[3\]: .*{told}"):
        read_card_sets("nlile/24-game")
    found = read_card_sets("nlile/24-game", max_corrupt=0.3)
    assert (found.puzzles, len(found.corrupt)) == (SETS, 1)


def test_files_of_every_format_give_the_same_puzzles(tmp_path):
    objects = [{"Rank": rank, "Puzzles": text(cards)} for rank, cards in enumerate(SETS, 1)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, objects)))
    (tmp_path / "a.json").write_text(json.dumps([{"numbers": cards} for cards in SETS]))
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t"), ("a.txt", ",")):
        lines = [delimiter.join(("Rank", "Puzzles")), *(delimiter.join(map(str, each.values())) for each in objects)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    with gzip.open(tmp_path / "b.csv.gz", "wb") as file:
        file.write((tmp_path / "a.csv").read_bytes())
    for path in tmp_path.iterdir():
        assert read_card_sets(path).puzzles == SETS, path


def test_a_quotation_mark_too_many_loses_one_puzzle(tmp_path):
    path = tmp_path / "24.csv"
    path.write_text('Rank,Puzzles\n1,1 1 4 6\n2,"3 3 8 8\n3,1 1 11 11\n')
    found = read_card_sets(path, max_corrupt=0.4)
    assert (found.puzzles, found.total) == ([SETS[0], SETS[2]], 3)
    assert found.corrupt[0].startswith(f"{path}:3: a quotation mark")


def test_a_folder_and_a_missing_file_are_told(tmp_path):
    with pytest.raises(ValueError, match="is a folder; puzzles are read from a file"):
        read_card_sets(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none\.csv"):
        read_card_sets(tmp_path / "none.csv")
