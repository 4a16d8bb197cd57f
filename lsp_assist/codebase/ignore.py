r"""What an ignore file hides: the pattern language of .gitignore, as git itself reads it.

Pure: text in, verdicts out. Knows no disk, and not which ignore files there are. `files.walk` asks
about each entry once, from the top down and never below a hidden folder, so a pattern has to match
the entry itself and never one of its parents.

Ignore files are somebody else's text. Patterns become regular expressions whose wildcards never
give back what they took, so that no pattern takes more than quadratic time: pathspec 1.1.1 needs
35 s for `*a*a*a*a*a*a*b` and a name of a hundred `a`.

Differs from git in two things: `?` and `[...]` match a character, not a byte; and `\/` is a `/`
everywhere, while git takes `**\/` for one folder at least.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["MAX_PATTERNS", "Rules"]

MAX_PATTERNS = 5_000
"""Patterns of one ignore file that are used; compiling that many takes less than a second."""

_MAX_PATTERN_CHARS = 4_096


@dataclass(frozen=True, slots=True)
class Rules:
    """The patterns of one ignore file, the last that matches deciding.

    Most patterns are a plain name, `*.suffix` or a plain path, and are looked up, not tried.
    """

    _names: Mapping[str, Sequence["_Rule"]]
    _suffixes: Mapping[str, Sequence["_Rule"]]
    _paths: Mapping[str, Sequence["_Rule"]]
    _name_globs: Sequence["_Rule"]
    _path_globs: Sequence["_Rule"]
    n_dropped: int
    """Patterns beyond `MAX_PATTERNS`, which are not used."""

    @classmethod
    def parse(cls, text: str, *, with_negation: bool = True) -> "Rules":
        """The rules of an ignore file's text; a pattern that can match nothing is left out."""
        names: dict[str, list[_Rule]] = {}
        suffixes: dict[str, list[_Rule]] = {}
        paths: dict[str, list[_Rule]] = {}
        name_globs: list[_Rule] = []
        path_globs: list[_Rule] = []
        n_dropped = 0
        for place, line in enumerate(_patterns(text)):
            if place >= MAX_PATTERNS:
                n_dropped += 1
                continue
            is_negated = line.startswith("!")
            if is_negated and not with_negation:
                continue
            pattern = line.removeprefix("!")
            for_folders = pattern.endswith("/")
            pattern = pattern.removesuffix("/")
            rule = _Rule(place, is_negated, for_folders, _never)
            if "/" not in pattern:
                if not _is_glob(pattern):
                    names.setdefault(pattern, []).insert(0, rule)
                elif pattern.startswith("*.") and not _is_glob(pattern[1:]):
                    suffixes.setdefault(pattern[1:], []).insert(0, rule)
                elif regex := _regex(pattern):
                    name_globs.insert(0, rule._replace(matches=regex.fullmatch))
            elif not _is_glob(pattern):
                paths.setdefault(pattern.removeprefix("/"), []).insert(0, rule)
            elif regex := _regex(pattern.removeprefix("/")):
                path_globs.insert(0, rule._replace(matches=regex.fullmatch))
        return cls(names, suffixes, paths, name_globs, path_globs, n_dropped)

    def verdict(self, path: str, *, is_folder: bool) -> bool | None:
        """True if the entry is hidden, False if it is shown, None if no pattern speaks of it.

        `path` is relative to the folder of the ignore file, with forward slashes.
        """
        found = _NOTHING
        name = path[path.rfind("/") + 1 :]
        if self._names:
            found = _later(found, self._names.get(name, ()), is_folder)
        if self._suffixes:
            at = name.find(".")
            while at >= 0:
                found = _later(found, self._suffixes.get(name[at:], ()), is_folder)
                at = name.find(".", at + 1)
        if self._paths:
            found = _later(found, self._paths.get(path, ()), is_folder)
        if self._name_globs:
            found = _later_match(found, self._name_globs, name, is_folder)
        if self._path_globs:
            found = _later_match(found, self._path_globs, path, is_folder)
        return None if found is _NOTHING else not found.is_negated


class _Rule(NamedTuple):
    place: int
    """In the file; the highest that matches decides."""
    is_negated: bool
    for_folders: bool
    matches: Callable[[str], object]


def _never(_path: str) -> None:
    return None


_NOTHING = _Rule(-1, False, False, _never)


def _later(found: _Rule, rules: Sequence[_Rule], is_folder: bool) -> _Rule:
    for rule in rules:
        if rule.place < found.place:
            break
        if is_folder or not rule.for_folders:
            return rule
    return found


def _later_match(found: _Rule, rules: Sequence[_Rule], path: str, is_folder: bool) -> _Rule:
    for rule in rules:
        if rule.place < found.place:
            break
        if (is_folder or not rule.for_folders) and rule.matches(path):
            return rule
    return found


def _patterns(text: str) -> Iterator[str]:
    for line in text.removeprefix("\ufeff").split("\n"):
        pattern = line.removesuffix("\r")
        if pattern.startswith("#"):
            continue
        pattern = _without_trailing_spaces(pattern)
        if pattern and len(pattern) <= _MAX_PATTERN_CHARS:
            yield pattern


