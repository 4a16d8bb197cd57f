"""Chats through the API: kept, continued, forked, asked anew; the prompt only grows at its end."""

import itertools
import sqlite3
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsp_assist.assistant import Assistant, Question
from lsp_assist.config import resolve
from lsp_assist.errors import BadInput, UnknownTurn
from lsp_assist.flows import Asked, Done, Event, Text, Titled
from lsp_assist.llm import Message, Sampling
from tests.test_assistant import EchoModel, events_of, opened, question

PLAN = "<meta hidden k=strat>\nOutline: none\n</meta>\n\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (folder / "retry.py").write_text("def retry(request):\n    return send(request)\n")
    return folder


def texts(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Text))


def messages(model: EchoModel) -> list[tuple[Message, ...]]:
    return [prompt.messages for prompt in model.prompts]


async def test_a_chat_goes_on_after_a_restart(root: Path) -> None:
    model = EchoModel("one", "two")
    async with opened(root, model) as assistant:
        await events_of(assistant, question("first", "1"))
    async with opened(root, model) as assistant:
        await events_of(assistant, question("second", "2"))
        chat = await assistant.chats.existing("chat")
    first, second = messages(model)
    assert second[: len(first)] == first
    assert second[len(first)].text == "one "
    assert [turn.status for turn in chat.chat.path("2")] == ["done", "done"]
    assert chat.chat.turns["1"].model == "echo"


async def test_another_model_and_mode_go_on_with_what_was_sent(root: Path) -> None:
    ours, theirs = EchoModel("one", "three"), EchoModel("two")
    theirs.name = "theirs"
    for n, (model, mode) in enumerate([(ours, "explain"), (theirs, "review"), (ours, "tutor")], 1):
        async with opened(root, model) as assistant:
            await events_of(assistant, question("why", f"{n}", mode=mode, personality="terse"))
            chat = (await assistant.chats.existing("chat")).chat
    sent = [*messages(ours)[:1], *messages(theirs), *messages(ours)[1:]]
    for earlier, later in itertools.pairwise(sent):
        assert later[: len(earlier)] == earlier
    assert [turn.model for turn in chat.turns.values()] == ["echo", "theirs", "echo"]
    assert [turn.mode for turn in chat.turns.values()] == ["explain", "review", "tutor"]
    system = sent[0][0].text
    assert "<meta hidden k=strat>" in sent[2][-1].text
    assert "as few words as possible" in sent[0][-1].text
    assert all(prompt[0].text == system for prompt in sent)


async def test_a_question_is_asked_in_other_words(root: Path) -> None:
    model = EchoModel("one", "two", "three", "four")
    async with opened(root, model) as assistant:
        await events_of(assistant, question("first", "1"))
        await events_of(assistant, question("second", "2"))
        await events_of(assistant, question("second, better", "3", beside_turn_id="2"))
        await events_of(assistant, question("first, better", "4", beside_turn_id="1"))
        chat = (await assistant.chats.existing("chat")).chat
    first, second, better, anew = messages(model)
    assert better[: len(second) - 1] == second[:-1]
    assert anew[:-1] == first[:-1]
    assert [turn.parent_id for turn in chat.turns.values()] == [None, "1", "1", None]


async def test_a_reply_is_made_once_more_from_the_very_same_prompt(root: Path) -> None:
    model = EchoModel("one", "two", "three")
    async with opened(root, model) as assistant:
        await events_of(assistant, question("first", "1"))
        (root / "retry.py").write_text("def other(): pass\n")
        events = await events_of(assistant, question("", "2", beside_turn_id="1"))
        await events_of(assistant, question("next", "3"))
    first, again, following = messages(model)
    assert again == first
    assert texts(events) == "two "
    assert following[: len(first) + 1][-1].text == "two "


@pytest.mark.parametrize(
    ("asked", "error", "field"),
    [
        (question("x", "2", beside_turn_id="nope"), UnknownTurn, "parentTurnId"),
        (question("x", "2", beside_turn_id="1", parent_turn_id="1"), BadInput, "besideTurnId"),
        (question("x", "1"), BadInput, "turnId"),
        (question("x", "2", personality="nobody"), BadInput, "personality"),
    ],
)
async def test_what_cannot_be_continued_is_refused(
    root: Path, asked: Question, error: type[BadInput], field: str
) -> None:
    async with opened(root) as assistant:
        await events_of(assistant, question("first", "1"))
        with pytest.raises(error) as raised:
            await events_of(assistant, asked)
    assert raised.value.field == field


