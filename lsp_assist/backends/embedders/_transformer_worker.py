"""The process of a transformer embedder: a model on one side, a pipe on the other.

Reads a JSON object a line (`texts`, `kind`) and answers with a line of JSON and the vectors as
float32. Ends when its input ends. Knows no index and no settings.
"""

import json
import os
import sys
from typing import BinaryIO

__all__ = ["main"]

BATCH_TEXTS = 32


def main() -> None:
    """Serve the model that the command line names until the input ends."""
    # Libraries print where they like; the answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(sys.argv[1], device="cpu", trust_remote_code=False)
    except Exception as error:  # noqa: BLE001  # whatever a library raises, the caller is told
        _answer(answers, {"error": _reason(error)})
        return
    _answer(answers, {"n_dims": model.get_embedding_dimension()})
    for line in sys.stdin.buffer:
        request = json.loads(line)
        encode = model.encode_query if request["kind"] == "question" else model.encode_document
        try:
            vectors = encode(
                request["texts"],
                batch_size=BATCH_TEXTS,
                normalize_embeddings=True,
                convert_to_numpy=True,
                show_progress_bar=False,
            )
        except Exception as error:  # noqa: BLE001  # as above: out of memory, an odd text
            _answer(answers, {"error": _reason(error)})
            continue
        data = vectors.astype("float32").tobytes()
        _answer(answers, {"n_bytes": len(data)}, data)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _answer(pipe: BinaryIO, head: dict[str, object], data: bytes = b"") -> None:
    pipe.write(json.dumps(head).encode("ascii") + b"\n" + data)
    pipe.flush()


if __name__ == "__main__":
    main()
