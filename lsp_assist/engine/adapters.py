"""LoRA adapters of one model: loaded when they are asked for, counted, and set on its context.

The cells of the KV cache depend on the adapters that were set when they were computed, and
llama.cpp does not note that: the key of a set belongs into every key of cached cells. Knows no
queue.
"""

import ctypes
import hashlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lsp_assist.engine.gguf_format import read_header
from lsp_assist.engine.libllama import library, recent_errors
from lsp_assist.engine.llama import Context, Weights
from lsp_assist.engine.requests import Adapter
from lsp_assist.errors import ModelFileError, ModelUnavailable

__all__ = ["Adapters"]

logger = logging.getLogger(__name__)

_Identity = tuple[str, int, int]
"""Path, bytes and time of change: a file that was trained again is another adapter."""


_Parts = tuple[tuple[_Identity, float], ...]
"""Adapters with their scales, as they act together."""


@dataclass(slots=True)
class _Loaded:
    handle: Any
    n_users: int = 0
    used_at: float = field(default_factory=time.monotonic)


class Adapters:
    """The adapters of some weights: `acquire` and `release` a set of them, `use` it on the context.

    A set goes by its key, a text that names it in this process and the next; "" is no adapters.
    For any thread, but for `use`. Closing the weights frees all of them.
    """

    def __init__(self, weights: Weights, *, max_idle: int = 4) -> None:
        """`max_idle` adapters that nobody uses stay loaded."""
        self._llama = library()
        self._weights = weights
        self._max_idle = max_idle
        self._lock = threading.RLock()
        self._loaded: dict[_Identity, _Loaded] = {}
        self._sets: dict[str, _Parts] = {"": ()}
        self._used = ""
        self.n_switches = 0
        self.switch_ms = 0.0
        """What the last switch took; 0.03 to 0.1 ms (LOG.md, 2026-11)."""

    @property
    def n_loaded(self) -> int:
        """How many adapters are in memory."""
        return len(self._loaded)

    def acquire(self, adapters: Sequence[Adapter]) -> str:
        """The key of the set, which is loaded and kept until `release`.

        The order makes no difference. One of scale 0 does nothing and is left out.

        Raises: ModelFileError
        """
        wanted: dict[_Identity, float] = {}
        for adapter in adapters:
            if adapter.scale:
                identity = _identity(adapter.path)
                wanted[identity] = wanted.get(identity, 0.0) + adapter.scale
        parts = tuple(sorted(wanted.items()))
        key = hashlib.sha256(repr(parts).encode()).hexdigest()[:24] if parts else ""
        with self._lock:
            for identity, _ in parts:
                self._handle(identity)
            for identity, _ in parts:
                self._loaded[identity].n_users += 1
            self._sets[key] = parts
        return key

    def release(self, key: str) -> None:
        """Ends one use of a set."""
        with self._lock:
            for identity, _ in self._sets[key]:
                self._loaded[identity].n_users -= 1
                self._loaded[identity].used_at = time.monotonic()
            used = {identity for identity, _ in self._sets[self._used]}
            idle = [
                identity
                for identity, loaded in self._loaded.items()
                if loaded.n_users == 0 and identity not in used
            ]
            idle.sort(key=lambda identity: self._loaded[identity].used_at)
            for identity in idle[: max(0, len(idle) - self._max_idle)]:
                self._llama.llama_adapter_lora_free(self._loaded.pop(identity).handle)

    def use(self, context: Context, key: str) -> None:
        """Makes the context compute with this set and no other; on the thread that owns it.

        Raises: ModelFileError, ModelUnavailable
        """
        with self._lock:
            if key == self._used:
                return
            started = time.perf_counter()
            parts = self._sets[key]
            pointers = self._llama.llama_adapter_lora_p_ctypes * len(parts)
            handles = pointers(*(self._handle(identity) for identity, _ in parts))
            scales = (ctypes.c_float * len(parts))(*(scale for _, scale in parts))
            code = self._llama.llama_set_adapters_lora(context.handle, handles, len(parts), scales)
            if code:
                raise ModelUnavailable(
                    f"The adapters cannot be used{_because(recent_errors())}; ask without them."
                )
            self._used = key
            self.n_switches += 1
            self.switch_ms = (time.perf_counter() - started) * 1000

    def _handle(self, identity: _Identity) -> Any:
        """The adapter, loaded if it is not."""
        if identity not in self._loaded:
            self._loaded[identity] = _Loaded(self._load(Path(identity[0])))
        return self._loaded[identity].handle

    def _load(self, path: Path) -> Any:
        started = time.perf_counter()
        self._check(path)
        recent_errors()
        handle = self._llama.llama_adapter_lora_init(self._weights.handle, os.fsencode(path))
        if not handle:
            raise ModelFileError(
                f"Adapter {str(path)!r} was refused by llama.cpp"
                f"{_because(recent_errors())}; take one made for {self._weights.path.name!r}."
            )
        milliseconds = (time.perf_counter() - started) * 1000
        logger.info("Loaded adapter %r in %.0f ms", path.name, milliseconds)
        return handle

    def _check(self, path: Path) -> None:
        """Passes an adapter for a model of this architecture, before llama.cpp sees it.

        Raises: ModelFileError
        """
        header = read_header(path)
        kind, lora = header.values.get("general.type"), header.values.get("adapter.type")
        if (kind, lora) != ("adapter", "lora"):
            raise ModelFileError(
                f"File {str(path)!r} is no LoRA adapter but {kind or 'a model'!r}; "
                "name a file made by convert_lora_to_gguf."
            )
        theirs = header.values.get("general.architecture")
        ours = self._weights.metadata("general.architecture")
        if theirs != ours:
            raise ModelFileError(
                f"Adapter {str(path)!r} is for {theirs!r} models, and "
                f"{self._weights.path.name!r} is {ours!r}; take an adapter made for it."
            )


def _identity(path: Path) -> _Identity:
    path = path.expanduser().resolve()
    try:
        stat = path.stat()
    except OSError as error:
        raise ModelFileError(
            f"Adapter {str(path)!r} cannot be read: {error.strerror}; check its path."
        ) from error
    return str(path), stat.st_size, stat.st_mtime_ns


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
