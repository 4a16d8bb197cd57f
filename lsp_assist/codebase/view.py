"""The code as the user sees it: what is saved, with unsaved text laid over it.

One moment's view for reading. Knows no parser, no ranking and no way to change anything.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from lsp_assist.codebase import lexical
from lsp_assist.codebase.overlays import CountedChunk, Overlay
from lsp_assist.codebase.store import Filter, Store, StoredImport, StoredSymbol, Use

__all__ = ["View"]


@dataclass(frozen=True, slots=True)
class View:
    """The store where a file is saved as it is shown, the overlay where it is not."""

    store: Store
    overlays: Mapping[str, Overlay]

    def candidates(
        self, terms: Sequence[str], limit: int, where: Filter
    ) -> tuple[list[CountedChunk], lexical.Corpus]:
        """Chunks that may match, all unsaved ones among them, and the corpus to score them by."""
        everywhere = [chunk for overlay in self.overlays.values() for chunk in overlay.chunks]
        on_disk = self.store.corpus(terms)
        corpus = lexical.merged_corpus(
            on_disk,
            ((chunk.name.keys() | chunk.body, chunk.n_terms) for chunk in everywhere),
            terms,
        )
        found = self.store.search(terms, limit, where, on_disk[2])
        saved = (c for c in found if c.path not in self.overlays)
        counted = (CountedChunk.for_query(chunk, terms) for chunk in saved)
        return [*counted, *self._unsaved(where)], corpus

    def chunks_with(
        self, hashes: Sequence[str], terms: Sequence[str], where: Filter
    ) -> list[CountedChunk]:
        """The saved chunks with these hashes. All unsaved ones are among the candidates."""
        found = self.store.chunks_with(hashes, where)
        saved = (chunk for chunk in found if chunk.path not in self.overlays)
        return [CountedChunk.for_query(chunk, terms) for chunk in saved]

    def hashes(self, where: Filter) -> set[str]:
        """The hashes of the chunks that pass a filter."""
        unsaved = {chunk.candidate.hash for chunk in self._unsaved(where)}
        return self.store.hashes_where(where) | unsaved

    def _unsaved(self, where: Filter) -> list[CountedChunk]:
        return [
            chunk
            for path, overlay in self.overlays.items()
            if where.passes(path, overlay.file.language)
            for chunk in overlay.chunks
        ]

    def symbols_of(self, path: str) -> Sequence[StoredSymbol]:
        """The symbols of a file, in the order of its outline."""
        overlay = self.overlays.get(path)
        return overlay.file.symbols if overlay else self.store.symbols_of(path)

    def symbols_in(
        self, path: str, stretches: Collection[tuple[int, int, int]]
    ) -> Sequence[StoredSymbol]:
        """The symbols of a file with these ordinals, or wholly between these lines, in order."""
        overlay = self.overlays.get(path)
        return overlay.file.symbols if overlay else self.store.symbols_in(path, stretches)

    def symbols_named(self, name: str) -> list[StoredSymbol]:
        """Definitions with this very name."""
        saved = [s for s in self.store.symbols_named(name) if s.path not in self.overlays]
        return saved + [s for o in self.overlays.values() for s in o.file.symbols if s.name == name]

    def symbols_like(self, pattern: str, limit: int) -> list[StoredSymbol]:
        """Definitions whose names may be LIKE a pattern: all that are unsaved, short ones first."""
        saved = [s for s in self.store.symbols_like(pattern, limit) if s.path not in self.overlays]
        unsaved = (s for o in self.overlays.values() for s in o.file.symbols)
        return [*(s for s in unsaved if s.kind != "heading"), *saved]

    def uses_in(self, path: str, ordinal: int) -> list[Use]:
        """The names used inside of a symbol, in order of line."""
        overlay = self.overlays.get(path)
        if overlay is None:
            return self.store.uses_in(path, ordinal)
        return [use for use in overlay.file.uses if use.ordinal == ordinal]

    def imports_of(self, path: str) -> Sequence[StoredImport]:
        """What a file imports, in order of line."""
        overlay = self.overlays.get(path)
        return overlay.file.imports if overlay else self.store.imports_of(path)

    def uses_of(self, path: str) -> Sequence[Use]:
        """All names used in a file."""
        overlay = self.overlays.get(path)
        return overlay.file.uses if overlay else self.store.uses_of(path)

    def uses_named(self, name: str, limit: int) -> list[tuple[str, Use]]:
        """Where a name is used, with the paths; unsaved text first."""
        unsaved = [
            (path, use)
            for path, overlay in self.overlays.items()
            for use in overlay.file.uses
            if use.name == name
        ]
        saved = self.store.uses_named(name, limit)
        return unsaved + [(path, use) for path, use in saved if path not in self.overlays]

    def aliases_of(self, name: str) -> list[tuple[str, str]]:
        """Other names that files give to what they import by this name, with the paths."""
        unsaved = [
            (path, wanted.alias)
            for path, overlay in self.overlays.items()
            for wanted in overlay.file.imports
            if wanted.name == name and wanted.alias not in ("", name)
        ]
        saved = self.store.aliases_of(name)
        return unsaved + [(path, alias) for path, alias in saved if path not in self.overlays]
