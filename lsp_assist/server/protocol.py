"""The extension of LSP as types: what travels beyond the standard, and nothing else.

PROTOCOL.md describes it for those who write a client; its tables are made from here by
protocol_tables.py and a test holds the two together. Names are snake_case here and camelCase on the
wire; the words beside a field are its line in the tables. Knows no server and no assistant.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePath
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from lsp_assist.errors import BadInput
from lsp_assist.llm import ModelState

__all__ = [
    "APPLY_EDIT",
    "ASK",
    "CANCEL",
    "CHAT",
    "CHATS",
    "CONTEXT",
    "DELETE_CHAT",
    "EDITS",
    "EVENT",
    "EVENTS",
    "EXPERIMENTAL",
    "EXPORT_CHAT",
    "FEEDBACK",
    "FORK",
    "IMPORT_CHAT",
    "INDEX",
    "MODELS",
    "MODES",
    "RENAME_CHAT",
    "REQUESTS",
    "SEARCH",
    "STATUS",
    "VERSION",
    "WARM",
    "Applied",
    "ApplyParams",
    "AskParams",
    "AskResult",
    "CancelParams",
    "ChatFound",
    "ChatInfo",
    "ChatParams",
    "ChatSummary",
    "ChatsParams",
    "ChatsResult",
    "CommandArgument",
    "CommandResult",
    "Context",
    "ContextResult",
    "EditInfo",
    "EditedFile",
    "EditsParams",
    "Empty",
    "Ended",
    "ErrorInfo",
    "EventFields",
    "EventKind",
    "ExportParams",
    "Exported",
    "Failed",
    "FeedbackParams",
    "ForkParams",
    "Found",
    "ImportParams",
    "IndexInfo",
    "IndexParams",
    "IndexResult",
    "LeftOutInfo",
    "ModeInfo",
    "ModelChoiceInfo",
    "ModelInfo",
    "ModelsResult",
    "ModesResult",
    "Named",
    "NoteContext",
    "PersonalityInfo",
    "PieceInfo",
    "Position",
    "ProblemContext",
    "Range",
    "RefusedEdit",
    "RenameParams",
    "Said",
    "SearchParams",
    "SearchResult",
    "SelectionContext",
    "SourceInfo",
    "StatusResult",
    "TurnInfo",
    "UsageInfo",
    "Used",
    "WarmResult",
    "camel_case",
    "structure",
    "unstructure",
]

VERSION = 1

EXPERIMENTAL = {"lspAssist": {"version": VERSION}}
"""Stands in the server's capabilities under `experimental`, and in those of a client that speaks
the extension."""

APPLY_EDIT = "assist/applyEdit"
ASK = "assist/ask"
WARM = "assist/warm"
CONTEXT = "assist/context"
CANCEL = "assist/cancel"
CHAT = "assist/chat"
CHATS = "assist/chats"
DELETE_CHAT = "assist/deleteChat"
EDITS = "assist/edits"
EXPORT_CHAT = "assist/exportChat"
FEEDBACK = "assist/feedback"
FORK = "assist/fork"
IMPORT_CHAT = "assist/importChat"
MODELS = "assist/models"
MODES = "assist/modes"
RENAME_CHAT = "assist/renameChat"
INDEX = "assist/index"
SEARCH = "assist/search"
STATUS = "assist/status"
EVENT = "assist/event"

TurnEnd = Literal["done", "cancelled", "error"]
TurnState = Literal["running", "done", "cancelled", "error"]
Verdict = Literal["accepted", "rejected", "edited"]
EventKind = Literal["step", "title", "delta", "edit", "usage", "done", "cancelled", "error"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two characters, as in LSP."""

    line: Annotated[int, "zero-based"]
    character: Annotated[int, "in the negotiated encoding; past the end of the line is its end"]


@dataclass(frozen=True, slots=True)
class Range:
    """A stretch of a document, as in LSP: the end is not included."""

    start: Annotated[Position, ""]
    end: Annotated[Position, ""]


