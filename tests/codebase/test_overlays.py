"""Unsaved text laid over what is saved: counted once, and as what is saved is."""

from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase.overlays import CountedChunk
from lsp_assist.codebase.store import Candidate

TERMS = ["a", "b", "aa", "a_b", "ab", "é"]


@given(
    name=st.lists(st.sampled_from(TERMS), max_size=4),
    body=st.lists(st.sampled_from(TERMS), max_size=12),
    query=st.lists(st.sampled_from(TERMS), unique=True),
)
def test_counting_some_terms_is_counting_all_of_them(
    name: list[str], body: list[str], query: list[str]
) -> None:
    candidate = Candidate("a.py", 0, 0, 9, "h", " ".join(name), " ".join(body))
    every, asked = CountedChunk.of(candidate), CountedChunk.for_query(candidate, query)
    assert asked.n_terms == every.n_terms
    for term in query:
        assert asked.name[term] == every.name.get(term, 0)
        assert asked.body[term] == every.body.get(term, 0)
