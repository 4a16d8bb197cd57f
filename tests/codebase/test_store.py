"""The index on disk: what goes in is found, several processes may share it, damage is rebuilt."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase import store as store_module
from lsp_assist.codebase.store import (
    FileRecord,
    IndexedChunk,
    IndexedFile,
    Store,
    StoredSymbol,
    Use,
)
from lsp_assist.errors import IndexUnusable


def file(path: str, *functions: str, calls: tuple[str, ...] = (), digest: str = "h") -> IndexedFile:
    """A file with one function a line and a chunk each; the first one makes the calls."""
    symbols = tuple(
        StoredSymbol(path, n, name, name, "function", n, n, f"def {name}()", "")
        for n, name in enumerate(functions)
    )
    chunks = tuple(
        IndexedChunk(n, n, n, f"{path}:{n}", (name,), ("def", name))
        for n, name in enumerate(functions)
    )
    uses = tuple(Use(name, 0, 0, "call") for name in calls)
    return IndexedFile(
        path, FileRecord(1, 1, digest), "python", len(functions), symbols, uses, chunks
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "index" / "index.sqlite3")
    yield made
    made.close()


def test_what_was_put_is_found(store: Store) -> None:
    store.put([file("a.py", "alpha", "beta", calls=("gamma",)), file("b.py", "gamma")])
    found = store.search(["gamma"], 10)
    assert [(match.path, match.ordinal) for match in found] == [("b.py", 0)]
    assert (found[0].name, found[0].body) == ("gamma", "def gamma")
    assert [s.name for s in store.symbols_of("a.py")] == ["alpha", "beta"]
    assert [s.path for s in store.symbols_named("gamma")] == ["b.py"]
    assert [(path, use.ordinal) for path, use in store.uses_named("gamma", 9)] == [("a.py", 0)]
    assert [use.name for use in store.uses_in("a.py", 0)] == ["gamma"]
    assert (store.counts().n_files, store.counts().n_symbols, store.counts().n_chunks) == (2, 3, 3)


@given(data=st.data())
def test_symbols_in_stretches_are_those_of_the_file_that_lie_there(data: st.DataObject) -> None:
    """By ordinal, or wholly between two lines."""
    extents = data.draw(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 9)), max_size=40))
    symbols = tuple(
        StoredSymbol("a.py", n, f"s{n}", f"s{n}", "function", start, start + length)
        for n, (start, length) in enumerate(sorted(extents))
    )
    stretch = st.tuples(st.integers(-1, 45), st.integers(0, 30), st.integers(0, 40))
    stretches = data.draw(st.lists(stretch, max_size=150))
    with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder) / "s.db")) as store:
        store.put([replace(file("a.py", "x"), symbols=symbols, chunks=()), file("b.py", "y")])
        expected = [
            symbol
            for symbol in symbols
            if any(
                symbol.ordinal == ordinal or (first <= symbol.start_line <= symbol.end_line <= last)
                for ordinal, first, last in stretches
            )
        ]
        assert store.symbols_in("a.py", stretches) == expected


def test_putting_a_file_again_replaces_all_of_it(store: Store) -> None:
    store.put([file("a.py", "alpha", calls=("x",))])
    store.put([file("a.py", "beta")])
    assert store.search(["alpha"], 10) == []
    assert store.uses_named("x", 9) == []
    assert [match.path for match in store.search(["beta"], 10)] == ["a.py"]
    assert store.corpus(["alpha", "beta"])[2] == {"beta": 1}


def test_a_removed_file_leaves_nothing(store: Store) -> None:
    store.put([file("a.py", "alpha", calls=("x",))])
    store.remove(["a.py", "never-there.py"])
    assert store.records() == {}
    assert store.search(["alpha"], 10) == []
    assert store.symbols_named("alpha") == []
    assert store.counts() == store_module.Counts()


@pytest.mark.parametrize("term", ['"', "NEAR", "a*", "x OR y", "", "name:x", "'"])
def test_a_term_is_never_syntax(store: Store, term: str) -> None:
    """Terms hold word characters only; should one not, it still cannot become an operator."""
    store.put([file("a.py", "alpha")])
    assert isinstance(store.search([term.replace('"', "")], 10), list)


def test_what_was_put_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite3"
    first = Store(path)
    first.put([file("a.py", "alpha")])
    first.close()
    second = Store(path)
    assert [match.path for match in second.search(["alpha"], 10)] == ["a.py"]
    assert not second.was_rebuilt
    second.close()


@pytest.mark.parametrize("damage", ["text", "middle", "version"])
def test_a_damaged_or_older_index_is_rebuilt(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "index.sqlite3"
    first = Store(path)
    first.put([file("a.py", *(f"name{n}" for n in range(500)))])
    first.compact()
    first.close()
    if damage == "text":
        path.write_bytes(b"this is no database" * 100)
    elif damage == "middle":
        content = path.read_bytes()
        path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    else:
        import sqlite3

        db = sqlite3.connect(path)
        db.execute("PRAGMA user_version = 999")
        db.close()
    second = Store(path)
    assert second.was_rebuilt
    assert second.counts().n_files == 0
    second.put([file("a.py", "alpha")])
    assert second.search(["alpha"], 10)
    second.close()
    assert ("made anew" in caplog.text) == (damage != "version")


def test_damage_found_while_reading_is_rebuilt_too(store: Store, tmp_path: Path) -> None:
    """A page that opening did not touch is damaged: the caller is told, and can start anew."""
    store.put([file("a.py", *(f"name{n}" for n in range(2000)))])
    store.compact()
    path = tmp_path / "index" / "index.sqlite3"
    size = path.stat().st_size
    with path.open("r+b") as raw:
        raw.seek(size // 2)
        raw.write(b"\xff" * (size // 2))
    with pytest.raises(IndexUnusable) as raised:
        read_everything(store)
    assert raised.value.is_damaged
    store.rebuild()
    store.put([file("b.py", "alpha")])
    assert [match.path for match in store.search(["alpha"], 10)] == ["b.py"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(IndexUnusable, match="permissions"):
        Store(tmp_path / "file" / "index.sqlite3")


def test_readers_see_whole_files_while_others_write(tmp_path: Path) -> None:
    """A file has as many symbols as chunks at any moment, also through another connection."""
    writer, reader = Store(tmp_path / "i.sqlite3"), Store(tmp_path / "i.sqlite3")
    stop = threading.Event()
    seen: list[tuple[int, int]] = []

    def read() -> None:
        while not stop.is_set():
            symbols = len(reader.symbols_of("a.py"))
            seen.append((symbols, symbols))
            found = reader.search(["common"], 1000)
            assert len(found) in {0, 10, 20}

    thread = threading.Thread(target=read)
    thread.start()
    for n in range(30):
        count = 10 if n % 2 else 20
        writer.put([file("a.py", *(["common"] * count))])
    stop.set()
    thread.join()
    assert seen
    assert {symbols for symbols, _ in seen} <= {0, 10, 20}
    writer.close()
    reader.close()


@pytest.mark.slow
def test_a_kill_at_any_point_loses_at_most_the_last_batch(tmp_path: Path) -> None:
    """kill -9 while two processes write: the index opens, is whole, and can be written."""
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from pathlib import Path\n"
        "from lsp_assist.codebase.store import Store\n"
        "from tests.codebase.test_store import file\n"
        "store = Store(Path(sys.argv[1])); n = 0\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    store.put([file(f'{sys.argv[2]}{n % 50}.py', *(f'name{i}' for i in range(n % 40)))])\n"
        "    n += 1\n"
    )
    path = tmp_path / "index.sqlite3"
    for attempt in range(5):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(path), name], stdout=subprocess.PIPE, text=True
            )
            for name in "ab"
        ]
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        while n_records(path) < (attempt + 1) * 7:
            pass
        for writer in writers:
            writer.kill()
            writer.wait()
            assert writer.stdout is not None
            writer.stdout.close()
        store = Store(path)
        assert not store.was_rebuilt
        for name in store.records():
            symbols = store.symbols_of(name)
            assert [s.ordinal for s in symbols] == list(range(len(symbols)))
        store.put([file("after.py", "alpha")])
        assert store.search(["alpha"], 10)
        store.close()


def read_everything(store: Store) -> None:
    for n in range(2000):
        store.search([f"name{n}"], 10)
        store.symbols_named(f"name{n}")


def n_records(path: Path) -> int:
    store = Store(path)
    try:
        return len(store.records())
    finally:
        store.close()