@dataclass(frozen=True, slots=True)
class SelectionContext:
    """What the user selected."""

    uri: Annotated[str, "an open document, or a file of the workspace"]
    range: Annotated[Range, "clamped to the text as it is when the request arrives"]
    version: Annotated[int | None, "of the document when it was selected; for the log only"] = None


@dataclass(frozen=True, slots=True)
class ProblemContext:
    """What a compiler or a linter says of a place."""

    uri: Annotated[str, ""]
    range: Annotated[Range, ""]
    message: Annotated[str, ""]


@dataclass(frozen=True, slots=True)
class NoteContext:
    """A text that is in no file."""

    title: Annotated[str, ""]
    text: Annotated[str, ""]


@dataclass(frozen=True, slots=True)
class Context:
    """What a question is about, beside its text.

    Where nothing but a selection is said, the server picks by the size of the project.
    """

    selection: Annotated[SelectionContext | None, "the selected code"] = None
    files: Annotated[tuple[str, ...], "URIs of files of the workspace, to be shown whole"] = ()
    buffers: Annotated[bool, "the open files of the workspace"] = False
    tags: Annotated[bool, "definitions of what the selection, or the files, use"] = False
    project: Annotated[bool, "the whole project, in a chat that begins; an error if too long"] = (
        False
    )
    diff: Annotated[bool, "what git has not committed yet"] = False
    diagnostics: Annotated[tuple[ProblemContext, ...], "problems to be shown"] = ()
    text: Annotated[tuple[NoteContext, ...], "texts to be shown"] = ()


@dataclass(frozen=True, slots=True)
class AskParams:
    """A question."""

    chat_id: Annotated[str, "made by the client (UUID); a new one starts a chat"]
    turn_id: Annotated[str, "made by the client (UUID); names the turn in events"]
    text: Annotated[str, "the question; may be empty if code is selected"]
    parent_turn_id: Annotated[str | None, "the turn to continue after; the chat's last one"] = None
    mode: Annotated[str, "how to answer, one of `assist/modes`; any turn may have another"] = ""
    context: Annotated[Context, "what the question is about"] = Context()
    beside_turn_id: Annotated[
        str | None,
        "instead of `parentTurnId`: the turn to stand beside, after the same parent. With a text it"
        " is that question in other words; without text and selection, the same question as it was"
        " sent, answered once more",
    ] = None
    personality: Annotated[str, "in which tone, one of `assist/modes`"] = ""
    model: Annotated[str, "who answers, one of `assist/models`; the usual one if empty"] = ""


@dataclass(frozen=True, slots=True)
class UsageInfo:
    """What a reply cost. Times are wall milliseconds."""

    prompt_tokens: Annotated[int, ""]
    cached_tokens: Annotated[int, "of `promptTokens`, those that were not computed again"]
    output_tokens: Annotated[int, ""]
    ttft_ms: Annotated[float, "from the question to the first text"]
    total_ms: Annotated[float, ""]
    tokens_per_second: Annotated[float, "after the first token; 0 if there is nothing to measure"]
    model: Annotated[str, "the model that answered"]
    route: Annotated[str, "why this model answered"]
    cost_usd: Annotated[float | None, "left out where nothing is charged"] = None


@dataclass(frozen=True, slots=True)
class SourceInfo:
    """A place that the reply was given to read."""

    uri: Annotated[str, ""]
    path: Annotated[str, "relative to its workspace folder"]
    start_line: Annotated[int, "zero-based"]
    end_line: Annotated[int, "included"]
    symbol: Annotated[str, "the innermost symbol there, empty outside of one"]


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """Why a turn failed."""

    message: Annotated[str, "what happened and what to do, for the user"]
    field: Annotated[str | None, "the field at fault, where there is one"] = None


@dataclass(frozen=True, slots=True)
class AskResult:
    """How a turn ended."""

    status: Annotated[TurnEnd, ""]
    text: Annotated[str, "the reply; what there was of it unless `done`"]
    usage: Annotated[UsageInfo, ""]
    sources: Annotated[tuple[SourceInfo, ...], "in the order shown"] = ()
    error: Annotated[ErrorInfo | None, "with status `error`"] = None


