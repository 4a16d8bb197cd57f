"""Vectors from an OpenAI-compatible server on this machine: `/v1/embeddings`.

Our engine serves it (`lsp-assist engine --port`), as do llama-server, Ollama, LM Studio and vLLM.
Knows no engine process.
"""

import asyncio
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from lsp_assist.config import IndexSettings
from lsp_assist.errors import ModelUnavailable, SettingError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from lsp_assist.backends.openai_wire import Connection, Json, Server

__all__ = ["SILENCE_S", "OpenAIEmbedder", "open_embedder"]

BATCH_TEXTS = 32
MAX_TEXT_CHARS = 6_000
"""What is longer is cut: servers refuse a text that exceeds the model's window."""
SILENCE_S = 120.0
_LOCAL = ("localhost", "127.0.0.1", "::1")


def open_embedder(argument: str, settings: IndexSettings) -> "OpenAIEmbedder":
    """The embedder for `openai:<model>` at `index.embedder_url`. Connects at the first text.

    Raises: SettingError
    """
    url = settings.embedder_url
    if not argument:
        raise SettingError(
            "`index.embedder` is 'openai'; name the server's model behind it, such as "
            "'openai:nomic-embed-text'.",
            field="index.embedder",
        )
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in _LOCAL:
        # There is no gate yet that checks what leaves the machine.
        raise SettingError(
            f"`index.embedder_url` is {url!r}; it must be that of a server on this machine, such "
            "as 'http://127.0.0.1:11434'.",
            field="index.embedder_url",
        )
    from lsp_assist.backends.openai_wire import Server

    server = Server(url.rstrip("/").removesuffix("/v1"), argument, silence_s=SILENCE_S)
    return OpenAIEmbedder(f"openai-{server.model}@{server.url}", lambda: server)


class OpenAIEmbedder:
    """An `llm.Embedder` over HTTP. Called on threads, each call on a connection of its own."""

    def __init__(self, name: str, find: "Callable[[], Server]") -> None:
        """`find` says where the server is; it is asked each time, since it may move."""
        self.name = name
        self._find = find

    @cached_property
    def n_dims(self) -> int:
        """Length of a vector; the server is asked once.

        Raises: ModelError
        """
        return int(self.embed(["length"]).shape[1])

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Unit vectors, shape (len(texts), n_dims).

        Raises: ModelError
        """
        import numpy as np

        if not texts:
            return np.zeros((0, self.n_dims), np.float32)
        server = self._find()
        rows = asyncio.run(self._rows(server, [text[:MAX_TEXT_CHARS] for text in texts]))
        try:
            vectors = np.array(rows, np.float32)
        except (TypeError, ValueError) as error:  # of several lengths, or not of numbers
            raise _misfit(server, "vectors that are no numbers, or not of one length") from error
        if vectors.ndim != 2 or not vectors.shape[1] or not np.isfinite(vectors).all():
            raise _misfit(server, "vectors that are empty or not finite")
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    def embed_query(self, text: str) -> "NDArray[np.float32]":
        """The unit vector of a question, shape (n_dims,).

        Raises: ModelError
        """
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector

    async def _rows(self, server: "Server", texts: Sequence[str]) -> list[object]:
        from lsp_assist.backends.openai_wire import Connection, Lost, Refused

        connection = Connection(server)
        try:
            rows: list[object] = []
            for start in range(0, len(texts), BATCH_TEXTS):
                rows += await _batch(connection, server, texts[start : start + BATCH_TEXTS])
        except Lost as error:
            raise ModelUnavailable(
                f"{server.place} was lost ({error}); check that it runs. Until it answers, "
                "search goes by words alone."
            ) from error
        except Refused as refused:
            raise refused.error from refused
        finally:
            await connection.close()
        return rows


async def _batch(connection: "Connection", server: "Server", texts: Sequence[str]) -> list[object]:
    # An empty input is refused by some servers; a blank one stands for it.
    said: Json = {"model": server.model, "input": [text or " " for text in texts]}
    data = (await connection.posted("/v1/embeddings", said)).get("data")
    items = [item for item in data if isinstance(item, dict)] if isinstance(data, list) else []
    at = {item.get("index", place): item.get("embedding") for place, item in enumerate(items)}
    if set(at) != set(range(len(texts))):
        raise _misfit(server, f"{len(at)} vectors for {len(texts)} texts")
    return [cast("object", at[place]) for place in range(len(texts))]


def _misfit(server: "Server", what: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"{server.place} sent {what} for {server.model!r}; check that the model is one for "
        "embeddings."
    )
