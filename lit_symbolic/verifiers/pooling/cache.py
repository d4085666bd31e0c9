"""Certificates that were given before, found again by a digest of the verifier, its settings, the problem and the answer.

Verifiers are deterministic, so an equal question has an equal certificate. Equal is decided by a canonical digest
(:func:`digest_of`), not by pickles, whose bytes depend on which objects happen to be shared. What has no canonical form (a
class of ``__main__``, a closure) is not cached.

Trust: the folder on disk is read by `diskcache <https://grantjenks.com/docs/diskcache>`_, which by itself unpickles what it
finds. Here it is kept to text: certificates are stored as JSON, and an entry of any other form is not read. So whoever can
write to the folder decides what is certified, and with that what is rewarded, but cannot run code in the trainer by it. Give it
a folder of your own; it is made readable for you alone.
"""

from __future__ import annotations

import copyreg
import hashlib
import json
import pickle
import sqlite3
import struct
import sys
import threading
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import lit_symbolic
from lit_symbolic.certificate import Certificate, Finding, Status

DIGEST_BYTES = 32
FORMAT = "certificate 1"
"""Part of every key: what is stored in another form is not found."""
SOURCES = Path(__file__).parents[1]
"""The package's verifiers with all that stands under them: part of every key too."""
ENTRY_BYTES = 300
"""Taken by an entry besides its certificate."""


class Uncacheable(Exception):
    """A value has no canonical digest; the message says why."""


