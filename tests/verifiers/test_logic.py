import json
import os
import pickle
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_symbolic.certificate import Problem, Status
from lit_symbolic.verifiers.logic import KINDS, LogicVerifier
from lit_symbolic.verifiers.reasoning.program import read_program
from rule_english import translate, translate_prontoqa

SHARED = Path(os.environ.get("LIT_SYMBOLIC_DATA", Path(__file__).parents[3] / "shared" / "data"))

PROGRAM = """\
Predicates:
Cold($x, bool) ::: Is x cold?
Kind($x, bool) ::: Is x kind?
Sees($x, $y, bool) ::: Does x see y?

Facts:
Cold(Bob, True) ::: Bob is cold.
Kind(Bob, False) ::: Bob is not kind.
Sees(Cat, Bob, True) ::: The cat sees Bob.

Rules:
Sees($x, Bob, True) && Cold(Bob, True) >>> Kind($x, True) ::: Whoever sees Bob is kind, if Bob is cold.
Kind($x, True) >>> Cold($x, False) ::: Kind people are not cold.

Query:
Cold(Cat, True) ::: The cat is cold."""


def problem(answer, world="open", **facts):
    return Problem("logic", "1", "", {"answer": answer, "world": world, **facts})


def found(text, answer="False", verifier=None, **facts):
    certificate = (verifier or LogicVerifier()).verify(problem(answer, **facts), text)
    return [(finding.kind, text[finding.start : finding.end]) for finding in certificate.findings]


# --- conclusions ---


def test_a_program_is_right_if_its_conclusion_is_and_shows_its_proof():
    certificate = LogicVerifier().verify(problem("False"), PROGRAM)
    assert certificate.correct
    assert certificate.score == 1.0
    assert certificate.evidence.splitlines()[0] == "Cold(Cat, False)"
    assert certificate.measures["proof_steps"] == 2.0
    assert (certificate.measures["facts"], certificate.measures["rules"]) == (3.0, 2.0)


@pytest.mark.parametrize(
    ("query", "world", "answer"),
    [
        ("Cold(Cat, False)", "open", "True"),
        ("Cold(Cat, True)", "open", "False"),
        ("Sees(Bob, Cat, True)", "open", "Unknown"),
        ("Sees(Bob, Cat, False)", "open", "Unknown"),
        ("Sees(Bob, Cat, True)", "closed", "False"),
        ("Sees(Bob, Cat, False)", "closed", "True"),
        ("Kind(Cat, False)", "closed", "False"),
    ],
)
def test_queries_are_answered_by_their_truth_value_and_the_world(query, world, answer):
    text = PROGRAM.replace("Cold(Cat, True) ::: The", f"{query} ::: The")
    for candidate in ("True", "False", "Unknown"):
        certificate = LogicVerifier().verify(problem(candidate, world), text)
        assert certificate.correct == (candidate == answer)
        assert certificate.measures["right_conclusion"] == (candidate == answer)


def test_what_is_derived_both_ways_is_a_contradiction_and_both_proofs_are_suspect():
    text = PROGRAM.replace("Kind(Bob, False)", "Cold(Cat, True)")
    kinds = found(text)
    assert ("wrong_conclusion", "Cold(Cat, True)") in kinds
    assert ("suspect", "Cold(Cat, True)") in kinds
    assert ("suspect", "Kind($x, True) >>> Cold($x, False)") in kinds
    assert LogicVerifier().verify(problem("Contradiction"), text).correct


def test_the_compatible_option_answers_unknown_to_every_relation_and_false_to_a_contradiction():
    compatible = LogicVerifier(upstream_compatible=True)
    assert compatible.verify(problem("False"), PROGRAM).correct
    relation = PROGRAM.replace("Cold(Cat, True) ::: The", "Sees(Cat, Bob, True) ::: The")
    assert LogicVerifier().verify(problem("True"), relation).correct
    assert compatible.verify(problem("Unknown"), relation).correct
    assert found(relation, "True", compatible) == [("wrong_conclusion", "Sees(Cat, Bob, True)")]
    both = PROGRAM.replace("Kind(Bob, False)", "Cold(Cat, True)")
    assert compatible.verify(problem("False"), both).correct
    undeclared = PROGRAM.replace("Kind($x, bool) ::: Is x kind?\n", "")
    assert not LogicVerifier().verify(problem("False"), undeclared).correct
    assert compatible.verify(problem("False"), undeclared).correct


