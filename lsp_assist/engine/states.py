"""KV cache states outside of the cache: in memory for a chat that is parked, on disk for the next
process.

A state is stored as what it adds to another one: a branch costs its own tokens, not those of its
prefix again. On disk everything is derived and may be deleted at any time; a file that is damaged,
cut off or of another model is left out with a warning. Knows no llama.cpp and no sequence.
"""

import contextlib
import hashlib
import json
import logging
import os
import queue
import secrets
import struct
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsp_assist.engine.kv import Tokens, n_common

__all__ = ["Part", "State", "StateStore", "Stored", "fingerprint"]

logger = logging.getLogger(__name__)

State = NDArray[np.uint8]


def fingerprint(facts: Mapping[str, object]) -> str:
    """A name for states that can take each other's place: those of which all facts are equal."""
    return _digest(json.dumps(facts, sort_keys=True, default=str).encode()).hex()


@dataclass(eq=False, slots=True)
class Stored:
    """One stored state: that of the tokens from `start` on, behind those of its parent."""

    name: str
    parent: "Stored | None"
    start: int
    tokens: Tokens
    """All of them, from the first on, those of the parents as well."""
    key: str
    state: State | None = field(default=None, repr=False)
    """While it is in memory."""
    is_on_disk: bool = False
    is_dropped: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """The tokens from `start` to `end`, which are in one stored state."""

    stored: Stored
    start: int
    end: int


