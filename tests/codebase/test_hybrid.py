"""Words and meaning together: what is found, how soon, and what happens without vectors."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import pytest

from lsp_assist.codebase.index import Index
from lsp_assist.codebase.search import fuse
from lsp_assist.codebase.store import Filter
from lsp_assist.config import IndexSettings
from tests.codebase.hashing import HashingEmbedder

ALIKE = (frozenset({"resume", "continue"}), frozenset({"purchase", "buy", "order"}))

SHOP = '''def buy(basket):
    """Buy all."""
    return basket.total()


def greet(name):
    """Say hello."""
    return name
'''

DOWNLOAD = """def resume_transfer(offset):
    return offset


def stop_transfer():
    return None
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "shop.py").write_text(SHOP)
    (folder / "download.py").write_text(DOWNLOAD)
    (folder / "notes.md").write_text("# Notes\n\nWhat one can purchase here.\n")
    # What stands out does so among others.
    (folder / "colours").mkdir()
    for colour in "red orange yellow green blue indigo violet cyan magenta black".split():
        (folder / "colours" / f"{colour}.go").write_text(f"func {colour}() int {{ return 1 }}\n")
    return folder


@pytest.fixture
def embedder() -> HashingEmbedder:
    return HashingEmbedder(alike=ALIKE)


@pytest.fixture
def index(root: Path, tmp_path: Path, embedder: HashingEmbedder) -> Iterator[Index]:
    made = opened(root, tmp_path, embedder)
    made.refresh()
    assert made.embed()
    yield made
    made.close()


def opened(root: Path, tmp_path: Path, *embedders: HashingEmbedder) -> Index:
    return Index(root, tmp_path / "cache" / "index.sqlite3", IndexSettings(), embedders)


def symbols(index: Index, query: str, where: Filter | None = None) -> list[str]:
    return [hit.symbol for hit in index.search(query, 10, where or Filter())]


def test_a_place_is_found_by_what_it_means(index: Index) -> None:
    assert symbols(index, "continue a download")[0] == "resume_transfer"
    assert "buy" in symbols(index, "order")


def test_words_alone_answer_until_the_vectors_are_there(
    root: Path, tmp_path: Path, embedder: HashingEmbedder
) -> None:
    index = opened(root, tmp_path, embedder)
    index.refresh()
    assert symbols(index, "resume transfer")[0] == "resume_transfer"
    assert "buy" not in symbols(index, "order")
    index.embed()
    assert "buy" in symbols(index, "order")
    index.close()


def test_unsaved_text_is_found_by_what_it_means_and_leaves_no_trace(
    root: Path, tmp_path: Path, index: Index, embedder: HashingEmbedder
) -> None:
    index.overlay("shop/shop.py", "def purchase_all():\n    return 1\n")
    index.embed()
    assert "purchase_all" in symbols(index, "order")
    assert "buy" not in symbols(index, "order")
    index.close()
    again = opened(root, tmp_path, embedder)
    n_texts = embedder.n_texts
    again.embed()
    assert embedder.n_texts == n_texts  # the saved text's vectors are there,
    again.overlay("shop/shop.py", "def purchase_all():\n    return 1\n")
    again.embed()
    assert embedder.n_texts > n_texts  # the unsaved one's were never written
    again.close()


def test_saving_what_was_embedded_unsaved_embeds_nothing_again(
    root: Path, index: Index, embedder: HashingEmbedder
) -> None:
    text = SHOP + "\n\ndef refund(order):\n    return order\n"
    index.overlay("shop/shop.py", text)
    index.embed()
    n_texts = embedder.n_texts
    (root / "shop" / "shop.py").write_text(text)
    index.overlay("shop/shop.py", None)
    index.refresh_file("shop/shop.py")
    index.embed()
    assert embedder.n_texts == n_texts
    assert "refund" in symbols(index, "purchase")


def test_a_branch_switch_embeds_only_what_is_new(
    root: Path, index: Index, embedder: HashingEmbedder
) -> None:
    before = embedder.n_texts
    (root / "copy.py").write_text(SHOP)  # the same contents in another place
    (root / "shop" / "shop.py").write_text("def other():\n    return 2\n")
    index.refresh()
    index.embed()
    assert embedder.n_texts == before + 1
    (root / "shop" / "shop.py").write_text(SHOP)
    index.refresh()
    index.embed()
    assert embedder.n_texts == before + 1
    assert {hit.path for hit in index.search("order", 10) if hit.symbol == "buy"} == {
        "copy.py",
        "shop/shop.py",
    }


