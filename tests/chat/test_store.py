"""Chats on disk: trees with shared prefixes, several processes, damage, kill -9."""

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lsp_assist.chat.schema import MIGRATIONS
from lsp_assist.chat.store import ChatStore, StoredChat
from lsp_assist.chat.tree import Chat, Turn
from lsp_assist.errors import BadInput, ChatsUnusable, UnknownTurn
from lsp_assist.llm import Message, Segment, Source

OPENING = (Message("system", (Segment("system", "Be exact."),)),)
NOTHING = Message("assistant", (Segment("reply", ""),))


def asked(text: str) -> Message:
    hit = Segment("hit", "code\n", Source("a.py", 0, 1))
    return Message("user", (hit, Segment("question", text)))


def said(text: str) -> Message:
    return Message("assistant", (Segment("reply", text),))


def turn(name: str, parent: str | None = None, text: str = "") -> Turn:
    return Turn(name, parent, asked(text or f"question {name}"), NOTHING, "running", OPENING)


def put(store: ChatStore, chat: str, name: str, parent: str | None = None, reply: str = "") -> None:
    at = store.begin(chat, ["/w"], f"title {chat}", turn(name, parent))
    store.end(at, said(reply or f"reply {name}"), "done", "tiny")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "chats.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[ChatStore]:
    store = ChatStore(path)
    yield store
    store.close()


def test_a_chat_comes_back_from_disk_as_it_was(path: Path, store: ChatStore) -> None:
    put(store, "c", "1")
    put(store, "c", "2", "1")
    before = store.existing("c")
    store.close()
    again = ChatStore(path)
    assert again.existing("c") == before
    assert before.chat.opening == OPENING
    assert [t.asked for t in before.chat.path("2")] == ["question 1", "question 2"]
    assert before.title == "title c"
    again.close()


def test_only_the_user_may_read_the_files(path: Path, store: ChatStore) -> None:
    put(store, "c", "1")
    for file in path.parent.rglob("*"):
        wanted = 0o700 if file.is_dir() else 0o600
        assert stat.S_IMODE(file.stat().st_mode) == wanted, file


def test_a_fork_shares_the_prefix_and_copies_nothing(store: ChatStore) -> None:
    put(store, "c", "1")
    put(store, "c", "2", "1")
    put(store, "c", "3", "2")
    forked = store.fork("c", "2", "f", [])
    put(store, "f", "4", "2")
    fork = store.existing("f").chat
    assert list(fork.turns) == ["1", "2", "4"]
    assert fork.path("4")[:2] == store.existing("c").chat.path("2")
    assert fork.opening_after("4") == OPENING
    assert forked.fork_of == "2"
    assert store._db.rows("SELECT COUNT(*) FROM turns") == [(4,)]
    assert list(store.existing("c").chat.turns) == ["1", "2", "3"]


def test_what_forks_need_outlives_the_chat(store: ChatStore) -> None:
    for n in range(1, 6):
        put(store, "c", f"{n}", f"{n - 1}" if n > 1 else None)
    store.fork("c", "2", "f", [])
    store.fork("c", "4", "g", [])
    store.fork("g", "3", "h", [])
    paths = {name: store.existing(name).chat.path(at) for name, at in (("f", "2"), ("g", "4"))}
    store.delete("c")
    assert store.load("c") is None
    for name, path in paths.items():
        chat = store.existing(name).chat
        assert list(chat.turns.values()) == path
    assert store.search("question 5") == []
    assert {found.chat_id for found in store.search("question 1")} <= {"f", "g", "h"}
    for name in "fgh":
        store.delete(name)
    assert store._db.rows("SELECT COUNT(*) FROM turns") == [(0,)]
    assert store._db.rows("SELECT COUNT(*) FROM messages") == [(0,)]
    assert store._db.rows("SELECT COUNT(*) FROM words") == [(0,)]


def test_a_deleted_chat_leaves_no_word_in_the_file(path: Path, store: ChatStore) -> None:
    at = store.begin("c", [], "t", turn("1", text="xylophone"))
    store.end(at, said("zeppelin"), "done", "")
    store.delete("c")
    store.close()
    content = path.read_bytes()
    assert b"xylophone" not in content
    assert b"zeppelin" not in content


