"""The vocabulary for talking to models: what is asked, what comes back, and the doors.

Plain values and protocols. Knows no backend, no chat storage and no prompt layout; ids and parents
belong to the chat store, not to these values.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "Delta",
    "Embedder",
    "Level",
    "Message",
    "Model",
    "ModelFacts",
    "ModelState",
    "Prompt",
    "Relation",
    "Role",
    "Sampling",
    "Segment",
    "SegmentKind",
    "Source",
    "SymbolFacts",
    "Tells",
    "Usage",
    "WarmPriority",
    "Warmable",
]

Role = Literal["system", "user", "assistant"]

SegmentKind = Literal[
    "system",  # frozen instructions, the same for every chat
    "memory",  # memory blocks and personal context, frozen when the chat starts
    "pack",  # the workspace, frozen when the chat starts
    "selection",  # what the user selected
    "file",  # a file, or its outline, that the question is near to or that the user asked for
    "change",  # what became of something that was shown before
    "symbol",  # the definition of something that is used in the selection
    "diff",  # what git has not committed yet
    "diagnostics",  # what compilers and linters say
    "note",  # free text that the user added
    "hit",  # found for this question
    "mode",  # how to answer: explain, refactor, ...
    "question",  # what the user typed
    "reply",  # what the model said
]


Level = Literal[
    "",  # not about a file
    "whole",  # all of its text
    "part",  # some lines of it
    "touched",  # its outline, with the bodies of some symbols
    "skeleton",  # its outline: signatures
    "line",  # what it is, in one line
]
"""How much of a file a segment shows."""

WarmPriority = Literal["typed_warm_up", "background_warm_up"]


@dataclass(frozen=True, slots=True)
class Source:
    """A place in the workspace. Lines are zero-based, `end_line` is included."""

    path: str
    """Relative to the workspace root, with forward slashes."""
    start_line: int
    end_line: int
    symbol: str = ""
    """Qualified name of the innermost symbol, empty outside of one."""
    root: str = ""
    """Absolute path of the workspace folder, empty for text that is in no file."""

    @property
    def place(self) -> str:
        """`path:line` as people and terminals read it, the line counted from one."""
        return f"{self.path}:{self.start_line + 1}"


@dataclass(frozen=True, slots=True)
class Relation:
    """A symbol that calls, or is called by, another one."""

    name: str
    source: Source


@dataclass(frozen=True, slots=True)
class SymbolFacts:
    """What the index knows about a symbol, for readers that do not parse code."""

    kind: str
    signature: str
    summary: str
    """First line of its doc comment, empty without one."""
    callers: tuple[Relation, ...] = ()
    callees: tuple[Relation, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of a message with its provenance."""

    kind: SegmentKind
    text: str
    source: Source | None = None
    facts: SymbolFacts | None = None
    level: Level = ""
    text_start: int = 0
    text_end: int = 0
    """Where in `text` the file's own lines stand, word by word; the same where they do not."""
    digest: str = ""
    """Names the file's whole text as it was when this was shown; empty where nobody looked."""

    @property
    def quoted(self) -> str:
        """The lines of the file that the segment holds word by word."""
        return self.text[self.text_start : self.text_end]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation: its segments joined, which bring their own newlines."""

    role: Role
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The message as the model reads it."""
        return "".join(segment.text for segment in self.segments)


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is shown, in order. A later prompt of a branch extends an earlier one."""

    messages: tuple[Message, ...]

    def of_kind(self, *kinds: SegmentKind) -> tuple[Segment, ...]:
        """The segments of these kinds in the last message: what belongs to the question at hand."""
        if not self.messages:
            return ()
        return tuple(s for s in self.messages[-1].segments if s.kind in kinds)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. The defaults suit answers about code."""

    temperature: float = 0.2
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    seed: int | None = None
    """None draws a new one for each reply."""
    max_tokens: int = 1024
    """0 prefills the prompt and generates nothing: a warm-up."""
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a reply cost. Times are wall milliseconds."""

    model: str = ""
    route: str = ""
    """Why this model answered, in a few words."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of `prompt_tokens`, those that were not computed again."""
    output_tokens: int = 0
    ttft_ms: float = 0.0
    """From the call to the first text."""
    total_ms: float = 0.0
    cost_usd: float | None = None

    @property
    def tokens_per_second(self) -> float:
        """Speed of generation after the first token; 0 where there is nothing to measure."""
        decode_ms = self.total_ms - self.ttft_ms
        return (
            (self.output_tokens - 1) / decode_ms * 1000
            if decode_ms > 0 and self.output_tokens > 1
            else 0.0
        )


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a reply: text as it comes; the last one carries the usage instead."""

    text: str = ""
    usage: Usage | None = None


class Model(Protocol):
    """A way to get an answer. One file in backends/, or the engine."""

    @property
    def name(self) -> str:
        """What the user picks it by."""

    def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        """The reply, piece by piece; closing the generator stops the work within one token.

        Read it under `contextlib.aclosing`: a bare `break` leaves the work running.

        Raises: ModelError
        """

    async def count(self, text: str) -> int:
        """How many tokens the text has for this model.

        Raises: ModelError
        """

    async def window(self) -> int | None:
        """Tokens that prompt and reply may have together; None where there is no limit.

        Raises: ModelError
        """

    async def close(self) -> None:
        """Free what the model holds. It can not be used afterwards."""


@runtime_checkable
class Warmable(Protocol):
    """A model that can read a prompt before it is asked: a local one, whose cache is near."""

    async def warm(
        self,
        prompt: Prompt,
        *,
        sampling: Sampling = ...,
        priority: WarmPriority = ...,
        speculative: bool = ...,
    ) -> Usage:
        """Has the prompt read and nothing answered, and tells what that took.

        `speculative`: the question is complete, so the first tokens may be drawn as well, by the
        `sampling` that it will be asked with.

        Raises: ModelError
        """


ModelState = Literal["asleep", "loading", "ready", "unusable"]


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What is known of a model now. None is what nobody tells."""

    state: ModelState = "ready"
    problem: str = ""
    """Why it is unusable, and what to do about it."""
    window: int | None = None
    """Tokens of prompt and reply together."""
    n_bytes: int | None = None
    """Of its file."""
    can_fork_cheaply: bool | None = None
    """Whether a fork costs nothing wherever it begins; else only where a turn ended."""
    is_append_only: bool | None = None
    """Whether its chat template keeps earlier turns as they were; known once it was loaded."""


