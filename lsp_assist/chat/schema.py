"""The tables of the chat database, as the migrations that lead to them.

A migration is never edited once it was released; a change is a new one at the end. Knows SQL only.

A turn points to its parent, a fork to the turn that it begins at: nothing is copied. Messages are
kept once each, by what they say. Ids are given once (AUTOINCREMENT), for another process may still
hold what one meant.
"""

import sqlite3
from collections.abc import Callable

__all__ = ["MIGRATIONS"]

_CHATS = """
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB NOT NULL UNIQUE, body TEXT NOT NULL
);
CREATE TABLE openings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    messages TEXT NOT NULL UNIQUE  -- a JSON array of messages.id
);
CREATE TABLE chats (
    id TEXT PRIMARY KEY, title TEXT NOT NULL, title_origin TEXT NOT NULL,
    roots TEXT NOT NULL,  -- a JSON array of folders
    opening INTEGER REFERENCES openings, fork_of INTEGER REFERENCES turns,
    created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL
);
CREATE TABLE turns (
    row INTEGER PRIMARY KEY AUTOINCREMENT, chat TEXT NOT NULL, id TEXT NOT NULL,
    parent INTEGER REFERENCES turns, opening INTEGER REFERENCES openings,
    question INTEGER NOT NULL REFERENCES messages,
    reply TEXT NOT NULL,  -- the whole message, rewritten while it grows
    status TEXT NOT NULL,
    ended INTEGER,  -- counts the turns as they end; NULL while one runs
    writer TEXT NOT NULL,  -- who writes the reply of one that runs
    mode TEXT NOT NULL, personality TEXT NOT NULL, model TEXT NOT NULL,
    created_ns INTEGER NOT NULL, ended_ns INTEGER NOT NULL,
    verdict TEXT NOT NULL DEFAULT '', verdict_text TEXT NOT NULL DEFAULT '',
    UNIQUE (chat, id)
);
CREATE INDEX turns_by_id ON turns (id);
CREATE INDEX turns_by_end ON turns (ended);
CREATE INDEX turns_by_question ON turns (question);
CREATE VIRTUAL TABLE words USING fts5 (  -- typed, and shown of the reply; rowid is turns.row
    question, reply, tokenize = "unicode61 remove_diacritics 2 tokenchars '_'"
);
"""


def _chats(db: sqlite3.Connection) -> None:
    for statement in _CHATS.split(";\n"):
        if statement.strip():
            db.execute(statement)


MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (_chats,)
"""What makes an empty database into a current one; `user_version` counts those that ran."""
