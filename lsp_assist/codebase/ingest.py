"""A file as the index keeps it: its outline, and the terms that each chunk is found by.

Pure but for what it is given. Knows no store and no ranking.
"""

import hashlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from operator import is_

from lsp_assist.codebase import lexical, reading
from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.languages import language_of
from lsp_assist.codebase.outline import outline
from lsp_assist.codebase.store import (
    FileRecord,
    IndexedChunk,
    IndexedFile,
    StoredImport,
    StoredSymbol,
    Use,
)
from lsp_assist.codebase.symbols import Import, Outline, Reference

__all__ = [
    "as_indexed",
    "digest",
    "family",
    "indexed",
    "is_wanted",
    "is_within",
    "language_name",
    "left_out",
    "may_refer",
    "text_digest",
    "unparsed",
]


def is_wanted(name: str) -> bool:
    """Whether a file's name says that it may be indexed.

    A script without a suffix is looked into: its first line tells.
    """
    return "." not in name or language_of(name) is not None


def language_name(path: str) -> str:
    """The language of a file by its name, empty if it tells none."""
    language = language_of(path)
    return language.name if language else ""


def may_refer(path: str, other: str) -> bool:
    """Whether code of one file can name what the other defines: both are in one language."""
    return family(path) == family(other)


@lru_cache(maxsize=100_000)
def family(path: str) -> str:
    """What the languages that name each other's symbols have in common, by one of their names."""
    language = language_name(path)
    return _FAMILIES.get(language, language)


_FAMILIES = {"typescript": "javascript", "tsx": "javascript", "cpp": "c"}


def is_within(symbol: StoredSymbol, start_line: int, end_line: int) -> bool:
    """Whether a symbol lies wholly between two lines, both included."""
    return start_line <= symbol.start_line and symbol.end_line <= end_line


def digest(contents: reading.Contents | reading.Skipped) -> str:
    """Names a file's text; empty for one that is left out."""
    return "" if isinstance(contents, reading.Skipped) else text_digest(contents.text)


def text_digest(text: str) -> str:
    """Names a text: the same wherever a file with this text is, saved or not."""
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def left_out(path: str, record: FileRecord) -> IndexedFile:
    """A file that was looked at and is not in the index."""
    record = FileRecord(record.size, record.mtime_ns, "")
    return IndexedFile(path, record, "", 0, (), (), ())


def indexed(path: str, text: str, record: FileRecord) -> IndexedFile:
    """What the index keeps of a file with this text."""
    language = language_of(path, text[:200].partition("\n")[0])
    if language is None:
        return left_out(path, record)
    return as_indexed(outline(path, text, language), split_lines(text), record)


def unparsed(path: str, text: str, record: FileRecord, problem: str) -> IndexedFile:
    """What the index keeps of a file that its grammar cannot take: chunks without symbols."""
    language = language_of(path, text[:200].partition("\n")[0])
    if language is None:
        return left_out(path, record)
    outlined = outline(path, text, replace(language, grammar=""))
    return as_indexed(replace(outlined, problem=problem), split_lines(text), record)


def as_indexed(
    outlined: Outline,
    lines: Sequence[str],
    record: FileRecord,
    before: tuple[Outline, IndexedFile] | None = None,
) -> IndexedFile:
    """What the index keeps of a file with this outline and these lines.

    What is in it as it was `before`, in an earlier outline of the file, is not made again.
    """
    known = {c.hash: c.body_terms for c in before[1].chunks} if before else {}
    path = outlined.path
    symbols = tuple(
        StoredSymbol(
            path,
            ordinal,
            symbol.name,
            symbol.qualified_name,
            symbol.kind,
            symbol.start_line,
            symbol.end_line,
            symbol.signature,
            symbol.summary,
        )
        for ordinal, symbol in enumerate(outlined.symbols)
    )
    path_terms = lexical.terms(path)
    starts = [symbol.start_line for symbol in symbols]
    chunks = []
    for chunk in outlined.chunks:
        # A chunk is found by what it defines: its own symbol, and the small ones within it.
        name = symbols[chunk.symbol].qualified_name if chunk.symbol >= 0 else ""
        first = bisect_left(starts, chunk.start_line)
        last = bisect_right(starts, chunk.end_line, first)
        defined = (s.name for s in symbols[first:last] if s.end_line <= chunk.end_line)
        names = dict.fromkeys([name, *defined])
        body_terms = known.get(chunk.text_hash)
        if body_terms is None:
            body = "\n".join(lines[chunk.start_line : chunk.end_line + 1])
            body_terms = tuple(lexical.terms(body))
        chunks.append(
            IndexedChunk(
                chunk.symbol,
                chunk.start_line,
                chunk.end_line,
                chunk.text_hash,
                name_terms=(*path_terms, *_name_terms(" ".join(names))),
                body_terms=body_terms,
            )
        )
    imports = tuple(one for wanted in outlined.imports for one in _taken(wanted))
    imported = (Use(i.name, -1, i.line, "import") for i in imports if i.name)
    uses = (*_uses(outlined.references, before), *imported)
    return IndexedFile(
        path,
        record,
        outlined.language,
        outlined.n_lines,
        symbols,
        uses,
        tuple(chunks),
        imports,
        outlined.problem,
    )


def _uses(
    references: Sequence[Reference], before: tuple[Outline, IndexedFile] | None
) -> Iterator[Use]:
    old, made = (before[0].references, before[1].uses) if before else ((), ())
    limit = min(len(references), len(old))
    first = _n_same(references, old, limit)
    last = _n_same(reversed(references), reversed(old), limit - first)
    yield from made[:first]
    for r in references[first : len(references) - last]:
        yield Use(r.name, r.symbol, r.line, r.kind, r.receiver, r.receiver_type)
    yield from made[len(old) - last : len(old)]


def _n_same(some: Iterable[object], others: Iterable[object], limit: int) -> int:
    """How many are the very same objects, up to the first that is not."""
    for n, is_same in enumerate(islice(map(is_, some, others), limit)):
        if not is_same:
            return n
    return limit


@lru_cache(maxsize=1 << 13)
def _name_terms(names: str) -> tuple[str, ...]:
    return tuple(lexical.terms(names))


def _taken(wanted: Import) -> Iterator[StoredImport]:
    """What an import takes, one for each; the module as a whole where that is taken or named."""
    if wanted.alias or not wanted.names:
        yield StoredImport(wanted.module, "", wanted.alias, wanted.line)
    for name, alias in zip(wanted.names, wanted.aliases, strict=True):
        yield StoredImport(wanted.module, name, alias, wanted.line)
