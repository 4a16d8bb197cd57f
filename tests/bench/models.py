"""Models for the benches: random weights in the shapes of real ones, made once and kept.

Speed and memory depend on shapes, not on values. The files lie in the user's cache folder; making
all of them takes a minute.
"""

import ctypes
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from lsp_assist.config import Places
from lsp_assist.engine.libllama import library
from tests.engine.templates import CHATML
from tests.engine.tiny import add_byte_pairs

__all__ = ["LARGE", "MICRO", "Shape", "model_file"]


@dataclass(frozen=True, slots=True)
class Shape:
    """What speed and memory depend on."""

    name: str
    architecture: str
    n_layers: int
    n_embd: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    n_ff: int
    n_vocab: int
    n_ctx: int
    rope_base: float
    has_bias: bool


LARGE = Shape("qwen2.5-0.5b", "qwen2", 24, 896, 14, 2, 64, 4864, 151_936, 32_768, 1e6, True)
MICRO = Shape("micro-15m", "llama", 8, 384, 6, 2, 64, 1024, 8192, 4096, 1e4, False)

_VERSION = 2
"""To be raised when the files of a shape change."""


def model_file(shape: Shape) -> Path:
    """The path of a model in this shape, quantised to Q8_0; made if it is not there."""
    folder = Places.of_user().cache / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(repr((_VERSION, shape)).encode()).hexdigest()[:12]
    path = folder / f"{shape.name}-q8_0-{key}.gguf"
    if not path.exists():
        exact, part = path.with_suffix(f".f16.{os.getpid()}"), path.with_suffix(f".{os.getpid()}")
        try:
            _write(exact, shape)
            _quantise(exact, part)
            part.replace(path)
        finally:
            exact.unlink(missing_ok=True)
            part.unlink(missing_ok=True)
    return path


def _write(path: Path, shape: Shape) -> None:
    """The model with 16-bit weights."""
    writer = gguf.GGUFWriter(str(path), shape.architecture)
    writer.add_name(f"random {shape.name}")
    writer.add_block_count(shape.n_layers)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_heads)
    writer.add_head_count_kv(shape.n_kv_heads)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    # A random model says any token; each is to be seen as a piece of text.
    writer.add_vocab_size(add_byte_pairs(writer, shape.n_vocab, gguf.TokenType.NORMAL))
    writer.add_chat_template(CHATML)
    _add_tensors(writer, shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_tensors(writer: gguf.GGUFWriter, shape: Shape) -> None:
    random = np.random.default_rng(1)

    def add(name: str, *dims: int) -> None:
        values = random.standard_normal(dims, dtype=np.float32)
        values *= 0.03
        writer.add_tensor(f"{name}.weight", values.astype(np.float16))

    def add_ones(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(shape.n_embd, dtype=np.float32))

    n_q, n_kv = shape.n_heads * shape.head_dim, shape.n_kv_heads * shape.head_dim
    add("token_embd", shape.n_vocab, shape.n_embd)  # the output uses the same ones
    add_ones("output_norm")
    for layer in range(shape.n_layers):
        block = f"blk.{layer}."
        add_ones(f"{block}attn_norm")
        add_ones(f"{block}ffn_norm")
        for part, size in (("q", n_q), ("k", n_kv), ("v", n_kv)):
            add(f"{block}attn_{part}", size, shape.n_embd)
            if shape.has_bias:
                writer.add_tensor(f"{block}attn_{part}.bias", np.zeros(size, np.float32))
        add(f"{block}attn_output", shape.n_embd, n_q)
        add(f"{block}ffn_gate", shape.n_ff, shape.n_embd)
        add(f"{block}ffn_up", shape.n_ff, shape.n_embd)
        add(f"{block}ffn_down", shape.n_embd, shape.n_ff)


def _quantise(source: Path, target: Path) -> None:
    llama = library()
    params = llama.llama_model_quantize_default_params()
    params.ftype = llama.LLAMA_FTYPE_MOSTLY_Q8_0
    code = llama.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(params)
    )
    assert code == 0, f"llama.cpp cannot quantise: {code}"


if __name__ == "__main__":
    for each in (MICRO, LARGE):
        print(model_file(each))
