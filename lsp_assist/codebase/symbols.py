r"""The vocabulary of an outline: what a file of code defines, uses, imports, and how it is cut.

Plain values. Knows no parser, no language and no index. All lines are zero-based and counted as
LSP counts them (\n, \r\n and a lone \r end a line, nothing else does); `end_line` is included.
"""

from dataclasses import dataclass
from typing import Literal, get_args

__all__ = [
    "CLASS_KINDS",
    "FUNCTION_KINDS",
    "KINDS",
    "VALUE_KINDS",
    "Chunk",
    "Import",
    "Kind",
    "Outline",
    "Reference",
    "ReferenceKind",
    "Symbol",
]

Kind = Literal[
    "module",
    "namespace",
    "class",
    "struct",
    "interface",
    "trait",
    "enum",
    "function",
    "method",
    "constructor",
    "field",
    "variable",
    "constant",
    "type",
    "macro",
    "heading",  # of a document: a section of prose, a target of a Makefile, a stage of a build
]
"""LSP's SymbolKind in lower case, and four that it lacks: trait, type, macro, heading."""

KINDS: frozenset[str] = frozenset(get_args(Kind))
CLASS_KINDS: frozenset[str] = frozenset({"class", "struct", "interface", "trait", "enum"})
"""Their functions are methods, and their variables fields."""
FUNCTION_KINDS: frozenset[str] = frozenset({"function", "method", "constructor", "macro"})
"""Their variables are local, and no symbols."""
VALUE_KINDS: frozenset[str] = frozenset({"field", "variable", "constant"})

ReferenceKind = Literal[
    "call",  # called, or constructed
    "type",  # a base class, an annotation, a type argument
    "name",  # passed on as a value, used as a decorator
]


@dataclass(frozen=True, slots=True)
class Symbol:
    """Something that the file defines. Symbols stand in the order in which they start."""

    name: str
    qualified_name: str
    """With the names around it, joined as the language joins them: `Session.get`, `Foo::bar`."""
    kind: Kind
    start_line: int
    """Of its decorators where it has some, else of the declaration; comments stay outside."""
    end_line: int
    name_line: int
    signature: str
    """The declaration without decorators and body, on one line, cut at about 200 characters."""
    summary: str
    """First sentence of the doc comment, empty without one."""
    parent: int = -1
    """Index of the innermost symbol around it, which comes before it; -1 at the top."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A name that is used. One per name, receiver, symbol and kind, at the first line of it.

    What is a function's own, a parameter or a local variable, is not listed.
    """

    name: str
    """The last identifier only: `get` for `self.session.get(...)`."""
    line: int
    symbol: int
    """Index of the innermost symbol around it; -1 at the top."""
    kind: ReferenceKind
    receiver: str = ""
    """What it is taken from, with dots and without arguments, whatever the language: `self.session`
    for `self.session.get(x)`, `Foo.new()` for `Foo::new(x).run()`. `?` stands for an expression."""
    receiver_type: str = ""
    """The same with what the file says a local variable or an attribute is: `Session()`, an
    instance of it, after `session: Session`. `?` for a local of unknown type; else empty."""


@dataclass(frozen=True, slots=True)
class Import:
    """A module, header or file that this one asks for, as it is written there."""

    module: str
    names: tuple[str, ...]
    """What is taken from it; empty where it is taken as a whole. `*` is all, `default` as in
    JavaScript."""
    line: int
    aliases: tuple[str, ...] = ()
    """What `names` are called here, one for each."""
    alias: str = ""
    """What the module as a whole is called here, where that is said."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A stretch of lines to search and to show. Chunks partition the lines of a file, in order."""

    symbol: int
    """What it is about: the symbol that it is, or that it is a part of; -1 for none."""
    start_line: int
    end_line: int
    text_hash: str
    """Names the symbol's qualified name and the text, not the path: a renamed file keeps it."""


@dataclass(frozen=True, slots=True)
class Outline:
    """What a file says about itself, without its text."""

    path: str
    language: str
    n_lines: int
    symbols: tuple[Symbol, ...] = ()
    references: tuple[Reference, ...] = ()
    imports: tuple[Import, ...] = ()
    chunks: tuple[Chunk, ...] = ()
    """Empty for a blank file, else all lines; an empty last line is not counted."""
    problem: str = ""
    """Why there is less than there could be, empty if there is no reason."""
