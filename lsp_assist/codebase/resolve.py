"""What a name means: the symbols that a use of it refers to, each with a confidence.

Follows scopes, imports and what files say about types, over what a `Facts` gives of each file.
Where these say that a name is foreign, it stays unresolved: a wrong edge costs more than none.
Knows no store and no ranking.
"""

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lsp_assist.codebase import ingest, ranking
from lsp_assist.codebase.declarations import declared_type
from lsp_assist.codebase.facts import INCLUDING, Facts, is_module, last_part, module_name
from lsp_assist.codebase.languages import all_languages
from lsp_assist.codebase.modules import Modules, n_shared
from lsp_assist.codebase.receivers import SELF, UNKNOWN
from lsp_assist.codebase.store import StoredImport, StoredSymbol, Use
from lsp_assist.codebase.symbols import CLASS_KINDS, FUNCTION_KINDS, VALUE_KINDS

__all__ = ["BELIEVED", "Evidence", "Resolver", "Target", "is_called_like"]

BELIEVED = 0.5
"""Targets below are guesses. Source: LOG.md, 2026-11-20, the graph against jedi."""

Evidence = Literal[
    "scope",  # defined around the use, or in its file
    "self",  # of the object itself, or of what its class extends
    "import",  # imported by name, or taken from an imported module
    "package",  # in a file that is seen without an import
    "type",  # of an object whose type the code says
    "name",  # the only one of its name, or called like its type
]

_MAX_DEPTH = 6
_MAX_INCLUDED = 60
# In these, a bare name that is neither defined in the file nor imported is the language's own.
_IMPORTS_TELL = frozenset({"python", "javascript", "typescript", "tsx", "go", "rust", "java"})
# What these import may be an item of a module, without saying so.
_ITEMS = frozenset({"rust", "java", "kotlin", "scala", "php"})
_SCRIPTS = frozenset({"javascript", "typescript", "tsx"})
_SEVERAL_WORDS = re.compile(r"[^\W_]_+[^\W_]|[a-z][A-Z]")
_SUPER = {"csharp": "base", "php": "parent"}
"""What other languages call `super`."""


@dataclass(frozen=True, slots=True)
class Target:
    """A symbol that a use means."""

    symbol: StoredSymbol
    confidence: float
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class _Thing:
    """What an expression is: a symbol, an instance of a class, or a module."""

    symbol: StoredSymbol | None
    confidence: float
    evidence: Evidence
    is_instance: bool = False
    files: tuple[str, ...] = ()

    def weakened(self, by: float, evidence: Evidence) -> "_Thing":
        return replace(self, confidence=self.confidence * by, evidence=evidence)


