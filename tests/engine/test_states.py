import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_assist.engine.kv import as_tokens
from lsp_assist.engine.states import Part, State, StateStore, fingerprint

MODEL = fingerprint({"file": 1})
PLENTY = 1 << 30


def opened(
    folder: Path, model: str = MODEL, *, disk: int = PLENTY, memory: int = PLENTY
) -> StateStore:
    return StateStore(folder, model, budget_bytes=disk, memory_bytes=memory)


def state_of(tokens: list[int], start: int) -> State:
    """A state that can be told from any other one."""
    return np.frombuffer(f"{tokens[:start]} {tokens[start:]}".encode() * 9, np.uint8).copy()


def add(store: StateStore, tokens: list[int], key: str = "") -> None:
    """Stores what is new in these tokens."""
    parts = store.match(as_tokens(tokens), key)
    start = parts[-1].end if parts else 0
    if start < len(tokens):
        parent = parts[-1] if parts else None
        store.add(as_tokens(tokens), key, state_of(tokens, start), parent=parent)


def n_stored(store: StateStore, tokens: list[int], key: str = "") -> int:
    """How many of the tokens could be restored; every part is loaded and checked."""
    n = 0
    for part in store.match(as_tokens(tokens), key):
        state = store.load(part.stored)
        if state is None:
            break
        own = part.stored.tokens.tolist()
        assert state.tobytes() == state_of(own, part.stored.start).tobytes()
        assert (part.start, own[: part.end]) == (n, tokens[: part.end])
        n = part.end
    return n


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*"))


def test_a_branch_costs_its_own_tokens(tmp_path: Path) -> None:
    store = opened(tmp_path)
    add(store, [1, 2, 3, 4])
    add(store, [1, 2, 9])
    add(store, [1, 2, 9, 9, 9])
    parts = store.match(as_tokens([1, 2, 9, 9, 7]), "")
    assert [(part.start, part.end) for part in parts] == [(0, 2), (2, 3), (3, 4)]
    assert n_stored(store, [1, 2, 9, 9, 7]) == 4
    assert n_stored(store, [1, 2, 3, 4, 5]) == 4
    assert n_stored(store, [2]) == 0


def test_another_key_shares_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path)
    add(store, [1, 2, 3], "adapter")
    assert n_stored(store, [1, 2, 3]) == 0
    assert n_stored(store, [1, 2, 3], "adapter") == 3


def test_a_state_that_cannot_be_cut_serves_as_a_whole(tmp_path: Path) -> None:
    store = opened(tmp_path)
    add(store, [1, 2, 3])
    store.add(as_tokens([1, 2]), "", state_of([1, 2], 0))
    assert [part.end for part in store.match(as_tokens([1, 2, 4]), "", is_whole=True)] == [2]
    assert [part.end for part in store.match(as_tokens([1, 2, 3, 4]), "", is_whole=True)] == [3]
    assert store.match(as_tokens([1]), "", is_whole=True) == ()


@pytest.mark.parametrize("memory", [0, PLENTY])
def test_the_next_process_finds_everything(tmp_path: Path, memory: int) -> None:
    chats = [[1, 2, 3, 4], [1, 2, 9], [1, 2, 9, 9], [5]]
    store = opened(tmp_path, memory=memory)
    for chat in chats:
        add(store, chat)
    store.close()
    again = opened(tmp_path)
    for chat in chats:
        assert n_stored(again, chat) == len(chat)
    assert again.n_read == 4
    again.close()
    other = opened(tmp_path, fingerprint({"file": 2}))
    assert n_stored(other, chats[0]) == 0


def cut_off(data: bytes) -> bytes:
    return data[:-1]


def lengthened(data: bytes) -> bytes:
    return data + b"x"


def flipped(at: int) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]

    return flip


@pytest.mark.parametrize(
    "damage",
    [cut_off, lengthened, flipped(0), flipped(20), flipped(60), flipped(-1),
     lambda data: b"", lambda data: b"lsp-kv1\n" + b"\xff" * 100],
)  # fmt: skip
def test_a_damaged_file_is_left_out_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    """And with it what builds on it; the rest is there."""
    store = opened(tmp_path)
    add(store, [1, 2, 3])
    store.close()
    (base,) = files(tmp_path)
    store = opened(tmp_path)
    add(store, [1, 2, 3, 4])
    add(store, [7, 8])
    store.close()
    base.write_bytes(damage(base.read_bytes()))
    again = opened(tmp_path)
    assert n_stored(again, [1, 2, 3, 4]) == 0
    assert n_stored(again, [7, 8]) == 2
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert base.name in caplog.text
    assert "left out" in caplog.text
    assert n_stored(again, [1, 2, 3, 4]) == 0
    assert len(caplog.records) == 1, "told once"