def test_a_stopped_run_goes_on_where_it_was(tmp_path: Path, embedder: HashingEmbedder) -> None:
    root = tmp_path / "many"
    root.mkdir()
    for n in range(100):
        (root / f"m{n}.py").write_text(f"def function_{n}(): return {n}\n")
    index = opened(root, tmp_path, embedder)
    index.refresh()
    reports: list[tuple[int, int]] = []
    assert not index.embed(lambda: len(reports) >= 2, lambda *done: reports.append(done))
    assert reports == [(32, 100), (64, 100)]
    assert index.embedding.states()[0].n_waiting == 36
    index.close()
    again = opened(root, tmp_path, embedder)
    assert again.embed()
    assert embedder.n_texts == 100
    assert again.embedding.states()[0].n_waiting == 0
    again.close()


def test_a_new_embedder_takes_over_when_it_knows_the_chunks(
    index: Index, embedder: HashingEmbedder
) -> None:
    other = HashingEmbedder("other", 48, alike=(frozenset({"greet", "welcome"}),))
    index.embedding.use([other])
    assert symbols(index, "order")[0] == "buy"
    assert symbols(index, "welcome")[:1] != ["greet"]
    index.embed()
    assert symbols(index, "order")[:1] != ["buy"]
    assert symbols(index, "welcome")[0] == "greet"


def test_what_does_not_fit_the_disk_is_found_by_words(
    tmp_path: Path, index: Index, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and nobody tries again and again."""
    embedder = HashingEmbedder("another", 32)
    settings = IndexSettings(max_disk_bytes=1)
    capped = Index(root, tmp_path / "cache" / "index.sqlite3", settings, [embedder])
    (root / "new.py").write_text("def brand_new(): pass\n")
    capped.refresh()
    with caplog.at_level(logging.WARNING):
        assert capped.embed()
        assert capped.embed()
    assert embedder.n_texts == 0
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "max_disk_bytes" in caplog.text
    assert symbols(capped, "brand_new")[0] == "brand_new"
    capped.close()


def test_a_broken_embedder_costs_its_voice_and_is_named_once(
    index: Index, root: Path, embedder: HashingEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    embedder.is_broken = True
    (root / "new.py").write_text("def brand_new(): pass\n")
    index.refresh()
    with caplog.at_level(logging.WARNING):
        assert not index.embed()
        assert not index.embed()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert symbols(index, "brand_new")[0] == "brand_new"
    embedder.is_broken = False
    assert index.embed()


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (Filter("shop"), {"shop/shop.py"}),
        (Filter("shop/shop.py"), {"shop/shop.py"}),
        (Filter("sho"), set()),
        (Filter(language="markdown"), {"notes.md"}),
        (Filter("shop/", "markdown"), set()),
    ],
)
def test_a_search_may_be_about_a_folder_or_a_language(
    index: Index, where: Filter, expected: set[str]
) -> None:
    index.overlay("download.py", "def purchase_download(): pass\n")
    for query in ("purchase", "order the transfer total name"):
        assert {hit.path for hit in index.search(query, 10, where)} <= expected
    assert {hit.path for hit in index.search("purchase buy notes", 10, where)} == expected


def test_vectors_that_are_thrown_away_are_made_again(
    index: Index, embedder: HashingEmbedder
) -> None:
    n_texts = embedder.n_texts
    assert index.embedding.clear()
    assert index.embed()
    assert embedder.n_texts == 2 * n_texts
    assert "buy" in symbols(index, "order")


scores = st.floats(-1, 1, allow_nan=False, width=16)


@hypothesis.given(
    st.lists(st.tuples(st.floats(0, 50), st.none() | scores), min_size=1, max_size=20),
    st.floats(0.1, 0.9),
)
def test_fused_scores_keep_what_both_voices_agree_on(
    judged: Sequence[tuple[float, float | None]], weight: float
) -> None:
    words = [score for score, _ in judged]
    fused = fuse(words, [[other for _, other in judged]], [weight, 1 - weight])
    assert all(-1e-9 <= score <= 1 + 1e-9 for score in fused)
    for a, (word_a, other_a) in enumerate(judged):
        for b, (word_b, other_b) in enumerate(judged):
            if other_a is None or other_b is None:
                continue
            if word_a >= word_b and other_a >= other_b:
                assert fused[a] >= fused[b] - 1e-9


def test_a_voice_that_does_not_know_a_chunk_does_not_hold_it_back() -> None:
    assert fuse([4.0, 2.0, 4.0], [[0.9, -0.1, None]], [0.6, 0.4]) == pytest.approx([1.0, 0.3, 1.0])
    assert fuse([4.0, 2.0], [], [1.0]) == [1.0, 0.5]
    assert fuse([0.0, 0.0], [[None, None]], [0.6, 0.4]) == [0.0, 0.0]
