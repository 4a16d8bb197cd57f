"""The index on disk: one SQLite file per workspace, all of it derived and rebuilt when damaged.

Files, symbols, references and chunks with their full text (FTS5) change together, one transaction
a file, so a reader never sees half of one. Several processes may share it (WAL). Knows no parser,
no ranking beyond BM25 and no unsaved text.
"""

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lsp_assist.errors import IndexUnusable

__all__ = [
    "Candidate",
    "ChunkPlace",
    "Counts",
    "FileRecord",
    "Filter",
    "IndexedChunk",
    "IndexedFile",
    "Store",
    "StoredImport",
    "StoredSymbol",
    "Use",
]

logger = logging.getLogger(__name__)

V = TypeVar("V")

SCHEMA_VERSION = 9  # raise it when the schema, the outlines or the terms change
BUSY_TIMEOUT_S = 10.0
MAX_MATCHED = 12_000  # chunks that a search goes through; each takes about a microsecond
MAX_MARKS = 500  # values in one statement
PAGE_ROWS = 5_000
NAME_WEIGHT = 2.0  # a chunk's path and name count twice, as its text counts once

_SCHEMA = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL, hash TEXT NOT NULL, language TEXT NOT NULL, n_lines INTEGER NOT NULL,
    problem TEXT NOT NULL
);
CREATE TABLE symbols (
    id INTEGER PRIMARY KEY, file_id INTEGER NOT NULL, ordinal INTEGER NOT NULL, name TEXT NOT NULL,
    qualified_name TEXT NOT NULL, kind TEXT NOT NULL, start_line INTEGER NOT NULL,
    end_line INTEGER NOT NULL, signature TEXT NOT NULL, summary TEXT NOT NULL
);
CREATE INDEX symbols_by_file ON symbols (file_id, ordinal);
CREATE INDEX symbols_by_name ON symbols (name);
CREATE TABLE uses (
    name TEXT NOT NULL, file_id INTEGER NOT NULL, ordinal INTEGER NOT NULL, line INTEGER NOT NULL,
    kind TEXT NOT NULL, receiver TEXT NOT NULL, receiver_type TEXT NOT NULL
);
CREATE INDEX uses_by_file ON uses (file_id, ordinal);
CREATE INDEX uses_by_name ON uses (name);
CREATE TABLE imports (
    file_id INTEGER NOT NULL, module TEXT NOT NULL, name TEXT NOT NULL, alias TEXT NOT NULL,
    line INTEGER NOT NULL
);
CREATE INDEX imports_by_file ON imports (file_id);
CREATE INDEX imports_by_name ON imports (name);
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY, file_id INTEGER NOT NULL, ordinal INTEGER NOT NULL,
    start_line INTEGER NOT NULL, end_line INTEGER NOT NULL, hash TEXT NOT NULL,
    n_terms INTEGER NOT NULL
);
CREATE INDEX chunks_by_file ON chunks (file_id);
CREATE INDEX chunks_by_hash ON chunks (hash);
CREATE VIRTUAL TABLE words USING fts5 (
    name, body, tokenize = "unicode61 remove_diacritics 0 tokenchars '_'"
);
CREATE VIRTUAL TABLE vocabulary USING fts5vocab (words, 'row');
"""

_MAX_VALUES = 500  # of one statement; old builds of SQLite take 999
_SELECT_SYMBOLS = (
    "SELECT path, ordinal, name, qualified_name, kind, start_line, end_line, signature, summary"
    " FROM symbols JOIN files ON files.id = file_id"
)

_SELECT_USES = (
    "SELECT uses.name, ordinal, line, kind, receiver, receiver_type"
    " FROM files JOIN uses ON files.id = file_id"
)


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What tells whether a file changed since it was indexed."""

    size: int
    mtime_ns: int
    hash: str
    """Of its bytes; empty for a file that was looked at and left out."""


@dataclass(frozen=True, slots=True)
class StoredSymbol:
    """A symbol of a file. `ordinal` is its place in the file's outline, -1 for the file itself."""

    path: str
    ordinal: int
    name: str
    qualified_name: str
    kind: str
    start_line: int
    end_line: int
    signature: str = ""
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Use:
    """A name used inside of a symbol; `ordinal` is -1 at file level."""

    name: str
    ordinal: int
    line: int
    kind: str
    receiver: str = ""
    """What it is taken from, and beneath it what that is known to be; see `Reference`."""
    receiver_type: str = ""


