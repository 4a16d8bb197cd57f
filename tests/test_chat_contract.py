"""The contract over whole chats: whatever is done with them, a prompt only grows at its end.

Each scenario goes through the assistant as an editor would: typed, looked at, asked; forked, asked
anew, answered again, cancelled, exported, restarted. What was sent is read with real vocabularies
and the chat templates of the models that people run.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import ExitStack, aclosing
from pathlib import Path

import pytest

from lsp_assist.assistant import Assistant, Question
from lsp_assist.chat import exchange, log
from lsp_assist.chat.hidden import visible
from lsp_assist.config import resolve
from lsp_assist.engine.llama import Weights
from lsp_assist.flows import Done, Text
from lsp_assist.flows.warm import Warmer
from lsp_assist.llm import Delta, Prompt, Sampling, Usage, WarmPriority
from tests.context.reader import TEMPLATES, Reader
from tests.engine.tiny import make_model
from tests.flows.model import KeptModel

PLAN = "<meta hidden k=strat>\nOutline: none\n</meta>\n\n"
CODE = "def retry_{n}(request):\n    return send(request, {n})\n\n\nclass C{n}:\n    n = {n}\n"


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Reader]]:
    """Each template over a vocabulary of each kind."""
    folder = tmp_path_factory.mktemp("models")
    with ExitStack() as stack:
        vocabularies = [
            stack.enter_context(Weights(make_model(folder / name, tokenizer=name), n_gpu_layers=0))
            for name in ("bpe", "sentencepiece")
        ]
        yield [Reader(weights, source) for weights in vocabularies for source in TEMPLATES.values()]


class SpeakingModel(KeptModel):
    """Says what it is told to, and keeps what it was asked and warmed with."""

    def __init__(self, window: int) -> None:
        super().__init__(window)
        self.reply = ""
        self.asked: list[tuple[Prompt, Sampling]] = []
        self.warmed: list[tuple[Prompt, Sampling]] = []

    async def stream(self, prompt: Prompt, sampling: Sampling) -> AsyncGenerator[Delta, None]:
        """The reply, in two pieces."""
        self.asked.append((prompt, sampling))
        half = len(self.reply) // 2
        yield Delta(self.reply[:half])
        yield Delta(self.reply[half:])
        yield Delta(usage=Usage(self.name))

    async def warm(
        self,
        prompt: Prompt,
        *,
        sampling: Sampling = Sampling(),  # noqa: B008  # a value that never changes
        priority: WarmPriority = "background_warm_up",
        speculative: bool = False,
    ) -> Usage:
        """Keeps what was typed."""
        if priority == "typed_warm_up":
            self.warmed.append((prompt, sampling))
        return Usage(self.name)


class Talk:
    """A person at an editor, who does to chats what can be done."""

    def __init__(self, root: Path, window: int) -> None:
        self.root = root
        self.model = SpeakingModel(window)
        self.sent: dict[str, Prompt] = {}
        self.shown: dict[str, str] = {}
        self.chats = {"chat"}
        self.packs: list[str] = []
        """How much of the project each new chat began with."""
        self._n_versions = 0

    async def open(self) -> None:
        """Start a server."""
        # Vectors may come between looking and asking, and then other places are found.
        settings = resolve({"index": {"embedder": "none"}})
        self.assistant = Assistant(
            settings, [self.root], model=self.model, warmer=Warmer(typed_after_s=0, rest_s=0)
        )
        await self.assistant.start()
        await self.assistant.workspace.refresh()

    async def restart(self) -> None:
        """Stop the server, and start another one."""
        await self.assistant.close()
        await self.open()

    async def ask(self, turn: str, text: str, chat: str = "chat", **more: object) -> None:
        """Look at a question, have it warmed, ask it: the model is shown the same thrice."""
        asked = Question(text, chat, turn, **more)  # type: ignore[arg-type]  # as the scenarios name them
        self.model.reply = f"{PLAN}Reply to {turn}: see `retry_1` in m1.py:1.\n"
        preview, _ = await self.assistant.context(asked)
        if preview.pack_kind:
            self.packs.append(preview.pack_kind)
        await self.assistant.warm(asked)
        await self._answered(asked, Done)
        prompt, sampling = self.model.asked[-1]
        assert preview.prompt == prompt
        assert self.model.warmed[-1][0] == prompt
        if text:
            assert self.model.warmed[-1][1] == sampling, "the reply may be begun ahead"

    async def ask_and_cancel(self, turn: str, text: str, chat: str = "chat") -> None:
        """Stop a reply in its middle."""
        self.model.reply = "half, and the other half"
        await self._answered(Question(text, chat, turn), Text)

    async def _answered(self, asked: Question, until: type[Done] | type[Text]) -> None:
        shown: list[str] = []
        async with aclosing(self.assistant.ask(asked)) as events:
            async for event in events:
                if isinstance(event, Text):
                    shown.append(event.text)
                if isinstance(event, until):
                    break
        self.sent[asked.turn_id] = self.model.asked[-1][0]
        self.shown[asked.turn_id] = "".join(shown)
        self.chats.add(asked.chat_id)

    def edit(self, path: str, text: str) -> None:
        """Type into a file without saving it."""
        workspace, file = self.assistant.workspace, self.root / path
        uri = file.as_uri()
        if workspace.documents.get(uri) is not None:
            workspace.documents.close(uri)
        self._n_versions += 1
        workspace.documents.open(uri, file, "python", self._n_versions, text)
        workspace.document_changed(uri)

    def save(self, path: str, text: str) -> None:
        """Write a file."""
        (self.root / path).write_text(text)
        self.assistant.workspace.file_changed(self.root / path)


async def forks(talk: Talk) -> None:
    """Fork at the first turn, in its middle, and at the end, and go on in all of them."""
    for turn in ("1", "2", "3"):
        await talk.ask(turn, f"Question {turn}?")
    for turn in ("1", "2", "3"):
        await talk.assistant.chats.fork("chat", turn, f"fork {turn}")
        await talk.ask(f"f{turn}", "Another way?", f"fork {turn}")
        await talk.ask(f"g{turn}", "And then?", f"fork {turn}")
    await talk.ask("4", "Back in the first?")
    await talk.ask("5", "From its middle?", parent_turn_id="2")


async def asked_anew(talk: Talk) -> None:
    """Other words for a question, also for the first, and on from there."""
    await talk.ask("1", "Where is it sent?")
    await talk.ask("2", "Why?")
    talk.edit("m1.py", "def retry_1(request):\n    return None\n")
    await talk.ask("3", "Why, in short?", beside_turn_id="2")
    await talk.ask("4", "And then?")
    await talk.ask("5", "Where is it received?", beside_turn_id="1")
    await talk.ask("6", "And then?", parent_turn_id="5")


async def answered_again(talk: Talk) -> None:
    """The very same prompt, whatever was edited meanwhile, with another seed."""
    await talk.ask("1", "Where is it sent?", mode="tutor", personality="terse")
    await talk.ask("2", "Why?")
    talk.save("m1.py", "def other(): pass\n")
    await talk.ask("3", "", beside_turn_id="2")
    await talk.ask("4", "", beside_turn_id="1")
    await talk.ask("5", "And now?", parent_turn_id="4")
    assert talk.sent["3"] == talk.sent["2"]
    assert talk.sent["4"] == talk.sent["1"]
    seeds = [sampling.seed for _, sampling in talk.model.asked]
    assert len(set(seeds)) == len(seeds)
    turn = (await talk.assistant.chats.existing("chat")).chat.turns["4"]
    assert (turn.mode, turn.personality) == ("tutor", "terse")


async def manners(talk: Talk) -> None:
    """Each turn in another mode, length and tone."""
    modes = ("", "explain", "brainstorm", "tutor", "review", "refactor", "ask")
    for n, mode in enumerate(modes):
        await talk.ask(f"{n}", "Why?", mode=mode, personality=("", "terse", "mentor")[n % 3])
    await talk.ask("new", "Why?", "another", mode="brainstorm")
    assert talk.sent["new"].messages[0] == talk.sent["0"].messages[0], "all chats begin alike"


async def plans(talk: Talk) -> None:
    """What the model planned is sent on, and not shown."""
    for turn in ("1", "2", "3"):
        await talk.ask(turn, "Why?", mode="tutor")
    for turn, shown in talk.shown.items():
        assert shown == f"Reply to {turn}: see `retry_1` in m1.py:1.\n"
    assert PLAN in talk.sent["3"].messages[-2].text


async def cancelled(talk: Talk) -> None:
    """A reply that was stopped keeps its place with what was said."""
    await talk.ask("1", "Where?")
    await talk.ask_and_cancel("2", "Why?")
    await talk.ask("3", "Then what?")
    await talk.restart()
    await talk.ask_and_cancel("4", "Again?")
    await talk.ask("5", "And?")
    assert talk.sent["5"].messages[-2].text == "half, and th"


async def edited(talk: Talk) -> None:
    """Files that change in the editor and on disk, come and go."""
    await talk.ask("1", "Where?")
    for n in range(2, 6):
        talk.edit("m2.py", f"def retry_2(request):\n    return {n}\n")
        talk.save("m3.py", f"def retry_3(request):\n    return {n}\n")
        await talk.ask(f"{n}", "And now?")
    assert "return 5" in talk.sent["5"].messages[-1].text, "the model sees what is true"
    (talk.root / "m4.py").unlink()
    talk.assistant.workspace.file_changed(talk.root / "m4.py")
    talk.save("new.py", "def made(): pass\n")
    await talk.ask("6", "What was made?")
    await talk.ask("7", "Thanks")


async def restarted(talk: Talk) -> None:
    """A new server goes on where the old one stood, and still knows what was shown."""
    await talk.ask("1", "Where?", mode="explain")
    talk.edit("m1.py", "def retry_1(request):\n    return 'unsaved'\n")
    await talk.ask("2", "Why?")
    await talk.restart()
    await talk.ask("3", "And now?")
    told = [s for s in talk.sent["3"].messages[-1].segments if s.kind == "change"]
    assert [s.source.path for s in told if s.source] == ["m1.py"], "what was not saved is gone"
    await talk.restart()
    await talk.ask("4", "Nothing changed?")
    assert not [s for s in talk.sent["4"].messages[-1].segments if s.kind == "change"]


async def imported(talk: Talk) -> None:
    """An exported chat goes on elsewhere with the prompt that it had."""
    await talk.ask("1", "Where?", mode="tutor")
    talk.edit("m1.py", "def retry_1(request):\n    return 'edited'\n")
    await talk.ask("2", "Why?")
    await talk.ask("3", "Why, in short?", beside_turn_id="2")
    stored = await talk.assistant.chats.existing("chat")
    text = log.render(exchange.log_of(stored))
    await talk.assistant.chats.delete("chat")
    talk.chats = {"copy"}
    copy = exchange.chat_of(log.parse(text), "copy", [str(talk.root)], lambda: "made")
    await talk.assistant.chats.add(copy)
    await talk.ask("4", "And then?", "copy")
    assert not [s for s in talk.sent["4"].messages[-1].segments if s.kind == "change"]
    await talk.restart()
    await talk.ask("5", "And the other branch?", "copy", parent_turn_id="2")


SCENARIOS: dict[str, tuple[Callable[[Talk], Awaitable[None]], int]] = {
    "forks": (forks, 10),
    "asked anew": (asked_anew, 4),
    "answered again": (answered_again, 3),
    "manners": (manners, 6),
    "plans": (plans, 2),
    "cancelled": (cancelled, 4),
    "edited": (edited, 6),
    "restarted": (restarted, 3),
    "imported": (imported, 4),
}
"""Each with the number of turns in it that follow another one."""


@pytest.mark.parametrize("window", [5_000, 20_000], ids=["outlined", "whole"])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_the_tokens_of_a_turn_begin_with_those_of_its_parent_and_the_reply_to_it(
    tmp_path: Path, readers: list[Reader], name: str, window: int
) -> None:
    root = tmp_path / "workspace"
    root.mkdir()
    for n in range(12):
        (root / f"m{n}.py").write_text(CODE.format(n=n) * 20)
    talk = Talk(root, window)
    play, n_following = SCENARIOS[name]
    await talk.open()
    try:
        await play(talk)
        chats = [(await talk.assistant.chats.existing(chat)).chat for chat in talk.chats]
    finally:
        await talk.assistant.close()
    assert (talk.packs[0] == "whole") == (window == 20_000)
    following = {
        turn.id: chat.turns[turn.parent_id]
        for chat in chats
        for turn in chat.turns.values()
        if turn.parent_id is not None
    }
    assert len(following) == n_following
    for turn_id, parent in following.items():
        assert visible(parent.reply.text) == talk.shown[parent.id]
        for reader in readers:
            first, second = (reader.tokens(talk.sent[t]) for t in (parent.id, turn_id))
            assert second[: len(first)] == first
            after = reader.text(second[len(first) :])
            assert after.strip().startswith(parent.reply.text.strip()), "the reply follows"
