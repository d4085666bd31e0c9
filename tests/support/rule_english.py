"""A perfect translator of the small English of ProofWriter, PARARULE-Plus and ProntoQA into logic programs.

These sets were generated from a grammar, so a few patterns read every sentence of them without a guess. What such a translator and
the chainer reach together is the chainer's own ceiling.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

Atom = tuple[str, tuple[str, ...], bool]

_ANYTHING = ("something", "someone", "it", "they")
_NOUN_PHRASE = r"(?:[Tt]he (?:bald )?[a-z]+|[A-Z][a-z]+|something|someone|it|they)"
_IS = re.compile(rf"({_NOUN_PHRASE}) (?:is|are) (not )?([a-z]+)")
_DOES = re.compile(rf"({_NOUN_PHRASE}) (?:(do(?:es)? not) )?([a-z]+) ({_NOUN_PHRASE})")
_KIND = re.compile(r"(?:[Aa]ll )?([A-Za-z]+(?:, [a-z]+)*) (?:things|people|animals) are (not )?([a-z]+)")
_ISA = re.compile(r"(?:(?:Each|Every) )?([A-Za-z]+) (?:is|are) (not )?(?:an? )?([a-z]+)")


def translate(context: str, statement: str) -> str:
    """The program of a ProofWriter or PARARULE-Plus problem.

    Raises:
        ValueError: If a sentence is not of the grammar.

    Example:
        >>> print(translate("The cat chases the bald eagle. All big, kind things are not red.", "The cat is not red."))
        Predicates:
        Chases($x, $y, bool) ::: Does x chase y?
        Big($x, bool) ::: Is x big?
        Kind($x, bool) ::: Is x kind?
        Red($x, bool) ::: Is x red?
        <BLANKLINE>
        Facts:
        Chases(Cat, BaldEagle, True) ::: The cat chases the bald eagle.
        <BLANKLINE>
        Rules:
        Big($x, True) && Kind($x, True) >>> Red($x, False) ::: All big, kind things are not red.
        <BLANKLINE>
        Query:
        Red(Cat, False) ::: The cat is not red.
    """
    facts, rules = [], []
    for sentence in _sentences(context):
        if match := re.fullmatch(r"If (.+) then (.+)", sentence):
            rules.append((_conjunction(match[1]), [_clause(match[2])], sentence))
        elif match := _KIND.fullmatch(sentence):
            premises = [(_name(word), ("$x",), True) for word in match[1].split(", ")]
            rules.append((premises, [(_name(match[3]), ("$x",), not match[2])], sentence))
        else:
            facts.append((_clause(sentence), sentence))
    return write(facts, rules, (_clause(statement.strip().removesuffix(".")), statement.strip()))


def translate_prontoqa(context: str, statement: str) -> str:
    """The program of a ProntoQA problem, whose rules are about kinds of things in the plural or the singular.

    Example:
        >>> print(translate_prontoqa("Jompuses are not shy. Each jompus is a yumpus. Max is a jompus.", "Max is shy."))
        Predicates:
        Jompus($x, bool) ::: Is x jompus?
        Shy($x, bool) ::: Is x shy?
        Yumpus($x, bool) ::: Is x yumpus?
        <BLANKLINE>
        Facts:
        Jompus(Max, True) ::: Max is a jompus.
        <BLANKLINE>
        Rules:
        Jompus($x, True) >>> Shy($x, False) ::: Jompuses are not shy.
        Jompus($x, True) >>> Yumpus($x, True) ::: Each jompus is a yumpus.
        <BLANKLINE>
        Query:
        Shy(Max, True) ::: Max is shy.
    """
    facts, rules = [], []
    for sentence in _sentences(context):
        match = _ISA.fullmatch(sentence)
        if match is None:
            raise ValueError(f"not a sentence of ProntoQA: {sentence!r}")
        subject, quality = _singular(match[1]), (_singular(match[3]), not match[2])
        if subject.endswith("us") and (sentence.startswith(("Each", "Every")) or " are " in sentence):
            rules.append(([(subject, ("$x",), True)], [(quality[0], ("$x",), quality[1])], sentence))
        else:
            facts.append(((quality[0], (match[1],), quality[1]), sentence))
    query = _ISA.fullmatch(statement.strip().removesuffix("."))
    if query is None:
        raise ValueError(f"not a sentence of ProntoQA: {statement!r}")
    return write(facts, rules, ((_singular(query[3]), (query[1],), not query[2]), statement.strip()))


def write(facts: Iterable[tuple[Atom, str]], rules: Iterable[tuple[list[Atom], list[Atom], str]], query: tuple[Atom, str]) -> str:
    """A program in the format of Logic-LM, each line with the sentence it was translated from."""
    facts, rules = list(facts), list(rules)
    atoms = [atom for atom, _ in facts]
    atoms += [atom for premises, conclusions, _ in rules for atom in (*premises, *conclusions)]
    declared = dict.fromkeys((name, len(arguments)) for name, arguments, _ in [*atoms, query[0]])
    return "\n".join(
        [
            "Predicates:",
            *(_declaration(name, arity) for name, arity in declared),
            "",
            "Facts:",
            *(f"{show(atom)} ::: {sentence.removesuffix('.')}." for atom, sentence in facts),
            "",
            "Rules:",
            *(
                f"{' && '.join(map(show, premises))} >>> {' && '.join(map(show, conclusions))} ::: {sentence}."
                for premises, conclusions, sentence in rules
            ),
            "",
            "Query:",
            f"{show(query[0])} ::: {query[1].removesuffix('.')}.",
        ]
    )


def show(atom: Atom) -> str:
    """``Chases(Cat, Dog, True)``."""
    return f"{atom[0]}({', '.join((*atom[1], str(atom[2])))})"


def _declaration(name: str, arity: int) -> str:
    if arity == 1:
        return f"{name}($x, bool) ::: Is x {name.lower()}?"
    return f"{name}($x, $y, bool) ::: Does x {name.lower().removesuffix('s')} y?"


def _sentences(context: str) -> list[str]:
    return [sentence.strip() for sentence in context.split(".") if sentence.strip()]


def _conjunction(text: str) -> list[Atom]:
    atoms = []
    for part in text.split(" and "):
        if _IS.fullmatch(part) or _DOES.fullmatch(part):
            atoms.append(_clause(part))
        else:  # "something is red and not big": the subject is the one before
            atoms.append((_name(part.removeprefix("not ")), atoms[-1][1][:1], not part.startswith("not ")))
    return atoms


def _clause(text: str) -> Atom:
    if match := _IS.fullmatch(text):
        return _name(match[3]), (_entity(match[1]),), not match[2]
    if match := _DOES.fullmatch(text):
        verb = match[3].removesuffix("s") + "s"
        return _name(verb), (_entity(match[1]), _entity(match[4])), not match[2]
    raise ValueError(f"not a sentence of the grammar: {text!r}")


def _entity(phrase: str) -> str:
    if phrase in _ANYTHING:
        return "$x"
    return "".join(map(str.capitalize, phrase.removeprefix("The ").removeprefix("the ").split()))


def _name(word: str) -> str:
    return word.capitalize()


def _singular(word: str) -> str:
    return (word[:-2] if word.endswith("uses") else word).capitalize()
