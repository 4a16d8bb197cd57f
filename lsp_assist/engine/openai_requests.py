"""Bodies of OpenAI requests, checked by name and type, as what the engine is asked.

Takes what OpenAI's API and llama-server's have in common with our engine. Unknown keys are ignored,
as are `tools`, `logit_bias` and the penalties that our sampler has not. Pure: knows no HTTP, no
model and no file; which models and adapters there are is told.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from lsp_assist.engine.grammar import JSON_GRAMMAR, grammar_of_schema
from lsp_assist.engine.requests import Adapter, GenerateRequest, Priority
from lsp_assist.engine.template import Turn
from lsp_assist.errors import BadInput
from lsp_assist.llm import Role, Sampling

__all__ = [
    "Asked",
    "Detokenize",
    "Embed",
    "Offer",
    "Tokenize",
    "UnknownModel",
    "chat",
    "completion",
    "detokenize",
    "embedding",
    "parsed",
    "template_of",
    "tokenize",
]

MAX_COMPLETIONS = 128
MAX_LOGPROBS = 20  # as OpenAI
MAX_STOPS = 64
MAX_DEPTH = 64
MAX_TOKENS = 2**31 - 1


class UnknownModel(BadInput):
    """A request names a model that is not there."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What requests may name."""

    models: Sequence[str]
    """The first one answers where none is named."""
    adapters: Sequence[Path] = ()
    """LoRA adapters that the user configured."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request for completions, and how they are wanted."""

    request: GenerateRequest
    is_streamed: bool
    includes_usage: bool
    """Of a stream: a last chunk with the usage is wanted."""
    n_top: int | None
    """Alternatives to show for each token; None for no log probabilities."""


@dataclass(frozen=True, slots=True)
class Tokenize:
    """A text to cut into tokens."""

    model: str
    text: str
    parse_special: bool
    with_pieces: bool


@dataclass(frozen=True, slots=True)
class Detokenize:
    """Tokens to join into a text."""

    model: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Embed:
    """Texts to embed."""

    model: str
    texts: tuple[str, ...]
    as_base64: bool


