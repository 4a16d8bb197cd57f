"""The tables of PROTOCOL.md, made from the types in protocol.py.

`python -m lsp_assist.server.protocol_tables PROTOCOL.md` puts them between its two marks. Knows
how types read in Markdown; nothing of what they mean.
"""

import dataclasses
import sys
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from lsp_assist.server.protocol import (
    EVENT,
    EVENTS,
    REQUESTS,
    CommandArgument,
    CommandResult,
    Empty,
    Ended,
    EventFields,
    Failed,
    Said,
    Used,
    camel_case,
)

__all__ = ["tables", "with_tables"]

# Their fields stand in the table of the events.
_NOT_NAMED = (Empty, Ended, Failed, Said, Used)

_NAMES: dict[object, str] = {
    str: "string",
    int: "whole number",
    float: "number",
    bool: "true or false",
}

_BEGIN, _END = (
    "<!-- tables: made by `python -m lsp_assist.server.protocol_tables` -->",
    "<!-- /tables -->",
)


def tables() -> str:
    """The methods, events and types with their fields, as Markdown."""
    lines = [
        "### Requests, from client to server",
        "",
        "| method | params | result |",
        "|---|---|---|",
    ]
    lines += [
        f"| `{method}` | {_reference(params)} | {_reference(result)} |"
        for method, (params, result) in REQUESTS.items()
    ]
    lines += ["", f"### The notification `{EVENT}`, from server to client", ""]
    lines += [*_fields(EventFields), "", "| kind | fields beside those | |", "|---|---|---|"]
    for event, (body, meaning) in EVENTS.items():
        hints = get_type_hints(body, include_extras=True)
        said = ", ".join(
            f"`{camel_case(name)}`: {_type_name(hint)}" for name, hint in hints.items()
        )
        lines.append(f"| `{event}` | {said or '-'} | {meaning} |")
    lines += ["", "### Types", ""]
    for kind in _types():
        lines += [f"#### {kind.__name__}", "", (kind.__doc__ or "").strip(), "", *_fields(kind), ""]
    return "\n".join(lines).rstrip() + "\n"


def with_tables(document: str) -> str:
    """The document with the tables between its two marks.

    Raises: ValueError without the marks
    """
    before, begin, rest = document.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"no {_BEGIN!r} and {_END!r}")
    return f"{before}{_BEGIN}\n\n{tables()}\n{_END}{after}"


def _types() -> list[type]:
    """The types that travel, each after the one that mentions it first."""
    found: list[type] = []

    def visit(hint: Any) -> None:
        for arg in get_args(hint):
            visit(arg)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint) and hint not in found:
            found.append(hint)
            for inner in get_type_hints(hint, include_extras=True).values():
                visit(inner)

    for kinds in (*REQUESTS.values(), *((body,) for body, _ in EVENTS.values())):
        for kind in kinds:
            visit(kind)
    for kind in (CommandArgument, CommandResult):
        visit(kind)
    return [kind for kind in found if kind not in _NOT_NAMED]


def _fields(kind: type) -> list[str]:
    lines = ["| field | type | |", "|---|---|---|"]
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        optional = "" if field.default is dataclasses.MISSING else "?"
        name, meaning = camel_case(field.name), get_args(hints[field.name])[1]
        lines.append(f"| `{name}{optional}` | {_type_name(hints[field.name])} | {meaning} |")
    return lines


def _type_name(hint: Any) -> str:
    if get_origin(hint) is Annotated:
        return _type_name(get_args(hint)[0])
    if get_origin(hint) is UnionType:
        return " or ".join(_type_name(a) for a in get_args(hint) if a is not type(None))
    if get_origin(hint) is Literal:
        return ", ".join(f'`"{choice}"`' for choice in get_args(hint))
    if get_origin(hint) is tuple:
        return f"array of {_type_name(get_args(hint)[0])}"
    if get_origin(hint) is not None:
        return "object"
    return _NAMES.get(hint) or _reference(hint)


def _reference(kind: type) -> str:
    return "`{}`" if kind is Empty else f"[{kind.__name__}](#{kind.__name__.lower()})"


def _main() -> None:
    if len(sys.argv) > 1:
        path = Path(sys.argv[1])
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write(tables())


if __name__ == "__main__":
    _main()
