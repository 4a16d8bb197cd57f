"""Answers without a model: quoted from the index, plain about it, with places."""

from contextlib import aclosing

from lsp_assist.backends.extractive import ExtractiveModel
from lsp_assist.llm import Delta, Message, Prompt, Relation, Sampling, Segment, Source, SymbolFacts

REMEDY = "Add one with --model."


def hit(name: str, line: int, facts: SymbolFacts | None = None) -> Segment:
    return Segment("hit", "the code", Source("src/retry.py", line, line + 5, name), facts)


async def answer(*segments: Segment) -> tuple[str, Delta]:
    prompt = Prompt((Message("user", segments),))
    async with aclosing(ExtractiveModel(REMEDY).stream(prompt, Sampling())) as deltas:
        found = [delta async for delta in deltas]
    return "".join(delta.text for delta in found), found[-1]


async def test_it_names_the_best_place_first_and_what_is_known_of_each() -> None:
    caller = Relation("Session.send", Source("src/session.py", 41, 60, "Session.send"))
    facts = SymbolFacts("method", "def increment(self)", "Count a retry.", (caller,))
    text, last = await answer(hit("Retry.increment", 9, facts), hit("sleep", 30))
    assert text.startswith("The place to look first is `Retry.increment` at src/retry.py:10.\n")
    assert "   `def increment(self)`\n   Count a retry.\n" in text
    assert "   Called by: `Session.send` src/session.py:42\n" in text
    assert "2. `sleep` at src/retry.py:31\n" in text
    assert last.usage is not None
    assert last.usage.model == "extractive"


async def test_it_says_that_there_is_no_model_and_how_to_add_one() -> None:
    text, _ = await answer(hit("f", 0))
    assert "No model is configured" in text
    assert REMEDY in text


async def test_nothing_found_is_said_plainly() -> None:
    text, _ = await answer(Segment("question", "why?"))
    assert text.startswith("Nothing in this workspace matches the question.")


async def test_parts_of_one_function_are_one_place() -> None:
    text, _ = await answer(hit("f", 0), hit("f", 50), hit("", 50), hit("", 90))
    assert "3. src/retry.py:91" in text
    assert "4." not in text


async def test_a_signature_cannot_break_its_quotes() -> None:
    text, _ = await answer(hit("f", 0, SymbolFacts("function", "f(`x`)", "")))
    assert "`f('x')`" in text
