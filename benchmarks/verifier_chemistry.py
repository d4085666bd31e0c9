"""Speed, gold answers and injected faults of the chemistry verifiers, for the tables of ``benchmarks/verifiers.py``."""

from __future__ import annotations

import csv
import json
import os
import random
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import selfies
from rdkit import Chem, RDLogger

import verifier_chemistry_faults as inject
from lit_symbolic.certificate import Problem
from lit_symbolic.verifiers.chemistry import (
    ForwardSynthesisVerifier,
    MoleculeGenerationVerifier,
    MoleculeVerifier,
    RetrosynthesisVerifier,
)
from runs import ROOT
from verifier_tables import Faults, Gold, Speed

DATA = Path(os.environ.get("LIT_SYMBOLIC_DATA", ROOT.parent / "shared" / "data"))
SEED = 0
Rows = list[tuple[Problem, str]]
"""Problems without a reference, each with its gold answer."""

NEEDED = ("chebi20", "zinc250k", "uspto15k_forward", "uspto50k_mapped", "uspto50k_retro", "mol_instructions")
UNEXPLAINED = "no reason known"
REASONS = {
    "102093872": "the description names the aldehyde, the structure is its enol",
    "139291705": "the description names the aldehyde, the structure is its enol",
    "135908687": "the description names formyl and oxo groups, the structure is another tautomer",
    "135406869": "the description names a hydroxy group, the structure is the oxo tautomer",
    "107812": "the description says sulfo, the structure is a sulfinic acid",
    "25474": "the description says bromine, the structure has iodine there",
    "83863": "the description names the sulfoxide that was replaced",
    "5312738": "the description says amino acid, the structure is a hydroxy acid",
    "9798121": "the description says secondary alcohol, the structure has primary ones alone",
    "10465793": "the description says tertiary alcohol, the structure is a secondary one",
    "65733": "the description says nitro group, the structure has none",
    "53354911": "the propan-2-yl group is substituted further",
    "7342": "the description says methyl ester, the structure is an ethyl ester",
    "150833": "the carboxy group stands on a nitrogen: a carbamic acid",
}
"""Why a molecule of ChEBI-20 lacks a group that its description names, looked up one by one."""
REACTION_REASONS = {
    "this is one of the reactants": "the record's product stands among its reactants",
    "what is put in has": "the record's reactants lack atoms of its product",
    "this is the product itself": "the record's product stands among its reactants",
    "the product has": "the record's reactants lack atoms of its product",
    "characters; at most": "longer in SELFIES than `max_characters`",
}
"""The same of reactions, and of what is not read, by the finding's message."""

FAULTS: tuple[tuple[str, str, inject.Injector], ...] = (
    ("unclosed ring: a ring number added", "molecules", inject.ring_number_added),
    ("unclosed ring: its partner deleted", "molecules", inject.ring_number_left_alone),
    ("unbalanced branch: a closing parenthesis too many", "molecules", inject.branch_closed_twice),
    ("unbalanced branch: one opened and not closed", "molecules", inject.branch_not_closed),
    ("unknown atom", "molecules", inject.unknown_atom),
    ("broken bracket atom", "molecules", inject.broken_bracket),
    ("misplaced bond", "molecules", inject.misplaced_bond),
    ("foreign character", "molecules", inject.foreign_character),
    ("over-valent atom", "molecules", inject.over_valent_atom),
    ("kekulization broken", "aromatic", inject.broken_aromaticity),
    ("missing group, its atoms deleted", "described", inject.missing_group),
    ("missing group, an atom of it exchanged", "described", inject.exchanged_group),
    ("product: an atom too many that no reactant supplies", "forward", inject.unsupplied_atom),
    ("product: an atom exchanged for one that no reactant supplies", "forward", inject.exchanged_product_atom),
    ("product: a reactant copied", "forward", inject.copied_reactant),
    ("reactants: an atom exchanged that the product needs", "retro", inject.exchanged_reactant_atom),
    ("reactants: the same without a reference", "retro without", inject.exchanged_reactant_atom),
    ("reactants: the product copied", "retro", inject.copied_product),
    ("SELFIES: a symbol that does not exist", "selfies", inject.unknown_selfies_symbol),
)
"""What is injected, into which gold answers."""

AMBIGUOUS: tuple[tuple[str, str, inject.Injector], ...] = (
    ("(where a ring number was deleted)", "molecules", inject.ring_number_gone),
    ("(where a parenthesis was deleted)", "molecules", inject.parenthesis_deleted),
    ("(where a reactant was left away)", "retro", inject.reactant_left_away),
)
"""Deletions whose place the answer does not tell: not counted among the others, shown for what the tool cannot see."""


def _has_data() -> bool:
    return all((DATA / name).exists() for name in NEEDED)


