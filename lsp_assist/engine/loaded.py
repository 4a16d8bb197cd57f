"""A model in memory, ready to answer: weights, context, cache, scheduler, and how it reads text.

Knows no other model, no event loop and no clock of idleness.
"""

import contextlib
import datetime as dt
import hashlib
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lsp_assist.engine.adapters import Adapters
from lsp_assist.engine.embedding import EmbeddingContext
from lsp_assist.engine.gguf import ModelFile, read_model_file
from lsp_assist.engine.job import Answer, Job
from lsp_assist.engine.kv import as_tokens
from lsp_assist.engine.libllama import version
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.pool import Pool
from lsp_assist.engine.prompt_tokens import PromptTokens
from lsp_assist.engine.requests import GenerateRequest
from lsp_assist.engine.scheduler import Scheduler
from lsp_assist.engine.states import StateStore, fingerprint
from lsp_assist.engine.template import ChatTemplate, Piece, Turn
from lsp_assist.errors import ModelError, ModelFileError, ModelUnavailable

if TYPE_CHECKING:
    from concurrent.futures import Future

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LoadedModel", "Shape", "Stopped"]

logger = logging.getLogger(__name__)


class Stopped(Exception):
    """Loading was given up, because nobody wants the model any more."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a model is made, and where its states go."""

    n_ctx: int
    """What prompt and reply may have together, if the model was trained with as much."""
    kv_budget_tokens: int
    """Cells of the cache, at least `n_ctx`."""
    n_threads: int
    n_gpu_layers: int
    state_folder: Path
    state_budget_bytes: int
    state_memory_bytes: int


class LoadedModel:
    """Answers until `stop`; then `close` frees everything.

    Raises: ModelFileError, ModelUnavailable, Stopped
    """

    def __init__(
        self, name: str, path: Path, shape: Shape, is_stopping: Callable[[], bool]
    ) -> None:
        """Checks the file and loads it; gives up when `is_stopping` says so."""
        started = time.perf_counter()
        self.file = file = read_model_file(path)
        with contextlib.ExitStack() as undo:
            try:
                self.weights = weights = Weights(
                    file.path,
                    n_gpu_layers=shape.n_gpu_layers,
                    on_progress=lambda _part: not is_stopping(),
                )
            except ModelError:
                if is_stopping():
                    raise Stopped from None
                raise
            undo.callback(weights.close)
            self.n_ctx = min(shape.n_ctx, weights.n_ctx_train or shape.n_ctx)
            n_cells = max(self.n_ctx, shape.kv_budget_tokens)
            self._context = Context(
                weights,
                n_ctx=n_cells,
                n_batch=_GPU_CHUNK if weights.is_on_gpu else _CPU_CHUNK,
                n_seq_max=_N_SEQS + 1,
                n_threads=shape.n_threads,
                head_dim=file.head_dim,
            )
            undo.callback(self._context.close)
            self._template = ChatTemplate(
                file.chat_template,
                now=dt.datetime.now().astimezone(),
                bos=_spelling(weights, weights.bos),
                eos=_spelling(weights, weights.eos),
                special_names=weights.special_names,
            )
            self._prompt_tokens = PromptTokens(weights)
            self._reading = threading.Lock()  # template and tokens are for one thread at a time
            self.states = StateStore(
                shape.state_folder,
                fingerprint(_facts(file, self._context)),
                budget_bytes=shape.state_budget_bytes,
                memory_bytes=shape.state_memory_bytes,
            )
            self.pool = Pool(
                self._context,
                n_seqs=_N_SEQS,
                budget_tokens=n_cells,
                can_roll_back=weights.can_roll_back,
                states=self.states,
                is_crowding_slow=not weights.is_on_gpu,
            )
            self._adapters = adapters = Adapters(weights)
            context = self._context
            self.scheduler = Scheduler(
                f"model {name}",
                context,
                self.pool,
                n_ctx=self.n_ctx,
                use=lambda key: adapters.use(context, key),
            )
            self._n_threads = shape.n_threads
            self._embedding = threading.Lock()
            self._embeddings: list[EmbeddingContext] = []
            undo.pop_all()
        # Also at interpreter exit, before Python takes the ground from under the threads.
        self._finalizer = weakref.finalize(
            self, _free, self.scheduler, self.states, self._embeddings, self._context, weights
        )
        milliseconds = (time.perf_counter() - started) * 1000
        logger.info("Loaded %r (%s) in %.0f ms", path.name, file.quantisation, milliseconds)

    # ---- text, from any thread

    def prompt_tokens(self, prompt: tuple[Turn, ...] | str | tuple[int, ...]) -> list[int]:
        """The tokens of a conversation, of a text as it is, or just these.

        Raises: ModelFileError
        """
        with self._reading:
            if isinstance(prompt, str):
                # Written by whoever calls the engine, as a template is, with control tokens.
                return self._prompt_tokens.of((Piece(prompt, is_template=True),))
            if all(isinstance(part, int) for part in prompt):
                return [part for part in prompt if isinstance(part, int)]
            turns = [part for part in prompt if isinstance(part, Turn)]
            tokens = self._prompt_tokens.of(self._template.render(turns))
        if not tokens:
            raise ModelFileError(
                f"Model file {str(self.file.path)!r} has a chat template that makes nothing of "
                "this conversation; take another model."
            )
        return tokens

    @property
    def is_append_only(self) -> bool:
        """Whether a longer conversation begins with the shorter one, token by token."""
        return self._template.is_append_only

    def warmth(self, turns: tuple[Turn, ...]) -> "tuple[int, Future[int]]":
        """The tokens of a conversation, and soon how many of them need not be computed.

        Raises: ModelFileError
        """
        tokens = as_tokens(self.prompt_tokens(turns))
        return len(tokens), self.scheduler.n_warm(tokens, "")

    def prompt_text(self, turns: Sequence[Turn]) -> str:
        """A conversation as the model reads it."""
        with self._reading:
            return "".join(piece.text for piece in self._template.render(turns))

    def tokenise(self, text: str, *, parse_special: bool) -> list[int]:
        """The tokens of a text, without begin and end."""
        return self.weights.tokenise(text, parse_special=parse_special)

    def text_of(self, tokens: Sequence[int]) -> str:
        """The text of some tokens, control tokens by their names."""
        pieces = (self.weights.piece(token, special=True) for token in tokens)
        return b"".join(pieces).decode("utf-8", "replace")

    def _remember_reply(self, text: str, tokens: Sequence[int]) -> None:
        with self._reading:
            self._prompt_tokens.remember_reply(text, tokens)

    # ---- answering, from any thread

    def job(self, request: GenerateRequest, tokens: Sequence[int], answer: Answer) -> Job:
        """What to submit to the scheduler for a request with these tokens; `release` it after.

        Raises: BadInput, ModelFileError
        """
        is_chat = not isinstance(request.prompt, str) and any(
            isinstance(part, Turn) for part in request.prompt
        )
        key = self._adapters.acquire(request.adapters)
        try:
            return Job(
                request,
                tokens,
                answer,
                weights=self.weights,
                key=key,
                stop=self._template.stop if is_chat else (),
                on_reply=self._remember_reply,
            )
        except BaseException:
            self._adapters.release(key)
            raise

    def release(self, job: Job) -> None:
        """Lets go of what a job needs; once for each."""
        self._adapters.release(job.key)

    def embed(self, texts: Sequence[str], is_given_up: Callable[[], bool]) -> "NDArray[np.float32]":
        """Unit vectors, shape (len(texts), n_embd).

        Raises: ModelUnavailable, Stopped when `is_given_up` says so
        """
        if not self.file.has_embeddings:
            raise ModelUnavailable(
                f"Model {self.file.path.name!r} gives no embeddings; take one that is made for "
                "them."
            )

        def check() -> None:
            if is_given_up():
                raise Stopped
            if self.scheduler.is_stopping:
                raise ModelUnavailable("The engine was closed; ask again.")

        with self._embedding:
            check()
            if not self._embeddings:
                made = EmbeddingContext(self.weights, n_threads=self._n_threads)
                self._embeddings.append(made)
            return self._embeddings[0].embed(texts, check)

    def counters(self) -> dict[str, int]:
        """What happened since it was loaded."""
        load, pool = self.scheduler.load(), self.pool.counters
        return {
            "preempted": load.n_preempted,
            "cancelled": load.n_cancelled,
            "suspended": load.n_suspended,
            "ahead": load.n_ahead,
            "forks": pool.n_forks,
            "evictions": pool.n_evictions,
            "parked": pool.n_parked,
            "saved": pool.n_saved,
            "restored": pool.n_restored,
            "compactions": pool.n_compactions,
            "adapter_switches": self._adapters.n_switches,
            "written": self.states.n_written,
            "read": self.states.n_read,
        }

    # ---- the end

    def close(self, *, saves: bool = True) -> None:
        """Ends what runs with ModelUnavailable, keeps the cache on disk, frees everything."""
        self.scheduler.stop(saves=saves)
        with self._embedding:
            self._finalizer()


