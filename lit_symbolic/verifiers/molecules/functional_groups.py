"""Finds the functional groups that a description asks for, and whether a molecule has them.

A description speaks of other molecules too: what the molecule was made from, derives from or lacks. Such passages are left
out, so that what is asked for is rather too little than too much: a group that is not found is not demanded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any

from rdkit import Chem

from lit_symbolic.verifiers.molecules.functional_group_table import FUNCTIONAL_GROUPS, RING_CLASSES, FunctionalGroup

_BY_NAME = {name: group for group in (*FUNCTIONAL_GROUPS, *RING_CLASSES) for name in group.names}
_NAMES = re.compile(
    r"(?<![\w'’,)\]}-])(?:di|tri|bis-?)??"
    rf"(?P<name>{'|'.join(re.escape(name) for name in sorted(_BY_NAME, key=len, reverse=True))})s?(?![\w'’(\[{{-]|[)\]}}]+[\w-])",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<=[.;])\s+")
# A sentence with one of these is about another molecule, or about what this one does.
_ELSEWHERE = re.compile(
    r"\b(?:derives?|functional(?:ly related| parent)|conjugate|role|enantiomer|tautomer|diastereoisomer|metabolites? of|inhibit\w*|"
    r"used|uses|isolated|extracts?|sold|metabolism|effects?|found in|treatment|hydrogens? (?:of|from))\b",
    re.IGNORECASE,
)
# From here on a sentence tells what was made, changed or left away; "replaced by" and the like name what is there now.
_CHANGE = re.compile(
    r"\b(?:obtained|result(?:s|ing)|derived|arising|formed|prepared|produced|condensation|coupling|(?:de)?protonat\w*|oxidation|"
    r"reduction|hydrolysis|converted|in which|where(?:in)?|replac\w+|undergone|esterified|has been|have been|lack\w*|without|"
    r"loss|remov\w+|absence|no|not|nor|neither|instead of|rather than|than|analogue|equivalent|precursor|ester of|amide of|"
    r"salt of|ether of|similar to|skeleton)\b",
    re.IGNORECASE,
)
_NOW = re.compile(r"\b(?:replaced|substituted) (?:with|by)\b", re.IGNORECASE)
# A name before one of these is part of a longer one: "monocarboxylic acid amide", "indole alkaloid", "methyl groups".
_LONGER_NAME = re.compile(
    r"[ -](?:acid|of|core|component|and O-substituted|oxo\w+|amide|monoamide|diamide|ester|monoester|diester|hydrate|oxide|derivative|"
    r"metabolite|residue|fragment|alkaloid|hydrogen|oxygen|nitrogen|carbon|nucle\w+|ribonucle\w+|deoxyribonucle\w+|analogue|"
    r"antibiotic|anion|cation|radical|ylide|skeleton|ring system|dianion|trianion|monoanion|imide|chloride|bromide|salt|\d|"
    r"[a-z]*yl\b(?! (?:group|substituent)))",
    re.IGNORECASE,
)


@lru_cache(maxsize=4096)
def groups_asked_for(description: str) -> tuple[FunctionalGroup, ...]:
    """The groups that a description says the molecule has, in the order of their first mention.

    Args:
        description: English text. Whole words are matched, in singular or plural, the longest name first.

    Example:
        >>> [group.name for group in groups_asked_for("The molecule is a nitrile with two hydroxy groups and no ketone.")]
        ['nitrile', 'hydroxy']
        >>> groups_asked_for("The molecule is obtained by condensation of the carboxy group of acetic acid with an amine.")
        ()
    """
    found: dict[str, FunctionalGroup] = {}
    for sentence in _SENTENCE.split(description):
        if _ELSEWHERE.search(sentence):
            continue
        for passage in _passages(sentence):
            for match in _NAMES.finditer(passage):
                if not _LONGER_NAME.match(passage, match.end()):
                    group = _BY_NAME[match["name"].lower()]
                    found.setdefault(group.name, group)
    return tuple(found.values())


def _passages(sentence: str) -> list[str]:
    """The parts of a sentence that say what the molecule has."""
    change = _CHANGE.search(sentence)
    if change is None:
        return [sentence]
    passages = [sentence[: change.start()]]
    for now in _NOW.finditer(sentence, change.start()):
        later = _CHANGE.search(sentence, now.end())
        passages.append(sentence[now.end() : later.start() if later else len(sentence)])
    return passages


def group_named(name: str) -> FunctionalGroup:
    """The group of this name.

    Raises:
        ValueError: If the table has none.

    Example:
        >>> group_named("carboxy group").name
        'carboxylic acid'
    """
    group = _BY_NAME.get(name.lower()) or _BY_NAME.get(name.lower().removesuffix("s"))
    if group is None:
        raise ValueError(
            f"no functional group is called {name!r}; the names are in lit_symbolic/verifiers/molecules/functional_group_table.py"
        )
    return group


def groups_of_problem(facts: Mapping[str, Any]) -> Sequence[FunctionalGroup]:
    """The groups that a problem asks for: those of its fact ``groups``, by name; without one those that its ``description`` names.

    Raises:
        ValueError: If the table has no group of a name.

    Example:
        >>> [group.name for group in groups_of_problem({"groups": ["hydroxy"]})]
        ['hydroxy']
    """
    named = facts.get("groups")
    return groups_asked_for(str(facts.get("description", ""))) if named is None else [group_named(name) for name in named]


def group_matches(mol: Chem.Mol, group: FunctionalGroup) -> tuple[tuple[int, ...], ...]:
    """The atoms of each match; a molecule has the group if there are ``group.at_least``.

    Example:
        >>> group_matches(Chem.MolFromSmiles("OCCO"), group_named("hydroxy group"))
        ((0,), (3,))
    """
    return tuple(mol.GetSubstructMatches(_pattern(group.smarts), maxMatches=100))


@cache
def _pattern(smarts: str) -> Chem.Mol:
    return Chem.MolFromSmarts(smarts)
