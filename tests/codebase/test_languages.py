import re

import pytest

from lsp_assist.codebase.languages import all_languages, language_of
from lsp_assist.codebase.outline import outline
from lsp_assist.codebase.symbols import KINDS
from tests.codebase.outline_text import fixtures

MARKERS = {"name", "path", "scope", "body", "doc", "container", "wrapper", "decorator"}


@pytest.mark.parametrize(
    ("path", "first_line", "expected"),
    [
        ("a/b.py", "", "python"),
        ("a/B.PY", "", "python"),
        ("a/b.pyi", "", "python"),
        ("x.d.ts", "", "typescript"),
        ("x.jsx", "", "javascript"),
        ("list.h", "", "cpp"),
        ("Makefile", "", "make"),
        ("src/CMakeLists.txt", "", "cmake"),
        ("notes.txt", "", "text"),
        ("README", "", "text"),
        (".vimrc", "", "vim"),
        (".bashrc", "", "bash"),
        ("bin/run", "#!/bin/sh -e", "bash"),
        ("bin/run", "#!/usr/bin/env python3.11", "python"),
        ("bin/run", "#! /usr/bin/env -S node --harmony", "javascript"),
        ("bin/run", "#!/usr/local/bin/ruby2.7\r", "ruby"),
        ("bin/run", "#!/usr/bin/env FOO=1 lua5.4", "lua"),
        ("main.py", "#!/bin/sh", "python"),
        ("bin/run", "#!/usr/bin/unheard-of", None),
        ("bin/run", "#!", None),
        ("bin/run", "", None),
        ("photo.png", "", None),
        ("py", "", None),
        ("", "", None),
    ],
)
def test_a_file_has_the_language_of_its_name_else_of_its_first_line(
    path: str, first_line: str, expected: str | None
) -> None:
    found = language_of(path, first_line)
    assert (found.name if found else None) == expected


def test_no_two_languages_claim_the_same_files() -> None:
    for field in ("suffixes", "filenames", "interpreters"):
        claimed = [claim for each in all_languages().values() for claim in getattr(each, field)]
        assert sorted(claimed) == sorted(set(claimed)), field


def test_suffixes_are_lower_case_with_a_dot() -> None:
    for language in all_languages().values():
        for suffix in language.suffixes:
            assert re.fullmatch(r"\.[a-z0-9_+.]+", suffix), (language.name, suffix)


def test_every_language_has_a_fixture_and_every_fixture_is_named_for_its_language() -> None:
    shown = {fixture.language.name for fixture in fixtures()}
    assert shown == set(all_languages())
    for fixture in fixtures():
        assert fixture.file.stem.split("-")[0] == fixture.language.name


@pytest.mark.parametrize("name", sorted(all_languages()))
def test_the_queries_fit_the_grammar_and_use_known_captures(name: str) -> None:
    language = all_languages()[name]
    assert outline("x", "x\n", language).problem == ""
    queries = language.queries
    for text, known in (
        (queries.symbols, KINDS | MARKERS),
        (queries.references, {"call", "type", "name"}),
        (queries.imports, {"from", "imported", "import", "as", "alias", "default"}),
        (queries.locals, {"local", "attribute", "type", "made", "value"}),
    ):
        outside_strings = re.sub(r'"[^"]*"', "", text)
        captures = {c for c in re.findall(r"@(\w+)", outside_strings) if not c.startswith("_")}
        assert captures <= known


def test_a_language_without_a_grammar_has_no_queries() -> None:
    for language in all_languages().values():
        assert bool(language.grammar) == bool(language.queries.symbols)