@dataclass(frozen=True, slots=True)
class WarmResult:
    """What a warm-up did."""

    tokens: Annotated[int, "of the prompt that is warm now"]
    cached: Annotated[int, "of these, those that were warm before"]
    ms: Annotated[float, "wall milliseconds, waiting for the words to rest included"]
    reason: Annotated[str | None, "why less was done, left out if nothing is missing"] = None


@dataclass(frozen=True, slots=True)
class PieceInfo:
    """A part of the prompt."""

    kind: Annotated[str, "`system`, `pack`, `selection`, `file`, `change`, `hit`, `question`, ..."]
    level: Annotated[str, "`whole`, `part`, `touched`, `skeleton`, `line`; empty without a file"]
    tokens: Annotated[int, ""]
    why: Annotated[str, "why it is shown"]
    uri: Annotated[str | None, "of its file"] = None
    path: Annotated[str | None, "relative to its workspace folder"] = None
    start_line: Annotated[int | None, "zero-based"] = None
    end_line: Annotated[int | None, "included"] = None


@dataclass(frozen=True, slots=True)
class LeftOutInfo:
    """A place that is not shown."""

    path: Annotated[str, "relative to its workspace folder"]
    start_line: Annotated[int, "zero-based"]
    end_line: Annotated[int, "included"]
    tokens: Annotated[int, "that it would have taken"]
    why: Annotated[str, ""]


@dataclass(frozen=True, slots=True)
class ContextResult:
    """What a question would be asked with, and what that would take."""

    model: Annotated[str, "the model that would answer"]
    pieces: Annotated[tuple[PieceInfo, ...], "in the order of the prompt"]
    tokens: Annotated[int, "of the prompt"]
    history_tokens: Annotated[int, "of these, the turns before the question"]
    cold: Annotated[int, "of `tokens`, those that would be computed"]
    reason: Annotated[str, "why so much of the project is shown; empty for a chat that goes on"]
    left_out: Annotated[tuple[LeftOutInfo, ...], "what did not fit, at most 100"]
    n_left_out: Annotated[int, "how many did not fit"]
    n_files_not_shown: Annotated[int, "files of the project that the chat does not begin with"]
    note: Annotated[str, "what the user should know, empty if there is nothing"]
    warm: Annotated[int | None, "of `tokens`, those in the cache; left out if unknown"] = None
    seconds: Annotated[float | None, "to the first text, as measured before"] = None
    cost_usd: Annotated[float | None, "left out where nothing is charged"] = None
    window: Annotated[int | None, "tokens that the prompt may have, where there is a limit"] = None


@dataclass(frozen=True, slots=True)
class CancelParams:
    """A turn to stop."""

    turn_id: Annotated[str, "one that has ended, or never was, is no error"]


@dataclass(frozen=True, slots=True)
class ChatsParams:
    """Which chats to list."""

    limit: Annotated[int, "1 to 1,000"] = 100
    everywhere: Annotated[bool, "those of other workspaces as well"] = False
    query: Annotated[str, "words to look for in all chats, the last one may be cut short"] = ""


@dataclass(frozen=True, slots=True)
class ChatSummary:
    """A chat in a list."""

    chat_id: Annotated[str, ""]
    title: Annotated[str, "the first words of its first question, until it is renamed"]
    n_turns: Annotated[int, "its own, without those it shares with the chat it was forked from"]
    created_ms: Annotated[int, "since 1970"]
    updated_ms: Annotated[int, "since 1970"]


@dataclass(frozen=True, slots=True)
class ChatFound:
    """A turn that holds the words."""

    chat_id: Annotated[str, ""]
    turn_id: Annotated[str, ""]
    title: Annotated[str, "of the chat"]
    excerpt: Annotated[str, "of what was typed, or of the reply as it is shown"]
    created_ms: Annotated[int, "since 1970"]


@dataclass(frozen=True, slots=True)
class ChatsResult:
    """Chats of this workspace, newest first; with a query, the turns that were found instead."""

    chats: Annotated[tuple[ChatSummary, ...], ""]
    found: Annotated[tuple[ChatFound, ...], "best first"] = ()


