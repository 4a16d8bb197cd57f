"""Tiny models of other kinds: recurrent layers, a sliding window; and adapters for a tiny model."""

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

from tests.engine.templates import CHATML
from tests.engine.tiny import add_byte_pairs

__all__ = ["make_adapter", "make_hybrid", "make_windowed"]

_N_EMBD, _HEAD_DIM, _N_FF = 64, 32, 128
_N_HEADS, _N_KV_HEADS = 2, 1


def make_hybrid(path: Path) -> Path:
    """A model as LFM2: every other layer is a short convolution with a recurrent state."""
    writer = _writer(path, "lfm2", n_kv_heads=[0, _N_KV_HEADS])
    writer.add_shortconv_l_cache(3)
    weights = _Weights(writer)
    weights.add_vocabulary()
    weights.add_ones("token_embd_norm", _N_EMBD)
    weights.add("blk.0.shortconv.conv", _N_EMBD, 3)
    weights.add("blk.0.shortconv.in_proj", 3 * _N_EMBD, _N_EMBD)
    weights.add("blk.0.shortconv.out_proj", _N_EMBD, _N_EMBD)
    weights.add_attention(1)
    weights.add_ones("blk.1.attn_q_norm", _HEAD_DIM)
    weights.add_ones("blk.1.attn_k_norm", _HEAD_DIM)
    for layer in range(2):
        weights.add_feed_forward(layer)
        weights.add_ones(f"blk.{layer}.attn_norm", _N_EMBD)
        weights.add_ones(f"blk.{layer}.ffn_norm", _N_EMBD)
    return _written(writer, path)


def make_windowed(path: Path, *, window: int = 32) -> Path:
    """A model as Gemma 2: every other layer looks back `window` tokens only."""
    writer = _writer(path, "gemma2", n_kv_heads=_N_KV_HEADS)
    writer.add_sliding_window(window)
    writer.add_key_length(_HEAD_DIM)
    writer.add_value_length(_HEAD_DIM)
    weights = _Weights(writer)
    weights.add_vocabulary()
    weights.add_ones("output_norm", _N_EMBD)
    for layer in range(2):
        weights.add_attention(layer)
        weights.add_feed_forward(layer)
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            weights.add_ones(f"blk.{layer}.{name}", _N_EMBD)
    return _written(writer, path)


def make_adapter(
    path: Path, *, architecture: str = "llama", n_embd: int = _N_EMBD, rank: int = 4, seed: int = 1
) -> Path:
    """A LoRA adapter for the queries of a tiny model's first layer."""
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    random = np.random.default_rng(seed)
    for name, shape in (("lora_a", (rank, n_embd)), ("lora_b", (n_embd, rank))):
        values = random.standard_normal(shape, dtype=np.float32)
        writer.add_tensor(f"blk.0.attn_q.weight.{name}", values)
    return _written(writer, path)


def _writer(path: Path, architecture: str, *, n_kv_heads: int | Sequence[int]) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(512)
    writer.add_embedding_length(_N_EMBD)
    writer.add_feed_forward_length(_N_FF)
    writer.add_head_count(_N_HEADS)
    writer.add_head_count_kv(n_kv_heads)
    writer.add_rope_dimension_count(_HEAD_DIM)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_chat_template(CHATML)
    return writer


def _written(writer: gguf.GGUFWriter, path: Path) -> Path:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class _Weights:
    """Adds random weights to a file."""

    def __init__(self, writer: gguf.GGUFWriter) -> None:
        self._writer = writer
        self._random = np.random.default_rng(1)

    def add(self, name: str, *shape: int) -> None:
        values = self._random.standard_normal(shape, dtype=np.float32)
        self._writer.add_tensor(f"{name}.weight", values * np.float32(0.3))

    def add_ones(self, name: str, size: int) -> None:
        self._writer.add_tensor(f"{name}.weight", np.ones(size, dtype=np.float32))

    def add_vocabulary(self) -> None:
        n_vocab = add_byte_pairs(self._writer, 0)
        self._writer.add_vocab_size(n_vocab)
        self.add("token_embd", n_vocab, _N_EMBD)

    def add_attention(self, layer: int) -> None:
        self.add(f"blk.{layer}.attn_q", _N_HEADS * _HEAD_DIM, _N_EMBD)
        self.add(f"blk.{layer}.attn_k", _N_KV_HEADS * _HEAD_DIM, _N_EMBD)
        self.add(f"blk.{layer}.attn_v", _N_KV_HEADS * _HEAD_DIM, _N_EMBD)
        self.add(f"blk.{layer}.attn_output", _N_EMBD, _N_HEADS * _HEAD_DIM)

    def add_feed_forward(self, layer: int) -> None:
        self.add(f"blk.{layer}.ffn_gate", _N_FF, _N_EMBD)
        self.add(f"blk.{layer}.ffn_up", _N_FF, _N_EMBD)
        self.add(f"blk.{layer}.ffn_down", _N_EMBD, _N_FF)
