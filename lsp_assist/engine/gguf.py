"""What a GGUF file says about its model, read and checked before llama.cpp sees the file.

A model file is somebody else's data, and llama.cpp trusts some of what it reads there: for one, it
indexes the arrays of token scores and types without asking how long they are. What is odd is
refused here. Knows no llama.cpp; reads the header only, never the weights.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lsp_assist.engine.gguf_format import (
    FLOAT32,
    INT32,
    STRING,
    TENSOR_TYPES,
    UINT32,
    Array,
    Header,
    Tensor,
    read_header,
    refuse,
)

__all__ = ["ModelFile", "read_model_file"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """What the header of a model says. Of a model in several files, all of them together."""

    path: Path
    """The first file."""
    n_bytes: int
    architecture: str
    name: str
    quantisation: str
    """As in file names: `Q4_K_M`, `F16`."""
    n_params: int
    n_ctx_train: int
    """The context window that the model was trained with, in tokens."""
    n_vocab: int
    n_layers: int
    head_dim: int
    """Length of an attention key, 0 where it differs by layer or is not said."""
    chat_template: str
    """Jinja source, empty where the file has none."""
    has_embeddings: bool = False
    """Whether it says how to pool the tokens of a text into a vector."""
    other_paths: tuple[Path, ...] = ()
    """The files after the first."""
    kv_values_per_token: int = 0
    """Numbers that the KV cache holds of a token, keys and values of all layers; about, and 0 where
    it is not said."""

    has_window: bool = False
    """Whether it names a sliding window; some architectures have no use for it."""

    @property
    def can_roll_back(self) -> bool:
        """Whether its cache can lose its end, going by what the header says."""
        return not (self.has_window or any(name in self.architecture for name in _RECURRENT))


def read_model_file(path: Path) -> ModelFile:
    """What the file says about its model, after the checks.

    Takes some 100 ms for a vocabulary of 150,000 tokens; call it on a worker thread.

    Raises: ModelFileError
    """
    path = path.expanduser()
    header = read_header(path)
    metadata = _Metadata(path, header)
    other_paths = _other_shards(metadata)
    shards = [read_header(other) for other in other_paths]
    tensors = header.tensors + [tensor for shard in shards for tensor in shard.tensors]
    if not tensors:
        refuse(path, "has no tensors, so it holds a vocabulary at most")
    if len({tensor.name for tensor in tensors}) < len(tensors):
        refuse(path, "has two tensors of one name in its parts")
    return ModelFile(
        path=path,
        n_bytes=header.n_bytes + sum(shard.n_bytes for shard in shards),
        architecture=metadata.architecture,
        name=metadata.text("general.name") or path.stem,
        quantisation=_quantisation(metadata, tensors),
        n_params=sum(tensor.n_elements for tensor in tensors),
        n_ctx_train=metadata.hyperparameter("context_length", 1, 1 << 31),
        n_vocab=_checked_vocabulary(metadata),
        n_layers=metadata.hyperparameter("block_count", 1, 512),
        head_dim=_head_dim(metadata),
        chat_template=metadata.text("tokenizer.chat_template"),
        has_embeddings=metadata.values.get(f"{metadata.architecture}.pooling_type", 0) != 0,
        has_window=metadata.values.get(f"{metadata.architecture}.attention.sliding_window", 0) != 0,
        other_paths=tuple(other_paths),
        kv_values_per_token=_kv_values(metadata),
    )


# Parts of the names of architectures with a recurrent state, alone or beside attention.
# Source: llm_arch_is_recurrent and llm_arch_is_hybrid in llama.cpp's llama-arch.cpp.
_RECURRENT = (
    "mamba", "rwkv", "jamba", "falcon-h1", "plamo2", "granitehybrid", "lfm2", "nemotron_h",
    "qwen3next", "qwen35", "kimi-linear", "bamba",
)  # fmt: skip

# llama_ftype -> the label in file names; the tensor types have no _S, _M, _L.
_FILE_TYPES: dict[int, str] = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    19: "IQ2_XXS",
    20: "IQ2_XS",
    21: "Q2_K_S",
    22: "IQ3_XS",
    23: "IQ3_XXS",
    24: "IQ1_S",
    25: "IQ4_NL",
    26: "IQ3_S",
    27: "IQ3_M",
    28: "IQ2_S",
    29: "IQ2_M",
    30: "IQ4_XS",
    31: "IQ1_M",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
    39: "NVFP4",
    40: "Q1_0",
    41: "Q2_0",
}


class _Metadata:
    """The metadata of a model by name and type; a value of another type is refused."""

    __slots__ = ("architecture", "path", "values")

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.values = header.values
        if "split.no" in self.values and self.number("split.no", 0, 1 << 16) > 0:
            refuse(path, "is a later part of a model", remedy="name its first part, -00001-of-")
        self.architecture = self.text("general.architecture")
        if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]{0,63}", self.architecture):
            refuse(path, f"names no architecture that is known: {self.architecture[:64]!r}")

    def text(self, key: str) -> str:
        """The value of a key, empty where there is none."""
        value = self.values.get(key, "")
        if not isinstance(value, str):
            refuse(self.path, f"is damaged: {key!r} is no text")
        return value

    def number(self, key: str, low: int, high: int) -> int:
        value = self.values.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            shown = f"{value!r:.40}" if not isinstance(value, Array) else "an array"
            refuse(self.path, f"is damaged: {key!r} is {shown}, not a number in [{low}, {high}]")
        return value

    def hyperparameter(self, name: str, low: int, high: int) -> int:
        """A number that the architecture needs."""
        return self.number(f"{self.architecture}.{name}", low, high)

    def array(self, key: str, check: Callable[[Array], bool]) -> Array | None:
        """The array at a key, where there is one; refused unless the check holds."""
        value = self.values.get(key)
        if value is not None and not (isinstance(value, Array) and check(value)):
            refuse(self.path, f"is damaged: {key!r} does not fit the vocabulary")
        return value


def _checked_vocabulary(metadata: _Metadata) -> int:
    """How many tokens there are; llama.cpp reads the arrays beside them by this number."""
    prefix = "tokenizer.ggml."
    if not metadata.text(f"{prefix}model"):
        refuse(metadata.path, "has no tokenizer", remedy="take a file made for text generation")
    tokens = metadata.array(f"{prefix}tokens", lambda array: array.item_type == STRING)
    if tokens is None or tokens.n_items == 0:
        refuse(metadata.path, "has no vocabulary", remedy="take a file made for text generation")
    n_vocab = tokens.n_items
    metadata.array(f"{prefix}merges", lambda array: array.item_type == STRING)
    metadata.array(f"{prefix}scores", lambda array: array == Array(FLOAT32, n_vocab))
    metadata.array(
        f"{prefix}token_type",
        lambda array: array in (Array(INT32, n_vocab), Array(UINT32, n_vocab)),
    )
    for key in metadata.values:
        is_id = key.startswith(prefix) and key.endswith("_token_id")
        # Files in the wild say 0xFFFFFFFF for "none", which llama.cpp understands.
        if is_id and metadata.values[key] not in (-1, 0xFFFFFFFF):
            metadata.number(key, 0, n_vocab - 1)
    return n_vocab


def _head_dim(metadata: _Metadata) -> int:
    n_embd = metadata.hyperparameter("embedding_length", 1, 1 << 20)
    prefix = metadata.architecture
    key_length = f"{prefix}.attention.key_length"
    if key_length in metadata.values:
        return metadata.number(key_length, 0, 1 << 20)
    n_heads = metadata.values.get(f"{prefix}.attention.head_count", 0)
    if isinstance(n_heads, Array):
        return 0
    if not isinstance(n_heads, int) or not 0 <= n_heads <= n_embd:
        refuse(metadata.path, f"is damaged: it has {n_heads!r} attention heads for {n_embd:,}")
    return n_embd // n_heads if n_heads else 0


def _kv_values(metadata: _Metadata) -> int:
    n_layers = metadata.hyperparameter("block_count", 1, 512)
    n_heads = metadata.values.get(f"{metadata.architecture}.attention.head_count_kv")
    if not isinstance(n_heads, int):
        n_heads = metadata.values.get(f"{metadata.architecture}.attention.head_count")
    if not isinstance(n_heads, int) or not 0 <= n_heads < 1 << 16:
        return 0
    return 2 * n_layers * n_heads * _head_dim(metadata)


def _quantisation(metadata: _Metadata, tensors: list[Tensor]) -> str:
    """The label of the file's type; without one, the format that holds most of the weights."""
    file_type = metadata.values.get("general.file_type")
    if isinstance(file_type, int) and file_type in _FILE_TYPES:
        return _FILE_TYPES[file_type]
    weights: dict[int, int] = {}
    for tensor in tensors:
        weights[tensor.type] = weights.get(tensor.type, 0) + tensor.n_elements
    return TENSOR_TYPES[max(weights, key=lambda kind: weights[kind])][0]


def _other_shards(metadata: _Metadata) -> list[Path]:
    """The files beside the first one; llama.cpp finds them by name, so they are checked as well."""
    if "split.count" not in metadata.values:
        return []
    n_shards = metadata.number("split.count", 0, 999)
    if n_shards <= 1:
        return []
    path = metadata.path
    match = re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", path.name, re.DOTALL)
    if match is None or int(match[2]) != n_shards:
        refuse(
            path,
            f"is the first of {n_shards} parts and not named like one",
            remedy=f"give it back its name, ...-00001-of-{n_shards:05}.gguf",
        )
    return [
        path.with_name(f"{match[1]}-{number:05}-of-{n_shards:05}.gguf")
        for number in range(2, n_shards + 1)
    ]
