"""Descriptions with molecules, read from public data: ChEBI-20, Mol-Instructions, lists of SMILES such as ZINC's."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Literal, get_args

from rdkit import Chem

from lit_symbolic.tasks.base import Split
from lit_symbolic.tasks.reading.files import delimited_rows, json_rows, text_rows
from lit_symbolic.tasks.reading.hub import hub_parts, hub_rows, is_on_hub
from lit_symbolic.tasks.reading.rows import SPLIT_NAMES, Row, accept, split_named, task_name
from lit_symbolic.tasks.splitting import split_of
from lit_symbolic.verifiers.molecules.functional_group_table import FUNCTIONAL_GROUPS, FunctionalGroup
from lit_symbolic.verifiers.molecules.functional_groups import group_matches, groups_asked_for
from lit_symbolic.verifiers.molecules.reading import read_molecule

LOG = logging.getLogger("lit_symbolic.data")

SPLITS: tuple[Split, ...] = get_args(Split)
SUFFIXES = tuple(f"{suffix}{packed}" for packed in ("", ".gz") for suffix in (".txt", ".tsv", ".csv", ".json", ".jsonl", ".smi"))
MOL_INSTRUCTIONS_TASK = "description_guided_molecule_design"

NO_GROUP = "the description names no known group that the molecule has"
TOO_LONG = "the description or the molecule is longer than the settings allow"
HELD_OUT = "a held-out split asks the same"
OTHER_TASK = "the row belongs to another task of Mol-Instructions"


@dataclass(frozen=True, slots=True)
class DescribedMolecule:
    """A row of the data.

    Args:
        id: The row's own identifier (ChEBI-20: the PubChem number), else its file and line.
        description: What is asked for; empty where only the molecule is given.
        groups: Names of the functional groups that the description names and the molecule has; of a molecule without a
            description those that it has.
        answer: The molecule as it is to be written.
        molecules: How many molecules it is.
        split: Official split, if the row has one.
    """

    id: str
    description: str
    groups: tuple[str, ...]
    answer: str
    molecules: int
    split: Split | None = None

    @property
    def key(self) -> str:
        """Normal form of what is asked."""
        return " ".join(self.description.casefold().split()) or ", ".join(sorted(self.groups))


@dataclass(frozen=True)
class Described:
    """What was made of a source.

    Args:
        splits: Rows of each split.
        total: Rows in all.
        corrupt: Place and fault of each row that could not be used.
        skipped: How many sound rows were left out, by reason.
    """

    splits: dict[Split, list[DescribedMolecule]]
    total: int
    corrupt: list[str]
    skipped: dict[str, int] = field(default_factory=dict)


def read_described(
    data: str | Path,
    cut_by_hash: bool = False,
    hub_split: str | None = None,
    answers: Literal["smiles", "as_written"] = "smiles",
    longest_description: int | None = None,
    longest_molecule: int | None = None,
    need_groups: bool = True,
    first_rows: int | None = None,
    max_corrupt: float = 0.01,
    seed: int = 0,
) -> Described:
    """Read descriptions and molecules, see :class:`lit_symbolic.tasks.molecules.MoleculeGeneration` for what is read.

    A row without text where there must be some, with ``metadata`` that is no object, of a split of no known name, or with a molecule that
    RDKit refuses, is corrupt: told with its place, counted, and too many of them are an error. A sound row that cannot be used is
    skipped and counted under its reason; so is one that asks what a later split asks too (test, then validation).

    Args:
        data: A folder, a file, or the id of a data set on the hub.
        cut_by_hash: Make the splits that the data lack, by a hash of what is asked: of the training rows if there are any. It is told
            which; and, where one could not be had from the hub, why.
        hub_split: The one split of a hub's data set to read; None reads those called train, validation and test.
        answers: Molecules as canonical SMILES, or as they are written in the data (SELFIES).
        longest_description: Characters of a description at most; longer ones are skipped.
        longest_molecule: The same of a molecule.
        need_groups: Skip a row whose description names no group that the molecule has: any molecule would do.
        first_rows: Read so many rows of each file, or of each split on the hub; None reads all. (24,445 molecules of ZINC take 20
            seconds.)
        max_corrupt: See :func:`~lit_symbolic.tasks.reading.rows.accept`, for each file.
        seed: Of the cut.

    Raises:
        ValueError: If rows of a file are corrupt beyond ``max_corrupt``, it has none, or a split is missing and is not to be cut.
        FileNotFoundError: If there is no such file or folder.
    """

    def parse(row: Row) -> DescribedMolecule | str:
        found = _parse(row, answers)
        if isinstance(found, str):
            return found
        too_long = (longest_description is not None and len(found.description) > longest_description) or (
            longest_molecule is not None and len(found.answer) > longest_molecule
        )
        return TOO_LONG if too_long else found if found.groups or not need_groups else NO_GROUP

    items: list[DescribedMolecule | str] = []
    corrupt: list[str] = []
    total = 0
    for part, rows in _parts(data, hub_split, cut_by_hash):
        accepted = accept(islice(rows, first_rows), parse, part, max_corrupt)
        items += accepted.items
        corrupt += accepted.corrupt
        total += accepted.total
    skipped = Counter(item for item in items if isinstance(item, str))
    splits = _splits([item for item in items if not isinstance(item, str)], data, cut_by_hash, seed)
    asked: set[str] = set()
    for split in reversed(SPLITS):
        kept = [item for item in splits[split] if item.key not in asked]
        skipped[HELD_OUT] += len(splits[split]) - len(kept)
        splits[split] = kept
        asked |= {item.key for item in kept}
    skipped = +skipped
    for reason, count in skipped.items():
        LOG.warning("%s: %d of %d rows are left out: %s", data, count, total, reason)
    for split, usable in splits.items():
        if not usable:
            raise ValueError(f"{data}: no usable row for the {split} split among {total}; left out: {dict(skipped)}")
    return Described(splits, total, corrupt, dict(skipped))


def groups_of(mol: Chem.Mol) -> tuple[str, ...]:
    """Names of the groups that a molecule has, but those whose atoms all belong to one match of another group.

    Example:
        >>> groups_of(Chem.MolFromSmiles("CC(=O)Nc1ccccc1C#N"))
        ('secondary carboxamide', 'acetamide group', 'nitrile', 'phenyl')
    """
    found: list[tuple[FunctionalGroup, list[frozenset[int]]]] = []
    for group in FUNCTIONAL_GROUPS:
        matches = group_matches(mol, group)
        if len(matches) >= group.at_least:
            found.append((group, [frozenset(match) for match in matches]))
    every = {match for _, matches in found for match in matches}
    names, seen = [], set()
    for group, sets in found:
        own = frozenset(sets)
        if own in seen:  # "phenyl" and "benzene" are the same atoms: the first name
            continue
        seen.add(own)
        if not all(any(match < other for other in every) for match in sets):
            names.append(group.name)
    return tuple(names)


# --- rows ---


def _parts(data: str | Path, hub_split: str | None, cut_by_hash: bool) -> Iterator[tuple[str, Iterable[Row]]]:
    """Name and rows of each file, or of each split on the hub: with their official split, if they have one, in the field ``split``."""
    if is_on_hub(data):
        if hub_split:
            yield f"{data}[{hub_split}]", hub_rows(str(data), hub_split)
        else:
            yield from _hub_parts(str(data), cut_by_hash)
        return
    path = Path(data)
    if not path.is_dir():
        yield str(path), _file_rows(path)
        return
    ours = [path / f"{name}{suffix}" for name in SPLIT_NAMES for suffix in SUFFIXES]
    found: dict[Split, Path] = {}
    for file in filter(Path.is_file, ours):
        first = found.setdefault(SPLIT_NAMES[file.name.partition(".")[0]], file)
        if first is not file:
            LOG.warning("%s is not read: %s is the %s split", file, first.name, SPLIT_NAMES[first.name.partition(".")[0]])
    if not found:
        raise FileNotFoundError(
            f"{path}: expected train.txt, validation.txt and test.txt in this folder (or .tsv, .csv, .json …)"
        )
    for split, file in found.items():
        yield str(file), _marked(_file_rows(file), split)


def _hub_parts(data: str, cut_by_hash: bool) -> Iterator[tuple[str, Iterable[Row]]]:
    """The three splits; with ``cut_by_hash`` those that can be had, if there are any: the others are told."""
    found, missing = hub_parts(data, SPLITS)
    for error in missing.values():
        if not cut_by_hash:
            raise ValueError(f"{error}; cut_by_hash: true makes the missing splits from the rows that are there") from error
        LOG.warning("%s; cut_by_hash makes it from the rows that are there", error)
    for split, rows in found.items():
        yield f"{data}[{split}]", _marked(rows, split)


def _marked(rows: Iterable[Row], split: str | None) -> Iterator[Row]:
    for row in rows:
        yield row if split is None else replace(row, fields={**row.fields, "split": split})


def _file_rows(path: Path) -> Iterable[Row]:
    suffix = next((suffix for suffix in reversed(path.suffixes) if suffix != ".gz"), "")
    if suffix in (".json", ".jsonl"):
        return json_rows(path)
    if suffix == ".csv":
        return delimited_rows(path)
    first = next(iter(text_rows(path)), None)
    columns = first.fields["text"].split("\t") if first is not None else []
    if len(columns) > 1 and (suffix not in (".smi", ".smiles") or "SMILES" in columns):
        return delimited_rows(path, "\t", quoted=False, columns=("SMILES", "description"))
    return text_rows(path)


def _parse(row: Row, answers: Literal["smiles", "as_written"]) -> DescribedMolecule | str:
    """The row's molecule, or the reason why it is skipped."""
    fields = row.fields
    metadata = row.mapping("metadata")
    description, place = "", row.place.rpartition("/")[2]
    if "output" in fields:  # Mol-Instructions
        if metadata.get("task") and task_name(metadata["task"]) != MOL_INSTRUCTIONS_TASK:
            return OTHER_TASK
        description, written = row.text("input"), row.text("output")
    elif "text" in fields:
        written = row.text("text").split()[0]
    else:
        written = row.text("SMILES") if "SMILES" in fields else row.text("smiles")
        description = row.text("description") if "description" in fields else ""
    reading = read_molecule(written.strip())
    if not reading.valid:
        raise ValueError(f"RDKit refuses the molecule {written[:80]!r}: {reading.findings[0].message}")
    mol = reading.mol
    groups = _named_and_there(description, mol) if description else groups_of(mol)
    answer = str(Chem.MolToSmiles(mol)) if answers == "smiles" else written.strip()
    split = split_named(str(fields.get("split") or metadata.get("split") or ""))
    identity = str(fields.get("CID") or place)
    return DescribedMolecule(identity, description.strip(), groups, answer, len(Chem.GetMolFrags(mol)), split)


