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

__all__ = [
    "ASK",
    "CANCEL",
    "EVENT",
    "EVENTS",
    "EXPERIMENTAL",
    "INDEX",
    "REQUESTS",
    "SEARCH",
    "STATUS",
    "VERSION",
    "AskParams",
    "AskResult",
    "CancelParams",
    "CommandArgument",
    "CommandResult",
    "Context",
    "Empty",
    "Ended",
    "ErrorInfo",
    "EventFields",
    "EventKind",
    "Failed",
    "Found",
    "IndexInfo",
    "IndexParams",
    "IndexResult",
    "ModelInfo",
    "Position",
    "Range",
    "Said",
    "SearchParams",
    "SearchResult",
    "SelectionContext",
    "SourceInfo",
    "StatusResult",
    "UsageInfo",
    "Used",
    "camel_case",
    "structure",
    "unstructure",
]

VERSION = 1

EXPERIMENTAL = {"lspAssist": {"version": VERSION}}
"""Stands in the server's capabilities under `experimental`, and in those of a client that speaks
the extension."""

ASK = "assist/ask"
CANCEL = "assist/cancel"
INDEX = "assist/index"
SEARCH = "assist/search"
STATUS = "assist/status"
EVENT = "assist/event"

TurnEnd = Literal["done", "cancelled", "error"]
EventKind = Literal["step", "delta", "usage", "done", "cancelled", "error"]

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
class Context:
    """What a question is about, beside its text."""

    selection: Annotated[SelectionContext | None, "the selected code"] = None


@dataclass(frozen=True, slots=True)
class AskParams:
    """A question."""

    chat_id: Annotated[str, "made by the client (UUID); a new one starts a chat"]
    turn_id: Annotated[str, "made by the client (UUID); names the turn in events"]
    text: Annotated[str, "the question; may be empty if code is selected"]
    parent_turn_id: Annotated[str | None, "the turn to continue after; the chat's last one"] = None
    mode: Annotated[str, "`ask`, `explain`, `refactor`, `fix`, `document`, `test`"] = ""
    context: Annotated[Context, "what the question is about"] = Context()


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
class CancelParams:
    """A turn to stop."""

    turn_id: Annotated[str, "one that has ended, or never was, is no error"]


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
    range: Annotated[Range | None, "the selection; not for `lsp-assist.send`"] = None
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
    CANCEL: (CancelParams, Empty),
    INDEX: (IndexParams, IndexResult),
    SEARCH: (SearchParams, SearchResult),
    STATUS: (Empty, StatusResult),
}

EVENTS: dict[EventKind, tuple[type, str]] = {
    "step": (Said, "what is being done, for a status line"),
    "delta": (Said, "a piece of the reply, gathered over about 30 ms"),
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
    if kind is int:
        if isinstance(value, float) and value.is_integer():  # 3.0 is the same number in JSON
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong(path, "a whole number")
        if not 0 <= value < 2**53:
            raise _wrong(path, "a whole number from 0 to 2^53")
        return value
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
        if name.endswith("Id") and given == "":
            raise _wrong(field_path, "an id and not empty")
    return kind(**read)


def _wrong(path: str, wanted: str) -> BadInput:
    if not path:
        return BadInput(f"the params must be {wanted}")
    return BadInput(f"`{path}` must be {wanted}", field=path)