class CertificateCache:
    """Certificates by key: the most recently used in memory, and all of them on disk if there is a folder.

    Any thread may use it, and several processes may share the folder. A disk that fails (full, locked, damaged) is given up
    with a warning: it costs time, never an answer. Certificates without evidence are not kept.

    Args:
        megabytes: Bound of what is kept in memory.
        directory: Folder of the disk cache, made if missing; ``None`` is none.
        disk_megabytes: Bound of the folder; beyond it the oldest entries are removed.

    Raises:
        ImportError: If ``directory`` is given and ``diskcache`` is not installed.
        ValueError: If the folder cannot be opened.

    Example:
        >>> cache = CertificateCache(megabytes=1)
        >>> key = digest_of("any text")
        >>> cache.put(key, Certificate(True, 1.0))
        >>> cache.put(digest_of("no evidence"), Certificate.without_evidence(Status.TIMEOUT, "stopped"))
        >>> cache.get(key), len(cache)
        (Certificate(correct=True, score=1.0, findings=(), measures={}, status=<Status.OK: 'ok'>, evidence=''), 1)
    """

    def __init__(self, megabytes: float = 64, directory: str | Path | None = None, disk_megabytes: float = 1024) -> None:
        self.max_bytes = int(megabytes * 2**20)
        self._memory: OrderedDict[bytes, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._disk: Any = None if directory is None else text_cache(Path(directory).expanduser(), disk_megabytes)

    def __len__(self) -> int:
        """Certificates in memory."""
        return len(self._memory)

    def get(self, key: bytes) -> Certificate | None:
        """The certificate kept under a key; a new object each time, so that nobody's change reaches another."""
        with self._lock:
            pickled = self._memory.get(key)
            if pickled is not None:
                self._memory.move_to_end(key)
        if pickled is not None:
            return pickle.loads(pickled)
        if self._disk is None:
            return None
        text = self._on_disk(lambda disk: disk.get(key.hex()))
        certificate = None if text is None else from_json(text)
        if certificate is not None:
            self._remember(key, pickle.dumps(certificate, protocol=pickle.HIGHEST_PROTOCOL))
        return certificate

    def put(self, key: bytes, certificate: Certificate, pickled: bytes | None = None) -> None:
        """Keep a certificate, if it is evidence.

        Args:
            key: From :func:`digest_of`.
            certificate: What was certified.
            pickled: The same, pickled, where the caller has that already.
        """
        if not certificate.is_evidence:
            return
        self._remember(key, pickled or pickle.dumps(certificate, protocol=pickle.HIGHEST_PROTOCOL))
        if self._disk is not None:
            text = to_json(certificate)
            if text is not None:
                self._on_disk(lambda disk: disk.set(key.hex(), text))

    def close(self) -> None:
        """Close this thread's connection to the disk; it opens again when needed."""
        if self._disk is not None:
            self._on_disk(lambda disk: disk.close())

    def _remember(self, key: bytes, pickled: bytes) -> None:
        with self._lock:
            self._bytes += len(pickled) + ENTRY_BYTES
            replaced = self._memory.pop(key, None)
            if replaced is not None:
                self._bytes -= len(replaced) + ENTRY_BYTES
            self._memory[key] = pickled
            while self._bytes > self.max_bytes:
                _, oldest = self._memory.popitem(last=False)
                self._bytes -= len(oldest) + ENTRY_BYTES

    def _on_disk(self, action: Callable[[Any], Any]) -> Any:
        disk = self._disk
        if disk is None:  # given up by another thread meanwhile
            return None
        import diskcache

        try:
            return action(disk)
        except (diskcache.Timeout, sqlite3.Error, OSError, ValueError) as error:
            self._disk = None
            warnings.warn(f"the certificate cache in {disk.directory} is not used any more: {error!r}", stacklevel=2)
            return None


def text_cache(directory: Path, megabytes: float) -> Any:
    """A folder of diskcache that holds text and reads nothing else.

    Raises:
        ImportError: If ``diskcache`` is not installed.
        ValueError: If the folder cannot be opened.
    """
    try:
        import diskcache
    except ImportError:
        raise ImportError("a certificate cache on disk needs diskcache: pip install diskcache") from None

    class Text(diskcache.Disk):
        """Reads text and nothing else; an entry that says it is a pickle is none of ours."""

        def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
            if mode != diskcache.core.MODE_RAW or not isinstance(value, str):
                return None
            return value

        def get(self, key: Any, raw: bool) -> Any:
            if not raw:
                raise ValueError("a key of this cache is text, another was found")
            return key

    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # No entry in a file of its own: those would be read by a path that the database names.
        return diskcache.Cache(directory, disk=Text, size_limit=int(megabytes * 2**20), disk_min_file_size=2**30)
    except (sqlite3.Error, OSError) as error:
        raise ValueError(
            f"the certificate cache in {directory} cannot be opened: {error}; remove the folder or name another"
        ) from error


def to_json(certificate: Certificate) -> str | None:
    """A certificate as text; ``None`` if it would not come back equal.

    Example:
        >>> to_json(Certificate(False, 0.5, (Finding(0, 1, "goal", "no"),), {"solved": 0.0}))
        '[false, 0.5, [[0, 1, "goal", "no"]], {"solved": 0.0}, "ok", ""]'
    """
    c = certificate
    findings = [(f.start, f.end, f.kind, f.message) for f in c.findings]
    try:
        text = json.dumps([c.correct, c.score, findings, dict(c.measures), c.status, c.evidence])
        return text if from_json(text) == certificate else None
    except (TypeError, ValueError, RecursionError):
        return None


def from_json(text: str) -> Certificate | None:
    """What :func:`to_json` wrote; ``None`` for anything else."""
    try:
        correct, score, findings, measures, status, evidence = json.loads(text)
        located = tuple(Finding(*finding) for finding in findings)
        texts = [evidence, *(part for finding in located for part in (finding.kind, finding.message))]
        places = [place for finding in located for place in (finding.start, finding.end)]
        if not (
            isinstance(correct, bool)
            and all(isinstance(text, str) for text in texts)
            and all(type(place) is int for place in places)
            and all(isinstance(number, (int, float)) for number in (score, *measures.values()))
        ):
            return None
        return Certificate(correct, score, located, measures, Status(status), evidence)
    except (TypeError, ValueError, AttributeError, RecursionError):
        return None


# ---------------------------------------------------------------- canonical digests


def verifier_digest(verifier: object) -> bytes:
    """Digest of what a verifier's certificates depend on besides problem and answer.

    These are this package's version, the source files of its verifiers and, of the verifier and of every verifier inside it, the
    class's full name, its settings, its ``version`` if it has one, and the source file of the class (and of its bases). A verifier
    that leans on anything else that may change, such as a file elsewhere or a tool's release, says so in its ``version``.

    Raises:
        Uncacheable: If it has no canonical form.
    """
    return digest_of((FORMAT, lit_symbolic.__version__, sources_digest(SOURCES), verifier))


@lru_cache(8)
def sources_digest(folder: Path) -> bytes:
    """Digest of all Python files under ``folder``, read once a process."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for path in sorted(folder.rglob("*.py")):
        _write(hasher.update, b"f", str(path.relative_to(folder)).encode())
        _write(hasher.update, b"c", path.read_bytes())
    return hasher.digest()


def digest_of(value: object) -> bytes:
    """Canonical digest: equal for equal values of equal types, in every process, whichever of their parts are shared.

    Plain values, containers, dataclasses, and whatever can be pickled by classes and functions that can be imported. The order
    of a mapping counts, that of a set does not.

    Raises:
        Uncacheable: If the value has no canonical form.

    Example:
        >>> digest_of({"cards": (4, 6), "kinds": {"a", "b"}}) == digest_of({"cards": (4, 6), "kinds": {"b", "a"}})
        True
        >>> digest_of(1) == digest_of(1.0), digest_of(["a", "b"]) == digest_of(["ab"])
        (False, False)
    """
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    try:
        _feed(hasher.update, value)
    except RecursionError:
        raise Uncacheable("it is nested too deeply, or contains itself") from None
    return hasher.digest()


def answer_digest(verifier: bytes, problem: bytes, text: str) -> bytes:
    """Key of one certificate, from the digests of verifier and problem and the answer itself."""
    return hashlib.blake2b(verifier + problem + text.encode("utf-8", "surrogatepass"), digest_size=DIGEST_BYTES).digest()


def _feed(update: Callable[[bytes], None], value: Any) -> None:
    """Each value writes its type, its length, and itself: no two different values write the same."""
    kind = type(value)
    if kind is str:
        _write(update, b"s", value.encode("utf-8", "surrogatepass"))
    elif kind is int:
        _write(update, b"i", value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    elif kind is float:
        _write(update, b"f", struct.pack(">d", value))
    elif value is None or kind is bool:
        _write(update, b"c", repr(value).encode())
    elif kind is bytes:
        _write(update, b"b", value)
    elif kind is tuple or kind is list:
        _write(update, b"t" if kind is tuple else b"l", struct.pack(">Q", len(value)))
        for item in value:
            _feed(update, item)
    elif kind is dict:
        _write(update, b"d", struct.pack(">Q", len(value)))
        for key, item in value.items():
            _feed(update, key)
            _feed(update, item)
    elif kind is set or kind is frozenset:
        _write(update, b"S" if kind is set else b"F", b"".join(sorted(map(digest_of, value))))
    elif isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType)):
        _write(update, b"g", _importable(value).encode())
    else:
        _feed_object(update, value)


def _feed_object(update: Callable[[bytes], None], value: Any) -> None:
    """Any other object, as pickle takes it apart: what makes it, of what, and its state."""
    kind = type(value)
    _write(update, b"o", _importable(kind).encode())
    if callable(getattr(value, "verify", None)):
        _feed(update, getattr(value, "version", None))
        for cls in kind.__mro__[:-1]:
            _write(update, b"m", _source_digest(cls.__module__))
    reduce = copyreg.dispatch_table.get(kind)
    try:
        parts = reduce(value) if reduce is not None else value.__reduce_ex__(4)
    except RecursionError:
        raise
    except Exception as error:
        raise Uncacheable(f"{kind.__name__} cannot be taken apart: {error}") from error
    if isinstance(parts, str):
        _write(update, b"n", parts.encode())
        return
    for part in parts:  # maker, arguments, state, iterators over items and over pairs, setter of the state
        _feed(update, list(part) if isinstance(part, Iterator) else part)


def _write(update: Callable[[bytes], None], tag: bytes, content: bytes) -> None:
    update(tag + struct.pack(">Q", len(content)))
    update(content)


def _importable(value: Any) -> str:
    """Full name of a class or function; only of one that is found by that name, since another could come to bear it."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    found: Any = sys.modules.get(str(module))
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not value or module == "__main__":
        raise Uncacheable(f"{module}.{name} cannot be imported by this name")
    return f"{module}.{name}"


@lru_cache(1024)
def _source_digest(module: str) -> bytes:
    """Digest of a module's file as it is when first asked for; empty where there is none."""
    file = getattr(sys.modules.get(module), "__file__", None)
    try:
        return hashlib.blake2b(Path(file).read_bytes(), digest_size=DIGEST_BYTES).digest() if file else b""
    except OSError:
        return b""
