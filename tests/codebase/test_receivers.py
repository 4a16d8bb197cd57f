import pytest

from lsp_assist.codebase.languages import all_languages
from lsp_assist.codebase.outline import outline
from lsp_assist.codebase.receivers import made_type, receiver_before, written_type
from lsp_assist.codebase.symbols import Reference


def receiver(text: str, members: tuple[str, ...] = (".", "->", "::", "?.")) -> str:
    """Of the name where the text has a `|`."""
    before, _, after = text.partition("|")
    return receiver_before((before + after).encode(), len(before.encode()), members)


def references(text: str, language: str) -> dict[str, Reference]:
    found = outline("x", text, all_languages()[language])
    return {reference.name: reference for reference in found.references}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("|get(x)", ""),
        ("kwargs.|get(x)", "kwargs"),
        ("self.session.|get(x)", "self.session"),
        ("a->b->|c()", "a.b"),
        ("Foo::new(x, (y)).|run()", "Foo.new()"),
        ("Vec::<u8>::|new()", "Vec"),
        ("rows[i + 1].|name", "rows[]"),
        ("f(x)[0].|name", "f()[]"),
        ("load()?.|run()", "load()"),
        ("größe.|get()", "größe"),
        ("items\n    .map(f)\n    .|filter(g)", "items.map()"),
        ("client.\n\t|Do(x)", "client"),
        ("// Ends here.\n|f()", ""),
        ("' '.|join(x)", "?"),
        ("(a or b).|get()", "?"),
        ("f . |g", ""),
        ("[...|rest]", ""),
        ("0..|n", ""),
        ("x = |f()", ""),
        ("a.b.c.d.e.f.g.h.i.j.|k", "?.c.d.e.f.g.h.i.j"),
        ("f(" + "(" * 3000 + ").|g", "?"),
    ],
)
def test_a_receiver_is_what_stands_before_the_name(text: str, expected: str) -> None:
    assert receiver(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Session", "Session()"),
        ("Session | None", "Session()"),
        ("None | Session", "Session()"),
        ('Optional["models.Session"]', "models.Session()"),
        ("const std::vector<Engine> &", "std.vector()"),
        ("&mut Box<dyn Store>", "Store()"),
        ("*http.Request", "http.Request()"),
        ("struct list", "list()"),
        ("auto", ""),
        ("[]", ""),
    ],
)
def test_a_written_type_is_an_instance_of_the_first_name_that_is_something(
    text: str, expected: str
) -> None:
    assert written_type(text) == expected


@pytest.mark.parametrize(
    ("callee", "expected"),
    [("models.Session", "models.Session()"), ("Foo::new", "Foo.new()"), ("f(x)", ""), ("x[0]", "")],
)
def test_calling_a_path_makes_something(callee: str, expected: str) -> None:
    assert made_type(callee) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("python", "def f(s: Session):\n    s.get()\n", "Session()"),
        ("python", "def f():\n    s = Session()\n    s.get()\n", "Session()"),
        (
            "python",
            "def f():\n    s = Session()\n    r = s.send()\n    r.get()\n",
            "Session().send()",
        ),
        ("python", "def f():\n    with open(x) as s:\n        s.get()\n", "open()"),
        ("python", "def f(**kwargs):\n    kwargs.get()\n", "?"),
        ("python", "def f(s):\n    def g():\n        s.get()\n", "?"),
        ("python", "s = Session()\ndef f():\n    s.get()\n", ""),
        (
            "python",
            "class A:\n def __init__(self): self.s = Session()\n def f(self): self.s.get()\n",
            "Session()",
        ),
        (
            "python",
            "class A:\n def __init__(self, s: Session): self.s = s\n def f(self): self.s.get()\n",
            "Session()",
        ),
        ("typescript", "class A { #s: Session; f() { this.#s.get(); } }", "Session()"),
        ("go", "func f(s *Session) { s.get() }", "Session()"),
        ("go", "func f() { s := &Session{}; s.get() }", "Session()"),
        ("go", "func f() { s, err := NewSession(); s.get() }", "NewSession()"),
        ("go", "func (s *Session) f() { s.get() }", "Session()"),
        ("rust", "fn f(s: &mut Session) { s.get(); }", "Session()"),
        ("rust", "fn f() { let s = Session::new(); s.get(); }", "Session.new()"),
        ("java", "class A { Session s; void f() { s.get(); } }", "Session()"),
        ("java", "class A { void f() { var s = new Session(); s.get(); } }", "Session()"),
        ("c", "void f(struct session *s) { s->get(); }", "session()"),
        ("cpp", "void f(const Session &s) { s.get(); }", "Session()"),
        ("cpp", "class A { Session *s; void f() { s->get(); } };", "Session()"),
        ("javascript", "function f() { const s = new Session(); s.get(); }", "Session()"),
        ("typescript", "function f(s: Session | null) { s.get(); }", "Session()"),
        (
            "typescript",
            "class A { constructor(private s: Session) {}\n f() { this.s.get(); } }",
            "Session()",
        ),
    ],
)
def test_a_file_says_what_its_variables_are(language: str, text: str, expected: str) -> None:
    assert references(text, language)["get"].receiver_type == expected


def test_what_is_local_is_no_reference() -> None:
    found = references(
        "def f(callback):\n    x = g()\n    callback(x)\n    return h(x)\n", "python"
    )
    assert set(found) == {"g", "h"}


def test_a_function_within_a_function_is_a_reference() -> None:
    found = references("def f():\n    def inner(): pass\n    inner()\n", "python")
    assert set(found) == {"inner"}


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("python", "import numpy as np", [("numpy", "np", (), ())]),
        ("python", "from a import b as c, d", [("a", "", ("b", "d"), ("c", "d"))]),
        ("go", 'import log "x/y"', [("x/y", "log", (), ())]),
        ("javascript", "import R, {a as b} from 'r'", [("r", "", ("default", "a"), ("R", "b"))]),
        ("javascript", "import * as fs from 'fs'", [("fs", "fs", (), ())]),
        ("javascript", "const {a, b: c} = require('r')", [("r", "", ("a", "b"), ("a", "c"))]),
        ("javascript", "const r = require('r')", [("r", "r", (), ())]),
        ("typescript", "export * from './r'", [("./r", "", ("*",), ("*",))]),
        ("rust", "use a::b as c;", [("a::b", "c", (), ())]),
        ("rust", "use a::{b as c, d};", [("a", "", ("b", "d"), ("c", "d"))]),
        ("java", "import a.b.*;", [("a.b", "", ("*",), ("*",))]),
    ],
)
def test_an_import_says_what_things_are_called_here(
    language: str, text: str, expected: list[tuple[str, str, tuple[str, ...], tuple[str, ...]]]
) -> None:
    found = outline("x", text, all_languages()[language]).imports
    assert sorted((i.module, i.alias, *pairs(i.names, i.aliases)) for i in found) == sorted(
        (module, alias, *pairs(names, aliases)) for module, alias, names, aliases in expected
    )


def pairs(names: tuple[str, ...], aliases: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """In any order: which pattern of a query comes first is nobody's concern."""
    return tuple(sorted(zip(names, aliases, strict=True)))
