"""Molecules assembled from parts, and descriptions of them: so many rings, so many atoms, these functional groups.

A molecule is a scaffold whose places are taken by substituents, or by a second scaffold at the end of a linker. Each part says
which groups of :mod:`~lit_symbolic.verifiers.molecules.functional_group_table` it brings; RDKit joins the parts, and a group that
the join destroyed (a keto group beside a nitrogen is an amide) is not asked for.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from rdkit import Chem

from lit_symbolic.verifiers.molecules.functional_group_table import FUNCTIONAL_GROUPS
from lit_symbolic.verifiers.molecules.functional_groups import group_matches, group_named

MAX_DRAWS = 1_000
_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
_CARBON = 6


@dataclass(frozen=True, slots=True)
class Assembled:
    """What is asked for, and a molecule that has it.

    Args:
        groups: Names of the groups, in the order in which they are named.
        rings: Number of rings.
        heavy_atoms: Fewest and most atoms other than hydrogen.
        smiles: A molecule with all that, canonical.
    """

    groups: tuple[str, ...]
    rings: int
    heavy_atoms: tuple[int, int]
    smiles: str

    @property
    def key(self) -> str:
        """Normal form of what is asked, whatever the order and the words; groups that the same molecules have are one.

        Example:
            >>> Assembled(("nitro", "ether", "benzene"), 1, (10, 13), "COCc1ccc(cc1)[N+](=O)[O-]").key
            'ether, nitro, phenyl; 1 rings; 10-13 atoms'
        """
        low, high = self.heavy_atoms
        return f"{', '.join(sorted({_same(name) for name in self.groups}))}; {self.rings} rings; {low}-{high} atoms"


# --- parts ---


def _parts(text: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """SMILES whose ``*`` is where another part is bound, and the groups it brings, a comma between them."""
    lines = (line.split(maxsplit=1) for line in text.strip().splitlines())
    return tuple((line[0], tuple(each.strip() for each in line[1].split(",")) if len(line) > 1 else ()) for line in lines)


SCAFFOLDS = _parts("""
*c1ccc(*)cc1            benzene
*c1cccc(*)c1            benzene
*c1ccccc1*              benzene
*c1cc(*)cc(*)c1         benzene
*c1ccc(*)c(*)c1         benzene
*c1ccc(*)nc1            pyridine
*c1ccnc(*)c1            pyridine
*c1cnc(*)nc1            pyrimidine
*c1cnc(*)cn1            pyrazine
*c1ccc(*)nn1            pyridazine
*c1ccc(*)o1             furan
*c1ccc(*)s1             thiophene
*c1cnc(*)s1             thiazole
*c1cnc(*)o1             oxazole
*c1cc(*)no1             isoxazole
*c1ccc(*)[nH]1          pyrrole
*c1cnc(*)[nH]1          imidazole
*c1cc(*)[nH]n1          pyrazole
*c1n[nH]c(*)n1          triazole
*c1nnn[nH]1             tetrazole
*c1ccc2[nH]cc(*)c2c1    indole
*c1ccc2[nH]c(*)nc2c1    benzimidazole
*c1ccc2nc(*)ccc2c1      quinoline
*c1ccc2cnc(*)cc2c1      isoquinoline
*c1ccc2cc(*)ccc2c1      naphthalene
*C1CCC(*)CC1            cyclohexane
*C1CC1*                 cyclopropane
*N1CCC(*)CC1            piperidine
*N1CCN(*)CC1            piperazine
*N1CCOC(*)C1            morpholine
*N1CCC(*)C1             pyrrolidine
*C1OC1*                 epoxide
*C1CCC(=O)O1            lactone
*C1CCC(=O)N1            lactam
*CC*
*CCC*
*CCCC*
*CC(*)C*
*C(C)C*
*C(C)(C)C*
""")

SUBSTITUENTS = _parts("""
*O                  hydroxy
*CO                 primary alcohol
*C(C)O              secondary alcohol
*C(C)(C)O           tertiary alcohol
*OC                 methoxy
*OCC                ethoxy
*Oc1ccccc1          phenoxy
*COCC               ether
*C=O                aldehyde
*C(C)=O             acetyl
*CC(C)=O            ketone
*C(=O)c1ccccc1      benzoyl
*C(=O)O             carboxylic acid
*CC(=O)O            carboxylic acid
*C(=O)OC            methyl ester
*C(=O)OCC           ethyl ester
*OC(C)=O            acetoxy
*C(=O)Cl            acyl chloride
*N                  primary amine
*CN                 primary amine
*NC                 secondary amine
*N(C)C              tertiary amine
*CN(C)C             tertiary amine
*C(N)=O             primary carboxamide
*NC(C)=O            acetamide group
*NC(N)=O            urea
*NC(N)=S            thiourea
*NC(=N)N            guanidine
*C(=N)N             amidine
*C=NO               oxime
*C=NN               hydrazone
*C(=O)NN            hydrazide
*C(=O)NO            hydroxamic acid
*C#N                nitrile
*CC#N               nitrile
*[N+](=O)[O-]       nitro
*N=[N+]=[N-]        azide
*N=C=O              isocyanate
*N=C=S              isothiocyanate
*S                  thiol
*SC                 thioether
*S(C)=O             sulfoxide
*S(C)(=O)=O         sulfone
*S(N)(=O)=O         sulfonamide
*S(=O)(=O)O         sulfonic acid
*P(=O)(O)O          phosphonic acid
*B(O)O              boronic acid
*[Si](C)(C)C        silyl group
*F                  fluoro
*Cl                 chloro
*Br                 bromo
*I                  iodo
*C(F)(F)F           trifluoromethyl
*C                  methyl
*CC                 ethyl
*C(C)C              isopropyl
*C(C)(C)C           tert-butyl
*C=C                vinyl
*CC=C               allyl
*CC=C(C)C           prenyl
*C#C                alkyne
*c1ccccc1           phenyl
*Cc1ccccc1          benzyl
""")

LINKERS = _parts("""
*C(=O)N*            secondary carboxamide
*NC(=O)*            secondary carboxamide
*C(=O)N(C)*         tertiary carboxamide
*C(=O)O*            carboxylic ester
*OC(=O)*            carboxylic ester
*O*                 ether
*CO*                ether
*S*                 thioether
*SS*                organic disulfide
*S(=O)(=O)N*        sulfonamide
*C(=O)*             ketone
*NC(=O)N*           urea
*OC(=O)N*           carbamate
*C=C*               alkene
*C#C*               alkyne
*N=N*               azo group
*C=N*               imine
*CN*                secondary amine
*CC*
*C*
""")

# How a description calls a group, its name in the table among the words; the others are called "a(n) NAME" or "a(n) NAME group".
_NOUNS: dict[str, tuple[str, ...]] = {
    name: (f"{name} group", f"{name} substituent")
    for name in ("hydroxy", "methoxy", "ethoxy", "fluoro", "chloro", "bromo", "iodo", "methyl")
}
_NOUNS |= {name: (f"{name} group",) for name in ("phenoxy", "acetyl", "benzoyl", "ethyl", "isopropyl", "tert-butyl", "vinyl")}
_NOUNS |= {name: (f"{name} group",) for name in ("allyl", "prenyl", "benzyl", "trifluoromethyl", "phosphate")}
_NOUNS |= {
    "acetoxy": ("acetoxy group", "acetate ester"),
    "aldehyde": ("aldehyde", "formyl group"),
    "alkene": ("alkene", "carbon-carbon double bond"),
    "alkyne": ("alkyne", "carbon-carbon triple bond"),
    "azide": ("azide", "azido group"),
    "benzene": ("benzene ring",),
    "carboxylic acid": ("carboxylic acid", "carboxy group"),
    "carboxylic ester": ("carboxylic ester", "carboxylic acid ester"),
    "guanidine": ("guanidine", "guanidino group"),
    "ketone": ("ketone", "keto group"),
    "nitrile": ("nitrile", "cyano group"),
    "nitro": ("nitro group", "nitro substituent"),
    "phenyl": ("phenyl group", "phenyl ring"),
    "primary carboxamide": ("primary carboxamide", "primary amide"),
    "pyridine": ("pyridine", "pyridyl group"),
    "secondary carboxamide": ("secondary carboxamide", "secondary amide"),
    "sulfone": ("sulfone", "sulfonyl group"),
    "sulfoxide": ("sulfoxide", "sulfinyl group"),
    "tertiary carboxamide": ("tertiary carboxamide", "tertiary amide"),
    "thioether": ("thioether", "organic sulfide"),
    "thiol": ("thiol", "sulfanyl group"),
}

ASKED = tuple(dict.fromkeys(name for parts in (SCAFFOLDS, SUBSTITUENTS, LINKERS) for _, names in parts for name in names))
"""Names of all groups that a description may ask for."""


# --- molecules ---


@cache
def _mol(smiles: str) -> Chem.Mol:
    return Chem.MolFromSmiles(smiles)


def joined(scaffold: str, parts: Sequence[str]) -> Chem.Mol | None:
    """A scaffold with one part bound at each of its places; an empty one leaves its place to hydrogen.

    Args:
        scaffold: SMILES with as many ``*`` as there are parts.
        parts: SMILES whose first ``*`` is bound to the scaffold; further ones stay, to be bound later.

    Returns:
        The molecule; None if two atoms other than carbon would be bound to each other, or RDKit refuses it.

    Example:
        >>> Chem.MolToSmiles(joined("*c1ccc(*)cc1", ["*OC", "*C#N"]))
        'COc1ccc(C#N)cc1'
        >>> joined("*N1CCC(*)CC1", ["*O", ""]) is None
        True
    """
    mol = Chem.RWMol(_mol(scaffold))
    places = [atom.GetIdx() for atom in mol.GetAtoms() if not atom.GetAtomicNum()]
    done = []
    for place, part in zip(places, parts, strict=True):
        if not part:
            done.append(place)
            continue
        offset = mol.GetNumAtoms()
        mol.InsertMol(_mol(part))
        theirs = next(i for i in range(offset, mol.GetNumAtoms()) if not mol.GetAtomWithIdx(i).GetAtomicNum())
        ends = [mol.GetAtomWithIdx(dummy).GetNeighbors()[0] for dummy in (place, theirs)]
        if all(atom.GetAtomicNum() != _CARBON for atom in ends):
            return None
        mol.AddBond(ends[0].GetIdx(), ends[1].GetIdx(), Chem.BondType.SINGLE)
        done += [place, theirs]
    for dummy in sorted(done, reverse=True):
        mol.RemoveAtom(dummy)
    try:
        Chem.SanitizeMol(mol)
    except Chem.MolSanitizeException:
        return None
    return mol.GetMol()


def draw_molecule(rng: random.Random, max_heavy_atoms: int = 24, min_groups: int = 1) -> tuple[Chem.Mol, list[str]]:
    """A molecule, and the groups that its parts brought and that are there.

    Args:
        rng: Source of randomness.
        max_heavy_atoms: Most atoms other than hydrogen.
        min_groups: Fewest groups.

    Raises:
        ValueError: If (nearly) no molecule is so small and has so many groups.
    """
    for _ in range(MAX_DRAWS):
        names: list[str] = []
        scaffold, brought = rng.choice(SCAFFOLDS)
        names += brought
        parts = []
        for place in range(scaffold.count("*")):
            chance = rng.random()
            if chance < 0.35 and place == 0:
                branch, brought = _branch(rng)
            elif chance < 0.85:
                branch, brought = rng.choice(SUBSTITUENTS)
            else:
                branch, brought = "", ()
            parts.append(branch)
            names += brought
        mol = joined(scaffold, parts)
        if mol is None or mol.GetNumHeavyAtoms() > max_heavy_atoms:
            continue
        there = list({_same(name): name for name in reversed(names) if has_group(mol, name)}.values())[::-1]
        if len(there) >= min_groups:
            return mol, there
    raise ValueError(
        f"no molecule of at most {max_heavy_atoms} heavy atoms with {min_groups} groups in {MAX_DRAWS} draws; "
        "allow larger ones, or ask for fewer groups"
    )


def _branch(rng: random.Random) -> tuple[str, tuple[str, ...]]:
    """A linker with a scaffold at its end, as a part with one place."""
    while True:
        linker, bridge = rng.choice(LINKERS)
        scaffold, brought = rng.choice(SCAFFOLDS)
        ends = [""] * (scaffold.count("*") - 1)
        if ends and rng.random() < 0.4:
            substituent, more = rng.choice(SUBSTITUENTS)
            ends[-1], brought = substituent, (*brought, *more)
        # The linker's first place stays open: it is what the molecule is bound to.
        mol = joined(scaffold, [_turned(linker), *ends])
        if mol is not None:
            return Chem.MolToSmiles(mol), (*bridge, *brought)


@cache
def _turned(linker: str) -> str:
    """A linker written from its other end, so that its last place comes first."""
    mol = _mol(linker)
    places = [atom.GetIdx() for atom in mol.GetAtoms() if not atom.GetAtomicNum()]
    return str(Chem.MolToSmiles(mol, rootedAtAtom=places[-1], canonical=False))


@cache
def _same(name: str) -> str:
    """The first name in the table of a group that the same molecules have: a phenyl group is a benzene ring."""
    group = group_named(name)
    asked = (group.smarts, group.at_least)
    return next(other.name for other in FUNCTIONAL_GROUPS if (other.smarts, other.at_least) == asked)


def has_group(mol: Chem.Mol, name: str) -> bool:
    """Whether a molecule has the group of this name."""
    group = group_named(name)
    return len(group_matches(mol, group)) >= group.at_least


# --- descriptions ---


def draw_described(rng: random.Random, groups: tuple[int, int] = (2, 3), window: int = 4, max_heavy_atoms: int = 24) -> Assembled:
    """A molecule and what is asked for.

    Args:
        rng: Source of randomness.
        groups: Fewest and most groups that are named.
        window: Numbers of heavy atoms that are allowed; where they begin is drawn too.
        max_heavy_atoms: Most heavy atoms of the molecule.

    Example:
        >>> found = draw_described(random.Random(4))
        >>> found.groups, found.rings, found.heavy_atoms, found.smiles
        (('secondary carboxamide', 'cyclohexane'), 2, (13, 16), 'O=C(NC1CCCCC1)c1ccc(F)[nH]1')
    """
    mol, there = draw_molecule(rng, max_heavy_atoms, groups[0])
    named = rng.sample(there, min(len(there), rng.randint(*groups)))
    atoms = mol.GetNumHeavyAtoms()
    low = max(1, atoms - rng.randrange(window))
    return Assembled(tuple(named), mol.GetRingInfo().NumRings(), (low, low + window - 1), str(Chem.MolToSmiles(mol)))


def describe(asked: Assembled, rng: random.Random) -> str:
    """A description in words, one of several ways to say it.

    Example:
        >>> describe(Assembled(("nitro", "ether"), 1, (10, 13), ""), random.Random(1))
        'It contains a nitro group and an ether. Its size is 10 to 13 heavy atoms, with one ring.'
    """
    nouns = [_with_article(rng.choice(_NOUNS.get(name, (name,)))) for name in asked.groups]
    rng.shuffle(nouns)
    groups = _listed(nouns)
    rings = f"{_NUMBERS[asked.rings] if asked.rings < len(_NUMBERS) else asked.rings} ring{'s' * (asked.rings != 1)}"
    low, high = asked.heavy_atoms
    atoms = rng.choice((f"{low} to {high}", f"between {low} and {high}", f"at least {low} and at most {high}")) + " heavy atoms"
    size = rng.choice((f"{rings} and {atoms}", f"{atoms} and {rings}"))
    return rng.choice(
        (
            f"The molecule has {groups}. It has {size}.",
            f"The molecule is made of {atoms} with {rings}. It contains {groups}.",
            f"A compound with {groups}; it has {size}.",
            f"It contains {groups}. Its size is {atoms}, with {rings}.",
        )
    )


def with_articles(names: Iterable[str]) -> str:
    """Groups in words.

    Example:
        >>> with_articles(["nitro", "ester", "urea"])
        'a nitro group, an ester and a urea'
    """
    return _listed([_with_article(_NOUNS.get(name, (name,))[0]) for name in names])


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeio' else 'a'} {noun}"  # "a urea"


def _listed(nouns: Iterable[str]) -> str:
    *first, last = nouns
    return f"{', '.join(first)} and {last}" if first else last
