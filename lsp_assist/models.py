"""Opening what the settings name: the model that answers, and the embedder that finds by meaning.

Knows backends by name only; each is imported when it is used.
"""

import asyncio
import contextlib
import math
from collections.abc import Sequence
from pathlib import Path

from lsp_assist.config import Settings
from lsp_assist.errors import SettingError
from lsp_assist.llm import Embedder, Model

__all__ = ["engine_model", "open_embedders", "open_model"]

ENGINE_SILENCE_S = 60.0  # it says every few seconds that it lives


def open_model(settings: Settings) -> tuple[Model, str]:
    """The model that the settings name, and why it answers."""
    if settings.model.url:
        return _served_model(settings.model.url, settings.model.name), "the configured server"
    if settings.model.path is None:
        config = f"{_shown(settings.places.config)}/config.toml"
        remedy = (
            "To add one, run `lsp-assist ask --model FILE.gguf`, or write"
            f' `[model]` and `path = "FILE.gguf"` into `{config}`.'
        )
        from lsp_assist.backends.extractive import ExtractiveModel

        return ExtractiveModel(remedy), "no model is configured"
    return engine_model(settings.model.path, settings), "the configured model file"


def open_embedders(settings: Settings) -> Sequence[Embedder]:
    """The embedders that the settings name: one, or none. Imports what they need: use a thread.

    Raises: SettingError, ModelError
    """
    kind, _, argument = settings.index.embedder.partition(":")
    if kind == "engine":
        return (_engine_embedder(Path(argument).expanduser(), settings),)
    from lsp_assist.backends.embedders import open_embedder

    embedder = open_embedder(settings.index)
    return () if embedder is None else (embedder,)


def _engine_embedder(path: Path, settings: Settings) -> Embedder:
    """A model file that the user's engine makes vectors with.

    Raises: ModelFileError, SettingError
    """
    if not path.name:
        raise SettingError(
            "`index.embedder` is 'engine'; name a GGUF file behind it: 'engine:/models/FILE.gguf'.",
            field="index.embedder",
        )
    from lsp_assist.backends.embedders.openai import SILENCE_S, OpenAIEmbedder
    from lsp_assist.backends.openai import Server
    from lsp_assist.engine import process
    from lsp_assist.engine.gguf import read_model_file

    n_bytes = read_model_file(path).n_bytes  # says what is wrong, and no engine is started for it

    def find() -> Server:
        endpoint = process.connected(settings)
        served = process.model_served(endpoint, path)
        return Server(endpoint.url, served, endpoint.socket, endpoint.token, silence_s=SILENCE_S)

    return OpenAIEmbedder(f"engine-{path.stem}-{n_bytes}", find)


def _served_model(url: str, name: str) -> Model:
    """A model of a server that somebody else runs on this machine.

    Raises: SettingError
    """
    from urllib.parse import urlsplit

    from lsp_assist.backends.openai import OpenAIModel, Server

    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname not in ("localhost", "127.0.0.1", "::1"):
        # There is no gate yet that checks what leaves the machine.
        raise SettingError(
            f"`model.url` is {url!r}; it must be that of a server on this machine, such as "
            "'http://127.0.0.1:11434'.",
            field="model.url",
        )
    if not name:
        raise SettingError("`model.url` needs `model.name` beside it.", field="model.name")
    server = Server(url.rstrip("/").removesuffix("/v1"), name)

    async def find() -> Server:
        return server

    return OpenAIModel(name, find)


def engine_model(path: Path, settings: Settings) -> Model:
    """A model file that the user's engine answers with; the engine is started when it is needed.

    It may die in the middle of a reply: it is started and asked again, twice.
    """
    from lsp_assist.backends.openai import OpenAIModel, Server
    from lsp_assist.engine import process

    def found() -> Server:
        if not path.is_file():
            from lsp_assist.engine.gguf import read_model_file

            read_model_file(path)  # says what is wrong, and no engine is started for it
        endpoint = process.connected(settings)
        return Server(
            endpoint.url,
            process.model_served(endpoint, path),
            endpoint.socket,
            endpoint.token,
            takes_llama_keys=True,
            first_text_s=math.inf,  # a prefill takes as long as it takes
            silence_s=ENGINE_SILENCE_S,
        )

    async def find() -> Server:
        return await asyncio.to_thread(found)

    return OpenAIModel(path.stem, find, n_repeats=2)


def _shown(path: Path) -> str:
    """The path with `~` for the user's home."""
    with contextlib.suppress(ValueError, RuntimeError):  # not below it; no home
        return f"~/{path.relative_to(Path.home()).as_posix()}"
    return str(path)
