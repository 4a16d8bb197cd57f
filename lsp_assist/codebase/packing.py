"""An indexed file as plain values for `marshal`, and back: pickling it takes ten times as long.

Follows the fields of the dataclasses, so that a new one needs no line here. Knows no process.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from itertools import starmap
from operator import attrgetter
from typing import Any

from lsp_assist.codebase.store import (
    FileRecord,
    IndexedChunk,
    IndexedFile,
    StoredImport,
    StoredSymbol,
    Use,
)

__all__ = ["Packed", "completed", "packed", "unpacked"]

Packed = tuple[Any, ...]
"""Strings, numbers and tuples of them."""

_PARTS: dict[str, type] = {
    "symbols": StoredSymbol,
    "uses": Use,
    "chunks": IndexedChunk,
    "imports": StoredImport,
}
"""The fields that hold many values of a class."""


def packed(file: IndexedFile) -> Packed:
    """The file as plain values."""
    return tuple(_PACK[name](getattr(file, name)) for name in _FIELDS)


def unpacked(values: Packed) -> IndexedFile:
    """The file that was packed."""
    return IndexedFile(*(_UNPACK[name](value) for name, value in zip(_FIELDS, values, strict=True)))


def completed(file: IndexedFile, told: Mapping[str, tuple[str, ...]]) -> IndexedFile:
    """The file with the terms that an earlier reply told."""
    chunks = (replace(c, body_terms=told[c.hash]) if c.hash in told else c for c in file.chunks)
    return replace(file, chunks=tuple(chunks))


def _field_names(of: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(of))


_FIELDS = _field_names(IndexedFile)

_Change = Callable[[Any], Any]


def _same(value: Any) -> Any:  # plain already
    return value


def _many_packed(of: type) -> _Change:
    row = attrgetter(*_field_names(of))
    return lambda values: tuple(map(row, values))


def _many_unpacked(of: type) -> _Change:
    return lambda rows: tuple(starmap(of, rows))


_record = attrgetter(*_field_names(FileRecord))
_PACK: dict[str, _Change] = dict.fromkeys(_FIELDS, _same) | {"record": _record}
_PACK |= {name: _many_packed(of) for name, of in _PARTS.items()}
_UNPACK: dict[str, _Change] = dict.fromkeys(_FIELDS, _same)
_UNPACK["record"] = lambda values: FileRecord(*values)
_UNPACK |= {name: _many_unpacked(of) for name, of in _PARTS.items()}
