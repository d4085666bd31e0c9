"""Gold C++ programs of public sets as problems with their answers, and those programs with one fault injected at a known place."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from lit_symbolic.certificate import Problem
from lit_symbolic.tasks.listing import program
from lit_symbolic.tasks.reading import spoc as spoc_files
from lit_symbolic.tasks.reading.files import delimited_rows
from lit_symbolic.tasks.reading.spoc import COLUMNS, read_programs, read_testcases
from lit_symbolic.verifiers.compiling.program import Token, tokenize

DATA = Path(os.environ.get("LIT_SYMBOLIC_DATA", Path(__file__).parents[3] / "shared" / "data"))
SPOC = DATA / "spoc"
HUMANEVAL_X = DATA / "humaneval_x_cpp" / "humaneval_cpp.jsonl.gz"


SPOC_STANDARD, SPOC_PREFIX = spoc_files.STANDARD, spoc_files.PREFIX


class Answer(NamedTuple):
    """A gold answer to a problem."""

    problem: Problem
    text: str


def spoc(split: str) -> Iterator[Answer]:
    """The programs of ``spoc-train-<split>.tsv``, assembled from their lines, with public and hidden test cases."""
    path = SPOC / "train" / "split" / f"spoc-train-{split}.tsv"
    for found in read_programs(delimited_rows(path, "\t", quoted=False, columns=COLUMNS), path, max_corrupt=0.0).items:
        facts: dict[str, Any] = {"prefix": SPOC_PREFIX, "tests": list(read_testcases(SPOC / "testcases", found.problem))}
        yield Answer(Problem("spoc", found.id, "", facts), program(found.lines) + "\n")


def humaneval_x() -> Iterator[Answer]:
    """HumanEval-X: the prompt, which ends with the function's head, stands before the answer, a program of assertions behind it."""
    with gzip.open(HUMANEVAL_X, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            facts = {"prefix": row["prompt"], "suffix": row["test"], "tests": [{"hidden": True}]}
            yield Answer(Problem("humaneval_x", row["task_id"], row["prompt"], facts), row["canonical_solution"])


class Fault(NamedTuple):
    """An answer with a fault at the characters ``[start, end)``; empty where something is missing."""

    text: str
    start: int
    end: int


Injection = Callable[[str, random.Random], "Fault | None"]


def _chosen(text: str, random: random.Random, wanted: Callable[[str, list[Token], int], bool], new: str) -> Fault | None:
    """Replace one of the tokens that are wanted, drawn at random."""
    tokens = tokenize(text)
    places = [index for index in range(len(tokens)) if wanted(text, tokens, index)]
    if not places:
        return None
    token = tokens[random.choice(places)]
    return Fault(text[: token.start] + new + text[token.end :], token.start, token.start + len(new))


def _word(text: str, tokens: list[Token], index: int) -> str:
    return text[tokens[index].start : tokens[index].end] if 0 <= index < len(tokens) else ""


def _deleting(mark: str) -> Injection:
    def inject(text: str, random: random.Random) -> Fault | None:
        return _chosen(text, random, lambda text, tokens, index: _word(text, tokens, index) == mark, "")

    return inject


def _deletes_semicolon(text: str, random: random.Random) -> Fault | None:
    """Not the one of an empty statement or of ``};``, without which a program may still be one."""

    def wanted(text: str, tokens: list[Token], index: int) -> bool:
        return _word(text, tokens, index) == ";" and _word(text, tokens, index - 1) not in ("", ";", "{", "}", ")")

    def call_statement(text: str, tokens: list[Token], index: int) -> bool:
        return _word(text, tokens, index) == ";" and _word(text, tokens, index - 1) == ")"

    return _chosen(text, random, lambda *at: wanted(*at) or call_statement(*at), "")


def _declared(text: str) -> set[str]:
    """Names that a simple declaration introduces."""
    return set(re.findall(r"\b(?:int|long|double|float|char|string|bool|auto)\s+(\w+)\s*(?=[;,=\[)(])", text)) - {
        "main",
        "long",
        "int",
    }


def _wrong_variable(text: str, random: random.Random) -> Fault | None:
    """One use of a variable gets a name that nobody declared."""
    names = _declared(text)

    def wanted(text: str, tokens: list[Token], index: int) -> bool:
        declares = tokens[index - 1].kind == "word" and _word(text, tokens, index - 1) not in ("return", "else", "case")
        return index > 0 and _word(text, tokens, index) in names and not declares and _word(text, tokens, index - 1) != ","

    return _chosen(text, random, wanted, "wrnog")


def _misspelt_keyword(text: str, random: random.Random) -> Fault | None:
    keywords = ("int", "for", "if", "while", "return", "string", "vector", "else", "long", "double")
    tokens = tokenize(text)
    places = [token for token in tokens if text[token.start : token.end] in keywords]
    if not places:
        return None
    token = random.choice(places)
    word = text[token.start : token.end]
    new = word[0] + word[2] + word[1] + word[3:] if len(word) > 2 else word[::-1]
    return Fault(text[: token.start] + new + text[token.end :], token.start, token.start + len(new))


def _text_for_number(text: str, random: random.Random) -> Fault | None:
    """A number that is assigned becomes a text."""

    def wanted(text: str, tokens: list[Token], index: int) -> bool:
        before = _word(text, tokens, index - 1)
        return tokens[index].kind == "number" and before in ("=", "+=", "-=", "%", "<", "<=", "==")

    return _chosen(text, random, wanted, '"seven"')


def _missing_argument(text: str, random: random.Random) -> Fault | None:
    """The last argument of a call with two or more is deleted, with its comma."""
    calls = list(
        re.finditer(r"\b(?:max|min|pow|swap|sort|reverse|count|find|__gcd|abs|substr|push_back|make_pair)\(([^()\n]*)\)", text)
    )
    calls = [call for call in calls if call[1].strip() and call[0][:3] != "sub"]
    if not calls:
        return None
    call = random.choice(calls)
    start = text.rfind(",", call.start(1), call.end(1))
    start = call.start(1) if start < 0 else start
    return Fault(text[:start] + text[call.end(1) :], start, start)


def _wrong_member(text: str, random: random.Random) -> Fault | None:
    """A member function gets a name that the class does not have."""

    def wanted(text: str, tokens: list[Token], index: int) -> bool:
        return index > 0 and tokens[index].kind == "word" and _word(text, tokens, index - 1) == "."

    return _chosen(text, random, wanted, "lenght")


def _deletes_operator(text: str, random: random.Random) -> Fault | None:
    """A ``<<`` or ``>>`` between two words is deleted."""
    return _chosen(text, random, lambda text, tokens, index: _word(text, tokens, index) in ("<<", ">>"), "")


def _deletes_quote(text: str, random: random.Random) -> Fault | None:
    """The closing quote of a text."""
    places = [
        t
        for t in tokenize(text)
        if t.kind == "string" and text[t.start] == '"' and text[t.end - 1] == '"' and t.end - t.start > 1
    ]
    if not places:
        return None
    token = random.choice(places)
    return Fault(text[: token.end - 1] + text[token.end :], token.start, token.end - 1)


def _deletes_declaration(text: str, random: random.Random) -> Fault | None:
    """A whole line that declares variables."""
    lines = list(re.finditer(r"^[ \t]*(?:int|long long|string|double|char)\s+[\w, \[\]]+;\n", text, re.MULTILINE))
    if not lines:
        return None
    line = random.choice(lines)
    return Fault(text[: line.start()] + text[line.end() :], line.start(), line.start())


def _wrong_declared_type(text: str, random: random.Random) -> Fault | None:
    """``string`` or a container becomes ``int`` where it is declared."""
    places = list(re.finditer(r"\b(?:string|vector<int>|map<\w+, \w+>|set<\w+>)(?= \w+[;,(])", text))
    if not places:
        return None
    place = random.choice(places)
    return Fault(text[: place.start()] + "int" + text[place.end() :], place.start(), place.start() + 3)


INJECTIONS: dict[str, Injection] = {
    "`;` deleted": _deletes_semicolon,
    "wrong variable": _wrong_variable,
    "`}` deleted": _deleting("}"),
    "`{` deleted": _deleting("{"),
    "`)` deleted": _deleting(")"),
    "`(` deleted": _deleting("("),
    "`]` deleted": _deleting("]"),
    "keyword or type misspelt": _misspelt_keyword,
    "text where a number belongs": _text_for_number,
    "argument missing": _missing_argument,
    "member that does not exist": _wrong_member,
    "`<<` or `>>` deleted": _deletes_operator,
    "closing quote deleted": _deletes_quote,
    "(declaration deleted: shown where the name is used)": _deletes_declaration,
    "(declared with the wrong type: shown where it is used)": _wrong_declared_type,
}
"""Ways to break a program, by name. What they make of a program may still be one, in rare cases."""
