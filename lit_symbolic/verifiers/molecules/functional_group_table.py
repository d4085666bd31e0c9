"""The functional groups that a description can ask for: what they are called, their SMARTS, a molecule with and one without.

A name means what it means in a description of a whole molecule: "a hydroxy group" is any -OH, that of a carboxylic acid
too; an ester may be a lactone. But a pyridine is no piperidine, and an amide no amine: a name is not met by a molecule that no chemist
would call so. Where a group is often charged (carboxy, amino, phosphate) its ions count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FunctionalGroup:
    """One group.

    Args:
        name: What findings call it.
        smarts: Pattern that a molecule with the group matches.
        present: SMILES of a molecule that has it.
        absent: SMILES of a near miss that has not.
        names: Words that ask for it, singular, lower case; plural forms are found by themselves.
        at_least: How many matches that share no atom set are needed ("dicarboxylic acid": 2).
    """

    name: str
    smarts: str
    present: str
    absent: str
    names: tuple[str, ...]
    at_least: int = 1


def _group(names: str, smarts: str, present: str, absent: str, at_least: int = 1) -> FunctionalGroup:
    first, *_ = listed = tuple(names.split("|"))
    return FunctionalGroup(first, smarts, present, absent, listed, at_least)


_ACYL = "[CX3;H1,$([CX3][#6])]"  # of an acid and what is made of it: not of a carbamate, a carbonate, a urea
_ACID = f"{_ACYL}(=O)[OX2H,OX1-]"
_HYDROXY = "[OX2H]"

FUNCTIONAL_GROUPS: tuple[FunctionalGroup, ...] = (
    # oxygen, single bonds
    _group("hydroxy|hydroxyl|hydroxy group|hydroxyl group|hydroxy substituent|hydroxy function", _HYDROXY, "CCO", "COC"),
    _group("alcohol", "[CX4][OX2H]", "CCO", "Oc1ccccc1"),
    _group("primary alcohol", "[CX4;H2,H3][OX2H]", "CCO", "CC(C)O"),
    _group("secondary alcohol", "[CX4;H1][OX2H]", "CC(C)O", "CC(C)(C)O"),
    _group("tertiary alcohol", "[CX4;H0][OX2H]", "CC(C)(C)O", "CC(C)O"),
    _group("diol", _HYDROXY, "OCCO", "OCCOC", 2),
    _group("triol", _HYDROXY, "OCC(O)CO", "OCCO", 3),
    _group("phenol|phenolic hydroxy group", "c[OX2H]", "Oc1ccccc1", "OCc1ccccc1"),
    _group("ether", "[OX2]([#6;!$([#6]=[O,S,N])])[#6,#14;!$([#6]=[O,S,N])]", "COC", "CC(=O)OC"),
    _group("aromatic ether|aryl ether", "c[OX2][#6;!$([#6]=[O,S,N])]", "COc1ccccc1", "CC(=O)Oc1ccccc1"),
    _group("methoxy|methoxy group|methoxy substituent", "[OX2][CH3]", "COc1ccccc1", "CCOC=O"),
    _group("ethoxy|ethoxy group|ethoxy substituent", "[OX2][CH2][CH3]", "CCOc1ccccc1", "COc1ccccc1"),
    _group("phenoxy|phenoxy group", "[OX2]c1ccccc1", "COc1ccccc1", "Cc1ccccc1"),
    _group("epoxide|oxirane", "C1OC1", "C1OC1C", "C1COC1"),
    _group("acetal|ketal", "[CX4]([OX2][#6])[OX2]", "COCOC", "COCCOC"),
    _group("hemiacetal|hemiketal", "[CX4]([OX2H])[OX2][#6]", "OCOC", "COCOC"),
    _group("peroxide|organic peroxide|peroxy group", "[OX2][OX2]", "COOC", "COC"),
    _group("hydroperoxide|hydroperoxy group", "[OX2][OX2H]", "COO", "COOC"),
    # carbonyl
    _group("carbonyl|carbonyl group", "[#6X3]=[OX1]", "CC(C)=O", "CCO"),
    _group("ketone|keto group", "[#6][#6X3](=O)[#6]", "CC(C)=O", "CC=O"),
    _group("oxo group|oxo substituent", "[#6]=[OX1]", "CC(C)=O", "CCO"),
    _group("aldehyde|formyl group|aldehyde group", "[CX3;H2,$([H1][#6])]=O", "CC=O", "NC=O"),
    _group("carboxylic acid|carboxy|carboxy group|carboxyl|carboxyl group|carboxylic acid group", _ACID, "CC(=O)O", "COC=O"),
    _group("carboxylate|carboxylate group", f"{_ACYL}(=O)[OX1-,OX2H]", "CC(=O)[O-]", "CC(=O)OC"),
    _group("monocarboxylic acid|oxo monocarboxylic acid", _ACID, "CC(=O)O", "CC=O"),
    _group("dicarboxylic acid", _ACID, "OC(=O)CC(=O)O", "CC(=O)O", 2),
    _group("tricarboxylic acid", _ACID, "OC(=O)CC(C(=O)O)C(=O)O", "OC(=O)CC(=O)O", 3),
    _group("carboxylic ester|carboxylic acid ester", f"{_ACYL}(=O)[OX2][#6]", "CC(=O)OC", "COC(=O)N"),
    _group("ester|ester group", "[$(*(=[O,N,S])[O,S][#6,#14]),$(BO[#6]),$([#7][OX2][#6])]", "CC(=O)OC", "CC(=O)O"),
    _group("methyl ester", "[$([CX3H1]),$([CX3][#6]),#15,#16](=O)[OX2][CH3]", "CC(=O)OC", "COC(=O)NC"),
    _group("ethyl ester", "[$([CX3H1]),$([CX3][#6]),#15,#16](=O)[OX2][CH2][CH3]", "CC(=O)OCC", "CCOC(=O)NC"),
    _group("lactone", "[#6](=O)@[O,o]", "O=C1CCCO1", "CC(=O)OC"),
    _group("acid anhydride|anhydride", "[C,P,S](=O)[OX2][C,P,S]=O", "CC(=O)OC(C)=O", "CC(=O)OC"),
    _group("acyl chloride|acid chloride", f"{_ACYL}(=O)Cl", "CC(=O)Cl", "CN(C)C(=O)Cl"),
    _group("acetyl|acetyl group", "[CH3][CX3]=O", "CC(=O)N", "CCC(=O)N"),
    _group("acetoxy|acetoxy group|acetate ester", "[CH3][CX3](=O)[OX2]", "CC(=O)OC", "CC(=O)N"),
    _group("benzoyl|benzoyl group", "c1ccccc1[CX3]=O", "NC(=O)c1ccccc1", "NCc1ccccc1"),
    _group("carbonate ester|carbonate group", "[OX2]C(=O)[OX2]", "COC(=O)OC", "CC(=O)OC"),
    _group("quinone", "[#6]=O", "O=C1C=CC(=O)C=C1", "Oc1ccc(O)cc1", 2),
    _group("enone", "[#6]=,:[#6]~[#6]=O", "CC(=O)C=C", "CC(=O)CC=C"),
    _group("enoate ester", "[#6]=[#6][#6](=O)[OX2][#6]", "COC(=O)C=C", "COC(=O)CC=C"),
    # nitrogen
    _group("amino|amino group|amino substituent", "[#7;!$([#7]=*);!$([#7]#*);+0,+1]", "CCN", "CC#N"),
    _group(
        "primary amine|primary amino compound|primary amino group",
        "[#6][$([NX3H2]),$([NX4H3+]);!$([#7][#6]=[O,S,N]);!$([#7][S,P]=O)]",
        "CCN",
        "CC(=O)N",
    ),
    _group(
        "secondary amine|secondary amino compound",
        "[#6][$([NX3H1]),$([NX4H2+]);!$([#7][#6]=[O,S,N]);!$([#7][S,P]=O)][#6]",
        "CNC",
        "CC(=O)NC",
    ),
    _group(
        "tertiary amine|tertiary amino compound",
        "[#6][$([NX3H0]),$([NX4H1+]);!$([#7][#6]=[O,S,N]);!$([#7][S,P]=O)]([#6])[#6]",
        "CN(C)C",
        "CC(=O)N(C)C",
    ),
    _group("amine", "[#6][NX3,NX4+]", "CCN", "CC#N"),
    _group("aromatic amine|aniline", "c[NX3,NX4+]", "Nc1ccccc1", "NCc1ccccc1"),
    _group("quaternary ammonium ion|quaternary ammonium", "[NX4+]([#6])([#6])([#6])[#6]", "C[N+](C)(C)C", "C[NH+](C)C"),
    _group("amide|carboxamide|carboxamide group|amide group", "[CX3](=[O,S])[NX3]", "CC(=O)N", "CCN"),
    _group("primary carboxamide|primary amide", f"{_ACYL}(=O)[NX3H2]", "CC(=O)N", "CNC(N)=O"),
    _group("secondary carboxamide|secondary amide", f"{_ACYL}(=O)[NX3H1][#6]", "CC(=O)NC", "CC(=O)N(C)C"),
    _group("tertiary carboxamide|tertiary amide", f"{_ACYL}(=O)[NX3H0]([#6])[#6]", "CC(=O)N(C)C", "CC(=O)NC"),
    _group("lactam", "[#6](=O)@[#7]", "O=C1CCCN1", "NC(=O)C1CCNC1"),
    _group("dicarboximide|imide", "[#6](=O)[#7][#6]=O", "O=C1CCC(=O)N1", "O=C1CCCN1"),
    _group("acetamide group|acetamido group", "[CH3][CX3](=O)[NX3]", "CC(=O)NC", "CCC(=O)NC"),
    _group("carbamate|carbamate ester|urethane", "[OX2,OX1-][CX3](=O)[NX3]", "COC(=O)N", "CC(=O)N"),
    _group("urea|urea group|ureas", "[#7][#6](=O)[#7]", "NC(=O)N", "CC(=O)N"),
    _group("thiourea", "[#7][#6](=S)[#7]", "NC(=S)N", "NC(=O)N"),
    _group("guanidine|guanidino group", "[#7][#6](=[#7])[#7]", "NC(=N)N", "NC(=O)N"),
    _group("amidine|carboxamidine", "[#7][CX3;H1,$([CX3][#6])]=[#7]", "CC(=N)N", "NC(=N)N"),
    _group("nitrile|cyano|cyano group|cyano substituent", "[CX2]#[NX1]", "CC#N", "CCN"),
    _group("nitro|nitro group|nitro compound|c-nitro compound|nitro substituent", "[NX3+](=O)[O-]", "C[N+](=O)[O-]", "CN=O"),
    _group("nitroso|nitroso group|nitroso compound", "[!-][NX2]=[OX1]", "CN=O", "C[N+](=O)[O-]"),
    _group("azide|azido group", "[NX2]=[N+]=[N-]", "CN=[N+]=[N-]", "CN=NC"),
    _group("azo group|azo compound", "[#6][NX2]=[NX2][#6]", "CN=NC", "CNNC"),
    _group("imine", "[CX3;!$([CX3][#7,#8,#16])]=[#7;!$([#7][#7,#8,#16])]", "CC=N", "CC=NO"),
    _group("oxime", "[#6]=[NX2][OX2,OX1-]", "CC=NO", "CC=NC"),
    _group("hydrazone", "[#6]=[NX2][#7]", "CC=NN", "CC=NO"),
    _group("hydrazine|hydrazino group", "[#7;!$([#7]=*)]~[#7;!$([#7]=*)]", "CNN", "CN=NC"),
    _group("hydrazide|carbohydrazide", "[#6](=O)[#7][#7]", "CC(=O)NN", "CC(=O)N"),
    _group("isocyanate", "[NX2]=C=O", "CN=C=O", "CN=C=S"),
    _group("isothiocyanate", "[NX2]=C=S", "CN=C=S", "CSC#N"),
    _group("hydroxamic acid", "[CX3](=O)[#7][OX2H,OX1-]", "CC(=O)NO", "CC(=O)N"),
    _group("amino acid", "[NX3,NX4+].[CX3](=O)[OX2H,OX1-]", "NCCC(=O)O", "NCC(=O)N"),
    _group("alpha-amino acid", "[#7][#6][CX3](=O)[OX2H,OX1-]", "NCC(=O)O", "NCCC(=O)O"),
    # sulfur, phosphorus, boron, silicon
    _group("thiol|sulfanyl group|sulfhydryl group|thiol group", "[SX2H]", "CCS", "CSC"),
    _group(
        "thioether|organic sulfide|sulfide|methylthio group", "[#6;!$([#6]=[O,S,N])][SX2][#6;!$([#6]=[O,S,N])]", "CSC", "c1ccsc1"
    ),
    _group("organic disulfide|disulfide", "[SX2][SX2]", "CSSC", "CSC"),
    _group("sulfoxide|sulfinyl group", "[#6][SX3](=O)[#6]", "CS(C)=O", "CS(C)(=O)=O"),
    _group("sulfone|sulfonyl group", "[#6][SX4](=O)(=O)", "CS(C)(=O)=O", "CS(C)=O"),
    _group("sulfonamide", "[SX4](=O)(=O)[#7]", "CS(=O)(=O)N", "CS(=O)(=O)O"),
    _group("sulfonic acid|sulfonate|sulfo group|sulfonic acid group", "[SX4](=O)(=O)[OX2H,OX1-]", "CS(=O)(=O)O", "CS(C)(=O)=O"),
    _group("sulfate|sulfate group|sulfate ester", "[OX2,OX1-][SX4](=O)(=O)[OX2,OX1-]", "COS(=O)(=O)O", "CS(=O)(=O)O"),
    _group("thiocarbonyl group|thioketone|thione", "[#6]=[SX1]", "CC(C)=S", "CC(C)=O"),
    _group("phosphate|phosphate group", "[PX4](=O)([O,S])([O,S])[O,S]", "COP(=O)(O)O", "CP(=O)(O)O"),
    _group("phospho group", "[PX4](=O)([OX2,OX1-])[OX2,OX1-]", "CP(=O)(O)O", "CP(C)(=O)O"),
    _group("phosphonic acid|phosphonate|phosphonic acids", "[#6][PX4](=O)([OX2,OX1-])[OX2,OX1-]", "CP(=O)(O)O", "COP(=O)(O)O"),
    _group("phosphine", "[PX3]", "CP(C)C", "CP(C)(C)=O"),
    _group("boronic acid", "[#6]B([OX2H])[OX2H]", "CB(O)O", "CB(OC)OC"),
    _group("silyl group|organosilicon compound", "[#6][Si]", "C[Si](C)(C)C", "CC(C)(C)C"),
    # halogens
    _group("fluoro|fluorine|fluoro group|fluoro substituent|organofluorine compound", "F", "CCF", "CCCl"),
    _group("chloro|chloro group|chloro substituent|organochlorine compound", "Cl", "CCCl", "CCF"),
    _group("bromo|bromine|bromo group|bromo substituent|organobromine compound", "Br", "CCBr", "CCCl"),
    _group("iodo|iodine|iodo group|iodo substituent|organoiodine compound", "I", "CCI", "CCBr"),
    _group("trifluoromethyl|trifluoromethyl group|(trifluoromethyl)benzene", "C(F)(F)F", "CC(F)(F)F", "CC(F)F"),
    _group("alkyl halide|haloalkane", "[CX4][F,Cl,Br,I]", "CCCl", "Clc1ccccc1"),
    _group("organohalogen compound|halogen|organohalogen", "[#6][F,Cl,Br,I]", "CCCl", "CCO"),
    # carbon
    _group("alkene|olefin|carbon-carbon double bond", "[CX3]=[CX3]", "C=C", "CC"),
    _group("alkyne|acetylenic compound|carbon-carbon triple bond", "[CX2]#[CX2]", "C#C", "C=C"),
    _group("methyl|methyl group|methyl substituent", "[CH3]", "CC", "C1CC1"),
    _group("ethyl|ethyl group", "[CH2][CH3]", "CCO", "CC(C)C"),
    _group("isopropyl|isopropyl group|propan-2-yl group", "[CH3][CX4H1][CH3]", "CC(C)O", "CC(C)(C)C"),
    _group("tert-butyl|tert-butyl group", "[CX4]([CH3])([CH3])[CH3]", "CC(C)(C)O", "CC(C)O"),
    _group("vinyl|vinyl group", "[CX3]=[CH2]", "C=CO", "CC=CO"),
    _group("allyl|allyl group", "[CX4][CX3]=[CX3]", "OCC=C", "CCC"),
    _group("prenyl|prenyl group", "[CX4][CX3]=[CX3]([CH3])[CH3]", "OCC=C(C)C", "OCC=C"),
    _group("phenyl|phenyl group|phenyl ring|phenyl substituent", "c1ccccc1", "Cc1ccccc1", "CC1CCCCC1"),
    _group("benzene|benzene ring|benzenes", "c1ccccc1", "Cc1ccccc1", "c1ccncc1"),
    _group("benzyl|benzyl group", "[CX4;!H3]c1ccccc1", "OCc1ccccc1", "Cc1ccccc1"),
    _group("biphenyl", "c1ccccc1-c1ccccc1", "c1ccccc1-c1ccccc1", "c1ccc2ccccc2c1"),
    _group("naphthalene|naphthalenes", "c1ccc2ccccc2c1", "Cc1ccc2ccccc2c1", "c1ccccc1"),
    _group("cyclopropane|cyclopropyl group", "C1CC1", "CC1CC1", "C1CCC1"),
    _group("cyclohexane|cyclohexyl group", "C1CCCCC1", "CC1CCCCC1", "c1ccccc1"),
    # heterocycles
    _group("pyridine|pyridines|pyridine ring|pyridyl group", "n1ccccc1", "c1ccncc1", "C1CCNCC1"),
    _group("pyrimidine|pyrimidines", "n1cnccc1", "c1ncncc1", "C1CNCNC1"),
    _group("pyrazine|pyrazines", "n1ccncc1", "c1cnccn1", "C1CNCCN1"),
    _group("pyridazine|pyridazines", "n1ncccc1", "c1ccnnc1", "C1CCNNC1"),
    _group("triazine|triazines", "[$(n1cncnc1),$(n1ncncc1),$(n1nnccc1)]", "c1ncncn1", "c1ccnc(c1)-c1ncccn1"),
    _group("pyrrole|pyrroles", "n1cccc1", "c1cc[nH]c1", "C1CCNC1"),
    _group("imidazole|imidazoles", "n1cncc1", "c1c[nH]cn1", "C1CNCN1"),
    _group("pyrazole|pyrazoles", "n1nccc1", "c1cn[nH]c1", "C1CNNC1"),
    _group("triazole|triazoles", "[$(n1nncc1),$(n1ncnc1)]", "c1nc[nH]n1", "c1cc[nH]c1-c1c[nH]cn1"),
    _group("tetrazole|tetrazoles", "n1nnnc1", "c1nnn[nH]1", "c1c[nH]c(n1)-c1ncc[nH]1"),
    _group("furan|furans|furyl group", "o1cccc1", "c1ccoc1", "C1CCOC1"),
    _group("thiophene|thiophenes|thienyl group", "s1cccc1", "c1ccsc1", "C1CCSC1"),
    _group("oxazole|1,3-oxazole|1,3-oxazoles", "o1cncc1", "c1cocn1", "C1COCN1"),
    _group("isoxazole|isoxazoles", "o1nccc1", "c1conc1", "C1CONC1"),
    _group("thiazole|1,3-thiazole|1,3-thiazoles", "s1cncc1", "c1cscn1", "C1CSCN1"),
    _group("indole|indoles", "n1ccc2c1cccc2", "c1ccc2[nH]ccc2c1", "C1CCC2NCCC2C1"),
    _group("benzimidazole|benzimidazoles", "n1cnc2c1cccc2", "c1ccc2[nH]cnc2c1", "C1CCC2NCNC2C1"),
    _group("quinoline|quinolines", "n1cccc2c1cccc2", "c1ccc2ncccc2c1", "c1ccc2cnccc2c1"),
    _group("isoquinoline|isoquinolines", "c1nccc2c1cccc2", "c1ccc2cnccc2c1", "c1ccc2ncccc2c1"),
    _group("purine|purines", "n1cnc2c(c1)ncn2", "c1ncc2nc[nH]c2n1", "c1ccc2[nH]cnc2c1"),
    _group("pyrrolidine|pyrrolidines", "N1-C-C-C-C-1", "C1CCNC1", "c1cc[nH]c1"),
    _group("piperidine|piperidines", "N1-C-C-C-C-C-1", "C1CCNCC1", "c1ccncc1"),
    _group("piperazine|piperazines|n-arylpiperazine", "N1-C-C-N-C-C-1", "C1CNCCN1", "c1cnccn1"),
    _group("morpholine|morpholines", "O1-C-C-N-C-C-1", "C1COCCN1", "C1CNCCN1"),
)
"""Names are matched longest first, so "carboxylic ester" is not also an "ester" and "trifluoromethyl" no "methyl"."""

_NUMBERS = {"c": 6, "n": 7, "o": 8, "s": 16}


def _class(group: FunctionalGroup) -> FunctionalGroup:
    """ChEBI's class of a ring: a "member of furans" has the ring of furan at any saturation, where a "furan" is aromatic."""

    def atom(match: re.Match[str]) -> str:
        closures = "".join(f"~{digit}" for digit in match[2])
        return f"~[#{_NUMBERS[match[1]]}]{closures}"

    ring = re.sub(r"([cnos])(\d*)", atom, group.smarts).removeprefix("~")
    rings = [name for name in group.names if f"{name}s" in group.names]
    names = tuple(f"{phrase} {name}" for phrase in ("member of", "member of the class of", "class of") for name in rings)
    return FunctionalGroup(names[0], ring, group.present, "C1CCCCC1", names)


_AROMATIC_RINGS = (
    *("pyridine", "pyrimidine", "pyrazine", "pyridazine", "pyrrole", "imidazole", "pyrazole", "furan", "thiophene", "oxazole"),
    *("isoxazole", "thiazole", "indole", "benzimidazole", "quinoline", "isoquinoline", "purine"),
)
RING_CLASSES = tuple(_class(group) for group in FUNCTIONAL_GROUPS if group.name in _AROMATIC_RINGS)
"""Read in descriptions, never drawn or counted: a molecule has hundreds of classes."""
