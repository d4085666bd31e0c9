"""The cache of certificates: what counts as the same question, what is kept, and what a folder on disk can and cannot do."""

import copy
import os
import pickle
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lit_symbolic
from lit_symbolic.certificate import Certificate, Finding, Problem, Status
from lit_symbolic.verifiers.game24 import Game24Verifier
from lit_symbolic.verifiers.pool import VerifierPool
from lit_symbolic.verifiers.pooling import cache
from lit_symbolic.verifiers.pooling.cache import (
    CertificateCache,
    Uncacheable,
    answer_digest,
    digest_of,
    from_json,
    to_json,
    verifier_digest,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from faulty import Counted, CountedToo, Obedient, Wraps
from processes import nothing_is_left  # noqa: F401 - a fixture of every test here

PROBLEM = Problem("test", "0", "?", {"cards": (4, 4, 6, 8), "words": ["a", "b"]})
CERTIFICATE = Certificate(False, 0.25, (Finding(0, 1, "goal", "no"),), {"length": 1.0}, evidence="0")


@pytest.fixture
def counted(tmp_path: Path) -> Counted:
    return Counted(str(tmp_path / "calls"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is not there yet, for a cache on disk."""
    pytest.importorskip("diskcache", reason="needs diskcache: pip install diskcache")
    return tmp_path / "cache"


# ---------------------------------------------------------------- in a pool


def test_an_equal_answer_is_verified_once_and_counted_as_a_hit(counted: Counted) -> None:
    with VerifierPool(workers=2) as pool:
        first = pool.verify(counted, [(PROBLEM, "a"), (PROBLEM, "b")])
        # Equal by value: another object of the verifier and of the problem.
        again = pool.verify(replace(counted), [(copy.deepcopy(PROBLEM), text) for text in "abab"])
        statistics = pool.statistics
    assert again == first * 2
    assert sorted(counted.calls()) == ["a", "b"]
    assert (statistics.verified, statistics.hits, statistics.duplicates) == (6, 4, 0)


def test_the_cache_outlives_the_workers_of_its_pool(counted: Counted) -> None:
    pool = VerifierPool(workers=1)
    for _ in range(3):
        pool.verify(counted, [(PROBLEM, "a")])
        pool.close()
    assert counted.calls() == ["a"]
    assert pool.statistics.hits == 2


def test_duplicates_in_flight_are_verified_once(tmp_path: Path) -> None:
    slow = Counted(str(tmp_path / "calls"), seconds=0.3)
    with VerifierPool(workers=2) as pool:
        batch = pool.batch()
        for row in range(20):
            batch.add(row, slow, PROBLEM, "ab"[row % 2])
        result = batch.wait()
        statistics = pool.statistics
    assert [certificate.findings[0].message for certificate in result.certificates] == ["a", "b"] * 10
    assert sorted(slow.calls()) == ["a", "b"]
    assert (statistics.verified, statistics.hits, statistics.duplicates) == (20, 0, 18)
    assert 0.5 < result.seconds_busy < 1.5  # each worker's time once


def test_a_duplicate_may_be_cancelled_alone(tmp_path: Path) -> None:
    slow = Counted(str(tmp_path / "calls"), seconds=0.3)
    with VerifierPool(workers=1) as pool:
        pool.submit(slow, PROBLEM, "before them")
        first, second = pool.submit(slow, PROBLEM, "a"), pool.submit(slow, PROBLEM, "a")
        assert first.cancel()
        assert second.result().measures == {"length": 1}
    assert slow.calls() == ["before them", "a"]


@pytest.mark.parametrize("fault", ["raise", "segfault", "hang"])
def test_what_is_no_evidence_is_never_kept(fault: str) -> None:
    with VerifierPool(workers=1, deadline_seconds=0.3) as pool:
        for count in (1, 2):
            assert not pool.verify(Obedient(), [(PROBLEM, fault)])[0].is_evidence
            assert pool.statistics.crashes + pool.statistics.timeouts == count
        assert pool.statistics.hits == 0


def test_without_a_cache_every_answer_is_verified(counted: Counted) -> None:
    with VerifierPool(workers=2, cache_megabytes=0) as pool:
        pool.verify(counted, [(PROBLEM, "a")] * 5)
        assert (pool.statistics.hits, pool.statistics.duplicates) == (0, 0)
    assert counted.calls() == ["a"] * 5


@dataclass(frozen=True)
class HasAFunction:
    inner: Callable[[], None]
    counted: Counted

    def verify(self, problem: Problem, text: str) -> Certificate:
        return self.counted.verify(problem, text)


def test_a_verifier_without_a_canonical_form_is_verified_every_time(counted: Counted) -> None:
    with VerifierPool(workers=1) as pool:
        pool.verify(HasAFunction(lambda: None, counted), [(PROBLEM, "a")] * 3)
        pool.verify(counted, [(replace(PROBLEM, facts={"f": HasAFunction}), "a")])  # a fact that can: a class by its name
        assert pool.statistics.hits == pool.statistics.duplicates == 0
    assert counted.calls() == ["a"] * 4


def test_who_changes_a_certificates_measures_changes_no_other(counted: Counted) -> None:
    with VerifierPool(workers=1) as pool:
        for _ in range(3):
            (certificate,) = pool.verify(counted, [(PROBLEM, "a")])
            assert certificate.measures == {"length": 1}
            certificate.measures["length"] = 99  # type: ignore[index]


# ---------------------------------------------------------------- the key


def key(verifier: Any, problem: Problem = PROBLEM, text: str = "a") -> bytes:
    return answer_digest(verifier_digest(verifier), digest_of(problem), text)


def test_the_key_tells_apart_verifier_settings_problem_and_text(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = Counted("x")

    class Versioned(Counted):
        version = "2"

    keys = [
        key(counted),
        key(Counted("y")),
        key(Counted("x", 0.5)),
        key(CountedToo("x")),
        key(Wraps(counted)),
        key(Wraps(Counted("y"))),
        key(Game24Verifier()),
        key(Game24Verifier(strict=False)),
        key(Game24Verifier(max_characters=3_999)),
        key(counted, text="b"),
        key(counted, text=""),
        key(counted, text="\ud800"),
        *(key(counted, replace(PROBLEM, **{name: "other"})) for name in ("task", "id", "prompt", "reference")),
        key(counted, replace(PROBLEM, facts={})),
        key(counted, replace(PROBLEM, facts={"cards": [4, 4, 6, 8], "words": ["a", "b"]})),
        key(counted, replace(PROBLEM, facts={"cards": (4, 4, 6, 8.0), "words": ["a", "b"]})),
        key(counted, replace(PROBLEM, facts={"cards": (4, 4, 6, 8), "words": ["ab"]})),
    ]
    assert len(set(keys)) == len(keys)
    with pytest.raises(Uncacheable, match="Versioned"):
        key(Versioned("x"))  # defined in a function: another class could bear the same name


def test_a_new_version_of_the_class_the_package_or_the_source_is_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = [key(Counted("x")), key(Wraps(Counted("x")))]
    monkeypatch.setattr(Counted, "version", "2")
    versioned = [key(Counted("x")), key(Wraps(Counted("x")))]  # also of a verifier inside another
    monkeypatch.undo()
    assert [key(Counted("x")), key(Wraps(Counted("x")))] == before
    monkeypatch.setattr(lit_symbolic, "__version__", "99")
    released = [key(Counted("x")), key(Wraps(Counted("x")))]
    monkeypatch.undo()
    monkeypatch.setattr("lit_symbolic.verifiers.pooling.cache._source_digest", lambda module: module.encode())
    edited = [key(Counted("x")), key(Wraps(Counted("x")))]
    assert len({*before, *versioned, *released, *edited}) == 8


def test_a_change_of_any_source_file_under_the_verifiers_is_another_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for index, (name, text) in enumerate([("cpp.py", "a"), ("compiling/braces.py", "a"), ("compiling/braces.py", "b")]):
        folder = tmp_path / str(index)
        (folder / "compiling").mkdir(parents=True)
        (folder / name).write_text(text)
        monkeypatch.setattr(cache, "SOURCES", folder)
        digests.add(cache.verifier_digest(Game24Verifier()))
    assert len(digests) == 3


def test_a_pool_asks_again_when_a_verifiers_version_changes(
    counted: Counted, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in ("1", "2", "1"):
        monkeypatch.setattr(Counted, "version", version)
        with VerifierPool(workers=1, cache_directory=str(folder)) as pool:
            pool.verify(counted, [(PROBLEM, "a")])
    assert counted.calls() == ["a", "a"]


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None))
    | st.binary()
    | st.fractions(),
    lambda inner: (
        st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(PLAIN, PLAIN)
def test_digests_are_equal_exactly_where_values_are(left: object, right: object) -> None:
    assert (digest_of(left) == digest_of(right)) == (repr(left) == repr(right))
    assert digest_of(left) == digest_of(pickle.loads(pickle.dumps(left)))
    assert digest_of([left, left]) == digest_of([left, copy.deepcopy(left)])


def test_a_digest_does_not_depend_on_what_is_shared_as_a_pickle_does() -> None:
    word = "".join(["wo", "rd"])
    shared, apart = [word, word], [word, "".join(["wo", "rd"])]
    assert pickle.dumps(shared) != pickle.dumps(apart)
    assert digest_of(shared) == digest_of(apart)


def test_a_digest_is_the_same_in_another_process() -> None:
    code = (
        "from lit_symbolic.verifiers.pooling.cache import *; from lit_symbolic.verifiers.game24 import Game24Verifier;"
        "from fractions import Fraction;"
        "print(digest_of({'a': {'x', 'y', 'z', 'w'}, 'b': Fraction(1, 3)}).hex(), verifier_digest(Game24Verifier()).hex())"
    )
    expected = [digest_of({"a": {"x", "y", "z", "w"}, "b": Fraction(1, 3)}).hex(), verifier_digest(Game24Verifier()).hex()]
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(lit_symbolic.__file__).parents[1])}
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
        assert run.stdout.split() == expected


def test_what_contains_itself_or_cannot_be_taken_apart_has_no_digest() -> None:
    circle: list[object] = []
    circle.append(circle)
    for value in (circle, lambda: None, sys, open(os.devnull), object().__str__):  # noqa: SIM115
        with pytest.raises(Uncacheable):
            digest_of(value)


# ---------------------------------------------------------------- memory and disk


def numbered(number: int) -> bytes:
    return digest_of(number)


def test_memory_is_bounded_and_what_was_used_last_stays() -> None:
    cache = CertificateCache(megabytes=0.1)
    for number in range(1000):
        cache.put(numbered(number), replace(CERTIFICATE, evidence=f"{number:1000}"))
        assert cache.get(numbered(0)) is not None
    assert 50 < len(cache) < 0.1 * 2**20 / 1000
    assert cache.get(numbered(999)) is not None
    assert cache.get(numbered(1)) is None


def test_a_certificate_larger_than_the_cache_is_not_kept() -> None:
    cache = CertificateCache(megabytes=0.001)
    cache.put(numbered(0), replace(CERTIFICATE, evidence="x" * 2000))
    assert len(cache) == 0
    cache.put(numbered(0), Certificate(True, 1.0))
    assert cache.get(numbered(0)) == Certificate(True, 1.0)


FINITE = st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(codec=None), max_size=30)
CERTIFICATES = st.builds(
    Certificate,
    correct=st.just(False),
    score=st.floats(0, 1),
    findings=st.lists(
        st.builds(lambda a, b, k, m: Finding(min(a, b), max(a, b), k, m), *[st.integers(0, 10**6)] * 2, TEXT, TEXT), max_size=3
    ).map(tuple),
    measures=st.dictionaries(TEXT, FINITE | st.integers(), max_size=3),
    status=st.sampled_from([Status.OK, Status.REJECTED]),
    evidence=TEXT,
)


@settings(deadline=None)
@given(CERTIFICATES)
def test_a_certificate_comes_back_from_json_as_it_was(certificate: Certificate) -> None:
    text = to_json(certificate)
    assert text is not None
    assert text.isascii()
    found = from_json(text)
    assert found == certificate
    assert found is not None
    assert found.status is certificate.status
    assert [type(value) for value in found.measures.values()] == [type(value) for value in certificate.measures.values()]


def test_what_json_would_change_is_not_written() -> None:
    for measures in ({"a": float("nan")}, {1: 1.0}, {"a": Fraction(1, 2)}, {"a": object()}):
        assert to_json(Certificate(False, 0.0, measures=measures)) is None  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.recursive(st.none() | st.booleans() | FINITE | TEXT, lambda i: st.lists(i) | st.dictionaries(TEXT, i)) | PLAIN)
def test_anything_else_on_disk_is_no_certificate(value: Any) -> None:
    import json

    try:
        text = json.dumps(value)
    except TypeError:
        text = str(value)
    assert from_json(text) is None
    for place in range(6):
        fields = [False, 0.5, [[0, 1, "goal", "no"]], {"a": 1.0}, "ok", ""]
        fields[place] = 5
        assert from_json(json.dumps(fields)) is None


def test_another_process_finds_what_is_on_disk(counted: Counted, folder: Path) -> None:
    with VerifierPool(workers=1, cache_directory=str(folder)) as pool:
        first = pool.verify(counted, [(PROBLEM, text) for text in ("a", "b\ud800")])
    code = (
        "import sys; from faulty import Counted; from lit_symbolic.certificate import Problem;"
        "from lit_symbolic.verifiers.pool import VerifierPool;"
        "p = Problem('test', '0', '?', {'cards': (4, 4, 6, 8), 'words': ['a', 'b']});"
        "pool = VerifierPool(workers=1, cache_directory=sys.argv[2]);"
        "c = pool.verify(Counted(sys.argv[1]), [(p, 'a'), (p, 'b\\ud800')]);"
        "print(ascii(c), pool.statistics.hits, pool._live)"
    )
    path = os.pathsep.join([str(Path(lit_symbolic.__file__).parents[1]), str(Path(__file__).parents[1])])
    command = [sys.executable, "-c", code, counted.path, str(folder)]
    run = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=True)
    assert run.stdout.strip() == f"{first!a} 2 None"  # no worker was even started
    assert len(counted.calls()) == 2
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_two_pools_share_a_folder(counted: Counted, folder: Path) -> None:
    settings: dict[str, Any] = {"workers": 1, "cache_directory": str(folder)}
    with VerifierPool(**settings) as one, VerifierPool(**settings) as other:
        one.verify(counted, [(PROBLEM, str(i)) for i in range(20)])
        other.verify(counted, [(PROBLEM, str(i)) for i in range(20)])
        assert (one.statistics.hits, other.statistics.hits) == (0, 20)


@dataclass
class Bomb:
    """Unpickling it makes a file."""

    path: str

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_a_pickle_planted_in_the_folder_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    import diskcache

    harmed = tmp_path / "harmed"
    with diskcache.Cache(folder) as planted:
        planted.set(numbered(0).hex(), Bomb(str(harmed)))
        assert planted.get(numbered(0).hex()) is not None  # by itself it does load it
    assert harmed.exists()
    harmed.unlink()
    with sqlite3.connect(folder / "cache.db") as database:  # and under the name of a file of text
        database.execute("INSERT INTO Cache (key, raw, mode, filename) VALUES (?, 1, 3, '/etc/hostname')", (numbered(1).hex(),))
    cache = CertificateCache(directory=folder)
    assert cache.get(numbered(0)) is None
    assert cache.get(numbered(1)) is None
    assert not harmed.exists()
    cache.put(numbered(0), CERTIFICATE)
    assert CertificateCache(directory=folder).get(numbered(0)) == CERTIFICATE
    cache.close()


def test_a_folder_damaged_during_a_run_costs_a_warning_and_no_answer(counted: Counted, folder: Path) -> None:
    with VerifierPool(workers=1, cache_directory=str(folder)) as pool:
        pool.verify(counted, [(PROBLEM, "a")])
        pool.close()
        for file in folder.iterdir():
            file.write_bytes(b"not a database" * 1000)
        with pytest.warns(UserWarning, match="is not used any more"):
            assert pool.verify(counted, [(PROBLEM, "b")])[0].evidence == "0"
        pool.verify(counted, [(PROBLEM, "a"), (PROBLEM, "b")])  # memory is still there
    assert counted.calls() == ["a", "b"]
    with pytest.raises(ValueError, match="cannot be opened"):
        VerifierPool(cache_directory=str(folder))


def test_a_folder_is_bounded(folder: Path) -> None:
    cache = CertificateCache(megabytes=1, directory=folder, disk_megabytes=0.3)
    for number in range(300):
        cache.put(numbered(number), replace(CERTIFICATE, evidence=f"{number:1900}"))
    cache.close()
    assert sum(file.stat().st_size for file in folder.iterdir()) < 2 * 2**20
    fresh = CertificateCache(megabytes=1, directory=folder)
    assert fresh.get(numbered(299)) is not None
    assert fresh.get(numbered(0)) is None
    fresh.close()


def test_a_folder_without_diskcache_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diskcache", None)
    with pytest.raises(ImportError, match="pip install diskcache"):
        VerifierPool(cache_directory=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="cache_directory"):
        VerifierPool(cache_directory=str(tmp_path / "cache"), cache_megabytes=0)
