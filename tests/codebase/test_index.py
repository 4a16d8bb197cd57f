"""The index stays equal to the code, saved or not, and finds places in it."""

import os
import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lsp_assist.codebase.index import Index, Progress
from lsp_assist.config import IndexSettings
from tests.codebase.rebuild import differences, rebuilt_differs

RETRY = '''"""Retrying of requests."""


class Retry:
    """How often and how long to retry."""

    def increment(self, error):
        """Count one more failed request."""
        if self.is_exhausted():
            raise error
        return Retry()

    def is_exhausted(self):
        return True
'''

SESSION = """from retry import Retry


def send(request):
    retries = Retry()
    return retries.increment(request)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "retry.py").write_text(RETRY)
    (folder / "src" / "session.py").write_text(SESSION)
    return folder


@pytest.fixture
def index(root: Path, tmp_path: Path) -> Iterator[Index]:
    made = Index(root, tmp_path / "cache" / "index.sqlite3", IndexSettings())
    made.refresh()
    yield made
    made.close()


def found(index: Index, query: str) -> list[tuple[str, str]]:
    return [(hit.path, hit.symbol) for hit in index.search(query, 10)]


def test_a_question_finds_the_place_that_answers_it(index: Index) -> None:
    hits = index.search("Where is a failed request counted?", 10)
    assert (hits[0].path, hits[0].symbol) == ("src/retry.py", "Retry")
    assert (hits[0].start_line, hits[0].end_line) == (3, 13)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_named_symbol_is_found_within_the_chunk_of_a_small_class(index: Index) -> None:
    hit = index.search("where does increment happen", 10)[0]
    assert (hit.symbol, hit.start_line, hit.end_line) == ("Retry.increment", 6, 10)


def test_a_selection_is_about_a_symbol_within_or_around_it(index: Index) -> None:
    def symbol(start: int, end: int) -> str:
        found = index.symbol_at("src/retry.py", start, end)
        return found.hit.symbol if found else ""

    assert symbol(6, 10) == "Retry.increment"
    assert symbol(8, 8) == "Retry.increment"
    assert symbol(0, 99) == "Retry"
    assert symbol(0, 0) == ""


def test_a_passage_has_the_text_and_who_calls_whom(index: Index) -> None:
    hit = index.search("increment", 1)[0]
    passage = index.passage(hit)
    assert passage is not None
    passage = index.related(passage)
    assert passage is not None
    assert passage.text.strip().startswith("def increment(self, error):")
    assert passage.signature == "def increment(self, error)"
    assert passage.summary == "Count one more failed request."
    assert [caller.qualified_name for caller in passage.callers] == ["send"]
    assert "Retry.is_exhausted" in [callee.qualified_name for callee in passage.callees]


def test_a_second_refresh_reads_only_what_changed(index: Index, root: Path) -> None:
    assert index.refresh().n_changed == 0
    (root / "src" / "new.py").write_text("def brand_new(): pass\n")
    (root / "src" / "session.py").unlink()
    done = index.refresh()
    assert (done.n_changed, done.n_removed, done.is_complete) == (1, 1, True)
    assert found(index, "brand_new") == [("src/new.py", "brand_new")]
    assert ("src/session.py", "send") not in found(index, "send request")


def test_a_touched_file_is_noted_and_not_read_again(index: Index, root: Path) -> None:
    os.utime(root / "src" / "retry.py", (1, 1))
    assert index.refresh().n_changed == 1
    assert index.refresh().n_changed == 0
    assert found(index, "increment")


def test_unsaved_text_is_found_and_gone_when_it_is_closed(index: Index) -> None:
    text = "def unsaved_function(retry: Retry):\n    retry.increment()\n"
    index.overlay("src/session.py", f"from retry import Retry\n{text}")
    assert found(index, "unsaved_function") == [("src/session.py", "unsaved_function")]
    assert ("src/session.py", "send") not in found(index, "send")
    passage = index.passage(index.search("increment", 5)[0])
    assert passage is not None
    passage = index.related(passage)
    assert passage is not None
    assert "unsaved_function" in [caller.name for caller in passage.callers]
    index.overlay("src/session.py", None)
    assert found(index, "unsaved_function") == []
    assert ("src/session.py", "send") in found(index, "send")


def test_unsaved_text_obeys_the_ignore_rules(index: Index, root: Path) -> None:
    """Opening a file in the editor is no consent to show it to a model."""
    (root / ".gitignore").write_text("/build/\n*.local.py\n")
    for path in (".env", "src/a.local.py", "build/b.py", "node_modules/c.js", "../d.py", "id_rsa"):
        index.overlay(path, "def hidden_thing(): pass\n")
    index.overlay("src/brand/new.py", "def shown_thing(): pass\n")
    assert {hit.path for hit in index.search("hidden_thing shown_thing", 20)} == {
        "src/brand/new.py"
    }


def test_unsaved_text_ranks_as_it_will_when_saved(root: Path, tmp_path: Path) -> None:
    """One scale: saving a file moves no hit."""
    index = Index(root, tmp_path / "i.sqlite3", IndexSettings())
    index.refresh()
    text = "def resend(request):\n    '''Send a request again.'''\n    return request\n"
    index.overlay("src/again.py", text)
    unsaved = [(hit.path, hit.symbol, round(hit.score, 6)) for hit in index.search("request", 10)]
    (root / "src" / "again.py").write_text(text)
    index.overlay("src/again.py", None)
    index.refresh()
    saved = [(hit.path, hit.symbol, round(hit.score, 6)) for hit in index.search("request", 10)]
    assert [place[:2] for place in unsaved] == [place[:2] for place in saved]
    before, after = ({place[:2]: place[2] for place in places} for places in (unsaved, saved))
    assert before["src/again.py", "resend"] == pytest.approx(
        after["src/again.py", "resend"], rel=0.2
    )
    index.close()


def test_a_hit_whose_text_is_gone_is_dropped_when_it_is_read(index: Index, root: Path) -> None:
    hit = index.search("increment", 1)[0]
    (root / "src" / "retry.py").write_text("# rewritten\n" + RETRY)
    assert index.passage(hit) is None
    (root / "src" / "retry.py").unlink()
    assert index.passage(hit) is None


def test_one_file_can_be_refreshed_alone(index: Index, root: Path) -> None:
    (root / "src" / "retry.py").write_text("def renamed(): pass\n")
    index.refresh_file("src/retry.py")
    assert found(index, "renamed") == [("src/retry.py", "renamed")]
    assert found(index, "is_exhausted") == []
    (root / "src" / "retry.py").unlink()
    index.refresh_file("src/retry.py")
    assert found(index, "renamed") == []


@pytest.mark.parametrize("path", ["../outside.py", ".git/config", "src", "missing.py", ".env"])
def test_a_single_file_obeys_the_same_rules_as_a_walk(index: Index, root: Path, path: str) -> None:
    (root.parent / "outside.py").write_text("def outside(): pass\n")
    (root / ".env").write_text("outside = 1\n")
    index.refresh_file(path)
    assert found(index, "outside") == []


def test_tests_and_prose_stand_behind_what_they_are_about(root: Path, index: Index) -> None:
    (root / "tests").mkdir()
    (root / "tests" / "test_retry.py").write_text(
        "def test_increment():\n    '''Count one more failed request.'''\n    increment()\n"
    )
    (root / "README.md").write_text("# increment\n\nCount one more failed request: increment.\n")
    index.refresh()
    assert found(index, "increment a failed request")[0] == ("src/retry.py", "Retry.increment")


def test_a_stopped_refresh_keeps_what_it_did_and_goes_on_from_there(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    root.mkdir()
    for n in range(120):
        (root / f"m{n}.py").write_text(f"def function_{n}(): pass\n")
    index = Index(root, tmp_path / "i.sqlite3", IndexSettings())
    reports: list[Progress] = []
    first = index.refresh(reports.append, lambda: len(reports) > 1)
    assert not first.is_complete
    assert 0 < first.n_changed < 120
    assert index.progress is None
    second = index.refresh()
    assert second.is_complete
    assert first.n_changed + second.n_changed == 120
    assert index.search("function_7", 5)[0].symbol == "function_7"
    index.close()


def test_a_question_during_the_first_refresh_is_answered_from_what_is_there(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    root.mkdir()
    for n in range(200):
        (root / f"m{n:03}.py").write_text(f"def function_{n:03}(): pass\n")
    index = Index(root, tmp_path / "i.sqlite3", IndexSettings())
    seen: list[bool] = []

    def ask(progress: Progress) -> None:
        if progress.n_done == 100:
            seen.append(("m000.py", "function_000") in found(index, "function_000"))
            seen.append(("m199.py", "function_199") in found(index, "function_199"))

    index.refresh(ask)
    assert seen == [True, False]
    index.close()


def test_bad_files_cost_only_themselves(root: Path, index: Index) -> None:
    src = root / "src"
    (src / "binary.py").write_bytes(b"\x00\x01" * 1000)
    (src / "latin.py").write_bytes("def grüße(): pass\n".encode("latin-1"))
    (src / "loop").symlink_to(root)
    (src / "dangling.py").symlink_to("nowhere.py")
    os.mkfifo(src / "pipe.py")
    with (src / "huge.py").open("wb") as huge:
        huge.truncate(50_000_000)
    (src / "deep.py").write_text("(" * 100_000)
    done = index.refresh()
    assert done.is_complete
    assert ("src/latin.py", "grüße") in found(index, "grüße")
    assert found(index, "increment")
    assert index.refresh().n_changed == 0


QUESTIONS: dict[str, Callable[[Index], object]] = {
    "search": lambda index: index.search("function_50", 5),
    "ranks": lambda index: index.file_ranks({"m1.py": 1.0}),
    "importers": lambda index: index.importers("m0.py"),
    "closure": lambda index: index.closure("m1.py", 0, 9),
    "tests": lambda index: index.tests_of("m0.py", 1),
    "symbols": lambda index: index.symbols_like("function_5", 5),
    "at": lambda index: index.symbol_at("m1.py", 1, 1),
}


@pytest.mark.parametrize("ask", QUESTIONS.values(), ids=QUESTIONS)
def test_whoever_finds_damage_has_it_mended(
    ask: Callable[[Index], object], root: Path, tmp_path: Path
) -> None:
    """What is asked of a damaged index is answered as if it had been whole."""
    for n in range(100):
        imported = f"from m{n - 1} import function_{n - 1}\n" if n else ""
        code = f"{imported}def function_{n}():\n    return function_{max(n - 1, 0)}()\n"
        (root / f"m{n}.py").write_text(code * 10)
    (root / "test_m.py").write_text("from m0 import function_0\ndef test_it(): function_0()\n")
    path = tmp_path / "i.sqlite3"
    index = Index(root, path, IndexSettings())
    index.refresh()
    expected = ask(index)
    assert expected
    index.close()
    index = Index(root, path, IndexSettings())
    with path.open("r+b") as raw:
        raw.seek(8192)
        raw.write(b"\xff" * (path.stat().st_size - 8192))
    assert ask(index) == expected
    index.close()


def test_a_damaged_index_mends_itself(root: Path, tmp_path: Path) -> None:
    """Damage behind the first page shows up while reading; the next question works."""
    for n in range(300):
        (root / f"m{n}.py").write_text(f"def function_{n}(): return {n}\n" * 20)
    path = tmp_path / "i.sqlite3"
    index = Index(root, path, IndexSettings())
    index.refresh()
    with path.open("r+b") as raw:
        raw.seek(8192)
        raw.write(os.urandom(path.stat().st_size - 8192))
    index.refresh()
    assert index.search("increment", 5)
    assert index.search("function_250", 5)
    index.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_index_after_any_changes_equals_one_built_from_scratch_row_by_row(
    tmp_path: Path, seed: int
) -> None:
    """Edits, renames, deletes, undo and branch switches leave no trace, in any table."""
    assert rebuilt_differs(tmp_path, 120, seed) == []


@pytest.mark.slow
def test_searches_after_random_edits_are_those_of_an_index_built_from_scratch(
    tmp_path: Path,
) -> None:
    """Writes, deletes, renames, overlays and refreshes in any order leave no trace of the past."""
    draw = random.Random(7)
    root = tmp_path / "workspace"
    root.mkdir()
    index = Index(root, tmp_path / "a.sqlite3", IndexSettings())
    names = [f"{folder}/m{n}.py" for folder in ("a", "b/c", "d") for n in range(6)]
    for step in range(200):
        name = draw.choice(names)
        path = root / name
        match draw.randrange(6):
            case 0 | 1:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(_code(draw, step))
            case 2 if path.exists():
                path.unlink()
            case 3 if path.exists():
                target = root / draw.choice(names)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.move(path, target)
            case 4:
                index.overlay(name, _code(draw, step) if draw.random() < 0.5 else None)
            case 5:
                index.refresh() if draw.random() < 0.5 else index.refresh_file(name)
    for name in names:
        index.overlay(name, None)
    index.refresh()
    fresh = Index(root, tmp_path / "b.sqlite3", IndexSettings())
    fresh.refresh()
    assert index.counts() == fresh.counts()
    for query in [f"name_{n}" for n in range(20)] + ["value", "def function"]:
        ours = [(h.path, h.symbol, h.start_line, h.score) for h in index.search(query, 50)]
        theirs = [(h.path, h.symbol, h.start_line, h.score) for h in fresh.search(query, 50)]
        assert ours == theirs
    index.close()
    fresh.close()


def test_the_comparison_of_two_indexes_sees_a_single_word(tmp_path: Path) -> None:
    """The check itself fails where it must."""
    for name, text in (("one", "def f(): return 1\n"), ("other", "def f(): return g\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(text)
        index = Index(tmp_path / name, tmp_path / f"{name}.sqlite3", IndexSettings())
        index.refresh()
        index.close()
    found = differences(tmp_path / "one.sqlite3", tmp_path / "other.sqlite3")
    assert {row.split()[1] for row in found} >= {"files:", "chunks:", "words:", "uses:"}


def test_many_threads_may_ask_while_one_refreshes(root: Path, index: Index) -> None:
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            for _ in range(30):
                for hit in index.search("increment request", 5):
                    index.passage(hit)
        except BaseException as error:  # noqa: BLE001  # reported below
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for n in range(20):
        (root / "src" / "session.py").write_text(SESSION + f"# {n}\n")
        index.overlay("src/retry.py", RETRY + f"# {n}\n" if n % 2 else None)
        index.refresh()
    for thread in threads:
        thread.join()
    assert not failures


def _code(draw: random.Random, step: int) -> str:
    return "".join(
        f"def name_{draw.randrange(20)}(value):\n    return name_{draw.randrange(20)}({step})\n\n\n"
        for _ in range(draw.randrange(1, 6))
    )