def parsed(body: bytes) -> Mapping[str, object]:
    """The JSON object that a body holds.

    Raises: BadInput
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:  # also UnicodeDecodeError
        raise BadInput(f"The body is not JSON ({error}); send one object.") from error
    if not isinstance(value, dict):
        raise BadInput("The body is not a JSON object; send one.")
    _check_depth(value)
    return value


def chat(body: Mapping[str, object], offer: Offer) -> Asked:
    """What a body of /v1/chat/completions asks.

    Raises: BadInput with the parameter at fault, UnknownModel
    """
    turns = _turns(body)
    n_top: int | None = None
    if _flag(body, "logprobs"):
        n_top = _whole(body, "top_logprobs", 0, 0, MAX_LOGPROBS)
    return _asked(body, offer, turns, n_top)


def completion(body: Mapping[str, object], offer: Offer) -> Asked:
    """What a body of /v1/completions asks.

    Raises: BadInput with the parameter at fault, UnknownModel
    """
    n_top = None
    if body.get("logprobs") is not None:
        n_top = _whole(body, "logprobs", 0, 0, MAX_LOGPROBS)
    return _asked(body, offer, _plain_prompt(body), n_top)


def embedding(body: Mapping[str, object], offer: Offer) -> Embed:
    """What a body of /v1/embeddings asks.

    Raises: BadInput with the parameter at fault, UnknownModel
    """
    said = body.get("input")
    texts = [said] if isinstance(said, str) else said
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise _refusal("input", said, "a text or a list of texts")
    form = body.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise _refusal("encoding_format", form, "'float' or 'base64'")
    return Embed(_model(body, offer), tuple(texts), form == "base64")


def tokenize(body: Mapping[str, object], offer: Offer) -> Tokenize:
    """What a body of /tokenize asks.

    Raises: BadInput with the parameter at fault, UnknownModel
    """
    return Tokenize(
        _model(body, offer),
        _text(body, "content"),
        _flag(body, "parse_special"),
        _flag(body, "with_pieces"),
    )


def detokenize(body: Mapping[str, object], offer: Offer) -> Detokenize:
    """What a body of /detokenize asks.

    Raises: BadInput with the parameter at fault, UnknownModel
    """
    return Detokenize(_model(body, offer), _tokens(body.get("tokens"), "tokens"))


def template_of(body: Mapping[str, object], offer: Offer) -> tuple[str, tuple[Turn, ...]]:
    """What a body of /apply-template asks: the model and the conversation.

    Raises: BadInput with the parameter at fault, UnknownModel
    """
    return _model(body, offer), _turns(body)


# ---- completions ---------------------------------------------------------------------------


def _asked(
    body: Mapping[str, object],
    offer: Offer,
    prompt: tuple[Turn, ...] | str | tuple[int, ...],
    n_top: int | None,
) -> Asked:
    options = body.get("stream_options") or {}
    if not isinstance(options, Mapping):
        raise _refusal("stream_options", options, "an object")
    request = GenerateRequest(
        model=_model(body, offer),
        prompt=prompt,
        sampling=_sampling(body),
        priority=_priority(body),
        n=_whole(body, "n", 1, 1, MAX_COMPLETIONS),
        grammar=_grammar(body),
        n_logprobs=0 if n_top is None else max(1, n_top),
        adapters=_adapters(body, offer),
        is_speculative=_flag(body, "speculative"),
    )
    return Asked(
        request,
        is_streamed=_flag(body, "stream"),
        includes_usage=_flag(options, "include_usage", "stream_options.include_usage"),
        n_top=n_top,
    )


def _sampling(body: Mapping[str, object]) -> Sampling:
    usual = Sampling()
    seed = body.get("seed")
    return replace(
        usual,
        temperature=_number(body, "temperature", usual.temperature, 0, 100),
        top_p=_number(body, "top_p", usual.top_p, 0, 1),
        top_k=_whole(body, "top_k", usual.top_k, 0, MAX_TOKENS),
        min_p=_number(body, "min_p", usual.min_p, 0, 1),
        repeat_penalty=_number(body, "repeat_penalty", usual.repeat_penalty, 0.01, 100),
        # llama-server's -1 asks for a new one.
        seed=None if seed in (None, -1) else _whole(body, "seed", 0, 0, 2**64 - 1),
        max_tokens=_max_tokens(body, usual.max_tokens),
        stop=_stop(body),
    )


def _max_tokens(body: Mapping[str, object], default: int) -> int:
    for name in ("max_completion_tokens", "max_tokens", "n_predict"):
        value = body.get(name)
        if name == "n_predict" and value == -1:  # llama-server's "no limit"
            return MAX_TOKENS
        if value is not None:
            return _whole(body, name, default, 0, MAX_TOKENS)
    return default


def _stop(body: Mapping[str, object]) -> tuple[str, ...]:
    said = body.get("stop")
    if said is None:
        return ()
    stops = [said] if isinstance(said, str) else said
    if (
        not isinstance(stops, list)
        or len(stops) > MAX_STOPS
        or not all(isinstance(stop, str) and stop for stop in stops)
    ):
        raise _refusal("stop", said, f"a text or a list of up to {MAX_STOPS} texts, none empty")
    return tuple(stops)


def _priority(body: Mapping[str, object]) -> Priority:
    said = body.get("priority")
    if said is None:
        return Priority.QUESTION
    for priority in Priority:
        if said == priority.name.lower():
            return priority
    names = ", ".join(repr(priority.name.lower()) for priority in Priority)
    raise _refusal("priority", said, f"one of {names}")


def _grammar(body: Mapping[str, object]) -> str:
    """The GBNF that is said, or that the wanted form of the reply amounts to."""
    said = body.get("grammar")
    if said is not None and not isinstance(said, str):
        raise _refusal("grammar", said, "a text in GBNF")
    form = body.get("response_format")
    if form is None:
        return said or ""
    if not isinstance(form, Mapping):
        raise _refusal("response_format", form, "an object with a `type`")
    match form.get("type"):
        case "text":
            return said or ""
        case "json_object":
            schema: object = form.get("schema", _ANY_OBJECT)  # llama-server's addition
        case "json_schema":
            holder = form.get("json_schema")
            schema = holder.get("schema") if isinstance(holder, Mapping) else None
        case kind:
            wanted = "'text', 'json_object' or 'json_schema'"
            raise _refusal("response_format.type", kind, wanted)
    if not isinstance(schema, Mapping):
        raise _refusal("response_format.json_schema.schema", schema, "an object")
    if said:
        raise BadInput(
            "Both `grammar` and `response_format` are set; leave one out.", field="grammar"
        )
    if schema is _ANY_OBJECT:
        return JSON_GRAMMAR
    try:
        return grammar_of_schema(schema)
    except BadInput as error:
        raise BadInput(str(error), field="response_format") from error


_ANY_OBJECT: Mapping[str, object] = {}


def _adapters(body: Mapping[str, object], offer: Offer) -> tuple[Adapter, ...]:
    said = body.get("lora")
    if said is None:
        return ()
    if not isinstance(said, list):
        raise _refusal("lora", said, "a list of {id or path, scale}")
    found: list[Adapter] = []
    for index, item in enumerate(said):
        where = f"lora[{index}]"
        if not isinstance(item, Mapping):
            raise _refusal(where, item, "an object with `id` or `path`, and `scale`")
        scale = _number(item, "scale", 1.0, -100, 100, where=f"{where}.scale")
        if scale:
            found.append(Adapter(_adapter(item, offer, where), scale))
    return tuple(found)


def _adapter(item: Mapping[object, object], offer: Offer, where: str) -> Path:
    """A configured adapter, by its number, name or path."""
    said = item.get("id", item.get("path"))
    for index, path in enumerate(offer.adapters):
        is_number = isinstance(said, int) and not isinstance(said, bool) and said == index
        if is_number or said in (path.stem, str(path)):
            return path
    known = ", ".join(repr(path.stem) for path in offer.adapters) or "none"
    raise BadInput(
        f"`{where}` names the adapter {said!r}, which is not configured (there is {known}); add "
        "it to `engine.adapters` of your settings.",
        field=where,
    )


# ---- prompts -------------------------------------------------------------------------------


def _turns(body: Mapping[str, object]) -> tuple[Turn, ...]:
    said = body.get("messages")
    if not isinstance(said, list) or not said:
        raise _refusal("messages", said, "a list of messages, not empty")
    return tuple(_turn(message, f"messages[{index}]") for index, message in enumerate(said))


def _turn(message: object, where: str) -> Turn:
    if not isinstance(message, Mapping):
        raise _refusal(where, message, "an object with `role` and `content`")
    role = message.get("role")
    if role == "developer":  # OpenAI's newer name
        role = "system"
    if role not in get_args(Role):
        raise _refusal(f"{where}.role", role, "'system', 'user' or 'assistant'")
    return Turn(cast("Role", role), _content(message.get("content"), f"{where}.content"))


def _content(content: object, where: str) -> str:
    """A text, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _refusal(where, content, "a text or a list of text parts")
    texts: list[str] = []
    for index, part in enumerate(content):
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            raise _refusal(f"{where}[{index}]", part, "a part of type 'text'; nothing else is read")
        texts.append(text)
    return "".join(texts)


