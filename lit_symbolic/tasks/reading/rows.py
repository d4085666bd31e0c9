"""Rows as they were read, told apart by their place; corrupt ones are counted and told."""

from __future__ import annotations

import ast
import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from lit_symbolic.tasks.base import Split

LOG = logging.getLogger("lit_symbolic.data")
SHOWN = 10
"""So many corrupt rows are told one by one in an error; a warning tells all."""
SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "valid": "validation",
    "validation": "validation",
    "val": "validation",
    "eval": "validation",
    "dev": "validation",
    "test": "test",
}
"""What files, and rows of molecules and reactions, call the splits."""
LONGEST_LITERAL = 10_000
"""Characters of a Python literal that are read; its parser is not made for text without bound."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read.

    Args:
        place: File and line, ``train.tsv:17``, or data set and index.
        fields: Its fields by name; of a plain line the one field ``text``.
        fault: Why it could not be read; empty if it could.
        line: The line of the file where it begins, if the place is another: of a JSON array it is the index.
    """

    place: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""
    line: int = 0

    def text(self, name: str) -> str:
        """A field that must be text and not empty.

        Raises:
            ValueError: If it is missing, empty or no text.
        """
        value = self.fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"expected text in the field {name!r}, got {short(value)}")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """A field that is an object, or the text of one in JSON or as a Python literal; empty where the field is, or is missing.

        Raises:
            ValueError: If it is something else.

        Example:
            >>> written = ({"split": "test"}, '{"split": "test"}', "{'split': 'test'}")
            >>> [dict(Row("a:1", {"metadata": each}).mapping("metadata")) for each in written]
            [{'split': 'test'}, {'split': 'test'}, {'split': 'test'}]
        """
        value = self.fields.get(name)
        if value is None or (isinstance(value, str) and not value.strip()):
            return {}
        found = _read_literal(value) if isinstance(value, str) else value
        if not isinstance(found, Mapping):
            raise ValueError(f"expected an object, or its text in JSON or Python, in the field {name!r}, got {short(value)}")
        return found


@dataclass(frozen=True, slots=True)
class Accepted(Generic[T]):
    """What was made of rows.

    Args:
        items: Of the sound ones, in order.
        total: Rows in all.
        corrupt: Place and fault of each other one.
    """

    items: list[T]
    total: int
    corrupt: list[str]


def accept(rows: Iterable[Row], parse: Callable[[Row], T], source: str | Path, max_corrupt: float = 0.01) -> Accepted[T]:
    """Parse rows; a corrupt one is told with its place, counted and left out.

    Args:
        rows: What was read.
        parse: Makes something of a row; raises ValueError or KeyError, with the reason, on one that is corrupt.
        source: Where they come from, for messages.
        max_corrupt: Share of corrupt rows up to which the rest is used, below 1.

    Raises:
        ValueError: If ``max_corrupt`` is no such share, there are no rows, more of them are corrupt than ``max_corrupt``, or none is left.

    Example:
        >>> rows = [Row("a.txt:1", {"text": "7"}), Row("a.txt:2", {"text": "x"})]
        >>> accept(rows, lambda row: int(row.text("text")), "a.txt", max_corrupt=0.5).items
        [7]
        >>> accept(rows, lambda row: int(row.text("text")), "a.txt")
        Traceback (most recent call last):
        ...
        ValueError: a.txt: 1 of 2 rows are corrupt, more than max_corrupt = 0.01 allows:
          a.txt:2: invalid literal for int() with base 10: 'x'
    """
    if not 0.0 <= max_corrupt < 1.0:
        raise ValueError(f"max_corrupt is a share from 0 to below 1, got {max_corrupt}")
    items: list[T] = []
    corrupt: list[str] = []
    total = 0
    for row in rows:
        total += 1
        try:
            if row.fault:
                raise ValueError(row.fault)
            items.append(parse(row))
        except (ValueError, KeyError) as error:
            reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
            line = f" (line {row.line})" if row.line else ""
            corrupt.append(f"{row.place}{line}: {' '.join(reason.split())}")
    if not total:
        raise ValueError(f"{source} holds no rows")
    if len(corrupt) > max_corrupt * total or not items:
        listed = "\n  ".join([*corrupt[:SHOWN], *([f"… and {len(corrupt) - SHOWN} more"] if len(corrupt) > SHOWN else [])])
        raise ValueError(f"{source}: {len(corrupt)} of {total} rows are corrupt, more than {max_corrupt = } allows:\n  {listed}")
    if corrupt:
        LOG.warning("%s: %d of %d rows are corrupt and left out:\n  %s", source, len(corrupt), total, "\n  ".join(corrupt))
    return Accepted(items, total, corrupt)


def task_name(written: object) -> str:
    """The normal form of what Mol-Instructions calls a task, which is written with blanks, hyphens or underscores; empty if it is no text.

    Example:
        >>> task_name("description-guided molecule design"), task_name("Forward_Reaction_Prediction")
        ('description_guided_molecule_design', 'forward_reaction_prediction')
    """
    return re.sub(r"[\s_-]+", "_", written.strip().lower()) if isinstance(written, str) else ""


def split_named(written: str) -> Split | None:
    """The split that a row names; None where it names none.

    Raises:
        ValueError: If there is no split of that name.

    Example:
        >>> split_named("dev"), split_named("")
        ('validation', None)
    """
    if written and written not in SPLIT_NAMES:
        raise ValueError(f"there is no split {written[:80]!r}; there are {', '.join(SPLIT_NAMES)}")
    return SPLIT_NAMES.get(written)


def _read_literal(text: str) -> Any:
    """What is written in JSON or as a Python literal; None if it is neither."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > LONGEST_LITERAL:
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def short(value: object) -> str:
    """How a value is written in a message: at most 80 characters of it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