# --- faults of the program's own ---


@pytest.mark.parametrize(
    ("old", "new", "kind", "where"),
    [
        ("Cold(Bob, True) :::", "Cold(Bob, True :::", "unparsable_line", ""),
        ("Cold(Bob, True) :::", "Cold(Bob, Maybe) :::", "unparsable_line", "Maybe)"),
        ("Cold(Bob, True) :::", "Cold Bob :::", "unparsable_line", "Bob"),
        ("Kind($x, bool)", "Kind($x)", "unparsable_line", "$x)"),
        ("Kind($x, True) >>>", "Kind($x, True) =>", "unparsable_line", "=> Cold($x, False)"),
        ("Kind($x, True) >>>", "Kind($x, True) &&", "unparsable_line", ""),
        ("&& Cold", ">>> Cold", "unparsable_line", ">>> Kind($x, True)"),
        ("&& Cold", "&& && Cold", "unparsable_line", "&& Cold(Bob, True) >>> Kind($x, True)"),
        ("Facts:", "Facts:\nhere they are", "unparsable_line", "they are"),
        ("Rules:", "Facts:", "unparsable_line", "Facts:"),
        ("Predicates:", "Sure!\nPredicates:", "unparsable_line", "Sure!"),
        ("The cat is cold.", "?\nCold(Bob, True)", "unparsable_line", "Cold(Bob, True)"),
        ("Sees(Cat, Bob", "Seees(Cat, Bob", "undeclared_predicate", "Seees"),
        ("Sees(Cat, Bob", "Sees(Cat, Bob, Al", "wrong_arity", "(Cat, Bob, Al, True)"),
        ("Cold(Cat, True)", "Cold(True)", "wrong_arity", "(True)"),
        ("Cold($x, False)", "Cold($y, False)", "unbound_variable", "$y"),
        ("Kind(Bob, False)", "Kind($who, False)", "unbound_variable", "$who"),
        ("Cold(Cat, True)", "Cold($x, True)", "unbound_variable", "$x"),
        ("Query:\nCold(Cat, True) ::: The cat is cold.", "", "missing_section", ""),
    ],
)
def test_a_fault_is_shown_where_it_is(old, new, kind, where):
    text = PROGRAM.replace(old, new, 1)
    assert text != PROGRAM
    assert (kind, where) in found(text)


def test_one_fault_is_one_finding_and_the_rest_is_still_judged():
    text = PROGRAM.replace("Kind(Bob, False)", "Kid(Bob, False)")
    certificate = LogicVerifier().verify(problem("False"), text)
    assert [finding.kind for finding in certificate.findings] == ["undeclared_predicate"]
    assert certificate.measures["right_conclusion"] == 1.0
    assert not certificate.correct
    assert certificate.score == pytest.approx(8 / 9 / 2)


def test_without_declarations_the_first_use_counts_and_the_section_is_missed():
    text = PROGRAM[PROGRAM.index("Facts:") :].replace("Kind(Bob, False)", "Kind(Bob, Al, False)")
    kinds = [kind for kind, _ in found(text)]
    assert kinds.count("missing_section") == 1
    assert kinds.count("wrong_arity") == 2


def test_predicates_that_the_problem_does_not_have_are_shown_at_their_declaration():
    assert found(PROGRAM, predicates={"Cold": 1, "Kind": 1, "Sees": 2}) == []
    kinds = found(PROGRAM, predicates={"Cold": 1, "Sees": 1})
    assert kinds[:2] == [("undeclared_predicate", "Kind"), ("wrong_arity", "($x, $y, bool)")]