def test_a_file_of_another_model_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = opened(tmp_path)
    add(store, [1, 2, 3])
    store.close()
    (file,) = files(tmp_path)
    other = fingerprint({"file": 2})
    target = tmp_path / other[:32] / file.name
    target.parent.mkdir()
    file.rename(target)
    assert n_stored(opened(tmp_path, other), [1, 2, 3]) == 0
    assert "of another model" in caplog.text


def test_a_file_that_was_not_finished_is_not_seen(tmp_path: Path) -> None:
    store = opened(tmp_path)
    add(store, [1, 2, 3])
    store.close()
    (file,) = files(tmp_path)
    file.rename(file.with_suffix(".tmp"))
    assert n_stored(opened(tmp_path), [1, 2, 3]) == 0


def test_the_disk_keeps_what_was_used_last(tmp_path: Path) -> None:
    """A prefix is used with each of its branches."""
    store = opened(tmp_path)
    add(store, [1])
    store.close()
    n_bytes = files(tmp_path)[0].stat().st_size
    store = opened(tmp_path, disk=3 * n_bytes + n_bytes // 2, memory=0)
    for chat in ([2], [3], [1, 4]):
        add(store, chat)
    store.close()
    again = opened(tmp_path)
    assert [n_stored(again, chat) for chat in ([1, 4], [2], [3])] == [2, 0, 1]
    again.close()


def test_memory_alone_keeps_what_was_used_last(tmp_path: Path) -> None:
    n_bytes = state_of([1], 0).size
    store = opened(tmp_path, disk=0, memory=2 * n_bytes)
    for chat in ([1], [2], [3]):
        add(store, chat)
    assert [n_stored(store, chat) for chat in ([1], [2], [3])] == [0, 1, 1]
    store.close()
    assert files(tmp_path) == []


def test_the_number_of_states_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those used last stay, with what they build on; also in the next process."""
    monkeypatch.setattr("lsp_assist.engine.states._MAX_STORED", 3)
    store = opened(tmp_path)
    chats = [[1], [2], [3], [1, 4], [1, 4, 5]]
    for chat in chats:
        add(store, chat)
    assert [n_stored(store, chat) for chat in chats] == [1, 0, 0, 2, 3]
    store.close()
    assert n_stored(opened(tmp_path), [1, 4, 5]) == 3


def test_a_folder_that_cannot_be_written_costs_only_the_files(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    store = opened(tmp_path / "file" / "folder")
    add(store, [1, 2])
    store.close()
    assert n_stored(store, [1, 2]) == 2
    assert "cannot be kept on disk" in caplog.text


def test_what_was_dropped_is_no_parent(tmp_path: Path) -> None:
    store = opened(tmp_path, disk=0, memory=0)
    add(store, [1, 2])
    gone = store.match(as_tokens([1, 2]), "")
    assert gone == ()
    part: Part | None = None
    kept = opened(tmp_path / "other")
    add(kept, [1, 2])
    (part,) = kept.match(as_tokens([1, 2]), "")
    part.stored.is_dropped = True
    kept.add(as_tokens([1, 2, 3]), "", state_of([1, 2, 3], 2), parent=part)
    assert n_stored(kept, [1, 2, 3]) == 2
    kept.close()


@settings(max_examples=60, deadline=None)
@given(chats=st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=8), max_size=8))
def test_any_chats_are_found_as_far_as_they_were_stored(
    tmp_path_factory: pytest.TempPathFactory, chats: list[list[int]]
) -> None:
    folder = tmp_path_factory.mktemp("states")
    store = opened(folder, memory=0)
    for chat in chats:
        add(store, chat)
    store.close()
    for each in (store, opened(folder)):
        for chat in chats:
            assert n_stored(each, chat) == len(chat)
            assert n_stored(each, [*chat, 7]) == len(chat)
