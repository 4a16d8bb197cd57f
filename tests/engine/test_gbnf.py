import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.engine.gbnf import check, quoted
from lsp_assist.errors import BadInput
from tests.engine.matching import fits


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "a"',
        'root ::= ("a" |\n "b")*  # a comment\n',
        'root ::= [^a-z\\]-] . part{2,3}\r\npart ::= "y"? "z"\n\n',
        'root ::= obj\nobj ::= "{" (obj ("," obj)*)? "}"',
        'root ::= "a" |\n  "b" |\n  ""',
        'root ::= "\\x41\\u00e9\\U0001F600\\n\\t\\"\\\\"',
        "root ::= <|im_start|> !<[7]>*",
    ],
)
def test_what_llama_cpp_can_run_passes(grammar: str) -> None:
    check(grammar)


@pytest.mark.parametrize(
    ("grammar", "complaint"),
    [
        ("", "no rule named 'root'"),
        ('start ::= "a"', "no rule named 'root'"),
        ('root ::= "a', "line 1, column 12: it ends too early"),
        ('root ::= "a"\nx = "b"', "line 2, column 3: expected '::='"),
        ('root ::= "a"{3,2}', "fewer repetitions at most than at least"),
        ('root ::= "a"{2000}', "more than 1999 repetitions"),
        ('root ::= "a"{1,99999}', "more than 1999 repetitions"),
        ("root ::= *", "nothing stands before '\\*'"),
        ('root ::= ""*', "an empty text stands before"),
        ('root ::= "\\q"', r"unknown escape \\q"),
        ('root ::= "\\x4"', "2 hexadecimal digits"),
        ("root ::= [z-a]", "a range ends before it begins"),
        ("root ::= []", "a class without characters"),
        ("root ::= <nothing", "expected a token"),
        ("root ::= " + "(" * 1000, "brackets within each other"),
        ("root ::= other", "'other' in rule 'root' and does not define it"),
        ('root ::= "a"\nroot ::= "b"', "defined twice"),
        ('root ::= "a"\0', "NUL"),
        ('root ::= root "a" | "b"', "begins with itself, 'root'"),
        ('root ::= x root "b" | "c"\nx ::= y\ny ::= ""', "begins with itself"),
        ('root ::= ("a"?)*', "what may be empty, without end"),
        ('root ::= "' + "a" * 500_001 + '"', "500,012 characters"),
    ],
)
def test_what_would_harm_llama_cpp_is_refused_with_its_place(grammar: str, complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint) as refused:
        check(grammar)
    assert refused.value.field == "grammar"


@given(st.text(), st.text())
def test_a_quoted_text_means_itself(text: str, other: str) -> None:
    grammar = f"root ::= {quoted(text.replace(chr(0), ''))}"
    check(grammar)
    assert fits(text.replace("\0", ""), grammar)
    assert fits(other, grammar) == (other == text.replace("\0", ""))


# Regular expressions are an oracle for grammars without recursion.
pieces = st.recursive(
    st.sampled_from([("a", '"a"'), ("b", '"b"'), ("[ab]", "[ab]"), ("[^a]", "[^a]")]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(
            lambda two: (f"(?:{two[0][0]}{two[1][0]})", f"({two[0][1]} {two[1][1]})")
        ),
        st.tuples(inner, inner).map(
            lambda two: (f"(?:{two[0][0]}|{two[1][0]})", f"({two[0][1]} | {two[1][1]})")
        ),
        st.tuples(inner, st.sampled_from(["{2}", "{1,2}", "{2,}", "+"])).map(
            lambda it: (f"(?:{it[0][0]}){it[1]}", f"({it[0][1]}){it[1]}")
        ),
    ),
    max_leaves=5,
)


@given(pieces, st.text("abc", max_size=8))
def test_a_grammar_means_what_its_regular_expression_means(
    piece: tuple[str, str], text: str
) -> None:
    pattern, expression = piece
    assert fits(text, f"root ::= {expression}") == bool(re.fullmatch(pattern, text, re.DOTALL))
