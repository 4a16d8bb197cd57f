"""Owners of what llama.cpp allocates: the weights of a model, and a context to run them in.

Thin: names, types and lifetimes, no policy. Knows no prompts, no sampling and no scheduling.
Several threads may read weights; a context belongs to one.
"""

import ctypes
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from lsp_assist.engine.libllama import library, recent_errors, strlen
from lsp_assist.errors import ModelFileError, ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Context", "Decoded", "Weights", "n_usable_cores"]

logger = logging.getLogger(__name__)

Decoded = Literal[
    "ok",
    "full",  # no free cells; nothing was changed
    "aborted",  # what was computed before is kept in whole micro-batches: ask `Context.n_held`
]


def n_usable_cores() -> int:
    """How many cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Weights:
    """A model in memory, with its vocabulary. The file must have been checked before.

    Raises: ModelFileError, ModelUnavailable
    """

    def __init__(
        self,
        path: Path,
        *,
        n_gpu_layers: int = -1,
        on_progress: Callable[[float], bool] = lambda _: True,
    ) -> None:
        """`on_progress` is told the part that is loaded, 0 to 1; False gives up."""
        self._llama = llama = library()
        self.path = path
        params = llama.llama_model_default_params()
        params.n_gpu_layers = n_gpu_layers
        progress = llama.llama_progress_callback(lambda part, _data: on_progress(part))
        params.progress_callback = progress
        recent_errors()
        self._model = llama.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise _load_error(path, recent_errors())
        self._vocab = llama.llama_model_get_vocab(self._model)
        self.n_vocab: int = llama.llama_vocab_n_tokens(self._vocab)
        if self.n_vocab == 0:
            self.close()
            raise ModelFileError(
                f"Model file {str(path)!r} has no vocabulary; take a file made for text generation."
            )
        self.is_on_gpu: bool = n_gpu_layers != 0 and llama.llama_supports_gpu_offload()
        self.n_ctx_train: int = llama.llama_model_n_ctx_train(self._model)
        self.bos: int = llama.llama_vocab_bos(self._vocab)
        """The token that begins a text, -1 where there is none."""
        self.eos: int = llama.llama_vocab_eos(self._vocab)
        self.adds_bos: bool = llama.llama_vocab_get_add_bos(self._vocab)
        self.adds_eos: bool = llama.llama_vocab_get_add_eos(self._vocab)
        self.n_window: int = llama.llama_model_n_swa(self._model)
        """How far back some layers look, 0 for to the start."""
        self.can_roll_back: bool = not (
            llama.llama_model_is_recurrent(self._model)
            or llama.llama_model_is_hybrid(self._model)
            or self.n_window > 0
        )
        """Whether a sequence can lose its end, and be shared up to anywhere. A recurrent model can
        only start again, or from a `Context.checkpoint`. Of one with a sliding window llama.cpp
        gives cells that are out of sight to others, so there may be none to go back to."""

    @property
    def handle(self) -> Any:
        """The `llama_model *`."""
        assert self._model, "used after close"
        return self._model

    def tokenise(self, text: str, *, parse_special: bool) -> list[int]:
        """The tokens of a text, without begin and end.

        Only with `parse_special` do names like `<|im_end|>` become the control tokens that they
        name: set it for text of a template, never for text of a person or a file. A vocabulary
        that puts a space before words puts one before the text as well.
        """
        assert self._model, "used after close"
        # A lone surrogate, as from a file name, has no UTF-8.
        data = text.encode("utf-8", "replace")
        n_room = len(data) + 16
        for _ in range(2):
            tokens = (ctypes.c_int32 * n_room)()
            n = self._llama.llama_tokenize(
                self._vocab, data, len(data), tokens, n_room, False, parse_special
            )
            if n >= 0:
                return tokens[:n]
            n_room = -n
        raise ModelUnavailable(f"A text of {len(data):,} bytes is too long; ask with less context.")

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes that a token stands for; control tokens have none unless `special` is set."""
        assert self._model, "used after close"
        n_room = 64
        while True:
            buffer = ctypes.create_string_buffer(n_room)
            n = self._llama.llama_token_to_piece(self._vocab, token, buffer, n_room, 0, special)
            if n >= 0:
                return buffer.raw[:n]
            n_room = -n

    def is_end(self, token: int) -> bool:
        """Whether the token ends a reply (end of text, of turn, of message)."""
        return bool(self._llama.llama_vocab_is_eog(self._vocab, token))

    def is_control(self, token: int) -> bool:
        """Whether the token is one that text cannot spell."""
        return bool(self._llama.llama_vocab_is_control(self._vocab, token))

    def special_names(self) -> tuple[str, ...]:
        """The spelling of all control tokens, longest first."""
        names = {
            self.piece(token, special=True).decode("utf-8", "replace")
            for token in range(self.n_vocab)
            if self.is_control(token)
        }
        return tuple(sorted(names - {""}, key=lambda name: (-len(name), name)))

    def metadata(self, key: str) -> str | None:
        """A single value of the file's metadata as text."""
        n_room = 256
        while True:
            buffer = ctypes.create_string_buffer(n_room)
            n = self._llama.llama_model_meta_val_str(self.handle, key.encode(), buffer, n_room)
            if n < 0:
                return None
            if n < n_room:
                return buffer.value.decode("utf-8", "replace")
            n_room = n + 1

    def close(self) -> None:
        """Frees the weights. Every context on them must be closed before."""
        model, self._model = self._model, None
        if model:
            self._llama.llama_model_free(model)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Context:
    """A KV cache over some weights, and the batch that fills it.

    One pool of `n_ctx` cells for up to `n_seq_max` sequences, which share the cells of what they
    have in common. Fill the batch with `add`, run it with `decode`, ask `n_held` what is there.
    All on one thread; only `abort` may be called from another.

    Raises: ModelUnavailable
    """

    def __init__(
        self,
        weights: Weights,
        *,
        n_ctx: int,
        n_batch: int,
        n_seq_max: int = 1,
        n_threads: int = 0,
        head_dim: int = 0,
        gives_embeddings: bool = False,
    ) -> None:
        """`head_dim` 0 is "unknown"; `n_threads` 0 takes one per core that may be used.

        One that `gives_embeddings` pools them as the model says, and has no logits.
        """
        self._llama = llama = library()
        self._weights = weights
        self.n_batch = n_batch
        params = llama.llama_context_default_params()
        params.n_ctx, params.n_seq_max, params.kv_unified = n_ctx, n_seq_max, True
        # An abort loses the running micro-batch, so it is as long as the batch and no longer.
        params.n_batch = params.n_ubatch = n_batch
        params.n_threads = params.n_threads_batch = n_threads or n_usable_cores()
        params.no_perf = True
        params.embeddings = gives_embeddings
        # Layers with a sliding window keep what they no longer see, as long as there is room.
        params.swa_full = True
        if weights.is_on_gpu:
            params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_AUTO
        else:
            # On a CPU this is the fastest of all, prefill and decode (LOG.md, 2026-11).
            params.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_DISABLED
            if head_dim and head_dim % _Q8_0_BLOCK == 0:
                params.type_k = llama.GGML_TYPE_Q8_0
        self.layout = (
            f"flash={params.flash_attn_type} k={params.type_k} v={params.type_v} "
            f"gpu={weights.is_on_gpu}"
        )
        """What states of sequences must have in common, beside the weights, to be exchanged."""
        recent_errors()
        self._context = llama.llama_init_from_model(weights.handle, params)
        if not self._context:
            raise ModelUnavailable(
                f"There is no room for a context window of {n_ctx:,} tokens"
                f"{_because(recent_errors())}; lower `model.n_ctx`."
            )
        self._memory = llama.llama_get_memory(self._context)
        self._flag = ctypes.create_string_buffer(8)
        self._abort_callback = _abort_callback(llama, self._flag)
        llama.llama_set_abort_callback(
            self._context, self._abort_callback, ctypes.cast(self._flag, ctypes.c_void_p)
        )
        self._batch = llama.llama_batch_init(n_batch, 0, n_seq_max)
        self._columns = _Columns(self._batch, n_batch)

    @property
    def handle(self) -> Any:
        """The `llama_context *`."""
        assert self._context, "used after close"
        return self._context

    # ---- the batch

    def clear(self) -> None:
        """Empties the batch."""
        self._batch.n_tokens = 0

    def add(
        self,
        tokens: "Sequence[int] | NDArray[np.int32]",
        *,
        seq: int,
        position: int,
        wants_logits: bool = False,
    ) -> int:
        """The batch index of the last of these tokens, which are put at `position` of a sequence.

        `wants_logits` is for that last one.
        """
        at: int = self._batch.n_tokens
        end = at + len(tokens)
        assert len(tokens), "nothing to add"
        assert end <= self.n_batch, "more tokens than the batch holds"
        self._columns.fill(at, tokens, seq, position)
        if wants_logits:
            self._columns.logits[end - 1] = 1
        self._batch.n_tokens = end
        return end - 1

    def decode(self) -> Decoded:
        """Computes the batch, into the KV cache.

        Raises: ModelUnavailable if llama.cpp fails; the context must be closed then.
        """
        recent_errors()
        code: int = self._llama.llama_decode(self.handle, self._batch)
        if code == 0:
            self._llama.llama_synchronize(self.handle)
            return "ok"
        if code == 1:
            return "full"
        if code == 2:
            return "aborted"
        raise ModelUnavailable(
            f"llama.cpp failed with code {code}{_because(recent_errors())}; "
            "ask again, or use another model file."
        )

    def logits(self, index: int) -> "NDArray[np.float32]":
        """The logits after a token of the batch, shape (n_vocab,); a view until the next decode."""
        import numpy as np

        pointer = self._llama.llama_get_logits_ith(self.handle, index)
        return np.ctypeslib.as_array(pointer, (self._weights.n_vocab,))

    # ---- stopping

    def abort(self) -> None:
        """Stops a running decode within a few milliseconds; for any thread. On a GPU a decode runs
        to its end.

        Stays in force until `resume`.
        """
        self._flag[0] = b"\1"

    def resume(self) -> None:
        """Takes an abort back."""
        self._flag[0] = b"\0"

    # ---- the KV cache

    def n_held(self, seq: int) -> int:
        """How many tokens of a sequence the cache holds, from its start on."""
        return int(self._llama.llama_memory_seq_pos_max(self._memory, seq)) + 1

    def keep(self, seq: int, n_tokens: int) -> int:
        """How many tokens are left after cutting a sequence back to `n_tokens`.

        Fewer than asked for (then none) where the model cannot roll back that far.
        """
        llama, memory = self._llama, self._memory
        if n_tokens >= self.n_held(seq):
            return self.n_held(seq)
        if (
            n_tokens > 0
            and self._has_all_for(seq, n_tokens)
            and llama.llama_memory_seq_rm(memory, seq, n_tokens, -1)
        ):
            return n_tokens
        llama.llama_memory_seq_rm(memory, seq, -1, -1)
        return 0

    def share(self, source: int, target: int, n_tokens: int, *, start: int = 0) -> None:
        """Gives the tokens of a sequence, from `start` up to `n_tokens`, to another one as well,
        without copying.

        Only of a model that can roll back, or with all tokens of the source: the state of a
        recurrent one belongs to its last token, and llama.cpp copies a wrong one in silence.
        """
        self._llama.llama_memory_seq_cp(self._memory, source, target, start, n_tokens)

    def checkpoint(self, seq: int) -> "NDArray[np.uint8]":
        """A copy of what of a sequence cannot be rolled back: a recurrent state, a window.

        Only of a model that cannot `can_roll_back`; see `return_to`.
        """
        import numpy as np

        llama, flags = self._llama, self._llama.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
        n_bytes: int = llama.llama_state_seq_get_size_ext(self.handle, seq, flags)
        state = np.empty(n_bytes, np.uint8)
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        n_bytes = llama.llama_state_seq_get_data_ext(self.handle, pointer, n_bytes, seq, flags)
        return state[:n_bytes]

    def return_to(self, seq: int, checkpoint: "NDArray[np.uint8]", n_tokens: int) -> bool:
        """Takes a sequence back to where it had `n_tokens`, by the checkpoint made there.

        False, with the sequence empty, where llama.cpp refuses it.
        """
        llama, flags = self._llama, self._llama.LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
        pointer = checkpoint.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        if llama.llama_state_seq_set_data_ext(
            self.handle, pointer, checkpoint.size, seq, flags
        ) and llama.llama_memory_seq_rm(self._memory, seq, n_tokens, -1):
            return True
        llama.llama_memory_seq_rm(self._memory, seq, -1, -1)
        return False

    def state(self, seq: int) -> "NDArray[np.uint8]":
        """A copy of what the cache holds of a sequence, as bytes; some 5 GB/s."""
        import numpy as np

        n_bytes: int = self._llama.llama_state_seq_get_size(self.handle, seq)
        state = np.empty(n_bytes, np.uint8)
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        n_bytes = self._llama.llama_state_seq_get_data(self.handle, pointer, n_bytes, seq)
        return state[:n_bytes]

    def load_state(self, seq: int, state: "NDArray[np.uint8]") -> bool:
        """Puts into a sequence what `state` gave, of this context or one like it.

        False where llama.cpp refuses it or has no free cells; the sequence is empty then.
        llama.cpp takes the bytes on trust: give it none that may be damaged.
        """
        pointer = state.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        recent_errors()
        if self._llama.llama_state_seq_set_data(self.handle, pointer, state.size, seq):
            return True
        logger.debug("A state of %d bytes was refused%s", state.size, _because(recent_errors()))
        self._llama.llama_memory_seq_rm(self._memory, seq, -1, -1)
        return False

    def _has_all_for(self, seq: int, n_tokens: int) -> bool:
        """Whether the cache still has what the token behind the first `n_tokens` looks at."""
        start = int(self._llama.llama_memory_seq_pos_min(self._memory, seq))
        n_window = self._weights.n_window
        return start == 0 or (0 < n_window <= n_tokens - start)

    # ---- the end

    def close(self) -> None:
        """Frees the cache and the batch."""
        context, self._context = self._context, None
        if context:
            self._llama.llama_batch_free(self._batch)
            self._llama.llama_free(context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


_Q8_0_BLOCK = 32


class _Columns:
    """The columns of a `llama_batch`, as arrays over its memory."""

    def __init__(self, batch: Any, n_batch: int) -> None:
        import numpy as np

        view = np.ctypeslib.as_array
        self._token = view(batch.token, (n_batch,))
        self._position = view(batch.pos, (n_batch,))
        self.logits = view(batch.logits, (n_batch,))
        view(batch.n_seq_id, (n_batch,))[:] = 1
        # Each token's sequence ids are an allocation of their own.
        self._seq = [batch.seq_id[index] for index in range(n_batch)]

    def fill(
        self, at: int, tokens: "Sequence[int] | NDArray[np.int32]", seq: int, position: int
    ) -> None:
        end = at + len(tokens)
        self._token[at:end] = tokens
        self._position[at:end] = range(position, position + len(tokens))
        self.logits[at:end] = 0
        for ids in self._seq[at:end]:
            ids[0] = seq


def _abort_callback(llama: Any, flag: "ctypes.Array[ctypes.c_char]") -> Any:
    """Something that C can call to ask whether the flag is set; must be kept alive."""
    function = strlen()
    if function is not None:
        return ctypes.cast(function, llama.ggml_abort_callback)  # type: ignore[arg-type]  # a function of C is castable
    return llama.ggml_abort_callback(lambda _data: flag.raw[0] != 0)


def _load_error(path: Path, reason: str) -> ModelFileError | ModelUnavailable:
    if any(word in reason.lower() for word in ("alloc", "memory", "mmap failed", "mlock")):
        return ModelUnavailable(
            f"There is no room in memory for model file {str(path)!r}{_because(reason)}; "
            "close other programs, or take a smaller model or quantisation."
        )
    return ModelFileError(
        f"Model file {str(path)!r} was refused by llama.cpp{_because(reason)}; "
        "download it again, or take a model of another architecture."
    )


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
