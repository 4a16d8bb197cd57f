"""The chat database as a file: opened, migrated, moved aside when damaged, private to the user.

Knows connections and transactions; of chats only that their tables come from schema.py.
"""

import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lsp_assist.chat import writers
from lsp_assist.chat.schema import MIGRATIONS
from lsp_assist.errors import ChatsUnusable

__all__ = ["Database"]

logger = logging.getLogger(__name__)

_BUSY_TIMEOUT_S = 10.0


class Database:
    """A connection, used by one thread at a time. None as its path keeps all in memory."""

    def __init__(self, path: Path | None) -> None:
        """Open it, and make or migrate it.

        Raises: ChatsUnusable if it is of a newer version, or its folder cannot be written.
        """
        self._path = path
        self.moved_to: Path | None = None
        """Where a damaged database was moved, for a new one to take its place."""
        self._db: sqlite3.Connection | None = None
        if path is None:
            self._open(":memory:")
            return
        with self._translated():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Nobody else opens it while it is checked, migrated or moved.
            with writers.exclusive(path.with_name(f"{path.name}.lock")):
                try:
                    self._open_file(path)
                except sqlite3.OperationalError:
                    raise
                except sqlite3.DatabaseError as error:
                    self._move_aside(path, error)
                    self._open_file(path)

    def close(self) -> None:
        """Idempotent."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def rows(self, sql: str, *values: object) -> list[Any]:
        """All rows of a SELECT.

        Raises: ChatsUnusable
        """
        with self._translated():
            return self._connection().execute(sql, values).fetchall()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and alone among the processes that write.

        Raises: ChatsUnusable
        """
        with self._translated():
            db = self._connection()
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # a full disk has rolled back by itself
                    db.execute("ROLLBACK")
                raise

    # Below: opening.

    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise sqlite3.OperationalError("it was closed")
        return self._db

    def _open_file(self, path: Path) -> None:
        # Made with its mode before SQLite sees it; the files beside it get the same one.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._open(path)
        try:
            (verdict,) = self._connection().execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise sqlite3.DatabaseError(verdict)
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path | str) -> None:
        db = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            db.execute("PRAGMA journal_mode = WAL")
            # A power cut may cost the last transactions, never the database; kill -9 costs nothing.
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute("PRAGMA secure_delete = ON")  # a deleted chat is gone from the file too
            _migrate(db)
        except BaseException:
            db.close()
            raise
        self._db = db

    def _move_aside(self, path: Path, error: sqlite3.Error) -> None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        target = path.with_name(f"{path.name}.damaged-{stamp}")
        n = 1
        while target.exists():
            n += 1
            target = path.with_name(f"{path.name}.damaged-{stamp}-{n}")
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
        path.rename(target)
        self.moved_to = target
        logger.warning("The chats in %s are damaged (%s); moved to %s", path, error, target)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """SQLite's and the file system's errors as ours, with the remedy."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise ChatsUnusable(
                f"The chats in {str(self._path)!r} cannot be used: {error}. Check the free space "
                "and the permissions of the folder; a damaged file is moved aside at the next "
                "start."
            ) from error


def _migrate(db: sqlite3.Connection) -> None:
    """Run what was not run yet, each migration in a transaction of its own.

    Raises: ChatsUnusable for a database of a newer version.
    """
    while (version := db.execute("PRAGMA user_version").fetchone()[0]) != len(MIGRATIONS):
        if version > len(MIGRATIONS):
            raise ChatsUnusable(
                f"The chats were written by a newer lsp-assist (version {version} of their tables, "
                f"this one knows {len(MIGRATIONS)}); update lsp-assist to see them."
            )
        db.execute("BEGIN IMMEDIATE")
        try:
            MIGRATIONS[version](db)
            db.execute(f"PRAGMA user_version = {version + 1}")
            db.execute("COMMIT")
        except BaseException:
            db.execute("ROLLBACK")
            raise
