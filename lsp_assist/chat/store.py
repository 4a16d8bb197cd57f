"""All chats of the user, kept in one database: trees of turns, forks that are pointers, search.

A turn is written when it is asked, again while its reply comes, and last when it ended; one whose
process was killed is found as "cancelled" with what it had said. Several processes share it, and
each reads what is there now. Blocks; used from one thread. Knows no event loop and no model.
"""

import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lsp_assist.chat import codec, hidden, writers
from lsp_assist.chat.database import Database
from lsp_assist.chat.tree import Chat, Turn, TurnStatus
from lsp_assist.errors import BadInput, UnknownTurn
from lsp_assist.llm import Message

if TYPE_CHECKING:
    import sqlite3

__all__ = ["ChatStore", "Found", "StoredChat", "Summary", "TitleOrigin", "Verdict"]

TitleOrigin = Literal["none", "words", "model", "user"]
Verdict = Literal["accepted", "rejected", "edited"]

_N_MESSAGES_HELD = 2_000
_MAX_TITLE_CHARS = 200
_MAX_TERMS = 20


@dataclass(frozen=True, slots=True)
class Summary:
    """A chat as a list shows it."""

    id: str
    title: str
    roots: tuple[str, ...]
    """The workspace folders that it was begun in."""
    n_turns: int
    created_ns: int
    updated_ns: int


@dataclass(frozen=True, slots=True)
class StoredChat:
    """A chat with what is known beside its turns."""

    chat: Chat
    title: str
    title_origin: TitleOrigin
    roots: tuple[str, ...]
    fork_of: str | None
    """The turn that it was forked at, which its first own turn continues."""
    created_ns: int
    updated_ns: int


@dataclass(frozen=True, slots=True)
class Found:
    """A turn that holds the words looked for."""

    chat_id: str
    turn_id: str
    title: str
    excerpt: str
    created_ns: int


