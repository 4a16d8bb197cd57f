"""Messages as JSON and back, with every field that their types have, now and later.

A field at its default is left out, so that a type can grow without a migration: what was written
before reads as the default. Text may hold anything, half a surrogate pair and NUL included. Knows
no database.
"""

import dataclasses
import json
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, cast, get_args, get_origin, get_type_hints

from lsp_assist.llm import Message

__all__ = ["decoded", "encoded", "message_of", "plain"]


def encoded(message: Message) -> str:
    """The message as one line of ASCII; equal messages give equal text."""
    return json.dumps(plain(message), separators=(",", ":"))


def decoded(text: str) -> Message:
    """The message that was encoded."""
    return message_of(json.loads(text))


def plain(value: object) -> Any:
    """The value as objects, arrays and scalars of JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        named = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {f.name: plain(v) for f, v in named if v != f.default or _is_needed(f)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    assert value is None or isinstance(value, str | int | float | bool), type(value)
    return value


def message_of(value: object) -> Message:
    """The message of what `plain` gave.

    Raises: ValueError, TypeError, KeyError for anything else
    """
    return cast("Message", _read(Message, value))


def _is_needed(field: "dataclasses.Field[object]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _read(hint: Any, value: Any) -> object:
    origin, args = get_origin(hint), get_args(hint)
    if origin is UnionType:  # X | None
        if value is None:
            return None
        hint = next(arg for arg in args if arg is not NoneType)
        return _read(hint, value)
    if dataclasses.is_dataclass(hint):
        hints = _hints(cast("type", hint))
        # What a newer version wrote besides stays in the database; this one cannot use it.
        known = {name: _read(hints[name], v) for name, v in value.items() if name in hints}
        return cast("type", hint)(**known)
    if origin is tuple:
        kinds = [args[0]] * len(value) if args[1:] == (...,) else args
        return tuple(_read(kind, item) for kind, item in zip(kinds, value, strict=True))
    if origin is dict:
        return {key: _read(args[1], item) for key, item in value.items()}
    kind = str if origin is Literal else hint
    if kind is float and isinstance(value, int):
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is no {kind}")
    return value
