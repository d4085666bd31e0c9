import random
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rdkit import Chem

from lit_symbolic.tasks.generating.aligned_smiles import aligned_to, pieces_to_copy
from lit_symbolic.tasks.generating.reaction_table import draw_reaction


def fewest_pieces(text: str, template: str) -> int:
    """All ways to put a text together, tried."""

    @cache
    def from_here(start: int) -> int:
        ends = range(start + 1, len(text) + 1)
        ways = (from_here(end) for end in ends if end == start + 1 or text[start:end] in template)
        return 0 if start == len(text) else 1 + min(ways)

    return from_here(0)


@given(st.text("CNO()", max_size=9), st.text("CNO()", max_size=14))
def test_pieces_are_as_few_as_can_be(text, template):
    assert pieces_to_copy(text, template) == fewest_pieces(text, template)


def test_the_same_molecules_in_no_more_pieces():
    rng, fewer = random.Random(0), 0
    for _ in range(100):
        reaction = draw_reaction(rng)
        written = aligned_to(reaction.reactants, reaction.product)
        pairs = list(zip(written.split("."), reaction.reactants.split("."), strict=True))
        assert all(Chem.CanonSmiles(ours) == Chem.CanonSmiles(theirs) for ours, theirs in pairs)
        assert all(pieces_to_copy(a, reaction.product) <= pieces_to_copy(b, reaction.product) for a, b in pairs)
        fewer += pieces_to_copy(written, reaction.product) < pieces_to_copy(reaction.reactants, reaction.product)
    assert fewer > 20


def test_stereo_stays():
    written = aligned_to("C[C@H](N)C(=O)O.F/C=C/Cl", "OC(=O)[C@H](C)NC(=O)c1ccccc1")
    assert Chem.CanonSmiles(written) == Chem.CanonSmiles("C[C@H](N)C(=O)O.F/C=C/Cl")


def test_what_rdkit_cannot_read_is_named():
    with pytest.raises(ValueError, match="c1ccc"):
        aligned_to("CC.c1ccc", "CC")