def _free(
    scheduler: Scheduler,
    states: StateStore,
    embeddings: list[EmbeddingContext],
    context: Context,
    weights: Weights,
) -> None:
    if not scheduler.is_stopping:
        scheduler.stop(saves=False)
    scheduler.join()
    states.close()
    for each in embeddings:
        each.close()
    context.close()
    weights.close()


_N_SEQS = 63
"""Branches known at once, beside one for moving states; llama.cpp's cost per step grows little."""
_CPU_CHUNK = 128
"""Tokens per step of a prompt: an abort loses what is being computed, and a smaller one is slower
(128: 8 % slower than 512, 64: 14 %; LOG.md, 2026-11)."""
_GPU_CHUNK = 512


def _facts(file: ModelFile, context: Context) -> dict[str, object]:
    """All that a state depends on beside its tokens and adapters."""
    return {
        "format": 1,
        "llama.cpp": version(),
        "cache": context.layout,
        "files": [_file_facts(path) for path in (file.path, *file.other_paths)],
    }


def _file_facts(path: Path) -> tuple[int, int, str]:
    """Size, time and a digest of both ends: the header, and some of the weights."""
    stat = path.stat()
    with path.open("rb") as file:
        digest = hashlib.blake2b(file.read(_END_BYTES))
        file.seek(max(0, stat.st_size - _END_BYTES))
        digest.update(file.read(_END_BYTES))
    return stat.st_size, stat.st_mtime_ns, digest.hexdigest()


_END_BYTES = 4 << 20


def _spelling(weights: Weights, token: int) -> str:
    return weights.piece(token, special=True).decode("utf-8", "replace") if token >= 0 else ""
