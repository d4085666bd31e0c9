"""One fault in a gold molecule, at a known span: what :mod:`verifier_chemistry` injects.

Each injection gives a text that is wrong by a judge that is not the verifier under test (RDKit's parser, a count of elements),
or nothing where it does not apply.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from rdkit import Chem, RDLogger

from lit_symbolic.certificate import Problem
from lit_symbolic.verifiers.molecules.functional_groups import group_matches, groups_asked_for

RDLogger.DisableLog("rdApp.*")

Injection = tuple[Problem, str, int, int]
"""The problem, the answer with its fault, and the fault's span."""
Injector = Callable[[Problem, str, random.Random], Injection | None]

_ATOM = re.compile(r"\[[^\]]*\]|Br|Cl|[BCNOPSFI]|[bcnops]")
_PLAIN = re.compile(r"Br|Cl|[BCNOPSFI]|[bcnops]")
_BRACKET = re.compile(r"\[[^\]]*\]")
_RING = re.compile(r"%[0-9]{2}|[0-9]")
_INSERTED = ("Br", "I", "F", "Cl", "[Si]", "[Se]", "B", "S", "P", "N", "O")


def _tokens(smiles: str, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    """Spans of a pattern, those inside brackets left out unless it matches the bracket."""
    outside = re.sub(r"(?<=\[)[^\]]*(?=\])", lambda match: "_" * len(match[0]), smiles)
    found = (match.span() for match in re.finditer(r"\[_*\]|" + pattern.pattern, outside))
    return [span for span in found if pattern.fullmatch(smiles[slice(*span)])]


def _depths(smiles: str) -> list[int]:
    """Number of branches open before each character."""
    depths, depth = [], 0
    for character in smiles:
        depths.append(depth)
        depth += (character == "(") - (character == ")")
    return depths


def _parses(smiles: str) -> bool:
    return Chem.MolFromSmiles(smiles) is not None


def _syntax_is_right(smiles: str) -> bool:
    return Chem.MolFromSmiles(smiles, sanitize=False) is not None


def _elements(smiles: str) -> Counter[str]:
    return Counter(atom.GetSymbol() for atom in Chem.MolFromSmiles(smiles).GetAtoms())


def _cut_in(smiles: str, place: int, text: str) -> tuple[str, int, int]:
    return smiles[:place] + text + smiles[place:], place, place + len(text)


def _exchanged(smiles: str, span: tuple[int, int], text: str) -> tuple[str, int, int]:
    return smiles[: span[0]] + text + smiles[span[1] :], span[0], span[0] + len(text)


def _unless_parsed(problem: Problem, text: str, start: int, end: int) -> Injection | None:
    return None if _syntax_is_right(text) else (problem, text, start, end)


# --- syntax ---


def ring_number_added(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """A ring number that is used nowhere else, behind an atom."""
    unused = [digit for digit in "123456789" if digit not in smiles]
    if not unused:
        return None
    place = rng.choice(_tokens(smiles, _ATOM))[1]
    return _unless_parsed(problem, *_cut_in(smiles, place, rng.choice(unused)))


def _ring_number_deleted(smiles: str, rng: random.Random) -> tuple[str, int, tuple[int, int]] | None:
    """The text without one ring number, its place, and the span of its partner."""
    rings = _tokens(smiles, _RING)
    names = Counter(smiles[slice(*span)] for span in rings)
    pairs = [span for span in rings if names[smiles[slice(*span)]] == 2]
    if not pairs:
        return None
    deleted = rng.choice(pairs)
    number = smiles[slice(*deleted)]
    partner = next(span for span in pairs if span != deleted and smiles[slice(*span)] == number)
    shift = len(number) if partner > deleted else 0
    return smiles[: deleted[0]] + smiles[deleted[1] :], deleted[0], (partner[0] - shift, partner[1] - shift)


def ring_number_left_alone(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """One of a pair of ring numbers deleted; the fault is the other."""
    found = _ring_number_deleted(smiles, rng)
    return None if found is None else _unless_parsed(problem, found[0], *found[2])


def ring_number_gone(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """One of a pair of ring numbers deleted; the fault is the place where it stood."""
    found = _ring_number_deleted(smiles, rng)
    return None if found is None else _unless_parsed(problem, found[0], found[1], found[1])


def branch_closed_twice(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """A closing parenthesis where no branch is open."""
    depths = _depths(smiles)
    places = [end for _, end in _tokens(smiles, _ATOM) if end == len(smiles) or depths[end] == 0]
    return _unless_parsed(problem, *_cut_in(smiles, rng.choice(places), ")")) if places else None


def branch_not_closed(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """An opening parenthesis before an atom, outside other branches."""
    depths = _depths(smiles)
    places = [start for start, _ in _tokens(smiles, _ATOM)[1:] if depths[start] == 0 and smiles[start - 1] not in "-=#/\\.:"]
    return _unless_parsed(problem, *_cut_in(smiles, rng.choice(places), "(")) if places else None


def parenthesis_deleted(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """A parenthesis deleted anywhere; the fault is the place where it stood, the tool sees the other."""
    places = [place for place, character in enumerate(smiles) if character in "()"]
    if not places:
        return None
    place = rng.choice(places)
    return _unless_parsed(problem, smiles[:place] + smiles[place + 1 :], place, place)


def unknown_atom(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """An atom exchanged for letters that name none."""
    wrong = rng.choice(("X", "Q", "R", "A", "L", "[Xx]", "[Zz]", "[J]", "x", "H"))
    return _unless_parsed(problem, *_exchanged(smiles, rng.choice(_tokens(smiles, _ATOM)), wrong))


def broken_bracket(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """A bracket atom with a character too many, or without its closing bracket."""
    brackets = _tokens(smiles, _BRACKET)
    if not brackets:
        return None
    start, end = rng.choice(brackets)
    atom = smiles[start:end]
    wrong = rng.choice((atom[:-1], atom[:-1] + rng.choice("C(=!xH@") + "]", "[" + atom))
    return _unless_parsed(problem, *_exchanged(smiles, (start, end), wrong))


def misplaced_bond(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """A bond before a closing parenthesis, behind another bond, or at the end."""
    places = [place for place, character in enumerate(smiles) if character in ")=#"] + [len(smiles)]
    return _unless_parsed(problem, *_cut_in(smiles, rng.choice(places), rng.choice("=#")))


def foreign_character(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """A character that SMILES does not use, behind an atom."""
    return _unless_parsed(problem, *_cut_in(smiles, rng.choice(_tokens(smiles, _ATOM))[1], rng.choice("!?&^;,{}|_")))


# --- valence and aromaticity ---


def over_valent_atom(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """Atoms hung on one that cannot hold them, or an atom exchanged for one that cannot have its bonds."""
    atoms = _tokens(smiles, _PLAIN)
    if not atoms:
        return None
    start, end = rng.choice(atoms)
    if rng.random() < 0.5:
        text, _, stop = _cut_in(smiles, end, rng.choice(("(=O)(=O)", "(C)(C)(C)", "(F)(F)(F)(F)", "(#N)(=O)")))
    else:
        text, start, stop = _exchanged(smiles, (start, end), rng.choice(("F", "Cl", "O", "N")))
    problems = Chem.DetectChemistryProblems(Chem.MolFromSmiles(text, sanitize=False)) if _syntax_is_right(text) else ()
    kinds = {each.GetType() for each in problems}
    return (problem, text, start, stop) if kinds == {"AtomValenceException"} and not _parses(text) else None


def broken_aromaticity(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """In an aromatic ring: a hydrogen of ``[nH]`` taken, an atom exchanged, or one added."""
    aromatic = [span for span in _tokens(smiles, _ATOM) if smiles[slice(*span)] in ("c", "n", "o", "s", "[nH]")]
    if not aromatic:
        return None
    start, end = rng.choice(aromatic)
    atom = smiles[start:end]
    if atom == "[nH]":
        text, start, stop = _exchanged(smiles, (start, end), "n")
    elif atom in "os" or rng.random() < 0.5:
        text, start, stop = _exchanged(smiles, (start, end), rng.choice(("o", "s", "[nH]")) if atom in "cn" else "c")
    else:
        text, start, stop = _cut_in(smiles, end + len(re.match(r"(?:%[0-9]{2}|[0-9])*", smiles[end:])[0]), "c")  # type: ignore[index]
    problems = Chem.DetectChemistryProblems(Chem.MolFromSmiles(text, sanitize=False)) if _syntax_is_right(text) else ()
    return (problem, text, start, stop) if {each.GetType() for each in problems} == {"KekulizeException"} else None


# --- the tasks ---


def missing_group(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """A branch, the beginning or the end deleted, and with it a group that the description asks for; the fault is the place."""
    mol = Chem.MolFromSmiles(smiles)
    asked = [
        group for group in groups_asked_for(problem.facts["description"]) if len(group_matches(mol, group)) >= group.at_least
    ]
    if not asked:
        return None
    cuts = [match.span() for match in re.finditer(r"\([^()]{1,12}\)", smiles)]
    cuts += [(len(smiles) - size, len(smiles)) for size in range(1, 9)] + [(0, size) for size in range(1, 9)]
    rng.shuffle(cuts)
    for start, end in cuts:
        text = smiles[:start] + smiles[end:]
        left = Chem.MolFromSmiles(text) if text else None
        if left is not None and any(len(group_matches(left, group)) < group.at_least for group in asked):
            return problem, text, start, start
    return None


def exchanged_group(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """An atom exchanged, and with it a group gone that the description asks for; the fault is the atom."""
    mol = Chem.MolFromSmiles(smiles)
    asked = [
        group for group in groups_asked_for(problem.facts["description"]) if len(group_matches(mol, group)) >= group.at_least
    ]
    atoms = _tokens(smiles, _PLAIN)
    rng.shuffle(atoms)
    for span in atoms if asked else ():
        text, start, end = _exchanged(smiles, span, "S" if smiles[slice(*span)] == "C" else "C")
        changed = Chem.MolFromSmiles(text)
        if changed is not None and any(len(group_matches(changed, group)) < group.at_least for group in asked):
            return problem, text, start, end
    return None


def unsupplied_atom(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """A product with an atom more, of an element of which nothing is left in what was put in."""
    has = _elements(problem.facts["reactants"])
    for _ in range(8):
        text, start, end = _cut_in(smiles, rng.choice(_tokens(smiles, _ATOM))[1], f"({rng.choice(_INSERTED)})")
        if _parses(text) and _elements(text) - has:
            return problem, text, start, end
    return None


def exchanged_product_atom(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """A product with an atom exchanged for one of an element of which nothing is left."""
    has = _elements(problem.facts["reactants"])
    for _ in range(8):
        text, start, end = _exchanged(smiles, rng.choice(_tokens(smiles, _PLAIN)), rng.choice(_INSERTED))
        if _parses(text) and _elements(text) - has:
            return problem, text, start, end
    return None


def copied_reactant(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """A reactant beside the product."""
    reactants = [each for each in problem.facts["reactants"].split(".") if 3 * len(each) <= len(smiles)]
    reactants = [each for each in reactants if _parses(each) and _elements(each)["C"]]
    if not reactants:
        return None
    copy = rng.choice(reactants)
    if rng.random() < 0.5:
        return problem, f"{copy}.{smiles}", 0, len(copy)
    return problem, f"{smiles}.{copy}", len(smiles) + 1, len(smiles) + 1 + len(copy)


def exchanged_reactant_atom(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """Reactants with an atom exchanged, so that the product's is nowhere."""
    needed = _elements(problem.facts["product"])
    for _ in range(12):
        text, start, end = _exchanged(smiles, rng.choice(_tokens(smiles, _PLAIN)), rng.choice(_INSERTED))
        if _parses(text) and needed - _elements(text) and not needed - _elements(smiles):
            return problem, text, start, end
    return None


def reactant_left_away(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """One of several reactants deleted; the fault is the place where it stood, the end for the last."""
    reactants = smiles.split(".")
    if len(reactants) < 2:
        return None
    place = rng.randrange(len(reactants))
    text = ".".join(reactants[:place] + reactants[place + 1 :])
    start = len(".".join(reactants[:place])) + (0 < place < len(reactants) - 1)
    needed = _elements(problem.facts["product"])
    return (problem, text, start, start) if needed - _elements(text) and not needed - _elements(smiles) else None


def copied_product(problem: Problem, smiles: str, rng: random.Random) -> Injection | None:
    """A reactant exchanged for the product, in an answer of several."""
    product = problem.facts["product"]
    return problem, f"{smiles}.{product}", len(smiles) + 1, len(smiles) + 1 + len(product)


def unknown_selfies_symbol(problem: Problem, text: str, rng: random.Random) -> Injection | None:
    """A SELFIES symbol exchanged for one that does not exist."""
    symbols: Sequence[re.Match[str]] = list(re.finditer(r"\[[^\]]*\]", text))
    span = rng.choice(symbols).span()
    return replace(problem), *_exchanged(text, span, rng.choice(("[Xx]", "[Q]", "[=Branch7]", "[CH9]", "[]")))
