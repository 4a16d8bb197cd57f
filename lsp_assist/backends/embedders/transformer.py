"""A sentence-transformers model by name or path, in a process of its own.

torch takes seconds and hundreds of megabytes, so it is loaded there, at the first text, and never
in the server's process. Nothing is downloaded: a model is a folder, or in the cache of the hub.
Knows no torch; the other side of the pipe is _transformer_worker.py.
"""

import atexit
import json
import logging
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from lsp_assist.config import IndexSettings
from lsp_assist.errors import ModelUnavailable, SettingError

__all__ = ["TransformerEmbedder", "open_embedder"]

logger = logging.getLogger(__name__)

BATCH_TEXTS = 256  # sent together; the worker cuts it as its memory likes
MAX_TEXT_CHARS = 8_000
"""What is longer exceeds every such model's window."""
_WORKER = "lsp_assist.backends.embedders._transformer_worker"


def open_embedder(argument: str, settings: IndexSettings) -> "TransformerEmbedder":  # noqa: ARG001  # the name says it all
    """The embedder for `transformer:<name or path>`, or for a name that is of no other kind.

    Raises: SettingError, ModelUnavailable if sentence-transformers is not installed
    """
    if not argument:
        raise SettingError(
            "`index.embedder` is 'transformer'; name a model of sentence-transformers behind it, "
            "such as 'transformer:all-MiniLM-L6-v2', or a folder.",
            field="index.embedder",
        )
    if find_spec("sentence_transformers") is None:
        raise ModelUnavailable(
            f"`index.embedder` {argument!r} needs sentence-transformers; install it with "
            "`pip install 'lsp-assist[embedding]'`, or set `index.embedder` to 'static'."
        )
    return TransformerEmbedder(argument)


class TransformerEmbedder:
    """An `llm.Embedder` whose worker starts at the first text and ends with this process."""

    def __init__(self, model: str) -> None:
        """`model` is the name of a model in the hub's cache, or a folder."""
        path = Path(model).expanduser()
        self._model = str(path.resolve()) if path.is_dir() else model
        self.name = f"transformer-{self._model}"
        self._lock = threading.Lock()
        self._worker: _Worker | None = None

    @property
    def n_dims(self) -> int:
        """Length of a vector; starts the worker.

        Raises: ModelUnavailable
        """
        with self._lock:
            return self._started().n_dims

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors of places, shape (len(texts), n_dims).

        Raises: ModelUnavailable
        """
        return self._embedded(texts, "place")

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The unit vector of a question, shape (n_dims,), with the prompt that the model wants.

        Raises: ModelUnavailable
        """
        vector: NDArray[np.float32] = self._embedded([text], "question")[0]
        return vector

    def close(self) -> None:
        """End the worker; the next text starts another one."""
        with self._lock:
            if self._worker is not None:
                self._worker.close()
                self._worker = None

    def _embedded(self, texts: Sequence[str], kind: str) -> NDArray[np.float32]:
        # A lone surrogate, as from a file name, is no text for a tokenizer.
        cut = [t[:MAX_TEXT_CHARS].encode("utf-8", "replace").decode("utf-8") for t in texts]
        with self._lock:
            worker = self._started()
            vectors = np.empty((len(cut), worker.n_dims), np.float32)
            try:
                for start in range(0, len(cut), BATCH_TEXTS):
                    batch = cut[start : start + BATCH_TEXTS]
                    vectors[start : start + len(batch)] = worker.embedded(batch, kind)
            except ModelUnavailable:
                self._worker = None
                worker.close()
                raise
        return vectors

    def _started(self) -> "_Worker":
        if self._worker is None:
            self._worker = _Worker(self._model)
        return self._worker


class _Worker:
    """The process that holds the model. One caller at a time."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._process = subprocess.Popen(
            [sys.executable, "-m", _WORKER, model],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", **os.environ},
        )
        # What ends before its pipe is closed is not left behind as a zombie either.
        self._finalizer = weakref.finalize(self, _end, self._process)
        atexit.register(self._finalizer)
        try:
            self.n_dims = int(cast("int", self._heard()["n_dims"]))
        except ModelUnavailable:
            self.close()
            raise

    def embedded(self, texts: Sequence[str], kind: str) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), n_dims).

        Raises: ModelUnavailable
        """
        self._say({"texts": texts, "kind": kind})
        n_bytes = cast("int", self._heard()["n_bytes"])
        data = self._pipe.read(n_bytes)
        if len(data) != len(texts) * self.n_dims * 4:
            raise self._lost()
        return np.frombuffer(data, np.float32).reshape(len(texts), self.n_dims)

    def close(self) -> None:
        """End the process."""
        atexit.unregister(self._finalizer)
        self._finalizer()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout

    def _say(self, request: dict[str, object]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise self._lost() from error

    def _heard(self) -> dict[str, object]:
        """The head of the next answer.

        Raises: ModelUnavailable if the worker says what is wrong, or is gone
        """
        line = self._pipe.readline()
        if not line.endswith(b"\n"):
            raise self._lost()
        said: dict[str, object] = json.loads(line)
        if problem := said.get("error"):
            raise ModelUnavailable(
                f"`index.embedder` {self._model!r} cannot be used: {problem}; give the folder of a "
                "sentence-transformers model, or download one once with "
                f"`hf download sentence-transformers/{Path(self._model).name}`, or set "
                "`index.embedder` to 'static'."
            )
        return said

    def _lost(self) -> ModelUnavailable:
        return ModelUnavailable(
            f"The process of `index.embedder` {self._model!r} ended; it may lack memory. Set "
            "`index.embedder` to 'static' or to a smaller model."
        )


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        assert pipe is not None
        try:
            pipe.close()
        except OSError:  # what was not yet written
            logger.debug("The pipe to an embedder's process broke")
