"""Vectors are found, kept, shared, and made again when they are lost."""

import os
import subprocess
import sys
import time
from pathlib import Path

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from numpy.typing import NDArray

from lsp_assist.codebase.resident import Resident
from lsp_assist.codebase.vectors import Vectors, remove_unused
from tests.codebase.kills import killed

N_DIMS = 32


def drawn(n: int, seed: int = 0) -> tuple[list[str], NDArray[np.float32]]:
    """Keys and unit vectors."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(n, N_DIMS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return [f"{seed:04x}{row:012x}" for row in range(n)], vectors


def opened(folder: Path, name: str = "hashing", ann_rows: int = 500_000) -> Vectors:
    vectors = Vectors(folder, name, N_DIMS, ann_rows=ann_rows)
    vectors.open()
    return vectors


def written(folder: Path, n: int, seed: int = 0) -> Vectors:
    vectors = opened(folder)
    vectors.add(*drawn(n, seed))
    with vectors.lead() as leads:
        assert leads
        assert vectors.write()
    return vectors


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vectors"


@hypothesis.given(st.lists(st.integers(1, 900), max_size=6), st.integers(0, 99))
@hypothesis.settings(max_examples=20)
def test_similarities_in_memory_are_dot_products_but_for_rounding(
    sizes: list[int], seed: int
) -> None:
    resident = Resident(N_DIMS)
    keys: list[str] = []
    parts = [np.empty((0, N_DIMS), np.float32)]
    for part, size in enumerate(sizes):
        some, vectors = drawn(size, 100 * part + seed)
        resident.append(some, vectors)
        resident.append(some[:1], vectors[:1] * 0)  # it is there already
        keys += some
        parts.append(vectors)
    snapshot = resident.snapshot()
    if snapshot is None:
        assert not keys
        return
    query = drawn(1, 9_999)[1][0]
    assert resident.keys == keys
    exact = np.concatenate(parts) @ query
    assert np.abs(snapshot.similarities(query) - exact).max() < 0.02
    rows = list(range(0, len(keys), 7))
    assert np.abs(snapshot.similarities_of(rows, query) - exact[rows]).max() < 0.02


def test_what_is_added_is_found_before_it_is_written(folder: Path) -> None:
    vectors = opened(folder)
    keys, added = drawn(50)
    vectors.add(keys, added)
    key, similarity = vectors.nearest(added[7], 3)[0]
    assert key == keys[7]
    assert similarity == pytest.approx(1.0, abs=0.02)
    assert vectors.missing([keys[0], "ff", "ff"]) == ["ff"]
    assert vectors.n_bytes == 0


def test_what_is_written_is_there_for_the_next_process(folder: Path) -> None:
    written(folder, 50).close()
    again = opened(folder)
    keys, added = drawn(50)
    assert len(again) == 50
    assert again.nearest(added[7], 1)[0][0] == keys[7]
    assert again.n_bytes > 0


def test_unsaved_text_is_not_written(folder: Path) -> None:
    vectors = opened(folder)
    keys, added = drawn(4)
    vectors.add(keys, added)
    with vectors.lead():
        vectors.write(live={keys[1]})
    vectors.close()
    assert opened(folder).missing(keys) == [keys[0], keys[2], keys[3]]


def test_another_embedder_has_a_table_of_its_own(folder: Path) -> None:
    written(folder, 5).close()
    other = Vectors(folder, "hashing", N_DIMS * 2)
    other.open()
    assert len(other) == 0
    assert len(opened(folder, "another")) == 0
    assert len(opened(folder)) == 5


def test_tables_that_nobody_opened_for_weeks_go(folder: Path) -> None:
    """Those in use stay, however long ago they were made."""
    written(folder, 5).close()
    old = Vectors(folder, "old", N_DIMS)
    old.open()
    with old.lead():
        old.add(*drawn(3))
        old.write()
    old.close()
    weeks_later = time.time() + 40 * 24 * 3600
    os.utime(next(folder.glob("hashing-*.used")), (weeks_later, weeks_later))
    assert remove_unused(folder) == []
    assert [name.partition("-")[0] for name in remove_unused(folder, weeks_later)] == ["old"]
    assert len(opened(folder)) == 5
    again = Vectors(folder, "old", N_DIMS)
    again.open()
    assert len(again) == 0


def test_one_of_two_writes_and_the_other_sees_it(folder: Path) -> None:
    ours, theirs = opened(folder), opened(folder)
    keys, added = drawn(9)
    with ours.lead() as leads:
        assert leads
        with theirs.lead() as also_leads:
            assert not also_leads
        ours.add(keys, added)
        ours.write()
        theirs.add(keys[:2], added[:2])
    theirs.sync()
    assert not theirs.missing(keys)
    assert not theirs.has_unwritten
    with theirs.lead() as leads:
        assert leads


def test_dead_vectors_go_when_they_are_many(folder: Path) -> None:
    vectors = written(folder, 3_000)
    keys, added = drawn(3_000)
    with vectors.lead():
        vectors.tidy(set(keys[:2_500]))
        assert len(vectors) == 3_000  # a branch switch brings them back
        vectors.tidy(set(keys[:100]))
    assert len(vectors) == 100
    assert vectors.nearest(added[50], 1)[0][0] == keys[50]
    vectors.close()
    assert sorted(opened(folder)._resident.keys) == keys[:100]


def test_many_small_writes_are_merged(folder: Path) -> None:
    vectors = opened(folder)
    with vectors.lead():
        for seed in range(70):
            vectors.add(*drawn(2, seed))
            vectors.write()
        assert vectors.is_untidy()
        vectors.tidy({key for seed in range(70) for key in drawn(2, seed)[0]})
    assert not vectors.is_untidy()
    vectors.close()
    assert len(opened(folder)) == 140


def test_a_large_table_is_searched_on_disk_and_together_with_what_is_new(folder: Path) -> None:
    written(folder, 2_000).close()
    vectors = opened(folder, ann_rows=1_000)
    keys, added = drawn(2_000)
    fresh_keys, fresh = drawn(10, seed=1)
    vectors.add(fresh_keys, fresh)
    with vectors.lead():
        vectors.write()
        vectors.tidy(set(keys + fresh_keys))  # builds the approximate index
    found = [vectors.nearest(added[row], 1)[0][0] for row in range(0, 2_000, 100)]
    assert found == keys[::100]
    assert vectors.nearest(fresh[3], 1)[0][0] == fresh_keys[3]
    exact = vectors.similarities([keys[5], fresh_keys[5], "ff"], added[5])
    assert set(exact) == {keys[5], fresh_keys[5]}
    assert exact[keys[5]] == pytest.approx(1.0, abs=0.02)
    assert len(vectors) == 2_010


def spoil(path: Path, how: str) -> None:
    match how:
        case "garbage":
            path.write_bytes(os.urandom(max(path.stat().st_size, 16)))
        case "empty":
            path.write_bytes(b"")
        case "gone":
            path.unlink()
        case "cut":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("how", ["garbage", "empty", "gone", "cut"])
@pytest.mark.parametrize("pattern", ["*.lance", "*.manifest", "*.txn"])
def test_a_damaged_table_is_made_anew_with_a_warning(
    folder: Path, pattern: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    written(folder, 300).close()
    for path in folder.rglob(pattern):
        if path.is_file():
            spoil(path, how)
    vectors = opened(folder)
    keys, added = drawn(300)
    if len(vectors) != 300:
        assert "made anew" in caplog.text or how == "gone"
    vectors.add(keys, added)
    with vectors.lead():
        vectors.write()
        vectors.tidy(set(keys))
    vectors.close()
    again = opened(folder)
    assert not again.missing(keys)
    assert again.nearest(added[7], 1)[0][0] == keys[7]


def test_a_folder_that_cannot_be_written_costs_only_the_disk(tmp_path: Path) -> None:
    (tmp_path / "vectors").write_text("a file in its place")
    vectors = opened(tmp_path / "vectors")
    keys, added = drawn(3)
    vectors.add(keys, added)
    with vectors.lead() as leads:
        assert not leads
    assert vectors.nearest(added[1], 1)[0][0] == keys[1]


def test_the_library_comes_in_with_the_first_table_and_not_before() -> None:
    script = (
        "import sys, pathlib; from lsp_assist.codebase.vectors import Vectors;"
        "v = Vectors(pathlib.Path(sys.argv[1]), 'x', 8); v.open();"
        "assert not {'lancedb', 'pyarrow', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, "not-there"], check=True)


@pytest.mark.slow
def test_killing_processes_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """The full count is made by `python -m tests.codebase.kills`."""
    found = killed(tmp_path / "kills", 8, seed=1)
    assert (found.n_lost, found.n_missing, found.n_crashes) == (0, 0, 0)
