import asyncio
import gc
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from lsp_assist.engine.requests import Ended, GenerateRequest, Piece, Prefilled, Priority
from lsp_assist.engine.service import Engine, EngineSettings
from lsp_assist.engine.template import Turn
from lsp_assist.errors import BadInput, ContextTooLong, ModelFileError, ModelUnavailable
from lsp_assist.llm import Sampling
from tests.engine.test_local import bare_greedy
from tests.engine.tiny import make_model

GREEDY = Sampling(temperature=0, max_tokens=16)
WARM = Sampling(temperature=0, max_tokens=0)
QUESTION = "Where is a request retried?"


@dataclass
class Said:
    """What came back for one request."""

    texts: dict[int, str] = field(default_factory=dict)
    prefilled: list[Prefilled] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)

    @property
    def text(self) -> str:
        return self.texts.get(0, "")

    @property
    def n_cached(self) -> int:
        return self.prefilled[0].n_cached

    @property
    def n_prompt(self) -> int:
        return self.prefilled[0].n_prompt


async def ask(engine: Engine, request: GenerateRequest) -> Said:
    said = Said()
    async with aclosing(engine.generate(request)) as events:
        async for event in events:
            if isinstance(event, Prefilled):
                assert not said.texts, "before any text"
                said.prefilled.append(event)
            elif isinstance(event, Piece):
                said.texts[event.index] = said.texts.get(event.index, "") + event.text
            else:
                said.ended.append(event)
    assert len(said.prefilled) == 1
    assert len(said.ended) == request.n
    return said


def chat(*texts: str, sampling: Sampling = GREEDY, model: str = "tiny") -> GenerateRequest:
    """A conversation: user, assistant, user, ..."""
    turns = tuple(Turn("assistant" if n % 2 else "user", text) for n, text in enumerate(texts))
    return GenerateRequest(model, turns, sampling)


@pytest.fixture
def settings(roomy: Path, tmp_path: Path) -> EngineSettings:
    return EngineSettings(
        {"tiny": roomy}, tmp_path / "states", n_ctx=2048, n_threads=1, n_gpu_layers=0
    )


@pytest.fixture
async def engine(settings: EngineSettings) -> AsyncIterator[Engine]:
    made = Engine(settings)
    yield made
    await made.close()
    assert threads() == []


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if "lsp-assist" in thread.name]


async def test_a_reply_is_what_llama_cpp_says_when_asked_directly(
    engine: Engine, roomy: Path
) -> None:
    rendered = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    said = await ask(engine, chat(QUESTION))
    assert said.text == bare_greedy(roomy, rendered, 16).decode("utf-8", "replace")
    assert (said.n_cached, said.ended[0].n_tokens, said.ended[0].reason) == (0, 16, "length")


async def test_a_warm_up_leaves_one_token_to_compute(engine: Engine) -> None:
    warm = await ask(engine, chat(QUESTION, sampling=WARM))
    assert (warm.text, warm.ended[0].n_tokens) == ("", 0)
    asked = await ask(engine, chat(QUESTION))
    assert asked.n_cached == asked.n_prompt - 1
    assert asked.ended[0].n_tokens == 16


async def test_a_prompt_beyond_the_window_is_refused_with_both_numbers(engine: Engine) -> None:
    with pytest.raises(ContextTooLong, match=r"window holds 2,048\b"):
        await ask(engine, chat("u " * 3000))


async def test_an_unknown_model_is_told_with_those_there_are(engine: Engine) -> None:
    with pytest.raises(BadInput, match=r"'other'.*'tiny'"):
        await ask(engine, chat(QUESTION, model="other"))
