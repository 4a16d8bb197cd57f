import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

import pytest

from lsp_assist.engine.requests import Ended, GenerateRequest, Piece, Prefilled, Priority
from lsp_assist.engine.service import Engine, EngineSettings, EngineStatus
from lsp_assist.engine.template import Turn
from lsp_assist.errors import BadInput, ContextTooLong, ModelFileError, ModelUnavailable
from lsp_assist.llm import Sampling
from tests.engine.bare import bare_greedy, run_python
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


def model_threads() -> list[str]:
    return [name for name in threads() if "model" in name or "writer" in name]


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


async def cold(settings: EngineSettings, request: GenerateRequest) -> str:
    """What an engine says that never saw anything."""
    fresh = Engine(replace(settings, state_budget_bytes=0))
    said = await ask(fresh, request)
    await fresh.close()
    assert said.n_cached == 0
    return said.text


async def until(engine: Engine, condition: Callable[[EngineStatus], bool]) -> None:
    """Waits until the figures of the engine say so."""
    while not condition(await engine.status()):  # noqa: ASYNC110 - the engine tells nobody
        await asyncio.sleep(0)


async def until_quiet(engine: Engine) -> None:
    """Waits until nothing runs, also nothing that nobody waits for."""
    await until(engine, lambda status: not status.n_running + status.n_waiting)


async def test_a_fork_starts_while_its_parent_is_generating(
    engine: Engine, settings: EngineSettings
) -> None:
    """It computes its own question only, and neither disturbs the other."""
    context = "Where is it retried? " * 40
    asked = chat(context, "In client.py.", "Why?", sampling=replace(GREEDY, max_tokens=400))
    fork = chat(context, "In client.py.", "And where does it wait longer?", sampling=GREEDY)
    alone, fork_alone = await cold(settings, asked), await cold(settings, fork)
    for attempt in range(50):
        order: list[str] = []

        async def run(name: str, request: GenerateRequest, order: list[str] = order) -> Said:
            said = await ask(engine, request)
            order.append(name)
            return said

        n_before = (await engine.status()).counters["forks"]
        parent = asyncio.create_task(run("parent", asked))
        await until(engine, lambda status: status.n_running > 0)
        forked = await run("fork", fork)
        assert (await parent).text == alone
        assert forked.text == fork_alone
        is_first = attempt == 0
        if not is_first and order == ["fork", "parent"]:
            assert forked.n_cached >= forked.n_prompt - 20
            assert (await engine.status()).counters["forks"] > n_before
            return
    raise AssertionError("no fork came while the parent was generating")


async def test_branches_of_one_chat_keep_their_tails(engine: Engine) -> None:
    """Turning to and fro between two forks computes nothing again but the last token."""
    context = "You retry. " * 30
    left, right = chat(context, "a", "Where is it sent?"), chat(context, "b", "Who waits longer?")
    for _ in range(3):
        for request in (left, right):
            said = await ask(engine, request)
    for request in (left, right):
        said = await ask(engine, request)
        assert said.n_cached == said.n_prompt - 1


async def test_four_questions_at_once_compute_a_common_prefix_once(
    engine: Engine, settings: EngineSettings
) -> None:
    context = "The function retry in client.py calls send again. " * 40
    asked = [chat(context, "a", f"Question {n}?") for n in range(4)]
    said = await asyncio.gather(*(ask(engine, request) for request in asked))
    computed = [one.n_prompt - one.n_cached for one in said]
    assert sum(computed) < 1.5 * said[0].n_prompt
    for request, one in zip(asked, said, strict=True):
        assert one.text == await cold(settings, request)


async def test_completions_of_one_prompt_share_it(engine: Engine) -> None:
    hot = Sampling(temperature=2.0, top_k=0, top_p=1, min_p=0, seed=5, max_tokens=12)
    three = await ask(engine, replace(chat(QUESTION, sampling=hot), n=3))
    assert sorted(one.index for one in three.ended) == [0, 1, 2]
    assert len(set(three.texts.values())) == 3
    for n in range(3):
        alone = await ask(engine, chat(QUESTION, sampling=replace(hot, seed=5 + n)))
        assert alone.text == three.texts[n]