class ChatStore:
    """Owns the database and the lock that tells others that this process writes."""

    def __init__(self, path: Path | None, clock_ns: Callable[[], int] = time.time_ns) -> None:
        """Open the chats at this path; None keeps them in memory.

        Raises: ChatsUnusable
        """
        self._db = Database(path)
        self._clock_ns = clock_ns
        self._writers = path.with_name("writers") if path is not None else None
        self._writer: writers.Writer | None = None
        self._messages: OrderedDict[int, Message] = OrderedDict()

    @property
    def moved_to(self) -> Path | None:
        """Where a damaged database went, if this one had to take its place."""
        return self._db.moved_to

    def close(self) -> None:
        """Idempotent. A turn that still runs is then found as cancelled."""
        self._db.close()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    # Reading

    def load(self, chat_id: str) -> StoredChat | None:
        """The chat as it is now, with the turns that it shares with the chat it was forked from.

        Raises: ChatsUnusable
        """
        self._end_what_was_killed(chat_id)
        row = self._chat_row(chat_id)
        if row is None:
            return None
        title, origin, roots, opening, fork_of, created_ns, updated_ns = row
        fork_id: str | None = None
        ids: dict[int, str] = {}
        turns: dict[str, Turn] = {}
        for found in [*self._path_rows(fork_of), *self._own_rows(chat_id)]:
            at, turn_id, parent, turn_opening, question, reply, status, *more = found
            if at in ids:
                continue
            ids[at] = turn_id
            turns[turn_id] = Turn(
                turn_id,
                ids.get(parent),
                self._message(question),
                codec.decoded(reply),
                status,
                self._opening(turn_opening),
                *more,
            )
            fork_id = turn_id if at == fork_of else fork_id
        chat = Chat(chat_id, self._opening(opening), turns)
        return StoredChat(
            chat, title, origin, tuple(json.loads(roots)), fork_id, created_ns, updated_ns
        )

    def existing(self, chat_id: str) -> StoredChat:
        """As `load`.

        Raises: ChatsUnusable; UnknownTurn if there is no such chat
        """
        stored = self.load(chat_id)
        if stored is None:
            raise _unknown(chat_id)
        return stored

    def chats(self, roots: Sequence[str] | None = None, limit: int = 100) -> list[Summary]:
        """The chats begun in one of these folders, or all, newest first.

        Raises: ChatsUnusable
        """
        where = (
            ""
            if roots is None
            else "WHERE EXISTS (SELECT 1 FROM json_each(chats.roots) AS a JOIN json_each(?1) AS b"
            " ON a.value = b.value)"
        )
        sql = (
            "SELECT id, title, roots, (SELECT COUNT(*) FROM turns WHERE chat = chats.id),"  # noqa: S608  # our own text
            f" created_ns, updated_ns FROM chats {where} ORDER BY updated_ns DESC, id LIMIT ?2"
        )
        rows = self._db.rows(sql, json.dumps(list(roots or ())), limit)
        return [Summary(row[0], row[1], tuple(json.loads(row[2])), *row[3:]) for row in rows]

    def search(self, query: str, limit: int = 20) -> list[Found]:
        """The turns that hold all words of the query, best first; then chats by their title.

        The last word may be the start of one.

        Raises: ChatsUnusable
        """
        terms = query.replace('"', " ").replace("\0", " ").split()[:_MAX_TERMS]
        if not terms:
            return []
        quoted = " ".join(f'"{term}"' for term in terms) + "*"
        rows = self._db.rows(
            "SELECT chats.id, turns.id, title, snippet(words, -1, '', '', '...', 16),"
            " turns.created_ns FROM words JOIN turns ON turns.row = words.rowid"
            " JOIN chats ON chats.id = turns.chat WHERE words MATCH ? ORDER BY rank LIMIT ?",
            quoted,
            limit,
        )
        titled = self._db.rows(
            "SELECT chats.id, turns.id, title, title, turns.created_ns FROM chats JOIN turns"
            " ON turns.row = (SELECT MIN(row) FROM turns WHERE chat = chats.id)"
            " WHERE instr(lower(title), lower(?)) > 0 ORDER BY updated_ns DESC LIMIT ?",
            _sound(query.strip()),
            limit,
        )
        found = {(row[0], row[1]): Found(*row) for row in [*rows, *titled][::-1]}
        return list(found.values())[::-1][:limit]

    def n_chats(self) -> int:
        """How many chats there are.

        Raises: ChatsUnusable
        """
        return int(self._db.rows("SELECT COUNT(*) FROM chats")[0][0])

    # Writing

    def begin(self, chat_id: str, roots: Sequence[str], title: str, turn: Turn) -> int:
        """Write down a turn as it is sent, and its chat if it is new; a number to go on with.

        Raises: ChatsUnusable; UnknownTurn, BadInput if its parent is gone or its id is taken.
        """
        if self._writer is None and self._writers is not None:
            with writers.exclusive(self._writers.with_suffix(".lock")):
                self._writer = writers.Writer(self._writers)
        now = self._clock_ns()
        with self._db.transaction() as db:
            opening = _put_opening(db, turn.opening)
            db.execute(
                "INSERT OR IGNORE INTO chats VALUES (?, '', 'none', ?, ?, NULL, ?, ?)",
                (chat_id, json.dumps(list(roots)), opening, now, now),
            )
            db.execute(
                "UPDATE chats SET updated_ns = ?, opening = IFNULL(opening, ?) WHERE id = ?",
                (now, opening, chat_id),
            )
            self._title(db, chat_id, title, "words")
            return self._insert(db, chat_id, replace(turn, created_ns=now), opening)

    def write(self, at: int, reply: Message) -> None:
        """Write down what a running turn has said so far.

        Raises: ChatsUnusable
        """
        with self._db.transaction() as db:
            said = (codec.encoded(reply), at)
            db.execute("UPDATE turns SET reply = ? WHERE row = ? AND ended IS NULL", said)

    def end(self, at: int, reply: Message, status: TurnStatus, model: str) -> None:
        """Write down how a turn ended. One that was deleted meanwhile stays deleted.

        Raises: ChatsUnusable
        """
        with self._db.transaction() as db:
            db.execute("UPDATE turns SET reply = ? WHERE row = ?", (codec.encoded(reply), at))
            now = self._clock_ns()
            _end(db, at, status, model, now)
            db.execute(
                "UPDATE chats SET updated_ns = ? WHERE id = (SELECT chat FROM turns WHERE row = ?)",
                (now, at),
            )

    def fork(self, chat_id: str, turn_id: str, new_id: str, roots: Sequence[str]) -> StoredChat:
        """A new chat that begins with the turns up to this one. Copies nothing.

        Raises: ChatsUnusable; UnknownTurn; BadInput if the new id is taken.
        """
        stored = self.existing(chat_id)
        turn = stored.chat.answered_path(turn_id)[-1]
        now = self._clock_ns()
        with self._db.transaction() as db:
            at = self._row_of(chat_id, turn_id)
            if at is None:
                raise _unknown(chat_id)  # deleted since it was read
            (opening,) = db.execute("SELECT opening FROM turns WHERE row = ?", (at,)).fetchone()
            self._refuse_taken(db, new_id)
            db.execute(
                "INSERT INTO chats VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(new_id, stored.title, "words", json.dumps(list(roots or stored.roots))),
                    *(opening, at, now, now),
                ),
            )
        forked = self.existing(new_id)
        assert forked.chat.opening_after(turn_id) == turn.opening
        return forked

    def rename(self, chat_id: str, title: str, origin: TitleOrigin = "user") -> str:
        """The title that the chat has now: this one, unless a person gave it another.

        Raises: ChatsUnusable; UnknownTurn
        """
        with self._db.transaction() as db:
            self._title(db, chat_id, title, origin)
            row = db.execute("SELECT title FROM chats WHERE id = ?", (chat_id,)).fetchone()
        if row is None:
            raise _unknown(chat_id)
        return str(row[0])

    def delete(self, chat_id: str) -> None:
        """Delete a chat and what no other chat shares with it.

        Raises: ChatsUnusable; UnknownTurn
        """
        with self._db.transaction() as db:
            if not db.execute("DELETE FROM chats WHERE id = ?", (chat_id,)).rowcount:
                raise _unknown(chat_id)
            _hand_over_to_forks(db)
            db.execute("DELETE FROM turns WHERE chat NOT IN (SELECT id FROM chats)")
            for statement in _SWEEP.strip().split(";\n"):
                db.execute(statement)
        self._messages.clear()

    def add(self, stored: StoredChat) -> None:
        """Put in a chat whole, as when a log is imported. All of its turns have ended.

        Raises: ChatsUnusable; BadInput if its id is taken
        """
        now = self._clock_ns()
        with self._db.transaction() as db:
            self._refuse_taken(db, stored.chat.id)
            opening = _put_opening(db, stored.chat.opening)
            db.execute(
                "INSERT INTO chats VALUES (?, ?, ?, ?, ?, NULL, ?, ?)",
                (
                    *(stored.chat.id, stored.title, stored.title_origin),
                    *(json.dumps(list(stored.roots)), opening),
                    *(stored.created_ns or now, stored.updated_ns or now),
                ),
            )
            for turn in stored.chat.turns.values():
                at = self._insert(db, stored.chat.id, turn, _put_opening(db, turn.opening))
                _end(db, at, turn.status, turn.model, turn.ended_ns)

    def judge(self, turn_id: str, verdict: Verdict, text: str = "") -> None:
        """Note what the user thought of a reply, and the text that they made of it.

        Raises: ChatsUnusable; UnknownTurn
        """
        with self._db.transaction() as db:
            n_changed = db.execute(
                "UPDATE turns SET verdict = ?, verdict_text = ? WHERE row ="
                " (SELECT MAX(row) FROM turns WHERE id = ?)",
                (verdict, text, turn_id),
            ).rowcount
        if not n_changed:
            raise UnknownTurn(
                f"There is no turn {turn_id!r}; its chat may have been deleted.", field="turnId"
            )

    # Below: how it is done.

    def _chat_row(self, chat_id: str) -> tuple[str, TitleOrigin, str, int, int, int, int] | None:
        rows = self._db.rows(
            "SELECT title, title_origin, roots, opening, fork_of, created_ns, updated_ns"
            " FROM chats WHERE id = ?",
            chat_id,
        )
        return rows[0] if rows else None

    def _path_rows(self, fork_of: int | None) -> list[tuple]:  # type: ignore[type-arg]  # a row is as its SELECT
        return [] if fork_of is None else self._db.rows(_PATH, fork_of)

    def _own_rows(self, chat_id: str) -> list[tuple]:  # type: ignore[type-arg]  # a row is as its SELECT
        return self._db.rows(
            "SELECT row, id, parent, opening, question, reply, status, mode, personality, model,"
            " created_ns, ended_ns FROM turns WHERE chat = ? ORDER BY ended IS NULL, ended, row",
            chat_id,
        )

    def _row_of(self, chat_id: str, turn_id: str) -> int | None:
        """The turn's row, if it is one of the chat's own or of those that it shares."""
        own = self._db.rows("SELECT row FROM turns WHERE chat = ? AND id = ?", chat_id, turn_id)
        if own:
            return int(own[0][0])
        row = self._chat_row(chat_id)
        shared = self._path_rows(row[4] if row else None)
        return next((at for at, shared_id, *_ in shared if shared_id == turn_id), None)

    def _insert(
        self, db: "sqlite3.Connection", chat_id: str, turn: Turn, opening: int | None
    ) -> int:
        parent = None if turn.parent_id is None else self._row_of(chat_id, turn.parent_id)
        if parent is None and turn.parent_id is not None:
            raise UnknownTurn(
                f"Chat {chat_id!r} has no turn {turn.parent_id!r}; it was deleted meanwhile.",
                field="parentTurnId",
            )
        if self._row_of(chat_id, turn.id) is not None:
            raise BadInput(
                f"Turn {turn.id!r} is already in chat {chat_id!r}; use a new id.", field="turnId"
            )
        at = db.execute(
            "INSERT INTO turns (chat, id, parent, opening, question, reply, status, writer, mode,"
            " personality, model, created_ns, ended_ns)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(chat_id, turn.id, parent, opening, _put_message(db, turn.question)),
                *(codec.encoded(turn.reply), turn.status),
                *(self._writer.name if self._writer else "", turn.mode, turn.personality),
                *(turn.model, turn.created_ns, turn.ended_ns),
            ),
        ).lastrowid
        assert at is not None
        words = (at, _sound(turn.asked), "")
        db.execute("INSERT INTO words (rowid, question, reply) VALUES (?, ?, ?)", words)
        return at

    def _title(
        self, db: "sqlite3.Connection", chat_id: str, title: str, origin: TitleOrigin
    ) -> None:
        """Give the chat a title, unless it has one that says more."""
        weaker = {
            "none": (),
            "words": ("none",),
            "model": ("none", "words", "model"),
            "user": ("none", "words", "model", "user"),
        }
        said = " ".join(_sound(title).split())[:_MAX_TITLE_CHARS]
        if said:
            db.execute(
                "UPDATE chats SET title = ?, title_origin = ? WHERE id = ? AND title_origin IN"
                " (SELECT value FROM json_each(?))",
                (said, origin, chat_id, json.dumps(weaker[origin])),
            )

    def _refuse_taken(self, db: "sqlite3.Connection", chat_id: str) -> None:
        if db.execute("SELECT 1 FROM chats WHERE id = ?", (chat_id,)).fetchone():
            raise BadInput(f"There is a chat {chat_id!r} already; use a new id.", field="newChatId")

    def _end_what_was_killed(self, chat_id: str) -> None:
        """Turns of this chat whose process is gone are cancelled; what they said is kept."""
        rows = self._db.rows(
            "SELECT row, writer, model FROM turns WHERE chat = ? AND ended IS NULL", chat_id
        )
        for at, writer, model in rows:
            is_own = self._writer is not None and writer == self._writer.name
            if is_own or self._writers is None or writers.is_alive(self._writers, writer):
                continue
            with self._db.transaction() as db:
                _end(db, at, "cancelled", model, self._clock_ns())

    def _opening(self, opening: int | None) -> tuple[Message, ...]:
        if opening is None:
            return ()
        rows = self._db.rows("SELECT messages FROM openings WHERE id = ?", opening)
        return tuple(self._message(at) for at in json.loads(rows[0][0]))

    def _message(self, at: int) -> Message:
        held = self._messages.pop(at, None)
        if held is None:
            held = codec.decoded(self._db.rows("SELECT body FROM messages WHERE id = ?", at)[0][0])
        self._messages[at] = held
        while len(self._messages) > _N_MESSAGES_HELD:
            self._messages.popitem(last=False)
        return held