@dataclass(frozen=True, slots=True)
class StoredImport:
    """One thing that a file takes from a module; the module as a whole where `name` is empty."""

    module: str
    name: str
    alias: str
    """What it is called in the file; empty where a module is not given a name of its own."""
    line: int


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """A chunk with the terms that it is found by."""

    ordinal: int
    start_line: int
    end_line: int
    hash: str
    name_terms: tuple[str, ...]
    body_terms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class IndexedFile:
    """All that the index keeps of one file."""

    path: str
    record: FileRecord
    language: str
    n_lines: int
    symbols: tuple[StoredSymbol, ...]
    uses: tuple[Use, ...]
    chunks: tuple[IndexedChunk, ...]
    imports: tuple[StoredImport, ...] = ()
    problem: str = ""
    """Why there is less than there could be, empty if there is no reason."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that holds a term of a query, with its terms, to be scored."""

    path: str
    ordinal: int
    start_line: int
    end_line: int
    hash: str
    name: str
    """Terms of its path and symbol, separated by spaces."""
    body: str


@dataclass(frozen=True, slots=True)
class ChunkPlace:
    """Where a chunk is, and what its hash names."""

    path: str
    about: str
    """Qualified name of its symbol, empty for none."""
    start_line: int
    end_line: int
    hash: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which chunks a search is about."""

    path: str = ""
    """A folder or a file; what lies in it or is it."""
    language: str = ""
    """As `languages/` names it."""

    def passes(self, path: str, language: str) -> bool:
        """Whether a file is one of them."""
        folder = self.path.rstrip("/")
        is_within = not folder or path == folder or path.startswith(f"{folder}/")
        return is_within and self.language in ("", language)


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is in the index."""

    n_files: int = 0
    n_lines: int = 0
    n_symbols: int = 0
    n_chunks: int = 0


