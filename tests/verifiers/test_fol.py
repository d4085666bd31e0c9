import itertools
import json
import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.certificate import Problem, Status
from lit_symbolic.verifiers.fol import KINDS, FirstOrderVerifier
from lit_symbolic.verifiers.reasoning.formula import Connective, Negation, Predicate, Quantified, Term, read_formula
from lit_symbolic.verifiers.reasoning.program import read_program
from lit_symbolic.verifiers.reasoning.prover import Answer, decide
from rule_english import translate_prontoqa

SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", Path(__file__).parents[3] / "shared" / "data"))

TEXT = """\
Predicates:
Dog(x) ::: x is a dog.
Barks(x) ::: x barks.
Owns(x, y) ::: x owns y.
Premises:
∀x (Dog(x) → Barks(x)) ::: All dogs bark.
∃x (Dog(x) ∧ Owns(ann, x)) ::: Ann owns a dog.
¬Dog(tom) ::: Tom is not a dog.
Conclusion:
∃y (Owns(ann, y) ∧ Barks(y)) ::: Ann owns something that barks."""


def problem(answer):
    return Problem("fol", "1", "", {"answer": answer})


def found(text, answer="True", verifier=None):
    certificate = (verifier or FirstOrderVerifier()).verify(problem(answer), text)
    return [(finding.kind, text[finding.start : finding.end]) for finding in certificate.findings]


def read(*texts):
    return [read_formula(text) for text in texts]


# --- z3 against references ---

PROPOSITIONS = "ABC"


def connectives(inner):
    chains = st.builds(lambda s, o: Connective(s, tuple(o)), st.sampled_from("∧∨⊕↔"), st.lists(inner, min_size=2, max_size=3))
    return st.builds(Negation, inner) | chains | st.builds(lambda a, b: Connective("→", (a, b)), inner, inner)


propositional = st.recursive(st.sampled_from(PROPOSITIONS).map(Predicate), connectives, max_leaves=6)
terms = st.sampled_from(["c", "x", "y"]).map(Term)
monadic = st.recursive(
    st.builds(Predicate, st.sampled_from("PQ"), terms.map(lambda term: (term,))),
    lambda inner: connectives(inner) | st.builds(Quantified, st.sampled_from("∀∃"), st.sampled_from("xy"), inner),
    max_leaves=6,
)


def value(formula, holds, things=(), names=None):
    """Truth by its definition, in one model."""
    names = names or {}
    if isinstance(formula, Predicate):
        return holds(formula.name, *(names[term.name] for term in formula.arguments))
    if isinstance(formula, Negation):
        return not value(formula.operand, holds, things, names)
    if isinstance(formula, Quantified):
        values = (value(formula.body, holds, things, {**names, formula.variable: thing}) for thing in things)
        return all(values) if formula.quantifier == "∀" else any(values)
    values = [value(operand, holds, things, names) for operand in formula.operands]
    if formula.symbol == "∧":
        return all(values)
    if formula.symbol == "∨":
        return any(values)
    if formula.symbol == "⊕":
        return sum(values) % 2 == 1
    if formula.symbol == "→":
        return not values[0] or values[1]
    result = values[0]
    for following in values[1:]:
        result = result == following
    return result


def answer_of(models):
    """From the conclusion's values in the models of the premises."""
    if not models:
        return Answer.INCONSISTENT
    return Answer.TRUE if all(models) else Answer.FALSE if not any(models) else Answer.UNKNOWN


@given(st.lists(propositional, max_size=3), propositional)
@settings(max_examples=60, deadline=None)
def test_z3_agrees_with_truth_tables(premises, conclusion):
    models = []
    for row in itertools.product((False, True), repeat=len(PROPOSITIONS)):
        table = dict(zip(PROPOSITIONS, row, strict=True))
        if all(value(premise, table.__getitem__) for premise in premises):
            models.append(value(conclusion, table.__getitem__))
    assert decide(premises, conclusion).answer == answer_of(models)


@given(st.lists(monadic, max_size=3), monadic)
@settings(max_examples=60, deadline=None)
def test_z3_agrees_with_all_models_of_two_unary_predicates(premises, conclusion):
    # Without equality only the kinds of things that exist matter: each a choice of the predicates that hold of it. So the
    # non-empty sets of kinds, and every meaning of the three names in them, are all models there are.
    kinds = list(itertools.product((False, True), repeat=2))
    models = []
    for size in range(1, 5):
        for things in itertools.combinations(kinds, size):
            for meaning in itertools.product(things, repeat=3):
                names = dict(zip("cxy", meaning, strict=True))

                def holds(name, thing):
                    return thing["PQ".index(name)]

                if all(value(premise, holds, things, names) for premise in premises):
                    models.append(value(conclusion, holds, things, names))
    assert decide(premises, conclusion).answer == answer_of(models)


