"""Where an answer that is not the reference left it: the first characters after which no way of going on gives the reference.

A SMILES is read from left to right, and with it the set of all ways in which what is written so far lies in the reference: which of
its atoms each written atom is. An atom, a bond or a ring number leaves those ways that have it; an atom that can have no further bond
(the text has gone on behind it, its branch is closed) leaves those in which the reference's atom has no further bond either. Where
no way is left the reference is lost, whatever follows: a text only adds to what it has said.

Two ways are the same for all that follows if they use the same atoms and agree on those that are still open, so their number stays
small where a molecule has many symmetries. It is exact for graphs, elements, charges, isotopes, bond orders and the hydrogens of
brackets; stereo is not looked at. "No way of going on" is said of texts that write as the reference does: aromatic atoms small (unless it
writes them large, with alternating bonds), charges as RDKit reads them, no hydrogens as atoms, each molecule before the next.
"""

from __future__ import annotations

from collections.abc import Iterator

from rdkit import Chem

from lit_symbolic.certificate import Finding
from lit_symbolic.verifiers.molecules.partial_match import (
    ANY_BOND,
    MAX_ATOMS,
    TOKEN,
    AtomEnded,
    AtomForgotten,
    AtomWritten,
    BondBegun,
    MoleculeBroken,
    MoleculeEnded,
    RingClosed,
    RingOpened,
    Step,
    Way,
    WrittenAtom,
    bond_kinds,
    target_of,
    written_atom,
)
from lit_symbolic.verifiers.molecules.reading import MoleculeReading, Notation, Span, canonical, known_molecule

DEPARTURE = "departure"
"""The first characters after which the answer cannot become the reference any more; empty at the end if something is missing."""

MAX_WAYS = 2_000


def departure(answer: MoleculeReading, reference: str, notation: Notation = "auto", as_set: bool = False) -> Finding | None:
    """Find where an answer left the reference.

    Args:
        answer: Valid or not; of one that is not, up to where it can be read.
        reference: The reference as text.
        notation: Of the reference.
        as_set: Molecules between dots count as a set: each as often as you like.

    Returns:
        ``None`` if the graphs are the same (only stereo differs), hydrogens are written as atoms, what can be read of an answer that is
        not valid could become the reference, or there are more than ``MAX_ATOMS`` or ``MAX_WAYS``.

    Example:
        >>> from lit_symbolic.verifiers.molecules.reading import read_molecule
        >>> for text in ("OCCc1ccccc1", "OCCCc1ccccc1", "OCc1cccnc1", "c1ccc(CN)cc1", "c1ccc(C)cc1", "OC"):
        ...     found = departure(read_molecule(text), "OCc1ccccc1")
        ...     print(text, text[found.start : found.end] or "(the end)", found.start)
        OCCc1ccccc1 C 2
        OCCCc1ccccc1 C 2
        OCc1cccnc1 n 7
        c1ccc(CN)cc1 N 7
        c1ccc(C)cc1 ) 7
        OC (the end) 2
        >>> departure(read_molecule("OCC1CCCC1"), "OCC1CCCCC1").start
        8
    """
    target = target_of(reference, notation, as_set)
    letters = [match[0] for match in TOKEN.finditer(answer.smiles) if match.lastgroup == "atom"]
    mol = answer.parsed
    if target is None or not 0 < len(letters) <= MAX_ATOMS or (mol is not None and mol.GetNumAtoms() != len(letters)):
        return None
    known = [None] * len(letters) if mol is None else mol.GetAtoms()
    atoms = [written_atom(each, atom, target.loose) for each, atom in zip(letters, known, strict=True)]
    ways: set[Way] = {Way(0, 0, ())}
    end = answer.span[1]
    for step in _steps(answer, atoms):
        ways = step.take(ways, target)
        if len(ways) > MAX_WAYS:
            return None
        if not ways:
            if step.span is None:
                return None
            if step.span == (end, end):
                return Finding(end, end, DEPARTURE, "something of the reference is missing")
            written = answer.text[slice(*step.span)][:20]
            return Finding(*step.span, DEPARTURE, f"with {written!a} here the answer cannot become the reference any more")
    if mol is not None and all(way.used | way.done != target.whole for way in ways):
        return Finding(end, end, DEPARTURE, "a molecule of the reference is missing")
    if mol is not None and not _same_graph(mol, reference, notation, as_set):
        return Finding(end, end, DEPARTURE, "the bonds of an aromatic ring are not the reference's")
    return None


