"""Makes reactions without end: a table of reaction SMARTS, applied by RDKit to reactants assembled from lists of fragments.

The classes are the common ones of medicinal chemistry (Roughley and Jordan, "The medicinal chemist's toolbox", 2011); the numbers are
those of the ten super-classes of USPTO-50k (Schneider et al., 2016). 144,042 draws gave 100,000 different reactions.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from rdkit import Chem, rdBase
from rdkit.Chem import rdChemReactions

MAX_DRAWS = 1_000

# A rest is written so that whatever it hangs on can stand before it.
# Ring numbers: 1 and 2 of what stands around, 3 and 4 of aromatic rings, 5 of what hangs on them.
SMALL = ("F", "Cl", "C", "CC", "OC", "OCC", "C(F)(F)F", "C#N", "C(C)C", "C(C)=O", "S(C)(=O)=O", "N(C)C", "OC(F)F", "C5CC5")
RINGS = (
    "c3ccccc3{0}",
    "c3cccc({0})c3",
    "c3ccc({0})cc3",
    "c3ccc({0})cc3{1}",
    "c3cc({0})cc({1})c3",
    "c3ccc({0})nc3",
    "c3cncc({0})c3",
    "c3ccc({0})s3",
    "c3csc({0})c3",
    "c3cnc({0})nc3",
    "c3cccc4ccc({0})cc34",
    "c3ccc4c(c3)sc({0})n4",
)
ALKYL = (
    "C",
    "CC",
    "CCC",
    "CC(C)C",
    "C(C)C",
    "C1CC1",
    "CC1CC1",
    "C1CCC1",
    "C1CCCC1",
    "C1CCCCC1",
    "CC1CCCCC1",
    "C1CCOCC1",
    "CCOC",
    "CCCOC",
    "CC(F)(F)F",
    "CCC#N",
    "CCC(C)C",
    "C1CCOC1",
    "CCN1CCOCC1",
)
CYCLIC_AMINES = (
    "N1CCOCC1",
    "N1CCCCC1",
    "N1CCCC1",
    "N1CCN(C)CC1",
    "N1CCSCC1",
    "N1CCC(C)CC1",
    "N1CCC(F)(F)CC1",
    "N1CCC(OC)CC1",
    "N1CCc2ccccc2C1",
    "N1CCN({aryl})CC1",
    "N1CCC({aryl})CC1",
)
BOC = "C(=O)OC(C)(C)C"


@dataclass(frozen=True)
class ReactionClass:
    """A row of the table.

    Args:
        name: What it is called.
        number: Of its super-class in USPTO-50k, 1 to 10.
        smarts: Reactants and product.
        reactants: Patterns of the molecules that react, in the order of ``smarts``: ``{aryl}``, ``{alkyl}`` and ``{any}`` stand for
            drawn rests, ``{amine}`` for a primary or secondary amine.
        reagents: What is put in besides and leaves no atom in the product, in SMILES.
    """

    name: str
    number: int
    smarts: str
    reactants: tuple[str, ...]
    reagents: str = ""


TABLE = (
    ReactionClass("N-arylation (SNAr)", 1, "[c:1][F].[NX3;H2,H1;!$(NC=O);!$(N~[!#6]):2]>>[c:1][N:2]", ("{poor}", "{amine}")),
    ReactionClass(
        "Buchwald-Hartwig amination", 1, "[c:1][Br].[NX3;H2,H1;!$(NC=O):2]>>[c:1][N:2]", ("Br{aryl}", "{amine}"), "[Pd]"
    ),
    ReactionClass(
        "Williamson ether synthesis", 1, "[OX2H:1][c:2].[CX4:3][Br]>>[c:2][O:1][C:3]", ("O{aryl}", "Br{primary}"), "O=C([O-])[O-]"
    ),
    ReactionClass(
        "Mitsunobu ether synthesis",
        1,
        "[OX2H:1][c:2].[CX4:3][OX2H]>>[c:2][O:1][C:3]",
        ("O{aryl}", "O{alkyl}"),
        "CCOC(=O)N=NC(=O)OCC",
    ),
    ReactionClass(
        "reductive amination", 1, "[CX3H1:1]=O.[NX3;H2,H1;!$(NC=O):2]>>[CH2:1][N:2]", ("O=C{aryl}", "{amine}"), "[BH4-]"
    ),
    ReactionClass(
        "amide coupling", 2, "[CX3:1](=[O:3])[OX2H].[NX3;H2,H1;!$(NC=O):2]>>[C:1](=[O:3])[N:2]", ("OC(=O){any}", "{amine}")
    ),
    ReactionClass(
        "acylation with an acid chloride",
        2,
        "[CX3:1](=[O:3])[Cl].[NX3;H2,H1;!$(NC=O):2]>>[C:1](=[O:3])[N:2]",
        ("ClC(=O){any}", "{amine}"),
    ),
    ReactionClass(
        "sulfonamide formation",
        2,
        "[S:1](=[O:3])(=[O:4])[Cl].[NX3;H2,H1;!$(NC=O):2]>>[S:1](=[O:3])(=[O:4])[N:2]",
        ("ClS(=O)(=O){any}", "{amine}"),
    ),
    ReactionClass(
        "esterification", 2, "[CX3:1](=[O:3])[OX2H].[OX2H:2][CX4:4]>>[C:1](=[O:3])[O:2][C:4]", ("OC(=O){any}", "O{alkyl}")
    ),
    ReactionClass("urea formation", 2, "[N:1]=[C:3]=[O:4].[NX3;H2,H1:2]>>[N:1][C:3](=[O:4])[N:2]", ("O=C=N{aryl}", "{amine}")),
    ReactionClass("Suzuki coupling", 3, "[c:1][Br].[c:2]B(O)O>>[c:1][c:2]", ("Br{aryl}", "OB(O){aryl}")),
    ReactionClass("Sonogashira coupling", 3, "[c:1][I].[CX2H:2]>>[c:1][C:2]", ("I{aryl}", "C#C{any}")),
    ReactionClass("Grignard addition", 3, "[CX3H1:1]=[O:3].[#6:2][Mg]Br>>[#6:2][C:1][OH:3]", ("O=C{any}", "Br[Mg]{any}")),
    ReactionClass(
        "Boc protection", 5, "[NX3;H2,H1;!$(NC=O):1].[C:2](=[O:3])([O:4])O[C](=O)O>>[N:1][C:2](=[O:3])[O:4]", ("{amine}", "@")
    ),
    ReactionClass("Boc removal", 6, "[N:1]C(=O)OC(C)(C)C>>[N:1]", ("{protected}",), "Cl"),
    ReactionClass("ester hydrolysis", 6, "[C:1](=[O:2])[OX2:3][CH3]>>[C:1](=[O:2])[OH:3]", ("COC(=O){any}",), "[OH-]"),
    ReactionClass("benzyl ether removal", 6, "[c:1][O:2][CH2]c1ccccc1>>[c:1][O:2]", ("c1ccccc1CO{aryl}",), "[Pd]"),
    ReactionClass("nitro reduction", 7, "[c:1][N+](=O)[O-]>>[c:1][NH2]", ("[O-][N+](=O){aryl}",), "[Fe]"),
    ReactionClass("ketone reduction", 7, "[#6:3][CX3:1](=[O:2])[#6:4]>>[#6:3][CH1:1]([#6:4])[OH:2]", ("CC(=O){any}",), "[BH4-]"),
    ReactionClass("alcohol oxidation", 8, "[OX2H:1][CX4;H2,H1:2]>>[O:1]=[C:2]", ("OC{any}",), "O=[Mn]=O"),
    ReactionClass("benzylic bromination", 9, "[c:1][CH2:2][OX2H]>>[c:1][CH2:2]Br", ("OC{aryl}",), "BrP(Br)Br"),
    ReactionClass("chlorination of an acid", 9, "[CX3:1](=[O:2])[OX2H]>>[C:1](=[O:2])Cl", ("OC(=O){any}",), "O=S(Cl)Cl"),
)


@dataclass(frozen=True)
class GeneratedReaction:
    """A reaction with one product, in canonical SMILES.

    Args:
        reactants: Those that give atoms to the product, joined by dots.
        reagents: What is put in besides; may be empty.
        product: One molecule.
        kind: Its class.
    """

    reactants: str
    reagents: str
    product: str
    kind: ReactionClass

    @property
    def key(self) -> str:
        """Normal form."""
        return f"{self.reactants}>>{self.product}"


def draw_reaction(rng: random.Random, classes: tuple[ReactionClass, ...] = TABLE) -> GeneratedReaction:
    """A reaction whose template gives exactly one product for its reactants, which is none of them.

    Args:
        rng: Source of randomness.
        classes: Rows of the table to draw from; those of two molecules three times as often as others.

    Raises:
        ValueError: If the rows give (nearly) no such reaction.

    Example:
        >>> reaction = draw_reaction(random.Random(6))
        >>> reaction.kind.name, reaction.key
        ('Boc protection', 'CC(C)(C)OC(=O)OC(=O)OC(C)(C)C.CNC1CCCC1>>CN(C(=O)OC(C)(C)C)C1CCCC1')
    """
    for _ in range(MAX_DRAWS):
        # A class of one molecule has fewer different reactions.
        [kind] = rng.choices(classes, [1 if len(kind.reactants) == 1 else 3 for kind in classes])
        reactants = [_assembled(pattern, rng) for pattern in kind.reactants]
        product = product_of(kind, reactants)
        if product is not None and product not in reactants:
            return GeneratedReaction(".".join(sorted(reactants)), kind.reagents, product, kind)
    raise ValueError(f"no unambiguous reaction in {MAX_DRAWS} draws from {', '.join(kind.name for kind in classes)}")


def product_of(kind: ReactionClass, reactants: list[str]) -> str | None:
    """The product of a template in canonical SMILES; ``None`` if there is none, or several different ones.

    Example:
        >>> amide = next(kind for kind in TABLE if kind.name == "amide coupling")
        >>> product_of(amide, ["CC(=O)O", "NCC"]), product_of(amide, ["CC(=O)O", "NCCNC"])
        ('CCNC(C)=O', None)
    """
    template, mols = _template(kind.smarts), [Chem.MolFromSmiles(reactant) for reactant in reactants]
    found = set()
    with rdBase.BlockLogs():
        for mol, *_ in template.RunReactants(mols):
            try:
                Chem.SanitizeMol(mol)
            except Chem.MolSanitizeException:
                continue
            for atom in mol.GetAtoms():
                atom.SetAtomMapNum(0)
            found.add(str(Chem.MolToSmiles(mol)))
    smiles = found.pop() if len(found) == 1 else None
    return smiles if smiles is not None and "." not in smiles else None


@cache
def _template(smarts: str) -> rdChemReactions.ChemicalReaction:
    template = rdChemReactions.ReactionFromSmarts(smarts)
    template.Initialize()
    return template


# --- reactants ---


def _aryl(rng: random.Random) -> str:
    return rng.choice(RINGS).format(rng.choice(SMALL), rng.choice(SMALL))


def _alkyl(rng: random.Random) -> str:
    """Joined by a carbon that is not aromatic."""
    return rng.choice(ALKYL) if rng.random() < 0.6 else rng.choice(("C", "CC")) + _aryl(rng)


def _poor(rng: random.Random) -> str:
    """A fluoride that an amine displaces."""
    ring = rng.choice(
        ("Fc1ccc({0})cc1{1}", "Fc1ccc({1})cc1{0}", "Fc1ncc({1})cc1", "Fc1ccc({1})cn1", "Fc1nccc({1})n1", "Fc1ccc({0})cc1")
    )
    others = [each for each in SMALL if each != "F"]
    return ring.format(rng.choice(("[N+](=O)[O-]", "C#N", "C(C)=O", "C(=O)OC")), rng.choice(others))


def _amine(rng: random.Random) -> str:
    kind = rng.random()
    if kind < 0.3:
        return rng.choice(CYCLIC_AMINES).format(aryl=_aryl(rng))
    rest = _aryl(rng) if kind < 0.6 else _alkyl(rng)
    return ("CN" if rng.random() < 0.2 else "N") + rest


def _protected(rng: random.Random) -> str:
    """A carbamate that gives an amine."""
    kind = rng.random()
    if kind < 0.6:
        return f"CC(C)(C)OC(=O){_amine(rng)}"
    ring = rng.choice(("N1CCN({0})CC1", "N1CCC({0})CC1", "N1CC({0})C1", "N1CCC(O{0})CC1", "NC1CCN({0})CC1"))
    return f"CC(C)(C)OC(=O){ring.format(_aryl(rng))}"


RESTS: dict[str, Callable[[random.Random], str]] = {
    "aryl": _aryl,
    "alkyl": _alkyl,
    "primary": lambda rng: (
        rng.choice(("C", "CC")) + rng.choice(("", "C", "C1CC1", "OC", "C1CCCCC1", "C(C)C"))
        if rng.random() < 0.5
        else "C" + _aryl(rng)
    ),
    "any": lambda rng: _aryl(rng) if rng.random() < 0.6 else _alkyl(rng),
    "amine": _amine,
    "protected": _protected,
    "poor": _poor,
}
"""What a pattern's name stands for."""


def _assembled(pattern: str, rng: random.Random) -> str:
    """A molecule of a pattern, in canonical SMILES."""
    if pattern == "@":
        return str(Chem.CanonSmiles("CC(C)(C)OC(=O)OC(=O)OC(C)(C)C"))
    for name, rest in RESTS.items():
        pattern = pattern.replace(f"{{{name}}}", rest(rng)) if f"{{{name}}}" in pattern else pattern
    return str(Chem.CanonSmiles(pattern))
