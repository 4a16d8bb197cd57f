"""The Markdown log: what is written is read again; what a person made of it, as far as it goes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.chat import exchange
from lsp_assist.chat.hidden import visible
from lsp_assist.chat.log import Entry, Log, parse, render
from lsp_assist.chat.store import StoredChat
from lsp_assist.chat.tree import Chat, Turn
from lsp_assist.errors import LogError
from lsp_assist.llm import Message, Segment
from tests.chat.test_codec import MESSAGES

SEED = """\
<!-- LOG METADATA {"size": 2} -->

---

<!-- MSG METADATA {"publisher": "user:tty", "created": 1727628402378506393} -->

I need your help.

- one
- two

---

<!-- MSG METADATA {"publisher": "agent:llm:anthropic:claude", "created": 1727628409870159439} -->

<meta hidden k=strat>
Context: The user needs help.
</meta>

Your ideas are intriguing:

---

1. What?
"""

ODD = st.sampled_from(
    [
        *("\n", "\r", "\r\n", "---", "\n\n---\n\n", "<!-- ", "MSG METADATA", "LOG METADATA", "\\"),
        *(" {} -->", "<!-- MSG METADATA {} -->", "<!-- \\MSG METADATA", "x", " ", "\u2028", "\x0c"),
    ]
)
TEXTS = st.lists(ODD, max_size=12).map("".join) | st.text()
JSON = st.none() | st.booleans() | st.integers() | TEXTS | st.just("-->")
EXTRAS = st.dictionaries(st.sampled_from(["a", "-->", "x y"]), JSON, max_size=2)
ENTRIES = st.builds(Entry, TEXTS.filter(bool), st.integers(0, 2**63 - 1), TEXTS, EXTRAS)


def imported(text: str) -> StoredChat:
    ids = (f"new{n}" for n in range(99))
    return exchange.chat_of(parse(text), "c", ["/w"], lambda: next(ids))


def test_a_log_of_somebody_else_is_read_and_written_as_it_was() -> None:
    log = parse(SEED)
    assert [entry.publisher for entry in log.entries] == [
        *("user:tty", "agent:llm:anthropic:claude")
    ]
    assert log.entries[0].text == "I need your help.\n\n- one\n- two"
    assert log.entries[1].text.endswith("---\n\n1. What?")
    assert [entry.line for entry in log.entries] == [5, 14]
    assert render(log) == SEED


@given(st.lists(ENTRIES, max_size=5), EXTRAS)
def test_what_is_written_is_read_again(entries: list[Entry], extra: dict[str, object]) -> None:
    log = Log(tuple(entries), extra)
    assert parse(render(log)) == log


@given(st.lists(ENTRIES, max_size=4))
def test_lines_may_end_as_on_windows(entries: list[Entry]) -> None:
    text = render(Log(tuple(entries)))
    if "\r" not in text:
        assert parse(text.replace("\n", "\r\n")) == parse(text)


SHORT = """\
<!-- MSG METADATA {"publisher": "user:tty"} -->
One
<!-- MSG METADATA {"publisher": "agent:a"} -->
Two
"""


@pytest.mark.parametrize(
    "text",
    [
        SHORT,
        '\ufeff<!-- LOG METADATA {"size": 99} -->\n---\n' + SHORT.replace("One\n", "One\n---\n"),
        SHORT.replace(" -->\n", " -->  \n\n").rstrip(),
    ],
)
def test_rules_and_empty_lines_may_be_missing(text: str) -> None:
    assert [entry.text for entry in parse(text).entries] == ["One", "Two"]


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("\n\nHello.", 3, "must begin"),
        (SEED.replace("<!-- LOG", "Hello <!-- LOG"), 1, "must begin"),
        (SEED.replace('{"size": 2} -->\n', '{"size": 2} -->\nlost?\n'), 2, "belongs to no message"),
        (SEED.replace('"user:tty", ', '"user:tty" '), 5, "no JSON"),
        (SEED.replace('"publisher": "agent', '"publisherr": "agent'), 14, "no `publisher`"),
        (SEED.replace("1727628409870159439", '"today"'), 14, "nanoseconds"),
        (SEED.replace("159439} -->", "159439}"), 14, "does not end"),
        (SEED + SEED, 25, "at the start only"),
        ("<!-- MSG METADATA [] -->\n", 1, "an object"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(LogError, match=problem) as raised:
        parse(text)
    assert raised.value.line == line
    assert str(raised.value).startswith(f"Line {line} ")


def test_a_log_of_somebody_else_becomes_a_chat_that_goes_on() -> None:
    stored = imported(SEED)
    (turn,) = stored.chat.turns.values()
    assert turn.asked == "I need your help.\n\n- one\n- two"
    assert turn.model == "anthropic:claude"
    assert visible(turn.reply.text).startswith("Your ideas")
    assert "Context: The user" in turn.reply.text
    assert (stored.title, stored.chat.opening) == ("I need your help. - one - two", ())
    assert turn.created_ns == 1727628402378506393


@st.composite
def chats(draw: st.DrawFn) -> StoredChat:
    """Any tree of turns, of any segments, with branches that began differently."""
    openings = draw(st.lists(st.lists(MESSAGES, max_size=2).map(tuple), min_size=1, max_size=3))
    chat = Chat("c", openings[0])
    for n in range(draw(st.integers(0, 6))):
        ids: list[str | None] = [None, *chat.turns]
        turn = Turn(
            f"t{n}",
            draw(st.sampled_from(ids)),
            Message("user", draw(MESSAGES).segments),
            Message("assistant", draw(MESSAGES).segments),
            draw(st.sampled_from(["done", "cancelled", "error"])),
            draw(st.sampled_from(openings)),
            *draw(st.tuples(*[st.sampled_from(["", "a:b", "llm:c"])] * 3)),
            *draw(st.tuples(*[st.integers(0, 2**63 - 1)] * 2)),
        )
        chat = chat.with_turn(turn)
    return StoredChat(chat, "A title", "user", ("/w",), None, 0, 0)


@given(chats())
def test_a_chat_comes_back_with_all_that_its_prompts_are_made_of(stored: StoredChat) -> None:
    again = imported(render(exchange.log_of(stored)))
    assert again.chat == stored.chat
    assert again.title == stored.title


@given(chats())
def test_one_branch_is_what_was_said_in_it(stored: StoredChat) -> None:
    for turn_id in stored.chat.turns:
        branch = imported(render(exchange.log_of(stored, turn_id))).chat
        assert branch.path(turn_id) == stored.chat.path(turn_id) == list(branch.turns.values())


def test_an_edited_text_is_taken_as_it_is_now() -> None:
    sent = Message("user", (Segment("hit", "code\n"), Segment("question", "why?")))
    turn = Turn("1", None, sent, Message("assistant", (Segment("reply", "so"),)), "done")
    stored = StoredChat(Chat("c").with_turn(turn), "t", "user", (), None, 0, 0)
    text = render(exchange.log_of(stored)).replace("why?", "why not?")
    (edited,) = imported(text).chat.turns.values()
    assert edited.question == Message("user", (Segment("question", "code\nwhy not?"),))
    odd = text.replace('"length": 5', '"length": "5"')
    assert imported(odd).chat.turns["1"].question == edited.question


def test_messages_out_of_order_are_turns_all_the_same() -> None:
    said = [("agent:a", "hello"), ("user:u", "one"), ("user:u", "two"), ("agent:a", "three")]
    text = render(Log(tuple(Entry(who, 1, what) for who, what in said)))
    turns = imported(text).chat.turns.values()
    assert [(t.asked, t.reply.text, t.status) for t in turns] == [
        *(("", "hello", "done"), ("one", "", "cancelled"), ("two", "three", "done"))
    ]


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([Entry("tool:x", 1, "")], "neither"),
        ([Entry("user:x", 1, ""), Entry("system:x", 1, "")], "before all others"),
        ([Entry("user:x", 1, "", {"turn": "a"}), Entry("user:x", 1, "", {"turn": "a"})], "twice"),
        ([Entry("user:x", 1, "", {"parent": "a"})], "no turn 'a'"),
    ],
)
def test_what_is_no_chat_is_told_by_its_line(entries: list[Entry], problem: str) -> None:
    with pytest.raises(LogError, match=problem):
        imported(render(Log(tuple(entries))))
