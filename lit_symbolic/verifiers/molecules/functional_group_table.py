"""The functional groups that a description can ask for: what they are called, their SMARTS, a molecule with and one without.

A name means what it means in a description of a whole molecule: "a hydroxy group" is any -OH, that of a carboxylic acid
too; an ester may be a lactone. Where a group is often charged (carboxy, amino, phosphate) its ions count.
"""

from __future__ import annotations

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


_ACID = "[CX3](=O)[OX2H,OX1-]"
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
    _group("ether", "[#6][#8X2][#6,#14]", "COC", "CCO"),
    _group("aromatic ether|aryl ether", "c[OX2][#6]", "COc1ccccc1", "COCc1ccccc1"),
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
    _group("aldehyde|formyl group|aldehyde group", "[CX3;H1,H2]=O", "CC=O", "CC(C)=O"),
    _group("carboxylic acid|carboxy|carboxy group|carboxyl|carboxyl group|carboxylic acid group", _ACID, "CC(=O)O", "COC=O"),
    _group("carboxylate|carboxylate group", "[CX3](=O)[OX1-,OX2H]", "CC(=O)[O-]", "CC(=O)OC"),
    _group("monocarboxylic acid|oxo monocarboxylic acid", _ACID, "CC(=O)O", "CC=O"),
    _group("dicarboxylic acid", _ACID, "OC(=O)CC(=O)O", "CC(=O)O", 2),
    _group("tricarboxylic acid", _ACID, "OC(=O)CC(C(=O)O)C(=O)O", "OC(=O)CC(=O)O", 3),
    _group("carboxylic ester|carboxylic acid ester", "[CX3](=O)[OX2][#6]", "CC(=O)OC", "CC(=O)O"),
    _group("ester|ester group", "[$(*(=[O,N,S])[O,S][#6,#14]),$(BO[#6]),$([#7][OX2][#6])]", "CC(=O)OC", "CC(=O)O"),
    _group("methyl ester", "[#6,#15,#16](=O)[OX2][CH3]", "CC(=O)OC", "CC(=O)OCC"),
    _group("ethyl ester", "[#6,#15,#16](=O)[OX2][CH2][CH3]", "CC(=O)OCC", "CC(=O)OC"),
    _group("lactone", "[#6;R](=O)[O,o;R]", "O=C1CCCO1", "CC(=O)OC"),
    _group("acid anhydride|anhydride", "[C,P,S](=O)[OX2][C,P,S]=O", "CC(=O)OC(C)=O", "CC(=O)OC"),
    _group("acyl chloride|acid chloride", "[CX3](=O)Cl", "CC(=O)Cl", "CCCl"),
    _group("acetyl|acetyl group", "[CH3][CX3]=O", "CC(=O)N", "CCC(=O)N"),
    _group("acetoxy|acetoxy group|acetate ester", "[CH3][CX3](=O)[OX2]", "CC(=O)OC", "CC(=O)N"),
    _group("benzoyl|benzoyl group", "c1ccccc1[CX3]=O", "NC(=O)c1ccccc1", "NCc1ccccc1"),
    _group("carbonate ester|carbonate group", "[OX2]C(=O)[OX2]", "COC(=O)OC", "CC(=O)OC"),
    _group("quinone", "[#6]=O", "O=C1C=CC(=O)C=C1", "Oc1ccc(O)cc1", 2),
    _group("enone", "[#6]=,:[#6]~[#6]=O", "CC(=O)C=C", "CC(=O)CC=C"),
    _group("enoate ester", "[#6]=[#6][#6](=O)[OX2][#6]", "COC(=O)C=C", "COC(=O)CC=C"),
    # nitrogen
    _group("amino|amino group|amino substituent", "[#7;!$([#7]=*);!$([#7]#*);+0,+1]", "CCN", "CC#N"),
    _group("primary amine|primary amino compound|primary amino group", "[#6][NX3;H2,H3+,$([NH3+])]", "CCN", "CNC"),
    _group("secondary amine|secondary amino compound", "[#6][NX3H1,$([NH2+])][#6]", "CNC", "CN(C)C"),
    _group("tertiary amine|tertiary amino compound", "[#6][NX3H0,$([NH1+])]([#6])[#6]", "CN(C)C", "CNC"),
    _group("amine", "[#6][NX3,NX4+]", "CCN", "CC#N"),
    _group("aromatic amine|aniline", "c[NX3,NX4+]", "Nc1ccccc1", "NCc1ccccc1"),
    _group("quaternary ammonium ion|quaternary ammonium", "[NX4+]([#6])([#6])([#6])[#6]", "C[N+](C)(C)C", "C[NH+](C)C"),
    _group("amide|carboxamide|carboxamide group|amide group", "[CX3](=[O,S])[NX3]", "CC(=O)N", "CCN"),
    _group("primary carboxamide|primary amide", "[CX3](=O)[NX3H2]", "CC(=O)N", "CC(=O)NC"),
    _group("secondary carboxamide|secondary amide", "[CX3](=O)[NX3H1][#6]", "CC(=O)NC", "CC(=O)N(C)C"),
    _group("tertiary carboxamide|tertiary amide", "[CX3](=O)[NX3H0]([#6])[#6]", "CC(=O)N(C)C", "CC(=O)NC"),
    _group("lactam", "[#6;R](=O)[#7;R]", "O=C1CCCN1", "CC(=O)N"),
    _group("dicarboximide|imide", "[#6](=O)[#7][#6]=O", "O=C1CCC(=O)N1", "O=C1CCCN1"),
    _group("acetamide group|acetamido group", "[CH3][CX3](=O)[NX3]", "CC(=O)NC", "CCC(=O)NC"),
    _group("carbamate|carbamate ester|urethane", "[OX2,OX1-][CX3](=O)[NX3]", "COC(=O)N", "CC(=O)N"),
    _group("urea|urea group|ureas", "[#7][#6](=O)[#7]", "NC(=O)N", "CC(=O)N"),
    _group("thiourea", "[#7][#6](=S)[#7]", "NC(=S)N", "NC(=O)N"),
    _group("guanidine|guanidino group", "[#7][#6](=[#7])[#7]", "NC(=N)N", "NC(=O)N"),
    _group("amidine|carboxamidine", "[#7][#6]=[#7]", "CC(=N)N", "CC(=O)N"),
    _group("nitrile|cyano|cyano group|cyano substituent", "[CX2]#[NX1]", "CC#N", "CCN"),
    _group("nitro|nitro group|nitro compound|c-nitro compound|nitro substituent", "[NX3+](=O)[O-]", "C[N+](=O)[O-]", "CN=O"),
    _group("nitroso|nitroso group|nitroso compound", "[!-][NX2]=[OX1]", "CN=O", "C[N+](=O)[O-]"),
    _group("azide|azido group", "[NX2]=[N+]=[N-]", "CN=[N+]=[N-]", "CN=NC"),
    _group("azo group|azo compound", "[#6][NX2]=[NX2][#6]", "CN=NC", "CNNC"),
    _group("imine", "[#6]=[#7]", "CC=N", "CCN"),
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
    _group("thioether|organic sulfide|sulfide|methylthio group", "[#6][#16X2][#6]", "CSC", "CCS"),
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
    _group("isopropyl|isopropyl group|propan-2-yl group", "[CH3][CX4][CH3]", "CC(C)O", "CCCO"),
    _group("tert-butyl|tert-butyl group", "[CX4]([CH3])([CH3])[CH3]", "CC(C)(C)O", "CC(C)O"),
    _group("vinyl|vinyl group", "[CX3]=[CH2]", "C=CO", "CC=CO"),
    _group("allyl|allyl group", "[CX4][CX3]=[CX3]", "OCC=C", "CCC"),
    _group("prenyl|prenyl group", "[#6][#6]=[#6]([#6])[#6]", "OCC=C(C)C", "OCC=C"),
    _group("phenyl|phenyl group|phenyl ring|phenyl substituent", "c1ccccc1", "Cc1ccccc1", "CC1CCCCC1"),
    _group("benzene|benzene ring|benzenes", "c1ccccc1", "Cc1ccccc1", "c1ccncc1"),
    _group("benzyl|benzyl group", "c1ccccc1[#6]", "OCc1ccccc1", "Oc1ccccc1"),
    _group("biphenyl", "c1ccccc1-c1ccccc1", "c1ccccc1-c1ccccc1", "c1ccc2ccccc2c1"),
    _group("naphthalene|naphthalenes", "c1ccc2ccccc2c1", "Cc1ccc2ccccc2c1", "c1ccccc1"),
    _group("cyclopropane|cyclopropyl group", "C1CC1", "CC1CC1", "C1CCC1"),
    _group("cyclohexane|cyclohexyl group", "C1CCCCC1", "CC1CCCCC1", "c1ccccc1"),
    # heterocycles
    _group("pyridine|pyridines|pyridine ring|pyridyl group", "[#7]1~[#6]~[#6]~[#6]~[#6]~[#6]1", "c1ccncc1", "c1ccccc1"),
    _group("pyrimidine|pyrimidines", "[#7]1~[#6]~[#7]~[#6]~[#6]~[#6]1", "c1ncncc1", "c1ccncc1"),
    _group("pyrazine|pyrazines", "[#7]1~[#6]~[#6]~[#7]~[#6]~[#6]1", "c1cnccn1", "c1ncncc1"),
    _group("pyridazine|pyridazines", "[#7]1~[#7]~[#6]~[#6]~[#6]~[#6]1", "c1ccnnc1", "c1ncncc1"),
    _group("triazine|triazines", "[#7;r6]", "c1ncncn1", "c1ncncc1", 3),
    _group("pyrrole|pyrroles", "[#7]1~[#6]~[#6]~[#6]~[#6]1", "c1cc[nH]c1", "c1ccoc1"),
    _group("imidazole|imidazoles", "[#7]1~[#6]~[#7]~[#6]~[#6]1", "c1c[nH]cn1", "c1cn[nH]c1"),
    _group("pyrazole|pyrazoles", "[#7]1~[#7]~[#6]~[#6]~[#6]1", "c1cn[nH]c1", "c1c[nH]cn1"),
    _group("triazole|triazoles", "[#7;r5]", "c1nc[nH]n1", "c1c[nH]cn1", 3),
    _group("tetrazole|tetrazoles", "[#7;r5]", "c1nnn[nH]1", "c1nc[nH]n1", 4),
    _group("furan|furans|furyl group", "[#8]1~[#6]~[#6]~[#6]~[#6]1", "c1ccoc1", "c1ccsc1"),
    _group("thiophene|thiophenes|thienyl group", "[#16]1~[#6]~[#6]~[#6]~[#6]1", "c1ccsc1", "c1ccoc1"),
    _group("oxazole|1,3-oxazole|1,3-oxazoles", "[#8]1~[#6]~[#7]~[#6]~[#6]1", "c1cocn1", "c1conc1"),
    _group("isoxazole|isoxazoles", "[#8]1~[#7]~[#6]~[#6]~[#6]1", "c1conc1", "c1cocn1"),
    _group("thiazole|1,3-thiazole|1,3-thiazoles", "[#16]1~[#6]~[#7]~[#6]~[#6]1", "c1cscn1", "c1csnc1"),
    _group("indole|indoles", "[#7]1~[#6]~[#6]~[#6]2~[#6]1~[#6]~[#6]~[#6]~[#6]2", "c1ccc2[nH]ccc2c1", "c1ccc2occc2c1"),
    _group(
        "benzimidazole|benzimidazoles", "[#7]1~[#6]~[#7]~[#6]2~[#6]1~[#6]~[#6]~[#6]~[#6]2", "c1ccc2[nH]cnc2c1", "c1ccc2[nH]ccc2c1"
    ),
    _group("quinoline|quinolines", "[#7]1~[#6]~[#6]~[#6]~[#6]2~[#6]1~[#6]~[#6]~[#6]~[#6]2", "c1ccc2ncccc2c1", "c1ccc2cnccc2c1"),
    _group(
        "isoquinoline|isoquinolines", "[#6]1~[#7]~[#6]~[#6]~[#6]2~[#6]1~[#6]~[#6]~[#6]~[#6]2", "c1ccc2cnccc2c1", "c1ccc2ncccc2c1"
    ),
    _group("purine|purines", "[#7]1~[#6]~[#7]~[#6]2~[#6](~[#6]1)~[#7]~[#6]~[#7]2", "c1ncc2nc[nH]c2n1", "c1ccc2[nH]cnc2c1"),
    _group("pyrrolidine|pyrrolidines", "[#7]1~[#6]~[#6]~[#6]~[#6]1", "C1CCNC1", "C1CCNCC1"),
    _group("piperidine|piperidines", "[#7]1~[#6]~[#6]~[#6]~[#6]~[#6]1", "C1CCNCC1", "C1CCNC1"),
    _group("piperazine|piperazines|n-arylpiperazine", "[#7]1~[#6]~[#6]~[#7]~[#6]~[#6]1", "C1CNCCN1", "C1COCCN1"),
    _group("morpholine|morpholines", "[#8]1~[#6]~[#6]~[#7]~[#6]~[#6]1", "C1COCCN1", "C1CNCCN1"),
)
"""Names are matched longest first, so "carboxylic ester" is not also an "ester" and "trifluoromethyl" no "methyl"."""
