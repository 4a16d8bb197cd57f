"""Tiny GGUF models with random weights and a real tokenizer, made in a fraction of a second.

They say nothing sensible, but llama.cpp runs them as it runs any other.
"""

import collections
import itertools
import re
from pathlib import Path
from typing import Literal

import gguf
import numpy as np

from tests.engine.templates import CHATML

__all__ = ["SPECIAL", "Tokenizer", "add_byte_pairs", "make_model"]

Tokenizer = Literal["bpe", "sentencepiece"]

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
)

# What the tokenizer learns its merges from.
_CORPUS = """
You are a helpful assistant. Where is a request retried? The function retry in client.py calls send
again when the server answers with an error, and waits longer each time. The user asks, the
assistant answers. system user assistant model
def retry(request, n_times=3):
    for attempt in range(n_times):
        response = self.send(request)
        if response.status < 500:
            return response
    raise TimeoutError(f"no answer after {n_times} attempts")
class Client:
    def __init__(self, address: str, timeout_s: float = 10.0) -> None:
        self.address = address
        self.timeout_s = timeout_s
"""


def make_model(
    path: Path,
    *,
    template: str | None = CHATML,
    context_length: int = 512,
    head_dim: int = 32,
    tokenizer: Tokenizer = "bpe",
    seed: int = 1,
    n_vocab: int = 0,
    is_pooled: bool = False,
) -> Path:
    """The path, where a model stands now. `n_vocab` pads the vocabulary with unused tokens; one
    that `is_pooled` is for embeddings.
    """
    writer = gguf.GGUFWriter(str(path), "llama")
    n_layers, n_heads, n_kv_heads, n_ff = 2, 2, 1, 128
    n_embd = n_heads * head_dim
    writer.add_name("tiny")
    writer.add_block_count(n_layers)
    writer.add_context_length(context_length)
    writer.add_embedding_length(n_embd)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_heads)
    writer.add_head_count_kv(n_kv_heads)
    writer.add_rope_dimension_count(head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    if is_pooled:
        writer.add_pooling_type(gguf.PoolingType.MEAN)
    add = add_byte_pairs if tokenizer == "bpe" else _add_sentencepiece
    size = add(writer, n_vocab)
    writer.add_vocab_size(size)
    if template is not None:
        writer.add_chat_template(template)

    random = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return random.standard_normal(shape, dtype=np.float32) * 0.3

    writer.add_tensor("token_embd.weight", weights(size, n_embd))
    writer.add_tensor("output.weight", weights(size, n_embd))
    writer.add_tensor("output_norm.weight", np.ones(n_embd, dtype=np.float32))
    for layer in range(n_layers):
        shapes = {
            "attn_q": (n_embd, n_embd),
            "attn_k": (n_kv_heads * head_dim, n_embd),
            "attn_v": (n_kv_heads * head_dim, n_embd),
            "attn_output": (n_embd, n_embd),
            "ffn_gate": (n_ff, n_embd),
            "ffn_up": (n_ff, n_embd),
            "ffn_down": (n_embd, n_ff),
        }
        for name, shape in shapes.items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", weights(*shape))
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{name}.weight", np.ones(n_embd, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_byte_pairs(
    writer: gguf.GGUFWriter, n_vocab: int, padding: gguf.TokenType = gguf.TokenType.UNUSED
) -> int:
    """A byte-level BPE as of GPT-2 and Qwen, padded to `n_vocab`; returns its size."""
    merges = _merges(_CORPUS, 200)
    tokens = [*_BYTES.values(), *("".join(pair) for pair in merges), *SPECIAL]
    n_plain = len(tokens) - len(SPECIAL)
    types = [gguf.TokenType.NORMAL] * n_plain + [gguf.TokenType.CONTROL] * len(SPECIAL)
    for index in range(len(tokens), n_vocab):
        tokens.append(f"[PAD{index}]")
        types.append(padding)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_bos_token_id(n_plain)
    writer.add_eos_token_id(tokens.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    return len(tokens)


def _add_sentencepiece(writer: gguf.GGUFWriter, n_vocab: int) -> int:
    """A vocabulary as of Llama 2 and Mistral, where words carry the space before them."""
    words = dict.fromkeys(re.findall(r"\w+", _CORPUS))
    letters = dict.fromkeys(c for c in _CORPUS if c not in " \n")
    spaced = ["\u2581" + word for word in words]
    stems = {word[:n] for word in [*spaced, *words] for n in range(1, len(word) + 1)}
    pieces = [*letters, "\u2581", *sorted(stems - set(letters) - {"\u2581"}, key=len)]
    byte_tokens = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *byte_tokens, *pieces]
    kinds = gguf.TokenType
    types = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL, *[kinds.BYTE] * 256]
    types += [kinds.NORMAL] * len(pieces)
    for index in range(len(tokens), n_vocab):
        tokens.append(f"[PAD{index}]")
        types.append(kinds.UNUSED)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_scores([float(len(token)) for token in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    return len(tokens)


def _visible_bytes() -> dict[int, str]:
    """A printable character for each byte, as GPT-2 has them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + index) for index, byte in enumerate(others)
    }


_BYTES = _visible_bytes()


def _merges(text: str, n_merges: int) -> list[tuple[str, str]]:
    """The most frequent neighbours, joined again and again."""
    found = re.findall(r" ?[A-Za-z]+| ?[0-9]| ?[^\sA-Za-z0-9]+|\s+", text)
    words = collections.Counter(tuple(_BYTES[byte] for byte in word.encode()) for word in found)
    merges: list[tuple[str, str]] = []
    while len(merges) < n_merges:
        pairs: collections.Counter[tuple[str, str]] = collections.Counter()
        for word, n in words.items():
            for pair in itertools.pairwise(word):
                pairs[pair] += n
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = collections.Counter({_joined(word, best): n for word, n in words.items()})
    return merges


def _joined(word: tuple[str, ...], pair: tuple[str, str]) -> tuple[str, ...]:
    joined: list[str] = []
    for part in word:
        if joined and (joined[-1], part) == pair:
            joined[-1] += part
        else:
            joined.append(part)
    return tuple(joined)