class Store:
    """Owns the database. Any thread may call; writes and reads have a connection each.

    Raises: IndexUnusable where the folder can not be written or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._write_lock = threading.RLock()
        self._read_lock = threading.RLock()
        self._is_closed = False
        self._n_opened = 0
        self._counted: tuple[object, int, int] | None = None
        self.was_rebuilt = False
        """True if a damaged or older index was thrown away at opening."""
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            try:
                self._open()
            except _Outdated:
                logger.info("The index %s is of another version and is made anew", path)
                self._discard()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                    raise
                logger.warning("The index %s is damaged (%s) and is made anew", path, error)
                self._discard()

    def close(self) -> None:
        """Close both connections; idempotent. Afterwards there is nothing to read or to write."""
        with self._write_lock, self._read_lock:
            self._is_closed = True
            self._writer.close()
            self._reader.close()

    def rebuild(self) -> None:
        """Throw everything away and start anew, as after damage that was found while reading.

        Raises: IndexUnusable
        """
        with self._translated(), self._write_lock, self._read_lock:
            self._writer.close()
            self._reader.close()
            logger.warning("The index %s is damaged and is made anew", self._path)
            self._discard()

    # Reading

    def records(self) -> dict[str, FileRecord]:
        """Every file that was looked at, by path."""
        rows = self._read("SELECT path, size, mtime_ns, hash FROM files")
        return {path: FileRecord(size, mtime_ns, digest) for path, size, mtime_ns, digest in rows}

    def files(self) -> list[tuple[str, int, str, str, int]]:
        """Path, size in bytes, hash, language and lines of every file that is in, by path."""
        return self._read(
            "SELECT path, size, hash, language, n_lines FROM files WHERE hash != '' ORDER BY path"
        )

    def problems(self) -> dict[str, str]:
        """Why there is less of a file than there could be, by path."""
        return dict(self._read("SELECT path, problem FROM files WHERE problem != '' ORDER BY path"))

    def paths_within(self, path: str) -> list[str]:
        """The file itself, or the files of the folder, that were looked at."""
        condition, values = _condition(Filter(path))
        rows = self._read(f"SELECT path FROM files WHERE {condition or 'TRUE'}", values)  # noqa: S608  # our own words
        return [found for (found,) in rows]

    def counts(self) -> Counts:
        """How much is in the index."""
        rows = self._read(
            "SELECT (SELECT COUNT(*) FROM files WHERE hash != ''),"
            " (SELECT IFNULL(SUM(n_lines), 0) FROM files WHERE hash != ''),"
            " (SELECT COUNT(*) FROM symbols), (SELECT COUNT(*) FROM chunks)"
        )
        return Counts(*rows[0]) if rows else Counts()

    def corpus(self, query: Sequence[str]) -> tuple[int, int, Counter[str]]:
        """How many chunks, their terms in all, and how many chunks hold each term of the query."""
        n_chunks, n_terms = self._totals()
        rows = self._read(
            f"SELECT term, doc FROM vocabulary WHERE term IN ({_marks(query)})",  # noqa: S608  # only question marks
            query,
        )
        return n_chunks, n_terms, Counter(dict(rows))

    def search(
        self,
        query: Sequence[str],
        limit: int,
        where: Filter | None = None,
        frequency: Mapping[str, int] | None = None,
    ) -> list[Candidate]:
        """The most promising chunks that hold any of these terms by FTS5's BM25, in no order.

        `frequency` is as `corpus` gives it, for who has asked already. Terms in so many chunks
        that going through them would take long do not count here; who scores the chunks sees them.
        """
        if not query:
            return []
        match = _match(self.corpus(query)[2] if frequency is None else frequency)
        if not match:
            return []
        condition, values = _condition(where or Filter())
        among = ""
        if condition:
            files = "JOIN chunks ON chunks.id = found.id JOIN files ON files.id = file_id"
            among = f"{files} WHERE {condition}"
        ids = self._read(
            "SELECT found.id FROM (SELECT rowid AS id, bm25(words, ?, 1.0) AS score FROM words"  # noqa: S608  # our own words
            f" WHERE words MATCH ? LIMIT ?) AS found {among} ORDER BY score LIMIT ?",
            (NAME_WEIGHT, match, 2 * MAX_MATCHED, *values, limit),
        )
        return self._candidates("chunks.id", [found for (found,) in ids], Filter())

    def chunks_with(self, hashes: Sequence[str], where: Filter | None = None) -> list[Candidate]:
        """The chunks with these hashes; a content that is in several places comes several times."""
        return self._candidates("chunks.hash", hashes, where or Filter())

    def hashes_where(self, where: Filter) -> set[str]:
        """The hashes of the chunks that pass a filter."""
        condition, values = _condition(where)
        rows = self._read(
            "SELECT chunks.hash FROM chunks JOIN files ON files.id = file_id"  # noqa: S608  # our own words
            f" WHERE {condition or 'TRUE'}",
            values,
        )
        return {key for (key,) in rows}

    def chunk_places(self, paths: Sequence[str] | None = None) -> Iterator[ChunkPlace]:
        """The chunks of these files, or of all, a few thousand at a time."""
        select = (
            "SELECT path, IFNULL(qualified_name, ''), chunks.start_line, chunks.end_line, hash_,"
            " chunk_id FROM (SELECT id AS chunk_id, hash AS hash_, * FROM chunks WHERE {}"
            " ORDER BY id LIMIT ?) AS chunks JOIN files ON files.id = chunks.file_id"
            " LEFT JOIN symbols ON symbols.file_id = chunks.file_id"
            " AND symbols.ordinal = chunks.ordinal"
        )
        if paths is not None:
            for some in _slices(paths, MAX_MARKS):
                where = f"file_id IN (SELECT id FROM files WHERE path IN ({_marks(some)}))"  # noqa: S608  # only question marks
                rows = self._read(select.format(where), (*some, -1))
                yield from (ChunkPlace(*row[:-1]) for row in rows)
            return
        last_id = -1
        while rows := self._read(select.format("id > ?"), (last_id, PAGE_ROWS)):
            last_id = max(row[-1] for row in rows)
            yield from (ChunkPlace(*row[:-1]) for row in rows)

    def chunk_hashes(self, paths: Sequence[str] | None = None) -> list[str]:
        """The hashes of these files' chunks, or of all."""
        if paths is None:
            return [key for (key,) in self._read("SELECT DISTINCT hash FROM chunks")]
        return [place.hash for place in self.chunk_places(paths)]

    def symbols_of(self, path: str) -> list[StoredSymbol]:
        """The symbols of a file, in the order of its outline."""
        return self._symbols("WHERE path = ? ORDER BY ordinal", (path,))

    def symbols_in(
        self, path: str, stretches: Collection[tuple[int, int, int]]
    ) -> list[StoredSymbol]:
        """The symbols of a file with these ordinals, or wholly between these lines, in order.

        A stretch is an ordinal and two lines, both included. Of a large file those are few.
        """
        found: dict[int, StoredSymbol] = {}
        for some in _slices(list(stretches), MAX_MARKS // 4):
            either = " OR ".join(["ordinal = ? OR (start_line >= ? AND end_line <= ?)"] * len(some))
            values = [path, *(value for stretch in some for value in stretch)]
            for symbol in self._symbols(f"WHERE path = ? AND ({either})", values):
                found[symbol.ordinal] = symbol
        return [found[ordinal] for ordinal in sorted(found)]

    def symbols_of_each(self, paths: Sequence[str]) -> dict[str, list[StoredSymbol]]:
        """The symbols of files by path, in the order of their outlines; those that have any."""
        found: dict[str, list[StoredSymbol]] = {}
        for at in range(0, len(paths), _MAX_VALUES):
            some = paths[at : at + _MAX_VALUES]
            marks = ", ".join("?" * len(some))
            for symbol in self._symbols(f"WHERE path IN ({marks}) ORDER BY path, ordinal", some):
                found.setdefault(symbol.path, []).append(symbol)
        return found

    def symbols_named(self, name: str, limit: int = 50) -> list[StoredSymbol]:
        """Definitions with this very name."""
        return self._symbols("WHERE name = ? ORDER BY path, ordinal LIMIT ?", (name, limit))

    def symbols_like(self, pattern: str, limit: int) -> list[StoredSymbol]:
        """Definitions whose names are LIKE a pattern, short ones first. Headings are none."""
        return self._symbols(
            "WHERE name LIKE ? ESCAPE '\\' AND kind != 'heading' ORDER BY LENGTH(name) LIMIT ?",
            (pattern, limit),
        )

    def uses_named(self, name: str, limit: int) -> list[tuple[str, Use]]:
        """Where a name is used, with the paths."""
        rows = self._read(
            "SELECT path, uses.name, ordinal, line, kind, receiver, receiver_type"
            " FROM uses JOIN files ON files.id = file_id WHERE uses.name = ? LIMIT ?",
            (name, limit),
        )
        return [(path, Use(*row)) for path, *row in rows]

    def aliases_of(self, name: str) -> list[tuple[str, str]]:
        """Other names that files give to what they import by this name, with the paths."""
        return self._read(
            "SELECT DISTINCT path, alias FROM imports JOIN files ON files.id = file_id"
            " WHERE imports.name = ? AND alias NOT IN ('', imports.name)",
            (name,),
        )

    def uses_in(self, path: str, ordinal: int) -> list[Use]:
        """The names used inside of a symbol, in order of line."""
        return self._uses("path = ? AND ordinal = ? ORDER BY line", (path, ordinal))

    def uses_of(self, path: str) -> list[Use]:
        """All names used in a file."""
        return self._uses("path = ?", (path,))

    def _uses(self, where: str, values: Sequence[object]) -> list[Use]:
        rows = self._read(f"{_SELECT_USES} WHERE {where}", values)
        return [Use(*row) for row in rows]

    def names_defined(self, paths: Iterable[str] | None = None) -> Iterator[tuple[str, ...]]:
        """Paths and the names that they define; of some files, or of all."""
        return self._names("path, name", "symbols", "AND kind != 'heading'", paths)

    def names_used(self, paths: Iterable[str] | None = None) -> Iterator[tuple[str, ...]]:
        """Paths and the names that they use; of some files, or of all."""
        return self._names("path, name", "uses", "", paths)

    def modules_imported(self, paths: Iterable[str] | None = None) -> Iterator[tuple[str, ...]]:
        """Paths, the modules that they import and what they take from them."""
        return self._names("path, module, name", "imports", "", paths)

    def _names(
        self, columns: str, table: str, where: str, paths: Iterable[str] | None
    ) -> Iterator[tuple[str, ...]]:
        sql = f"SELECT DISTINCT {columns} FROM files JOIN {table} ON files.id = file_id"  # noqa: S608  # our own names
        if paths is None:
            yield from self._read(f"{sql} WHERE TRUE {where}")
        for path in paths or ():
            yield from self._read(f"{sql} WHERE path = ? {where}", (path,))

    def hashes(self) -> dict[str, str]:
        """What names the text of each indexed file."""
        return dict(self._read("SELECT path, hash FROM files WHERE hash != ''"))

    def version(self) -> int:
        """Differs from what it was before if anything was written since, by any process."""
        with self._read_lock:
            rows = self._read("PRAGMA data_version")
            # A store that was made anew counts from the beginning again.
            return (self._n_opened << 32) + int(rows[0][0]) if rows else -1

    def imports_of(self, path: str) -> list[StoredImport]:
        """What a file imports, in order of line."""
        rows = self._read(
            "SELECT module, name, alias, line FROM imports JOIN files ON files.id = file_id"
            " WHERE path = ? ORDER BY imports.rowid",
            (path,),
        )
        return [StoredImport(*row) for row in rows]

    # Writing

    def put(self, files: Iterable[IndexedFile]) -> None:
        """Replace what is kept of these files, all in one transaction."""
        with self._transaction() as db:
            for file in files:
                _delete(db, file.path)
                _insert(db, file)

    def remove(self, paths: Iterable[str]) -> None:
        """Forget these files."""
        with self._transaction() as db:
            for path in paths:
                _delete(db, path)

    def clear(self) -> None:
        """Forget everything, in one transaction: who reads meanwhile sees all of it or nothing."""
        with self._transaction() as db:
            for table in ("words", "chunks", "uses", "imports", "symbols", "files"):
                db.execute(f"DELETE FROM {table}")  # noqa: S608  # our own names

    def note(self, records: Mapping[str, FileRecord]) -> None:
        """Note another size or time of files whose text did not change."""
        if not records:
            return
        with self._transaction() as db:
            db.executemany(
                "UPDATE files SET size = ?, mtime_ns = ? WHERE path = ?",
                ((r.size, r.mtime_ns, path) for path, r in records.items()),
            )

    def compact(self) -> None:
        """Merge the full-text index after a large change, so that reading stays fast."""
        with self._transaction() as db:
            db.execute("INSERT INTO words (words) VALUES ('optimize')")
        with self._translated(), self._write_lock:
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    # Below: the connections.

    def _open(self) -> None:
        self._writer = self._connect()
        try:
            version = self._writer.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:
                self._create()
            elif version != SCHEMA_VERSION:
                raise _Outdated
            self._writer.execute("SELECT COUNT(*) FROM chunks").fetchone()
            self._reader = self._connect()
            self._n_opened += 1
            self._counted = None  # another connection counts from another number
        except BaseException:
            self._writer.close()
            raise

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(
            self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")  # derived data: a lost last transaction is redone
        db.execute("PRAGMA cache_size = -16000")
        return db

    def _create(self) -> None:
        self._writer.execute("BEGIN IMMEDIATE")
        # Another process may have been faster; it holds the lock until its schema stands.
        if self._writer.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in _SCHEMA.split(";\n"):
                if statement.strip():
                    self._writer.execute(statement)
            self._writer.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        self._writer.execute("COMMIT")

    def _discard(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        self.was_rebuilt = True
        self._open()

    def _read(self, sql: str, values: Sequence[object] = ()) -> list[tuple]:  # type: ignore[type-arg]  # a row is as its SELECT
        with self._translated(), self._read_lock:
            return [] if self._is_closed else self._reader.execute(sql, values).fetchall()

    def _candidates(self, column: str, values: Sequence[object], where: Filter) -> list[Candidate]:
        condition, wanted = _condition(where)
        found: list[Candidate] = []
        for some in _slices(values, MAX_MARKS):
            rows = self._read(
                "SELECT path, ordinal, start_line, end_line, chunks.hash, name, body FROM chunks"  # noqa: S608  # our own words
                " JOIN words ON words.rowid = chunks.id JOIN files ON files.id = file_id"
                f" WHERE {column} IN ({_marks(some)}) AND {condition or 'TRUE'}",
                (*some, *wanted),
            )
            found += [Candidate(*row) for row in rows]
        return found

    def _totals(self) -> tuple[int, int]:
        """How many chunks, and their terms; counted anew only when somebody wrote."""
        with self._read_lock:
            version = self._read("PRAGMA data_version")
            if self._counted is None or self._counted[0] != version:
                sums = self._read("SELECT COUNT(*), IFNULL(SUM(n_terms), 0) FROM chunks")
                self._counted = version, *(sums[0] if sums else (0, 0))
            return self._counted[1:]

    def _symbols(self, where: str, values: Sequence[object]) -> list[StoredSymbol]:
        rows = self._read(f"{_SELECT_SYMBOLS} {where}", values)
        return [StoredSymbol(*row) for row in rows]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._translated(), self._write_lock:
            if self._is_closed:
                raise sqlite3.OperationalError("it was closed")
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's and the file system's errors as ours, with the remedy."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            is_damaged = isinstance(error, sqlite3.DatabaseError) and not isinstance(
                error, sqlite3.OperationalError
            )
            raise IndexUnusable(
                f"The index {str(self._path)!r} cannot be used: {error}. Check the free space and "
                "the permissions of its folder; everything in it may be deleted.",
                is_damaged=is_damaged,
            ) from error


class _Outdated(Exception):
    """The index was written by another version of lsp-assist."""


def _delete(db: sqlite3.Connection, path: str) -> None:
    row = db.execute("SELECT id FROM files WHERE path = ?", (path,)).fetchone()
    if row is None:
        return
    db.execute("DELETE FROM words WHERE rowid IN (SELECT id FROM chunks WHERE file_id = ?)", row)
    for table in ("chunks", "uses", "imports", "symbols"):
        db.execute(f"DELETE FROM {table} WHERE file_id = ?", row)  # noqa: S608  # our own names
    db.execute("DELETE FROM files WHERE id = ?", row)


def _insert(db: sqlite3.Connection, file: IndexedFile) -> None:
    record = file.record
    file_id = db.execute(
        "INSERT INTO files (path, size, mtime_ns, hash, language, n_lines, problem)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            file.path,
            record.size,
            record.mtime_ns,
            record.hash,
            file.language,
            file.n_lines,
            file.problem,
        ),
    ).lastrowid
    db.executemany(
        "INSERT INTO symbols (file_id, ordinal, name, qualified_name, kind, start_line, end_line,"
        " signature, summary) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        ((file_id, s.ordinal, s.name, s.qualified_name, s.kind, *_extent(s)) for s in file.symbols),
    )
    db.executemany(
        "INSERT INTO uses (name, file_id, ordinal, line, kind, receiver, receiver_type)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (u.name, file_id, u.ordinal, u.line, u.kind, u.receiver, u.receiver_type)
            for u in file.uses
        ),
    )
    db.executemany(
        "INSERT INTO imports (file_id, module, name, alias, line) VALUES (?, ?, ?, ?, ?)",
        ((file_id, i.module, i.name, i.alias, i.line) for i in file.imports),
    )
    for chunk in file.chunks:
        n_terms = len(chunk.name_terms) + len(chunk.body_terms)
        row_id = db.execute(
            "INSERT INTO chunks (file_id, ordinal, start_line, end_line, hash, n_terms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (file_id, chunk.ordinal, chunk.start_line, chunk.end_line, chunk.hash, n_terms),
        ).lastrowid
        db.execute(
            "INSERT INTO words (rowid, name, body) VALUES (?, ?, ?)",
            (row_id, " ".join(chunk.name_terms), " ".join(chunk.body_terms)),
        )


