"""The workspace keeps its indexes fresh by itself, and says how they are."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lsp_assist.config import resolve
from lsp_assist.llm import Embedder
from lsp_assist.workspace import Progress, Workspace
from tests.codebase.hashing import HashingEmbedder

ALIKE = (frozenset({"purchase", "buy", "order"}),)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    for n in range(20):
        (folder / f"m{n}.py").write_text(f"def function_{n}(value):\n    return value + {n}\n")
    return folder


@asynccontextmanager
async def opened(root: Path, *embedders: Embedder) -> AsyncIterator[Workspace]:
    def embedding() -> Sequence[Embedder]:
        return embedders

    workspace = Workspace(resolve(), [root], embedding if embedders else None)
    await workspace.start()
    try:
        yield workspace
    finally:
        await workspace.close()


async def until(holds: Callable[[], bool]) -> None:
    """Wait for a condition; the test's own time limit ends one that never holds."""
    while not holds():  # noqa: ASYNC110  # nothing tells when
        await asyncio.sleep(0.01)


async def test_code_is_found_by_what_it_means_and_so_is_what_changes_later(root: Path) -> None:
    embedder = HashingEmbedder(alike=ALIKE)
    async with opened(root, embedder) as workspace:
        reports: list[Progress] = []
        workspace.watches_files = True
        await workspace.refresh()
        assert await workspace.embedded(reports.append)
        status = (await workspace.status())[0]
        assert (status.embedding, status.n_vectors, status.n_waiting) == ("ready", 20, 0)
        assert status.embedder == "hashing"
        assert status.n_bytes > 0
        (root / "shop.py").write_text("def buy(basket):\n    return basket\n")
        workspace.file_changed(root / "shop.py")
        await until(lambda: embedder.n_texts == 21)  # nobody asked
        assert await workspace.embedded()
        hits = await workspace.search("order")
        assert [hit.symbol for hit in hits][:1] == ["buy"]


async def test_without_an_embedder_words_answer_and_nothing_waits(root: Path) -> None:
    async with opened(root) as workspace:
        await workspace.refresh()
        assert await workspace.embedded()
        assert (await workspace.status())[0].embedding == "off"
        assert (await workspace.search("function_7"))[0].symbol == "function_7"


async def test_a_question_that_nothing_answers_finds_nothing(root: Path) -> None:
    async with opened(root, HashingEmbedder()) as workspace:
        (root / "only.py").write_text("def only(): pass\n")
        for n in range(20):
            (root / f"m{n}.py").unlink()
        await workspace.refresh()
        assert await workspace.embedded()
        assert await workspace.search("zebra giraffe") == []


async def test_embedding_waits_while_a_question_runs(root: Path) -> None:
    embedder = HashingEmbedder()
    async with opened(root, embedder) as workspace:
        with workspace.question():
            await workspace.refresh()
            assert (await workspace.search("function_7"))[0].symbol == "function_7"
            assert embedder.n_texts == 0
        assert await workspace.embedded()
        assert embedder.n_texts == 20


async def test_it_is_paused_until_it_is_resumed(root: Path) -> None:
    embedder = HashingEmbedder()
    async with opened(root) as workspace:
        await workspace.refresh()
        await workspace.pause(True)
    async with opened(root, embedder) as workspace:
        assert await workspace.embedded()
        assert embedder.n_texts == 0
        assert (await workspace.status())[0].embedding == "paused"
        await workspace.pause(False)
        assert await workspace.embedded()
        assert embedder.n_texts == 20


async def test_who_only_asks_how_it_is_reads_what_another_process_noted(root: Path) -> None:
    async with opened(root, HashingEmbedder()) as workspace:
        await workspace.refresh()
        assert await workspace.embedded()
    workspace = Workspace(resolve(), [root], lambda: [HashingEmbedder()])
    workspace.embeds = False
    await workspace.start()
    status = (await workspace.status())[0]
    assert (status.embedder, status.n_vectors) == ("hashing", 20)
    await workspace.close()


async def test_what_was_thrown_away_is_made_anew(root: Path) -> None:
    embedder = HashingEmbedder()
    async with opened(root, embedder) as workspace:
        await workspace.refresh()
        assert await workspace.embedded()
        await workspace.clear()
        assert await workspace.search("function_7") == []
        done = await workspace.refresh()
        assert done.n_changed == 20
        assert await workspace.embedded()
        assert embedder.n_texts == 40


async def test_what_ranking_needs_is_found_out_when_no_question_runs(root: Path) -> None:
    async with opened(root) as workspace:
        workspace.keeps_ready = True
        with workspace.question():
            await workspace.refresh()
            await workspace.search("function_7")
            (index,) = workspace.indexes
            assert not index.is_ready
        await until(lambda: index.is_ready)


async def test_many_changed_files_are_one_look_at_the_disk(root: Path) -> None:
    async with opened(root) as workspace:
        workspace.watches_files = True
        await workspace.refresh()
        for n in range(300):
            (root / f"n{n}.py").write_text(f"def newer_{n}(): pass\n")
            workspace.file_changed(root / f"n{n}.py")
        await workspace.freshness()
        await workspace.refresh()  # the look that is under way
        assert (await workspace.search("newer_299"))[0].symbol == "newer_299"
        assert (await workspace.refresh()).n_changed == 0


async def test_an_ignore_file_and_a_folder_concern_other_files(root: Path) -> None:
    async with opened(root) as workspace:
        workspace.watches_files = True
        (root / "a").mkdir()
        (root / "a" / "inner.py").write_text("def inner(): pass\n")
        await workspace.refresh()
        (root / "a").rename(root / "b")
        workspace.file_changed(root / "a")
        workspace.file_changed(root / "b")
        await workspace.freshness()
        await workspace.refresh()
        assert [hit.path for hit in await workspace.search("inner")] == ["b/inner.py"]
        (root / ".gitignore").write_text("/b/\n")
        workspace.file_changed(root / ".gitignore")
        await workspace.freshness()
        await workspace.refresh()
        assert await workspace.search("inner") == []


async def test_folders_are_watched_where_the_editor_does_not(root: Path) -> None:
    embedder = HashingEmbedder()
    async with opened(root, embedder) as workspace:
        assert await workspace.watch()
        await workspace.refresh()
        assert await workspace.embedded()
        (root / "later.py").write_text("def later(): pass\n")
        await until(lambda: embedder.n_texts == 21)
        assert (await workspace.search("later"))[0].symbol == "later"
