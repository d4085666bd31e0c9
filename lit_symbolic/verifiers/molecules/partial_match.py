"""What is written so far of a molecule, and all the ways in which it lies in the reference.

A way says which atom of the reference each written atom is; a step (an atom, a bond, a ring number, the end of an atom) keeps those
that have it. See :mod:`~lit_symbolic.verifiers.molecules.departure`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple

from rdkit import Chem

from lit_symbolic.verifiers.molecules.reading import Notation, Span, canonical, known_molecule
from lit_symbolic.verifiers.molecules.smiles import ELEMENTS

MAX_ATOMS = 250

TOKEN = re.compile(
    r"(?P<atom>\[[^\]]*\]|Br|Cl|[A-Za-z*])|(?P<bond>->|<-|\\\\?|[-=#:$~/])|(?P<ring>[0-9]|%[0-9]{2}|%\([0-9]+\))"
    r"|(?P<open>\()|(?P<close>\))|(?P<dot>\.)"
)
_ATOM = re.compile(
    r"\[(?P<isotope>[0-9]{0,4})(?P<symbol>\*|#[0-9]{1,3}|[A-Z][a-z]?|se|as|te|si|[bcnops])(?:@[@A-Z0-9]*?)?(?P<hydrogens>H[0-9]?)?"
    r"(?P<charge>[+-][0-9]{1,2}|\++|-+)?(?::[0-9]+)?\]|(?P<symbol_alone>Br|Cl|[BCNOPSFI]|[bcnops]|\*)"
)
_SINGLE, _DOUBLE, _TRIPLE, _AROMATIC, _OTHER = 1, 2, 4, 8, 16
ANY_BOND = _SINGLE | _DOUBLE | _TRIPLE | _AROMATIC | _OTHER
_KINDS = {"SINGLE": _SINGLE, "DOUBLE": _DOUBLE, "TRIPLE": _TRIPLE, "AROMATIC": _AROMATIC}
_WRITTEN = {"": _SINGLE, "-": _SINGLE, "/": _SINGLE, "\\": _SINGLE, "=": _DOUBLE, "#": _TRIPLE, ":": _AROMATIC}


class Way(NamedTuple):
    """One way in which what is written lies in the reference; sets of its atoms are bits."""

    used: int  # of the molecule that is being written, or of all
    done: int  # of those that are complete, where molecules count as a set
    images: tuple[int, ...]  # of the open atoms, in the order of writing


@dataclass(frozen=True)
class Target:
    """A reference to lie in; sets of its atoms are bits."""

    whole: int
    kinds: dict[tuple[int, int, int, bool, int], int]  # element, charge, isotope, aromatic, hydrogens -> atoms
    near: list[dict[int, int]]  # of each atom: kind of bond -> neighbours
    in_rings: list[int]  # of each atom: neighbours in one of its rings, by a bond of it
    degrees: list[int]
    loose: bool  # aromatic atoms are not told by their letters
    as_set: bool


@lru_cache(maxsize=4096)
def target_of(reference: str, notation: Notation, as_set: bool) -> Target | None:
    """A reference, prepared once in each process; ``None`` if it writes hydrogens as atoms or is too large.

    Example:
        >>> target_of("CCO", "smiles", False).degrees
        [1, 2, 1]
    """
    reading = known_molecule(reference, notation)
    mol = reading.mol
    small = [match[0].strip("[0123456789")[:1].islower() for match in TOKEN.finditer(reading.smiles) if match.lastgroup == "atom"]
    if len(small) != mol.GetNumAtoms() or len(small) > MAX_ATOMS:
        return None
    loose = reading.selfies is not None or small != [atom.GetIsAromatic() for atom in mol.GetAtoms()]
    if as_set:  # of equal molecules one is enough
        mol = Chem.MolFromSmiles(".".join(sorted(set(canonical(mol).split(".")))))
    kinds: dict[tuple[int, int, int, bool, int], int] = {}
    near: list[dict[int, int]] = [{} for _ in range(mol.GetNumAtoms())]
    in_rings = [0] * mol.GetNumAtoms()
    for atom in mol.GetAtoms():
        features = atom.GetAtomicNum(), atom.GetFormalCharge(), atom.GetIsotope(), atom.GetIsAromatic(), atom.GetTotalNumHs()
        kinds[features] = kinds.get(features, 0) | 1 << atom.GetIdx()
    for bond in mol.GetBonds():
        kind, ends = _KINDS.get(str(bond.GetBondType()), _OTHER), (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
        for here, there in (ends, ends[::-1]):
            near[here][kind] = near[here].get(kind, 0) | 1 << there
            in_rings[here] |= bond.IsInRing() << there
    whole = (1 << mol.GetNumAtoms()) - 1
    return Target(whole, kinds, near, in_rings, [atom.GetDegree() for atom in mol.GetAtoms()], loose, as_set)


class WrittenAtom(NamedTuple):
    """What the characters of an atom say; ``None`` is not known."""

    element: int
    charges: tuple[int, ...]
    isotope: int
    small: bool
    aromatic: bool | None
    hydrogens: int | None


def written_atom(letters: str, atom: Chem.Atom | None, loose: bool) -> WrittenAtom | None:
    """What the letters of an atom say, with what RDKit made of them.

    Args:
        letters: As written, brackets included.
        atom: RDKit's; ``None`` if the molecule is not valid.
        loose: The reference does not tell aromatic atoms by small letters, so that large ones may become aromatic.

    Returns:
        ``None`` if the letters are no atom.
    """
    match = _ATOM.fullmatch(letters)
    if match is None:
        return None
    symbol, bracket = match["symbol"] or match["symbol_alone"], letters[0] == "["
    small = symbol.islower()
    charges: tuple[int, ...]
    if atom is None:
        element = int(symbol[1:]) if symbol[0] == "#" else _element(symbol.capitalize())
        charges = (_charge(match["charge"] or ""),)
        isotope, known = int(match["isotope"] or 0), not loose
    else:
        element, isotope, charge = atom.GetAtomicNum(), atom.GetIsotope(), atom.GetFormalCharge()
        # Written -N(=O)=O is read with charges.
        charges = (charge,) if not charge or match["charge"] else (0, charge)
        known = small == atom.GetIsAromatic() and not loose
    hydrogens: int | None = None
    if bracket and match["hydrogens"]:  # as written, since RDKit may move one once it has read what follows
        hydrogens = int(match["hydrogens"][1:] or 1)
    elif bracket or (known and letters in ("n", "p")):
        hydrogens = 0
    return WrittenAtom(element, charges, isotope, small, small if known else None, hydrogens)


def _charge(written: str) -> int:
    sign = -1 if "-" in written else 1
    return sign * int(written[1:]) if written[1:].isdigit() else sign * len(written)


@cache
def _element(symbol: str) -> int:
    """0 for what is no element, which no reference has."""
    return ELEMENTS.index(symbol) + 1 if symbol in ELEMENTS else 0


def _places(atom: WrittenAtom, target: Target) -> int:
    """Atoms of the reference that a written one may be."""
    found = 0
    for (element, charge, isotope, aromatic, hydrogens), places in target.kinds.items():
        if (
            element == atom.element
            and charge in atom.charges
            and isotope == atom.isotope
            and atom.aromatic in (None, aromatic)
            and atom.hydrogens in (None, hydrogens)
        ):
            found |= places
    return found


def bond_kinds(written: str, first: WrittenAtom, second: WrittenAtom) -> int:
    """Kinds of bonds in the reference that a written one may be."""
    if written not in _WRITTEN:
        return ANY_BOND
    if len(first.charges) > 1 or len(second.charges) > 1:
        return _SINGLE | _DOUBLE | _TRIPLE
    if written == "=" and first.small and second.small:
        return _DOUBLE  # RDKit never makes it a bond of an aromatic ring
    kinds, known = _WRITTEN[written], first.aromatic is not None and second.aromatic is not None
    if written in ("", ":") and first.small and second.small:
        return _SINGLE | _AROMATIC if known else _SINGLE | _DOUBLE | _AROMATIC
    if known or first.aromatic is False or second.aromatic is False or kinds == _TRIPLE:
        return kinds
    return kinds | _AROMATIC if written != ":" else _SINGLE | _DOUBLE | _AROMATIC


def _bits(number: int) -> Iterator[int]:
    while number:
        low = number & -number
        yield low.bit_length() - 1
        number ^= low


# --- what a text says, step by step ---


@dataclass(frozen=True)
class Step:
    """What the next characters say."""

    span: Span | None  # who is to blame; None: nobody can be told
    place: int  # of the atom in question among the open ones

    def take(self, ways: set[Way], target: Target) -> set[Way]:
        """The ways that are left."""
        return {way for way in ways if self.fits(way, target)}

    def fits(self, way: Way, target: Target) -> bool:
        """Whether a way has it."""
        raise NotImplementedError


@dataclass(frozen=True)
class BondBegun(Step):
    """A bond is written, its other end not yet: an atom that is not written yet either, or one whose ring number is open."""

    kinds: int
    rings: bool  # whether any is open

    def fits(self, way: Way, target: Target) -> bool:
        """See :class:`Step`."""
        taken = 0 if self.rings else way.used
        return any(kind & self.kinds and there & ~taken for kind, there in target.near[way.images[self.place]].items())


@dataclass(frozen=True)
class AtomWritten(Step):
    """An atom, bonded to the one in question; to none if its place is -1."""

    atom: WrittenAtom
    kinds: int

    def take(self, ways: set[Way], target: Target) -> set[Way]:
        """See :class:`Step`."""
        places = _places(self.atom, target)
        found: set[Way] = set()
        for way in ways:
            free = places & ~way.used
            if self.place >= 0:
                free &= sum(there for kind, there in target.near[way.images[self.place]].items() if kind & self.kinds)
            found.update(Way(way.used | 1 << image, way.done, (*way.images, image)) for image in _bits(free))
        return found


@dataclass(frozen=True)
class RingOpened(Step):
    """So many ring numbers of an atom wait for their other ends."""

    number: int

    def fits(self, way: Way, target: Target) -> bool:
        """See :class:`Step`."""
        return (target.in_rings[way.images[self.place]] & ~way.used).bit_count() >= self.number


@dataclass(frozen=True)
class RingClosed(Step):
    """A ring number joins an atom to an earlier one."""

    other: int
    kinds: int

    def fits(self, way: Way, target: Target) -> bool:
        """See :class:`Step`."""
        bonds = target.near[way.images[self.place]].items()
        return any(kind & self.kinds and there >> way.images[self.other] & 1 for kind, there in bonds)


@dataclass(frozen=True)
class AtomEnded(Step):
    """An atom gets no bond beside those that it has and those that its open ring numbers promise."""

    degree: int

    def fits(self, way: Way, target: Target) -> bool:
        """See :class:`Step`."""
        return target.degrees[way.images[self.place]] == self.degree


@dataclass(frozen=True)
class AtomForgotten(Step):
    """Nothing that follows is about this atom."""

    def take(self, ways: set[Way], target: Target) -> set[Way]:
        """See :class:`Step`."""
        at = self.place
        return {Way(way.used, way.done, way.images[:at] + way.images[at + 1 :]) for way in ways}


@dataclass(frozen=True)
class MoleculeEnded(Step):
    """A molecule is complete."""

    def take(self, ways: set[Way], target: Target) -> set[Way]:
        """See :class:`Step`."""
        return {Way(0, way.done | way.used, ()) for way in ways} if target.as_set else ways


@dataclass(frozen=True)
class MoleculeBroken(Step):
    """A dot inside a branch or an open ring, as no writing of the reference has it."""

    def take(self, ways: set[Way], target: Target) -> set[Way]:
        """See :class:`Step`."""
        return set()
