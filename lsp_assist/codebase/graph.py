"""Who calls whom, as far as names tell and can be believed.

Works on a view's symbols and uses. Knows no text and no ranking of searches.
"""

import re

from lsp_assist.codebase import ingest, ranking
from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.codebase.view import View

__all__ = ["callees", "callers"]

MAX_RELATED = 5

_NAME = re.compile(r"\w+")
_CALLABLE = frozenset({"function", "method", "constructor", "macro", "class", "struct"})


def callers(view: View, symbol: StoredSymbol) -> list[StoredSymbol]:
    """Symbols that use this one by name: those of its own file first, tests last.

    In its own file the name is enough. Elsewhere it must be the only one of its name, and a
    method's type must be named there too: `append` is called everywhere.
    """
    if symbol.kind not in _CALLABLE:
        return []
    is_shared = len(view.symbols_named(symbol.name)) > 1
    knowing = _files_that_name_its_type(view, symbol)
    users = [
        user
        for user in view.users_of(symbol.name)
        if (user.path, user.ordinal) != (symbol.path, symbol.ordinal)
        and (user.path == symbol.path or (not is_shared and _knows(user.path, symbol, knowing)))
    ]
    users.sort(key=lambda user: (user.path != symbol.path, ranking.is_test(user.path)))
    return users[:MAX_RELATED]


def callees(view: View, symbol: StoredSymbol) -> list[StoredSymbol]:
    """Symbols of this workspace that this one calls, in the order of the calls."""
    found: dict[tuple[str, int], StoredSymbol] = {}
    for use in view.uses_in(symbol.path, symbol.ordinal):
        if use.kind != "call" or use.name in (symbol.name, "super"):
            continue
        named = view.symbols_named(use.name)
        candidates = [other for other in named if other.path == symbol.path] or named
        if len(candidates) != 1:
            continue
        target = candidates[0]
        if _knows(symbol.path, target, _files_that_name_its_type(view, target)):
            found.setdefault((target.path, target.ordinal), target)
        if len(found) == MAX_RELATED:
            break
    return list(found.values())


def _files_that_name_its_type(view: View, symbol: StoredSymbol) -> set[str] | None:
    """The files that name the type that a symbol belongs to; None where it belongs to none."""
    names = _NAME.findall(symbol.qualified_name)
    return view.files_using(names[-2]) if len(names) > 1 else None


def _knows(path: str, symbol: StoredSymbol, knowing: set[str] | None) -> bool:
    """Whether code of a file can mean this symbol: its own, or one of whose type it speaks."""
    if path == symbol.path:
        return True
    return ingest.may_refer(path, symbol.path) and (knowing is None or path in knowing)
