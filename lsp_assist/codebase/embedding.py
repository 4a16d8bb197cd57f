"""Keeps a vector for every chunk of a workspace, saved or not, and answers what is like a question.

Which chunks lack a vector the store tells; their text is read from the files as they are now, and
counts only if it still has the chunk's hash. Unsaved text is embedded in memory alone. Each
embedder has a voice of its own, which is heard once it knows most of the chunks. Knows no ranking,
and no clock: when to work its caller decides.
"""

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from lsp_assist.codebase import reading
from lsp_assist.codebase.chunks import text_hash
from lsp_assist.codebase.documents import split_lines
from lsp_assist.codebase.overlays import Overlay
from lsp_assist.codebase.store import ChunkPlace, Store
from lsp_assist.codebase.vectors import ANN_ROWS, Vectors, folder_bytes, remove_unused
from lsp_assist.errors import IndexUnusable, ModelError
from lsp_assist.llm import Embedder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Embedded", "Embedding", "Voice", "chunk_text"]

logger = logging.getLogger(__name__)

BATCH_CHUNKS = 32  # the grain of stopping
WRITE_CHUNKS = 4_096  # the work that a kill can lose while much is to be done
MAX_MARKED = 2_000  # files; from so many on, looking at all chunks is as quick
MAX_CHARS = 4_000  # of a chunk's text that an embedder reads
HEARD_FROM = 0.8  # of all chunks: what knows fewer would praise the few that it knows
MAX_RESIDENT_BYTES = 256 << 20  # of one embedder's vectors; beyond that they stay on disk
PAUSED_FILE = "paused"
STATES_FILE = "states.json"


@dataclass(frozen=True, slots=True)
class Embedded:
    """How far the vectors of a workspace are."""

    embedder: str
    n_vectors: int
    n_waiting: int
    """Chunks without a vector, as far as they were counted."""
    is_ready: bool
    """Whether questions are answered with it."""


