"""The background work: soon after a rest, out of the way of questions, and told to stop."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lsp_assist.codebase.embedding_thread import EmbeddingThread, is_on_battery
from lsp_assist.codebase.index import Index
from lsp_assist.config import IndexSettings
from lsp_assist.errors import ModelFileError
from lsp_assist.llm import Embedder
from tests.codebase.hashing import HashingEmbedder

Open = Callable[[Sequence[Embedder]], tuple[Index, EmbeddingThread]]


class GatedEmbedder(HashingEmbedder):
    """Embeds a batch whenever it is let; says when it stands before one."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.arrived.release()
        self.let.acquire()
        return super().embed(texts)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    root = tmp_path / "workspace"
    root.mkdir()
    for n in range(100):
        (root / f"m{n}.py").write_text(f"def function_{n}(): return {n}\n")
    made: list[tuple[Index, EmbeddingThread]] = []

    def open_(embedders: Sequence[Embedder]) -> tuple[Index, EmbeddingThread]:
        index = Index(root, tmp_path / "cache" / "index.sqlite3", IndexSettings())
        index.refresh()
        thread = EmbeddingThread(lambda: embedders)
        made.append((index, thread))
        thread.add(index)
        return made[-1]

    yield open_
    for index, thread in made:
        thread.close()
        index.close()


def test_everything_is_embedded_and_then_what_changes(opened: Open, tmp_path: Path) -> None:
    embedder = HashingEmbedder()
    index, thread = opened([embedder])
    assert thread.wait()
    assert embedder.n_texts == 100
    assert index.embedding.states()[0].is_ready
    index.overlay("m1.py", "def something_else(): return 1\n")
    thread.wake()
    assert thread.wait()
    assert embedder.n_texts == 101


def test_a_question_stops_the_work_at_the_next_batch_and_its_end_resumes_it(opened: Open) -> None:
    embedder = GatedEmbedder()
    index, thread = opened([embedder])
    embedder.arrived.acquire()
    thread.question_began()
    thread.question_began()
    embedder.let.release(50)
    assert not thread.wait(lambda: embedder.n_texts >= 32)
    thread.question_ended()
    assert embedder.n_texts == 32
    thread.question_ended()
    assert thread.wait()
    assert embedder.n_texts == 100
    assert index.embedding.states()[0].n_waiting == 0


def test_it_is_paused_and_resumed_for_all_processes(opened: Open, tmp_path: Path) -> None:
    embedder = GatedEmbedder()
    index, thread = opened([embedder])
    embedder.arrived.acquire()
    other = Index(index.root, tmp_path / "cache" / "index.sqlite3", IndexSettings())
    other.embedding.pause(True)
    embedder.let.release(50)
    assert thread.wait()
    assert index.embedding.is_paused
    assert embedder.n_texts == 32
    other.embedding.pause(False)
    thread.wake()
    assert thread.wait()
    assert embedder.n_texts == 100
    other.close()


def test_who_waits_is_told_that_it_cannot_be_done(opened: Open) -> None:
    embedder = HashingEmbedder()
    embedder.is_broken = True
    index, thread = opened([embedder])
    assert not thread.wait()
    assert index.embedding.states()[0].n_waiting == 100
    embedder.is_broken = False
    thread.wake()
    assert thread.wait()


def test_an_index_that_is_taken_away_is_left_alone(opened: Open) -> None:
    embedder = GatedEmbedder()
    index, thread = opened([embedder])
    embedder.arrived.acquire()
    thread.remove(index)
    embedder.let.release(50)
    assert not thread.wait(lambda: embedder.n_texts >= 32)
    thread.close()
    assert embedder.n_texts == 32


def test_without_an_embedder_there_is_nothing_to_wait_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Sequence[Embedder]:
        raise ModelFileError("The table is gone; install it anew.")

    thread = EmbeddingThread(broken)
    assert thread.wait()
    thread.close()
    assert "The table is gone" in caplog.text


@pytest.mark.parametrize(
    ("supplies", "expected"),
    [
        ({}, False),
        ({"BAT0": "Battery/Discharging"}, True),
        ({"BAT0": "Battery/Charging", "AC": "Mains/1"}, False),
        ({"BAT0": "Battery/Discharging", "AC": "Mains/0"}, True),
        ({"BAT0": "Battery/Discharging", "AC": "Mains/1"}, False),
        ({"mouse": "Battery/Discharging/Device"}, False),
    ],
)
def test_the_battery_is_asked_of_the_platform(
    tmp_path: Path, supplies: dict[str, str], expected: bool
) -> None:
    for name, described in supplies.items():
        kind, state, *scope = described.split("/")
        (tmp_path / name).mkdir()
        (tmp_path / name / "type").write_text(f"{kind}\n")
        (tmp_path / name / ("online" if kind == "Mains" else "status")).write_text(f"{state}\n")
        if scope:
            (tmp_path / name / "scope").write_text(scope[0])
    assert is_on_battery(tmp_path) is expected
    assert not is_on_battery(tmp_path / "not-there")
