"""Who calls whom, who imports whom, what tests what, and what a stretch of code builds on.

`Graph` keeps what is known of each file until the file changes; the functions ask it about one
moment of the code. Knows no text and no ranking of searches.
"""

import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lsp_assist.codebase import ingest, ranking
from lsp_assist.codebase.facts import Facts
from lsp_assist.codebase.modules import Modules
from lsp_assist.codebase.receivers import SELF, UNKNOWN
from lsp_assist.codebase.resolve import BELIEVED, Resolver, Target, is_called_like
from lsp_assist.codebase.store import StoredSymbol, Use
from lsp_assist.codebase.symbols import CLASS_KINDS
from lsp_assist.codebase.view import View

__all__ = ["Graph", "Moment", "callees", "callers", "closure", "tests_of"]

MAX_RELATED = 5
_MAX_USES = 4_000
_MAX_TESTS = 50
_MEMBERS = frozenset({"method", "constructor", "field"})
_CALLABLE = frozenset({"function", "method", "constructor", "macro", *CLASS_KINDS})


@dataclass(frozen=True, slots=True)
class Moment:
    """The code as it was when it was asked for, and what its names mean."""

    view: View
    versions: Mapping[str, object]
    """Every file, and what differs when its text does."""
    modules: Modules
    resolver: Resolver