@dataclass(frozen=True, slots=True)
class ChatParams:
    """A chat."""

    chat_id: Annotated[str, ""]


@dataclass(frozen=True, slots=True)
class TurnInfo:
    """A turn as a view shows it: without hidden blocks and without the pieces that were sent."""

    turn_id: Annotated[str, ""]
    text: Annotated[str, "the question"]
    reply: Annotated[str, "what there is of it, unless `done`"]
    status: Annotated[TurnState, "`running`: in this server or in that of another editor"]
    mode: Annotated[str, ""]
    personality: Annotated[str, ""]
    model: Annotated[str, "the one that answered"]
    created_ms: Annotated[int, "since 1970"]
    sources: Annotated[tuple[SourceInfo, ...], "the places that were sent with the question"]
    parent_turn_id: Annotated[str | None, "left out for the first of a branch"] = None


@dataclass(frozen=True, slots=True)
class ChatInfo:
    """One whole chat."""

    chat_id: Annotated[str, ""]
    title: Annotated[str, ""]
    turns: Annotated[
        tuple[TurnInfo, ...],
        "in the order in which they ended, those that run last; parents come before children",
    ]
    created_ms: Annotated[int, "since 1970"]
    updated_ms: Annotated[int, "since 1970"]
    fork_turn_id: Annotated[str | None, "the turn that it was forked at"] = None
    last_turn_id: Annotated[str | None, "what a question without a parent continues"] = None


@dataclass(frozen=True, slots=True)
class ForkParams:
    """Where to fork a chat."""

    chat_id: Annotated[str, ""]
    turn_id: Annotated[str, "the last turn that both have; one that has ended"]
    new_chat_id: Annotated[str, "made by the client (UUID)"]


@dataclass(frozen=True, slots=True)
class RenameParams:
    """A chat and its title."""

    chat_id: Annotated[str, ""]
    title: Annotated[str, "one line; at most 200 characters of it are kept"]


@dataclass(frozen=True, slots=True)
class Named:
    """The title that a chat has now. Also the fields of the event `title`."""

    title: Annotated[str, ""]


@dataclass(frozen=True, slots=True)
class ExportParams:
    """What to export."""

    chat_id: Annotated[str, ""]
    turn_id: Annotated[str | None, "only the turns up to this one; else all branches"] = None


@dataclass(frozen=True, slots=True)
class Exported:
    """A chat as a Markdown log, with everything that was sent."""

    text: Annotated[str, ""]


@dataclass(frozen=True, slots=True)
class ImportParams:
    """A Markdown log to make a chat of, our own or somebody else's."""

    chat_id: Annotated[str, "of the new chat, made by the client (UUID)"]
    text: Annotated[str, "what cannot be read is told with its line"]


@dataclass(frozen=True, slots=True)
class ModeInfo:
    """A way to answer."""

    name: Annotated[str, ""]
    description: Annotated[str, ""]
    hidden_strategy: Annotated[bool, "the model plans in a block that is not shown"]
    edits: Annotated[bool, "the reply comes with edits that can be applied"]


@dataclass(frozen=True, slots=True)
class PersonalityInfo:
    """A tone to answer in."""

    name: Annotated[str, ""]
    description: Annotated[str, ""]


@dataclass(frozen=True, slots=True)
class ModesResult:
    """What can be picked now; the user's files are read anew when they change."""

    modes: Annotated[tuple[ModeInfo, ...], "the plain one first"]
    personalities: Annotated[tuple[PersonalityInfo, ...], ""]
    warnings: Annotated[tuple[str, ...], "what is wrong with the user's files, in sentences"]


@dataclass(frozen=True, slots=True)
class FeedbackParams:
    """What the user thought of a reply."""

    turn_id: Annotated[str, ""]
    verdict: Annotated[Verdict, ""]
    text: Annotated[str, "what the user made of the reply"] = ""