def _plain_prompt(body: Mapping[str, object]) -> str | tuple[int, ...]:
    said = body.get("prompt")
    if isinstance(said, list) and len(said) == 1 and isinstance(said[0], str | list):
        said = said[0]  # a batch of one
    if isinstance(said, str):
        return said
    if isinstance(said, list) and said:
        return _tokens(said, "prompt")
    raise _refusal("prompt", said, "one text or one list of tokens, not empty")


def _tokens(said: object, name: str) -> tuple[int, ...]:
    if not isinstance(said, list) or not all(
        isinstance(token, int) and not isinstance(token, bool) and 0 <= token <= MAX_TOKENS
        for token in said
    ):
        raise _refusal(name, said, "a list of tokens, which are whole numbers")
    return tuple(said)


# ---- values --------------------------------------------------------------------------------


def _model(body: Mapping[str, object], offer: Offer) -> str:
    said = body.get("model")
    if said is None and offer.models:
        return offer.models[0]
    if not isinstance(said, str):
        raise _refusal("model", said, "a text")
    if said not in offer.models:
        known = ", ".join(repr(name) for name in offer.models) or "none"
        raise UnknownModel(
            f"There is no model {said!r}; there is {known}. Set `model.path` to its GGUF file.",
            field="model",
        )
    return said


def _text(body: Mapping[str, object], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str):
        raise _refusal(name, value, "a text")
    return value


def _flag(body: Mapping[str, object], name: str, where: str = "") -> bool:
    value = body.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise _refusal(where or name, value, "true or false")
    return value


def _whole(body: Mapping[str, object], name: str, default: int, low: int, high: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _refusal(name, value, f"a whole number between {low:,} and {high:,}")
    return value


def _number(
    body: Mapping[str, object] | Mapping[object, object],
    name: str,
    default: float,
    low: float,
    high: float,
    *,
    where: str = "",
) -> float:
    value = cast("Mapping[str, object]", body).get(name)
    if value is None:
        return default
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= (number := cast("float", value)) <= high:
        raise _refusal(where or name, value, f"a number between {low:g} and {high:g}")
    return float(number)


def _refusal(name: str, value: object, wanted: str) -> BadInput:
    shown = repr(value)
    if len(shown) > _MAX_SHOWN:
        shown = f"{shown[:_MAX_SHOWN]}..."
    problem = "is missing" if value is None else f"is {shown}"
    return BadInput(f"`{name}` {problem}; it must be {wanted}.", field=name)


_MAX_SHOWN = 60


def _check_depth(value: object) -> None:
    """Refuse what is nested so deep that walking it would exhaust the stack.

    Raises: BadInput
    """
    level: Sequence[object] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (
                parent.values() if isinstance(parent, dict) else cast("list[object]", parent)
            )
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise BadInput(f"The body is nested more than {MAX_DEPTH} levels deep; send it flatter.")
