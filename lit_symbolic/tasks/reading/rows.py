"""Rows of data files, and of data sets on the Hugging Face hub: read, told apart by their place, and corrupt ones counted.

A source is a path, or the id of a data set on the hub: ``owner/name``, ``owner/name@revision``, ``owner/name:config``. What
exists on disk is a path, and so is what ends like a data file.
"""

from __future__ import annotations

import ast
import csv
import gzip
import io
import json
import logging
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

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
FILE_SUFFIXES = (
    *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".smi", ".smiles", ".sdf", ".md", ".xml", ".yaml", ".xlsx", ".sqlite"),
    *(".parquet", ".arrow", ".gz", ".bz2", ".xz", ".zst", ".zip", ".tar"),
)
"""What ends so is a file, there or not. Another ending may be a part of a data set's name: ``owner/name-v1.5``."""
T = TypeVar("T")
S = TypeVar("S", bound=str)


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
            raise ValueError(f"expected text in the field {name!r}, got {_short(value)}")
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
            raise ValueError(f"expected an object, or its text in JSON or Python, in the field {name!r}, got {_short(value)}")
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


# --- files: of each a row that is not UTF-8 is a fault, and a packed one that cannot be unpacked a ValueError ---


def text_rows(path: str | Path) -> Iterator[Row]:
    """The lines of a text file that are not blank."""
    for number, line in _lines(path):
        if line.strip():
            yield Row(f"{path}:{number}", {"text": line}, _not_utf_8(line))


def json_rows(path: str | Path) -> Iterator[Row]:
    """The objects of a file of JSON lines, or of one JSON array.

    Raises:
        ValueError: If an array is broken, or nested too deeply; names file and line. (A broken line alone is a fault.)
    """
    lines = _lines(path)
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        return
    if first[1].lstrip().startswith("["):
        yield from _array(path, "\n".join([*[""] * (first[0] - 1), first[1], *(line for _, line in lines)]))
        return
    for number, line in (first, *lines):
        place, fault = f"{path}:{number}", _not_utf_8(line)
        if not line.strip():
            continue
        try:
            yield Row(place, fault=fault) if fault else _object(place, json.loads(line))
        except (ValueError, RecursionError) as error:
            yield Row(place, fault=f"not JSON: {error}")


def _array(path: str | Path, text: str) -> Iterator[Row]:
    """The objects of a JSON array, one after the other, so that each has its line."""
    decoder = json.JSONDecoder()
    at = _behind_blanks(text, text.index("[") + 1)
    index, line, counted = 0, 1, 0
    try:
        while index or text[at : at + 1] != "]":
            line, counted = line + text.count("\n", counted, at), at
            found, end = decoder.raw_decode(text, at)
            yield _object(f"{path}[{index}]", found, line, _not_utf_8(text[at:end]))
            index, at = index + 1, _behind_blanks(text, end)
            if text[at : at + 1] == "]":
                break
            if text[at : at + 1] != ",":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, at)
            at = _behind_blanks(text, at + 1)
        behind = _behind_blanks(text, at + 1)
        if behind < len(text):
            raise json.JSONDecodeError("Extra data", text, behind)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}:{error.lineno}: not JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}:{line}: not JSON that can be read: {error}") from None


