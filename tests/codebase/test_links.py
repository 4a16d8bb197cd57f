"""The links between files after any changes are those of the code as it is."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from lsp_assist.codebase.graph import Graph
from lsp_assist.codebase.index import Index
from lsp_assist.codebase.links import Links
from lsp_assist.config import IndexSettings

PATHS = ["a.py", "b.py", "pkg/__init__.py", "pkg/c.py", "go.mod", "shop/x.go", "shop/y.go"]
TEXTS = {
    ".py": [
        "def alpha():\n    return 1\n",
        "from a import alpha\n\ndef beta():\n    return alpha()\n",
        "import pkg.c\nfrom .c import gamma\nfrom b import *\n\nalpha(), beta(), gamma()\n",
        "def gamma():\n    return beta()\n\ndef alpha():\n    pass\n",
        "",
    ],
    ".go": [
        "package shop\n\nfunc Alpha() { Beta() }\n",
        'package shop\n\nimport "example.com/m/shop"\n\nfunc Beta() { shop.Alpha() }\n',
    ],
    ".mod": ["module example.com/m\n", "module example.com/other\n"],
}


def texts_of(path: str) -> list[str]:
    return TEXTS["." + path.rpartition(".")[2]]


change = st.sampled_from(PATHS).flatmap(
    lambda path: st.tuples(
        st.just(path),
        st.sampled_from(["write", "delete", "overlay", "close"]),
        st.sampled_from(texts_of(path)),
    )
)


@contextmanager
def workspace() -> Iterator[tuple[Path, Index]]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        root.mkdir()
        index = Index(root, Path(folder, "cache", "index.sqlite3"), IndexSettings())
        try:
            yield root, index
        finally:
            index.close()


def apply(root: Path, index: Index, path: str, what: str, text: str) -> None:
    file = root / path
    match what:
        case "write":
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
            index.refresh_file(path)
        case "delete":
            file.unlink(missing_ok=True)
            index.refresh_file(path)
        case "overlay":
            index.overlay(path, text)
        case "close":
            index.overlay(path, None)


@settings(max_examples=40, deadline=None)
@given(st.lists(change, min_size=1, max_size=12))
def test_links_that_follow_the_code_equal_links_made_anew(
    changes: list[tuple[str, str, str]],
) -> None:
    with workspace() as (root, index):
        for path, what, text in changes:
            apply(root, index, path, what, text)
            followed = index._linked()
            anew = Links()
            anew.update(Graph().at(index._view()))
            assert followed.links() == anew.links()
            assert [followed.importers(p) for p in PATHS] == [anew.importers(p) for p in PATHS]
            assert followed.ranks({"a.py": 1.0}) == anew.ranks({"a.py": 1.0})


def test_a_file_leads_to_what_it_imports_and_to_whom_it_names() -> None:
    with workspace() as (root, index):
        apply(root, index, "a.py", "write", "def alpha():\n    pass\n")
        apply(root, index, "b.py", "write", "from a import alpha\n\nalpha()\n")
        apply(root, index, "pkg/c.py", "write", "thing.alpha()\n")
        links = index._linked().links()
        assert links["b.py"] == {"a.py": 1.0}
        assert links["pkg/c.py"] == {"a.py": 1.0}
        assert links["a.py"] == {}
        ranks = index.file_ranks({})
        assert ranks["a.py"] == max(ranks.values())