async def test_the_first_question_gives_the_title(root: Path) -> None:
    async with opened(root, EchoModel("one", "two")) as assistant:
        text = "Why\n does it fail?\n```\ncode\n```"
        first = await events_of(assistant, question(text, "1"))
        second = await events_of(assistant, question("And now?", "2"))
        (summary,) = await assistant.chats.summaries([str(root)])
    assert [e.title for e in first if isinstance(e, Titled)] == ["Why does it fail?"]
    assert not [e for e in second if isinstance(e, Titled)]
    assert (summary.title, summary.n_turns) == ("Why does it fail?", 2)


async def test_a_plan_is_hidden_and_stays_in_the_prompt(root: Path) -> None:
    model = EchoModel(f"{PLAN}The answer.", "two")
    async with opened(root, model) as assistant:
        events = await events_of(assistant, question("first", "1", mode="tutor"))
        await events_of(assistant, question("second", "2"))
    done = events[-1]
    assert isinstance(done, Done)
    assert texts(events) == done.text == "The answer. "
    assert messages(model)[1][2].text == f"{PLAN}The answer. "


async def test_two_who_begin_one_chat_at_once_have_a_branch_each(root: Path) -> None:
    models = EchoModel("one", "three"), EchoModel("two")
    async with opened(root, models[0]) as mine, opened(root, models[1]) as theirs:
        for model in models:
            model.released.clear()
        asks = mine.ask(question("first", "1")), theirs.ask(question("too", "2"))
        for ask in asks:
            async for event in ask:
                if isinstance(event, Text):
                    break
        for model, ask in zip(models, asks, strict=True):
            model.released.set()
            assert [e async for e in ask if isinstance(e, Done)]
        chat = (await mine.chats.existing("chat")).chat
        assert chat == (await theirs.chats.existing("chat")).chat
        assert {turn.parent_id for turn in chat.turns.values()} == {None}
        await events_of(mine, question("next", "3", parent_turn_id="2"))
    assert messages(models[0])[1][:-2] == messages(models[1])[0]


async def test_a_reply_is_on_disk_while_it_comes(root: Path) -> None:
    """Another process sees it grow; what a killed one leaves is what was written."""
    model = EchoModel("half a reply")
    async with opened(root, model) as mine, opened(root) as theirs:
        model.released.clear()
        async with aclosing(mine.ask(question("first", "1"))) as events:
            async for event in events:
                if isinstance(event, Text):
                    break
            while True:
                turn = (await theirs.chats.existing("chat")).chat.turns["1"]
                if turn.reply.text:
                    break
            assert (turn.status, turn.reply.text) == ("running", "half ")
            with pytest.raises(BadInput, match="still being answered"):
                await events_of(theirs, question("x", "2", parent_turn_id="1"))
            warmed = await theirs.warm(question("x", "2", parent_turn_id="1"))
            assert "still being answered" in warmed.reason
        turn = (await theirs.chats.existing("chat")).chat.turns["1"]
    assert (turn.status, turn.reply.text) == ("cancelled", "half ")


async def test_a_turn_that_is_cancelled_when_it_is_sent_keeps_its_place(root: Path) -> None:
    model = EchoModel("never", "next")
    async with opened(root, model) as assistant:
        async with aclosing(assistant.ask(question("first", "1"))) as events:
            async for event in events:
                if isinstance(event, Asked):
                    break
        await events_of(assistant, question("second", "2"))
        chat = (await assistant.chats.existing("chat")).chat
    assert [turn.status for turn in chat.path("2")] == ["cancelled", "done"]
    assert [m.role for m in messages(model)[0]] == ["system", "user", "assistant", "user"]


async def test_damaged_chats_cost_no_answer_and_are_told(root: Path) -> None:
    settings = resolve()
    path = settings.places.data / "chats.sqlite3"
    path.parent.mkdir(parents=True)
    path.write_text("damaged")
    async with opened(root, EchoModel("one")) as assistant:
        assert texts(await events_of(assistant, question("first", "1"))) == "one "
        status = await assistant.status()
    assert "were damaged" in status.warnings[0]
    assert status.n_chats == 1


