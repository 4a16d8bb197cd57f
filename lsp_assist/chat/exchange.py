"""A chat as a Markdown log, and a chat of a log: everything that a prompt is made of comes back.

What a message was made of stands in its metadata (`segments`, each with its length), so that an
imported chat goes on with the very prompt that it was exported with. A message whose text a person
edited is what they made of it, in one piece. Pure: knows no file and no store.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from lsp_assist.chat import codec, titles
from lsp_assist.chat.log import Entry, Log
from lsp_assist.chat.store import StoredChat
from lsp_assist.chat.tree import Chat, Turn, TurnStatus
from lsp_assist.errors import LogError
from lsp_assist.llm import Message, Role, Segment, SegmentKind

__all__ = ["chat_of", "log_of"]

_USER = "user:tty"
_AGENT = "agent:llm:"
_SYSTEM = "system:lsp-assist"

_KIND: dict[Role, SegmentKind] = {"system": "system", "user": "question", "assistant": "reply"}


def log_of(stored: StoredChat, turn_id: str | None = None) -> Log:
    """The chat as a log: all of its turns, or those up to one.

    Raises: UnknownTurn
    """
    chat = stored.chat
    turns = chat.path(turn_id) if turn_id is not None else list(chat.turns.values())
    openings = list(dict.fromkeys([chat.opening, *(turn.opening for turn in turns)]))
    entries = [
        _entry(_SYSTEM, stored.created_ns, message, {"opening": n, "role": message.role})
        for n, opening in enumerate(openings)
        for message in opening
    ]
    before: str | None = None
    for turn in turns:
        said: dict[str, Any] = {"turn": turn.id}
        if turn.parent_id != before:
            said["parent"] = turn.parent_id
        if turn.opening != chat.opening:
            said["opening"] = openings.index(turn.opening)
        said |= {"mode": turn.mode} if turn.mode else {}
        said |= {"personality": turn.personality} if turn.personality else {}
        entries.append(_entry(_USER, turn.created_ns, turn.question, said))
        status = "cancelled" if turn.status == "running" else turn.status
        said = {"turn": turn.id} | ({"status": status} if status != "done" else {})
        entries.append(_entry(f"{_AGENT}{turn.model}", turn.ended_ns, turn.reply, said))
        before = turn.id
    return Log(tuple(entries), {"title": stored.title} if stored.title else {})


def chat_of(log: Log, chat_id: str, roots: Sequence[str], new_id: Callable[[], str]) -> StoredChat:
    """The chat that a log holds, ours or somebody else's; `new_id` names turns that have no name.

    Raises: LogError, which names the line
    """
    reader = _Reader(new_id)
    for entry in log.entries:
        reader.read(entry)
    reader.end_turn()
    turns = reader.turns
    openings = {n: tuple(messages) for n, messages in reader.openings.items()}
    chat = Chat(chat_id, openings.get(0, ()))
    for turn, opening in turns:
        chat = chat.with_turn(replace(turn, opening=openings.get(opening, ())))
    said = log.extra.get("title")
    first = titles.first_words(turns[0][0].asked if turns else "", instead="An imported chat")
    times = [time for turn, _ in turns for time in (turn.created_ns, turn.ended_ns) if time]
    created, updated = (min(times), max(times)) if times else (0, 0)
    title = said if isinstance(said, str) and said.strip() else first
    return StoredChat(chat, title, "user", tuple(roots), None, created, updated)


@dataclass(slots=True)
class _Question:
    """A question that waits for its reply."""

    entry: Entry
    turn_id: str
    parent_id: str | None
    opening: int


class _Reader:
    """Gathers the turns of a log."""

    def __init__(self, new_id: Callable[[], str]) -> None:
        self.openings: dict[int, list[Message]] = {}
        self.turns: list[tuple[Turn, int]] = []
        self._new_id = new_id
        self._ids: set[str] = set()
        self._question: _Question | None = None

    def read(self, entry: Entry) -> None:
        """Take the next message.

        Raises: LogError
        """
        kind = entry.publisher.partition(":")[0]
        if kind == "system":
            self._open(entry)
        elif kind == "user":
            self.end_turn()
            self._ask(entry)
        elif kind == "agent":
            if self._question is None:  # nobody asked for it
                self._ask(Entry("user:", entry.created_ns, "", line=entry.line))
            self._answer(entry)
        else:
            raise LogError(
                f"the publisher {entry.publisher!r} is neither `user:`, `agent:` nor `system:`.",
                line=entry.line,
            )

    def end_turn(self) -> None:
        """A question that nobody answered is a turn all the same."""
        if self._question is not None:
            created = self._question.entry.created_ns
            self._answer(Entry(_AGENT, created, "", {"status": "cancelled"}))

    def _open(self, entry: Entry) -> None:
        if self.turns or self._question is not None:
            raise LogError("a `system:` message stands before all others only.", line=entry.line)
        role: Role = "system"
        if entry.extra.get("role") in get_args(Role):
            role = entry.extra["role"]
        self.openings.setdefault(self._opening(entry), []).append(_message(entry, role))

    def _opening(self, entry: Entry) -> int:
        said = entry.extra.get("opening", 0)
        return said if isinstance(said, int) else 0

    def _ask(self, entry: Entry) -> None:
        said = entry.extra.get("turn")
        turn_id = said if isinstance(said, str) and said else self._new_id()
        if turn_id in self._ids:
            raise LogError(f"the turn {turn_id!r} is there twice.", line=entry.line)
        before = self.turns[-1][0].id if self.turns else None
        parent_id = entry.extra.get("parent", before)
        if parent_id is not None and parent_id not in self._ids:
            raise LogError(f"there is no turn {parent_id!r} before this one.", line=entry.line)
        self._ids.add(turn_id)
        self._question = _Question(entry, turn_id, parent_id, self._opening(entry))

    def _answer(self, entry: Entry) -> None:
        asked, self._question = self._question, None
        assert asked is not None
        status: TurnStatus = "done"
        if entry.extra.get("status") in ("cancelled", "error"):
            status = entry.extra["status"]
        turn = Turn(
            asked.turn_id,
            asked.parent_id,
            _message(asked.entry, "user"),
            _message(entry, "assistant"),
            status,
            mode=_text(asked.entry.extra, "mode"),
            personality=_text(asked.entry.extra, "personality"),
            model=entry.publisher.removeprefix("agent:").removeprefix("llm:"),
            created_ns=asked.entry.created_ns,
            ended_ns=entry.created_ns,
        )
        self.turns.append((turn, asked.opening))


def _text(extra: Mapping[str, Any], key: Literal["mode", "personality"]) -> str:
    said = extra.get(key)
    return said if isinstance(said, str) else ""


def _entry(publisher: str, created_ns: int, message: Message, said: dict[str, Any]) -> Entry:
    """The message, with what it was made of where that is more than one plain piece."""
    if message.segments != (Segment(_KIND[message.role], message.text),):
        layout = []
        for segment in message.segments:
            plain = codec.plain(segment)
            del plain["text"]
            layout.append({"length": len(segment.text), **plain})
        said = {**said, "segments": layout}
    return Entry(publisher, created_ns, message.text, said)


def _message(entry: Entry, role: Role) -> Message:
    """The message as it was made, or in one piece if its text was edited since."""
    whole = Message(role, (Segment(_KIND[role], entry.text),))
    layout = entry.extra.get("segments")
    if not isinstance(layout, list):
        return whole
    try:
        lengths = [piece["length"] for piece in layout]
        if sum(lengths) != len(entry.text) or any(n < 0 for n in lengths):
            return whole
        ends = list(itertools.accumulate(lengths))
        segments = [
            {**piece, "text": entry.text[end - n : end]}
            for piece, n, end in zip(layout, lengths, ends, strict=True)
        ]
        return codec.message_of({"role": role, "segments": segments})
    except (TypeError, KeyError, ValueError, AttributeError):
        return whole
