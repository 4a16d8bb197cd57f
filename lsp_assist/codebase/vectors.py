"""The vectors of one embedder, one for each chunk content, on disk in LanceDB and quick in memory.

A vector is named by the hash of what it was made of, so a branch switch and a copy cost nothing,
and whatever is lost is made again. All of it is derived: what cannot be read is thrown away with a
warning, and what cannot be written stays in memory.

Up to `ANN_ROWS` the vectors are searched in memory (`resident.py`); the more of them lie in the
table alone, under an approximate index. Vectors that are not written yet are in memory always, so a
search sees them at once. Several processes share a table: who holds the lock (`lead`) writes,
everybody reads. Knows no file of the workspace and no embedder beyond its name.
"""

import hashlib
import logging
import os
import re
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from lsp_assist.codebase.resident import Resident

if TYPE_CHECKING:
    import lancedb
    import numpy as np
    import pyarrow as pa
    from lancedb.table import LanceTable
    from numpy.typing import NDArray

__all__ = ["ANN_ROWS", "Vectors", "folder_bytes", "load_library", "remove_unused"]

logger = logging.getLogger(__name__)

ANN_ROWS = 500_000
"""From so many rows on an approximate index answers: a pass over all of them takes 30 ms."""
COMPACT_FRAGMENTS = 64  # files that a table may have before they are merged
MAX_UNWRITTEN = 20_000  # of unsaved text; the oldest are forgotten, and made again when needed
_BTREE_ROWS = 10_000
_KEEP_VERSIONS_S = 120  # another process may be reading an older version
_NOISE_ROWS = 8_192  # tell the middle of all similarities as well as a million
_UNUSED_S = 30 * 24 * 3600.0
_USED = ".used"
_SPARE_BYTES = 8 << 20
_LOAD_ROWS = 16_384
_DELETE_KEYS = 2_000
_NPROBES = 24
_REFINE = 4
_CACHE_BYTES = 64 << 20

Nearest = list[tuple[str, float]]


def load_library() -> None:
    """Import what tables are kept with: a second or more, so not while somebody waits for a lock.

    Without it there are no tables, which is told when one is opened.
    """
    with suppress(ImportError):
        import lancedb.index
        import lancedb.table  # noqa: F401  only to have them loaded


