"""How files hang together: who imports whom, who uses whose names, what changes with what.

Coarser than the graph of symbols, so that all of it can be kept: a name that a file uses leads to
the files that define it among those that it imports or sees. Kept equal to the code file by file.
Knows no text; the store and the unsaved text come through a view.
"""

import math
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from lsp_assist.codebase import ingest, pagerank
from lsp_assist.codebase.graph import Moment
from lsp_assist.codebase.languages import language_of

__all__ = ["Links"]

BACKWARDS = 0.3  # of a reference, from what is used to who uses it: callers and tests matter too
IMPORT_WEIGHT = 0.5
UNIQUE_WEIGHT = 0.2  # of a name that only one file defines, which is not imported
MIN_UNIQUE_CHARS = 4
COCHANGE_WEIGHT = 1.0

Ties = Mapping[str, Mapping[str, float]]
"""Strengths from 0 to 1 by file and other file."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What a file defines and uses, by name, and what it imports as it says so."""

    defined: frozenset[str] = frozenset()
    used: frozenset[str] = frozenset()
    imports: tuple[tuple[str, str], ...] = ()
    """Modules and names."""


@dataclass(slots=True)
class Links:
    """The links between files. Any thread may call."""

    _lock: threading.RLock = field(default_factory=threading.RLock)
    _at: Moment | None = None
    _names: dict[str, _Names] = field(default_factory=dict)
    _families: dict[str, str] = field(default_factory=dict)
    _definers: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _users: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    _imported: dict[str, frozenset[str]] = field(default_factory=dict)
    _importers: dict[str, set[str]] = field(default_factory=dict)
    _links: dict[str, dict[str, float]] = field(default_factory=dict)
    _ties: Ties = field(default_factory=dict)
    _matrix: pagerank.Matrix | None = None
    _numbers: dict[str, int] = field(default_factory=dict)

    def update(self, moment: Moment) -> None:
        """Follow the code to a moment. Looks again at what changed, and at who depends on that."""
        with self._lock:
            before = self._at
            if before is moment:
                return
            old = before.versions if before else {}
            changed = {p for p, version in moment.versions.items() if old.get(p) != version}
            gone = old.keys() - moment.versions.keys()
            touched: set[tuple[str, str]] = set()
            names = _read(moment, changed)
            for path in (*gone, *changed):
                touched |= self._replace(path, names.get(path))
            dirty = set(changed)
            for key in touched:
                dirty |= self._users.get(key, set())
            is_moved = before is None or before.modules is not moment.modules
            dirty |= self._resolve_imports(moment, self._names if is_moved else changed, gone)
            for path in dirty & self._names.keys():
                self._links[path] = self._links_of(path, moment)
            for path in gone:
                self._links.pop(path, None)
            if dirty or gone:
                self._matrix = None
            self._at = moment

    @property
    def is_ready(self) -> bool:
        """Whether ranking is only arithmetic now."""
        return self._matrix is not None

    def tie(self, ties: Ties) -> None:
        """Take what changes together for true from now on."""
        with self._lock:
            if ties is not self._ties:
                self._ties, self._matrix = ties, None

    def importers(self, path: str) -> list[str]:
        """The files that import a file."""
        with self._lock:
            return sorted(self._importers.get(path, ()))

    def links(self) -> dict[str, dict[str, float]]:
        """What leads from each file to others, by references and imports; each file's sum is 1."""
        with self._lock:
            return {path: dict(links) for path, links in self._links.items()}

    def ranks(self, seeds: Mapping[str, float]) -> dict[str, float]:
        """The personalised PageRank of every file around the seeds, of all where there are none."""
        with self._lock:
            if self._matrix is None:
                self._numbers = {path: n for n, path in enumerate(sorted(self._names))}
                self._matrix = pagerank.matrix(len(self._numbers), list(self._edges()))
            numbers, matrix = self._numbers, self._matrix
        if not numbers:
            return {}
        known = {numbers[path]: weight for path, weight in seeds.items() if path in numbers}
        return dict(zip(numbers, pagerank.ranks(matrix, known).tolist(), strict=True))

    def _replace(self, path: str, names: _Names | None) -> set[tuple[str, str]]:
        """Put in what a file says now; returns the names that it newly defines, or no longer."""
        family = self._families.get(path)
        if family is None:
            family = self._families[path] = ingest.family(path)
        before = self._names.pop(path, _Names())
        now = names or _Names()
        for name in before.used - now.used:
            self._users[family, name].discard(path)
        for name in now.used - before.used:
            self._users.setdefault((family, name), set()).add(path)
        touched = before.defined ^ now.defined
        for name in touched:
            definers = self._definers.setdefault((family, name), set())
            (definers.add if name in now.defined else definers.discard)(path)
        if names is not None:
            self._names[path] = now
        return {(family, name) for name in touched}

    def _resolve_imports(
        self, moment: Moment, paths: Iterable[str], gone: Iterable[str]
    ) -> set[str]:
        """Find the files that these ones import; returns those where that is another set now."""
        dirty = set()
        for path in (*gone, *paths):
            names = self._names.get(path)
            imported = _imported(moment, path, names) if names else frozenset()
            before = self._imported.get(path, frozenset())
            if imported == before:
                continue
            dirty.add(path)
            for other in before - imported:
                self._importers[other].discard(path)
            for other in imported - before:
                self._importers.setdefault(other, set()).add(path)
            self._imported[path] = imported
        return dirty

    def _links_of(self, path: str, moment: Moment) -> dict[str, float]:
        names, family = self._names[path], self._families[path]
        imported = self._imported.get(path, frozenset())
        language = language_of(path)
        seen = imported.union(moment.modules.package_of(path, language.name if language else ""))
        weights: dict[str, float] = dict.fromkeys(imported, IMPORT_WEIGHT)
        counts: dict[str, float] = defaultdict(float)
        for name in names.used:
            definers = self._definers.get((family, name))
            if not definers:
                continue
            among = definers & seen
            for other in among:
                counts[other] += 1.0 / len(among)
            is_unique = len(definers) == 1 and len(name) >= MIN_UNIQUE_CHARS
            if not among and is_unique:
                (other,) = definers
                counts[other] += UNIQUE_WEIGHT
        for other in sorted(counts):
            weights[other] = weights.get(other, 0.0) + math.sqrt(counts[other])
        weights.pop(path, None)
        total = math.fsum(weights.values())
        return {other: weight / total for other, weight in weights.items()}

    def _edges(self) -> Iterable[pagerank.Edge]:
        numbers = self._numbers
        for path, links in sorted(self._links.items()):
            for other, weight in sorted(links.items()):
                if other in numbers:
                    yield numbers[path], numbers[other], weight
                    yield numbers[other], numbers[path], BACKWARDS * weight
        for path, others in self._ties.items():
            for other, strength in others.items():
                if path in numbers and other in numbers:
                    yield numbers[path], numbers[other], COCHANGE_WEIGHT * strength


