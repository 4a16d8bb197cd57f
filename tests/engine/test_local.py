import asyncio
import ctypes
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lsp_assist.config import ModelSettings
from lsp_assist.engine import LocalModel
from lsp_assist.engine.libllama import library
from lsp_assist.errors import ContextTooLong, ModelFileError, ModelUnavailable
from lsp_assist.llm import Message, Model, Prompt, Role, Sampling, Segment, Usage
from tests.engine.templates import APPEND_ONLY
from tests.engine.tiny import Tokenizer, make_model

GREEDY = Sampling(temperature=0, max_tokens=24)
WARM = Sampling(max_tokens=0)
QUESTION = "Where is a request retried?"


def prompt(*texts: str) -> Prompt:
    """A conversation: system, user, assistant, user, ..."""
    roles: list[Role] = ["system", *(["user", "assistant"] * len(texts))]  # type: ignore[list-item]  # literals, widened
    return Prompt(
        tuple(
            Message(role, (Segment("question", text),))
            for role, text in zip(roles, texts, strict=False)
        )
    )


async def answer(model: Model, asked: Prompt, sampling: Sampling = GREEDY) -> tuple[str, Usage]:
    text = ""
    usage = None
    async with aclosing(model.stream(asked, sampling)) as deltas:
        async for delta in deltas:
            assert usage is None, "the usage comes last"
            text += delta.text
            usage = delta.usage
    assert usage is not None
    return text, usage


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


@pytest.fixture
async def model(tiny: Path) -> AsyncIterator[LocalModel]:
    made = LocalModel(tiny)
    yield made
    await made.close()


async def test_a_reply_is_what_llama_cpp_says_when_asked_directly(
    model: LocalModel, tiny: Path
) -> None:
    rendered = (
        "<|im_start|>system\nYou are helpful.<|im_end|>\n"
        f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    )
    text, usage = await answer(model, prompt("You are helpful.", QUESTION))
    assert text == bare_greedy(tiny, rendered, 24).decode("utf-8", "replace")
    assert (usage.model, usage.cached_tokens, usage.output_tokens) == ("tiny", 0, 24)
    assert 0 < usage.ttft_ms <= usage.total_ms


async def test_a_prefix_is_computed_once(model: LocalModel, tiny: Path) -> None:
    """And the reply is the same as from a model that never saw it."""
    first = prompt("You are helpful.", QUESTION)
    second = prompt("You are helpful.", QUESTION, "In client.py.", "Who calls it?")
    _, before = await answer(model, first)
    warm, usage = await answer(model, second)
    assert before.prompt_tokens <= usage.cached_tokens < usage.prompt_tokens
    cold_model = LocalModel(tiny)
    cold, cold_usage = await answer(cold_model, second)
    await cold_model.close()
    assert (warm, usage.prompt_tokens) == (cold, cold_usage.prompt_tokens)
    assert cold_usage.cached_tokens == 0


async def test_the_same_question_again_costs_one_token(model: LocalModel) -> None:
    asked = prompt("You are helpful.", QUESTION)
    text, usage = await answer(model, asked)
    again, usage_again = await answer(model, asked)
    assert text == again
    assert usage_again.cached_tokens == usage.prompt_tokens - 1


async def test_a_warm_up_generates_nothing_and_leaves_the_question_one_token(
    model: LocalModel,
) -> None:
    asked = prompt("You are helpful.", QUESTION)
    text, usage = await answer(model, asked, WARM)
    assert (text, usage.output_tokens, usage.cached_tokens) == ("", 0, 0)
    _, again = await answer(model, asked, WARM)
    assert again.cached_tokens == again.prompt_tokens
    _, asked_usage = await answer(model, asked)
    assert asked_usage.cached_tokens == asked_usage.prompt_tokens - 1


async def readable_reply(model: LocalModel, asked: Prompt) -> tuple[str, Usage]:
    """A reply that is whole and stripped text, by luck: most of what random weights say is not."""
    for seed in range(200):
        hot = Sampling(temperature=1.5, seed=seed, max_tokens=6)
        text, usage = await answer(model, asked, hot)
        if text and text == text.strip() and "\ufffd" not in text:
            return text, usage
    raise AssertionError("no seed gives such a reply")


@pytest.mark.parametrize("name", APPEND_ONLY)
async def test_a_conversation_never_computes_a_token_twice(models: Path, name: str) -> None:
    """The next question finds everything in the cache: the prompt, and what the model said."""
    tokenizer: Tokenizer = "sentencepiece" if name.startswith("Mistral") else "bpe"
    path = make_model(models / f"{name}.gguf", template=APPEND_ONLY[name], tokenizer=tokenizer)
    model = LocalModel(path)
    texts = ["You are helpful.", QUESTION]
    n_known = 0
    for _ in range(3):
        reply, usage = await readable_reply(model, prompt(*texts))
        assert usage.cached_tokens >= n_known
        texts += [reply, "Who calls it?"]
        # The last token that was drawn is not in the cache yet, unless an end token followed.
        n_known = usage.prompt_tokens + usage.output_tokens - 1
        if tokenizer == "sentencepiece":
            # These say a space first, which the template strips and writes itself.
            n_known = usage.prompt_tokens
    await model.close()