@dataclass(slots=True)
class Graph:
    """What is known of files, kept until they change. Any thread may call."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _facts: dict[str, Facts] = field(default_factory=dict)
    _moment: Moment | None = None
    _store_version: int = -2
    _hashes: Mapping[str, str] = field(default_factory=dict)

    def at(self, view: View) -> Moment:
        """The moment of a view. Forgets what changed since the last one, and nothing else."""
        with self._lock:
            before, version = self._moment, view.store.version()
            is_saved_alike = version == self._store_version
            if before and is_saved_alike and before.view.overlays is view.overlays:
                return before
            if not is_saved_alike:
                self._hashes, self._store_version = view.store.hashes(), version
            versions: dict[str, object] = dict(self._hashes)
            versions.update(view.overlays)
            changed = _differing(before.versions if before else {}, versions)
            # A moment that is still asked keeps its own facts.
            self._facts = {path: f for path, f in self._facts.items() if path not in changed}
            modules = self._modules(view, versions, changed, before)
            self._moment = Moment(view, versions, modules, self._resolver(view, modules))
            return self._moment

    def _modules(
        self, view: View, versions: Mapping[str, object], changed: set[str], before: Moment | None
    ) -> Modules:
        is_go = any(path.endswith("go.mod") for path in changed)
        if before and not is_go and versions.keys() == before.versions.keys():
            return before.modules
        go_modules = {
            path.removesuffix("go.mod").rstrip("/"): symbol.name
            for path in versions
            if path.rpartition("/")[2] == "go.mod"
            for symbol in view.symbols_of(path)[:1]
        }
        return Modules(versions, go_modules)

    def _resolver(self, view: View, modules: Modules) -> Resolver:
        facts = self._facts
        named: dict[str, Sequence[StoredSymbol]] = {}

        def facts_of(path: str) -> Facts:
            found = facts.get(path)
            if found is None:
                found = Facts.of(path, view.symbols_of(path), view.imports_of(path))
                facts[path] = found
            return found

        def symbols_named(name: str) -> Sequence[StoredSymbol]:
            if name not in named:
                named[name] = view.symbols_named(name)
            return named[name]

        return Resolver(facts_of, symbols_named, view.uses_in, modules)


def callers(moment: Moment, symbol: StoredSymbol, limit: int = MAX_RELATED) -> list[Target]:
    """The symbols that use this one: the surest and nearest first, tests last."""
    if symbol.kind not in _CALLABLE:
        return []
    found: dict[tuple[str, int], Target] = {}
    for path, use, target in _uses_of(moment, symbol):
        if use.ordinal < 0 or (path, use.ordinal) == (symbol.path, symbol.ordinal):
            continue
        key = path, use.ordinal
        if key not in found or found[key].confidence < target.confidence:
            symbols = moment.resolver.facts_of(path).symbols
            if use.ordinal < len(symbols):
                user = symbols[use.ordinal]
                found[key] = Target(user, target.confidence, target.evidence)
    ordered = sorted(
        found.values(),
        key=lambda t: (
            ranking.is_test(t.symbol.path),
            t.symbol.path != symbol.path,
            -t.confidence,
            t.symbol.path,
            t.symbol.ordinal,
        ),
    )
    return ordered[:limit]


def callees(moment: Moment, symbol: StoredSymbol, limit: int = MAX_RELATED) -> list[Target]:
    """The symbols of this workspace that this one calls, in the order of the calls."""
    found: dict[tuple[str, int], Target] = {}
    for use in moment.view.uses_in(symbol.path, symbol.ordinal):
        if use.kind != "call":
            continue
        for target in moment.resolver.targets(symbol.path, use)[:1]:
            key = target.symbol.path, target.symbol.ordinal
            if target.confidence >= BELIEVED and key != (symbol.path, symbol.ordinal):
                found.setdefault(key, target)
        if len(found) == limit:
            break
    return list(found.values())


def tests_of(moment: Moment, symbol: StoredSymbol) -> list[Target]:
    """The tests of a symbol: those that use it, then those that use what uses it."""
    found: dict[tuple[str, int], Target] = {}
    direct = callers(moment, symbol, _MAX_TESTS)
    others = [target for target in direct if not ranking.is_test(target.symbol.path)]
    indirect = (
        Target(user.symbol, user.confidence * target.confidence * 0.6, user.evidence)
        for target in others[:MAX_RELATED]
        for user in callers(moment, target.symbol, _MAX_TESTS)
    )
    for target in (*direct, *indirect):
        if ranking.is_test(target.symbol.path) and symbol.path != target.symbol.path:
            found.setdefault((target.symbol.path, target.symbol.ordinal), target)
    return sorted(found.values(), key=lambda target: -target.confidence)


def closure(
    moment: Moment, path: str, start_line: int, end_line: int, names: Collection[str]
) -> list[Target]:
    """The definitions of what some lines use, the surest first; none of those lines themselves.

    `names` are the words of these lines: a use is listed once, at its first line in its symbol.
    """
    symbols = moment.view.symbols_of(path)
    overlapping = {
        symbol.ordinal
        for symbol in symbols
        if symbol.start_line <= end_line and start_line <= symbol.end_line
    } | {-1}
    found: dict[tuple[str, int], tuple[float, int, Target]] = {}
    for use in moment.view.uses_of(path):
        is_here = use.name in names and use.ordinal in overlapping and use.line <= end_line
        if not is_here or use.kind == "import":
            continue
        if use.ordinal == -1 and use.line < start_line:
            continue
        for target in moment.resolver.targets(path, use):
            symbol = target.symbol
            is_own = symbol.path == path and start_line <= symbol.start_line <= end_line
            if target.confidence < BELIEVED or is_own:
                continue
            rank = -target.confidence * (0.8 if use.kind == "name" else 1.0)
            key = symbol.path, symbol.ordinal
            found[key] = min(found.get(key, (0.0, 0, target)), (rank, use.line, target), key=_rank)
    return [target for _, _, target in sorted(found.values(), key=_rank)]


def _rank(found: tuple[float, int, Target]) -> tuple[float, int]:
    return found[0], found[1]


def _uses_of(moment: Moment, symbol: StoredSymbol) -> Iterator[tuple[str, Use, Target]]:
    """Where a symbol is used, and how sure that is. A constructor is used by its class's name."""
    view, resolver = moment.view, moment.resolver
    wanted = {(symbol.path, symbol.ordinal)}
    names = [symbol.name]
    family = ingest.family(symbol.path)
    owner = None
    if symbol.kind in _MEMBERS:
        owner = resolver.class_around(symbol.path, symbol.ordinal)
    if symbol.kind == "constructor" and owner is not None:
        wanted.add((owner.path, owner.ordinal))
        names.append(owner.name)
        owner = None
    for name in names:
        for path, use in _possible(view, name):
            if ingest.family(path) != family or not _may_mean(use, symbol, owner):
                continue
            for target in resolver.targets(path, use):
                key = target.symbol.path, target.symbol.ordinal
                if key in wanted and target.confidence >= BELIEVED:
                    yield path, use, target


def _may_mean(use: Use, symbol: StoredSymbol, owner: StoredSymbol | None) -> bool:
    """False for most of the uses of a common name, at the price of a glance."""
    if use.receiver_type == UNKNOWN:
        return symbol.kind == "method" or (
            owner is not None and is_called_like(use.receiver, owner.name)
        )
    if symbol.kind in ("function", "macro") and use.receiver:
        return use.receiver.split(".", 1)[0] not in SELF
    return True


def _possible(view: View, name: str) -> Iterable[tuple[str, Use]]:
    """Uses of a name, and of what files call it that import it under another one."""
    for path, use in view.uses_named(name, _MAX_USES):
        if use.kind != "import":
            yield path, use
    for path, alias in view.aliases_of(name):
        for use in view.uses_of(path):
            if use.name == alias and use.kind != "import":
                yield path, use


def _differing(before: Mapping[str, object], now: Mapping[str, object]) -> set[str]:
    """Paths that are new, gone or of another version."""
    changed = {path for path, version in now.items() if before.get(path) != version}
    return changed | (before.keys() - now.keys())
