"""What can be seen of an index, so that two of them can be compared."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lsp_assist.codebase.index import Index
from lsp_assist.codebase.store import Store
from lsp_assist.config import IndexSettings
from tests.bench.index.trees import queries

__all__ = ["differences", "seen", "seen_anew"]

N_QUERIES = 40
_PASSAGES = 3

Seen = dict[str, Any]


def seen(index: Index, store_path: Path, overlaid: Iterable[str] = ()) -> Seen:
    """Files with their symbols and uses, and the places for some questions with their scores."""
    found: Seen = {"counts": asdict(index.counts())}
    store = Store(store_path)
    hidden = set(overlaid)
    for path, record in store.records().items():
        symbols = store.symbols_of(path)
        uses = [store.uses_in(path, ordinal) for ordinal in range(-1, len(symbols))]
        found[f"file {path}"] = (record.hash, symbols, uses)
        if path not in hidden:
            found[f"size {path}"] = record.size
    store.close()
    for query in queries(N_QUERIES):
        hits = index.search(query, 20)
        found[f"search {query}"] = hits
        found[f"passages {query}"] = [index.passage(hit) for hit in hits[:_PASSAGES]]
    return found


def seen_anew(workspace: Path, store_path: Path, overlays: Iterable[tuple[str, str]]) -> Seen:
    """What an index that is built from scratch shows."""
    overlays = list(overlays)
    index = Index(workspace, store_path, IndexSettings())
    index.refresh()
    for path, text in overlays:
        index.overlay(path, text)
    found = seen(index, store_path, (path for path, _ in overlays))
    index.close()
    return found


def differences(one: Seen, other: Seen) -> Sequence[str]:
    """What the two do not show alike."""
    return sorted(key for key in one.keys() | other.keys() if one.get(key) != other.get(key))