class Resolver:
    """Resolves names over the files of one moment. Remembers what it found out; any thread asks."""

    def __init__(
        self,
        facts_of: Callable[[str], Facts],
        symbols_named: Callable[[str], Sequence[StoredSymbol]],
        uses_in: Callable[[str, int], Sequence[Use]],
        modules: Modules,
    ) -> None:
        self.facts_of = facts_of
        self.modules = modules
        self._symbols_named = symbols_named
        self._uses_in = uses_in
        self._chains: dict[tuple[str, int, str], _Thing | None] = {}
        self._bases: dict[tuple[str, int], tuple[StoredSymbol, ...]] = {}
        self._guesses: dict[tuple[str, str, str], Sequence[StoredSymbol]] = {}
        # What is being found out is unknown meanwhile: another thread must not take that for true.
        self._lock = threading.RLock()
        self._busy: set[tuple[str, int, str]] = set()

    def targets(self, path: str, use: Use) -> list[Target]:
        """What a use in a file means, the likeliest first; empty for what is foreign or unclear."""
        with self._lock:
            return self._targets(path, use)

    def _targets(self, path: str, use: Use) -> list[Target]:
        expression = use.receiver_type or use.receiver
        if not expression:
            found = self._named(path, use.ordinal, use.name, 0)
        elif expression == UNKNOWN:
            found = self._guessed(path, use)
        else:
            around = self._chain(path, use.ordinal, expression, 0)
            found = self._member(around, use.name, 0) if around else None
            if found is None and (around is None or around.symbol is not None):
                found = self._guessed(path, use) if self._may_guess(path, expression) else None
        if found is None or found.symbol is None:
            return []
        target = Target(found.symbol, found.confidence, found.evidence)
        return [target, *self._definition_of(target)]

    def imported_files(self, path: str, wanted: StoredImport) -> Sequence[str]:
        """The files of the workspace that an import means."""
        language = self.facts_of(path).language
        return self.modules.files(path, language, wanted.module, wanted.name)

    # Bare names

    def _named(self, path: str, ordinal: int, name: str, depth: int) -> _Thing | None:
        """What a bare name within a symbol means."""
        facts = self.facts_of(path)
        if symbol := self._in_scope(facts, ordinal, name):
            # `const Layer = require("./layer")` is a variable, and what it holds is meant.
            if symbol.kind in VALUE_KINDS and (wanted := facts.taken.get(name)):
                held = self._imported(facts, wanted, depth + 1)
                if held is not None:
                    return held
            return _Thing(symbol, 0.95, "scope")
        known = all_languages().get(facts.language)
        if known and known.implicit_self and (own := self.class_around(path, ordinal)):
            found = self._member(_Thing(own, 0.95, "self", is_instance=True), name, depth)
            if found is not None:
                return found
        return self._visible(facts, name, depth)

    def _in_scope(self, facts: Facts, ordinal: int, name: str) -> StoredSymbol | None:
        """The innermost definition around the use, or at the top of its file."""
        separator = facts.separator
        around = facts.symbols[ordinal].qualified_name if 0 <= ordinal < len(facts.symbols) else ""
        while around:
            symbol = facts.qualified.get(around)
            # What a class defines is seen by its own level only, not from within its functions.
            is_own = symbol is not None and (
                symbol.kind not in CLASS_KINDS or symbol.ordinal == ordinal
            )
            if is_own and (found := facts.qualified.get(f"{around}{separator}{name}")):
                return found
            around = around.rpartition(separator)[0]
        return facts.top.get(name)

    def _visible(self, facts: Facts, name: str, depth: int) -> _Thing | None:
        """What a file sees by this name from other files."""
        if depth > _MAX_DEPTH:
            return None
        if wanted := facts.taken.get(name):
            return self._imported(facts, wanted, depth)
        for wanted in facts.imports:
            if wanted.name == "*":
                for file in self.imported_files(facts.path, wanted):
                    if found := self._exported(file, name, depth + 1):
                        return found.weakened(0.9, "import")
        for file in self.modules.package_of(facts.path, facts.language):
            if symbol := self.facts_of(file).top.get(name):
                return _Thing(symbol, 0.9, "package")
        if facts.language in INCLUDING:
            for file in self._included(facts.path):
                if symbol := self.facts_of(file).top.get(name):
                    return _Thing(symbol, 0.9, "import")
        if facts.language in _IMPORTS_TELL:
            return None
        return self._only_one(facts.path, name)

    def _imported(self, facts: Facts, wanted: StoredImport, depth: int) -> _Thing | None:
        """What an import gives a name to: a symbol of another file, or a module."""
        if facts.language == "python" and not wanted.name and not wanted.alias:
            # `import a.b` gives a name to `a`.
            wanted = replace(wanted, module=wanted.module.split(".")[0])
        files = self.imported_files(facts.path, wanted)
        if wanted.name or facts.language in _ITEMS:
            name = last_part(wanted.name or wanted.module, facts.language)
            # A submodule may define its own name once more; the package decides which is meant.
            is_python = facts.language == "python"
            own = self.imported_files(facts.path, replace(wanted, name="")) if is_python else files
            for file in own:
                if found := self._exported(file, name, depth + 1):
                    return found
            files = [file for file in files if name == "default" or is_module(file, name)]
        elif facts.language in _SCRIPTS:  # a module that is one class or function
            for file in files:
                if symbol := self.facts_of(file).top.get(wanted.alias):
                    return _Thing(symbol, 0.9, "import")
        return _Thing(None, 0.95, "import", files=tuple(files)) if files else None

    def _exported(self, path: str, name: str, depth: int) -> _Thing | None:
        """What another file takes from this one by a name: its own, or what it passes on."""
        facts = self.facts_of(path)
        if name == "default":
            symbol = next((s for s in facts.symbols if " default " in s.signature[:24]), None)
            symbol = symbol or facts.top.get(module_name(path))
        else:
            symbol = facts.top.get(name)
        if symbol is not None:
            return _Thing(symbol, 0.95, "import")
        if depth > _MAX_DEPTH:
            return None
        if wanted := facts.taken.get(name):
            return self._imported(facts, wanted, depth)
        for wanted in facts.imports:
            if wanted.name == "*" and wanted.alias in ("", "*"):
                for file in self.imported_files(path, wanted):
                    if file != path and (found := self._exported(file, name, depth + 1)):
                        return found
        return None

    def _included(self, path: str) -> Iterator[str]:
        """The files that a file of C includes, directly and through others, near ones first."""
        seen, queue = {path}, [path]
        while queue and len(seen) < _MAX_INCLUDED:
            at = queue.pop(0)
            for wanted in self.facts_of(at).imports:
                for file in self.imported_files(at, wanted):
                    if file not in seen:
                        seen.add(file)
                        queue.append(file)
                        yield file

    # Members

    def _chain(self, path: str, ordinal: int, expression: str, depth: int) -> _Thing | None:
        """What `a.b().c` is."""
        key = path, ordinal, expression
        if key in self._chains:
            return self._chains[key]
        if key in self._busy or depth > _MAX_DEPTH:
            return None
        self._busy.add(key)
        try:
            found = self._walk(path, ordinal, expression, depth)
        finally:
            self._busy.discard(key)
        self._chains[key] = found
        return found

    def _walk(self, path: str, ordinal: int, expression: str, depth: int) -> _Thing | None:
        root, *rest = expression.split(".")
        name = root.rstrip("()[]")
        if root in ("crate", "super") and self.facts_of(path).language == "rust":
            thing, rest = self._by_rust_path(path, expression, depth)
        elif root == "exports" and self.facts_of(path).language in _SCRIPTS:
            thing = _Thing(None, 0.95, "scope", files=(path,))
        elif name in SELF or self._is_super(path, root):
            own = self.class_around(path, ordinal)
            if own is None:
                return None
            if name not in SELF:
                bases = self.bases(own)
                thing = _Thing(bases[0], 0.9, "self", is_instance=True) if bases else None
            else:
                thing = _Thing(own, 0.95, "self", is_instance=True)
        else:
            thing = self._named(path, ordinal, name, depth + 1)
            thing = self._used(thing, root[len(name) :], depth)
        for part in rest:
            if thing is None:
                return None
            name = part.rstrip("()[]")
            thing = self._used(self._member(thing, name, depth + 1), part[len(name) :], depth)
        return thing

    def _is_super(self, path: str, root: str) -> bool:
        """Whether an expression starts with the class that the one around it extends."""
        return root in ("super", "super()") or root == _SUPER.get(self.facts_of(path).language)

    def _by_rust_path(
        self, path: str, expression: str, depth: int
    ) -> tuple[_Thing | None, list[str]]:
        """What `crate::a::B` is, and the parts of the expression behind it."""
        parts = expression.split(".")
        n = next((at for at, part in enumerate(parts) if part[-1:] in ")]"), len(parts) - 1)
        last = parts[n].rstrip("()[]")
        wanted = StoredImport("::".join((*parts[:n], last)), "", "", 0)
        thing = self._imported(self.facts_of(path), wanted, depth + 1)
        return self._used(thing, parts[n][len(last) :], depth), parts[n + 1 :]

    def _used(self, thing: _Thing | None, suffix: str, depth: int) -> _Thing | None:
        """What calling it gives, or what it holds where it is not called."""
        if thing is None or thing.symbol is None:
            return thing
        symbol = thing.symbol
        if suffix not in ("", "()"):
            return None
        if symbol.kind in CLASS_KINDS or symbol.kind in ("namespace", "module"):
            evidence: Evidence = "type" if suffix else thing.evidence
            return replace(thing, is_instance=bool(suffix), evidence=evidence)
        language = self.facts_of(symbol.path).language
        said = declared_type(symbol.name, symbol.kind, symbol.signature, language)
        if symbol.kind == "type":
            said = symbol.signature.rpartition("=")[2].strip() if "=" in symbol.signature else ""
        if not said:
            return None
        if said in ("Self()", "self()", "This()"):
            own = self.class_around(symbol.path, symbol.ordinal)
            found = _Thing(own, 0.9, "type", is_instance=True) if own else None
        else:
            found = self._chain(symbol.path, symbol.ordinal, said, depth + 1)
        return found.weakened(thing.confidence, "type") if found else None

    def _member(self, thing: _Thing, name: str, depth: int) -> _Thing | None:
        """What `thing.name` is."""
        if depth > _MAX_DEPTH:
            return None
        if thing.symbol is None:
            return self._of_module(thing, name, depth)
        symbol = thing.symbol
        if symbol.kind in ("namespace", "module"):
            inside = self.facts_of(symbol.path)
            found = inside.qualified.get(f"{symbol.qualified_name}{inside.separator}{name}")
            return _Thing(found, thing.confidence, "type") if found else None
        if symbol.kind not in CLASS_KINDS:
            held = self._used(thing, "", depth)
            return self._member(held, name, depth + 1) if held and held.symbol != symbol else None
        if found := self._own_member(symbol, name):
            return _Thing(found, thing.confidence, thing.evidence)
        for base in self.bases(symbol):
            inherited = self._member(replace(thing, symbol=base), name, depth + 1)
            if inherited is not None:
                return inherited.weakened(0.97, thing.evidence)
        return None

    def _of_module(self, thing: _Thing, name: str, depth: int) -> _Thing | None:
        for file in thing.files:
            if found := self._exported(file, name, depth + 1):
                return found
        for file in thing.files:
            if module_name(file) == "__init__":
                for inner in self.modules.files(file, "python", ".", name):
                    if inner != file:
                        return _Thing(None, 0.95, "import", files=(inner,))
        return None

    def _own_member(self, owner: StoredSymbol, name: str) -> StoredSymbol | None:
        facts = self.facts_of(owner.path)
        found = facts.qualified.get(f"{owner.qualified_name}{facts.separator}{name}")
        if found or facts.language not in ("go", "rust", "cpp", "csharp", "swift", "ruby"):
            return found
        # Methods may stand in other files than their type.
        wanted = (f"{owner.name}{facts.separator}{name}", f"{owner.name}.{name}")
        for symbol in self._symbols_named(name):
            if not symbol.qualified_name.endswith(wanted):
                continue
            if ingest.may_refer(symbol.path, owner.path) and self._is_near(symbol, owner):
                return symbol
        return None

    def _is_near(self, symbol: StoredSymbol, owner: StoredSymbol) -> bool:
        if self.facts_of(owner.path).language == "go":
            return symbol.path.rpartition("/")[0] == owner.path.rpartition("/")[0]
        return True

    def class_around(self, path: str, ordinal: int) -> StoredSymbol | None:
        """The class that a symbol belongs to; for a class, itself."""
        facts = self.facts_of(path)
        around = facts.symbols[ordinal].qualified_name if 0 <= ordinal < len(facts.symbols) else ""
        while around:
            symbol = facts.qualified.get(around)
            if symbol is not None and symbol.kind in CLASS_KINDS:
                return symbol
            if facts.language in _SCRIPTS and (symbol is None or symbol.kind in VALUE_KINDS):
                # `app.listen = function () { this.get() }`: an object that is no class
                return StoredSymbol(path, -1, around, around, "class", 0, 0)
            if symbol is None:  # a type of another file, whose methods are here
                name = around.rpartition(facts.separator)[2]
                named = [s for s in self._symbols_named(name) if s.kind in CLASS_KINDS]
                return next((s for s in named if ingest.may_refer(path, s.path)), None)
            around = around.rpartition(facts.separator)[0]
        return None

    def bases(self, owner: StoredSymbol) -> tuple[StoredSymbol, ...]:
        """The classes that a class extends, as far as they are of this workspace."""
        key = owner.path, owner.ordinal
        with self._lock:
            if key in self._bases:
                return self._bases[key]
            self._bases[key] = ()  # a class that extends itself
            self._bases[key] = tuple(
                target.symbol
                for use in self._uses_in(owner.path, owner.ordinal)
                if use.kind == "type" and use.name != owner.name and use.name in owner.signature
                for target in self.targets(owner.path, use)
                if target.symbol.kind in CLASS_KINDS and target.symbol != owner
            )
            return self._bases[key]

    # Guesses

    def _may_guess(self, path: str, expression: str) -> bool:
        """False if the receiver is known to be foreign: an imported module or type."""
        parts = expression.split(".")
        root = parts[0].rstrip("()[]")
        if root in SELF:
            return not parts[-1].startswith("__")
        if self._is_super(path, parts[0]):
            return False  # of a foreign class
        facts = self.facts_of(path)
        return root not in facts.taken and facts.language not in ("go", "rust")

    def _guessed(self, path: str, use: Use) -> _Thing | None:
        """A method of a type that the receiver is called like: `session.get` for `Session`."""
        key = ingest.family(path), use.receiver.rpartition(".")[2], use.name
        if key not in self._guesses:
            self._guesses[key] = self._called_like(*key)
        if named := self._guesses[key]:
            best = max(named, key=lambda symbol: n_shared(symbol.path, path))
            return _Thing(best, 0.7, "name")
        return self._only_method(path, use.name)

    def _called_like(self, family: str, called: str, name: str) -> Sequence[StoredSymbol]:
        found = []
        for symbol in self._symbols_named(name):
            if symbol.kind not in ("method", "field") or ingest.family(symbol.path) != family:
                continue
            owner = self.class_around(symbol.path, symbol.ordinal)
            if owner is not None and is_called_like(called, owner.name):
                found.append(symbol)
        return found

    def _only_method(self, path: str, name: str) -> _Thing | None:
        """The only method of a name of several words, where the file names its type or sees it."""
        if not _SEVERAL_WORDS.search(name):
            return None  # `get`, `update`: whatever is not of this workspace has them too
        family = ingest.family(path)
        named = [s for s in self._symbols_named(name) if ingest.family(s.path) == family]
        if len({symbol.qualified_name for symbol in named}) != 1 or named[0].kind != "method":
            return None
        owner = self.class_around(named[0].path, named[0].ordinal)
        if owner is None or ranking.is_test(owner.path) > ranking.is_test(path):
            return None
        facts = self.facts_of(path)
        is_seen = owner.path == path or owner.name in facts.taken or owner.name in facts.top
        is_seen = is_seen or owner.path in self.modules.package_of(path, facts.language)
        return _Thing(named[0], 0.6, "name") if is_seen else None

    def _only_one(self, path: str, name: str) -> _Thing | None:
        named = [
            symbol
            for symbol in self._symbols_named(name)
            if ingest.may_refer(path, symbol.path) and symbol.kind not in ("field", "heading")
        ]
        defined = [s for s in named if not s.path.endswith((".h", ".hpp", ".hh"))] or named
        owners = {(symbol.path, symbol.qualified_name) for symbol in defined}
        if len(owners) != 1 or defined[0].kind in ("method", "constructor"):
            return None
        return _Thing(defined[0], 0.6, "name")

    def _definition_of(self, target: Target) -> Iterator[Target]:
        """Where a declaration in a header is defined: it means both."""
        symbol = target.symbol
        if not symbol.path.endswith((".h", ".hpp", ".hh", ".hxx")):
            return
        if symbol.kind not in FUNCTION_KINDS:
            return
        named = [
            other
            for other in self._symbols_named(symbol.name)
            if other.qualified_name == symbol.qualified_name
            and other.path != symbol.path
            and ingest.may_refer(other.path, symbol.path)
            and not other.path.endswith((".h", ".hpp", ".hh", ".hxx"))
        ]
        stem = module_name(symbol.path)
        beside = [other for other in named if module_name(other.path) == stem]
        for other in beside[:1] or (named if len(named) == 1 else []):
            yield Target(other, target.confidence, target.evidence)


def is_called_like(receiver: str, name: str) -> bool:
    """Whether a variable is called like a type: `self.http_session` like `HTTPSession`."""
    called = receiver.rpartition(".")[2].rstrip("()[]").lower().replace("_", "")
    called = called.removeprefix("#")
    return len(called) > 2 and called == name.lower().replace("_", "")
