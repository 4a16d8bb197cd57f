"""Languages, one TOML file each in this folder: which files are theirs and how to outline them.

A new language is one file here and one fixture in tests/fixtures/outline. Knows no parser: the
queries are text here; README.md, beside the data, explains their captures.
"""

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ["Language", "Queries", "all_languages", "language_of"]

_QUERIES = "\n[queries]\n"
_SHEBANG = re.compile(r"#!\s*(?:\S*/)?(?:env\s+(?:-\S+\s+|\w+=\S+\s+)*)?(?:\S*/)?([^\s/]+)")


@dataclass(frozen=True, slots=True)
class Queries:
    """Tree-sitter queries of a language."""

    symbols: str = ""
    references: str = ""
    imports: str = ""
    locals: str = ""


@dataclass(frozen=True, slots=True)
class Language:
    """What is known of a language without parsing it."""

    name: str
    grammar: str = ""
    """Its name in tree-sitter-language-pack; empty for plain text, which has no symbols."""
    extends: str = ""
    """The language whose queries come before its own."""
    suffixes: tuple[str, ...] = ()
    """In lower case, with the dot."""
    filenames: tuple[str, ...] = ()
    interpreters: tuple[str, ...] = ()
    """As a first line `#!` names them, without a version."""
    separator: str = "."
    """Between the parts of a qualified name."""
    members: tuple[str, ...] = (".",)
    """Between a value and what is taken from it."""
    implicit_self: bool = False
    """Whether a method names its object's members without `self` or `this`."""
    has_preprocessor: bool = False
    """Whether `#if` may stand anywhere in it, also in the middle of a statement."""
    line_comments: tuple[str, ...] = ()
    """What starts a comment that ends with its line."""
    block_comments: tuple[str, ...] = ()
    """Start and end of a comment of several lines, one after the other."""
    constructors: tuple[str, ...] = ()
    """Names of methods that make an object."""

    @property
    def queries(self) -> Queries:
        """Its queries, read when they are asked for."""
        return _queries(self.name)


def language_of(path: str, first_line: str = "") -> Language | None:
    """The language of a file by its name, else by its first line `#!`; None if it is not known."""
    by_filename, by_suffix, by_interpreter = _tables()
    name = PurePosixPath(path).name
    if found := by_filename.get(name):
        return found
    dot = name.find(".", 1)
    while dot > 0:
        if found := by_suffix.get(name[dot:].lower()):
            return found
        dot = name.find(".", dot + 1)
    if shebang := _SHEBANG.match(first_line):
        interpreter = shebang[1]
        return by_interpreter.get(interpreter) or by_interpreter.get(
            interpreter.rstrip("0123456789.")
        )
    return None


@cache
def all_languages() -> dict[str, Language]:
    """Every language by its name. Reads only the heads of the files: the queries come later."""
    found = {}
    for file in sorted(Path(__file__).parent.glob("*.toml")):
        head = tomllib.loads(file.read_text("utf-8").partition(_QUERIES)[0])
        fields: dict[str, Any] = {
            key: tuple(v) if isinstance(v, list) else v for key, v in head.items()
        }
        found[file.stem] = Language(name=file.stem, **fields)
    return found


@cache
def _tables() -> tuple[dict[str, Language], dict[str, Language], dict[str, Language]]:
    by_filename: dict[str, Language] = {}
    by_suffix: dict[str, Language] = {}
    by_interpreter: dict[str, Language] = {}
    for language in all_languages().values():
        by_filename.update(dict.fromkeys(language.filenames, language))
        by_suffix.update(dict.fromkeys(language.suffixes, language))
        by_interpreter.update(dict.fromkeys(language.interpreters, language))
    return by_filename, by_suffix, by_interpreter


@cache
def _queries(name: str) -> Queries:
    text = Path(__file__).with_name(f"{name}.toml").read_text("utf-8")
    own = Queries(**tomllib.loads(text).get("queries", {}))
    if not (parent := all_languages()[name].extends):
        return own
    before = _queries(parent)
    return Queries(
        before.symbols + own.symbols,
        before.references + own.references,
        before.imports + own.imports,
        before.locals + own.locals,
    )