_PATH = """
WITH RECURSIVE up (at, height) AS (
    SELECT ?, 0
    UNION ALL SELECT parent, height + 1 FROM up JOIN turns ON row = at WHERE parent IS NOT NULL
)
SELECT row, id, parent, opening, question, reply, status, mode, personality, model, created_ns,
    ended_ns
FROM up JOIN turns ON row = at ORDER BY height DESC
"""
_SWEEP = """
DELETE FROM words WHERE rowid NOT IN (SELECT row FROM turns);
INSERT INTO words (words) VALUES ('optimize');
DELETE FROM openings WHERE id NOT IN (
    SELECT opening FROM turns WHERE opening NOTNULL
    UNION SELECT opening FROM chats WHERE opening NOTNULL
);
DELETE FROM messages WHERE id NOT IN (
    SELECT question FROM turns UNION SELECT value FROM openings, json_each(openings.messages)
);
"""
"""Deletes what nothing points to any more, and its words from the search."""


def _put_message(db: "sqlite3.Connection", message: Message) -> int:
    body = codec.encoded(message)
    digest = blake2b(body.encode(), digest_size=16).digest()
    db.execute("INSERT OR IGNORE INTO messages (digest, body) VALUES (?, ?)", (digest, body))
    (at,) = db.execute("SELECT id FROM messages WHERE digest = ?", (digest,)).fetchone()
    return int(at)


