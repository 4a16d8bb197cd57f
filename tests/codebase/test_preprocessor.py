"""Conditionals that tear blocks apart are reduced to one branch, and nothing else is touched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase.languages import language_of
from lsp_assist.codebase.outline import outline
from lsp_assist.codebase.preprocessor import without_torn_branches

LINES = ["#if A", "# ifdef B", "#if 0", "#else", "#elif C", "#endif", "{", "}", "f(x);", "a = b +"]
LINES += ["else", "|| b", "/* ( { */", "// {", '"{"', "#define M(a) \\", "", "\\", "  #endif // }"]


@given(lines=st.lists(st.sampled_from(LINES), max_size=30), end=st.sampled_from(["\n", "\r\n"]))
def test_every_byte_stays_where_it_is(lines: list[str], end: str) -> None:
    """Each is as it was or blank, and every line ends where it did; doing it twice changes no more
    than blanks.
    """
    source = end.join(lines).encode()
    reduced = without_torn_branches(source)
    assert len(reduced) == len(source)
    for before, after in zip(source, reduced, strict=True):
        assert after == before or (chr(after) == " " and before not in b"\r\n")


@given(source=st.binary(max_size=200))
def test_any_bytes_may_come(source: bytes) -> None:
    assert len(without_torn_branches(source)) == len(source)


WHOLE = [
    "#ifdef A\nint f(void) { return 1; }\n#else\nint f(void) { return 2; }\n#endif\n",
    "#ifndef X_H\n#define X_H\nint a;\n#endif /* X_H (the end) */\n",
    "#if A\n#define TWO(x) \\\n  ((x) * \\\n  2)\n#else\n#include <a.h>\n#endif\n",
    "#if A\n  a(); /* an opening { that is prose */\n#endif\n",
    "#if A\n#if B\n  a();\n#endif\n#endif\n",
]


@pytest.mark.parametrize("source", WHOLE)
def test_whole_branches_stay(source: str) -> None:
    assert without_torn_branches(source.encode()) == source.encode()


TORN = {
    "a block that another one closes": (
        "#ifdef A\nif (a) {\n#else\nif (b) {\n#endif\n}",
        "if (a) {",
    ),
    "a block that is closed elsewhere": ("#ifdef A\nif (a) {\n#endif\nf();\n", "if (a) {"),
    "a part of a condition": ("if (\n#ifdef A\n a ||\n#endif\n b)", "a ||"),
    "an else without its if": ("#ifdef A\nelse if (a)\n  f();\n#endif\nelse g();", "else if (a)"),
    "a choice of heads": ("#if 0\nint f(a)\n#else\nint f(void)\n#endif\n{ }", "int f(void)"),
}


@pytest.mark.parametrize(("source", "kept"), TORN.values(), ids=TORN)
def test_of_torn_branches_one_stays(source: str, kept: str) -> None:
    """The first that is meant for anybody, without the directives around it."""
    reduced = without_torn_branches(source.encode()).decode()
    assert kept in reduced
    assert "#" not in reduced


def test_what_follows_a_torn_block_is_in_the_outline() -> None:
    """As in curl's lib/http.c, where half of the file was one error."""
    source = """int first(int a)
{
#ifdef A
  if(a) {
#else
  if(!a) {
#endif
    return 1;
  }
  return 0;
}

int second(void)
{
  if(
#ifndef B
     a ||
#endif
     b)
    return 2;
#ifdef C
  else if(c)
    return 3;
#endif
  return 4;
}

int third(void) { return 0; }
"""
    language = language_of("a.c")
    assert language is not None
    found = outline("a.c", source, language)
    assert [(s.name, s.start_line, s.end_line) for s in found.symbols] == [
        ("first", 0, 10),
        ("second", 12, 25),
        ("third", 27, 27),
    ]