@lru_cache(None)
def chebi(references: bool = False) -> Rows:
    """Descriptions and molecules of ChEBI-20's validation split."""
    with (DATA / "chebi20" / "validation.txt").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    facts = [{"description": row["description"]} for row in rows]
    return [
        (Problem("molecule", row["CID"], "", fact, row["SMILES"] if references else None), row["SMILES"])
        for row, fact in zip(rows, facts, strict=True)
    ]


@lru_cache(None)
def aromatic() -> Rows:
    """Molecules of ZINC, written with aromatic atoms."""
    lines = (DATA / "zinc250k" / "valid.txt").read_text().split()
    return [(Problem("smiles", str(number), ""), smiles) for number, smiles in enumerate(lines)]


def _without_maps(smiles: str) -> str:
    mol = Chem.MolFromSmiles(smiles)
    for atom in mol.GetAtoms():
        atom.SetAtomMapNum(0)
    return str(Chem.MolToSmiles(mol))


@lru_cache(None)
def forward(source: str) -> Rows:
    """Reactants (and reagents) with their products, numbered through the validation and then the training split."""
    if source == "uspto15k_forward":
        lines = [line for split in ("valid", "train") for line in (DATA / source / f"{split}.txt").read_text().splitlines()]
        pairs = [tuple(line.split()[0].split(">>")) for line in lines]
    elif source == "uspto50k_mapped":
        with (DATA / source / "canonicalized_eval.csv").open() as file:
            reactions = [row["reactants>reagents>production"].split(">") for row in csv.DictReader(file)]
        pairs = [(reactants, _without_maps(product)) for reactants, _, product in reactions]
    else:
        answers = json.loads((DATA / source / "forward_reaction_prediction.json").read_text())
        pairs = [(row["input"], row["output"]) for row in answers]
    return [(Problem("forward", str(at), "", {"reactants": given}), product) for at, (given, product) in enumerate(pairs)]


@lru_cache(None)
def retro(source: str) -> Rows:
    """Products with their reactants, numbered in the same way."""
    if source == "mol_instructions":
        answers = json.loads((DATA / source / "retrosynthesis.json").read_text())
        pairs = [(row["input"], row["output"]) for row in answers]
    else:
        files = (DATA / source / f"retrosynthesis-{split}.smi" for split in ("valid", "train"))
        lines = [line for file in files for line in file.read_text().splitlines()]
        pairs = [tuple(line.split(" >> ")) for line in lines]
    return [(Problem("retro", str(at), "", {"product": product}), given) for at, (product, given) in enumerate(pairs)]


# --- gold ---


def gold(quick: bool) -> list[Gold]:
    """Gold answers, by the checks alone where it is not said that a reference is given."""
    if not _has_data():
        return []
    take = 200 if quick else None
    generation, product, reactants = MoleculeGenerationVerifier(), ForwardSynthesisVerifier(), RetrosynthesisVerifier()
    written = as_selfies(chebi()[:take])
    lost = len(chebi()[:take]) - len(written)
    return [
        _gold("chebi20, valid", MoleculeVerifier(), chebi()[:take]),
        _gold("chebi20, groups of the description", generation, chebi()[:take]),
        _gold("chebi20, with reference", generation, chebi(references=True)[:take]),
        _gold(f"chebi20 as SELFIES ({lost} more that `selfies` cannot write)", MoleculeVerifier(notation="selfies"), written),
        _gold("zinc250k, valid", MoleculeVerifier(), aromatic()[:take]),
        *(_gold(f"{name}, products", product, forward(name)[:take]) for name in ("uspto15k_forward", "uspto50k_mapped")),
        _gold("mol_instructions, products", product, forward("mol_instructions")[:take]),
        _gold("mol_instructions, reactants", reactants, retro("mol_instructions")[:take]),
        _gold("uspto50k_retro, reactants", reactants, retro("uspto50k_retro")[:take]),
    ]


def as_selfies(rows: Iterable[tuple[Problem, str]]) -> Rows:
    """The same answers in SELFIES; those that the package cannot write are left out."""
    written = []
    for problem, smiles in rows:
        try:
            written.append((problem, selfies.encoder(smiles)))
        except selfies.EncoderError:
            continue
    return written


def _gold(source: str, verifier: MoleculeVerifier, rows: Rows) -> Gold:
    reasons: dict[str, list[str]] = {}
    for problem, answer in rows:
        certificate = verifier.verify(problem, answer)
        if not certificate.correct:
            reasons.setdefault(_reason(problem, [finding.message for finding in certificate.findings]), []).append(problem.id)
    exceptions = [f"{reason}: {', '.join(names)}" for reason, names in sorted(reasons.items())]
    return Gold(source, len(rows), len(rows) - sum(map(len, reasons.values())), exceptions)


def _reason(problem: Problem, messages: list[str]) -> str:
    known = (reason for start, reason in REACTION_REASONS.items() if any(start in message for message in messages))
    reason = REASONS.get(problem.id) if problem.task == "molecule" else None
    return reason or next(known, f"{UNEXPLAINED} ({'; '.join(messages)})")


