import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_assist.codebase.chunks import MAX_CHARS, MAX_LINES
from lsp_assist.codebase.languages import Language, all_languages
from lsp_assist.codebase.outline import outline
from lsp_assist.codebase.symbols import KINDS, Outline
from tests.codebase.outline_text import Fixture, fixtures, render

FIXTURES = fixtures()
PARSED = [fixture for fixture in FIXTURES if fixture.language.grammar]


def of(text: str, language: str = "python") -> Outline:
    found = outline("x", text, all_languages()[language])
    check(found, text)
    return found


def names(found: Outline) -> list[str]:
    return [symbol.qualified_name for symbol in found.symbols]


def check(found: Outline, text: str) -> None:
    """What holds for every outline of every text."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert found.n_lines == len(lines)
    for index, symbol in enumerate(found.symbols):
        assert symbol.kind in KINDS
        assert symbol.name
        assert symbol.qualified_name.endswith(symbol.name)
        assert 0 <= symbol.start_line <= symbol.name_line <= symbol.end_line < len(lines)
        assert "\n" not in symbol.signature
        assert len(symbol.signature) <= 200
        assert len(symbol.summary) <= 200
        assert -1 <= symbol.parent < index
        if symbol.parent != -1:
            around = found.symbols[symbol.parent]
            assert around.start_line <= symbol.start_line
            assert symbol.end_line <= around.end_line
    for reference in found.references:
        assert reference.name
        assert 0 <= reference.line < len(lines)
        assert -1 <= reference.symbol < len(found.symbols)
        if reference.symbol != -1:
            user = found.symbols[reference.symbol]
            assert user.start_line <= reference.line <= user.end_line
        assert "\n" not in reference.receiver + reference.receiver_type
    unique = {(r.name, r.receiver, r.symbol, r.kind) for r in found.references}
    assert len(unique) == len(found.references)
    for wanted in found.imports:
        assert wanted.module
        assert len(wanted.names) == len(wanted.aliases)
        assert 0 <= wanted.line < len(lines)

    covered = [i for c in found.chunks for i in range(c.start_line, c.end_line + 1)]
    is_blank = not any(line.strip() for line in lines)
    assert covered == ([] if is_blank else list(range(len(lines) - (not lines[-1]))))
    for chunk in found.chunks:
        assert -1 <= chunk.symbol < len(found.symbols)
        own = lines[chunk.start_line : chunk.end_line + 1]
        assert len(own) <= MAX_LINES
        assert len(own) == 1 or sum(map(len, own)) <= MAX_CHARS
        assert len(bytes.fromhex(chunk.text_hash)) == 16


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda f: f.file.stem)
def test_an_outline_says_what_its_fixture_says(fixture: Fixture) -> None:
    found = fixture.outline()
    check(found, fixture.source)
    assert render(found) == fixture.expected


@pytest.mark.parametrize("fixture", PARSED, ids=lambda f: f.file.stem)
def test_line_ends_change_nothing(fixture: Fixture) -> None:
    """Carriage returns belong to the line ends, and no line is counted twice."""
    crlf = outline(fixture.path, fixture.source.replace("\n", "\r\n"), fixture.language)
    check(crlf, fixture.source)
    found = fixture.outline()
    assert crlf.n_lines == found.n_lines
    if fixture.language.name not in LINE_BASED:
        assert render(crlf) == render(found)
        assert crlf.chunks == found.chunks


LINE_BASED = {"make", "vim", "dockerfile", "markdown", "haskell", "bash", "cmake"}
"""Their grammars end a line at a newline only, and see the carriage return as part of it."""


def test_lines_are_counted_as_lsp_counts_them() -> None:
    """A lone carriage return ends a line; form feeds and Unicode separators do not."""
    found = of("x = '\u2028\x0c\x85'\ny = 1\rz = 2\r\ndef f(): pass\n")
    assert [(s.name, s.start_line) for s in found.symbols if s.name in "xf"] == [("x", 0), ("f", 3)]


def test_names_and_lines_survive_wide_characters() -> None:
    found = of("# 😀 é\ndef größe(größe='😀'):\n    return größe(größe)\n")
    assert [(s.name, s.start_line, s.end_line) for s in found.symbols] == [("größe", 1, 2)]
    assert found.symbols[0].signature == "def größe(größe='😀')"
    assert found.symbols[0].summary == "😀 é"


def test_a_class_has_a_header_chunk_and_one_per_method() -> None:
    methods = "".join(
        f"    def m{i}(self):\n        a = {i}\n        return a\n\n" for i in range(6)
    )
    found = of(f'import os\n\n\nclass A:\n    """Doc."""\n\n    x = 1\n\n{methods}')
    about = [found.symbols[c.symbol].qualified_name if c.symbol != -1 else "" for c in found.chunks]
    assert about == ["", "A", *(f"A.m{i}" for i in range(6))]


def test_a_small_class_is_one_chunk() -> None:
    found = of(
        "class A:\n    def f(self):\n        return 1\n\n    def g(self):\n        return 2\n"
    )
    assert [(c.start_line, c.end_line) for c in found.chunks] == [(0, 5)]


def test_a_long_function_is_split_at_blank_lines_and_keeps_its_symbol() -> None:
    block = "    a = 1\n    b = 2\n    for x in y:\n        c = 3\n        d = 4\n\n"
    text = "def f():\n" + block * 60
    found = of(text)
    lines = text.split("\n")
    assert len(found.chunks) > 2
    assert {c.symbol for c in found.chunks} == {0}
    assert all(lines[c.start_line - 1] == "" for c in found.chunks[1:])


def test_comments_above_a_function_are_in_its_chunk() -> None:
    found = of("X = 1\n\n# About f.\n# More.\n@wraps\ndef f():\n    return 1\n")
    assert [(c.start_line, c.end_line) for c in found.chunks] == [(0, 1), (2, 6)]


def test_a_renamed_file_keeps_its_hashes_and_a_changed_function_changes_only_its_own() -> None:
    fixture = next(f for f in FIXTURES if f.file.stem == "python")
    before = fixture.outline()
    renamed = outline("other/name.py", fixture.source, fixture.language)
    assert renamed.chunks == before.chunks
    changed = fixture.source.replace("merged = dict_class", "merged = dict_klass")
    after = outline(fixture.path, changed, fixture.language)
    differing = [
        before.symbols[b.symbol].name
        for b, a in zip(before.chunks, after.chunks, strict=True)
        if b.text_hash != a.text_hash
    ]
    assert differing == ["merge_setting"]


def test_moving_a_function_down_keeps_its_hash() -> None:
    before = of("def f():\n    return 1\n")
    after = of("import os\n\n\ndef f():\n    return 1\n")
    assert after.chunks[-1].text_hash == before.chunks[0].text_hash


def test_of_a_broken_file_the_sound_parts_are_found() -> None:
    found = of("def before():\n    return 1\n\nx = = 3 )\n\ndef after():\n    return 1\n")
    assert "before" in names(found)
    assert "after" in names(found)


def test_symbols_are_nested_to_a_bounded_depth() -> None:
    depth = 400
    text = "".join(" " * i + f"def f{i}():\n" for i in range(depth)) + " " * depth + "pass\n"
    found = of(text)
    assert 10 < len(found.symbols) <= 32


def test_a_decorator_on_the_line_of_its_function_is_no_comment_of_the_next_one() -> None:
    found = of(
        "class A {\n  /** Of a. */\n  @Override int a() { return 1; }\n"
        "  @Override int b() { return 2; }\n}\n",
        "java",
    )
    assert [s.summary for s in found.symbols] == ["", "Of a.", ""]


def test_a_reference_is_listed_once_per_symbol_and_kind() -> None:
    found = of("def f(x):\n    g()\n    g()\n    return g\n\ng()\n")
    assert [(r.name, r.symbol, r.kind, r.line) for r in found.references] == [
        ("g", 0, "call", 1),
        ("g", 0, "name", 3),
        ("g", -1, "call", 5),
    ]


def test_a_file_that_takes_too_long_says_so() -> None:
    found = of("/*" * 3_000, "swift")
    assert found.problem.startswith("Parsing took more than")
    assert found.symbols == ()
    assert len(found.chunks) == 1


def test_an_unknown_grammar_gives_chunks_and_the_problem() -> None:
    found = outline("x", "a\nb\n", Language("none", grammar="no-such-grammar"))
    check(found, "a\nb\n")
    assert len(found.chunks) == 1
    assert "no-such-grammar" in found.problem


@pytest.mark.parametrize("language", sorted(all_languages()))
@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "\r",
        " \t\n\x0c\n",
        "\x00",
        "def f():\x00\n\x00 = 1\n",
        "\ufeffdef f(): pass\n",
        "\ud800x = f('\udfff', \udfff)\n",
        "target_link_libraries(a\ud800b c)\n",
        "x" * 20_000,
        '"' * 5_000,
        "'" * 4_999,
        "<" * 5_000,
        "/*" * 300,
        "`" * 3_000,
        "\\" * 3_000,
        "\n" * 5_000 + "x",
        "a\r\nb\rc\n",
    ],
    ids=lambda text: repr(text)[:16],
)
def test_odd_texts_give_an_outline(text: str, language: str) -> None:
    of(text, language)


@pytest.mark.slow
@pytest.mark.parametrize("language", sorted(all_languages()))
@pytest.mark.parametrize("text", ["(", "[", "{", "((a)", "a.", "!", "-", "if x {", "\t"])
def test_deep_and_long_texts_neither_crash_nor_hang(text: str, language: str) -> None:
    """Tens of thousands of brackets, valid and not: less is said, and the stack holds."""
    of(text * (20_000 // len(text)), language)


@pytest.mark.slow
@pytest.mark.parametrize("language", sorted(all_languages()))
@pytest.mark.parametrize(("opening", "closing"), ["()", "[]", "{}", ("f(", ")"), ("if x {", "}")])
def test_sound_but_absurdly_deep_texts_neither_crash_nor_hang(
    opening: str, closing: str, language: str
) -> None:
    depth = 20_000 // len(opening + closing)
    of(f"x = {opening * depth}1{closing * depth}\n", language)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_an_outline_of_any_mutation_keeps_its_invariants(data: st.DataObject) -> None:
    """Slices of real code deleted, repeated and mixed across languages."""
    fixture = data.draw(st.sampled_from(FIXTURES))
    text = fixture.source
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(start, min(len(text), start + 200)))
        kind = data.draw(st.sampled_from(["delete", "repeat", "insert", "import"]))
        if kind == "delete":
            text = text[:start] + text[end:]
        elif kind == "repeat":
            text = text[:end] + text[start:end] * 2 + text[end:]
        elif kind == "insert":
            text = text[:start] + data.draw(st.text(max_size=20)) + text[start:]
        else:
            other = data.draw(st.sampled_from(FIXTURES)).source
            text = text[:start] + other[start:end] + text[start:]
    found = outline(fixture.path, text, fixture.language)
    check(found, text)
    assert outline("elsewhere", text, fixture.language).chunks == found.chunks


def test_choosing_a_language_does_not_import_the_parser() -> None:
    """Asking about an unchanged index must not pay for tree-sitter."""
    code = (
        "import sys, lsp_assist.codebase.outline as o, lsp_assist.codebase.languages as l;"
        "l.language_of('x.py');"
        "print([m for m in sys.modules if m.startswith('tree_sitter')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