async def test_what_looks_like_a_control_token_stays_text(model: LocalModel) -> None:
    _, plain = await answer(model, prompt("s", "a  b"), WARM)
    _, spelled = await answer(model, prompt("s", "a <|im_end|> b"), WARM)
    n_spelled = await model.count("<|im_end|>")
    assert n_spelled > 1
    assert spelled.prompt_tokens > plain.prompt_tokens + 1


async def test_a_reply_ends_before_a_stop_string(model: LocalModel) -> None:
    asked = prompt("You are helpful.", QUESTION)
    whole, usage = await answer(model, asked)
    stop = whole[len(whole) // 2 :][:3]
    text, stopped = await answer(model, asked, replace(GREEDY, stop=(stop, "never said")))
    assert text == whole[: whole.index(stop)]
    assert stopped.output_tokens < usage.output_tokens


async def test_a_reply_ends_at_an_end_token(model: LocalModel) -> None:
    """Random weights draw one sooner or later; it is not counted and not shown."""
    asked = prompt("You are helpful.", QUESTION)
    for seed in range(100):
        hot = Sampling(temperature=3, top_k=0, top_p=1, min_p=0, seed=seed, max_tokens=100)
        text, usage = await answer(model, asked, hot)
        if usage.output_tokens < 100:
            assert "<|" not in text
            return
    raise AssertionError("no seed ends a reply")


async def test_a_reply_ends_where_the_context_window_does(tiny: Path) -> None:
    model = LocalModel(tiny, ModelSettings(n_ctx=256))
    asked = prompt("You are helpful.", QUESTION)
    _, usage = await answer(model, asked, replace(GREEDY, max_tokens=1000))
    # The last one is drawn from what fits, and needs no room itself.
    assert usage.prompt_tokens + usage.output_tokens in range(1, 256 + 2)
    _, again = await answer(model, asked)
    assert again.cached_tokens == again.prompt_tokens - 1
    await model.close()


async def test_a_prompt_beyond_the_window_is_refused_with_both_numbers(model: LocalModel) -> None:
    """And costs nothing: what was computed before is still there."""
    asked = prompt("You are helpful.", QUESTION)
    _, usage = await answer(model, asked)
    with pytest.raises(ContextTooLong, match=r"window holds 512\b") as raised:
        await answer(model, prompt("You are helpful.", QUESTION * 100))
    assert raised.value.n_tokens > raised.value.n_ctx == 512
    _, again = await answer(model, asked)
    assert again.cached_tokens == usage.prompt_tokens - 1


async def test_closing_the_stream_stops_between_tokens(model: LocalModel) -> None:
    asked = prompt("You are helpful.", QUESTION)
    long = replace(GREEDY, max_tokens=400)
    async with aclosing(model.stream(asked, long)) as deltas:
        first = (await anext(deltas)).text
    text, usage = await answer(model, asked)
    assert text.startswith(first)
    assert usage.cached_tokens == usage.prompt_tokens - 1


async def test_a_cancel_inside_the_prefill_keeps_what_was_computed(
    roomy: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends the running decode. The next question goes on from the one before, and its reply is
    as if nothing had happened.
    """
    caplog.set_level("DEBUG", logger="lsp_assist.engine.conversation")
    model = LocalModel(roomy, ModelSettings(n_ctx=16384))
    reply = ""
    for attempt in range(20):
        asked = prompt(f"{attempt} You are helpful.", "Where is retry? " * 2000)
        task = asyncio.create_task(answer(model, asked, WARM))
        for _ in range(3):  # answered between steps, so the last one is after a chunk or more
            await model.count("x")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        reply, usage = await answer(model, asked)
        is_inside = 100 < usage.cached_tokens < usage.prompt_tokens - 1
        if is_inside and "128 tokens: aborted" in caplog.text:
            break
    else:
        raise AssertionError("no cancel arrived inside the prefill")
    await model.close()
    fresh = LocalModel(roomy, ModelSettings(n_ctx=16384))
    cold, cold_usage = await answer(fresh, asked)
    await fresh.close()
    assert (reply, cold_usage.cached_tokens) == (cold, 0)


async def test_streams_are_answered_in_the_order_of_asking(model: LocalModel) -> None:
    order: list[str] = []

    async def ask(name: str) -> None:
        await answer(model, prompt("s", name))
        order.append(name)

    names = ["a", "b", "c"]
    await asyncio.gather(*map(ask, names))
    assert order == names


async def test_a_queued_question_can_be_cancelled(model: LocalModel) -> None:
    long = replace(GREEDY, max_tokens=300)
    async with aclosing(model.stream(prompt("s", "first"), long)) as first:
        text = (await anext(first)).text
        queued = asyncio.create_task(answer(model, prompt("s", "second")))
        third = asyncio.create_task(answer(model, prompt("s", "third")))
        await model.count("x")
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        text += "".join([delta.text async for delta in first])
    assert text == (await answer(model, prompt("s", "first"), long))[0]
    assert (await third)[1].output_tokens > 0


async def test_counting_does_not_wait_for_a_reply(model: LocalModel) -> None:
    long = replace(GREEDY, max_tokens=400)
    async with aclosing(model.stream(prompt("s", "first"), long)) as deltas:
        await anext(deltas)
        assert await model.count("Where is a request retried?") > 3
        assert await model.count("") == 0
        rest = [delta async for delta in deltas]
    assert rest[-1].usage is not None


async def test_closing_the_model_ends_what_runs_and_what_waits(tiny: Path) -> None:
    model = LocalModel(tiny)
    stream = model.stream(prompt("s", "first"), replace(GREEDY, max_tokens=400))
    await anext(stream)
    waiting = asyncio.create_task(answer(model, prompt("s", "second")))
    await model.count("x")
    await asyncio.gather(model.close(), model.close())
    with pytest.raises(ModelUnavailable, match="was closed"):
        async for _ in stream:
            pass
    with pytest.raises(ModelUnavailable, match="was closed"):
        await waiting
    with pytest.raises(ModelUnavailable, match="was closed"):
        await model.count("x")


def model_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "model" in thread.name]


def n_open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def test_no_thread_and_no_file_is_left(tiny: Path) -> None:
    for _ in range(2):  # the library itself opens files when it is loaded
        n_files = n_open_files()
        model = LocalModel(tiny)
        assert model_threads() == []
        await answer(model, prompt("s", "u"))
        assert len(model_threads()) == 1
        await model.close()
        assert model_threads() == []
    assert n_open_files() == n_files


async def test_a_model_that_nobody_refers_to_is_freed(tiny: Path) -> None:
    model = LocalModel(tiny)
    await model.count("x")
    del model
    assert model_threads() == []


async def test_a_missing_or_damaged_file_is_told_at_each_question(tmp_path: Path) -> None:
    """And once it is mended, the same model answers."""
    path = tmp_path / "model.gguf"
    model = LocalModel(path)
    for _ in range(2):
        with pytest.raises(ModelFileError, match="is not there"):
            await answer(model, prompt("s", "u"))
        with pytest.raises(ModelFileError, match="is not there"):
            await model.count("x")
    path.write_bytes(b"GGUF")
    with pytest.raises(ModelFileError, match="cut off"):
        await answer(model, prompt("s", "u"))
    make_model(path)
    await answer(model, prompt("s", "u"))
    await model.close()


async def test_the_window_is_no_larger_than_the_model_was_trained_with(model: LocalModel) -> None:
    """512, where the settings would allow 8192."""
    with pytest.raises(ContextTooLong, match=r"window holds 512\b"):
        await answer(model, prompt("s", "u " * 1000))


def run_python(code: str, *args: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )


UNCLOSED = """
import asyncio, sys
from pathlib import Path
from lsp_assist.engine import LocalModel
from lsp_assist.llm import Message, Prompt, Sampling, Segment
model = LocalModel(Path(sys.argv[1]))
asked = Prompt((Message("user", (Segment("question", "Where is retry? " * 100),)),))
async def main():
    stream = model.stream(asked, Sampling(max_tokens=10_000, temperature=0))
    await anext(stream)
    await getattr(sys.modules[__name__], sys.argv[2])(stream)
async def leave(stream):
    pass
async def exit(stream):
    sys.exit(7)
async def crash(stream):
    raise KeyboardInterrupt
try:
    asyncio.run(main())
except KeyboardInterrupt:
    sys.exit(7)
"""


@pytest.mark.parametrize("how", ["leave", "exit", "crash"])
def test_a_process_ends_cleanly_in_the_middle_of_a_reply(roomy: Path, how: str) -> None:
    """With nothing on stdout, which belongs to the protocol, nor on stderr."""
    done = run_python(UNCLOSED, str(roomy), how)
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == (0 if how == "leave" else 7)


OUT_OF_MEMORY = """
import asyncio, resource, sys
from pathlib import Path
from lsp_assist.config import ModelSettings
from lsp_assist.engine import LocalModel
from lsp_assist.engine.libllama import library
from lsp_assist.errors import ModelUnavailable
library()
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)
model = LocalModel(Path(sys.argv[1]), ModelSettings(n_ctx=10_000_000, n_threads=1))
async def main():
    try:
        await model.count("x")
    except ModelUnavailable as error:
        print(error)
    await model.close()
asyncio.run(main())
"""


def test_too_little_memory_is_told_with_the_remedy(tmp_path: Path) -> None:
    path = make_model(tmp_path / "long.gguf", context_length=10_000_000)
    done = run_python(OUT_OF_MEMORY, str(path))
    assert done.stderr == ""
    assert "no room for a context window of 10,000,000 tokens" in done.stdout
    assert "lower `model.n_ctx`" in done.stdout
    assert done.returncode == 0