async def test_a_question_preempts_a_warm_up_which_goes_on_later(engine: Engine) -> None:
    await ask(engine, chat("load"))
    long = chat("Where is it retried? " * 250, sampling=WARM)
    for attempt in range(50):
        order: list[str] = []
        turns = (Turn("system", str(attempt)), *long.prompt)
        warm_up = replace(long, prompt=turns, priority=Priority.BACKGROUND_WARM_UP)

        async def run(name: str, request: GenerateRequest, order: list[str] = order) -> Said:
            said = await ask(engine, request)
            order.append(name)
            return said

        warming = asyncio.create_task(run("warm-up", warm_up))
        await until(engine, lambda status: status.n_running > 0)
        await run("question", chat(f"Question {attempt}"))
        said = await warming
        assert said.n_prompt > 1000
        if order == ["question", "warm-up"] and (await engine.status()).counters["preempted"]:
            return
    raise AssertionError("no question arrived inside a warm-up")


async def test_a_cancel_inside_the_prefill_keeps_what_was_computed(
    engine: Engine, settings: EngineSettings
) -> None:
    await ask(engine, chat("load"))
    for attempt in range(50):
        asked = chat(f"{attempt} " + "Where is retry? " * 300)
        task = asyncio.create_task(ask(engine, asked))
        await until(engine, lambda status: status.n_resident_tokens > 300)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        said = await ask(engine, asked)
        if 100 < said.n_cached < said.n_prompt - 1:
            break
    else:
        raise AssertionError("no cancel arrived inside the prefill")
    assert said.text == await cold(settings, asked)


async def test_unrelated_chats_are_parked_and_come_back(
    engine: Engine, settings: EngineSettings
) -> None:
    chats = [chat(f"{n}: " + "You wait longer each time. " * 40) for n in range(5)]
    first = [await ask(engine, request) for request in chats]
    status = await engine.status()
    assert status.counters["parked"] >= 3
    assert status.n_resident_tokens < sum(one.n_prompt for one in first) / 2
    for request, before in zip(chats, first, strict=True):
        again = await ask(engine, request)
        assert again.n_cached == again.n_prompt - 1
        assert again.text == before.text == await cold(settings, request)
    assert (await engine.status()).counters["restored"] >= 4


async def test_a_chat_survives_the_process_on_disk(settings: EngineSettings) -> None:
    """With its forks: only what each adds is written, and read."""
    context = "The server answers with an error. " * 40
    asked = [chat(context, "a", f"Question {n}?" * 8) for n in range(3)]
    engine = Engine(settings)
    before = [await ask(engine, request) for request in asked]
    await engine.close()
    engine = Engine(settings)
    for request, one in zip(asked, before, strict=True):
        again = await ask(engine, request)
        assert again.n_cached == again.n_prompt - 1
        assert again.text == one.text
    await engine.close()


async def test_a_killed_process_has_kept_what_was_warm(
    engine: Engine, settings: EngineSettings
) -> None:
    """In a quiet moment everything is written, also what waits for its question."""
    await ask(engine, replace(chat(QUESTION * 20, sampling=WARM), is_speculative=True))
    await until(engine, lambda status: status.counters["written"] > 0)
    heir = Engine(settings)
    said = await ask(heir, chat(QUESTION * 20))
    assert said.n_cached == said.n_prompt - 1
    await heir.close()


async def test_more_chats_than_the_cache_holds(settings: EngineSettings) -> None:
    """Without a store for them, the oldest is computed again."""
    small = replace(
        settings, n_ctx=512, kv_budget_tokens=512, state_budget_bytes=0, state_memory_bytes=0
    )
    engine = Engine(small)
    chats = [chat(f"{n}: " + "Where is retry? " * 40) for n in range(4)]
    said = await asyncio.gather(*(ask(engine, request) for request in chats * 3))
    for n, request in enumerate(chats):
        assert {one.text for one in said[n::4]} == {await cold(small, request)}
    await engine.close()


