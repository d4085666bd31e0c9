"""Rows of data sets on the Hugging Face hub.

A source is a path, or the id of a data set on the hub: ``owner/name``, ``owner/name@revision``, ``owner/name:config``. What
exists on disk is a path, and so is what ends like a data file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import TypeVar

from lit_symbolic.tasks.reading.rows import Row

FILE_SUFFIXES = (
    *(".csv", ".tsv", ".txt", ".json", ".jsonl", ".smi", ".smiles", ".sdf", ".md", ".xml", ".yaml", ".xlsx", ".sqlite"),
    *(".parquet", ".arrow", ".gz", ".bz2", ".xz", ".zst", ".zip", ".tar"),
)
"""What ends so is a file, there or not. Another ending may be a part of a data set's name: ``owner/name-v1.5``."""
S = TypeVar("S", bound=str)


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
