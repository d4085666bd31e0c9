"""Puzzles of the Game of 24 from public data: 4nums.com's csv (Tree of Thoughts' ``24.csv``), and data sets on the hub."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

from lit_symbolic.tasks.base import Split
from lit_symbolic.tasks.reading.files import delimited_rows, json_rows
from lit_symbolic.tasks.reading.hub import hub_parts, is_on_hub
from lit_symbolic.tasks.reading.rows import Row, accept
from lit_symbolic.verifiers.calculating.game24_solver import solvable

LOG = logging.getLogger("lit_symbolic.data")

Cards = tuple[int, ...]

SPLITS: tuple[Split, ...] = get_args(Split)
COLUMNS = ("Puzzles", "puzzles", "numbers")
TEST_RANKS = range(901, 1001)
"""Ranks of 4nums' puzzles on which Tree of Thoughts, and others since, report (https://arxiv.org/abs/2305.10601, section 4.1)."""

UNSOLVABLE = "the row says that it has no solution"


@dataclass(frozen=True)
class PuzzlesRead:
    """What was made of a source.

    Args:
        puzzles: The cards of each puzzle, ascending, in the order of the rows.
        total: Rows in all.
        corrupt: Place and fault of each row that could not be used.
        skipped: How many sound rows were left out, by reason.
        official: The puzzles among them that the source itself puts into a split.
    """

    puzzles: list[Cards]
    total: int
    corrupt: list[str]
    skipped: dict[str, int]
    official: dict[Split, list[Cards]]


def read_card_sets(
    source: str | Path, cards: int = 4, max_card: int = 13, target: int = 24, max_corrupt: float = 0.01
) -> PuzzlesRead:
    """Read puzzles.

    - A csv, with a header. Its column ``Puzzles`` (or ``puzzles``, ``numbers``) holds the cards: ``1 1 4 6``. ``.tsv`` has tabs.
    - ``.json``, ``.jsonl``: objects with one of these fields, text or a list of numbers. ``.gz`` of each.
    - A hub id: rows with one of these fields, of its splits ``train``, ``validation`` and ``test``.

    Official splits: the field ``split``, those of a hub's data set that has several, and else the rows whose ``Rank`` is 901 to 1000,
    which are the test split. A row whose ``solvable`` is false is skipped and counted. Corrupt rows: unreadable, other than ``cards``
    numbers from 1 to ``max_card``, a puzzle without a solution, one that another row has already, a split of no known name.

    Args:
        source: Path or hub id.
        cards: Numbers of a puzzle.
        max_card: Largest of them.
        target: The number to make.
        max_corrupt: See :func:`~lit_symbolic.tasks.reading.rows.accept`.

    Raises:
        ValueError: If there are no rows, too many are corrupt, or none has a solution.
        FileNotFoundError: If there is no such file.
    """
    places: dict[Cards, str] = {}
    official: dict[Split, list[Cards]] = {split: [] for split in SPLITS}

    def parse(row: Row) -> Cards | str:
        if str(row.fields.get("solvable")).strip().lower() in ("false", "0"):
            return UNSOLVABLE
        puzzle = _puzzle(row, cards, max_card)
        if puzzle in places:
            raise ValueError(f"the puzzle {_shown(puzzle)} stands at {places[puzzle]} already")
        if not solvable(puzzle, target):
            raise ValueError(f"the puzzle {_shown(puzzle)} has no solution for {target}")
        places[puzzle] = row.place
        if (split := _official(row)) is not None:
            official[split].append(puzzle)
        return puzzle

    accepted = accept(_rows(source), parse, source, max_corrupt)
    skipped = Counter(item for item in accepted.items if isinstance(item, str))
    puzzles = [item for item in accepted.items if not isinstance(item, str)]
    for reason, count in skipped.items():
        LOG.warning("%s: %d of %d rows are left out: %s", source, count, accepted.total, reason)
    if not puzzles:
        raise ValueError(f"{source}: no puzzle among {accepted.total} rows; left out: {dict(skipped)}")
    return PuzzlesRead(puzzles, accepted.total, accepted.corrupt, dict(skipped), official)


def _official(row: Row) -> Split | None:
    """The split in which the source puts a row, if it does."""
    written = str(row.fields.get("split") or "").strip()
    if written:
        split = next((split for split in SPLITS if split == written), None)
        if split is None:
            raise ValueError(f"there is no split {written[:80]!r}; there are {', '.join(SPLITS)}")
        return split
    rank = str(row.fields.get("Rank", "")).strip()
    return "test" if rank.isascii() and rank.isdigit() and int(rank) in TEST_RANKS else None


def _rows(source: str | Path) -> Iterator[Row]:
    if not is_on_hub(source):
        yield from _file_rows(source)
        return
    parts, missing = hub_parts(str(source), SPLITS)
    for error in missing.values():
        LOG.warning("%s; a test split that is missing is cut from the rows that are there", error)
    for split, rows in parts.items():
        for row in rows:
            yield row if len(parts) == 1 else replace(row, fields={**row.fields, "split": split})


def _file_rows(source: str | Path) -> Iterator[Row]:
    path = Path(source)
    if path.is_dir():
        raise ValueError(f"{path} is a folder; puzzles are read from a file (.csv, .tsv, .json, .jsonl) or a data set on the hub")
    suffix = next((suffix for suffix in reversed(path.suffixes) if suffix != ".gz"), "")
    if suffix in (".json", ".jsonl"):
        return json_rows(path)
    return delimited_rows(path, "\t" if suffix == ".tsv" else ",")


def _puzzle(row: Row, cards: int, max_card: int) -> Cards:
    name = next((name for name in COLUMNS if name in row.fields), None)
    if name is None:
        raise ValueError(f"expected a column {', '.join(COLUMNS[:-1])} or {COLUMNS[-1]}, got {', '.join(row.fields)[:80]}")
    written = row.fields[name]
    words = written.strip("[] ").replace(",", " ").split() if isinstance(written, str) else None
    if isinstance(written, list | tuple):
        words = [str(number) for number in written]
    if words is None or len(words) != cards or not all(word.isascii() and word.isdigit() and len(word) < 7 for word in words):
        raise ValueError(
            f"expected a puzzle of {cards} numbers such as '1 1 4 6' in the field {name!r}, got {repr(written)[:80]}"
        )
    puzzle = tuple(sorted(map(int, words)))
    if not 1 <= puzzle[0] <= puzzle[-1] <= max_card:
        raise ValueError(f"cards lie between 1 and {max_card} (max_card), got {repr(written)[:80]}")
    return puzzle


def _shown(puzzle: Cards) -> str:
    return repr(" ".join(map(str, puzzle)))