def test_two_processes_on_one_chat_agree(path: Path, store: ChatStore) -> None:
    other = ChatStore(path)
    put(store, "c", "1")
    put(other, "c", "2", "1")
    mine = store.begin("c", [], "", turn("3", "2"))
    theirs = other.begin("c", [], "", turn("4", "2"))
    assert store.existing("c").chat.turns["4"].status == "running"
    assert store.existing("c").chat.last_turn_id() == "2"
    store.write(mine, said("half"))
    assert other.existing("c").chat.turns["3"].reply == said("half")
    other.end(theirs, said("theirs"), "done", "")
    store.end(mine, said("mine"), "done", "")
    assert store.existing("c") == other.existing("c")
    assert list(store.existing("c").chat.turns) == ["1", "2", "4", "3"]
    other.close()


def test_branches_that_began_with_different_openings_keep_them(store: ChatStore) -> None:
    another = (Message("system", (Segment("system", "Be brief."),)),)
    put(store, "c", "1")
    at = store.begin("c", [], "", replace(turn("2"), opening=another))
    store.end(at, said("x"), "done", "")
    chat = store.existing("c").chat
    assert (chat.opening, chat.opening_after("1")) == (OPENING, OPENING)
    assert chat.opening_after("2") == another


def test_ids_are_used_once_and_parents_must_be_there(store: ChatStore) -> None:
    put(store, "c", "1")
    store.fork("c", "1", "f", [])
    with pytest.raises(BadInput, match="already"):
        put(store, "c", "1")
    with pytest.raises(BadInput, match="already"):
        put(store, "f", "1")
    with pytest.raises(UnknownTurn):
        put(store, "c", "2", "nope")
    with pytest.raises(BadInput, match="already"):
        store.fork("c", "1", "f", [])
    for unknown in (
        lambda: store.fork("x", "1", "g", []),
        lambda: store.fork("c", "x", "g", []),
        lambda: store.rename("x", "title"),
        lambda: store.delete("x"),
        lambda: store.existing("x"),
        lambda: store.judge("x", "accepted"),
    ):
        with pytest.raises(UnknownTurn):
            unknown()
    assert [summary.id for summary in store.chats()] == ["f", "c"]


def test_a_fork_of_a_running_turn_is_refused(store: ChatStore) -> None:
    store.begin("c", [], "", turn("1"))
    with pytest.raises(BadInput, match="still being answered"):
        store.fork("c", "1", "f", [])


def test_titles_get_better_and_never_worse(store: ChatStore) -> None:
    put(store, "c", "1")
    assert store.rename("c", "by a model", "model") == "by a model"
    put(store, "c", "2", "1")
    assert store.existing("c").title == "by a model"
    assert store.rename("c", " mine\nand\x00 only ", "user") == "mine and only"
    assert store.rename("c", "model again", "model") == "mine and only"
    assert store.rename("c", "  ", "user") == "mine and only"


def test_chats_of_a_folder_newest_first(store: ChatStore) -> None:
    for name, roots in (("a", ["/w"]), ("b", ["/x", "/w"]), ("c", ["/x"]), ("d", [])):
        store.end(store.begin(name, roots, name, turn("1")), said(""), "done", "")
    put(store, "a", "2", "1")
    assert [s.id for s in store.chats(["/w"])] == ["a", "b"]
    assert [s.id for s in store.chats()] == ["a", "d", "c", "b"]
    assert [s.id for s in store.chats(limit=1)] == ["a"]
    assert store.chats(["/w"])[0].n_turns == 2


def test_search_finds_what_was_typed_and_what_is_shown(store: ChatStore) -> None:
    at = store.begin("c", [], "about rockets", turn("1", text="Why does retry_later fail?"))
    store.end(at, said("<meta hidden k=strat>\nsecret\n</meta>\nBecause of the Größe."), "done", "")
    put(store, "d", "1")
    for query in ("retry_later", "Why fail", "because grö", "ROCKETS", 'retry_later"', "fai"):
        assert [found.chat_id for found in store.search(query)] == ["c"], query
    for query in ("secret", "code", "nothing such", "", '"', "NOT", "a OR b", "(", "*", "\x00"):
        assert store.search(query) == [], query
    assert store.search("retry_later")[0].excerpt == "Why does retry_later fail?"


def test_what_the_user_thought_of_a_reply_is_kept(store: ChatStore) -> None:
    put(store, "c", "1")
    store.judge("1", "edited", "their own")
    rows = store._db.rows("SELECT verdict, verdict_text FROM turns")
    assert rows == [("edited", "their own")]


