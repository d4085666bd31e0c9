import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.verifiers.reasoning.formula import (
    CONNECTIVES,
    MAX_DEPTH,
    Connective,
    FormulaError,
    Negation,
    Predicate,
    Quantified,
    Term,
    parts,
    read_formula,
    terms,
    write,
)

SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", Path(__file__).parents[4] / "shared" / "data"))

names = st.sampled_from(["rex", "gpt-3", "mr.smith", "a+", "2022", "x", "y"])
a_term = st.recursive(
    names.map(Term), lambda inner: st.builds(Term, st.just("f"), st.lists(inner, min_size=1, max_size=2).map(tuple))
)
atoms = st.builds(Predicate, st.sampled_from(["Dog", "Eco-friendly", "Q"]), st.lists(a_term, max_size=2).map(tuple)) | st.builds(
    Predicate, st.just("="), st.tuples(a_term, a_term)
)


def connective(inner):
    def build(symbol, operands):
        # A chain of one symbol reads as one formula; only → groups, to the right.
        same = [isinstance(operand, Connective) and operand.symbol == symbol for operand in operands]
        return Connective(symbol, tuple(operands)) if not any(same) else Negation(operands[0])

    chains = st.builds(build, st.sampled_from("∧∨⊕↔"), st.lists(inner, min_size=2, max_size=3))
    return chains | st.builds(lambda left, right: Connective("→", (left, right)), inner, inner)


formulas = st.recursive(
    atoms,
    lambda inner: (
        st.builds(Negation, inner)
        | connective(inner)
        | st.builds(Quantified, st.sampled_from("∀∃"), st.sampled_from("xy"), inner)
    ),
    max_leaves=12,
)


@given(formulas)
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_again(formula):
    # With x and y bound: where they are free, a quantifier may be read as a wider one.
    closed = Quantified("∀", "x", Quantified("∃", "y", formula))
    assert read_formula(write(closed)) == closed


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("A ∧ B ∨ C ⊕ D → E ↔ F", "((((A ∧ B) ∨ C) ⊕ D) → E) ↔ F"),
        ("A → B → C", "A → (B → C)"),
        ("¬A ∧ B", "(¬A) ∧ B"),
        ("∀x P(x) ∧ B", "(∀x P(x)) ∧ B"),
        ("∀x (P(x)) → Q(x)", "∀x ((P(x)) → Q(x))"),
        ("∀x. P(x) → Q(x)", "∀x (P(x) → Q(x))"),
        ("∀x,y R(x, y)", "∀x ∀y R(x, y)"),
        (r"\forall x \exists y (R(x, y) /\ ~P(y))", "∀x ∃y (R(x, y) ∧ ¬P(y))"),
        ("all_dogs & !P(a) || Q(a) <-> R(a)", "(all_dogs ∧ ¬P(a)) ∨ Q(a) ↔ R(a)"),
        ("forall x (P(x) => -Q(x))", "∀x (P(x) → ¬Q(x))"),
        ("not P(a) and Q(a) or R(a) xor S(a)", "(¬P(a) ∧ Q(a) ∨ R(a)) ⊕ S(a)"),
        ("a ≠ b ∧ f(a) != c", "¬(a = b) ∧ ¬(f(a) = c)"),
        ("P(a) ^ Q(a).", "P(a) ∧ Q(a)"),
    ],
)
def test_alphabets_and_precedences(text, same):
    assert read_formula(text) == read_formula(same)


@pytest.mark.parametrize(
    ("text", "place", "expected"),
    [
        ("", 0, "a formula"),
        ("P(a", 3, ", or )"),
        ("P(a))", 4, "a connective or the end of the formula"),
        ("(P(a)", 5, "a connective or )"),
        ("P(a) Q(b)", 5, "a connective or the end of the formula"),
        ("P(captain america)", 10, ", or )"),
        ("P()", 2, "a constant or a variable"),
        ("∀ (P(x))", 2, "a variable"),
        ("P(a) → ∧ Q(a)", 7, "a formula"),
        ("P(a) § Q(a)", 5, "a connective or the end of the formula"),
        ("a = ", 4, "a constant or a variable"),
    ],
)
def test_a_fault_is_at_the_first_character_that_cannot_be_read(text, place, expected):
    with pytest.raises(FormulaError) as error:
        read_formula(text)
    assert (error.value.place, error.value.expected) == (place, expected)


def test_spans_are_those_of_the_text():
    text = "!! ∀x (Dog(x) ∧ ¬Barks(f(x), rex) → x = rex) !!"
    formula = read_formula(text, 2, len(text) - 2)
    shown = [text[part.start : part.end] for part in parts(formula)]
    assert shown == [
        "∀x (Dog(x) ∧ ¬Barks(f(x), rex) → x = rex)",
        "Dog(x) ∧ ¬Barks(f(x), rex) → x = rex",
        "Dog(x) ∧ ¬Barks(f(x), rex)",
        "Dog(x)",
        "¬Barks(f(x), rex)",
        "Barks(f(x), rex)",
        "x = rex",
    ]
    assert [text[term.start : term.end] for term in terms(formula)] == ["x", "f(x)", "x", "rex", "x", "rex"]


@pytest.mark.parametrize("opening", ["(", "¬", "∀x ", "P → ", "P(f("])
def test_depth_is_bounded(opening):
    with pytest.raises(FormulaError, match=f"at most {MAX_DEPTH} nested"):
        read_formula(opening * 50_000 + "P(x)")


@pytest.mark.parametrize("symbol", CONNECTIVES.replace("→", ""))
def test_length_is_not(symbol):
    formula = read_formula(f" {symbol} ".join(["P(a)"] * 5_000))
    assert len(formula.operands) == 5_000
    assert len(write(formula)) > 30_000


@given(st.text(alphabet="∀∃x()¬∧→PQ,.=- \n\0\ud800é", max_size=40) | st.text(max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_formula_or_has_a_fault_inside(text):
    try:
        formula = read_formula(text)
        spans = [(part.start, part.end) for part in parts(formula)]
    except FormulaError as error:
        spans = [(error.place, error.place + 1)]
    assert all(0 <= start < end <= len(text) + 1 for start, end in spans)


def test_formulas_of_malls_and_folio_are_read_but_for_the_broken_ones():
    if not (SHARED / "folio").exists() or not (SHARED / "malls").exists():
        pytest.skip(f"needs the public data: folio, malls in {SHARED}")
    for row in json.loads((SHARED / "malls" / "MALLS-v0.1-test.json").read_text()):
        formula = read_formula(row["FOL"])
        assert read_formula(write(formula)) == formula
    broken = set()
    lines = (SHARED / "folio" / "folio-train.jsonl").read_text().splitlines()
    for premise in {premise for line in lines for premise in json.loads(line)["premises-FOL"]}:
        try:
            read_formula(premise)
        except FormulaError:
            broken.add(premise)
    # Unbalanced parentheses, names with a blank, a connective that is missing, and one empty line.
    unbalanced = {p for p in broken if p.count("(") != p.count(")")}
    blank = {p for p in broken if "captain america" in p or "dc universe" in p}
    assert (len(unbalanced), len(blank), len(broken)) == (7, 4, 13)
