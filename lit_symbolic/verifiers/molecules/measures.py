"""How close an answer's molecule is to the reference: the measures of Mol-Instructions and MolT5.

Exact match is that of canonical SMILES. Similarities are Tanimoto coefficients of MACCS keys, RDKit's path fingerprint and
counted Morgan environments of radius 2, as in Edwards et al., "Translation between molecules and natural language", 2022;
they are those of valid answers only, so a mean over answers skips invalid ones. BLEU and Levenshtein compare characters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from rapidfuzz.distance import Levenshtein
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors
from sacrebleu.metrics import BLEU

from lit_symbolic.verifiers.molecules.reading import Notation, known_molecule

BLEU_ORDER = 4
MORGAN_RADIUS = 2
MAX_CYCLES = 40
MAX_DEGREE = 6
"""Of a molecule whose MACCS keys and RDK fingerprint are made: they list rings and branched paths, which explode in a lattice."""


def text_measures(answer: str, reference: str) -> dict[str, float]:
    """Levenshtein distance and BLEU-4 of characters, with the counts that :func:`corpus_bleu` sums over a corpus.

    Args:
        answer: As the model wrote it, decoded to SMILES if it was SELFIES; need not be valid.
        reference: The same of the reference.

    Example:
        >>> measures = text_measures("CCO", "CCN")
        >>> measures["levenshtein"], measures["bleu"], measures["bleu_match_1"], measures["bleu_total_1"]
        (1.0, 0.0, 2.0, 3.0)
    """
    scored = _bleu().corpus_score([" ".join(answer)], [[" ".join(reference)]])
    measures = {
        "levenshtein": float(Levenshtein.distance(answer, reference)),
        "bleu": scored.score / 100,
        "bleu_answer_length": float(scored.sys_len),
        "bleu_reference_length": float(scored.ref_len),
    }
    for order, (match, total) in enumerate(zip(scored.counts, scored.totals, strict=True), start=1):
        measures[f"bleu_match_{order}"] = float(match)
        measures[f"bleu_total_{order}"] = float(total)
    return measures


def corpus_bleu(sums: Mapping[str, float]) -> float:
    """BLEU-4 of a corpus from sums (or means) of the counts of :func:`text_measures`; papers report this, not the mean BLEU.

    Equation 1 to 3 of Papineni et al., "BLEU: a method for automatic evaluation of machine translation", 2002.

    Example:
        >>> corpus_bleu(text_measures("CCOC", "CCOC"))
        1.0
    """
    orders = range(1, BLEU_ORDER + 1)
    if any(sums[f"bleu_match_{order}"] <= 0 for order in orders):
        return 0.0
    precision = sum(math.log(sums[f"bleu_match_{order}"] / sums[f"bleu_total_{order}"]) for order in orders) / BLEU_ORDER
    return math.exp(min(0.0, 1 - sums["bleu_reference_length"] / sums["bleu_answer_length"]) + precision)


def similarities(mol: Chem.Mol, reference: str, notation: Notation = "auto", every: bool = True) -> dict[str, float]:
    """Tanimoto similarities of a valid molecule to the reference, whose fingerprints are made once in each process.

    Args:
        mol: The answer's.
        reference: The reference as text.
        notation: Of the reference.
        every: All three; otherwise only Morgan's, which costs a twentieth of the others.

    Example:
        >>> similarities(Chem.MolFromSmiles("CCO"), "OCC")
        {'morgan_tanimoto': 1.0, 'maccs_tanimoto': 1.0, 'rdk_tanimoto': 1.0}
    """
    theirs = _reference_fingerprints(reference, notation, every)
    ours = fingerprints(mol, every)
    return {name: float(DataStructs.TanimotoSimilarity(ours[name], theirs[name])) for name in theirs if name in ours}


def fingerprints(mol: Chem.Mol, every: bool = True) -> dict[str, Any]:
    """Fingerprints by the name of their measure; Morgan's alone where the others would take seconds."""
    found = {"morgan_tanimoto": _morgan().GetSparseCountFingerprint(mol)}
    if every and _is_sparse(mol):
        found["maccs_tanimoto"] = rdMolDescriptors.GetMACCSKeysFingerprint(mol)
        found["rdk_tanimoto"] = Chem.RDKFingerprint(mol)
    return found


def _is_sparse(mol: Chem.Mol) -> bool:
    cycles = mol.GetNumBonds() - mol.GetNumAtoms()
    return cycles <= MAX_CYCLES and all(atom.GetDegree() <= MAX_DEGREE for atom in mol.GetAtoms())


@lru_cache(maxsize=4096)
def _reference_fingerprints(reference: str, notation: Notation, every: bool) -> dict[str, Any]:
    return fingerprints(known_molecule(reference, notation).mol, every)


@cache
def _morgan() -> Any:
    return rdFingerprintGenerator.GetMorganGenerator(radius=MORGAN_RADIUS)


@cache
def _bleu() -> BLEU:
    return BLEU(tokenize="none", smooth_method="none", max_ngram_order=BLEU_ORDER, force=True)