async def test_replies_that_outgrow_the_cache_together_are_all_whole(
    settings: EngineSettings,
) -> None:
    """One waits until the other has ended, and goes on where it was."""
    small = replace(settings, n_ctx=512, kv_budget_tokens=512)
    engine = Engine(small)
    asked = chat(f"1: {QUESTION}", sampling=replace(GREEDY, max_tokens=300))
    expected = await cold(small, asked)
    said = await ask(engine, replace(asked, n=8))
    assert sum(one.n_tokens for one in said.ended) > 512
    assert (await engine.status()).counters["suspended"] > 0
    assert list(said.texts.values()) == [expected] * 8
    await engine.close()


async def test_the_question_that_was_paused_at_is_answered_ahead(
    engine: Engine, settings: EngineSettings
) -> None:
    warm_up = replace(chat(QUESTION, sampling=WARM), is_speculative=True)
    await ask(engine, warm_up)
    await until_quiet(engine)
    said = await ask(engine, chat(QUESTION))
    assert said.n_cached == said.n_prompt
    assert (await engine.status()).counters["ahead"] == 1
    assert (said.text, said.ended[0].n_tokens) == (await cold(settings, chat(QUESTION)), 16)
    again = await ask(engine, chat(QUESTION))
    assert (again.text, again.n_cached) == (said.text, said.n_prompt - 1)


@pytest.mark.parametrize(
    "other",
    [
        chat(QUESTION + " And why?"),
        chat(QUESTION, sampling=replace(GREEDY, temperature=1.0, seed=3)),
        chat(QUESTION, sampling=replace(GREEDY, max_tokens=2)),
        replace(chat(QUESTION), n=2),
    ],
)
async def test_any_other_question_is_answered_as_ever(
    engine: Engine, settings: EngineSettings, other: GenerateRequest
) -> None:
    await ask(engine, replace(chat(QUESTION, sampling=WARM), is_speculative=True))
    await until_quiet(engine)
    said = await ask(engine, other)
    assert (await engine.status()).counters["ahead"] == 0
    assert said.n_cached > 10
    assert said.text == await cold(settings, other)


async def test_a_model_sleeps_when_nobody_asks_and_wakes_with_its_cache(
    settings: EngineSettings,
) -> None:
    engine = Engine(replace(settings, idle_sleep_s=0))
    asked = chat(QUESTION * 10)
    before = await ask(engine, asked)
    await until(engine, lambda status: status.models[0].state == "asleep")
    await until(engine, lambda _status: model_threads() == [])
    again = await ask(engine, asked)
    assert again.n_cached == again.n_prompt - 1
    assert again.text == before.text
    await engine.close()


async def test_models_share_a_budget_of_memory(settings: EngineSettings, tiny: Path) -> None:
    """The one that was used longest ago sleeps first; none does while it answers."""
    two = {"one": settings.models["tiny"], "two": tiny}
    engine = Engine(replace(settings, models=two, memory_budget_bytes=1 << 20))
    asked = {name: chat(QUESTION, model=name) for name in two}
    first = {name: await ask(engine, request) for name, request in asked.items()}
    assert [model.state for model in await engine.models()] == ["asleep", "ready"]
    said = await asyncio.gather(*(ask(engine, asked[name]) for name in [*two] * 4))
    assert [one.text for one in said] == [first[name].text for name in [*two] * 4]
    assert (await engine.status()).counters["sleeps"] >= 2
    await engine.close()


