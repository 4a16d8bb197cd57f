"""What the engine answers, as the JSON objects of OpenAI's API.

With llama-server's additions: `timings`, and both numbers when a prompt is too long. Pure: knows
no HTTP and no clock; id and creation time are told.
"""

import base64
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lsp_assist.engine.openai_requests import UnknownModel
from lsp_assist.engine.requests import Ended, Event, FinishReason, Piece, Prefilled, TokenLogprob
from lsp_assist.errors import AssistError, BadInput, ContextTooLong, ModelFileError

__all__ = ["Kind", "Reply", "embeddings", "error_object", "status_of"]

Kind = Literal["chat", "completion"]
Json = dict[str, object]


@dataclass(slots=True)
class Reply:
    """One reply in the making: takes the events, gives chunks as they come or the whole at the end.

    `n_top` is how many alternatives each token is shown with; None for no log probabilities.
    """

    kind: Kind
    id: str
    created: int
    model: str
    n: int
    n_top: int | None
    includes_usage: bool = False
    _prefilled: Prefilled = field(default_factory=lambda: Prefilled(0, 0))
    _texts: dict[int, list[str]] = field(default_factory=dict)
    _logprobs: dict[int, list[TokenLogprob]] = field(default_factory=dict)
    _ended: dict[int, Ended] = field(default_factory=dict)

    def take(self, event: Event) -> None:
        """Add an event to the whole."""
        match event:
            case Prefilled():
                self._prefilled = event
            case Piece():
                self._texts.setdefault(event.index, []).append(event.text)
                self._logprobs.setdefault(event.index, []).extend(event.logprobs)
            case Ended():
                self._ended[event.index] = event

    def chunks(self, event: Event) -> Iterator[Json]:
        """The chunks of a stream that an event makes, after taking it."""
        offset = self._n_characters(event.index) if isinstance(event, Piece) else 0
        self.take(event)
        match event:
            case Prefilled() if self.kind == "chat":
                for index in range(self.n):
                    yield self._chunk([self._delta(index, {"role": "assistant", "content": ""})])
            case Piece():
                choice = self._delta(event.index, {"content": event.text}, event.text)
                choice["logprobs"] = self._shown(event.logprobs, offset)
                yield self._chunk([choice])
            case Ended():
                choice = self._delta(event.index, {}, reason=event.reason)
                is_last = len(self._ended) == self.n
                yield self._chunk([choice], {"timings": self._timings()} if is_last else {})

    def usage_chunk(self) -> Json:
        """The last chunk of a stream whose request wants the usage."""
        return self._chunk([], {"usage": self._usage(), "timings": self._timings()})

    def whole(self) -> Json:
        """The reply of a request that is not streamed."""
        return {
            "id": self.id,
            "object": "chat.completion" if self.kind == "chat" else "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": [self._choice(index) for index in range(self.n)],
            "usage": self._usage(),
            "timings": self._timings(),
        }

    # ---- parts

    def _chunk(self, choices: list[Json], more: Json | None = None) -> Json:
        chunk: Json = {
            "id": self.id,
            "object": "chat.completion.chunk" if self.kind == "chat" else "text_completion",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }
        if self.includes_usage:
            chunk["usage"] = None
        return chunk | (more or {})

    def _delta(
        self, index: int, delta: Json, text: str = "", *, reason: FinishReason | None = None
    ) -> Json:
        said: Json = {"delta": delta} if self.kind == "chat" else {"text": text}
        return {"index": index, **said, "logprobs": None, "finish_reason": reason}

    def _choice(self, index: int) -> Json:
        text = "".join(self._texts.get(index, ()))
        ended = self._ended.get(index)
        said: Json = (
            {"message": {"role": "assistant", "content": text, "refusal": None}}
            if self.kind == "chat"
            else {"text": text}
        )
        return {
            "index": index,
            **said,
            "logprobs": self._shown(self._logprobs.get(index, ()), 0),
            "finish_reason": ended.reason if ended else "length",
        }

    def _n_characters(self, index: int) -> int:
        if self.n_top is None or self.kind == "chat":
            return 0
        return sum(len(text) for text in self._texts.get(index, ()))

    def _shown(self, logprobs: Sequence[TokenLogprob], offset: int) -> Json | None:
        if self.n_top is None:
            return None
        if self.kind == "chat":
            return {"content": [_token_object(token, self.n_top) for token in logprobs]}
        offsets: list[int] = []
        for token in logprobs:
            offsets.append(offset)
            offset += len(token.text)
        return {
            "tokens": [token.text for token in logprobs],
            "token_logprobs": [_finite(token.logprob) for token in logprobs],
            "top_logprobs": [_by_text(token, self.n_top) for token in logprobs],
            "text_offset": offsets,
        }

    def _usage(self) -> Json:
        n_out = sum(ended.n_tokens for ended in self._ended.values())
        return {
            "prompt_tokens": self._prefilled.n_prompt,
            "completion_tokens": n_out,
            "total_tokens": self._prefilled.n_prompt + n_out,
            "prompt_tokens_details": {"cached_tokens": self._prefilled.n_cached},
        }

    def _timings(self) -> Json:
        """Of the completion that took longest; the names are llama-server's where it has them."""
        ended = max(self._ended.values(), key=lambda e: e.timings.decode_ms, default=None)
        n_out = sum(e.n_tokens for e in self._ended.values())
        counts: Json = {
            "cache_n": self._prefilled.n_cached,
            "prompt_n": self._prefilled.n_prompt - self._prefilled.n_cached,
            "predicted_n": n_out,
        }
        if ended is None:
            return counts
        timings = ended.timings
        return counts | {
            "queue_ms": timings.queue_ms,
            "prefill_ms": timings.prefill_ms,
            "first_token_ms": timings.first_token_ms,
            "decode_ms": timings.decode_ms,
            "per_token_ms": timings.decode_ms / max(1, ended.n_tokens - 1),
        }


