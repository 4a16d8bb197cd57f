"""Ways to turn text into vectors, one file each, found by the name of the file.

`index.embedder` is the name of one, with what it needs to know behind a colon
(`transformer:all-MiniLM-L6-v2`), or of a model for sentence-transformers; `none` is for none. Each
file has `open_embedder(argument, settings)`. Knows no index and no library of vectors.
"""

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lsp_assist.config import IndexSettings
from lsp_assist.llm import Embedder

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NONE", "kinds", "open_embedder"]

NONE = "none"
_MODELS = "transformer"  # what a name is that is none of the kinds


def open_embedder(settings: IndexSettings) -> Embedder | None:
    """The embedder that is configured; None if none is wanted.

    Opens nothing heavy: a model is loaded when the first text is embedded.

    Raises: SettingError, ModelError
    """
    kind, _, argument = settings.embedder.partition(":")
    if kind == NONE:
        return None
    if kind not in kinds():
        kind, argument = _MODELS, settings.embedder
    module = import_module(f"{__name__}.{kind}")
    opened = cast("Callable[[str, IndexSettings], Embedder]", module.open_embedder)
    return opened(argument, settings)


@cache
def kinds() -> frozenset[str]:
    """The kinds of embedders that there are."""
    return frozenset(
        file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_")
    )