@dataclass(frozen=True, slots=True)
class EditsParams:
    """A turn whose reply proposes edits."""

    chat_id: Annotated[str, ""]
    turn_id: Annotated[str, ""]


@dataclass(frozen=True, slots=True)
class EditedFile:
    """A file that would change."""

    uri: Annotated[str, ""]
    path: Annotated[str, "relative to its workspace folder"]
    is_new: Annotated[bool, "there is no such file yet"]
    diff: Annotated[str, "what changes, as a unified diff"]


@dataclass(frozen=True, slots=True)
class RefusedEdit:
    """A file that may not or cannot be changed."""

    path: Annotated[str, "as the model wrote it"]
    reason: Annotated[str, "and what to do about it"]


@dataclass(frozen=True, slots=True)
class EditInfo:
    """What a reply proposes, fitted to the files as they are now. Also the event `edit`."""

    edit_id: Annotated[str, "names these very texts; empty if there is nothing to change"]
    files: Annotated[tuple[EditedFile, ...], "changed together or not at all"]
    refused: Annotated[tuple[RefusedEdit, ...], ""]


@dataclass(frozen=True, slots=True)
class ApplyParams:
    """An edit that the user accepts."""

    chat_id: Annotated[str, ""]
    turn_id: Annotated[str, ""]
    edit_id: Annotated[
        str, "of the `edit` that was looked at; refused if a file has changed since then"
    ]
    is_reviewed: Annotated[
        bool,
        "the user has seen the diffs; else an editor that can asks for confirmation by itself",
    ] = False


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of an edit."""

    applied: Annotated[bool, "false if the editor, or the user in it, did not take it"]


@dataclass(frozen=True, slots=True)
class Empty:
    """An object without fields."""


@dataclass(frozen=True, slots=True)
class SearchParams:
    """What to look for."""

    query: Annotated[str, "a question, a name, a part of a name"]
    limit: Annotated[int, "1 to 200"] = 20
    path: Annotated[str, "a folder or file that the places lie in, relative to its workspace"] = ""
    language: Annotated[str, "`python`, `go`, ...: the language of the places"] = ""


@dataclass(frozen=True, slots=True)
class Found:
    """A place that answers the query."""

    uri: Annotated[str, ""]
    path: Annotated[str, "relative to its workspace folder"]
    start_line: Annotated[int, "zero-based"]
    end_line: Annotated[int, "included"]
    symbol: Annotated[str, "empty for a part of a file that is in no symbol"]
    kind: Annotated[str, "`function`, `class`, ..."]
    score: Annotated[float, "larger is better; comparable within one result"]


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What was found, best first."""

    hits: Annotated[tuple[Found, ...], ""]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """The model that answers."""

    name: Annotated[str, ""]
    path: Annotated[str, "its file; empty for a model that is in no file"]


@dataclass(frozen=True, slots=True)
class ModelChoiceInfo:
    """A model that a question can name."""

    name: Annotated[str, ""]
    path: Annotated[str, "its file; empty for a model that is in no file"]
    why: Annotated[str, "why it is there"]
    state: Annotated[ModelState, "`asleep` and `loading`: the first answer takes longer"]
    problem: Annotated[str | None, "why it is unusable, and what to do"] = None
    window: Annotated[int | None, "tokens of prompt and reply together"] = None
    bytes: Annotated[int | None, "of its file"] = None
    can_fork_cheaply: Annotated[
        bool | None, "a fork costs nothing wherever it begins; else only where a turn ended"
    ] = None
    rewrites_turns: Annotated[
        bool | None,
        "its chat template rewrites earlier turns, so they are read again; known once loaded",
    ] = None


