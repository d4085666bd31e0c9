"""Molecules written so that they read like another text: what is left for a model to do beside copying is then the chemistry.

Reactants and products share most of their atoms, but canonical SMILES of the two may begin at different ones, and then nothing of the
one reads like the other. A writing that begins at the right atom does. The idea is that of root-aligned SMILES (Zhong et al. 2022,
arXiv 2203.11444); there the atom is taken from an atom map, here it is looked for, since public files may have none.
"""

from __future__ import annotations

from rdkit import Chem

from lit_symbolic.tasks.generating.reaction_sketches import molecule_of


def aligned_to(smiles: str, template: str) -> str:
    """Write molecules from the atoms at which they take fewest pieces of another text.

    Args:
        smiles: Molecules, dots between them; they stay in this order.
        template: What they should read like.

    Returns:
        The same molecules. Of writings that take as few pieces the shortest, then the first of the alphabet.

    Raises:
        ValueError: If RDKit cannot read a molecule.

    Example:
        >>> aligned_to("CC(=O)O.NCc1ccccc1", "CC(=O)NCc1ccccc1")
        'CC(=O)O.NCc1ccccc1'
        >>> aligned_to("O=C(O)c1ccccc1", "c1ccccc1C(=O)OC")
        'c1ccccc1C(=O)O'
    """
    return ".".join(min(_writings(molecule), key=lambda text: _cost(text, template)) for molecule in smiles.split("."))


def pieces_to_copy(text: str, template: str) -> int:
    """How many pieces of a template put together make a text; a character that is not in the template is a piece of its own.

    Taking the longest piece each time is the fewest that there can be.

    Example:
        >>> pieces_to_copy("NCCOBr", "OCCN")
        5
    """
    pieces = start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and text[start : end + 1] in template:
            end += 1
        pieces, start = pieces + 1, end
    return pieces


def _cost(text: str, template: str) -> tuple[int, int, str]:
    return pieces_to_copy(text, template), len(text), text


def _writings(smiles: str) -> set[str]:
    mol = molecule_of(smiles)
    return {Chem.MolToSmiles(mol, rootedAtAtom=atom) for atom in range(mol.GetNumAtoms())}
