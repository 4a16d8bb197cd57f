"""What a file says of itself as names ask for it: by name, by qualified name, by what is imported.

Pure. Knows no other file: what an import means is found elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lsp_assist.codebase import ingest
from lsp_assist.codebase.languages import all_languages
from lsp_assist.codebase.store import StoredImport, StoredSymbol

__all__ = ["INCLUDING", "Facts", "is_module", "last_part", "module_name"]

INCLUDING = frozenset({"c", "cpp"})
"""Languages that see all that a file includes."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A file's symbols and imports, as names ask for them."""

    path: str
    language: str
    separator: str
    symbols: Sequence[StoredSymbol]
    imports: Sequence[StoredImport]
    top: dict[str, StoredSymbol] = field(default_factory=dict)
    """What other files may name: not local, and no member."""
    qualified: dict[str, StoredSymbol] = field(default_factory=dict)
    taken: dict[str, StoredImport] = field(default_factory=dict)
    """Imports by what they are called here."""

    @classmethod
    def of(
        cls,
        path: str,
        symbols: Sequence[StoredSymbol],
        imports: Sequence[StoredImport],
    ) -> "Facts":
        """The facts of a file."""
        language = ingest.language_name(path)
        known = all_languages().get(language)
        facts = cls(path, language, known.separator if known else ".", symbols, imports)
        for symbol in symbols:
            facts.qualified.setdefault(symbol.qualified_name, symbol)
        for symbol in symbols:
            if _is_top(facts, symbol):
                facts.top.setdefault(symbol.name, symbol)
        for wanted in imports:
            if called := _called(wanted, language):
                facts.taken.setdefault(called, wanted)
        return facts


def last_part(module: str, language: str) -> str:
    """The last part of a module's path. `/v2` is a version of a Go module."""
    parts = [part for part in module.replace("::", "/").replace("\\", "/").split("/") if part]
    if language == "go" and len(parts) > 1 and parts[-1][:1] == "v" and parts[-1][1:].isdigit():
        parts.pop()
    last = parts[-1] if parts else ""
    if language in ("java", "kotlin", "scala", "csharp", "elixir"):
        last = last.rpartition(".")[2]
    return last.removeprefix("go-") if language == "go" else last


def is_module(path: str, name: str) -> bool:
    """Whether a file is the module of this name, by itself or as the first of its folder."""
    folder, _, file = path.rpartition("/")
    stem = file.split(".", 1)[0]
    return stem == name or (stem in ("__init__", "mod", "index") and last_part(folder, "") == name)


def module_name(path: str) -> str:
    """The name of a file without its folder and suffixes."""
    return path.rpartition("/")[2].split(".", 1)[0]


def _is_top(facts: Facts, symbol: StoredSymbol) -> bool:
    if symbol.kind in ("method", "constructor", "field", "heading"):
        return False
    around = facts.qualified.get(symbol.qualified_name.rpartition(facts.separator)[0])
    if around is None or around.kind in ("namespace", "module"):
        return True
    return symbol.kind == "constant" and facts.language in INCLUDING


def _called(wanted: StoredImport, language: str) -> str:
    """The name by which a file uses what it imports; empty for `*` and for what has none."""
    if wanted.name:
        alias = wanted.alias.rpartition("::")[2]
        if alias == "self":
            return last_part(wanted.module, language)
        return "" if alias == "*" else alias
    if wanted.alias:
        return "" if wanted.alias == "_" else wanted.alias
    if language == "python":
        return wanted.module.split(".")[0]
    if language in ("c", "cpp", "bash", "ruby", "make", "css", "cmake", "vim", "lua"):
        return ""
    return last_part(wanted.module, language)
