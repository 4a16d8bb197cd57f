"""Terms of code and questions, and BM25."""

import math
import sqlite3
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase.lexical import Corpus, bm25, merged_corpus, query_terms, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("maxRetries", ["maxretries", "max", "retri"]),
        ("snake_case_name", ["snake_case_name", "snake", "case", "name"]),
        ("HTTPServer2", ["httpserver2", "http", "server", "2"]),
        ("__init__", ["init"]),
        ("retrying", ["retri"]),
        ("größe", ["größe"]),
        ("变量", ["变量"]),
        ("a.b->c", ["a", "b", "c"]),
        ("f" * 65, []),
        ("", []),
    ],
)
def test_terms_of_identifiers(text: str, expected: list[str]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Where is a request retried?", ["request", "retri"]),
        ("where is it", ["where", "is", "it"]),
        ("retry retry retries", ["retri"]),
        ("How does QuerySet.filter work?", ["queryset", "queri", "set", "filter"]),
        ("What's retried, and who's calling?", ["retri", "call"]),
        ("?!", []),
    ],
)
def test_terms_of_questions(question: str, expected: list[str]) -> None:
    assert query_terms(question) == expected


@given(st.text(alphabet=st.characters(codec="utf-8")))
def test_a_text_is_found_by_every_term_of_it(text: str) -> None:
    """SQLite splits our terms as we do: what goes in as one term is found as one."""
    found = terms(text)
    db = sqlite3.connect(":memory:")
    try:
        db.execute(
            "CREATE VIRTUAL TABLE t USING fts5 (x,"
            " tokenize = \"unicode61 remove_diacritics 0 tokenchars '_'\")"
        )
        db.execute("INSERT INTO t (x) VALUES (?)", (" ".join(found),))
        for term in set(found):
            if term.isascii():
                assert db.execute("SELECT 1 FROM t WHERE t MATCH ?", (f'"{term}"',)).fetchone()
    finally:
        db.close()


words = st.lists(st.sampled_from(["ab", "cd", "ef", "gh"]), max_size=8)


@given(st.lists(st.tuples(words, words), min_size=1, max_size=8), st.sampled_from(["ab", "cd"]))
def test_a_term_scores_as_in_sqlite_but_for_its_weight(
    documents: list[tuple[list[str], list[str]]], term: str
) -> None:
    """Frequency, columns and length count as FTS5 counts them; only `idf` is another."""
    db = sqlite3.connect(":memory:")
    try:
        db.execute("CREATE VIRTUAL TABLE t USING fts5 (name, body)")
        db.executemany(
            "INSERT INTO t VALUES (?, ?)", [(" ".join(n), " ".join(b)) for n, b in documents]
        )
        rows = db.execute("SELECT rowid, -bm25(t, 2.0, 1.0) FROM t WHERE t MATCH ?", (f'"{term}"',))
        theirs = dict(rows.fetchall())
    finally:
        db.close()
    counts = [(Counter(n), Counter(b)) for n, b in documents]
    corpus = merged_corpus((0, 0, Counter()), [(n + b, (n + b).total()) for n, b in counts], [term])
    n = len(theirs)
    their_idf = max(math.log((len(documents) - n + 0.5) / (n + 0.5)), 1e-6)
    for row, (name, body) in enumerate(counts, start=1):
        n_terms = name.total() + body.total()
        score = bm25([term], ((2.0, name), (1.0, body)), n_terms, corpus)
        expected = theirs.get(row, 0.0) / their_idf * corpus.idf(term)
        assert score == pytest.approx(expected, rel=1e-6, abs=1e-9)


@given(st.integers(1, 10**6), st.data())
def test_a_rarer_term_weighs_more_and_every_term_something(n: int, data: st.DataObject) -> None:
    few = data.draw(st.integers(0, n))
    many = data.draw(st.integers(few, n))
    corpus = Corpus(n, n, {"few": few, "many": many})
    assert corpus.idf("few") >= corpus.idf("many") > 0
