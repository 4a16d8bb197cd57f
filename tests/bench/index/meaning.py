"""Vectors: how fast they are made, and how soon a change has its own."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lsp_assist.backends.embedders import open_embedder
from lsp_assist.codebase.embedding_thread import EmbeddingThread
from lsp_assist.codebase.index import Index
from lsp_assist.config import IndexSettings
from lsp_assist.llm import Embedder
from tests.bench.index.sizes import Sizes
from tests.bench.index.trees import copy_tree

__all__ = ["embed", "packaged", "vector"]

N_NEAREST = 10


def packaged() -> Embedder:
    """The embedder that comes with the package."""
    embedder = open_embedder(IndexSettings())
    assert embedder is not None
    return embedder


def embed(folders: Sequence[Path], sizes: Sizes, scratch: Path) -> dict[str, float]:
    """All chunks of a tree: read again, embedded and written; what is imported is there before."""
    import lancedb  # noqa: F401  # takes a second, once in the life of a server

    workspace = scratch / "workspace"
    copy_tree(folders, workspace, sizes.day_lines)
    embedder = packaged()
    index = Index(workspace, scratch / "index" / "i.db", IndexSettings(), [embedder])
    index.refresh()
    n_chunks = len(set(index.chunk_hashes()))
    started = time.perf_counter()
    is_done = index.embed()
    taken_s = time.perf_counter() - started
    n_vectors = index.embedding.states()[0].n_vectors
    index.close()
    assert is_done
    print(f"   {n_vectors} of {n_chunks} chunks in {taken_s:.1f} s; the rest is generated text")
    return {"index.embed_chunks_per_s": n_vectors / taken_s}


def vector(folders: Sequence[Path], sizes: Sizes, scratch: Path) -> dict[str, float]:
    """Unsaved changes, one after the other, until each new function is near to its own text.

    Through the thread that embeds in the server, its rest before it begins included.
    """
    workspace = scratch / "workspace"
    copy_tree(folders, workspace, sizes.day_lines)
    embedder = packaged()
    index = Index(workspace, scratch / "index" / "i.db", IndexSettings())
    index.refresh()
    thread = EmbeddingThread(lambda: [embedder])
    thread.add(index)
    thread.wait()
    draw = random.Random(7)
    paths = sorted(p.relative_to(workspace).as_posix() for p in workspace.rglob("*.py"))
    taken = []
    for n in range(sizes.vector_changes):
        path = draw.choice(paths)
        own = f"def retry_request_{n}(session):\n    return session.send({n}, timeout={n + 7})\n"
        text = (workspace / path).read_text("utf-8", "replace") + "\n\n" + own
        started = time.perf_counter()
        index.overlay(path, text)
        thread.wake()
        while not _is_near(index, embedder, path, own):
            thread.wait()
        taken.append((time.perf_counter() - started) * 1000)
        index.overlay(path, None)
        thread.wake()
        thread.wait()
    thread.close()
    index.close()
    return {
        "index.change_to_vector_p50_ms": float(np.quantile(taken, 0.5)),
        "index.change_to_vector_p95_ms": float(np.quantile(taken, 0.95)),
    }


def _is_near(index: Index, embedder: Embedder, path: str, own: str) -> bool:
    """Whether a chunk of the file is among the nearest to this text."""
    near = {
        key
        for voice in index.embedding.heard()
        for key, _ in voice.vectors.nearest(embedder.embed_query(own), N_NEAREST)
    }
    overlay = index._view().overlays[path]
    last = overlay.file.n_lines - own.count("\n")
    return any(chunk.hash in near for chunk in overlay.file.chunks if chunk.end_line >= last)