def _same_graph(mol: Chem.Mol, reference: str, notation: Notation, as_set: bool) -> bool:
    """Whether only stereo can differ: RDKit may make other bonds of a text than its letters say."""
    ours, theirs = (canonical(each, False).split(".") for each in (mol, known_molecule(reference, notation).mol))
    return set(ours) == set(theirs) if as_set else ours == theirs


def _steps(answer: MoleculeReading, atoms: list[WrittenAtom | None]) -> Iterator[Step]:
    """What the answer says, in the order of writing, up to what cannot be read. Of SELFIES, whose later symbols may join earlier atoms,
    bonds that close rings and numbers of bonds come at the end."""
    late: list[Step] | None = None if answer.selfies is None else []
    spans, offset, end = answer.written_atoms if answer.selfies else (), answer.span[0], answer.span[1]
    degrees = [0] * len(atoms)
    waiting = [0] * len(atoms)  # ring numbers that are open
    opened: dict[str, tuple[int, str]] = {}
    read: list[WrittenAtom] = []
    images: list[int] = []  # the open atoms
    branches: list[int] = []
    current, written, count, place = -1, "", 0, 0

    def ended(atom: int, span: Span) -> Iterator[Step]:
        """The text has gone on behind an atom."""
        if atom >= 0 and atom not in branches and late is None:
            yield AtomEnded(span, images.index(atom), degrees[atom] + waiting[atom])
            yield from forgotten(atom)

    def forgotten(atom: int) -> Iterator[Step]:
        if not waiting[atom] and late is None:
            yield AtomForgotten(None, images.index(atom))
            images.remove(atom)

    for match in TOKEN.finditer(answer.smiles):
        group, span = match.lastgroup, (offset + match.start(), offset + match.end())
        if match.start() != place or (current < 0 and group != "atom") or (group == "close" and not branches):
            return
        place = match.end()
        if group == "atom":
            before, atom = current, atoms[count]
            if atom is None:
                return
            kinds = ANY_BOND if before < 0 else bond_kinds(written, read[before], atom)
            yield AtomWritten(spans[count] if spans else span, images.index(before) if before >= 0 else -1, atom, kinds)
            read.append(atom)
            images.append(count)
            if before >= 0:
                degrees[before] += 1
                degrees[count] += 1
            yield from ended(before, span)
            current, written, count = count, "", count + 1
        elif group == "bond":
            written = match[0]
            if late is None and current >= 0 and written in ("=", "#"):
                other_end = read[current]._replace(aromatic=None, small=False)  # nothing is known of it: it might be aromatic
                yield BondBegun(span, images.index(current), bond_kinds(written, read[current], other_end), bool(opened))
        elif group == "ring":
            number = str(int(match[0].strip("%()")))
            if number not in opened:
                opened[number] = current, written
                waiting[current] += 1
                if late is None:
                    yield RingOpened(span, images.index(current), waiting[current])
            else:
                other, bond = opened.pop(number)
                waiting[other] -= 1
                degrees[other] += 1
                degrees[current] += 1
                kinds = bond_kinds(written or bond, read[other], read[current])
                closed = RingClosed(span if late is None else None, images.index(current), images.index(other), kinds)
                if late is not None:
                    late.append(closed)
                else:
                    yield closed
                    if other not in branches:
                        yield from forgotten(other)
            written = ""
        elif group == "open":
            branches.append(current)
        elif group == "close":
            inside, current = current, branches.pop()
            if inside != current:
                yield from ended(inside, span)
        else:
            if opened or branches:
                yield MoleculeBroken(span if late is None else None, 0)
            yield from ended(current, span)
            current = -1
            if late is not None:
                here = spans[count - 1][1]
                yield from late
                yield from (AtomEnded((here, here), place, degrees[atom]) for place, atom in enumerate(images))
                for _ in images:
                    yield AtomForgotten(None, 0)
                late.clear()
                images.clear()
            yield MoleculeEnded(None, 0)
    if place != len(answer.smiles):
        return
    if late is not None:
        yield from late
        yield from (AtomEnded((end, end), place, degrees[atom]) for place, atom in enumerate(images))
    else:
        yield from ended(current, (end, end))