def test_a_negation_on_a_circle_is_a_finding_in_a_closed_world_only():
    text = PROGRAM.replace("Kind($x, True) >>> Cold($x, False)", "Kind($x, False) >>> Kind($x, True)")
    assert ("unstratified", "Kind($x, False)") in found(text, world="closed")
    assert not [kind for kind, _ in found(text, "Unknown") if kind == "unstratified"]


def test_lines_of_a_chat_model_are_skipped_if_not_strict():
    text = f"Here is the program:\n```\n{PROGRAM}\n```\nI hope this helps!"
    assert LogicVerifier(strict=False).verify(problem("False"), text).correct
    assert {kind for kind, _ in found(text)} == {"unparsable_line"}


# --- where a wrong conclusion comes from ---


def test_of_a_wrong_proof_its_statements_are_suspect_and_no_others():
    kinds = found(PROGRAM, "Unknown")
    assert kinds[-1] == ("wrong_conclusion", "Cold(Cat, True)")
    assert [text for kind, text in kinds if kind == "suspect"] == [
        "Cold(Bob, True)",
        "Sees(Cat, Bob, True)",
        "Sees($x, Bob, True) && Cold(Bob, True) >>> Kind($x, True)",
        "Kind($x, True) >>> Cold($x, False)",
    ]
    assert found(PROGRAM, "Unknown", LogicVerifier(locate="query")) == kinds[-1:]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("Sees($x, Bob, True) &&", "Sees($x, Nobody, True) &&", ("never_applicable", "Sees($x, Nobody, True)")),
        ("&& Cold(Bob, True)", "&& Cold(Bob, False)", ("never_applicable", "Cold(Bob, False)")),
        ("Cold(Bob, True) :::", "Cold(Bob, False) :::", ("suspect", "Cold(Bob, False)")),
        (">>> Kind($x, True)", ">>> Kind($x, False)", ("suspect", "Sees($x, Bob, True) && Cold(Bob, True) >>> Kind($x, False)")),
    ],
)
def test_where_the_right_conclusion_does_not_follow_what_stands_in_the_way_is_shown(old, new, expected):
    assert expected in found(PROGRAM.replace(old, new, 1))


def test_a_conclusion_that_nothing_asks_for_is_suspect_where_another_is_missing():
    text = PROGRAM.replace(">>> Kind($x", ">>> Kid($x").replace("Facts:", "Kid($x, bool)\nFacts:")
    assert ("suspect", "Kid($x, True)") in found(text)


def test_unused_rules_are_no_fault_of_a_right_program():
    text = PROGRAM.replace("Rules:", "Rules:\nKind(Nobody, True) >>> Kind(Bob, True)")
    certificate = LogicVerifier().verify(problem("False"), text)
    assert certificate.correct
    assert certificate.measures["rules_unused"] == pytest.approx(1 / 3)


# --- hostile answers ---


def check(certificate, text):
    for finding in certificate.findings:
        assert 0 <= finding.start <= finding.end <= len(text)
        assert finding.kind in KINDS
        finding.message.encode()
    certificate.evidence.encode()


PIECES = ["Predicates:", "Facts:", "Rules:", "Query:", "Cold", "Sees", "(", ")", ",", "$x", "$y", "Bob", "True", "False", "bool"]
PIECES += ["&&", ">>>", ":::", "\n", " ", "\0", "\ud800", "é", "(Bob, True)", "Cold($x, True)", "\r\n", "\t"]


