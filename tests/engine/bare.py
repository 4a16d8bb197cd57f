"""The reply that nothing but llama.cpp gives, the oracle of all others; and Python beside us."""

import ctypes
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from lsp_assist.engine.libllama import library

__all__ = ["bare_greedy", "run_python"]


def bare_greedy(path: Path, text: str, n_tokens: int) -> bytes:
    """The continuation by nothing but llama.cpp: one batch, then token by token."""
    llama = library()
    model = llama.llama_model_load_from_file(os.fsencode(path), llama.llama_model_default_params())
    vocab = llama.llama_model_get_vocab(model)
    params = llama.llama_context_default_params()
    params.n_ctx, params.flash_attn_type, params.type_k = 512, 0, llama.GGML_TYPE_Q8_0
    context = llama.llama_init_from_model(model, params)
    tokens = (ctypes.c_int32 * 512)()
    data = text.encode()
    n = llama.llama_tokenize(vocab, data, len(data), tokens, 512, False, True)
    assert llama.llama_decode(context, llama.llama_batch_get_one(tokens, n)) == 0
    said = b""
    piece = ctypes.create_string_buffer(64)
    for _ in range(n_tokens):
        logits = llama.llama_get_logits_ith(context, -1)
        token = int(np.ctypeslib.as_array(logits, (llama.llama_vocab_n_tokens(vocab),)).argmax())
        if llama.llama_vocab_is_eog(vocab, token):
            break
        n_bytes = llama.llama_token_to_piece(vocab, token, piece, 64, 0, False)
        said += piece.raw[:n_bytes]
        next_token = (ctypes.c_int32 * 1)(token)
        assert llama.llama_decode(context, llama.llama_batch_get_one(next_token, 1)) == 0
    llama.llama_free(context)
    llama.llama_model_free(model)
    return said


def run_python(code: str, *args: str) -> "subprocess.CompletedProcess[str]":
    """What a process of its own made of this code."""
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