class Voice:
    """An embedder with its vectors."""

    def __init__(self, embedder: Embedder, folder: Path) -> None:
        self.embedder = embedder
        # However long its vectors are, those in memory take so much at most.
        n_rows = min(ANN_ROWS, MAX_RESIDENT_BYTES // max(embedder.n_dims, 1))
        self.vectors = Vectors(folder, embedder.name, embedder.n_dims, ann_rows=n_rows)
        self.n_waiting: int | None = None
        """Chunks without a vector; None before they were counted."""
        self._query = lru_cache(maxsize=64)(embedder.embed_query)
        self._has_failed = False

    @property
    def is_ready(self) -> bool:
        """Whether it knows enough to be asked."""
        if self.n_waiting is None:
            return False
        n_known = len(self.vectors)
        return n_known > 0 and n_known >= HEARD_FROM * (n_known + self.n_waiting)

    def query(self, text: str) -> "NDArray[np.float32] | None":
        """The vector of a question; None if the embedder fails, which is said once."""
        try:
            return self._query(text)
        except ModelError as error:
            self.note_failure(error)
            return None

    def embed(self, chunks: Mapping[str, str]) -> bool:
        """Embed these texts by hash, in memory; False if the embedder fails."""
        try:
            vectors = self.embedder.embed(list(chunks.values()))
        except ModelError as error:
            self.note_failure(error)
            return False
        self.vectors.add(list(chunks), vectors)
        self._has_failed = False
        return True

    def note_failure(self, error: ModelError) -> None:
        """Say that the embedder fails, once until it works again."""
        log = logger.debug if self._has_failed else logger.warning
        log("The embedder %s fails; searching without it: %s", self.embedder.name, error)
        self._has_failed = True


class Embedding:
    """The voices of one workspace folder. `work` is called on one thread, the rest on any."""

    def __init__(
        self,
        root: Path,
        folder: Path,
        store: Store,
        embedders: Sequence[Embedder],
        max_file_bytes: int,
        max_disk_bytes: int = 0,
    ) -> None:
        """`folder` is where the vectors lie; 0 sets no limit to what they take there."""
        self._root = root
        self._folder = folder
        self._store = store
        self._max_file_bytes = max_file_bytes
        self._max_disk_bytes = max_disk_bytes
        self._said_full = False
        self._lock = threading.Lock()
        self._voices = [Voice(embedder, folder) for embedder in embedders]
        self._leaving: list[Voice] = []
        self._opened: set[str] = set()
        self._marked: dict[str, None] = {}
        self._is_all_marked = True

    def use(self, embedders: Sequence[Embedder]) -> None:
        """Embed with these from now on; those before are heard until the new ones are ready."""
        if [voice.embedder for voice in self._voices] == list(embedders):
            return
        known = {voice.embedder.name: voice for voice in [*self._voices, *self._leaving]}
        with self._lock:
            voices = [known.get(e.name) or Voice(e, self._folder) for e in embedders]
            self._leaving = [voice for voice in known.values() if voice not in voices]
            self._voices = voices
            self._is_all_marked = True

    @property
    def is_paused(self) -> bool:
        """Whether somebody had it paused, in this process or another."""
        return (self._folder / PAUSED_FILE).exists()

    def pause(self, is_paused: bool) -> None:
        """Stop embedding in all processes on this folder until it is resumed, or resume it.

        Raises: IndexUnusable
        """
        flag = self._folder / PAUSED_FILE
        try:
            if is_paused:
                self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                flag.touch()
            else:
                flag.unlink(missing_ok=True)
        except OSError as error:
            raise IndexUnusable(
                f"The index folder {str(self._folder)!r} cannot be written: {error}; check the "
                "free space and its permissions."
            ) from error

    def mark(self, paths: Iterable[str]) -> None:
        """Note that these files have other chunks than before. Returns at once."""
        with self._lock:
            for path in paths:
                self._marked.pop(path, None)  # the latest last: it is read first
                self._marked[path] = None
            if len(self._marked) > MAX_MARKED:
                self._marked, self._is_all_marked = {}, True

    def mark_all(self) -> None:
        """Note that any file may have other chunks than before."""
        self._is_all_marked = True

    def heard(self) -> list[Voice]:
        """The voices that a search asks: those that are ready, and the ones before them if not."""
        ready = [voice for voice in self._voices if voice.is_ready]
        if len(ready) < len(self._voices):
            ready += [voice for voice in self._leaving if voice.is_ready]
        return ready

    def states(self) -> list[Embedded]:
        """How far each embedder's vectors are; what another process noted, if none works here."""
        if not self._opened:
            return self._noted_states()
        return [
            Embedded(
                voice.embedder.name,
                len(voice.vectors),
                voice.n_waiting or 0,
                voice.is_ready,
            )
            for voice in self._voices
        ]

    @property
    def n_bytes(self) -> int:
        """What lies on disk, of embedders that are no longer used too."""
        return folder_bytes(self._folder)

    def close(self) -> None:
        """Let the tables go."""
        for voice in [*self._voices, *self._leaving]:
            voice.vectors.close()

    # The work

    def work(
        self,
        overlays: Callable[[], Mapping[str, Overlay]],
        should_stop: Callable[[], bool],
        report: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> bool:
        """Embed what lacks a vector, what is open first; False if some is left to be done.

        Also False while another process on this folder does it. Blocking.

        Raises: IndexUnusable
        """
        is_done = True
        for voice in list(self._voices):
            if voice.embedder.name not in self._opened:
                voice.vectors.open()
                self._opened.add(voice.embedder.name)
            is_done &= self._embed_unsaved(voice, overlays())
        marked, is_all = self._take_marked()
        if marked or is_all or any(voice.n_waiting for voice in self._voices):
            is_finished = True
            for voice in list(self._voices):
                task = _Task(voice, None if is_all or voice.n_waiting else marked)
                is_finished &= self._embed_saved(task, overlays, should_stop, report)
            if not is_finished:
                self._put_back(marked, is_all)
            is_done &= is_finished
            self._note_states()
        if is_done and self._leaving and all(voice.is_ready for voice in self._voices):
            leaving, self._leaving = self._leaving, []
            for voice in leaving:
                voice.vectors.close()
        return is_done

    def tidy(self) -> bool:
        """Merge the pieces of the tables where there are many; whether there was anything to do.

        Raises: IndexUnusable
        """
        untidy = [voice for voice in self._voices if voice.vectors.is_untidy()]
        for voice in untidy:
            with voice.vectors.lead() as leads:
                if leads:
                    voice.vectors.tidy(set(self._store.chunk_hashes()))
                    remove_unused(self._folder)
        return bool(untidy)

    def clear(self) -> bool:
        """Throw all vectors away, to be made anew; False while another process is at them."""
        is_done = True
        for voice in self._voices:
            with voice.vectors.lead() as leads:
                if leads:
                    voice.vectors.discard()
                    voice.n_waiting = None
                is_done &= leads
        self.mark_all()
        return is_done

    # Below: how it is done.

    def _note_states(self) -> None:
        """Write down how far it is, for those who only show it."""
        states = [asdict(state) for state in self.states()]
        file = self._folder / STATES_FILE
        with contextlib.suppress(OSError):
            if states:
                fresh = file.with_suffix(f".{os.getpid()}")
                fresh.write_text(json.dumps(states), "utf-8")
                fresh.replace(file)

    def _noted_states(self) -> list[Embedded]:
        try:
            noted = json.loads((self._folder / STATES_FILE).read_text("utf-8"))
            return [Embedded(**state) for state in noted]
        except (OSError, ValueError, TypeError):
            return []

    def _take_marked(self) -> tuple[list[str], bool]:
        with self._lock:
            marked, self._marked = list(reversed(self._marked)), {}
            is_all, self._is_all_marked = self._is_all_marked, False
        return marked, is_all

    def _put_back(self, marked: Sequence[str], is_all: bool) -> None:
        with self._lock:
            self._marked = {**dict.fromkeys(reversed(marked)), **self._marked}
            self._is_all_marked |= is_all

    def _embed_unsaved(self, voice: Voice, overlays: Mapping[str, Overlay]) -> bool:
        chunks = {h: text for overlay in overlays.values() for h, text in _overlay_texts(overlay)}
        wanted = {key: chunks[key] for key in voice.vectors.missing(chunks)}
        return all(voice.embed(batch) for batch in _batches(wanted.items()))

    def _embed_saved(
        self,
        task: "_Task",
        overlays: Callable[[], Mapping[str, Overlay]],
        should_stop: Callable[[], bool],
        report: Callable[[int, int], None],
    ) -> bool:
        """Embed the task's chunks and write them; False if that has to be done again."""
        voice, vectors = task.voice, task.voice.vectors
        with vectors.lead() as leads:
            vectors.sync()
            by_path = self._missing(voice, task.paths)
            voice.n_waiting = n_total = sum(map(len, by_path.values()))
            # Vectors of text that is still unsaved stay in memory, like the text.
            live = set(self._store.chunk_hashes(task.paths)) if vectors.has_unwritten else set()
            if n_total and self._is_full():
                return True  # nothing more can be done; who asks sees what is waiting
            if not leads:  # whoever does embeds them, and we look again
                return not n_total and not vectors.has_unwritten_of(live)
            n_done = 0
            is_stopped = n_total > 0 and should_stop()
            for batch in () if is_stopped else _batches(self._texts(by_path)):
                if not voice.embed(batch):
                    is_stopped = True
                    break
                is_stopped = not self._embed_unsaved(voice, overlays())
                n_done += len(batch)
                live.update(batch)
                voice.n_waiting = max(0, n_total - n_done)
                report(n_done, n_total)
                is_stopped |= n_done < n_total and should_stop()
                if is_stopped:
                    break
                if n_done % WRITE_CHUNKS < BATCH_CHUNKS:
                    vectors.write(live)
                    self._note_states()
                    if n_done < n_total and self._is_full():
                        return True
            if not is_stopped:
                voice.n_waiting = 0  # what changed on disk meanwhile is marked when it is read
            return vectors.write(live) and not is_stopped

    def _is_full(self) -> bool:
        """Whether the vectors take as much of the disk as they may, which is said once."""
        is_full = 0 < self._max_disk_bytes <= self.n_bytes
        if is_full and not self._said_full:
            logger.warning(
                "Vectors take %d MB in %s, which is all that they may; the rest is found by words "
                "alone. Raise `index.max_disk_bytes`, or exclude folders with `.lspassistignore`.",
                self.n_bytes // 1_000_000,
                self._folder,
            )
        self._said_full = is_full
        return is_full

    def _missing(self, voice: Voice, paths: Sequence[str] | None) -> dict[str, list[ChunkPlace]]:
        """The chunks without a vector by file, each content once, in the order of the paths."""
        by_path: dict[str, list[ChunkPlace]] = {path: [] for path in paths or ()}
        seen: set[str] = set()
        for place in self._store.chunk_places(paths):
            if place.hash not in seen and place.hash not in voice.vectors:
                seen.add(place.hash)
                by_path.setdefault(place.path, []).append(place)
        return by_path

    def _texts(self, by_path: Mapping[str, Sequence[ChunkPlace]]) -> Iterator[tuple[str, str]]:
        """Hash and text of the chunks whose file still has them."""
        for path, places in by_path.items():
            if not places:
                continue
            contents = reading.read(self._root / path, self._max_file_bytes)
            if isinstance(contents, reading.Skipped) or reading.is_generated(contents.text):
                continue
            lines = split_lines(contents.text)
            for place in places:
                own = lines[place.start_line : place.end_line + 1]
                if text_hash(place.about, own) == place.hash:
                    yield place.hash, chunk_text(place.about, own)


@dataclass(frozen=True, slots=True)
class _Task:
    """Whose vectors are to be made, and for which files; None for all."""

    voice: Voice
    paths: Sequence[str] | None


def chunk_text(about: str, lines: Sequence[str]) -> str:
    """What an embedder reads of a chunk: exactly what its hash names, at most so much of it."""
    return "\n".join((about, *lines))[:MAX_CHARS]


def _overlay_texts(overlay: Overlay) -> Iterator[tuple[str, str]]:
    lines = split_lines(overlay.text)
    symbols = overlay.file.symbols
    for chunk in overlay.file.chunks:
        about = symbols[chunk.ordinal].qualified_name if chunk.ordinal >= 0 else ""
        yield chunk.hash, chunk_text(about, lines[chunk.start_line : chunk.end_line + 1])


def _batches(chunks: Iterable[tuple[str, str]]) -> Iterator[dict[str, str]]:
    batch: dict[str, str] = {}
    for key, text in chunks:
        batch[key] = text
        if len(batch) == BATCH_CHUNKS:
            yield batch
            batch = {}
    if batch:
        yield batch