@dataclass(frozen=True, slots=True)
class ModelsResult:
    """What can be asked now."""

    models: Annotated[tuple[ModelChoiceInfo, ...], "the usual one first"]


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """A workspace folder and its index."""

    root: Annotated[str, "the folder"]
    state: Annotated[str, '`"new"`, `"indexing"` or `"ready"`']
    n_files: Annotated[int, ""]
    n_lines: Annotated[int, ""]
    n_symbols: Annotated[int, ""]
    n_chunks: Annotated[int, ""]
    n_done: Annotated[int, "files that the running refresh has read; 0 when none runs"]
    n_total: Annotated[int, "of as many"]
    embedder: Annotated[str, "what finds code by meaning; empty if nothing does"]
    embedding: Annotated[str, '`"off"`, `"waiting"`, `"embedding"`, `"paused"` or `"ready"`']
    n_vectors: Annotated[int, "contents of chunks that have a vector"]
    n_waiting: Annotated[int, "chunks without one, as far as they were counted"]
    n_bytes: Annotated[int, "what the index takes on disk"]
    problems: Annotated[
        tuple[str, ...], "files of which there is less than there could be, with the reason"
    ]


@dataclass(frozen=True, slots=True)
class IndexParams:
    """What to do with the indexes of the workspace's folders."""

    action: Annotated[
        str,
        "`pause` embeds no more, in any process, until `resume`; `rebuild` throws all away and"
        " indexes anew",
    ]


@dataclass(frozen=True, slots=True)
class IndexResult:
    """The indexes when that was done."""

    indexes: Annotated[tuple[IndexInfo, ...], ""]


@dataclass(frozen=True, slots=True)
class StatusResult:
    """What is there, and how it is."""

    version: Annotated[str, "of lsp-assist"]
    protocol: Annotated[int, "the version of this extension"]
    python: Annotated[str, ""]
    platform: Annotated[str, ""]
    model: Annotated[ModelInfo, ""]
    indexes: Annotated[tuple[IndexInfo, ...], ""]
    n_documents: Annotated[int, "open documents"]
    n_chats: Annotated[int, ""]
    warnings: Annotated[tuple[str, ...], "settings that were said and not taken, in sentences"]


