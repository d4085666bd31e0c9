"""Reads SMILES with the place of every token: which characters made atom 7, and where the syntax breaks.

RDKit is the judge of what is valid, this reader only says where. RDKit names one position for some syntax errors and none
for others (an unclosed ring, a branch left open), and it stops at the first; here a tracker of ring digits and branches
runs over all tokens, and each fault is found at its own characters. The grammar is the one that RDKit accepts (OpenSMILES
with dative, quadruple and zero-order bonds, ``%(123)`` and ``[#6]``), so that what RDKit refuses has a finding here.

https://www.rdkit.org/docs/RDKit_Book.html#smiles-support-and-extensions, http://opensmiles.org/opensmiles.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from rdkit import Chem

from lit_symbolic.certificate import Finding

EMPTY = "empty"
"""Nothing is written: the end of the answer."""
UNKNOWN_ATOM = "unknown_atom"
"""Letters that name no atom, alone (``X``) or in brackets (``[Xx]``)."""
BAD_BRACKET = "bad_bracket"
"""A bracket atom that cannot be read, from the first wrong character in it; a bracket left open, all that was read of it."""
MISPLACED_BOND = "misplaced_bond"
"""A bond without an atom on each side, or two in a row: their characters."""
UNBALANCED_BRANCH = "unbalanced_branch"
"""A parenthesis without its partner, or a branch that hangs on no atom or holds none: the parenthesis."""
UNCLOSED_RING = "unclosed_ring"
"""A ring number that is opened and not closed: its digits."""
BAD_RING = "bad_ring"
"""A ring number without an atom, or whose bond joins an atom to itself or two that are joined already: its digits."""
SYNTAX = "syntax"
"""Any other character that SMILES has no use for there."""

SYNTAX_KINDS = (EMPTY, UNKNOWN_ATOM, BAD_BRACKET, MISPLACED_BOND, UNBALANCED_BRANCH, UNCLOSED_RING, BAD_RING, SYNTAX)

MAX_FINDINGS = 40
"""Of one answer; the first ones by place are kept."""

Span = tuple[int, int]

_TABLE = Chem.GetPeriodicTable()
ELEMENTS = tuple(_TABLE.GetElementSymbol(number) for number in range(1, _TABLE.GetMaxAtomicNumber() + 1))
_PROVISIONAL = ("Uun", "Uuu", "Uub", "Uut", "Uuq", "Uup", "Uuh", "Uus", "Uuo")  # names before their discovery was confirmed
_AROMATIC = ("b", "c", "n", "o", "p", "s", "se", "te", "as", "si")

_TOKEN = re.compile(
    r"(?P<atom>Cl|Br|[BCNOPSFI]|[bcnops]|\*)"
    r"|(?P<bracket>\[)"
    r"|(?P<bond>->|<-|\\\\?|[-=#:$~/])"
    r"|(?P<ring>[0-9]|%[1-9][0-9]|%\([0-9]{1,5}\))"
    r"|(?P<open>\()|(?P<close>\))|(?P<dot>\.)"
)
_NUMBER = r"(?:0|[1-9][0-9]*)"
_NAMES = "|".join(sorted((*ELEMENTS, *_PROVISIONAL, *_AROMATIC), key=len, reverse=True))
_ISOTOPE = re.compile(_NUMBER)
_SYMBOL = re.compile(rf"{_NAMES}|'(?:{'|'.join(ELEMENTS[103:])})'|\*|#{_NUMBER}")
_CHIRAL = re.compile(
    r"@@|@TH[12]?(?![0-9])|@AL[12]?(?![0-9])|@SP[1-3]?(?![0-9])|@TB(?:1[0-9]|20|[1-9])?(?![0-9])"
    r"|@OH(?:[12][0-9]|30|[1-9])?(?![0-9])|@"
)
_HYDROGENS = re.compile(rf"H{_NUMBER}?")
_CHARGE = re.compile(rf"\+\+|--|[+-]{_NUMBER}?")
_MAP = re.compile(rf":{_NUMBER}")
_HYDROGEN_ATOM = "H"
_LONGEST_BRACKET = 100  # a closing bracket is looked for no farther, so that time is linear
# What RDKit stores; it wraps larger numbers without a word, or raises an error of its own.
_LARGEST_ISOTOPE, _MOST_HYDROGENS, _LARGEST_CHARGE, _LARGEST_MAP = 65_535, 127, 127, 2**31 // 10


@dataclass(frozen=True)
class SmilesReading:
    """What stands where in a SMILES.

    Args:
        atoms: Characters of each atom, in RDKit's order (that of the text). Brackets belong to their atom.
        findings: Faults of syntax, in order of their place, at most :data:`MAX_FINDINGS`.
    """

    atoms: tuple[Span, ...]
    findings: tuple[Finding, ...]


def read_smiles(text: str, start: int = 0, end: int | None = None) -> SmilesReading:
    """Read ``text[start:end]``; places are those of ``text``. Time and memory are linear in the length.

    Example:
        >>> reading = read_smiles("c1ccccc1C(=O")
        >>> reading.atoms[-2:]
        ((8, 9), (11, 12))
        >>> [(finding.start, finding.end, finding.kind) for finding in reading.findings]
        [(9, 10, 'unbalanced_branch')]
    """
    reader = _Reader(text, start, len(text) if end is None else end)
    reader.read()
    return SmilesReading(tuple(reader.atoms), tuple(sorted(reader.findings)[:MAX_FINDINGS]))


@dataclass
class _Reader:
    text: str
    start: int
    end: int
    atoms: list[Span] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    branches: list[tuple[Span, int | None]] = field(default_factory=list)  # open ones, with the atom they hang on
    rings: dict[int, tuple[Span, int | None]] = field(default_factory=dict)  # open ones, with their atom
    joined: set[tuple[int, int]] = field(default_factory=set)  # atoms with a bond, the smaller first
    atom: int | None = None  # what the next bond starts from
    last: str = ""  # group of the last token
    before_last: str = ""
    last_span: Span = (0, 0)

    def read(self) -> None:
        place = self.start
        while place < self.end:
            match = _TOKEN.match(self.text, place, self.end)
            if match is None:
                place = self._unreadable(place)
                continue
            group = str(match.lastgroup)
            span = match.span()
            if group == "bracket":
                span, group = (place, self._bracket(place)), "atom"
            getattr(self, f"_{group}")(span)
            self.before_last, self.last, self.last_span = self.last, group, span
            place = span[1]
        self._finish()

    def _report(self, span: Span, kind: str, message: str) -> None:
        self.findings.append(Finding(*span, kind, message))

    def _atom(self, span: Span) -> None:
        index = len(self.atoms)
        self.atoms.append(span)
        if self.atom is not None and self.last != "dot":
            self.joined.add((self.atom, index))
        self.atom = index

    def _bond(self, span: Span) -> None:
        if self.last == "bond":
            self._report((self.last_span[0], span[1]), MISPLACED_BOND, "two bonds in a row")
        elif self.last not in ("atom", "ring", "close", "open"):
            self._report(span, MISPLACED_BOND, "a bond needs an atom before it")

    def _ring(self, span: Span) -> None:
        number = int(self.text[slice(*span)].strip("%()"))
        in_place = self.last in ("atom", "ring", "close") or (self.last == "bond" and self.before_last != "open")
        if not in_place or self.atom is None:
            self._report(span, BAD_RING, f"ring number {number} needs an atom before it")
        opened = self.rings.pop(number, None)
        if opened is None:
            self.rings[number] = span, self.atom
            return
        other = opened[1]
        if not in_place or other is None or self.atom is None:
            return
        if other == self.atom:
            self._report(span, BAD_RING, f"ring number {number} joins an atom to itself")
        elif (other, self.atom) in self.joined or (self.atom, other) in self.joined:
            self._report(span, BAD_RING, f"ring number {number} joins two atoms that have a bond already")
        self.joined.add((other, self.atom))

    def _open(self, span: Span) -> None:
        if self.last not in ("atom", "ring", "close"):
            self._dangling_bond()
            if self.last != "bond":
                self._report(span, UNBALANCED_BRANCH, "a branch needs an atom before it")
        self.branches.append((span, self.atom))

    def _close(self, span: Span) -> None:
        self._dangling_bond()
        if not self.branches:
            self._report(span, UNBALANCED_BRANCH, "no branch is open here")
            return
        opened, self.atom = self.branches.pop()
        if self.last == "open":
            self._report((opened[0], span[1]), UNBALANCED_BRANCH, "an empty branch")
        elif self.last == "dot":
            self._report(self.last_span, SYNTAX, "a dot needs an atom behind it")

    def _dot(self, span: Span) -> None:
        self._dangling_bond()
        if self.last not in ("atom", "ring", "close", "bond"):
            self._report(span, SYNTAX, "a dot needs an atom before it")

    def _dangling_bond(self) -> None:
        if self.last == "bond":
            self._report(self.last_span, MISPLACED_BOND, "a bond needs an atom behind it")

    def _finish(self) -> None:
        self._dangling_bond()
        if self.last == "dot":
            self._report(self.last_span, SYNTAX, "a dot needs an atom behind it")
        for span, _ in self.branches:
            self._report(span, UNBALANCED_BRANCH, "this branch is not closed")
        for number, (span, _) in self.rings.items():
            self._report(span, UNCLOSED_RING, f"ring {number} is opened here and not closed")
        if self.start == self.end:
            self._report((self.end, self.end), EMPTY, "no molecule is written")

    def _unreadable(self, place: int) -> int:
        """Report the run of characters that no token begins with; letters are taken for an atom. Gives the run's end."""
        letters = self.text[place].isalpha()
        end = place + 1
        if self.text[place] == "%" and self.text[end : min(end + 1, self.end)].isdigit():
            end += 1
        while end < self.end and self.text[end].isalpha() == letters and not _TOKEN.match(self.text, end, self.end):
            end += 1
        shown = ascii(self.text[place : min(end, place + 20)])
        if letters:
            self._report((place, end), UNKNOWN_ATOM, f"{shown} is no atom; outside brackets only B C N O P S F Cl Br I are")
            self._atom((place, end))
            self.before_last, self.last, self.last_span = self.last, "atom", (place, end)
        elif self.text[place] == "%":
            self._report((place, end), BAD_RING, "% needs two digits behind it, the first not 0")
        elif self.text[place] == "]":
            self._report((place, end), BAD_BRACKET, "no bracket is open here")
        else:
            self._report((place, end), SYNTAX, f"SMILES has no {shown}")
        return end

    def _bracket(self, place: int) -> int:
        """Report what is wrong with the bracket atom that begins here; gives its end."""
        fault, expected = read_bracket(self.text, place, self.end)
        limit = min(self.end, place + _LONGEST_BRACKET)
        close = self.text.find("]", place, limit)
        other = self.text.find("[", place + 1, limit)
        if close >= 0 and (other < 0 or close < other):
            if fault < 0:
                return close + 1
            if expected == "an element":
                stop = max(_letters_end(self.text, fault, close), min(fault + 1, close))
                self._report(
                    (place, close + 1), UNKNOWN_ATOM, f"no element is called {self.text[fault : min(stop, fault + 20)]!a}"
                )
            else:
                span = (fault, close) if fault < close else (place, close + 1)
                self._report(span, BAD_BRACKET, f"expected {expected} in a bracket atom")
            return close + 1
        stop = max(fault, place + 1)
        self._report((place, stop), BAD_BRACKET, "this bracket is not closed")
        return stop


