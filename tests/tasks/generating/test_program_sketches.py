import random
import re
from collections import Counter

from lit_symbolic.tasks.generating.program_sketches import KINDS, NEIGHBOURS, draw_operators, one_operator_wrong
from lit_symbolic.tasks.generating.programs import draw_program
from lit_symbolic.tasks.listing import program
from programs_in_python import outputs

KIND_OF = {operator: kind for kind in KINDS for operator in kind}
WORDS = re.compile(r"[A-Za-z_0-9]+|[^\sA-Za-z_0-9]+|\s+")


def test_only_operators_change_and_only_within_their_kind():
    rng, changed = random.Random(0), Counter()
    for _ in range(300):
        code = program(draw_program(rng, (1, 3)).lines)
        before, after = WORDS.findall(code), WORDS.findall(draw_operators(code, 0.0, rng))
        assert len(before) == len(after)
        for old, new in zip(before, after, strict=True):
            if old != new:
                assert new in KIND_OF[old]
                changed[KIND_OF[old]] += 1
    assert changed.keys() == set(KINDS)


def test_loops_reading_and_printing_stay():
    code = "\n".join(
        [
            "cin >> a >> b;",
            "for (int i = 1; i <= a; i++) {",
            "while (n > 0) {",
            "n /= 10;",
            'cout << a << " " << b << endl;',
            "a++;",
        ]
    )
    assert {draw_operators(code, 0.0, random.Random(seed)) for seed in range(30)} == {code}


def test_each_operator_of_a_kind_is_drawn_equally_often_and_so_many_stay():
    rng = random.Random(1)
    drawn = Counter(draw_operators("x = a + b;", 0.0, rng) for _ in range(2000))
    assert drawn.keys() == {f"x = a {operator} b;" for operator in KINDS[0]}
    assert all(320 <= count <= 480 for count in drawn.values())  # 400 expected, standard deviation 18
    stayed = sum(draw_operators("if (a < b) {", 0.4, rng) == "if (a < b) {" for _ in range(2000))
    assert 900 <= stayed <= 1100  # 0.4 + 0.6 / 6 of them, standard deviation 22


def test_a_program_with_one_operator_wrong_differs_in_that_alone_and_ends_as_the_right_one_does():
    rng = random.Random(2)
    for found in (draw_program(rng, (1, 3)) for _ in range(150)):
        code = program(found.lines)
        before = WORDS.findall(code)
        given = found.input(rng)
        for other in one_operator_wrong(code):
            after = WORDS.findall(other)
            [(old, new)] = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
            assert new in NEIGHBOURS[old]
            assert KIND_OF[new] == KIND_OF[old]
            assert outputs(other, given), "it comes to its end"


def test_loops_are_not_made_wrong_and_every_other_operator_is():
    code = "\n".join(["for (int i = 1; i <= a; i++) {", "while (n > 0) {", "n /= 10;", "s += max(a, i % 2);", "if (a == b) {"])
    wrong = Counter(line for other in one_operator_wrong(code) for line in other.split("\n") if line not in code)
    assert wrong == Counter(
        ["s -= max(a, i % 2);", "s += min(a, i % 2);", "s += max(a, i / 2);", "if (a != b) {", "if (a >= b) {"]
    )