@dataclass(frozen=True, slots=True)
class CommandArgument:
    """The one argument of a command."""

    uri: Annotated[str, "the document that the command is about"]
    range: Annotated[Range | None, "the selection; not for commands in chat documents"] = None
    version: Annotated[int | None, "of the document when the command was offered"] = None
    text: Annotated[str, "the question; what there is to ask in general if left out"] = ""
    chat_id: Annotated[str | None, "the chat to continue; a new one if left out"] = None
    turn_id: Annotated[str | None, "made by the server if left out"] = None


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The turn that a command started; it runs on in the background."""

    chat_id: Annotated[str, ""]
    turn_id: Annotated[str | None, "left out if the user has to type a question first"] = None
    uri: Annotated[str | None, "the chat document, for a client that shows chats as such"] = None


@dataclass(frozen=True, slots=True)
class EventFields:
    """What all events have."""

    chat_id: Annotated[str, ""]
    turn_id: Annotated[str, ""]
    seq: Annotated[int, "from 0 without gaps within a turn"]
    kind: Annotated[EventKind, ""]


@dataclass(frozen=True, slots=True)
class Said:
    """Fields of the events `step` and `delta`."""

    text: Annotated[str, ""]


@dataclass(frozen=True, slots=True)
class Used:
    """Fields of the event `usage`."""

    usage: Annotated[UsageInfo, ""]


@dataclass(frozen=True, slots=True)
class Ended:
    """Fields of the event `done`."""

    sources: Annotated[tuple[SourceInfo, ...], ""]


@dataclass(frozen=True, slots=True)
class Failed:
    """Fields of the event `error`."""

    error: Annotated[ErrorInfo, ""]


REQUESTS: dict[str, tuple[type, type]] = {
    ASK: (AskParams, AskResult),
    WARM: (AskParams, WarmResult),
    CONTEXT: (AskParams, ContextResult),
    CANCEL: (CancelParams, Empty),
    FORK: (ForkParams, ChatInfo),
    CHATS: (ChatsParams, ChatsResult),
    CHAT: (ChatParams, ChatInfo),
    RENAME_CHAT: (RenameParams, Named),
    DELETE_CHAT: (ChatParams, Empty),
    EXPORT_CHAT: (ExportParams, Exported),
    IMPORT_CHAT: (ImportParams, ChatInfo),
    MODELS: (Empty, ModelsResult),
    MODES: (Empty, ModesResult),
    FEEDBACK: (FeedbackParams, Empty),
    EDITS: (EditsParams, EditInfo),
    APPLY_EDIT: (ApplyParams, Applied),
    INDEX: (IndexParams, IndexResult),
    SEARCH: (SearchParams, SearchResult),
    STATUS: (Empty, StatusResult),
}

EVENTS: dict[EventKind, tuple[type, str]] = {
    "step": (Said, "what is being done, for a status line"),
    "title": (Named, "the chat has a title; once, in its first turn"),
    "delta": (Said, "a piece of the reply, gathered over about 30 ms"),
    "edit": (EditInfo, "the reply proposes edits; `assist/applyEdit` accepts them"),
    "usage": (Used, "what the reply cost"),
    "done": (Ended, "the reply is complete; the last event"),
    "cancelled": (Empty, "the turn was cancelled; the last event"),
    "error": (Failed, "the turn failed; the last event"),
}


def structure(kind: type[T], params: object) -> T:
    """The params of a request as their type. Unknown keys are ignored.

    Raises: BadInput, which names the field
    """
    return cast("T", _read(kind, {} if params is None else params, ""))


def unstructure(value: object) -> Any:
    """A value as it travels: field names in camelCase, fields that are None left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {camel_case(name): unstructure(v) for name, v in named if v is not None}
    if isinstance(value, Mapping):
        return {str(key): unstructure(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [unstructure(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    return value.value if isinstance(value, Enum) else value


def camel_case(name: str) -> str:
    """A field's name as it travels."""
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)


def _read(kind: Any, value: object, path: str) -> object:
    """The value as the kind; `path` names it for the user.

    Raises: BadInput
    """
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) is UnionType:  # X | None
        kind = next(arg for arg in get_args(kind) if arg is not type(None))
    if dataclasses.is_dataclass(kind):
        return _read_object(cast("type", kind), value, path)
    if get_origin(kind) is tuple:  # an array
        if not isinstance(value, list):
            raise _wrong(path, "an array")
        inner = get_args(kind)[0]
        return tuple(_read(inner, item, f"{path}[{n}]") for n, item in enumerate(value))
    if kind is bool:
        if not isinstance(value, bool):
            raise _wrong(path, "true or false")
        return value
    if kind is int:
        if isinstance(value, float) and value.is_integer():  # 3.0 is the same number in JSON
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(path, "a whole number")
        if not 0 <= value < 2**53:
            raise _wrong(path, "a whole number from 0 to 2^53")
        return value
    if kind is bool:
        if not isinstance(value, bool):
            raise _wrong(path, "true or false")
        return value
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise _wrong(path, "one of " + ", ".join(map(repr, get_args(kind))))
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _wrong(path, "an array")
        return tuple(_read(get_args(kind)[0], v, f"{path}[{n}]") for n, v in enumerate(value))
    assert kind is str, f"no reader for {kind!r}"
    if not isinstance(value, str):
        raise _wrong(path, "a string")
    return value


def _read_object(kind: type, value: object, path: str) -> object:
    if not isinstance(value, dict):
        raise _wrong(path, "an object")
    hints = get_type_hints(kind, include_extras=True)
    read: dict[str, object] = {}
    for field in dataclasses.fields(kind):
        name = camel_case(field.name)
        field_path = f"{path}.{name}" if path else name
        given = value.get(name)
        is_needed = field.default is dataclasses.MISSING
        if given is None and is_needed:
            raise BadInput(f"required field missing: `{field_path}`", field=field_path)
        if given is not None:
            read[field.name] = _read(hints[field.name], given, field_path)
        if name.endswith("Id") and given == "" and name != "editId":
            raise _wrong(field_path, "an id and not empty")
    return kind(**read)


def _wrong(path: str, wanted: str) -> BadInput:
    if not path:
        return BadInput(f"the params must be {wanted}")
    return BadInput(f"`{path}` must be {wanted}", field=path)