class StateStore:
    """The states of one model under one set of facts. Used by one thread; writes on another.

    The longest unused go first: from memory beyond `memory_bytes`, from disk beyond `budget_bytes`,
    which all models under the folder share. 0 keeps nothing there.
    """

    def __init__(
        self, folder: Path, fingerprint: str, *, budget_bytes: int, memory_bytes: int
    ) -> None:
        self._root = folder
        self._folder = folder / fingerprint[:32]
        self._fingerprint = fingerprint
        self._budget_bytes = budget_bytes
        self._memory_bytes = memory_bytes
        self._lock = threading.Lock()  # guards what follows, and the fields of what is stored
        self._stored: OrderedDict[str, Stored] = OrderedDict()  # least recently used first
        self._n_memory_bytes = 0
        self._work: queue.SimpleQueue[Stored | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self.n_written = 0
        self.n_read = 0
        if budget_bytes > 0:
            self._read_folder()

    # ---- asking

    def match(self, tokens: Tokens, key: str, *, is_whole: bool = False) -> tuple[Part, ...]:
        """The parts that hold the longest stored prefix of some tokens, from the first token on.

        With `is_whole` it is one part that ends where its state does.
        """
        best, n_best = None, 0
        with self._lock:
            for stored in self._stored.values():
                there = stored.tokens
                if stored.key != key or len(there) <= n_best or len(tokens) <= n_best:
                    continue
                if there[n_best] != tokens[n_best]:
                    continue
                n_shared = n_common(there, tokens)
                if is_whole and (n_shared < len(there) or stored.start):
                    continue
                if n_shared > n_best:
                    best, n_best = stored, n_shared
            return _parts(best, n_best)

    def load(self, stored: Stored) -> State | None:
        """The state, from memory or from disk; None, and forgotten, if it is gone or damaged."""
        with self._lock:
            state, is_there = stored.state, not stored.is_dropped
            if is_there:
                self._touch(stored)
        if state is not None or not is_there:
            return state
        path = self._path(stored)
        try:
            state = _read_state(path)
        except (OSError, _Unusable) as error:
            # Another process of the same user may have needed the room on disk.
            level = logging.DEBUG if isinstance(error, FileNotFoundError) else logging.WARNING
            logger.log(level, "The KV state %s is left out: %s", path.name, error)
            with self._lock:
                self._drop(stored)
            return None
        self.n_read += 1
        with self._lock:
            if not stored.is_dropped:
                self._hold(stored, state)
        if self._writer is not None:
            self._work.put(stored)  # to be noted as used
        return state

    # ---- telling

    def add(self, tokens: Tokens, key: str, state: State, *, parent: Part | None = None) -> None:
        """Stores the state of the tokens behind the parent's part."""
        start = parent.end if parent else 0
        assert len(tokens) > start, "nothing is new"
        stored = Stored(
            secrets.token_hex(8), parent.stored if parent else None, start, tokens.copy(), key
        )
        with self._lock:
            if parent is not None and parent.stored.is_dropped:
                return
            self._stored[stored.name] = stored
            self._hold(stored, state)
            while len(self._stored) > _MAX_STORED:
                self._drop(next(iter(self._stored.values())))
        if self._budget_bytes > 0 and not stored.is_dropped:
            self._submit(stored)

    def close(self) -> None:
        """Waits until everything is on disk."""
        if self._writer is not None:
            self._work.put(None)
            self._writer.join()
            self._writer = None

    # ---- memory

    def _hold(self, stored: Stored, state: State) -> None:
        if stored.state is None:
            stored.state = state
            self._n_memory_bytes += state.size
        self._touch(stored)
        self._trim()

    def _trim(self) -> None:
        for other in list(self._stored.values()):
            if self._n_memory_bytes <= self._memory_bytes:
                break
            if other.is_on_disk:
                self._release(other)
            elif self._budget_bytes == 0:
                self._drop(other)

    def _release(self, stored: Stored) -> None:
        if stored.state is not None:
            self._n_memory_bytes -= stored.state.size
            stored.state = None

    def _touch(self, stored: Stored) -> None:
        """Parents come after their children, so that a child goes first."""
        link: Stored | None = stored
        while link is not None and link.name in self._stored:
            self._stored.move_to_end(link.name)
            link = link.parent

    def _drop(self, stored: Stored) -> None:
        """Forgets a state and all that build on it."""
        gone = {stored.name}
        for other in self._stored.values():
            link: Stored | None = other
            while link is not None and link.name not in gone:
                link = link.parent
            if link is not None:
                gone.add(other.name)
        for name in gone:
            other_stored = self._stored.pop(name, None)
            if other_stored is not None:
                self._release(other_stored)
                other_stored.is_dropped = True

    # ---- disk

    def _path(self, stored: Stored) -> Path:
        return self._folder / f"{stored.name}{_SUFFIX}"

    def _submit(self, stored: Stored) -> None:
        if self._writer is None:
            self._writer = threading.Thread(
                target=self._write_all, name="lsp-assist KV writer", daemon=True
            )
            self._writer.start()
        self._work.put(stored)

    def _write_all(self) -> None:
        """Writes what is submitted; on a thread of its own."""
        while (stored := self._work.get()) is not None:
            with self._lock:
                state = None if stored.is_dropped or stored.is_on_disk else stored.state
            try:
                if state is not None:
                    self._write(stored, state)
                self._note_use(stored)
                if state is not None:
                    _sweep(self._root, self._budget_bytes)
            except OSError as error:
                logger.warning("A KV state cannot be kept on disk: %s", error)

    def _write(self, stored: Stored, state: State) -> None:
        path = self._path(stored)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_suffix(".tmp")
        try:
            with temporary.open("wb") as file:
                file.write(_head(stored, state, self._fingerprint))
                file.write(state.data)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        with self._lock:
            stored.is_on_disk = True
            self.n_written += 1
            self._trim()

    def _note_use(self, stored: Stored) -> None:
        """Makes the files of a state and its parents the latest, the parents last."""
        link: Stored | None = stored
        while link is not None:
            with contextlib.suppress(FileNotFoundError):
                os.utime(self._path(link))
            link = link.parent

    def _read_folder(self) -> None:
        """Takes in what an earlier process wrote; reads heads only."""
        heads: dict[str, _Head] = {}
        try:
            paths = sorted(self._folder.glob(f"*{_SUFFIX}"), key=lambda p: p.stat().st_mtime_ns)
        except OSError:
            return
        for path in paths[-_MAX_STORED:]:
            try:
                head = _read_head(path)
                if head.fingerprint != self._fingerprint:
                    raise _Unusable("it is of another model")
                heads[path.stem] = head
            except (OSError, _Unusable) as error:
                logger.warning("The KV state %s is left out: %s", path.name, error)
        made: dict[str, Stored | None] = {}
        for name in heads:
            self._take(name, heads, made)
        for name in heads:  # in order of use
            if (stored := made[name]) is not None:
                self._stored[name] = stored

    def _take(self, name: str, heads: "dict[str, _Head]", made: dict[str, Stored | None]) -> None:
        """Makes what a head says and its parents before it; None where one of them is missing."""
        path: list[str] = []
        link = name
        while link and link not in made:
            made[link] = None  # also ends a circle
            path.append(link)
            link = heads[link].parent if link in heads else ""
        for each in reversed(path):
            head = heads.get(each)
            if head is None:
                continue
            parent = made.get(head.parent) if head.parent else None
            before = parent.tokens if parent else np.empty(0, np.int32)
            if (head.parent and parent is None) or head.start > len(before):
                continue
            if parent is not None and parent.key != head.key:
                continue
            tokens = np.concatenate([before[: head.start], head.tokens])
            made[each] = Stored(each, parent, head.start, tokens, head.key, is_on_disk=True)


_MAX_STORED = 512
"""Each is compared with every prompt, and keeps its tokens in memory."""


def _parts(stored: Stored | None, end: int) -> tuple[Part, ...]:
    parts: list[Part] = []
    while stored is not None:
        if stored.start < end:
            parts.append(Part(stored, stored.start, end))
            end = stored.start
        stored = stored.parent
    return tuple(reversed(parts))


# ---- the file: magic, digest of head and tokens, length of the head, head, tokens, state ----

_SUFFIX = ".kv"
_MAGIC = b"lsp-kv1\n"
_FIXED = struct.Struct("<8s32sI")
_MAX_HEAD_BYTES = 1 << 16


class _Unusable(Exception):
    """A file is not what it should be."""


@dataclass(frozen=True, slots=True)
class _Head:
    fingerprint: str
    key: str
    parent: str
    start: int
    tokens: Tokens
    state_digest: bytes
    state_at: int
    n_state_bytes: int


def _digest(data: "bytes | memoryview") -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


def _head(stored: Stored, state: State, fingerprint: str) -> bytes:
    tokens = stored.tokens[stored.start :].astype("<i4").tobytes()
    text = json.dumps(
        {
            "fingerprint": fingerprint,
            "key": stored.key,
            "parent": stored.parent.name if stored.parent else "",
            "start": stored.start,
            "n_tokens": len(tokens) // 4,
            "n_state_bytes": state.size,
            "state_digest": _digest(state.data).hex(),
        }
    ).encode()
    return _FIXED.pack(_MAGIC, _digest(text + tokens), len(text)) + text + tokens


def _read_head(path: Path) -> _Head:
    """What a file says about its state.

    Raises: OSError, _Unusable
    """
    with path.open("rb") as file:
        fixed = file.read(_FIXED.size)
        if len(fixed) < _FIXED.size:
            raise _Unusable("it is cut off")
        magic, digest, n_text = _FIXED.unpack(fixed)
        if magic != _MAGIC or n_text > _MAX_HEAD_BYTES:
            raise _Unusable("it is no KV state")
        text = file.read(n_text)
        try:
            said = json.loads(text)
            n_tokens, n_state_bytes = int(said["n_tokens"]), int(said["n_state_bytes"])
            n_rest = os.fstat(file.fileno()).st_size - _FIXED.size - n_text
            if n_tokens < 1 or n_rest != 4 * n_tokens + n_state_bytes:
                raise _Unusable("it is cut off")
            tokens = file.read(4 * n_tokens)
            if _digest(text + tokens) != digest:
                raise _Unusable("it is damaged")
            return _Head(
                fingerprint=str(said["fingerprint"]),
                key=str(said["key"]),
                parent=str(said["parent"]),
                start=int(said["start"]),
                tokens=np.frombuffer(tokens, "<i4").astype(np.int32),
                state_digest=bytes.fromhex(said["state_digest"]),
                state_at=_FIXED.size + n_text + 4 * n_tokens,
                n_state_bytes=n_state_bytes,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise _Unusable("it is damaged") from error


def _read_state(path: Path) -> State:
    head = _read_head(path)
    state = np.fromfile(path, np.uint8, count=head.n_state_bytes, offset=head.state_at)
    if state.size != head.n_state_bytes or _digest(state.data) != head.state_digest:
        raise _Unusable("it is damaged")
    return state


def _sweep(root: Path, budget_bytes: int) -> None:
    """Deletes what was used longest ago, until the rest fits the budget."""
    files: list[tuple[int, int, Path]] = []
    for path in root.glob(f"*/*{_SUFFIX}"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            files.append((stat.st_mtime_ns, stat.st_size, path))
    n_bytes = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if n_bytes <= budget_bytes:
            return
        with contextlib.suppress(OSError):
            path.unlink()
        n_bytes -= size
