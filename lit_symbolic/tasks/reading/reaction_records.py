"""Reads reactions from the public files in their own formats: USPTO-50k, USPTO-15k, Mol-Instructions, and data sets on the hub."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from lit_symbolic.tasks.base import Split
from lit_symbolic.tasks.reading.files import delimited_rows, json_rows, text_rows
from lit_symbolic.tasks.reading.hub import hub_parts, hub_rows, is_on_hub
from lit_symbolic.tasks.reading.rows import SPLIT_NAMES, Accepted, Row, accept, split_named, task_name
from lit_symbolic.tasks.splitting import split_of
from lit_symbolic.verifiers.molecules.reading import MoleculeReading, canonical, read_molecule

LOG = logging.getLogger("lit_symbolic.data")

Direction = Literal["forward", "retro"]
MAPPED_CSV = "reactants>reagents>production"
HUB_SPLITS: dict[Direction, str] = {"forward": "forward_reaction_prediction", "retro": "retrosynthesis"}
"""What Mol-Instructions calls its two reaction tasks on the hub."""
_MAP = re.compile(r":([0-9]+)\]")


class Unusable(Exception):
    """A sound row that no problem can be made of, and why: it is counted and left out."""


@dataclass(frozen=True, slots=True)
class Reaction:
    """One reaction.

    Args:
        id: File and line (a patent's number may stand at several).
        reactants: What gives atoms to the product, as written but for atom maps; SMILES or SELFIES, dots between molecules.
        product: The same.
        reagents: What is put in besides; may be empty.
        kind: Its class, where it is known.
        key: Normal form, ``reactants>>product``; with the reagents among mapped reactants, unless the reactants are the target.
        split: The split that the row names itself, if any.
    """

    id: str
    reactants: str
    product: str
    reagents: str = ""
    kind: str = ""
    key: str = ""
    split: Split | None = None


@dataclass(frozen=True)
class ReactionData:
    """What was made of a source.

    Args:
        splits: Its reactions by split.
        accepted: Rows read, and the corrupt ones with their places, of each part.
        skipped: Number of sound rows that could not be used, by reason.
    """

    splits: Mapping[Split, list[Reaction]]
    accepted: Mapping[str, Accepted[Reaction | str]]
    skipped: Mapping[str, int]


def read_reactions(source: str | Path, direction: Direction, max_corrupt: float = 0.01, seed: int = 0) -> ReactionData:
    """Read reactions and put them into splits.

    - A folder holds its parts as files with ``train``, ``valid``, ``eval`` or ``test`` in their names; a file alone is one part.
    - ``.smi``: ``product >> reactants``. ``.txt``: ``reactants>>product``, what stands behind a blank is left away. ``.csv``: a column
      ``reactants>reagents>production``. ``.json``, ``.jsonl``: ``input`` and ``output`` of the direction's task, as in
      Mol-Instructions, and its ``metadata.split``; or ``reactants``, ``product``, ``reagents``, ``class``. ``.gz`` of each.
    - A hub id: the same fields. Parts are its splits ``train``, ``validation`` and ``test``; of Mol-Instructions the task's one.
    - ``metadata`` is an object, or the text of one in JSON or as a Python literal.
    - Atom maps are taken off; where there are any, reactant molecules without a map of the product are reagents.
    - Splits are the official ones. Where there is no test part validation serves as test; where then no validation part is left, a
      share of train is validation. A single part whose rows name no split is cut in three. Both cuts go by a hash of what is asked: what
      is asked in one of their splits is asked in no other. A reaction that stands in a later split too (test, then validation) is
      dropped from the earlier ones. In official splits a product may stand in two with different reactants: 41 of the 5,004 of
      USPTO-50k's validation part stand in train.

    How splits came to be that are no part of the source is told. Corrupt rows: unreadable, without a field, ``metadata`` that is no object,
    a split of no known name, reactants or reagents that are no molecules. Skipped
    and counted: a row of Mol-Instructions' other task, a target (product of ``forward``, reactants of ``retro``) that RDKit refuses,
    a product that stands among its reactants, a repeated reaction.

    Args:
        source: Path or hub id.
        direction: Which side is the target.
        max_corrupt: See :func:`~lit_symbolic.tasks.reading.rows.accept`, for each part.
        seed: Of the cuts.

    Raises:
        FileNotFoundError: If there is no such path.
        ValueError: If the format is unknown, a part has no rows or too many corrupt ones, or no reaction can be used.
    """
    parts: dict[Split | None, list[Reaction]] = {}
    accepted: dict[str, Accepted[Reaction | str]] = {}
    skipped: Counter[str] = Counter()
    for name, split, rows in _parts(source, direction):
        found = accept(rows, partial(_parsed, direction=direction), name, max_corrupt)
        accepted[name] = found
        for item in found.items:
            if isinstance(item, str):
                skipped[item] += 1
            else:
                parts.setdefault(item.split or split, []).append(item)
    if not parts:
        raise ValueError(
            f"{source}: none of its rows can be used: {'; '.join(f'{n} {why}' for why, n in sorted(skipped.items()))}"
        )
    splits, made = _splits(parts, direction, skipped, seed)
    for how in made:
        LOG.warning("%s: %s", source, how)
    if skipped:
        LOG.warning("%s: left out: %s", source, "; ".join(f"{number} {reason}" for reason, number in sorted(skipped.items())))
    return ReactionData(splits, accepted, dict(skipped))


def _splits(
    parts: Mapping[Split | None, list[Reaction]], direction: Direction, skipped: Counter[str], seed: int
) -> tuple[dict[Split, list[Reaction]], list[str]]:
    """The splits, and how those came to be that are no part of the source."""

    def cut(reaction: Reaction) -> Split:
        reactants, _, product = reaction.key.partition(">>")
        return split_of(reactants if direction == "forward" else product, seed)

    splits: dict[Split, list[Reaction]] = {split: list(parts.get(split, ())) for split in get_args(Split)}
    made = []
    if parts.get(None):
        made.append(f"{len(parts[None])} rows name no split: they are cut by a hash of what is asked")
    for reaction in parts.get(None, ()):
        splits[cut(reaction)].append(reaction)
    if splits["validation"] and not splits["test"]:
        splits["test"], splits["validation"] = splits["validation"], []
        made.append("there is no test part: the validation part serves as test")
    seen: set[str] = set()
    for split in ("test", "validation", "train"):
        unique = []
        for reaction in splits[split]:
            if reaction.key in seen:
                skipped["repeated"] += 1
                continue
            seen.add(reaction.key)
            unique.append(reaction)
        splits[split] = unique
    if not splits["validation"]:
        splits["validation"] = [reaction for reaction in splits["train"] if cut(reaction) == "validation"]
        splits["train"] = [reaction for reaction in splits["train"] if cut(reaction) != "validation"]
        made.append(
            f"there is no validation part: {len(splits['validation'])} reactions of train, by a hash of what is asked, are one"
        )
    return splits, made


# --- parts of a source ---


def _parts(source: str | Path, direction: Direction) -> Iterator[tuple[str, Split | None, Iterator[Row]]]:
    """Name, split and rows of each part."""
    if is_on_hub(source):
        yield from _hub_parts(str(source), direction)
        return
    path = Path(source)
    files: dict[Path, Split | None]
    if path.is_dir():
        named = {file: _split_of_file(file) for file in sorted(path.iterdir()) if _rows_of(file) is not None}
        files = {file: split for file, split in named.items() if split is not None}
        if not files:  # Mol-Instructions: a file for each of its tasks
            files = {file: None for file in named if HUB_SPLITS[direction] in file.stem}
        if len(files) == 1 and set(files.values()) != {None}:
            LOG.warning("%s is the only part: it is cut in three, whatever its name says", *files)
            files = dict.fromkeys(files)
        unread = [file.name for file in sorted(path.iterdir()) if file.is_file() and _split_of_file(file) and file not in files]
        if files and unread:
            LOG.warning("%s: not read, since they are no .smi, .txt, .csv, .json or .jsonl: %s", path, ", ".join(unread))
        if not files:
            raise ValueError(
                f"{path} holds no file of reactions: expected train, valid or test in the name of a .smi, .txt, .csv or .json"
            )
    elif path.exists():
        files = {path: None}
    else:
        raise FileNotFoundError(f"there are no reactions at {path}")
    for file, split in files.items():
        rows = _rows_of(file)
        if rows is None:
            raise ValueError(f"{file}: reactions are read from .smi, .txt, .csv, .json and .jsonl")
        yield str(file), split, rows


def _split_of_file(path: Path) -> Split | None:
    words = path.name.lower().replace("-", "_").replace(".", "_").split("_")
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def _rows_of(path: Path) -> Iterator[Row] | None:
    suffixes = [suffix for suffix in path.suffixes if suffix != ".gz"]
    suffix = suffixes[-1] if suffixes else ""
    if not path.is_file():
        return None
    if suffix in (".smi", ".txt"):
        return text_rows(path)
    if suffix == ".csv":
        return delimited_rows(path, columns=(MAPPED_CSV,))
    return json_rows(path) if suffix in (".json", ".jsonl") else None


def _hub_parts(source: str, direction: Direction) -> Iterator[tuple[str, Split | None, Iterator[Row]]]:
    if "mol-instructions" in source.lower():
        yield f"{source}[{HUB_SPLITS[direction]}]", None, hub_rows(source, HUB_SPLITS[direction])
        return
    found, missing = hub_parts(source, get_args(Split))
    if "train" in missing:
        raise missing["train"]
    for error in missing.values():
        LOG.warning("%s", error)
    for split, rows in found.items():
        yield f"{source}[{split}]", split, rows


# --- rows ---


def _parsed(row: Row, direction: Direction) -> Reaction | str:
    """A reaction, or why none can be made of a sound row."""
    try:
        return _reaction(row, direction)
    except Unusable as reason:
        return str(reason)


def _reaction(row: Row, direction: Direction) -> Reaction:
    reactants, reagents, product = _sides(row, direction)
    metadata = row.mapping("metadata")
    task = task_name(metadata.get("task"))
    if task in HUB_SPLITS.values() and task != HUB_SPLITS[direction]:
        raise Unusable("of another task")
    split = split_named(str(metadata.get("split") or ""))
    read_reactants = _read(reactants, "reactants", target=direction == "retro")
    read_product = _read(product, "product", target=direction == "forward")
    if reagents:
        _read(reagents, "reagents", target=False)
    ours, theirs = canonical(read_product.mol), canonical(read_reactants.mol)
    asked = theirs
    if _MAP.search(reactants):
        reactants, more = _without_maps(reactants, product)
        reagents = ".".join(filter(None, (more, reagents)))
        product = ours
        if direction == "retro":  # reagents are not shown: rows that differ in them alone ask and answer the same
            asked = canonical(read_molecule(reactants).mol)
    if ours in theirs.split("."):
        raise Unusable("with a product that stands among its reactants")
    kind = row.fields.get("class")
    return Reaction(
        id=row.place.rsplit("/", 1)[-1],
        reactants=reactants,
        product=product,
        reagents=reagents,
        kind="" if kind is None else str(kind),
        key=f"{asked}>>{ours}",
        split=split,
    )


def _sides(row: Row, direction: Direction) -> tuple[str, str, str]:
    """Reactants, reagents and product as written."""
    fields = row.fields
    if "text" in fields:
        line = row.text("text").strip()
        if " >> " in line:
            product, _, reactants = line.partition(" >> ")
            return _present(reactants, "reactants"), "", _present(product, "product")
        return _arrows(line.split()[0])
    for name in (MAPPED_CSV, "rxn_smiles", "reaction_smiles"):
        if name in fields:
            return _arrows(row.text(name).split()[0])
    if "input" in fields and "output" in fields:
        given, wanted = row.text("input").strip(), row.text("output").strip()
        return (given, "", wanted) if direction == "forward" else (wanted, "", given)
    return row.text("reactants").strip(), str(fields.get("reagents") or "").strip(), row.text("product").strip()


def _arrows(text: str) -> tuple[str, str, str]:
    sides = text.split(">")
    if len(sides) != 3:
        raise ValueError(f"expected reactants>reagents>product, got {text[:80]!r}")
    return _present(sides[0], "reactants"), sides[1], _present(sides[2], "product")


def _present(text: str, what: str) -> str:
    if not text.strip():
        raise ValueError(f"the {what} are missing")
    return text.strip()


def _read(text: str, what: str, target: bool) -> MoleculeReading:
    reading = read_molecule(text)
    if reading.valid:
        return reading
    if target:
        raise Unusable("with a target that RDKit refuses")
    raise ValueError(f"{what}: no molecule: {text[:80]!r}")


def _without_maps(reactants: str, product: str) -> tuple[str, str]:
    """Reactants and reagents of atom-mapped molecules, without their maps; a reagent has no map of the product."""
    wanted = set(_MAP.findall(product))
    sides: tuple[list[str], list[str]] = [], []
    for molecule in reactants.split("."):
        maps = set(_MAP.findall(molecule))
        takes_part = bool(maps & wanted) if wanted else bool(maps)
        sides[not takes_part].append(canonical(read_molecule(molecule).mol))
    if not sides[0]:
        raise ValueError("no reactant has an atom of the product, by their maps")
    return ".".join(sorted(sides[0])), ".".join(sorted(sides[1]))