class Vectors:
    """Owns the table of one embedder in a folder. Any thread may call.

    Nothing raises for what lies on disk: without it there are fewer vectors.
    """

    def __init__(self, folder: Path, name: str, n_dims: int, *, ann_rows: int = ANN_ROWS) -> None:
        self._folder = folder
        self._table_name = _table_name(name, n_dims)
        self._n_dims = n_dims
        self._ann_rows = ann_rows
        self._lock = threading.RLock()
        self._resident = Resident(n_dims)
        self._unwritten: dict[str, NDArray[np.float16]] = {}
        self._on_disk: set[str] = set()  # in the table alone, see the header
        self._stamp = -1
        self._table: LanceTable | None = None
        self._lock_file: IO[bytes] | None = None
        self._warned = False
        self._tidied_at = float("-inf")

    def open(self) -> None:
        """Read what is on disk. Takes a second or more, for LanceDB is imported: use a thread."""
        self._note_use()
        with self._table_in_use("opened"):
            self._table = self._open_table()
            if self._table is not None:
                self._load(self._table)

    def close(self) -> None:
        """Let the table and the lock go; what is in memory can be searched on."""
        self.follow()
        with self._lock:
            self._table = None

    @contextmanager
    def lead(self) -> Iterator[bool]:
        """Hold the lock that writing needs; gives False where another process holds it."""
        leads = self._acquire()
        try:
            yield leads
        finally:
            if leads:
                self.follow()

    def follow(self) -> None:
        """Give the lock back; idempotent."""
        file, self._lock_file = self._lock_file, None
        if file is not None:
            file.close()  # which unlocks it

    # Reading

    def __len__(self) -> int:
        return len(self._resident) + len(self._on_disk)

    def __contains__(self, key: str) -> bool:
        return key in self._resident or key in self._on_disk

    @property
    def n_bytes(self) -> int:
        """What the table takes on disk."""
        return folder_bytes(self._folder / f"{self._table_name}.lance")

    @property
    def has_unwritten(self) -> bool:
        """Whether there is anything in memory that is not on disk."""
        return bool(self._unwritten)

    def has_unwritten_of(self, keys: Collection[str]) -> bool:
        """Whether any of these is in memory and not on disk."""
        with self._lock:
            return any(key in self._unwritten for key in keys)

    def missing(self, keys: Iterable[str]) -> list[str]:
        """Those of the keys that have no vector, each once."""
        with self._lock:
            return [key for key in dict.fromkeys(keys) if key not in self]

    def nearest(self, query: "NDArray[np.float32]", limit: int) -> Nearest:
        """The keys whose vectors are most similar, best first, with their similarity."""
        return self.standing_out(query, limit, float("-inf"))[1]

    def standing_out(
        self, query: "NDArray[np.float32]", limit: int, n_deviations: float
    ) -> tuple[float, Nearest]:
        """How similar any vector is, and the nearest that are so much more similar than that.

        Something is always the nearest, also to a question that nothing answers. Both are told by
        the middle of all similarities, which outliers do not move; 0 and all where none are in
        memory.
        """
        import numpy as np

        with self._lock:
            snapshot, keys = self._resident.snapshot(), self._resident.keys
            table = self._table if self._on_disk else None
        found: Nearest = []
        noise = 0.0
        if snapshot is not None:
            similarities = snapshot.similarities(query)
            best = np.arange(len(similarities))
            if limit < len(similarities):
                best = np.argpartition(similarities, -limit)[-limit:]
            if n_deviations > float("-inf"):
                some = similarities[:: 1 + len(similarities) // _NOISE_ROWS]
                noise = float(np.median(some))
                deviation = 1.4826 * float(np.median(np.abs(some - noise)))
                best = best[similarities[best] > noise + n_deviations * deviation]
            found = [(keys[row], float(similarities[row])) for row in best]
        if table is not None:
            with self._table_in_use("searched"):
                found += self._nearest_on_disk(table, query, limit)
        return noise, sorted(dict(found).items(), key=lambda item: (-item[1], item[0]))[:limit]

    def similarities(self, keys: Collection[str], query: "NDArray[np.float32]") -> dict[str, float]:
        """How similar these keys' vectors are to the query, for those that have one."""
        with self._lock:
            rows = {key: row for key in keys if (row := self._resident.row_of(key)) is not None}
            snapshot = self._resident.snapshot()
            others = [key for key in keys if key in self._on_disk]
            table = self._table
        found: dict[str, float] = {}
        if rows and snapshot is not None:
            values = snapshot.similarities_of(list(rows.values()), query)
            found = dict(zip(rows, map(float, values), strict=True))
        if others and table is not None:
            with self._table_in_use("searched"):
                read_keys, vectors = _columns(_picked(table, others))
                found.update(zip(read_keys, map(float, vectors @ query), strict=True))
        return found

    # Writing

    def add(self, keys: Sequence[str], vectors: "NDArray[np.float32]") -> None:
        """Take these in, in memory: they are found from now on, and lost unless written."""
        import numpy as np

        with self._lock:
            new = [row for row, key in enumerate(keys) if key not in self]
            self._resident.append([keys[row] for row in new], vectors[new])
            for row in new:
                self._unwritten[keys[row]] = vectors[row].astype(np.float16)

    def write(self, live: Collection[str] | None = None) -> bool:
        """Put on disk what is not there yet, in one write; `live` leaves others in memory.

        Call it under `lead`. False if it could not be written; it stays in memory.
        """
        with self._lock:
            wanted = [k for k in self._unwritten if live is None or k in live]
            vectors = [self._unwritten[key] for key in wanted]
        if not wanted:
            return True
        assert self._lock_file is not None, "written without the lock"
        is_written = False
        with self._table_in_use("written"):
            table = self._table or self._create_table()
            stamp = max(self._stamp + 1, time.time_ns())
            table.add(self._rows(wanted, vectors, stamp))
            self._stamp = stamp
            is_written = True
        with self._lock:
            if is_written:
                for key in wanted:
                    self._unwritten.pop(key, None)
            for key in list(self._unwritten)[: max(0, len(self._unwritten) - MAX_UNWRITTEN)]:
                del self._unwritten[key]
        return is_written

    def sync(self) -> None:
        """Take in what another process wrote meanwhile."""
        with self._table_in_use("read"):
            if self._table is None:
                self._table = self._open_table()
            else:
                self._table.checkout_latest()  # type: ignore[no-untyped-call]
            if self._table is not None:
                self._load(self._table)

    def is_untidy(self) -> bool:
        """Whether the table has so many pieces that merging them is worth the work."""
        n_fragments = 0
        with self._table_in_use("read"):
            n_fragments = _n_fragments(self._table) if self._table is not None else 0
        # What was merged lies there a second time until no other process can be reading it.
        is_recent = time.monotonic() - self._tidied_at < 2 * _KEEP_VERSIONS_S
        n_needed = len(self) * (2 * self._n_dims + 64) + _SPARE_BYTES
        return n_fragments > COMPACT_FRAGMENTS or (not is_recent and self.n_bytes > 2 * n_needed)

    def tidy(self, live: Collection[str]) -> None:
        """Merge the table's pieces, forget keys that are not live, and index what has grown large.

        Call it under `lead`, when nothing else is to be done. A key that is not live is kept for a
        while, since a branch switch brings it back: until they are half as many as the living.
        """
        assert self._lock_file is not None, "tidied without the lock"
        self._tidied_at = time.monotonic()
        with self._lock:
            known = [*self._resident.keys, *self._on_disk]
        dead = {key for key in known if key not in live}
        if len(dead) > max(len(live) // 2, 1_000):
            self._forget(dead)
        with self._table_in_use("compacted"):
            if self._table is not None:
                self._compact(self._table)

    def discard(self) -> None:
        """Throw all of it away, on disk and in memory. Call it under `lead`."""
        assert self._lock_file is not None, "discarded without the lock"
        with self._lock:
            self._table, self._stamp = None, -1
            self._resident, self._unwritten, self._on_disk = Resident(self._n_dims), {}, set()
        shutil.rmtree(self._folder / f"{self._table_name}.lance", ignore_errors=True)

    # Below: the table.

    def _open_table(self) -> "LanceTable | None":
        if not (self._folder / f"{self._table_name}.lance").is_dir():
            return None
        return cast("LanceTable", _connected(self._folder).open_table(self._table_name))

    def _create_table(self) -> "LanceTable":
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        table = _connected(self._folder).create_table(
            self._table_name, schema=_schema(self._n_dims), exist_ok=True
        )
        self._table = cast("LanceTable", table)
        return self._table

    def _load(self, table: "LanceTable") -> None:
        """Take in the rows that are newer than those taken in before."""
        n_rows = table.count_rows(f"stamp > {self._stamp}")
        if n_rows == 0:
            return
        is_large = len(self) + n_rows > self._ann_rows
        columns = ["hash", "stamp"] if is_large else ["hash", "stamp", "vector"]
        query = table.search().where(f"stamp > {self._stamp}").select(columns)
        latest = self._stamp
        for batch in query.to_batches(_LOAD_ROWS):
            latest = max(latest, *batch["stamp"].to_pylist())
            if is_large:
                with self._lock:
                    self._on_disk.update(k for k in batch["hash"].to_pylist() if k not in self)
            else:
                keys, vectors = _columns([batch])
                with self._lock:
                    self._resident.append(keys, vectors)
            with self._lock:
                for key in batch["hash"].to_pylist() if self._unwritten else ():
                    self._unwritten.pop(key, None)
        self._stamp = latest

    def _rows(
        self, keys: Sequence[str], vectors: Sequence["NDArray[np.float16]"], stamp: int
    ) -> "pa.Table":
        import numpy as np
        import pyarrow as pa

        flat = pa.array(np.concatenate(vectors))
        columns = {
            "hash": pa.array(keys, pa.string()),
            "stamp": pa.array([stamp] * len(keys), pa.int64()),
            "vector": pa.FixedSizeListArray.from_arrays(flat, self._n_dims),
        }
        return pa.table(columns, schema=_schema(self._n_dims))

    def _nearest_on_disk(
        self, table: "LanceTable", query: "NDArray[np.float32]", limit: int
    ) -> Nearest:
        asked = table.search(query).distance_type("dot").select(["hash", "_distance"]).limit(limit)
        found = asked.nprobes(_NPROBES).refine_factor(_REFINE).to_arrow()
        pairs = zip(found["hash"].to_pylist(), found["_distance"].to_pylist(), strict=True)
        return [(key, 1.0 - float(distance)) for key, distance in pairs]

    def _forget(self, dead: set[str]) -> None:
        with self._table_in_use("written"):
            ordered = sorted(dead)
            for start in range(0, len(ordered) if self._table else 0, _DELETE_KEYS):
                assert self._table is not None
                self._table.delete(_is_one_of(ordered[start : start + _DELETE_KEYS]))
            with self._lock:
                self._resident = self._resident.without(dead)
                self._on_disk -= dead
                self._unwritten = {k: v for k, v in self._unwritten.items() if k not in dead}

    def _compact(self, table: "LanceTable") -> None:
        from lancedb.index import BTree, IvfPq

        table.optimize(
            cleanup_older_than=timedelta(seconds=_KEEP_VERSIONS_S),
            # What a killed write left behind: nobody else writes while we hold the lock.
            delete_unverified=True,
        )
        n_rows = table.count_rows()
        indexed = {column for index in table.list_indices() for column in index.columns}
        if n_rows >= _BTREE_ROWS and "hash" not in indexed:
            table.create_index("hash", config=BTree())
        if n_rows > self._ann_rows and "vector" not in indexed:
            table.create_index("vector", config=IvfPq(distance_type="dot"))
            with self._lock:
                self._on_disk.update(k for k in self._resident.keys if k not in self._unwritten)
                self._resident = self._resident.without(self._on_disk)

    @contextmanager
    def _table_in_use(self, verb: str) -> Iterator[None]:
        """The library's errors as a warning; under `lead` a table that cannot be read is dropped.

        Without it, another process may be changing what we read: the next look tells.
        """
        try:
            yield
        except Exception as error:  # noqa: BLE001  # whatever LanceDB makes of a broken disk
            self._note_failure(verb, error)
        except BaseException as error:
            if type(error).__name__ != "PanicException":  # of its Rust part; not an Exception
                raise
            self._note_failure(verb, error)

    def _note_failure(self, verb: str, error: BaseException) -> None:
        table = self._table_name
        if verb == "written" and not _is_damage(error):
            log = logger.debug if self._warned else logger.warning
            log("Vectors %s cannot be written and stay in memory: %s", table, error)
            self._warned = True
            return
        leads = self._lock_file is not None
        if not leads and not self._acquire():
            logger.info("Vectors %s cannot be %s now: %s", table, verb, error)
            return
        logger.warning("Vectors %s are damaged and are made anew: %s", table, error)
        with self._lock:
            kept = {k: self._unwritten[k] for k in self._unwritten}
            self.discard()
            if kept:
                import numpy as np

                self.add(list(kept), np.stack(list(kept.values())).astype(np.float32))
        if not leads:
            self.follow()

    def _note_use(self) -> None:
        with suppress(OSError):  # of a folder that is not there too
            (self._folder / f"{self._table_name}{_USED}").touch()

    def _acquire(self) -> bool:
        """Lock the file; False if another process has it, or there is no place for it."""
        if self._lock_file is not None:
            return False
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = (self._folder / "writing.lock").open("ab")
        except OSError as error:
            logger.debug("No lock for vectors: %s", error)
            return False
        if not _is_locked(file):
            file.close()
            return False
        self._lock_file = file
        self._note_use()
        return True


def remove_unused(folder: Path, now_s: float | None = None) -> list[str]:
    """Delete the tables that no embedder opened for weeks; their names.

    Call it under `lead`, which is that of the folder. `now_s` is since the epoch.
    """
    removed = []
    now_s = time.time() if now_s is None else now_s
    for table in folder.glob("*.lance"):
        used = table.with_suffix(_USED)
        with suppress(OSError):
            touched = used if used.exists() else table
            if now_s - touched.stat().st_mtime > _UNUSED_S:
                shutil.rmtree(table)
                used.unlink(missing_ok=True)
                removed.append(table.stem)
    return removed


def folder_bytes(folder: Path) -> int:
    """What the files in a folder take."""
    n_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                n_bytes += Path(parent, name).stat().st_size
            except OSError:  # compacted away meanwhile
                continue
    return n_bytes


def _connected(folder: Path) -> "lancedb.DBConnection":
    """A connection; LanceDB is imported for the first, which takes more than a second."""
    os.environ.setdefault("LANCE_LOG", "error")  # it writes to stderr by itself
    os.environ.setdefault("LANCE_CPU_THREADS", "2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lancedb
    return lancedb.connect(
        folder,
        # Each read looks for what another process wrote; it costs a listing of a small folder.
        read_consistency_interval=timedelta(0),
        session=lancedb.Session(_CACHE_BYTES, _CACHE_BYTES),
    )


def _schema(n_dims: int) -> "pa.Schema":
    import pyarrow as pa

    return pa.schema(
        [
            pa.field("hash", pa.string(), nullable=False),
            pa.field("stamp", pa.int64(), nullable=False),
            pa.field("vector", pa.list_(pa.float16(), n_dims), nullable=False),
        ]
    )


def _columns(batches: "Iterable[pa.RecordBatch]") -> "tuple[list[str], NDArray[np.float32]]":
    """The keys of batches and their vectors, shape (n, n_dims).

    Raises: ValueError for what was never written so: LanceDB keeps no checksums
    """
    import numpy as np

    keys: list[str] = []
    parts: list[NDArray[np.float32]] = []
    for batch in batches:
        if not batch.num_rows:
            continue
        keys += batch["hash"].to_pylist()
        flat = np.asarray(batch["vector"].flatten())
        parts.append(flat.reshape(batch.num_rows, -1).astype(np.float32))
    vectors = np.concatenate(parts) if parts else np.empty((0, 0), np.float32)
    norms = np.linalg.norm(vectors, axis=1) if parts else np.empty(0)
    if not np.all((norms < 1.05) & ((norms > 0.95) | (norms == 0))):
        raise ValueError("a vector has a length that none was written with")
    return keys, vectors


def _picked(table: "LanceTable", keys: Sequence[str]) -> "Iterator[pa.RecordBatch]":
    query = table.search().where(_is_one_of(keys)).select(["hash", "vector"])
    yield from query.to_batches(_LOAD_ROWS)


def _is_one_of(keys: Sequence[str]) -> str:
    assert all(map(_KEY.fullmatch, keys)), "a key is hexadecimal"
    return "hash IN ({})".format(", ".join(f"'{key}'" for key in keys))


_KEY = re.compile(r"[0-9a-f]+")


def _n_fragments(table: "LanceTable") -> int:
    stats = cast("dict[str, dict[str, int]]", table.stats())
    return stats["fragment_stats"]["num_fragments"]


def _is_damage(error: BaseException) -> bool:
    """Whether a failed write says that what is there is broken, not that there is no room."""
    if isinstance(error, OSError):
        return False
    said = str(error).lower()
    return not any(word in said for word in ("space left", "denied", "read-only", "too many open"))


def _table_name(name: str, n_dims: int) -> str:
    """Names the table: readable, and unique by the embedder and the length of its vectors."""
    readable = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    digest = hashlib.blake2b(f"{name}\0{n_dims}".encode(), digest_size=6).hexdigest()
    return f"{readable}-{digest}"


def _is_locked(file: IO[bytes]) -> bool:
    """Lock the file for this process as long as it is open; False if another one has."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