def test_any_text_can_be_said(store: ChatStore) -> None:
    odd = "half \ud800 pair, NUL \x00, form feed \x0c, \u2028"
    at = store.begin("c", [], odd, turn("1", text=odd))
    store.end(at, said(odd), "done", "")
    kept = store.existing("c").chat.turns["1"]
    assert (kept.asked, kept.reply) == (odd, said(odd))


def test_a_killed_process_loses_nothing_that_was_written(path: Path) -> None:
    """The turn is found as cancelled, with what was said; as running as long as somebody lives."""
    script = f"""
import sys
from pathlib import Path
from tests.chat.test_store import *
store = ChatStore(Path({str(path)!r}))
at = store.begin("c", [], "t", turn("1"))
store.write(at, said("half a sen"))
print("written", flush=True)
sys.stdin.read()
"""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=-1, stdout=-1, text=True, cwd=root
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "written\n"
        store = ChatStore(path)
        assert store.existing("c").chat.turns["1"].status == "running"
        child.kill()
    killed = store.existing("c").chat.turns["1"]
    assert (killed.status, killed.reply) == ("cancelled", said("half a sen"))
    assert store.search("sen")[0].turn_id == "1"
    put(store, "c", "2", "1")
    assert [t.id for t in store.existing("c").chat.path("2")] == ["1", "2"]
    assert len(list(path.with_name("writers").iterdir())) == 1
    store.close()


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"no database at all, but text " * 100),
        lambda path: path.write_bytes(path.read_bytes()[:5000]),
        lambda path: path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 60000),
    ],
    ids=["text", "cut", "overwritten"],
)
def test_a_damaged_database_is_moved_aside(path: Path, damage: Callable[[Path], object]) -> None:
    store = ChatStore(path)
    put(store, "c", "1")
    store.close()
    damage(path)
    store = ChatStore(path)
    assert store.moved_to is not None
    assert store.moved_to.is_file()
    assert store.chats() == []
    put(store, "c", "1")
    assert store.n_chats() == 1
    store.close()


def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    ChatStore(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    before = path.read_bytes()
    with pytest.raises(ChatsUnusable, match="newer lsp-assist"):
        ChatStore(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ChatsUnusable, match="permissions"):
        ChatStore(tmp_path / "file" / "chats.sqlite3")


def test_a_whole_chat_can_be_put_in(store: ChatStore) -> None:
    put(store, "c", "1")
    put(store, "c", "2", "1")
    one = store.existing("c")
    copy = replace(one, chat=replace(one.chat, id="d"))
    store.add(copy)
    assert store.existing("d") == copy
    with pytest.raises(BadInput, match="already"):
        store.add(copy)


PLANS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99), st.integers(0, 9)), max_size=25)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(PLANS)
def test_any_history_equals_the_tree_in_memory(plan: list[tuple[int, int, int]]) -> None:
    """Asking, forking and deleting in any order: each chat is what a plain tree would be."""
    store = ChatStore(None)
    model: dict[str, Chat] = {}
    for n, (action, which, where) in enumerate(plan):
        names = sorted(model)
        chat = model[names[which % len(names)]] if names else Chat("c")
        ids = [*chat.turns]
        at = ids[where % len(ids)] if ids else None
        if action <= 1:
            new = replace(turn(f"t{n}", at), status="done", reply=said(f"r{n}"), model="m")
            row = store.begin(chat.id, [], "", new)
            store.end(row, new.reply, "done", "m")
            opening = chat.opening or OPENING
            model[chat.id] = replace(chat.with_turn(new), opening=opening)
        elif action == 2 and at is not None:
            path = {t.id: t for t in chat.path(at)}
            model[f"f{n}"] = Chat(f"f{n}", OPENING, path)
            store.fork(chat.id, at, f"f{n}", [])
        elif names:
            store.delete(chat.id)
            del model[chat.id]
        for name, expected in model.items():
            assert _without_times(store.existing(name)) == expected
    assert store.n_chats() == len(model)
    store.close()


def _without_times(stored: StoredChat) -> Chat:
    turns = {t.id: replace(t, created_ns=0, ended_ns=0) for t in stored.chat.turns.values()}
    return replace(stored.chat, turns=turns)
