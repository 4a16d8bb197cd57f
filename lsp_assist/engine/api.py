"""The OpenAI-compatible API over an engine, as an ASGI app.

    POST /v1/chat/completions, /v1/completions, /v1/embeddings     GET /v1/models, /v1/models/{name}
    POST /tokenize, /detokenize, /apply-template, /warmth          GET /health, /status
    POST /v1/models, /shutdown: for the user's own processes only

`max_tokens: 0` prefills the prompt and generates nothing: a warm-up. A connection that is dropped
cancels its request. Beyond OpenAI: `priority`, `speculative`, `grammar`, `lora`, llama-server's
sampling parameters, and `timings` in the reply. There are no CORS headers: no page in a browser is
a client. Knows no socket, no process and no llama.cpp.
"""

import logging
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from lsp_assist.engine import openai_replies, openai_requests
from lsp_assist.engine.answers import Stream, Whole, failure, json_response, unforeseen
from lsp_assist.engine.openai_replies import Kind, Reply
from lsp_assist.engine.openai_requests import Asked, Offer, UnknownModel
from lsp_assist.engine.requests import Event, GenerateRequest
from lsp_assist.engine.template import Turn
from lsp_assist.errors import AssistError, BadInput

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["Activity", "Engine", "Lifecycle", "app"]

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 2**20
PING_AFTER_S = 5.0
"""A stream that has nothing to say yet says so this often, so that nobody takes it for dead."""


class ModelState(Protocol):
    """A model that the engine has, and how it is. A dataclass."""

    @property
    def name(self) -> str: ...

    @property
    def path(self) -> Path: ...

    @property
    def state(self) -> str: ...


class Engine(Protocol):
    """What answers: `engine.service.Engine`, or a fake at the door."""

    def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """The completions, as events."""

    async def tokenize(self, model: str, text: str, *, parse_special: bool = False) -> list[int]:
        """The tokens of a text."""

    async def detokenize(self, model: str, tokens: Sequence[int]) -> str:
        """The text of tokens."""

    async def apply_template(self, model: str, turns: Sequence[Turn]) -> str:
        """The conversation as the model reads it."""

    async def warmth(self, model: str, turns: Sequence[Turn]) -> Any:
        """How much of a conversation is warm, as a dataclass."""

    async def embed(self, model: str, texts: Sequence[str]) -> list[list[float]]:
        """A vector for each text."""

    async def models(self) -> Sequence[Any]:
        """The models that there are, as `ModelState`."""

    async def status(self) -> Any:
        """How everything is, as a dataclass."""

    async def add_model(self, path: Path) -> str:
        """The name under which a model file is served from now on."""


@dataclass(slots=True)
class Activity:
    """Whether anybody uses the engine."""

    n_running: int = 0
    last_at: float = field(default_factory=time.monotonic)

    def begin(self) -> None:
        """A request came."""
        self.n_running += 1

    def end(self) -> None:
        """A request was answered or dropped."""
        self.n_running -= 1
        self.last_at = time.monotonic()

    @property
    def idle_s(self) -> float:
        """For how long nothing has run."""
        return 0.0 if self.n_running else time.monotonic() - self.last_at


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """What the process around the app says of itself, and how it is asked to end."""

    facts: Callable[[], Mapping[str, object]] = dict
    """For /health: version, process id."""
    shut_down: Callable[[], None] | None = None


def app(
    engine: Engine,
    *,
    adapters: Sequence[Path] = (),
    activity: Activity | None = None,
    lifecycle: Lifecycle | None = None,
    ping_after_s: float = PING_AFTER_S,
) -> "ASGIApp":
    """The API over an engine. Who may ask is not its business: see `gate`."""
    api = _Api(engine, tuple(adapters), lifecycle or Lifecycle(), ping_after_s)
    routes = [
        Route("/v1/chat/completions", _guarded(api.chat), methods=["POST"]),
        Route("/v1/completions", _guarded(api.completion), methods=["POST"]),
        Route("/v1/embeddings", _guarded(api.embeddings), methods=["POST"]),
        Route("/v1/models", _guarded(api.models), methods=["GET"]),
        Route("/v1/models", _guarded(api.add_model), methods=["POST"]),
        Route("/v1/models/{name:path}", _guarded(api.model), methods=["GET"]),
        Route("/tokenize", _guarded(api.tokenize), methods=["POST"]),
        Route("/detokenize", _guarded(api.detokenize), methods=["POST"]),
        Route("/apply-template", _guarded(api.apply_template), methods=["POST"]),
        Route("/warmth", _guarded(api.warmth), methods=["POST"]),
        Route("/status", _guarded(api.status), methods=["GET"]),
        Route("/health", _guarded(api.health), methods=["GET"]),
        Route("/shutdown", _guarded(api.shut_down), methods=["POST"]),
    ]
    starlette = Starlette(routes=routes, exception_handlers={HTTPException: _no_such_place})
    return _counted(starlette, activity or Activity())


