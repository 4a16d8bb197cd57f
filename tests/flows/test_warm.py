"""Warm-ups: what is read before it is asked, in which order, and what takes its place."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from lsp_assist.assistant import Assistant, Question, Selection
from lsp_assist.config import resolve
from lsp_assist.errors import ContextTooLong
from lsp_assist.flows import Done, Event, Step
from lsp_assist.flows.warm import REPLACED, Warmer, whole_words
from tests.flows.model import KeptModel

CODE = "def retry(request):\n    return send(request)\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    for n in range(6):
        (folder / f"m{n}.py").write_text(CODE.replace("retry", f"retry_{n}") * 12)
    return folder


@asynccontextmanager
async def opened(root: Path, model: KeptModel) -> AsyncIterator[Assistant]:
    warmer = Warmer(typed_after_s=0, rest_s=0)
    assistant = Assistant(resolve(), [root], model=model, warmer=warmer)
    await assistant.start()
    await assistant.workspace.refresh()
    try:
        yield assistant
    finally:
        await assistant.close()


def question(text: str, turn: str = "1", **more: object) -> Question:
    return Question(text, "chat", turn, **more)  # type: ignore[arg-type]  # as the tests name them


async def ask(assistant: Assistant, asked: Question) -> list[Event]:
    async with aclosing(assistant.ask(asked)) as events:
        return [event async for event in events]


def usage_of(events: list[Event]) -> float:
    done = events[-1]
    assert isinstance(done, Done)
    return done.usage.cached_tokens / done.usage.prompt_tokens


@pytest.mark.parametrize("window", [20_000, 2_000], ids=["whole", "outlined"])
async def test_a_question_that_was_warmed_while_typed_is_read_already(
    root: Path, window: int
) -> None:
    model = KeptModel(window)
    async with opened(root, model) as assistant:
        for n in range(1, 33, 4):
            await assistant.warm(question("Where is retry_3 called, and why?"[:n]))
        await assistant.warm(question("Where is retry_3 called, and why?"))
        events = await ask(assistant, question("Where is retry_3 called, and why?"))
    assert usage_of(events) == 1.0
    asked = next(read for read in model.read if read.priority is None)
    ahead = next(read for read in model.read if read.text == asked.text)
    assert ahead.speculative
    assert ahead.sampling == asked.sampling, "a reply that is begun ahead must be drawn alike"


async def test_what_is_found_is_not_looked_for_before_the_words_rest(root: Path) -> None:
    model = KeptModel(2_000)
    async with opened(root, model) as assistant:
        await assistant.warm(question("Where is retry_3"))
    typed, rested = model.read
    assert (typed.priority, typed.speculative) == ("typed_warm_up", False)
    assert typed.text.endswith("Where is"), "not the last word, which may go on"
    assert "Found for this question" not in typed.text
    assert rested.text.startswith(typed.text)
    assert "Excerpt: m3.py" in rested.text


async def test_a_newer_warm_up_takes_the_place_of_an_older_one(root: Path) -> None:
    model = KeptModel()
    async with opened(root, model) as assistant:
        model.may_read.clear()
        older = asyncio.ensure_future(assistant.warm(question("Where is")))
        await model.begun.wait()
        newer = asyncio.ensure_future(assistant.warm(question("Where is retry_1")))
        assert (await older).reason == REPLACED
        model.may_read.set()
        assert (await newer).reason == ""
    assert "retry_1" in model.read[-1].text


async def test_a_warm_up_gives_way_to_a_question(root: Path) -> None:
    model = KeptModel()
    async with opened(root, model) as assistant:
        model.may_read.clear()
        warming = asyncio.ensure_future(assistant.warm(question("Where is")))
        await model.begun.wait()
        asking = asyncio.ensure_future(ask(assistant, question("What else?", "2")))
        assert "question" in (await warming).reason
        model.may_read.set()
        assert isinstance((await asking)[-1], Done)


async def test_a_warm_up_makes_no_turn_and_an_edit_after_it_is_read_and_told(root: Path) -> None:
    model = KeptModel(20_000)
    async with opened(root, model) as assistant:
        await assistant.warm(question("Where"))
        (root / "m2.py").write_text("def changed(): pass\n")
        assistant.workspace.file_changed(root / "m2.py")
        events = await ask(assistant, question("Where is it?"))
        assert any(
            isinstance(e, Step) and "changed since this chat was warmed" in e.text for e in events
        )
        follow = await ask(assistant, question("And now?", "2"))
    assert "def changed()" in next(r.text for r in model.read if r.priority is None)
    assert usage_of(follow) > 0.95


async def test_the_end_of_a_reply_is_read_after_it(root: Path) -> None:
    model = KeptModel(20_000)
    async with opened(root, model) as assistant:
        await ask(assistant, question("Where is it?"))
        await model.has_read(2)
    assert model.read[1].priority == "background_warm_up"
    assert model.read[1].text.endswith("<assistant>Fine.<user>")


async def test_a_selection_that_was_warmed_is_warm_for_every_chat(root: Path) -> None:
    model = KeptModel(20_000)
    selection = Selection("m1.py", 0, 1, CODE, "python", str(root))
    async with opened(root, model) as assistant:
        await assistant.warm(Question("", "selection", "selection", selection=selection))
        events = await ask(assistant, Question("Why?", "new", "1", selection=selection))
    assert usage_of(events) > 0.97


async def test_a_model_that_keeps_nothing_says_so(root: Path) -> None:
    assistant = Assistant(resolve(), [root])
    await assistant.start()
    warmed = await assistant.warm(question("Where is it?"))
    await assistant.close()
    assert warmed.n_tokens == 0
    assert warmed.reason == "extractive keeps nothing that could be warmed"


async def test_what_cannot_fit_says_by_how_much_and_what_to_drop(root: Path) -> None:
    model = KeptModel(2_000)
    selection = Selection("m1.py", 0, 1, "word " * 2_000, "python", str(root))
    async with opened(root, model) as assistant:
        with pytest.raises(ContextTooLong) as raised:
            await ask(assistant, question("Why?", selection=selection))
        assert isinstance((await ask(assistant, question("Why?", "2")))[-1], Done)
    said = str(raised.value)
    assert "too many: leave out m1.py (you selected it)" in said
    assert f"{raised.value.n_tokens - raised.value.n_ctx:,} too many" in said


def test_the_last_word_may_go_on() -> None:
    assert whole_words("Where is") == "Where"
    assert whole_words("Where is ") == "Where is"
    assert whole_words("a\n\n b c") == "a\n\n b"
    assert whole_words("Where") == whole_words("") == whole_words("  x") == ""