def _put_opening(db: "sqlite3.Connection", messages: Sequence[Message]) -> int | None:
    if not messages:
        return None
    ids = json.dumps([_put_message(db, message) for message in messages])
    db.execute("INSERT OR IGNORE INTO openings (messages) VALUES (?)", (ids,))
    (at,) = db.execute("SELECT id FROM openings WHERE messages = ?", (ids,)).fetchone()
    return int(at)


def _end(db: "sqlite3.Connection", at: int, status: TurnStatus, model: str, ended_ns: int) -> None:
    """Give a turn its place among those that ended, and its reply to the search."""
    changed = db.execute(
        "UPDATE turns SET status = ?, model = ?, ended_ns = ?, writer = '',"
        " ended = (SELECT IFNULL(MAX(ended), 0) + 1 FROM turns) WHERE row = ? AND ended IS NULL",
        (status, model, ended_ns, at),
    ).rowcount
    if changed:
        (reply,) = db.execute("SELECT reply FROM turns WHERE row = ?", (at,)).fetchone()
        shown = _sound(hidden.visible(codec.decoded(reply).text))
        db.execute("UPDATE words SET reply = ? WHERE rowid = ?", (shown, at))


def _hand_over_to_forks(db: "sqlite3.Connection") -> None:
    """Turns of no chat that a fork begins with become the fork's own."""
    forks = db.execute("SELECT id, fork_of FROM chats WHERE fork_of IS NOT NULL ORDER BY fork_of")
    living = {chat_id for (chat_id,) in db.execute("SELECT id FROM chats")}
    for chat_id, fork_of in forks.fetchall():
        at = fork_of
        while at is not None:
            owner, parent = db.execute(
                "SELECT chat, parent FROM turns WHERE row = ?", (at,)
            ).fetchone()
            if owner not in living:
                db.execute("UPDATE turns SET chat = ? WHERE row = ?", (chat_id, at))
            at = parent


def _sound(text: str) -> str:
    """The text without what a column of text cannot hold."""
    return text.encode(errors="replace").decode().replace("\0", " ")


def _unknown(chat_id: str) -> UnknownTurn:
    return UnknownTurn(
        f"There is no chat {chat_id!r}; `assist/chats` or `lsp-assist chat list` lists those there"
        " are.",
        field="chatId",
    )