class _Api:
    """The handlers: each takes a request and gives a response, or raises an AssistError."""

    def __init__(
        self, engine: Engine, adapters: tuple[Path, ...], lifecycle: Lifecycle, ping_after_s: float
    ) -> None:
        self._engine = engine
        self._adapters = adapters
        self._lifecycle = lifecycle
        self._ping_after_s = ping_after_s
        self._started_at = int(time.time())

    async def chat(self, request: Request) -> Response:
        return self._answer("chat", openai_requests.chat(await _body(request), await self._offer()))

    async def completion(self, request: Request) -> Response:
        asked = openai_requests.completion(await _body(request), await self._offer())
        return self._answer("completion", asked)

    async def embeddings(self, request: Request) -> Response:
        asked = openai_requests.embedding(await _body(request), await self._offer())
        vectors = await self._engine.embed(asked.model, asked.texts)
        n_tokens = 0
        for text in asked.texts:
            n_tokens += len(await self._engine.tokenize(asked.model, text))
        return json_response(
            openai_replies.embeddings(asked.model, vectors, n_tokens, as_base64=asked.as_base64)
        )

    async def models(self, _request: Request) -> Response:
        models = [self._model_object(model) for model in await self._engine.models()]
        return json_response({"object": "list", "data": models})

    async def model(self, request: Request) -> Response:
        wanted = request.path_params["name"]
        for model in await self._engine.models():
            if model.name == wanted:
                return json_response(self._model_object(model))
        raise UnknownModel(
            f"There is no model {wanted!r}; GET /v1/models lists those that there are.",
            field="model",
        )

    async def add_model(self, request: Request) -> Response:
        _check_private(request)
        path = (await _body(request)).get("path")
        if not isinstance(path, str) or not Path(path).is_absolute() or "\0" in path:
            raise BadInput(
                "`path` must be the absolute path of a GGUF file; send one.", field="path"
            )
        return json_response({"id": await self._engine.add_model(Path(path))})

    async def tokenize(self, request: Request) -> Response:
        asked = openai_requests.tokenize(await _body(request), await self._offer())
        tokens = await self._engine.tokenize(
            asked.model, asked.text, parse_special=asked.parse_special
        )
        if not asked.with_pieces:
            return json_response({"tokens": tokens})
        pieces = [await self._engine.detokenize(asked.model, [token]) for token in tokens]
        return json_response(
            {"tokens": [{"id": t, "piece": p} for t, p in zip(tokens, pieces, strict=True)]}
        )

    async def detokenize(self, request: Request) -> Response:
        asked = openai_requests.detokenize(await _body(request), await self._offer())
        return json_response({"content": await self._engine.detokenize(asked.model, asked.tokens)})

    async def apply_template(self, request: Request) -> Response:
        model, turns = openai_requests.template_of(await _body(request), await self._offer())
        return json_response({"prompt": await self._engine.apply_template(model, turns)})

    async def warmth(self, request: Request) -> Response:
        model, turns = openai_requests.template_of(await _body(request), await self._offer())
        return json_response(asdict(await self._engine.warmth(model, turns)))

    async def status(self, _request: Request) -> Response:
        status = asdict(await self._engine.status())
        return json_response({**self._lifecycle.facts(), **status})

    async def health(self, _request: Request) -> Response:
        return json_response({"status": "ok", **self._lifecycle.facts()})

    async def shut_down(self, request: Request) -> Response:
        _check_private(request)
        if self._lifecycle.shut_down is not None:
            self._lifecycle.shut_down()
        return json_response({"status": "stopping"})

    # ---- parts

    async def _offer(self) -> Offer:
        names = [model.name for model in await self._engine.models()]
        return Offer(names, self._adapters)

    def _model_object(self, model: ModelState) -> dict[str, object]:
        facts = asdict(model)  # type: ignore[call-overload]  # a Protocol cannot say "a dataclass"
        return {
            "id": model.name,
            "object": "model",
            "created": self._started_at,
            "owned_by": "lsp-assist",
            "meta": {name: value for name, value in facts.items() if name != "name"},
        }

    def _answer(self, kind: Kind, asked: Asked) -> Response:
        reply = Reply(
            kind,
            id=f"{'chatcmpl' if kind == 'chat' else 'cmpl'}-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=asked.request.model,
            n=asked.request.n,
            n_top=asked.n_top,
            includes_usage=asked.includes_usage,
        )
        generate = self._engine.generate
        if asked.is_streamed:
            return Stream(lambda: generate(asked.request), reply, self._ping_after_s)
        return Whole(lambda: generate(asked.request), reply)


# ---- requests ------------------------------------------------------------------

_Handler = Callable[[Request], Awaitable[Response]]


def _guarded(handler: _Handler) -> _Handler:
    """The handler, with errors answered as OpenAI's clients expect them."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except AssistError as error:
            return failure(error)
        except ClientDisconnect:
            return Response(status_code=499)  # nobody reads it
        except _TooLarge:
            said = f"The body exceeds {MAX_BODY_BYTES // 2**20} MiB; send less."
            return json_response(openai_replies.error_object(BadInput(said)), 413)
        except Exception:
            logger.exception("A request failed")
            return failure(unforeseen())

    return guarded


class _TooLarge(Exception):
    """A body is longer than we read."""


async def _body(request: Request) -> Mapping[str, object]:
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY_BYTES:
            raise _TooLarge
    return openai_requests.parsed(bytes(data))


def _check_private(request: Request) -> None:
    """Raises: BadInput for tools that reach us over a port opened to them."""
    if not getattr(request.state, "is_private", False):
        raise BadInput("This is for the user's own processes only; use `lsp-assist engine`.")


async def _no_such_place(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    said = BadInput(f"{request.method} {request.url.path} is not part of this API.")
    return json_response(openai_replies.error_object(said), status)


def _counted(inner: "ASGIApp", activity: Activity) -> "ASGIApp":
    """The app, with its requests counted; looking at it is no activity."""

    async def counted(scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] != "http" or scope["path"] in ("/health", "/status"):
            await inner(scope, receive, send)
            return
        activity.begin()
        try:
            await inner(scope, receive, send)
        finally:
            activity.end()

    return counted
