"""Search among more chunks than the public code has: it is copied with words of its own.

Every copy of a file keeps the words that code has in common, and a third of the others become the
copy's own, so that words stay as rare as they are in real code.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np

from lsp_assist.codebase import ingest
from lsp_assist.codebase.index import Index
from lsp_assist.codebase.store import FileRecord, IndexedChunk, IndexedFile, Store
from lsp_assist.config import IndexSettings
from tests.bench.index.sizes import Sizes
from tests.bench.index.trees import copy_tree, queries

__all__ = ["search"]

BATCH_FILES = 500
SOURCE_LINES = 1_000_000


def search(folders: Sequence[Path], sizes: Sizes, scratch: Path) -> dict[str, float]:
    """The slow end of search times, by how many chunks there are."""
    workspace = scratch / "workspace"
    copy_tree(folders, workspace, SOURCE_LINES)
    real = [_indexed(workspace, path) for path in sorted(workspace.rglob("*")) if path.is_file()]
    n_real = sum(len(file.chunks) for file in real)
    figures = {}
    for n_chunks in sizes.chunks:
        store_path = scratch / f"{n_chunks}.db"
        n_kept = _fill(store_path, real, n_chunks)
        index = Index(workspace, store_path, IndexSettings())
        asked = queries(sizes.searches)
        for query in asked[: len(asked) // 4]:
            index.search(query, 10)
        taken = []
        for query in asked:
            started = time.perf_counter()
            index.search(query, 10)
            taken.append((time.perf_counter() - started) * 1000)
        index.close()
        size_mb = store_path.stat().st_size / 1e6
        print(f"   {n_kept} chunks, of {n_real} real ones; {size_mb:.0f} MB")
        store_path.unlink()
        name = f"{n_chunks // 1000}k" if n_chunks < 1_000_000 else f"{n_chunks // 1_000_000}m"
        figures[f"index.search_{name}_p50_ms"] = float(np.quantile(taken, 0.5))
        figures[f"index.search_{name}_p95_ms"] = float(np.quantile(taken, 0.95))
    return figures


def _indexed(workspace: Path, path: Path) -> IndexedFile:
    text = path.read_text("utf-8", "replace")
    relative = path.relative_to(workspace).as_posix()
    return ingest.indexed(relative, text, FileRecord(len(text), 0, str(crc32(text.encode()))))


def _fill(store_path: Path, real: Sequence[IndexedFile], n_chunks: int) -> int:
    """Puts copies of the files into a new store until there are enough chunks."""
    store = Store(store_path)
    n_kept, batch = 0, []
    for file in _copies(real):
        batch.append(file)
        n_kept += len(file.chunks)
        if len(batch) == BATCH_FILES or n_kept >= n_chunks:
            store.put(batch)
            batch = []
        if n_kept >= n_chunks:
            break
    store.compact()
    store.close()
    return n_kept


def _copies(real: Sequence[IndexedFile]) -> Iterator[IndexedFile]:
    yield from real
    copy = 1
    while True:
        for file in real:
            path = f"copy{copy}/{file.path}"
            yield replace(
                file,
                path=path,
                symbols=tuple(replace(symbol, path=path) for symbol in file.symbols),
                chunks=tuple(_own(chunk, copy) for chunk in file.chunks),
            )
        copy += 1


def _own(chunk: IndexedChunk, copy: int) -> IndexedChunk:
    def own(term: str) -> str:
        return f"{term}{copy}" if crc32(term.encode("utf-8", "replace")) % 3 == 0 else term

    return replace(
        chunk,
        hash=f"{copy:x}-{chunk.hash}"[:32],
        name_terms=tuple(map(own, chunk.name_terms)),
        body_terms=tuple(map(own, chunk.body_terms)),
    )