def test_a_core_names_the_premises_that_are_needed():
    premises = read("∀x (P(x) → Q(x))", "R(a)", "P(a)", "∀x (Q(x) → S(x))", "P(b)")
    assert decide(premises, read_formula("S(a)")).core == (0, 2, 3)
    assert decide(premises, read_formula("¬Q(b)")) == decide(premises, read_formula("¬Q(b)"))
    assert decide(premises, read_formula("S(a) ∨ ¬S(a)")).core == ()
    contradicting = decide([*premises, *read("¬R(a)")], read_formula("P(a)"))
    assert (contradicting.answer, contradicting.core) == (Answer.INCONSISTENT, (1, 5))


def test_equality_functions_and_several_quantifiers_are_understood():
    assert decide(read("∀x ∀y (R(x, y) → R(y, x))", "R(a, b)"), read_formula("R(b, a)")).answer == Answer.TRUE
    assert decide(read("a = b", "P(f(a))"), read_formula("P(f(b))")).answer == Answer.TRUE
    assert decide(read("∀x ∃y R(x, y)"), read_formula("∃y ∀x R(x, y)")).answer == Answer.UNKNOWN
    assert decide([], read_formula("∃x (P(x) ∨ ¬P(x))")).answer == Answer.TRUE  # something exists


def test_z3_stops_at_its_own_limit_which_is_no_evidence():
    text = """Premises:
∀x ∃y R(x, y)
∀x ∀y ∀z (R(x, y) ∧ R(y, z) → R(x, z))
∀x ¬R(x, x)
∀x ∀y (R(x, y) → R(f(x), f(y)))
Conclusion:
∃x R(f(x), x)"""
    began = time.process_time()
    certificate = FirstOrderVerifier(max_resources=200_000).verify(problem("True"), text)
    assert time.process_time() - began < 10
    assert (certificate.status, certificate.is_evidence) == (Status.TIMEOUT, False)
    broken = FirstOrderVerifier(max_resources=200_000).verify(problem("True"), text + ")\nConclusion:")
    assert broken.status == Status.OK
    assert not broken.correct


# --- certificates ---


@pytest.mark.parametrize(
    ("conclusion", "answer"),
    [("∃y (Owns(ann, y) ∧ Barks(y))", "True"), ("∀x ¬Barks(x)", "False"), ("Barks(tom)", "Unknown"), ("Barks(tom)", "Uncertain")],
)
def test_a_conclusion_is_true_false_or_unknown(conclusion, answer):
    text = TEXT[: TEXT.index("∃y")] + conclusion
    certificate = FirstOrderVerifier().verify(problem(answer), text)
    assert certificate.correct
    assert certificate.score == 1.0
    assert certificate.evidence
    wrong = "True" if answer == "False" else "False"
    assert not FirstOrderVerifier().verify(problem(wrong), text).correct


@pytest.mark.parametrize(
    ("old", "new", "kind", "where"),
    [
        ("Barks(x)) :::", "Barks(x) :::", "unparsable_line", ""),
        ("Dog(x) ∧ Owns", "Dog(x) Owns", "unparsable_line", "Owns(ann, x))"),
        ("Owns(x, y) :::", "¬Owns(x, y) :::", "unparsable_line", "¬Owns(x, y)"),
        ("¬Dog(tom)", "¬Dog(tom", "unparsable_line", ""),
        ("¬Dog(tom)", "¬Cat(tom)", "undeclared_predicate", "Cat"),
        ("¬Dog(tom)", "¬Dog(tom, ann)", "wrong_arity", "(tom, ann)"),
        ("Owns(ann, x)", "Owns(x)", "wrong_arity", "(x)"),
        ("∀x (Dog(x)", "(Dog(x)", "free_variable", "x"),
        ("Owns(ann, x)", "Owns(ann, y)", "free_variable", "y"),
        ("Conclusion:\n∃y (Owns(ann, y) ∧ Barks(y))", "", "missing_section", ""),
        ("something that barks.", "a dog.\nDog(tom)", "unparsable_line", "Dog(tom)"),
        ("¬Dog(tom)", "∀x ¬Dog(x)", "inconsistent", "∀x ¬Dog(x)"),
    ],
)
def test_a_fault_is_shown_where_it_is(old, new, kind, where):
    text = TEXT.replace(old, new, 1)
    assert text != TEXT
    assert (kind, where) in found(text)


def test_without_declarations_most_uses_settle_the_number_of_arguments():
    text = TEXT[TEXT.index("Premises:") :].replace("∀x (Dog(x)", "∀x (Dog(x, ann)")
    assert found(text) == [("wrong_arity", "(x, ann)")]


