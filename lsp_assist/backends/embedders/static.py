"""The embedder that comes with the package: a table of word vectors, summed up for each text.

Needs neither a download nor a library beside numpy, reads thousands of chunks a second and starts
in milliseconds: the table is mapped into memory. How it was trained and what it is worth tells
static_table/MODEL_CARD.md. Knows no training.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lsp_assist.config import IndexSettings
from lsp_assist.errors import ModelFileError, SettingError
from lsp_assist.words import Vocabulary

__all__ = ["MAX_ENTRIES", "TABLE", "StaticEmbedder", "open_embedder", "write_table"]

TABLE = Path(__file__).with_name("static_table")
MAX_ENTRIES = 400
"""Of a text, the first ones count."""

_VECTORS = "vectors.npy"  # int8, shape (n_entries, n_dims)
_SCALES = "scales.npy"  # float32, shape (n_entries,): what one step of a row is worth
_WORDS = "words.txt"  # one entry a line


def open_embedder(argument: str, settings: IndexSettings) -> "StaticEmbedder":  # noqa: ARG001  # nothing to set
    """The embedder with the table of the package.

    Raises: ModelFileError, SettingError
    """
    if argument:
        raise SettingError(
            f"`index.embedder` is 'static:{argument}'; it is 'static' without more.",
            field="index.embedder",
        )
    return StaticEmbedder(TABLE)


class StaticEmbedder:
    """An `llm.Embedder`. Any thread may call it."""

    def __init__(self, folder: Path) -> None:
        """Reads a table as `write_table` writes it.

        Raises: ModelFileError
        """
        try:
            # Without pickle: a table is data, whoever made it.
            self._vectors: NDArray[np.int8] = np.load(folder / _VECTORS, mmap_mode="r")
            self._scales: NDArray[np.float32] = np.load(folder / _SCALES)
            words = (folder / _WORDS).read_text("utf-8")
        except (OSError, ValueError) as error:
            raise ModelFileError(
                f"The table of the embedder in {str(folder)!r} cannot be read: {error}; install "
                "lsp-assist anew, or set `index.embedder` to 'none'."
            ) from error
        self._vocabulary = Vocabulary(words.splitlines())
        n_entries = len(self._vocabulary)
        if self._vectors.shape[:1] != (n_entries,) or self._scales.shape != (n_entries,):
            raise ModelFileError(
                f"The table of the embedder in {str(folder)!r} is of {n_entries:,} words, "
                f"{self._vectors.shape} vectors and {self._scales.shape} scales; install "
                "lsp-assist anew, or set `index.embedder` to 'none'."
            )
        self.n_dims = int(self._vectors.shape[1])
        digest = hashlib.blake2b(self._scales.tobytes() + words.encode(), digest_size=6)
        self.name = f"static-{digest.hexdigest()}"
        """Another table has another name, so its vectors are not mixed with these."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape (len(texts), n_dims); zeros for a text without a known word."""
        vectors = np.zeros((len(texts), self.n_dims), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            counts = Counter(self._vocabulary.numbers(text)[:MAX_ENTRIES])
            entries = np.fromiter(counts.keys(), np.intp, len(counts))
            weights = np.sqrt(np.fromiter(counts.values(), np.float32, len(counts)))
            np.matmul(weights * self._scales[entries], self._vectors[entries], out=row)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.maximum(lengths, 1e-12)
        return vectors

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """The unit vector of a question, shape (n_dims,): read as a place is."""
        vector: NDArray[np.float32] = self.embed([text])[0]
        return vector


def write_table(
    folder: Path,
    words: Sequence[str],
    vectors: NDArray[np.int8],
    scales: NDArray[np.float32],
) -> None:
    """Write a table for `StaticEmbedder` into a folder, which may be there."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / _VECTORS, vectors, allow_pickle=False)
    np.save(folder / _SCALES, scales, allow_pickle=False)
    (folder / _WORDS).write_text("".join(f"{word}\n" for word in words), "utf-8")