def _read(moment: Moment, changed: set[str]) -> dict[str, _Names]:
    """What changed files define, use and import, by three sweeps over all if they are many."""
    view = moment.view
    saved = changed - view.overlays.keys()
    found = {
        path: _Names(
            frozenset(s.name for s in overlay.file.symbols if s.kind != "heading"),
            frozenset(use.name for use in overlay.file.uses),
            tuple((i.module, i.name) for i in overlay.file.imports),
        )
        for path, overlay in view.overlays.items()
        if path in changed
    }
    store = view.store
    defined, used, imports = (
        _grouped(rows, saved)
        for rows in (store.names_defined, store.names_used, store.modules_imported)
    )
    for path in saved:
        found[path] = _Names(
            frozenset(name for (name,) in defined.get(path, ())),
            frozenset(name for (name,) in used.get(path, ())),
            tuple((module, name) for module, name in imports.get(path, ())),
        )
    return found


def _grouped(
    rows: Callable[[Iterable[str] | None], Iterable[tuple[str, ...]]], paths: set[str]
) -> dict[str, list[tuple[str, ...]]]:
    found: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for path, *row in rows(paths if len(paths) < 50 else None):
        if path in paths:
            found[path].append(tuple(row))
    return found


def _imported(moment: Moment, path: str, names: _Names) -> frozenset[str]:
    language = language_of(path)
    if language is None:
        return frozenset()
    files = moment.modules.files
    found = {f for module, name in names.imports for f in files(path, language.name, module, name)}
    found.discard(path)
    return frozenset(found)
