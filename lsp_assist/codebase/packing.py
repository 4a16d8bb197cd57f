"""An indexed file as plain values for `marshal`, and back: pickling it takes ten times as long.

Follows the fields of the dataclasses, so that a new one needs no line here. Knows no process.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from itertools import starmap
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from lsp_assist.codebase.store import (
    FileRecord,
    IndexedChunk,
    IndexedFile,
    StoredImport,
    StoredSymbol,
    Use,
)

__all__ = ["Packed", "packed", "unpacked"]

Packed = tuple[Any, ...]
"""Strings, numbers and tuples of them."""

_NOTHING: Mapping[str, tuple[str, ...]] = MappingProxyType({})
_PARTS: dict[str, type] = {
    "symbols": StoredSymbol,
    "uses": Use,
    "chunks": IndexedChunk,
    "imports": StoredImport,
}
"""The fields that hold many values of a class."""


def packed(file: IndexedFile, told: Collection[str] = ()) -> Packed:
    """The file as plain values; without the terms of chunks with these hashes."""
    values = [_PACK[name](getattr(file, name)) for name in _FIELDS]
    if told:
        rows = ((*row[:_TERMS], ()) if row[_HASH] in told else row for row in values[_CHUNKS])
        values[_CHUNKS] = tuple(rows)
    return tuple(values)


def unpacked(values: Packed, told: Mapping[str, tuple[str, ...]] = _NOTHING) -> IndexedFile:
    """The file that was packed; the terms that were left out are put in from `told`."""
    if told:
        rows = (
            (*row[:_TERMS], told[row[_HASH]]) if row[_HASH] in told else row
            for row in values[_CHUNKS]
        )
        values = (*values[:_CHUNKS], tuple(rows), *values[_CHUNKS + 1 :])
    return IndexedFile(*(_UNPACK[name](value) for name, value in zip(_FIELDS, values, strict=True)))


def _field_names(of: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(of))


_FIELDS = _field_names(IndexedFile)
_CHUNKS = _FIELDS.index("chunks")
_HASH = _field_names(IndexedChunk).index("hash")
_TERMS = _field_names(IndexedChunk).index("body_terms")
assert len(_field_names(IndexedChunk)) - 1 == _TERMS, "they are cut off at the end"

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
