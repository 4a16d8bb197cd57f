import sqlite3

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase.symbol_search import fit, like_pattern

names = st.text("abcAB_%\\", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("query", "better", "worse"),
    [
        ("get", "get", "getUser"),
        ("Get", "Get", "get"),
        ("get", "getUser", "forget"),
        ("gu", "getUser", "argue"),
        ("gu", "get_user", "argue"),
        ("gu", "guess", "getUser"),
        ("hs", "HTTPSession", "hashed"),
        ("get", "getUser", "getUserByName"),
        ("user", "theuser", "museum_ever"),
    ],
)
def test_what_fits_better_is_first(query: str, better: str, worse: str) -> None:
    assert fit(query, better, better) > fit(query, worse, worse) > 0


def test_what_stands_before_the_name_must_be_around_it() -> None:
    assert fit("Session.get", "get", "http.Session.get") > 0
    assert fit("session::get", "get", "Session::get") > 0
    assert fit("Session.get", "get", "Client.get") == 0
    assert fit("Session.", "get", "Session.get") > 0


@pytest.mark.parametrize("query", ["x", "teg", "gett"])
def test_letters_that_are_missing_fit_nothing(query: str) -> None:
    assert fit(query, "get", "get") == 0


@given(names, names)
def test_the_pattern_passes_all_that_fits(query: str, name: str) -> None:
    pattern = like_pattern(query)
    with sqlite3.connect(":memory:") as db:
        passes = db.execute("SELECT ? LIKE ? ESCAPE '\\'", (name, pattern)).fetchone()[0]
    db.close()
    assert 0 <= fit(query, name, name) <= 1
    assert passes or fit(query, name, name) == 0