@runtime_checkable
class Tells(Protocol):
    """A model that can say how it is, what it has read already, and whether that stays of use."""

    async def facts(self) -> ModelFacts:
        """How it is now. Loads nothing.

        Raises: ModelError
        """

    async def n_warm(self, prompt: Prompt) -> int | None:
        """How many tokens of the prompt need not be computed; None where it cannot tell."""

    async def is_append_only(self) -> bool | None:
        """Whether a longer chat begins, token by token, with the shorter one.

        False for a chat template that rewrites earlier turns; None where it cannot tell.
        """


class Embedder(Protocol):
    """Turns texts into vectors whose dot product is their similarity.

    The index takes one when there is one, and adds its voice to the lexical ranking. `embed` and
    `n_dims` are asked on one thread, `embed_query` on any, also while `embed` runs.
    """

    @property
    def name(self) -> str:
        """Names the vectors: two embedders with one name give interchangeable vectors."""

    @property
    def n_dims(self) -> int:
        """Length of a vector."""

    def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Unit vectors of places, shape (len(texts), n_dims). Called on a thread, not on the loop.

        Raises: ModelError
        """

    def embed_query(self, text: str) -> "NDArray[np.float32]":
        """The unit vector of a question, shape (n_dims,); some models read questions otherwise.

        Raises: ModelError
        """