def _without_trailing_spaces(pattern: str) -> str:
    """Without spaces at the end, but for one behind a backslash."""
    bare = pattern.rstrip(" ")
    n_backslashes = len(bare) - len(bare.rstrip("\\"))
    return pattern[: len(bare) + 1] if n_backslashes % 2 else bare


def _is_glob(pattern: str) -> bool:
    return not _SPECIAL.isdisjoint(pattern)


_SPECIAL = frozenset("*?[\\")


# --- patterns to regular expressions ---

_STAR, _GLOBSTAR, _SLASH = "*", "**", "/"

_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": " \\t",
    "cntrl": "\\x00-\\x1f\\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": " \\t\\n\\r\\f\\v",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


def _regex(pattern: str) -> "re.Pattern[str] | None":
    """What matches as the pattern does, or None where that is nothing.

    A wildcard followed by a piece of fixed width is best served by the first place where the piece
    fits, so it may be atomic, `(?>...)`, and takes no backtracking. That holds for the stars within
    a segment, and for `**` between segments. Only the last piece has to reach the end.
    """
    tokens = _tokens(pattern)
    if tokens is None:
        return None
    runs = [[_segment(part) for part in _split(run, _SLASH)] for run in _split(tokens, _GLOBSTAR)]
    # A run ends and starts with what stands between its slashes and the `**`: nothing, but for the
    # literal beginning of a pattern, see `_tokens`.
    pieces = ["/".join(runs[0])]
    for i, run in enumerate(runs[1:], start=1):
        if i < len(runs) - 1:
            pieces.append(f"(?>(?:[^/]*/)*?{'/'.join(run[1:-1])}/)" if run[1:-1] else "")
        else:
            pieces.append("(?:[^/]*/)*" + "/".join(run[1:]) if run[1:] else ".*")
    return re.compile("".join(pieces), re.DOTALL)


def _segment(tokens: Sequence[str]) -> str:
    head, *chunks = ("".join(chunk) for chunk in _split(tokens, _STAR))
    if not chunks:
        return head
    return head + "".join(f"(?>[^/]*?{chunk})" for chunk in chunks[:-1]) + f"[^/]*{chunks[-1]}"


def _split(tokens: Sequence[str], at: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for token in tokens:
        if token == at:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _tokens(pattern: str) -> list[str] | None:
    """`*`, `**` and `/` as themselves, all else as a regular expression of one character.

    `**` has to be a segment by itself. At the first wildcard it need not follow a slash: git puts
    the literal beginning aside before it looks, against its documentation.

    None if the pattern breaks off inside of brackets or behind a backslash.
    """
    n_literal = next((at for at, char in enumerate(pattern) if char in _SPECIAL), len(pattern))
    tokens: list[str] = []
    i = 0
    while i < len(pattern):
        char = pattern[i]
        if char == "*":
            start = i
            while i < len(pattern) and pattern[i] == "*":
                i += 1
            is_segment = (start == n_literal or pattern[start - 1] == "/") and (
                i == len(pattern) or pattern.startswith(("/", "\\/"), i)
            )
            tokens.append(_GLOBSTAR if is_segment and i - start > 1 else _STAR)
            continue
        if char == "[":
            found = _bracket(pattern, i)
            if found is None:
                return None
            token, i = found
            tokens.append(token)
            continue
        if char == "\\":
            i += 1
            if i == len(pattern):
                return None
            tokens.append(_SLASH if pattern[i] == "/" else re.escape(pattern[i]))
        elif char == "?":
            tokens.append("[^/]")
        else:
            tokens.append(_SLASH if char == "/" else re.escape(char))
        i += 1
    return tokens


def _bracket(pattern: str, start: int) -> tuple[str, int] | None:
    """The regular expression of a bracket and where it ends; None if it does not, or is wrong."""
    i = start + 1
    is_negated = pattern.startswith(("!", "^"), i)
    i += is_negated
    items: list[str] = []
    low = ""  # the start of a range, if a `-` follows
    is_first = True
    while is_first or not pattern.startswith("]", i):
        is_first = False
        if pattern.startswith("[:", i) and (end := pattern.find("]", i + 2)) >= 0:
            name = pattern[i + 2 : end]
            if name.endswith(":"):
                if name[:-1] not in _CLASSES:
                    return None
                items.append(_CLASSES[name[:-1]])
                low, i = "", end + 1
                continue
        if low and pattern.startswith("-", i) and pattern[i + 1 : i + 2] not in ("", "]"):
            high, i = _literal(pattern, i + 1)
            if not high:
                return None
            if low <= high:
                items.append(f"{re.escape(low)}-{re.escape(high)}")
            low = ""
            continue
        low, i = _literal(pattern, i)
        if not low:
            return None
        items.append(re.escape(low))
    if is_negated:
        return f"[^/{''.join(items)}]", i + 1
    if not items:
        return None
    return f"(?!/)[{''.join(items)}]", i + 1


def _literal(pattern: str, i: int) -> tuple[str, int]:
    """One character of a bracket, freed of its backslash, and where the next one starts."""
    i += pattern.startswith("\\", i)
    return pattern[i : i + 1], i + 1
