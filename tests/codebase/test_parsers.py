"""A file that its grammar cannot take costs itself, and nobody waits for it."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_assist.codebase import ingest
from lsp_assist.codebase.files import FileEntry
from lsp_assist.codebase.packing import packed, unpacked
from lsp_assist.codebase.parser_worker import LIMITS, Limits, Worker, WorkerDied
from lsp_assist.codebase.parsers import Parsers, Unchanged
from lsp_assist.codebase.store import FileRecord, IndexedFile
from tests.codebase.outline_text import Fixture, fixtures

HANGS = "@a\n" * 33_000
"""Takes tree-sitter's Kotlin 20 seconds, in which it never asks whether to go on."""
SHORT = Limits(cpu_s=1.0, wait_s=30.0)
GOOD = "def good(): pass\n"

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and /proc are POSIX")


def entry(root: Path, path: str, text: str) -> FileEntry:
    (root / path).write_text(text)
    status = (root / path).stat()
    return FileEntry(path, status.st_size, status.st_mtime_ns, status.st_ino)


@pytest.fixture
def parsers(tmp_path: Path) -> Iterator[Parsers]:
    made = Parsers(tmp_path, 1_000_000, SHORT)
    yield made
    made.close()


def names(file: IndexedFile | Unchanged | None) -> list[str]:
    assert isinstance(file, IndexedFile)
    return [symbol.name for symbol in file.symbols]


def all_of(parsers: Parsers, entries: list[FileEntry]) -> dict[str, IndexedFile]:
    with closing(parsers.files(entries, {})) as found:
        return {file.path: file for file in found if isinstance(file, IndexedFile)}


def test_a_file_is_what_it_is_without_the_process(tmp_path: Path) -> None:
    """The process changes nothing: same symbols, uses, chunks and terms."""
    parsers = Parsers(tmp_path, 1_000_000)
    made = [(entry(tmp_path, Path(f.path).name, f.source), f) for f in fixtures()]
    made = list({at.path: (at, fixture) for at, fixture in made}.values())
    found = all_of(parsers, [at for at, _ in made])
    for at, fixture in made:
        record = FileRecord(at.size, at.mtime_ns, found[at.path].record.hash)
        assert found[at.path] == ingest.indexed(at.path, fixture.source, record)
        assert parsers.file(at) == found[at.path]
    parsers.close()


def test_an_open_file_is_as_if_it_came_anew_after_each_edit(parsers: Parsers) -> None:
    """Terms are sent once; what is put together from them is whole, also for whoever comes anew."""
    source = next(f.source for f in fixtures() if f.file.stem == "python")
    texts = [source, source.replace("self", "other"), source, "", source + GOOD, GOOD + source]
    for n, text in enumerate(texts):
        if n == 3:
            parsers.forget("a.py")
        expected = ingest.indexed("a.py", text, FileRecord(len(text), 0, "unsaved"))
        assert parsers.text("a.py", text) == expected
        assert parsers.text("b.py", text).chunks[1:] == parsers.text("b.py", text).chunks[1:]


def test_a_file_whose_text_is_known_is_not_parsed(parsers: Parsers, tmp_path: Path) -> None:
    at = entry(tmp_path, "a.py", GOOD)
    first = parsers.file(at)
    assert isinstance(first, IndexedFile)
    again = parsers.file(at, first.record.hash)
    assert again == Unchanged("a.py", first.record)


def test_a_file_that_hangs_costs_itself_and_is_still_found_by_its_words(
    parsers: Parsers, tmp_path: Path
) -> None:
    entries = [entry(tmp_path, f"{n}.py", GOOD) for n in range(5)]
    entries.insert(2, entry(tmp_path, "hangs.kt", HANGS))
    found = all_of(parsers, entries)
    assert len(found) == 6
    assert all(names(file) == ["good"] for path, file in found.items() if path != "hangs.kt")
    assert found["hangs.kt"].problem.startswith("Parsing took more than 1 s")
    assert found["hangs.kt"].symbols == ()
    assert found["hangs.kt"].chunks[0].body_terms
    assert found["hangs.kt"].record.hash


def test_an_open_file_that_hangs_does_so_once(parsers: Parsers) -> None:
    """The next questions do not wait for it again, and other files are parsed as ever."""
    first = parsers.text("hangs.kt", HANGS)
    assert first.problem.startswith("Parsing took more than 1 s")
    again = parsers.text("hangs.kt", HANGS + "\n")
    assert "a moment ago" in again.problem
    assert again.chunks
    assert names(parsers.text("a.py", GOOD)) == ["good"]
    parsers.forget("hangs.kt")
    assert names(parsers.text("hangs.kt", "fun good() {}\n")) == ["good"]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep the limit")
def test_a_file_that_takes_all_memory_costs_itself(tmp_path: Path) -> None:
    parsers = Parsers(tmp_path, 100_000_000, Limits(60.0, 60.0, memory_bytes=400_000_000))
    large = entry(tmp_path, "large.py", "f(a, b)\n" * 2_000_000)
    small = entry(tmp_path, "small.py", GOOD)
    found = all_of(parsers, [large, small])
    parsers.close()
    assert "ended" in found["large.py"].problem
    assert names(found["small.py"]) == ["good"]


@posix
def test_a_process_that_is_killed_is_replaced(tmp_path: Path) -> None:
    worker = Worker(LIMITS, 0)
    worker.send(("text", "hangs.kt", HANGS, "", 0))
    os.kill(worker.pid, 9)
    with pytest.raises(WorkerDied, match="code -9"):
        worker.receive()


def test_closing_ends_what_runs(parsers: Parsers, tmp_path: Path) -> None:
    """A stopped refresh does not wait for a file that hangs."""
    slow = Parsers(tmp_path, 1_000_000, Limits(cpu_s=60.0))
    found = slow.files([entry(tmp_path, f"{n}.kt", HANGS) for n in range(9)], {})
    assert next(found) is None
    found.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("parser-")]


def test_whoever_waits_waits_for_a_bounded_time(tmp_path: Path) -> None:
    """Also where the process gets no processor to count."""
    parsers = Parsers(tmp_path, 1_000_000, Limits(cpu_s=60.0, wait_s=2.0))
    assert parsers.text("hangs.kt", HANGS).problem.startswith("Parsing took more than 2 s")
    parsers.close()


def test_after_closing_nothing_is_started(parsers: Parsers) -> None:
    parsers.close()
    assert parsers.text("a.py", GOOD).symbols == ()


@posix
@pytest.mark.parametrize("is_busy", [True, False])
def test_a_process_ends_with_its_starter_even_if_that_is_killed(
    tmp_path: Path, is_busy: bool
) -> None:
    script = (
        "import sys\n"
        "from lsp_assist.codebase.parser_worker import Limits, Worker\n"
        "from tests.codebase.test_parsers import HANGS\n"
        "worker = Worker(Limits(cpu_s=2.0), 0)\n"
        "if sys.argv[1] == 'True': worker.send(('text', 'hangs.kt', HANGS, '', 0))\n"
        "print(worker.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", script, str(is_busy)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    with starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        starter.kill()
    wait_until(lambda: has_ended(pid))


@given(st.sampled_from(fixtures()))
@settings(max_examples=10)
def test_packing_loses_nothing(fixture: Fixture) -> None:
    file = ingest.indexed(fixture.path, fixture.source, FileRecord(1, 2, "h"))
    assert unpacked(packed(file)) == file


def wait_until(is_so: Callable[[], bool]) -> None:
    """The test's own time limit ends it."""
    while not is_so():
        threading.Event().wait(0.01)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or a zombie that nobody waited for."""
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