def _behind_blanks(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\t", "\n", "\r"):
        at += 1
    return at


def delimited_rows(path: str | Path, delimiter: str = ",", quoted: bool = True, columns: Iterable[str] = ()) -> Iterator[Row]:
    """The rows of a file with a header, one a line.

    A field with a line break is a fault: none of the public files has one, and a quotation mark too many would else make one field of
    all lines up to the next. So it costs its own line.

    Args:
        path: The file.
        delimiter: Between fields.
        quoted: Whether quotation marks enclose fields; otherwise they are characters like others.
        columns: That the header must have.

    Raises:
        ValueError: If the header cannot be read, or a column is missing.
    """
    header: list[str] | None = None
    for number, line in _lines(path):
        if not line:
            continue
        place, fault = f"{path}:{number}", _not_utf_8(line)
        if fault and header is not None:
            yield Row(place, fault=fault)
            continue
        try:
            values = _values(line, delimiter, quoted)
        except (ValueError, csv.Error) as error:
            if header is None:
                raise ValueError(f"{place}: the header cannot be read: {error}") from None
            yield Row(place, fault=str(error))
            continue
        if header is None:
            header = values
            missing = [column for column in columns if column not in header]
            if missing:
                raise ValueError(f"{place}: expected a header with the columns {', '.join(missing)}, got {_short(header)}")
        elif len(values) == len(header):
            yield Row(place, dict(zip(header, values, strict=True)))
        else:
            yield Row(place, fault=f"{len(values)} fields where the header has {len(header)}")


def _values(line: str, delimiter: str, quoted: bool) -> list[str]:
    if quoted and line.count('"') % 2:
        raise ValueError(
            'a quotation mark (") without its counterpart in this line; fields with line breaks are read from JSON lines alone'
        )
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    return next(csv.reader([line], delimiter=delimiter, quoting=quoting, strict=True))


def _object(place: str, found: object, line: int = 0, fault: str = "") -> Row:
    if fault or not isinstance(found, dict):
        return Row(place, fault=fault or f"expected an object, got {_short(found)}", line=line)
    return Row(place, found, line=line)


def _not_utf_8(text: str) -> str:
    """The fault of text with characters that were replaced on reading; empty if there are none."""
    return "not UTF-8" if "\ufffd" in text else ""


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Lines of a file in UTF-8 with their numbers, unpacked if it ends in ``.gz``; what is not UTF-8 is replaced, and shows as such.

    Raises:
        ValueError: If it cannot be unpacked: it is cut short, damaged, or not packed.
    """
    path = Path(path)
    try:
        with (
            gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as binary,
            io.TextIOWrapper(binary, encoding="utf-8-sig", errors="replace", newline="\n") as file,  # type: ignore[type-var, unused-ignore]
        ):
            for number, line in enumerate(file, 1):
                yield number, line.rstrip("\r\n")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} cannot be unpacked: {error}") from error


# --- the hub ---


def is_on_hub(source: str | Path) -> bool:
    """Whether a source is the id of a data set on the hub and no path.

    Example:
        >>> is_on_hub("zjunlp/Mol-Instructions"), is_on_hub("owner/name-v1.5@refs/convert/parquet:small")
        (True, True)
        >>> is_on_hub("data/missing.tsv"), is_on_hub("/data/x"), is_on_hub("../data/x")
        (False, False, False)
    """
    text = str(source)
    name = re.split("[@:]", text, maxsplit=1)[0]
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name, re.ASCII):
        return False
    is_file = any(each.lower().endswith(FILE_SUFFIXES) for each in (name, text))
    return not is_file and not Path(name).exists() and not Path(text).exists()


def hub_rows(source: str, split: str) -> Iterator[Row]:
    """The rows of a split of a data set on the hub, through the package ``datasets``.

    Args:
        source: ``owner/name``, with ``@revision`` and ``:config`` if you like.
        split: As the data set names it.

    Raises:
        ValueError: If the package is missing, or the data set, its configuration or split cannot be had; of one that is made by a script,
            which the package runs no more, it says what can be read in its place.
    """
    try:
        from datasets import load_dataset  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ValueError(f"{source} is read from the hub by the package datasets: pip install 'lit-symbolic[hub]'") from error
    name, _, config = source.partition(":")
    name, _, revision = name.partition("@")
    try:
        found = load_dataset(name, config or None, split=split, revision=revision or None)
    except Exception as error:
        advice = ""
        if "scripts are no longer supported" in str(error):
            advice = (
                f". Download its files and give their path; or, if the hub has converted it, give {name}@refs/convert/parquet with the "
                "configuration behind a colon"
            )
        raise ValueError(f"{source}: the split {split!r} cannot be had: {type(error).__name__}: {error}{advice}") from error
    for index, fields in enumerate(found):
        yield Row(f"{source}[{split}][{index}]", fields)


def hub_parts(source: str, splits: Iterable[S]) -> tuple[dict[S, Iterator[Row]], dict[S, ValueError]]:
    """Rows of those splits of a data set on the hub that can be had, and why the others cannot.

    Args:
        source: See :func:`hub_rows`.
        splits: As the data set names them.

    Raises:
        ValueError: If none can be had.
    """
    found: dict[S, Iterator[Row]] = {}
    missing: dict[S, ValueError] = {}
    for split in splits:
        rows = hub_rows(source, split)
        try:
            first = next(rows, None)
        except ValueError as error:
            missing[split] = error
        else:
            found[split] = chain(() if first is None else (first,), rows)
    if not found:
        raise next(iter(missing.values()))
    return found, missing


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


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
