import random
import re
from collections import Counter

from lit_symbolic.tasks.generating.program_sketches import KINDS, draw_operators
from lit_symbolic.tasks.generating.programs import draw_program
from lit_symbolic.tasks.listing import program

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