def _named_and_there(description: str, mol: Chem.Mol) -> tuple[str, ...]:
    asked = groups_asked_for(description)
    return tuple(group.name for group in asked if len(group_matches(mol, group)) >= group.at_least)


# --- splits ---


def _splits(
    items: list[DescribedMolecule], data: str | Path, cut_by_hash: bool, seed: int
) -> dict[Split, list[DescribedMolecule]]:
    splits: dict[Split, list[DescribedMolecule]] = {split: [] for split in SPLITS}
    unmarked = [item for item in items if item.split is None]
    for item in items:
        if item.split is not None:
            splits[item.split].append(item)
    missing = [split for split in SPLITS if not splits[split]]
    if not missing and not unmarked:
        return splits
    if not cut_by_hash:
        reason = f"has no rows of the {' and '.join(missing)} split" if missing else f"has {len(unmarked)} rows of no split"
        raise ValueError(f"{data} {reason}; cut_by_hash: true makes the missing splits from the rows that are there")
    source: Split | None = next((split for split in SPLITS if splits[split]), None)
    if missing:
        made_of = "rows of no split" if source is None else f"{source} and rows of no split" if unmarked else source
        LOG.warning("%s: made by a hash of what is asked: %s, of %s", data, " and ".join(missing), made_of)
    else:
        LOG.warning("%s: %d rows of no split are put into one by a hash of what is asked", data, len(unmarked))
    rows = list(unmarked)
    if missing and source is not None:
        rows += splits[source]
        splits[source] = []
    for item in rows:
        split = split_of(item.key, seed)
        splits[split if split in missing or item.split is None or source is None else source].append(item)
    return splits