async def test_chats_of_a_newer_version_are_left_alone_and_told(root: Path) -> None:
    path = resolve().places.data / "chats.sqlite3"
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    async with opened(root, EchoModel("one", "two")) as assistant:
        await events_of(assistant, question("first", "1"))
        assert texts(await events_of(assistant, question("second", "2"))) == "two "
        status = await assistant.status()
        assert assistant.chats.problem is not None
    assert "newer lsp-assist" in status.warnings[0]
    async with opened(root) as assistant:
        assert (await assistant.status()).n_chats == 0


async def test_a_mode_says_how_the_reply_is_drawn(root: Path) -> None:
    """Temperature, length and what is shown come from the mode; the user's 0 stays 0."""
    model = _Listening("one", "two", "three")
    folder = resolve().places.config / "modes"
    folder.mkdir(parents=True)
    (folder / "mine.md").write_text(
        '+++\ntemperature = 1.5\nanswer_length = "brief"\ncontext = "selection"\n+++\nMine.\n'
    )
    async with opened(root, model) as assistant:
        await assistant.workspace.refresh()
        await events_of(assistant, question("retry", "1", mode="mine"))
        (folder / "mine.md").write_text("Changed.\n")
        await events_of(assistant, question("retry", "2", mode="mine"))
        model_settings = replace(assistant.settings.model, temperature=0.0)
        assistant.settings = replace(assistant.settings, model=model_settings)
        await events_of(assistant, question("retry", "3", mode="brainstorm"))
    assert [(s.temperature, s.max_tokens) for s in model.samplings] == [
        *((1.5, 512), (0.2, 1024), (0.0, 2048))
    ]
    first, second, _ = messages(model)
    assert first[-1].text == "Mine.\n\nretry"
    assert second[-1].text.startswith("Changed.\n\nretry\n\nFound for this question:")
    assert "Excerpt: retry.py" in second[-1].text


class _Listening(EchoModel):
    """Remembers how it was asked as well."""

    def __init__(self, *replies: str) -> None:
        super().__init__(*replies)
        self.samplings: list[Sampling] = []

    def stream(self, prompt, sampling):  # type: ignore[no-untyped-def]  # as the model below it
        self.samplings.append(sampling)
        return super().stream(prompt, sampling)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "ask after", "beside", "again", "fork", "restart"]),
        st.integers(0, 50),
        st.sampled_from(["", "explain", "tutor"]),
    ),
    min_size=1,
    max_size=10,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(STEPS)
async def test_every_prompt_of_a_branch_extends_the_one_before(
    root: Path, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, str]]
) -> None:
    """Whatever is done with chats, in whatever order, and across restarts."""
    home = tmp_path_factory.mktemp("home")
    chosen = resolve(environ={"LSP_ASSIST_HOME": str(home)})
    sent: dict[str, tuple[Message, ...]] = {}
    chats = ["c0"]
    assistant = Assistant(chosen, [root], model=EchoModel())
    for n, (action, which, mode) in enumerate(steps):
        chat_id = chats[which % len(chats)]
        stored = await assistant.chats.load(chat_id)
        ids = list(stored.chat.turns) if stored else []
        at = ids[which % len(ids)] if ids else None
        if action == "restart":
            await assistant.close()
            assistant = Assistant(chosen, [root], model=EchoModel())
            continue
        if action == "fork":
            if at is not None:
                chats.append(f"f{n}")
                await assistant.chats.fork(chat_id, at, f"f{n}")
            continue
        model = EchoModel(f"{PLAN}reply {n}")
        assistant._model = model
        asked = Question(f"question {n}", chat_id, f"t{n}", mode=mode)
        if at is not None and action == "ask after":
            asked = replace(asked, parent_turn_id=at)
        elif at is not None and action in ("beside", "again"):
            text = asked.text if action == "beside" else ""
            asked = replace(asked, beside_turn_id=at, text=text)
        await events_of(assistant, asked)
        chat = (await assistant.chats.existing(chat_id)).chat
        (prompt,) = messages(model)
        sent[f"t{n}"] = prompt
        parent = chat.turns[f"t{n}"].parent_id
        if parent is not None:
            before = sent[parent]
            assert prompt[: len(before)] == before
            assert prompt[len(before)] == chat.turns[parent].reply
            assert len(prompt) == len(before) + 2
    await assistant.close()
