"""What is shown with a question: the selection, then the best places that fit the budget.

Knows the index's values and a way to count tokens; neither a model nor a prompt's order.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from lsp_assist.codebase import lexical
from lsp_assist.codebase.index import Passage
from lsp_assist.codebase.store import StoredSymbol
from lsp_assist.context import prompt
from lsp_assist.llm import Relation, Segment, Source, SymbolFacts

__all__ = ["Picked", "Selection", "pick", "query_of"]

MAX_SELECTION_QUERY_CHARS = 2_000
TELLING_TERMS = 3


@dataclass(frozen=True, slots=True)
class Selection:
    """What the user selected. Lines zero-based, end included."""

    path: str
    """Relative to the workspace root, or the URI of a document that is in no file."""
    start_line: int
    end_line: int
    text: str
    language: str = ""
    root: str = ""


@dataclass(frozen=True, slots=True)
class Picked:
    """The pieces to show, and the places that did not fit."""

    pieces: tuple[Segment, ...]
    left_out: tuple[Source, ...]


def query_of(question: str, selection: Selection | None, earlier: str = "") -> str:
    """What to search for: the question with the words of the selected code.

    "And who calls it?" says little by itself: then `earlier`, the question before, counts too.
    """
    if selection is not None:
        return f"{question}\n{selection.text[:MAX_SELECTION_QUERY_CHARS]}"
    if len(lexical.query_terms(question)) < TELLING_TERMS:
        return f"{question}\n{earlier}".strip()
    return question


async def pick(
    selection: Selection | None,
    selected: Passage | None,
    passages: Sequence[Passage],
    budget_tokens: int | None,
    count: Callable[[str], Awaitable[int]],
) -> Picked:
    """The selection and the passages, best first, as long as they fit; None is no limit.

    `selected` is the symbol that the selection is about, where the index knows it.
    The selection is what the question is about and is shown whole, even over the budget: then the
    model says by how much, and nothing was cut in silence.
    """
    pieces: list[Segment] = []
    left_out: list[Source] = []
    n_tokens = 0
    if selection is not None:
        pieces.append(_selected(selection, selected))
        n_tokens += await count(pieces[0].text)
    for passage in passages:
        segment = _found(passage)
        assert segment.source is not None
        if selection is not None and _is_inside(segment.source, selection):
            continue
        needed = await count(segment.text) if budget_tokens is not None else 0
        if budget_tokens is not None and n_tokens + needed > budget_tokens:
            left_out.append(segment.source)
            continue
        n_tokens += needed
        pieces.append(segment)
    return Picked(tuple(pieces), tuple(left_out))


def _selected(selection: Selection, about: Passage | None) -> Segment:
    source = Source(
        selection.path,
        selection.start_line,
        selection.end_line,
        about.hit.symbol if about else "",
        selection.root,
    )
    facts = _facts(about) if about else None
    return prompt.selection_segment(source, selection.language, selection.text, facts)


def _found(passage: Passage) -> Segment:
    return prompt.hit_segment(
        _source(passage), passage.language, passage.text, passage.text_line, _facts(passage)
    )


def _source(passage: Passage) -> Source:
    hit = passage.hit
    return Source(hit.path, hit.start_line, hit.end_line, hit.symbol, str(hit.root))


def _is_inside(source: Source, selection: Selection) -> bool:
    return (
        source.path == selection.path
        and source.root == selection.root
        and selection.start_line <= source.start_line
        and source.end_line <= selection.end_line
    )


def _facts(passage: Passage) -> SymbolFacts:
    root = str(passage.hit.root)

    def relations(symbols: Sequence[StoredSymbol]) -> tuple[Relation, ...]:
        return tuple(
            Relation(
                s.qualified_name or s.path,
                Source(s.path, s.start_line, s.end_line, s.qualified_name, root),
            )
            for s in symbols
        )

    return SymbolFacts(
        passage.hit.kind,
        passage.signature,
        passage.summary,
        relations(passage.callers),
        relations(passage.callees),
    )