@given(st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=80).map("".join)), st.sampled_from(["open", "closed"]))
@settings(max_examples=400, deadline=None)
def test_any_text_gets_a_certificate(text, world):
    began = time.process_time()
    for verifier in (LogicVerifier(), LogicVerifier(strict=False, upstream_compatible=True)):
        check(verifier.verify(problem("True", world), text), text)
    assert time.process_time() - began < 3


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_any_damaged_program_gets_a_certificate(data):
    start = data.draw(st.integers(0, len(PROGRAM)))
    end = data.draw(st.integers(start, min(len(PROGRAM), start + 30)))
    text = PROGRAM[:start] + data.draw(st.sampled_from(PIECES)) + PROGRAM[end:]
    began = time.process_time()
    for world in ("open", "closed"):
        certificate = LogicVerifier().verify(problem("False", world), text)
        check(certificate, text)
        assert certificate.correct or certificate.findings
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    "text",
    [
        "x" * 1_000_000,
        "Query:\n" + "Cold(" * 3_000,
        "Rules:\n" + "P(a, True) && " * 1_400,
        "Facts:\n" + "P(a)\n" * 3_900,
        "Facts:\n" + "".join(f"P(c{i}, True)\n" for i in range(800))
        + "Rules:\n" + " && ".join(f"P($v{i}, True)" for i in range(200)) + " >>> P($v0, True)\nQuery:\nP(a, True)",
        "Rules:\n" + " && ".join(f"P($v{i}, False)" for i in range(600)) + " >>> Q($v0, True)\nQuery:\nQ(a, True)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("world", ["open", "closed"])
def test_large_answers_are_judged_in_bounded_time(text, world):
    began = time.process_time()
    check(LogicVerifier().verify(problem("True", world), text), text)
    assert time.process_time() - began < 3


def test_what_is_too_long_or_too_costly_is_rejected():
    long = LogicVerifier(max_characters=10).verify(problem("False"), PROGRAM)
    assert (long.status, long.findings[0].kind, long.findings[0].end) == (Status.REJECTED, "too_long", len(PROGRAM))
    costly = LogicVerifier(max_steps=2).verify(problem("False"), PROGRAM)
    assert (costly.status, costly.findings[0].kind) == (Status.REJECTED, "too_costly")


def test_the_verifier_can_be_pickled_and_says_the_same_again():
    verifier = pickle.loads(pickle.dumps(LogicVerifier(strict=False)))
    assert verifier == LogicVerifier(strict=False)
    assert verifier.verify(problem("Unknown"), PROGRAM) == LogicVerifier(strict=False).verify(problem("Unknown"), PROGRAM)


# --- the reader ---


def test_every_span_of_the_reader_holds_its_statement():
    program = read_program(PROGRAM)
    assert program.findings == []
    assert [str(fact) for fact in program.facts] == [PROGRAM[fact.start : fact.end] for fact in program.facts]
    for rule in program.rules:
        for literal in (*rule.premises, *rule.conclusions):
            assert str(literal) == PROGRAM[literal.start : literal.end]
    assert [PROGRAM[d.start : d.start + len(d.name)] for d in program.declarations] == ["Cold", "Kind", "Sees"]
    assert program.statements == 9


def test_blanks_and_comments_change_nothing():
    spaced = (
        PROGRAM.replace("(", " ( ").replace(",", " , ").replace(")", " ) ").replace("\n", " \r\n\n").replace(":::", " ::: a && b")
    )
    one, other = read_program(PROGRAM), read_program(spaced)
    assert [str(f) for f in other.facts] == [str(f) for f in one.facts]
    assert other.findings == []
    assert LogicVerifier().verify(problem("False"), spaced).correct


# --- public data ---


def rows(*path):
    if not SHARED.joinpath(*path).exists():
        pytest.skip(f"needs the public data: {'/'.join(path)} in {SHARED}")
    return json.loads(SHARED.joinpath(*path).read_text())


def test_a_perfect_translation_of_proofwriter_is_certified_whole_and_four_fifths_of_it_by_the_compatible_option():
    counts = {False: 0, True: 0}
    data = rows("proofwriter", "dev.json")
    for row in data:
        text = translate(row["context"], row["question"].partition("? ")[2])
        answer = {"A": "True", "B": "False", "C": "Unknown"}[row["answer"]]
        for compatible in counts:
            counts[compatible] += LogicVerifier(upstream_compatible=compatible).verify(problem(answer), text).correct
    assert counts == {False: len(data), True: 479}


def test_a_perfect_translation_of_prontoqa_is_certified_whole():
    for row in rows("prontoqa", "dev.json"):
        text = translate_prontoqa(row["context"], row["question"].partition("? ")[2])
        assert LogicVerifier().verify(problem({"A": "True", "B": "False"}[row["answer"]]), text).correct, row["id"]