def embeddings(
    model: str, vectors: Sequence[Sequence[float]], n_tokens: int, *, as_base64: bool
) -> Json:
    """The reply of /v1/embeddings."""
    return {
        "object": "list",
        "model": model,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": _packed(vector) if as_base64 else list(vector),
            }
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
    }


def error_object(error: AssistError) -> Json:
    """An error as OpenAI's clients read it; the message ends with the remedy."""
    is_callers = status_of(error) < 500
    said: Json = {
        "message": str(error),
        "type": "invalid_request_error" if is_callers else "server_error",
        "param": error.field or None if isinstance(error, BadInput) else None,
        "code": _code_of(error),
    }
    if isinstance(error, ContextTooLong):
        said |= {"n_prompt_tokens": error.n_tokens, "n_ctx": error.n_ctx}
    return {"error": said}


def status_of(error: AssistError) -> int:
    """The HTTP status that an error is answered with."""
    if isinstance(error, UnknownModel):
        return 404
    return 400 if isinstance(error, BadInput | ContextTooLong) else 503


def _code_of(error: AssistError) -> str:
    match error:
        case UnknownModel():
            return "model_not_found"
        case BadInput():
            return "invalid_value"
        case ContextTooLong():
            return "context_length_exceeded"
        case ModelFileError():
            return "model_file_error"
        case _:
            return "model_unavailable"


def _token_object(token: TokenLogprob, n_top: int) -> Json:
    return {
        **_scored(token.text, token.logprob),
        "top_logprobs": [_scored(text, logprob) for _, text, logprob in token.top[:n_top]],
    }


def _by_text(token: TokenLogprob, n_top: int) -> dict[str, float]:
    """The likeliest alternatives by their text; of two that look the same, the likelier."""
    found: dict[str, float] = {}
    for _, text, logprob in token.top[:n_top]:
        found.setdefault(text, _finite(logprob))
    return found


def _scored(text: str, logprob: float) -> Json:
    return {
        "token": text,
        "logprob": _finite(logprob),
        "bytes": list(text.encode("utf-8", "surrogatepass")),
    }


def _finite(logprob: float) -> float:
    """JSON has no infinity; -9999 stands for "impossible", as in OpenAI's replies."""
    return max(logprob, -9999.0)


def _packed(vector: Sequence[float]) -> str:
    """Little-endian 32-bit floats in base64, as the official clients ask for them."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