async def test_a_missing_file_is_told_at_each_question_and_may_come(
    settings: EngineSettings, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    engine = Engine(replace(settings, models={"tiny": path}))
    for _ in range(2):
        with pytest.raises(ModelFileError, match="is not there"):
            await ask(engine, chat(QUESTION))
    assert "is not there" in (await engine.models())[0].problem
    make_model(path)
    await ask(engine, chat(QUESTION))
    await engine.close()


async def test_a_model_file_is_added_once(engine: Engine, roomy: Path, tmp_path: Path) -> None:
    assert await engine.add_model(roomy) == "tiny"
    other = make_model(tmp_path / "tiny.gguf", seed=2)
    assert await engine.add_model(other) == "tiny-2"
    await ask(engine, chat(QUESTION, model="tiny-2"))
    assert len(await engine.models()) == 2


async def test_closing_ends_what_runs_and_what_waits(settings: EngineSettings) -> None:
    engine = Engine(replace(settings, n_ctx=16384))
    asked = [chat(f"{n}: " + "Where is it retried? " * 2500) for n in range(2)]
    running = [asyncio.create_task(ask(engine, request)) for request in asked]
    await until(engine, lambda status: status.n_running + status.n_waiting == 2)
    await engine.close()
    for task in running:
        with pytest.raises(ModelUnavailable):
            await task
    with pytest.raises(ModelUnavailable, match="was closed"):
        await ask(engine, chat(QUESTION))
    await engine.close()
    assert threads() == []


UNCLOSED = """
import asyncio, sys
from pathlib import Path
from lsp_assist.engine.requests import GenerateRequest
from lsp_assist.engine.service import Engine, EngineSettings
from lsp_assist.llm import Sampling
engine = Engine(EngineSettings({"tiny": Path(sys.argv[1])}, Path(sys.argv[2]), n_gpu_layers=0))
async def main():
    asked = GenerateRequest("tiny", "Where is retry? " * 100, Sampling(max_tokens=10_000))
    stream = engine.generate(asked)
    await anext(stream)
    await getattr(sys.modules[__name__], sys.argv[3])(stream)
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
def test_a_process_ends_cleanly_in_the_middle_of_a_reply(
    roomy: Path, tmp_path: Path, how: str
) -> None:
    """With nothing on stdout, which belongs to the protocol, nor on stderr."""
    done = run_python(UNCLOSED, str(roomy), str(tmp_path), how)
    assert (done.stdout, done.stderr) == ("", "")
    assert done.returncode == (0 if how == "leave" else 7)


async def test_warm_ups_of_one_text_at_once_all_end(settings: EngineSettings) -> None:
    """What another one has computed in the meantime is taken over whole, and that is the end."""
    engine = Engine(settings)
    for text in ("Where is retry? " * 20, "Who calls retry? " * 20):
        asked = chat(text, sampling=replace(GREEDY, max_tokens=0))
        warm = replace(asked, priority=Priority.TYPED_WARM_UP)
        await asyncio.wait_for(asyncio.gather(*(ask(engine, warm) for _ in range(6))), 60)
    await engine.close()


@pytest.mark.slow
async def test_a_thousand_requests_are_each_answered_once_or_taken_back(
    settings: EngineSettings,
) -> None:
    """From eight clients that ask, warm, fork and leave, on a cache that is too small for them."""
    small = replace(settings, n_ctx=512, kv_budget_tokens=1024)
    engine = Engine(small)
    reference: dict[tuple[object, int], str] = {}
    n_answered = n_left = 0

    async def client(seed: int) -> None:
        nonlocal n_answered, n_left
        random = Random(seed)
        for _ in range(125):
            topic = random.randrange(6)
            context = f"{topic}: " + "Where is retry? " * random.choice([4, 20])
            question = f"Question {random.randrange(4)}?"
            sampling = replace(GREEDY, max_tokens=random.choice([0, 1, 6, 20]))
            request = replace(
                chat(context, "a", question, sampling=sampling),
                priority=random.choice(list(Priority)),
                is_speculative=random.random() < 0.5,
                n=random.choice([1, 1, 1, 3]) if sampling.max_tokens else 1,
            )
            if random.random() < 0.4:
                n_events = random.randrange(4)
                async with aclosing(engine.generate(request)) as events:
                    for _ in range(n_events):
                        if isinstance(await anext(events), Ended):
                            break
                n_left += 1
                continue
            said = await ask(engine, request)
            n_answered += 1
            if sampling.max_tokens:
                assert len({said.texts.get(n, "") for n in range(request.n)}) == 1
                asked = (request.prompt, sampling.max_tokens)
                assert reference.setdefault(asked, said.text) == said.text

    await asyncio.gather(*map(client, range(8)))
    assert n_answered + n_left == 1000
    assert n_answered > 400
    await until_quiet(engine)
    status = await engine.status()
    assert status.n_resident_tokens <= 1024
    await engine.close()
    assert threads() == []
