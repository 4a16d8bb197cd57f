"""Two processes that index, embed and compact one workspace, killed at random moments.

`python -m tests.codebase.kills FOLDER [N]` kills N times (200) and prints what was lost.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lsp_assist.codebase import vectors
from lsp_assist.codebase.embedding import Voice
from lsp_assist.codebase.index import Index
from lsp_assist.config import IndexSettings
from tests.codebase.hashing import HashingEmbedder

__all__ = ["Found", "killed"]

N_FILES = 60
FRAGMENTS = 3  # compacts at nearly every chance
MAX_DELAY_S = 0.4
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Found:
    """What became of the vectors."""

    n_kills: int
    n_lost: int
    """Vectors that were on disk and were not there any more, though their chunk was."""
    n_missing: int
    """Chunks without a right vector after all was embedded once more."""
    n_crashes: int
    """Writers that ended by themselves, and tables that were found damaged."""
    n_compacted: int
    """Times that a writer finished a compaction: without any, the test tests little."""


def killed(folder: Path, n_kills: int, seed: int = 0) -> Found:
    """Kill one of two writers so many times, look at the table after each, and mend at the end."""
    draw = random.Random(seed)
    (folder / "workspace").mkdir(parents=True)
    for n in range(N_FILES):
        _edit(folder, n, draw)
    logs = [folder / f"writer{n}.log" for n in range(2)]
    writers = [_started(folder, log) for log in logs]
    n_lost = n_crashes = 0
    seen: set[str] = set()
    try:
        for kill in range(n_kills):
            time.sleep(draw.uniform(0, MAX_DELAY_S))
            at = kill % 2
            n_crashes += writers[at].poll() is not None
            _kill(writers[at])
            live, there = _on_disk(folder)
            n_lost += len((seen & live) - there)
            seen = there & live
            writers[at] = _started(folder, logs[at])
    finally:
        for writer in writers:
            n_crashes += writer.poll() is not None
            _kill(writer)
    said = "".join(log.read_text("utf-8") for log in logs)
    n_crashes += said.count("damaged")
    return Found(n_kills, n_lost, _missing(folder), n_crashes, said.count("compacted\n"))


def _on_disk(folder: Path) -> tuple[set[str], set[str]]:
    """The hashes of the chunks that the store has, and those that have a vector on disk."""
    index = _opened(folder)
    live = set(index.chunk_hashes())
    embedder = HashingEmbedder()
    voice = Voice(embedder, index.vectors_folder)
    voice.vectors.open()
    there = {key for key in live if key in voice.vectors}
    voice.vectors.close()
    index.close()
    return live, there


def _missing(folder: Path) -> int:
    """Chunks that lack their vector once everything is caught up with, or have another's."""
    index = _opened(folder)
    index.refresh()
    embedder = HashingEmbedder()
    index.embedding.use([embedder])
    assert index.embed()
    index.close()
    live, there = _on_disk(folder)
    again = _opened(folder)
    again.embedding.use([embedder])
    before = embedder.n_texts
    assert again.embed()
    n_wrong = sum(
        again.search(f"function_{n}", 1)[0].symbol != f"function_{n}" for n in range(N_FILES)
    )
    again.close()
    return len(live - there) + (embedder.n_texts - before) + n_wrong


def _opened(folder: Path) -> Index:
    return Index(folder / "workspace", folder / "cache" / "index.sqlite3", IndexSettings())


def _edit(folder: Path, n: int, draw: random.Random) -> None:
    """Put another text into a file, all of it at once."""
    path = folder / "workspace" / f"m{n}.py"
    fresh = path.with_suffix(f".{os.getpid()}")
    fresh.write_text(f"def function_{n}():\n    return {draw.getrandbits(64)}\n", "utf-8")
    fresh.replace(path)


def _started(folder: Path, log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as said:
        writer = subprocess.Popen(
            [sys.executable, "-m", "tests.codebase.kills", "--write", folder],
            stdout=subprocess.PIPE,
            stderr=said,
            cwd=ROOT,
        )
    assert writer.stdout is not None
    writer.stdout.readline()  # it is about to open the index
    return writer


def _kill(writer: "subprocess.Popen[bytes]") -> None:
    with suppress(ProcessLookupError):
        writer.kill()
    writer.communicate()


def _write_for_ever(folder: Path) -> None:
    """Edit, index, embed and compact until somebody kills this process."""
    import lancedb  # noqa: F401  # what is killed is the work and not the import

    vectors.COMPACT_FRAGMENTS = FRAGMENTS
    draw = random.Random()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    index = _opened(folder)
    index.embedding.use([HashingEmbedder()])
    while True:
        for n in draw.sample(range(N_FILES), draw.choice((1, 2, 20))):
            _edit(folder, n, draw)
        index.refresh()
        index.embed()
        if index.embedding.tidy():
            sys.stderr.write("compacted\n")


def main(arguments: Sequence[str]) -> None:
    """Kill, and print what was found; or be the one that is killed."""
    if arguments[0] == "--write":
        _write_for_ever(Path(arguments[1]))
    print(killed(Path(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 200))


if __name__ == "__main__":
    main(sys.argv[1:])
