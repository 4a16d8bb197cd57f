"""The wire to an OpenAI-compatible server: requests out, JSON and events in, failures as ours.

Knows no prompt and repeats nothing.
"""

import json
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import httpx2

from lsp_assist.backends.sse import BrokenStream, data_of
from lsp_assist.errors import ContextTooLong, ModelError, ModelFileError, ModelUnavailable

__all__ = ["Connection", "Json", "Lost", "Refused", "Server"]

logger = logging.getLogger(__name__)

Json = Mapping[str, object]

CONNECT_S = 10.0
MAX_REPLY_BYTES = 64 * 2**20
_MAX_SHOWN = 500  # characters of what a server says


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and the model that it shall answer with."""

    url: str
    """Without `/v1`."""
    model: str
    socket: Path | None = None
    """A unix socket to connect to instead of the URL's host."""
    api_key: str = field(default="", repr=False)
    takes_llama_keys: bool = False
    """Whether it knows llama.cpp's sampling parameters; OpenAI's own refuses them."""
    first_text_s: float = 300.0
    """How long the prefill may take; our engine says that it lives, so infinity suits it."""
    silence_s: float = 300.0
    """How long the connection may be silent."""

    @property
    def place(self) -> str:
        """What an error names it by."""
        return "The engine" if self.socket else f"The server at {self.url}"


class Lost(Exception):
    """The server went away: nobody listens, or the connection broke. The text says how."""


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, status: int, error: ModelError) -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error


class Connection:
    """An HTTP client for one server."""

    def __init__(self, server: Server) -> None:
        self.server = server
        host = urlsplit(server.url).hostname
        is_local = server.socket is not None or host in ("localhost", "127.0.0.1", "::1")
        is_plain = server.url.startswith("http:")
        transport = httpx2.AsyncHTTPTransport(
            uds=None if server.socket is None else str(server.socket),
            # Certificates take long to load and are of no use without TLS.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if is_plain else True,
        )
        self._client = httpx2.AsyncClient(
            base_url=server.url,
            headers={"Authorization": f"Bearer {server.api_key}"} if server.api_key else {},
            timeout=httpx2.Timeout(server.silence_s, connect=CONNECT_S),
            transport=transport,
            trust_env=not is_local,  # a proxy is no way to this machine
        )

    async def got(self, place: str) -> Json:
        """What the server has at this place.

        Raises: Lost, Refused, ModelUnavailable
        """
        async with self._answered("GET", place, None) as response:
            return self._object(await _whole(response))

    async def posted(self, place: str, body: Json) -> Json:
        """What the server answers to this.

        Raises: Lost, Refused, ModelUnavailable
        """
        async with self._answered("POST", place, body) as response:
            return self._object(await _whole(response))

    async def events(self, place: str, body: Json) -> AsyncGenerator[Json, None]:
        """The objects that the server streams, up to its `[DONE]`.

        Raises: Lost if it ends without, Refused, ModelUnavailable
        """
        async with self._answered("POST", place, body) as response:
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise ModelUnavailable(
                    f"{self.server.place} answered with {kind or 'something'!r} instead of a "
                    "stream; check that its URL is that of an OpenAI-compatible API."
                )
            async with aclosing(data_of(response.aiter_bytes())) as events:
                async for data in events:
                    if data.strip() == "[DONE]":
                        return
                    said = self._object(data)
                    if said.get("error"):
                        raise Refused(200, self._error(200, said, None))
                    yield said
        raise Lost("it ended the reply in the middle")

    async def close(self) -> None:
        """Close what is open."""
        await self._client.aclose()

    # ---- parts

    @asynccontextmanager
    async def _answered(
        self, method: str, place: str, body: Json | None
    ) -> AsyncIterator[httpx2.Response]:
        """The response to a request, its status checked; closed when the block is left."""
        if self._client.is_closed:
            raise Lost("the connection was closed")
        # ASCII, because a lone surrogate, as from a file name, has no UTF-8.
        data = None if body is None else json.dumps(body).encode("ascii")
        headers = {} if data is None else {"Content-Type": "application/json"}
        try:
            async with self._client.stream(
                method, place, content=data, headers=headers
            ) as response:
                if response.status_code != 200:
                    raise self._refusal(response, await _whole(response))
                yield response
        except httpx2.ConnectTimeout as error:
            raise Lost(f"it does not answer within {CONNECT_S:g} s") from error
        except httpx2.TimeoutException as error:
            raise ModelUnavailable(
                f"{self.server.place} was silent for {self.server.silence_s:g} s; ask again, or "
                "ask for less."
            ) from error
        except httpx2.TransportError as error:
            raise Lost(str(error) or "the connection broke") from error
        except BrokenStream as error:
            raise ModelUnavailable(
                f"{self.server.place} sent {error}; it is broken or no OpenAI-compatible API."
            ) from error

    def _object(self, text: str) -> Json:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelUnavailable(
                f"{self.server.place} sent something that is not JSON; check that its URL is that "
                "of an OpenAI-compatible API."
            ) from error
        if not isinstance(said, dict):
            raise ModelUnavailable(
                f"{self.server.place} sent JSON that is no object; check that its URL is that of "
                "an OpenAI-compatible API."
            )
        return said

    def _refusal(self, response: httpx2.Response, text: str) -> Refused:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            said = {}
        status = response.status_code
        return Refused(
            status,
            self._error(
                status,
                said if isinstance(said, dict) else {},
                response.headers.get("retry-after"),
            ),
        )

    def _error(self, status: int, said: Json, retry_after: str | None) -> ModelError:
        """What the server says, as our error with a remedy."""
        found = said.get("error")
        fields = cast("Json", found) if isinstance(found, dict) else {"message": found}
        message = fields.get("message")
        words = message[:_MAX_SHOWN].strip() if isinstance(message, str) else ""
        place, code = self.server.place, fields.get("code")
        n_tokens, n_ctx = fields.get("n_prompt_tokens"), fields.get("n_ctx")
        if isinstance(n_tokens, int) and isinstance(n_ctx, int):
            return ContextTooLong(n_tokens, n_ctx)
        if code in ("model_file_error", "model_unavailable") and words:
            # Our own engine: what it says ends with the remedy.
            return (ModelFileError if code == "model_file_error" else ModelUnavailable)(words)
        heard = f"{status}: {words!r}" if words else str(status)
        if status in (401, 403):
            remedy = "check its API key" if self.server.api_key else "set its API key"
            return ModelUnavailable(f"{place} refused the request ({heard}); {remedy}.")
        if status == 404:
            return ModelUnavailable(
                f"{place} has no model {self.server.model!r}, or is no OpenAI-compatible API "
                f"({heard}); check both names."
            )
        if status == 429:
            when = f"in {retry_after} s" if (retry_after or "").isdecimal() else "later"
            return ModelUnavailable(f"{place} has too many requests ({heard}); ask again {when}.")
        if status >= 500 or status == 200:
            return ModelUnavailable(f"{place} failed ({heard}); ask again, and see its log.")
        return ModelUnavailable(f"{place} refused the request ({heard}); ask in another way.")


async def _whole(response: httpx2.Response) -> str:
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > MAX_REPLY_BYTES:
            raise BrokenStream(f"more than {MAX_REPLY_BYTES:,} bytes")
    return data.decode("utf-8", "replace")
