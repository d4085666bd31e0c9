"""Rows of files: text, JSON, and fields between delimiters.

A row that is not UTF-8 is a fault; a packed file that cannot be unpacked is a ValueError.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from lit_symbolic.tasks.reading.rows import Row, short


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
                raise ValueError(f"{place}: expected a header with the columns {', '.join(missing)}, got {short(header)}")
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
        return Row(place, fault=fault or f"expected an object, got {short(found)}", line=line)
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
