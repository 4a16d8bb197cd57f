"""A project in memory behind the door that context reads the workspace by; outlines are real."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lsp_assist.codebase import ingest
from lsp_assist.codebase.index import Passage
from lsp_assist.codebase.ranking import ChunkRef, Hit
from lsp_assist.codebase.store import FileRecord, StoredSymbol
from lsp_assist.context.code import FileKey, ProjectFile
from lsp_assist.context.tokens import TokenCounts

__all__ = ["ROOT", "MemoryProject", "key", "key_file", "words"]

ROOT = "/workspace"


def key(path: str) -> FileKey:
    """The key of a file of the project."""
    return FileKey(ROOT, path)


def key_file(path: str, text: str, **facts: object) -> ProjectFile:
    """A file with this text."""
    n_bytes = len(text.encode("utf-8", "surrogatepass"))
    n_lines = text.count("\n") + 1
    language = ingest.language_name(path)
    digest = ingest.text_digest(text)
    return ProjectFile(key(path), language, digest, n_bytes, n_lines, **facts)  # type: ignore[arg-type]  # as the tests name them


async def count_words(text: str) -> int:
    """A tokenizer whose tokens are words."""
    return len(text.split())


def words() -> TokenCounts:
    """Counts words."""
    return TokenCounts(count_words)


class MemoryProject:
    """Files by path. `facts` are those of `ProjectFile`, by path."""

    def __init__(self, texts: Mapping[str, str], **ranks: float) -> None:
        self.contents = dict(texts)
        self.facts: dict[str, dict[str, object]] = {}
        self.ranked = ranks
        self.diff = ""
        self.n_reads = 0

    async def files(self) -> list[ProjectFile]:
        """All files, by path."""
        return [
            key_file(path, text, **self.facts.get(path, {}))
            for path, text in sorted(self.contents.items())
        ]

    async def texts(self, keys: Sequence[FileKey]) -> Mapping[FileKey, str]:
        """Texts of those that are there."""
        self.n_reads += len(keys)
        return {k: self.contents[k.path] for k in keys if k.path in self.contents}

    async def outlines(self, keys: Sequence[FileKey]) -> Mapping[FileKey, Sequence[StoredSymbol]]:
        """Symbols of those that are there."""
        return {k: self.outline(k.path) for k in keys if k.path in self.contents}

    def outline(self, path: str) -> Sequence[StoredSymbol]:
        """The symbols of a file."""
        text = self.contents[path]
        return ingest.indexed(path, text, FileRecord(len(text), 0, "hash")).symbols

    async def ranks(self, seeds: Mapping[FileKey, float]) -> Mapping[FileKey, float]:
        """As the test says, by stem."""
        return {
            key(p): self.ranked.get(p.partition(".")[0], 0.0)
            for p in self.contents
            if key(p) not in seeds
        }

    async def closure(self, key: FileKey, start_line: int, end_line: int) -> Sequence[Passage]:
        """Definitions whose names occur between the lines."""
        lines = self.contents[key.path].split("\n")[start_line : end_line + 1]
        return [
            self.passage(path, symbol.qualified_name)
            for path in sorted(self.contents)
            for symbol in self.outline(path)
            if path != key.path and symbol.name in " ".join(lines)
        ]

    async def uncommitted(self) -> str:
        """As the test says."""
        return self.diff

    def passage(self, path: str, name: str) -> Passage:
        """A symbol as the index would find it."""
        symbol = next(s for s in self.outline(path) if s.qualified_name == name)
        lines = self.contents[path].split("\n")
        text = "\n".join(lines[symbol.start_line : symbol.end_line + 1])
        chunk = ChunkRef(symbol.ordinal, symbol.start_line, symbol.end_line, "hash")
        hit = Hit(
            Path(ROOT),
            path,
            symbol.start_line,
            symbol.end_line,
            name,
            symbol.kind,
            1.0,
            symbol.ordinal,
            chunk,
        )
        return Passage(hit, "python", text, symbol.start_line, symbol.signature, "Does it.")