def test_the_premises_of_a_wrong_proof_are_suspect():
    assert found(TEXT, "False") == [
        ("suspect", "∀x (Dog(x) → Barks(x))"),
        ("suspect", "∃x (Dog(x) ∧ Owns(ann, x))"),
        ("wrong_conclusion", "∃y (Owns(ann, y) ∧ Barks(y))"),
    ]
    assert len(found(TEXT, "False", FirstOrderVerifier(locate="conclusion"))) == 1


def test_where_nothing_follows_names_that_connect_nothing_are_shown():
    text = TEXT.replace("Owns(ann, x)", "Owns(anne, x)").replace("¬Dog(tom)", "¬Dog(rex)")
    assert [shown for shown in found(text) if shown[0] == "unconnected"] == [
        ("unconnected", "anne"),
        ("unconnected", "rex"),
        ("unconnected", "ann"),
    ]


def check(certificate, text):
    for finding in certificate.findings:
        assert 0 <= finding.start <= finding.end <= len(text)
        assert finding.kind in KINDS
        finding.message.encode()
    certificate.evidence.encode()


PIECES = [
    "Predicates:",
    "Premises:",
    "Conclusion:",
    "∀x",
    "∃y",
    "(",
    ")",
    "P(x)",
    "Q(a)",
    "R",
    "¬",
    "→",
    "∧",
    "⊕",
    "=",
    ",",
    ":::",
    "\n",
]
PIECES += [" ", "\0", "\ud800", "f(x)", "P(a, b)", "premise 1", "&&", "-", "."]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=40).map("".join)))
@settings(max_examples=200, deadline=None)
def test_any_text_gets_a_certificate(text):
    began = time.process_time()
    check(FirstOrderVerifier(strict=False).verify(problem("True"), text), text)
    lines = f"Premises:\n{text}\nConclusion:\nP(a)"
    check(FirstOrderVerifier().verify(problem("True"), lines), lines)
    assert time.process_time() - began < 8


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_damaged_answer_gets_a_certificate(data):
    start = data.draw(st.integers(0, len(TEXT)))
    text = TEXT[:start] + data.draw(st.sampled_from(PIECES)) + TEXT[data.draw(st.integers(start, len(TEXT))) :]
    began = time.process_time()
    certificate = FirstOrderVerifier(max_resources=300_000).verify(problem("True"), text)
    assert time.process_time() - began < 8
    check(certificate, text)
    assert certificate.correct or certificate.findings or not certificate.is_evidence


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        "Premises:\n" + "(" * 19_000,
        "Premises:\n" + " ⊕ ".join(["P(a)"] * 2_000) + "\nConclusion:\nP(a)",
        "Premises:\n" + " ↔ ".join(f"P{i}(a)" for i in range(1_500)) + "\nConclusion:\nP1(a)",
        "Premises:\n" + "P(a)\n" * 3_500 + "Conclusion:\nP(a)",
        "Premises:\n" + "∀x ∃y R(x, y)\n" * 60 + "Conclusion:\n∃x ∀y R(y, x)",
    ],
)
def test_large_answers_are_judged_in_bounded_time(text):
    began = time.process_time()
    check(FirstOrderVerifier(max_resources=500_000).verify(problem("True"), text), text)
    assert time.process_time() - began < 8


def test_names_that_z3_or_the_prover_use_are_names_like_any_other():
    text = "Premises:\n∀x (and1(x) → true(x))\nand1(false)\nThing(Thing)\nif(ite, ite)\nConclusion:\ntrue(false)"
    assert FirstOrderVerifier().verify(problem("True"), text).correct
    certificate = FirstOrderVerifier().verify(problem("Unknown"), "Premises:\nPremise1\nConclusion:\nconclusion")
    assert certificate.correct


def test_the_verifier_can_be_pickled_and_importing_it_does_not_import_z3():
    assert pickle.loads(pickle.dumps(FirstOrderVerifier(strict=False))) == FirstOrderVerifier(strict=False)
    script = "import sys, lit_symbolic.verifiers.fol; sys.exit('z3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


# --- public data ---


def test_prontoqa_as_first_order_logic_is_certified_whole():
    path = SHARED / "prontoqa" / "dev.json"
    if not path.exists():
        pytest.skip(f"needs the public data: prontoqa in {SHARED}")
    for row in json.loads(path.read_text())[:60]:
        program = read_program(translate_prontoqa(row["context"], row["question"].partition("? ")[2]))
        lines = [f"{'' if fact.value else '¬'}{fact.name}({fact.arguments[0]})" for fact in (*program.facts, program.query)]
        rules = [
            f"∀x ({rule.premises[0].name}(x) → {'' if rule.conclusions[0].value else '¬'}{rule.conclusions[0].name}(x))"
            for rule in program.rules
        ]
        text = "\n".join(["Premises:", *lines[:-1], *rules, "Conclusion:", lines[-1]])
        assert FirstOrderVerifier().verify(problem({"A": "True", "B": "False"}[row["answer"]]), text).correct, row["id"]