def read_bracket(text: str, place: int, end: int) -> tuple[int, str]:
    """Read the bracket atom at ``place``; gives the first character that does not fit and what was expected, -1 if all does.

    Example:
        >>> read_bracket("[13CH3+]", 0, 8), read_bracket("[CH3C]", 0, 6)
        ((-1, ''), (4, 'a charge, an atom map or the closing bracket'))
    """
    place += 1
    too_large = -1

    def take(pattern: re.Pattern[str], largest: int = 0) -> str:
        nonlocal place, too_large
        match = pattern.match(text, place, end)
        if match is None:
            return ""
        digits = match[0].lstrip(":#H+-")
        if too_large < 0 and digits.isdigit() and (len(digits) > 10 or int(digits) > largest):
            too_large = match.end() - len(digits)
        place = match.end()
        return match[0]

    take(_ISOTOPE, _LARGEST_ISOTOPE)
    symbol = take(_SYMBOL, len(ELEMENTS))
    if not symbol:
        return place, "an element"
    expected = "hydrogens, a charge, an atom map or the closing bracket"
    if symbol != _HYDROGEN_ATOM:
        take(_CHIRAL)
    if take(_HYDROGENS, _MOST_HYDROGENS):
        expected = "a charge, an atom map or the closing bracket"
    if take(_CHARGE, _LARGEST_CHARGE):
        expected = "an atom map or the closing bracket"
    if take(_MAP, _LARGEST_MAP):
        expected = "the closing bracket"
    if too_large >= 0:
        return too_large, "a smaller number"
    return (-1, "") if text.startswith("]", place) and place < end else (place, expected)


def _letters_end(text: str, start: int, end: int) -> int:
    while start < end and text[start].isalpha():
        start += 1
    return start
