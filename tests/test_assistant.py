"""The API without LSP: questions over a real workspace, fresh at every ask."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from lsp_assist.assistant import Assistant, Question, Selection
from lsp_assist.config import resolve
from lsp_assist.errors import BadInput, SettingError, UnknownTurn, WorkspaceNotFound
from lsp_assist.flows import Done, Event, Step, Text
from lsp_assist.llm import Delta, Model, Prompt, Sampling, Usage
from lsp_assist.workspace import Progress
from tests.backends.faulty import answering, event, http, stream_head

CODE = '''def retry(request):
    """Send a request again after a failure."""
    return send(request)


def send(request):
    return request
'''


class EchoModel:
    """A model at the door: it says what it was told to say and remembers every prompt."""

    name = "echo"

    def __init__(self, *replies: str) -> None:
        self.replies = list(replies)
        self.prompts: list[Prompt] = []
        self.n_closed = 0
        self.released = asyncio.Event()
        self.released.set()

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        self.prompts.append(prompt)
        try:
            for word in self.replies.pop(0).split(" "):
                yield Delta(f"{word} ")
                await self.released.wait()
            yield Delta(usage=Usage(model=self.name, output_tokens=3))
        finally:
            self.n_closed += 1

    async def count(self, text: str) -> int:
        return len(text) // 4

    async def window(self) -> int | None:
        return 4096

    async def close(self) -> None:
        pass


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "retry.py").write_text(CODE)
    return folder


@asynccontextmanager
async def opened(root: Path, model: Model | None = None) -> AsyncIterator[Assistant]:
    assistant = Assistant(resolve(), [root], model=model)
    await assistant.start()
    try:
        yield assistant
    finally:
        await assistant.close()


async def events_of(assistant: Assistant, question: Question) -> list[Event]:
    async with aclosing(assistant.ask(question)) as events:
        return [event async for event in events]


def question(text: str, turn: str = "1", **more: object) -> Question:
    return Question(text, "chat", turn, **more)  # type: ignore[arg-type]  # as the tests name them


async def test_an_answer_without_a_model_names_the_place(root: Path) -> None:
    async with opened(root) as assistant:
        await assistant.workspace.refresh()
        events = await events_of(assistant, question("Where is a request sent again?"))
    done = events[-1]
    assert isinstance(done, Done)
    assert done.sources[0].place == "retry.py:1"
    assert done.sources[0].symbol == "retry"
    assert "`retry` at retry.py:1" in done.text
    assert done.text == "".join(event.text for event in events if isinstance(event, Text))
    assert done.usage.route == "no model is configured"


async def test_a_question_before_the_first_index_is_answered_and_says_so(root: Path) -> None:
    async with opened(root) as assistant:
        events = await events_of(assistant, question("retry"))
        assert events[0] == Step("The index is 0 % done; answering from what is there")
        assert isinstance(events[-1], Done)
        await assistant.workspace.refresh()
        events = await events_of(assistant, question("retry", "2"))
        assert events[0] == Step("Searching the workspace")


async def test_a_turn_sees_the_turns_before_it_and_a_fork_only_its_own(root: Path) -> None:
    model = EchoModel("one", "two", "three")
    async with opened(root, model) as assistant:
        await events_of(assistant, question("first", "1"))
        await events_of(assistant, question("second", "2"))
        await events_of(assistant, question("fork", "3", parent_turn_id="1"))
    roles = [[message.role for message in prompt.messages] for prompt in model.prompts]
    assert roles[1] == ["system", "user", "assistant", "user"]
    assert model.prompts[1].messages[:3] == model.prompts[2].messages[:3]
    assert model.prompts[1].messages[:2] == model.prompts[0].messages
    assert model.prompts[1].messages[2].text == "one "


async def test_a_follow_up_is_about_what_was_asked_before(root: Path) -> None:
    (root / "other.py").write_text("def unrelated(): pass\n")
    model = EchoModel("one", "two")
    async with opened(root, model) as assistant:
        await assistant.workspace.refresh()
        await events_of(assistant, question("failure", "1"))
        events = await events_of(assistant, question("And why?", "2"))
    done = events[-1]
    assert isinstance(done, Done)
    assert [source.symbol for source in done.sources] == ["retry"]


async def test_what_is_typed_is_found_before_it_is_saved(root: Path) -> None:
    async with opened(root) as assistant:
        await assistant.workspace.refresh()
        path = root / "retry.py"
        assistant.workspace.documents.open(
            "file:///retry.py", path, "python", 1, "def backoff(): pass\n"
        )
        assistant.workspace.document_changed("file:///retry.py")
        assert [hit.symbol for hit in await assistant.workspace.search("backoff")] == ["backoff"]
        assert await assistant.workspace.search("failure") == []
        assistant.workspace.documents.close("file:///retry.py")
        assistant.workspace.document_changed("file:///retry.py")
        assert await assistant.workspace.search("backoff") == []
        assert (await assistant.workspace.search("retry"))[0].symbol == "retry"


async def test_a_changed_file_is_read_by_the_next_question(root: Path) -> None:
    async with opened(root) as assistant:
        assistant.workspace.watches_files = True
        await assistant.workspace.refresh()
        (root / "new.py").write_text("def brand_new(): pass\n")
        assert await assistant.workspace.search("brand_new") == []
        assistant.workspace.file_changed(root / "new.py")
        assert [hit.path for hit in await assistant.workspace.search("brand_new")] == ["new.py"]


async def test_a_selection_is_shown_with_the_question(root: Path) -> None:
    model = EchoModel("ok")
    async with opened(root, model) as assistant:
        await assistant.workspace.refresh()
        selection = Selection("retry.py", 0, 2, CODE[:90], "python", str(root))
        await events_of(assistant, question("", mode="explain", selection=selection))
    text = model.prompts[0].messages[-1].text
    assert text.startswith("Selected: retry.py:1-3 (retry)\n```python\ndef retry(request):")
    assert text.endswith("Explain the selected code.")


async def test_a_cancelled_turn_stops_the_model_and_keeps_what_was_said(root: Path) -> None:
    model = EchoModel("partial reply", "next")
    async with opened(root, model) as assistant:
        await assistant.workspace.refresh()
        model.released.clear()
        async with aclosing(assistant.ask(question("first"))) as events:
            async for event in events:
                if isinstance(event, Text):
                    break
        assert model.n_closed == 1
        model.released.set()
        await events_of(assistant, question("second", "2"))
    assert [m.text for m in model.prompts[1].messages if m.role == "assistant"] == ["partial "]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        (question(""), "text"),
        (question("  \n"), "text"),
        (question("x" * 200_001), "text"),
        (question("x", mode="shout"), "mode"),
        (question("x", parent_turn_id="nope"), "parentTurnId"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_field(
    root: Path, asked: Question, field: str
) -> None:
    async with opened(root) as assistant:
        with pytest.raises((BadInput, UnknownTurn)) as raised:
            await events_of(assistant, asked)
    assert raised.value.field == field


async def test_a_turn_id_is_used_once(root: Path) -> None:
    async with opened(root) as assistant:
        await events_of(assistant, question("retry"))
        with pytest.raises(BadInput, match="already"):
            await events_of(assistant, question("retry"))


@pytest.mark.parametrize("name", ["missing", "file", "loop"])
def test_a_workspace_that_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(WorkspaceNotFound, match="name the folder"):
        Assistant(resolve(), [tmp_path / name])


async def test_an_empty_folder_and_no_folder_give_an_answer(tmp_path: Path) -> None:
    async with opened(tmp_path) as assistant:
        await assistant.workspace.refresh()
        assert "Nothing in this workspace" in _text(await events_of(assistant, question("x")))
        assistant.workspace.remove_root(tmp_path)
        events = await events_of(assistant, question("x", "2"))
        assert events[0] == Step("No folder is open; answering from what is selected")


async def test_several_folders_are_searched_together(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "more.py").write_text("def retry_later(): pass\n")
    async with opened(root) as assistant:
        assistant.workspace.add_root(other)
        await assistant.workspace.refresh()
        roots = {hit.root for hit in await assistant.workspace.search("retry")}
        assert roots == {root, other}
        assistant.workspace.remove_root(other)
        assert {hit.root for hit in await assistant.workspace.search("retry")} == {root}


async def test_folders_come_and_go_while_questions_run(root: Path, tmp_path: Path) -> None:
    """Whatever is opened, indexed or asked at one moment: no error, and at rest all is right."""
    others = []
    for n in range(4):
        folder = tmp_path / f"other{n}"
        folder.mkdir()
        for m in range(60):
            (folder / f"m{m}.py").write_text(f"def retry_{n}_{m}(): pass\n")
        others.append(folder)
    async with opened(root) as assistant:
        asks: list[asyncio.Future[object]] = []
        for n, folder in enumerate(others * 3):
            assistant.workspace.add_root(folder)
            asks += [
                asyncio.ensure_future(events_of(assistant, question("retry", f"{n}"))),
                asyncio.ensure_future(assistant.workspace.refresh()),
                asyncio.ensure_future(assistant.status()),
            ]
            await asyncio.sleep(0)
            assistant.workspace.remove_root(others[(n + 2) % 4])
        results = await asyncio.gather(*asks, return_exceptions=True)
        assert [r for r in results if isinstance(r, Exception)] == []
        await assistant.workspace.refresh()
        found = {hit.root for hit in await assistant.workspace.search("retry", 200)}
        assert found == set(assistant.workspace.roots)


async def test_callers_share_a_refresh_and_the_last_one_to_leave_stops_it(tmp_path: Path) -> None:
    for n in range(300):
        (tmp_path / f"m{n}.py").write_text(f"def function_{n}(): pass\n")
    async with opened(tmp_path) as assistant:
        reports: list[Progress] = []
        started = asyncio.Event()

        def report(progress: Progress) -> None:
            reports.append(progress)
            started.set()

        first = asyncio.create_task(assistant.workspace.refresh(report))
        second = asyncio.create_task(assistant.workspace.refresh())
        await started.wait()
        first.cancel()
        done = await second
        assert done.is_complete
        assert first.cancelled()
        for n in range(300):
            (tmp_path / f"m{n}.py").write_text(f"def other_{n}(): pass\n")
        started.clear()
        third = asyncio.create_task(assistant.workspace.refresh(report))
        await started.wait()
        third.cancel()
        with pytest.raises(asyncio.CancelledError):
            await third
        status = await assistant.status()
        assert status.indexes[0].state == "ready"
        assert (await assistant.workspace.refresh()).is_complete


async def test_closing_while_it_indexes_is_quick_and_loses_nothing(tmp_path: Path) -> None:
    root = tmp_path / "workspace"  # beside what is kept of it
    root.mkdir()
    for n in range(300):
        (root / f"m{n}.py").write_text(f"def function_{n}(): pass\n")
    async with opened(root) as assistant:
        started = asyncio.Event()
        task = asyncio.create_task(assistant.workspace.refresh(lambda _: started.set()))
        await started.wait()
    await asyncio.gather(task, return_exceptions=True)
    async with opened(root) as assistant:
        assert (await assistant.workspace.refresh()).is_complete
        assert (await assistant.status()).indexes[0].n_files == 300


def _text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


async def test_a_server_of_somebody_else_answers(root: Path) -> None:
    stream = stream_head() + event("It is ") + event("in retry.py.", "stop") + b"data: [DONE]\n\n"
    models = http(200, {"data": [{"id": "coder", "max_model_len": 4096}]})
    # Window, then the tokens of what is shown, which it does not count, then the question.
    async with answering(models, http(404, {}), stream) as (url, asked):
        settings = resolve({"model": {"url": f"{url}/v1", "name": "coder"}})
        assistant = Assistant(settings, [root])
        await assistant.start()
        await assistant.workspace.refresh()
        done = (await events_of(assistant, question("Where is retry?")))[-1]
        await assistant.close()
    assert isinstance(done, Done)
    assert done.text == "It is in retry.py."
    assert (done.usage.model, done.usage.route) == ("coder", "the configured server")
    assert asked[-1]["model"] == "coder"
    assert "def retry" in str(asked[-1]["messages"])


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"url": "https://api.example.com/v1", "name": "x"}, "model.url"),
        ({"url": "http://127.0.0.1.example.com", "name": "x"}, "model.url"),
        ({"url": "http://127.0.0.1:1"}, "model.name"),
    ],
)
def test_a_server_elsewhere_is_refused(options: dict[str, object], field: str) -> None:
    """There is no gate yet before what leaves the machine."""
    with pytest.raises(SettingError) as raised:
        Assistant(resolve({"model": options}), [])
    assert raised.value.field == field