def _slices(values: Sequence[V], size: int) -> Iterator[Sequence[V]]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _match(frequency: Mapping[str, int]) -> str:
    """The rarest terms, as many as can be gone through in some ten milliseconds; at least one."""
    ordered = sorted((n, term) for term, n in frequency.items() if n)
    if not ordered:
        return ""
    n_matched, taken = 0, 0
    for n, _ in ordered:
        n_matched += n
        if n_matched > MAX_MATCHED:
            break
        taken += 1
    quoted = [f'"{term}"' for _, term in ordered]
    if taken or len(quoted) == 1:
        return " OR ".join(quoted[: max(taken, 1)])
    # Even the rarest is everywhere: a chunk has to hold another one too.
    return f"{quoted[0]} AND ({' OR '.join(quoted[1:])})"


def _condition(where: Filter) -> tuple[str, list[object]]:
    """What a filter says about a row of `files`, and its values."""
    conditions: list[str] = []
    values: list[object] = []
    if folder := where.path.rstrip("/"):
        conditions.append("(path = ? OR (path >= ? AND path < ?))")
        values += [folder, f"{folder}/", f"{folder}0"]  # 0 comes after /
    if where.language:
        conditions.append("language = ?")
        values.append(where.language)
    return " AND ".join(conditions), values


def _extent(symbol: StoredSymbol) -> tuple[int, int, str, str]:
    return symbol.start_line, symbol.end_line, symbol.signature, symbol.summary
