"""Gold answers for the logic verifiers: programs and formulas written by perfect translators of sets that a grammar generated.

The sets are looked for in ``../shared/data`` beside the repository, or where ``LIT_SYMBOLIC_DATA`` says.
"""

from __future__ import annotations

import json
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from lit_symbolic.certificate import Problem
from lit_symbolic.verifiers.reasoning.formula import FormulaError, free_names, read_formula
from lit_symbolic.verifiers.reasoning.program import Literal, read_program
from runs import ROOT

sys.path.insert(0, str(ROOT / "tests" / "support"))

from rule_english import Atom, translate, translate_prontoqa, write

DATA = Path(os.environ.get("LIT_SYMBOLIC_DATA", ROOT.parent / "shared" / "data"))
ANSWERS = {"A": "True", "B": "False", "C": "Unknown"}

Pairs = list[tuple[Problem, str]]
"""Problems with their gold answers."""


@lru_cache(None)
def proofwriter(split: str) -> Pairs:
    """ProofWriter, in the open world."""
    rows = []
    for row in json.loads((DATA / "proofwriter" / f"{split}.json").read_text()):
        problem = Problem("proofwriter", row["id"], "", {"answer": ANSWERS[row["answer"]], "world": "open"})
        rows.append((problem, translate(row["context"], row["question"].partition("? ")[2])))
    return rows


def prontoqa() -> Pairs:
    """ProntoQA, where every statement is true or false."""
    rows = []
    for row in json.loads((DATA / "prontoqa" / "dev.json").read_text()):
        problem = Problem("prontoqa", row["id"], "", {"answer": ANSWERS[row["answer"]]})
        rows.append((problem, translate_prontoqa(row["context"], row["question"].partition("? ")[2])))
    return rows


def pararule() -> Pairs:
    """PARARULE-Plus, in the closed world."""
    rows = []
    for path in sorted((DATA / "pararule_plus").glob("*/*.jsonl")):
        for story in map(json.loads, path.read_text().splitlines()):
            for question in story["questions"]:
                facts = {"answer": question["label"].capitalize(), "world": "closed"}
                rows.append((Problem("pararule", question["id"], "", facts), translate(story["context"], question["text"])))
    return rows


def logicnli() -> Pairs:
    """LogicNLI, from its own logical forms; what is derived both ways is a contradiction."""
    labels = {"entailment": "True", "contradiction": "False", "neutral": "Unknown", "self_contradiction": "Contradiction"}
    rows = []
    for story, content in json.loads((DATA / "logicnli" / "dev_logic.json").read_text()).items():
        facts = [(_logicnli_atom(fact), " ".join(fact[:2])) for fact in content["facts"].values()]
        used = [*content["facts"].values(), *content["statements"].values()]
        used += [fact for rule in content["rules"].values() for side in "pq" for fact in rule[side]["fact"]]
        names = sorted({fact[0] for fact in used} - {"all", "exist"})
        rules = []
        for number, rule in content["rules"].items():
            for premise, conclusion in [(rule["p"], rule["q"])] + [(rule["q"], rule["p"])] * (rule["type"] == "equ"):
                rules += [(*pair, f"rule {number}") for pair in _logicnli_rules(premise, conclusion, names)]
        for number, statement in content["statements"].items():
            problem = Problem("logicnli", f"{story}-{number}", "", {"answer": labels[content["labels"][number]]})
            rows.append((problem, write(facts, rules, (_logicnli_atom(statement), " ".join(statement[:2])))))
    return rows


def _logicnli_atom(fact: list[str]) -> Atom:
    name = fact[1].capitalize().replace("-", "_")
    return name, ("$x" if fact[0] in ("all", "exist") else fact[0],), fact[2] == "+"


def _logicnli_rules(premise: dict[str, Any], conclusion: dict[str, Any], names: list[str]) -> list[tuple[list[Atom], list[Atom]]]:
    """An ``or`` among premises is a rule for each; *everyone*, where the conclusion is about one, is all names."""
    premises, conclusions = map(_logicnli_atom, premise["fact"]), [_logicnli_atom(fact) for fact in conclusion["fact"]]
    about = {fact[0] for fact in premise["fact"]}, {fact[0] for fact in conclusion["fact"]}
    alternatives = [[atom] for atom in premises] if premise["conj"] == "or" else [list(premises)]
    if "all" in about[0] and "all" not in about[1]:
        alternatives = [[(word, (name,), value) for word, _, value in atoms for name in names] for atoms in alternatives]
    return [(atoms, conclusions) for atoms in alternatives]


def as_formulas(text: str) -> str:
    """A logic program of unary and binary predicates as premises and a conclusion of first-order logic."""
    program = read_program(text)
    if program.query is None or program.findings:
        raise ValueError("only a program that can be read becomes formulas")
    lines = ["Premises:", *map(_formula, program.facts)]
    for rule in program.rules:
        body = f"{' ∧ '.join(map(_formula, rule.premises))} → {' ∧ '.join(map(_formula, rule.conclusions))}"
        variables = {argument for literal in rule.premises for argument in literal.arguments if argument[0] == "$"}
        quantified = "".join(f"∀{variable[1:]} " for variable in sorted(variables))
        lines.append(f"{quantified}({body})" if quantified else body)
    return "\n".join([*lines, "Conclusion:", _formula(program.query)])


def _formula(literal: Literal) -> str:
    arguments = ", ".join(name[1:] if name[0] == "$" else name[0].lower() + name[1:] for name in literal.arguments)
    return f"{'' if literal.value else '¬'}{literal.name}({arguments})"


def folio_stories() -> list[tuple[str, list[str], list[str]]]:
    """FOLIO's stories: id, premises in English, premises as formulas. Its conclusions are in English only."""
    stories = {}
    for line in (DATA / "folio" / "folio-train.jsonl").read_text().splitlines():
        row = json.loads(line)
        stories.setdefault(tuple(row["premises-FOL"]), (str(row["story_id"]), row["premises"], row["premises-FOL"]))
    return list(stories.values())


def folio() -> Pairs:
    """FOLIO's premises with one of them as the conclusion, so true, and with its negation, so false.

    The premise chosen is the last about someone by name; a premise that no answer can hold in one line is left as it is.
    """
    pairs = []
    for story, english, premises in folio_stories():
        number = max((n for n, premise in enumerate(premises) if _is_about_someone(premise)), default=len(premises) - 1)
        lines = [f"{premise.strip()} ::: {sentence}" for premise, sentence in zip(premises, english, strict=False)]
        for answer, conclusion in (("True", premises[number].strip()), ("False", f"¬({premises[number].strip()})")):
            problem = Problem("folio", f"{story}-{answer}", "", {"answer": answer})
            pairs.append((problem, "\n".join(["Premises:", *lines, "Conclusion:", conclusion])))
    return pairs


def _is_about_someone(premise: str) -> bool:
    try:
        return bool(free_names(read_formula(premise)))
    except FormulaError:
        return False
