"""Comments taken apart from the code that they are about."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.codebase.documented import documented

PYTHON = '''\
class Reader:
    """Reads files.

    More of it.
    """

    def read(
        self,
    ) -> str:  # of the file
        """Return the text of the file.

        Raises: OSError
        """
        # Try the cache before the disk is asked
        text = self.cache.get(self.path)
        if text:
            return text

        return self.path.read_text()

    def bare(self):
        return "no docstring here"
'''

GO = """\
package store

// Get returns the value of a key.
// It is empty if there is none.
func (s *Store) Get(key string) string {
\t// hold the lock as short as possible
\ts.mu.Lock()
\tdefer s.mu.Unlock()

\treturn s.values[key]
}
"""

JAVA = """\
class Box {
    /**
     * Adds an item.
     *
     * @param item what is added
     */
    void add(Item item) {
        items.add(item);
    }
}
"""


def said(path: str, text: str) -> list[tuple[str, str, bool]]:
    return [(item.name, item.doc, item.is_symbol) for item in documented(path, text)]


def test_a_docstring_and_a_remark_are_told_from_the_code() -> None:
    found = documented("a.py", PYTHON)
    assert said("a.py", PYTHON) == [
        ("Reader", "Reads files.", True),
        ("Reader.read", "Return the text of the file.", True),
        ("Reader.read", "Try the cache before the disk is asked", False),
        ("Reader.bare", "", True),
    ]
    assert "Return the text" not in found[1].code
    assert "Raises" not in found[1].code
    assert found[1].code.startswith("    def read(\n        self,\n    ) -> str:")
    assert found[2].code.strip().startswith("text = self.cache")
    assert found[2].code.strip().endswith("return text")
    assert found[3].code.endswith('return "no docstring here"')


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (
            "a.go",
            GO,
            [
                (
                    "Store.Get",
                    "Get returns the value of a key. It is empty if there is none.",
                    True,
                ),
                ("Store.Get", "hold the lock as short as possible", False),
            ],
        ),
        ("Box.java", JAVA, [("Box", "", True), ("Box.add", "Adds an item.", True)]),
        ("a.txt", "no code", []),
        ("a.unknown", "x", []),
        ("a.py", "def f(): 'one line'\n", [("f", "", True)]),
    ],
)
def test_comments_above_a_symbol_are_its_documentation(
    path: str, text: str, expected: list[tuple[str, str, bool]]
) -> None:
    assert said(path, text) == expected


@given(st.text(alphabet="def f():\n\"'# abc\t", max_size=200), st.sampled_from(["a.py", "a.go"]))
def test_no_text_is_too_odd(text: str, path: str) -> None:
    for item in documented(path, text):
        assert item.name
        assert item.start_line >= 0