# --- faults ---


def faults(quick: bool, kinds: Iterable[tuple[str, str, inject.Injector]] = (*FAULTS, *AMBIGUOUS)) -> list[Faults]:
    """At least 100 of each kind."""
    if not _has_data():
        return []
    return [_faults(kind, source, injector, 40 if quick else 200) for kind, source, injector in kinds]


def _faults(kind: str, source: str, injector: inject.Injector, number: int) -> Faults:
    found, rng = Faults(kind), random.Random(f"{SEED} {kind}")
    verifier, rows = _source(source)
    for problem, answer in rng.sample(rows, len(rows)):
        injected = injector(problem, answer, rng)
        if injected is None:
            continue
        certificate = verifier.verify(*injected[:2])
        if certificate.correct:
            raise ValueError(f"{kind}: {injected[1]!r} for {problem.id} was certified correct")
        found.add(certificate, *injected[1:])
        if len(found.overlapped) == number:
            break
    return found


def _source(source: str) -> tuple[MoleculeVerifier, Rows]:
    if source == "forward":
        return ForwardSynthesisVerifier(), [*forward("uspto15k_forward"), *forward("mol_instructions")]
    if source.startswith("retro"):
        rows = retro("uspto50k_retro")
        return RetrosynthesisVerifier(), rows if source != "retro" else [
            (replace(row[0], reference=row[1]), row[1]) for row in rows
        ]
    if source == "described":
        return MoleculeGenerationVerifier(), chebi(references=True)
    if source == "selfies":
        return MoleculeVerifier(notation="selfies"), as_selfies(chebi()[:800])
    return MoleculeVerifier(), aromatic() if source == "aromatic" else [*chebi(), *aromatic()[:3000]]


# --- speed ---


def _spoiled_reactants(number: int, rng: random.Random) -> Rows:
    """Reactants of USPTO-50k with an atom exchanged, each with its reference."""
    rows = [(replace(problem, reference=answer), answer) for problem, answer in retro("uspto50k_retro")[: 4 * number]]
    injected = (inject.exchanged_reactant_atom(problem, answer, rng) for problem, answer in rows)
    return [found[:2] for found in injected if found is not None][:number]


def speed(quick: bool) -> list[Speed]:
    """Certificates per second of processor time, the repetitions of all rows taken in turn."""
    if not _has_data():
        return []
    RDLogger.DisableLog("rdApp.*")
    rows, rng = chebi()[: 300 if quick else None], random.Random(SEED)
    plain, problem = MoleculeVerifier(notation="smiles"), Problem("smiles", "0", "")
    broken = []
    for _, smiles in rows:
        injected = rng.choice([inject.ring_number_added, inject.unknown_atom, inject.over_valent_atom])(problem, smiles, rng)
        broken += [injected[1]] if injected else []
    generation, quicker = MoleculeGenerationVerifier(), MoleculeGenerationVerifier(all_measures=False)
    others = [(question, rows[at - 1][1]) for at, (question, _) in enumerate(chebi(references=True)[: len(rows)])]
    described = [*others[:300]] if quick else others[:1000]
    products = forward("uspto15k_forward")[:300]
    spoiled = _spoiled_reactants(100 if quick else 300, rng)
    placing, unplaced = (RetrosynthesisVerifier(all_measures=False, locate_departure=each) for each in (True, False))
    timed: dict[str, tuple[int, str, Callable[[], object]]] = {
        "RDKit's parse alone, SMILES/s": (len(rows), "", lambda: [Chem.MolFromSmiles(smiles) for _, smiles in rows]),
        "certificates of valid SMILES/s": (len(rows), "2,000", lambda: [plain.verify(problem, smiles) for _, smiles in rows]),
        "certificates of broken SMILES/s": (len(broken), "2,000", lambda: [plain.verify(problem, text) for text in broken]),
        "wrong molecules with all measures/s": (len(described), "", lambda: [generation.verify(*row) for row in described]),
        "the same without MACCS and RDK/s": (len(described), "", lambda: [quicker.verify(*row) for row in described]),
        "products of reactants/s": (len(products), "", lambda: [ForwardSynthesisVerifier().verify(*row) for row in products]),
        "wrong reactants without MACCS and RDK/s": (len(spoiled), "", lambda: [unplaced.verify(*row) for row in spoiled]),
        "the same with the place of departure/s": (len(spoiled), "", lambda: [placing.verify(*row) for row in spoiled]),
    }
    figures: dict[str, list[float]] = {what: [] for what in timed}
    for _ in range(2 if quick else 5):
        for what, (number, _, work) in timed.items():
            since = time.process_time()
            work()
            figures[what].append(number / (time.process_time() - since))
    return [
        Speed(f"chemistry: {what}", statistics.median(values), min(values), max(values), timed[what][1])
        for what, values in figures.items()
    ]
