"""The embedder of the package: its table, its speed of opening, what it finds alike."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lsp_assist.backends.embedders.static import TABLE, StaticEmbedder, write_table
from lsp_assist.errors import ModelFileError
from lsp_assist.micro.packages import is_evaluated_on

WORDS = ["read", "file", "open", "banana"]
VECTORS = np.array([[127, 0, 0], [0, 127, 0], [100, 20, 0], [0, 0, 127]], np.int8)
SCALES = np.array([1, 1, 1, 0.5], np.float32)


@pytest.fixture
def tiny(tmp_path: Path) -> StaticEmbedder:
    write_table(tmp_path, WORDS, VECTORS, SCALES)
    return StaticEmbedder(tmp_path)


def test_a_text_is_the_unit_sum_of_its_words_by_the_square_roots_of_their_counts(
    tiny: StaticEmbedder,
) -> None:
    vector = tiny.embed(["readFile, file file file"])[0]
    expected = np.array([1.0, 2.0, 0.0]) / np.sqrt(5)
    assert np.allclose(vector, expected)
    assert vector.dtype == np.float32


def test_a_text_without_a_known_word_is_zero_and_like_nothing(tiny: StaticEmbedder) -> None:
    assert not tiny.embed(["???", ""]).any()
    assert tiny.embed([]).shape == (0, 3)


def test_a_question_is_read_as_a_place_is(tiny: StaticEmbedder) -> None:
    assert np.array_equal(tiny.embed_query("open file"), tiny.embed(["open file"])[0])


def test_another_table_has_another_name(tmp_path: Path, tiny: StaticEmbedder) -> None:
    write_table(tmp_path / "other", WORDS, VECTORS, SCALES * 2)
    assert StaticEmbedder(tmp_path / "other").name != tiny.name


@pytest.mark.parametrize("file", ["vectors.npy", "scales.npy", "words.txt"])
def test_a_table_that_is_damaged_says_so(tmp_path: Path, file: str) -> None:
    write_table(tmp_path, WORDS, VECTORS, SCALES)
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-7])
    with pytest.raises(ModelFileError, match="install lsp-assist anew"):
        StaticEmbedder(tmp_path)
    (tmp_path / file).unlink()
    with pytest.raises(ModelFileError, match="install lsp-assist anew"):
        StaticEmbedder(tmp_path)


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    write_table(tmp_path, WORDS, VECTORS, SCALES)
    np.save(tmp_path / "scales.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ModelFileError):
        StaticEmbedder(tmp_path)


# ---- the table of the package


@pytest.fixture(scope="module")
def shipped() -> StaticEmbedder:
    return StaticEmbedder(TABLE)


def test_the_package_brings_a_table_of_at_most_12_mb_with_its_card() -> None:
    files = [file for file in TABLE.iterdir() if file.is_file()]
    assert sum(file.stat().st_size for file in files) <= 12_000_000
    card = (TABLE / "MODEL_CARD.md").read_text("utf-8")
    for heading in ("## Data", "## Training", "## Figures", "## Limits"):
        assert heading in card


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        (
            "remove a directory and everything in it",
            "def rmtree(path):\n    for entry in os.scandir(path):\n        os.unlink(entry)",
            "def parse_date(text):\n    return datetime.strptime(text, FORMAT)",
        ),
        (
            "wait until the lock is free",
            "func (m *Mutex) Acquire() {\n\tfor !m.tryAcquire() {\n\t\truntime.Gosched()\n\t}\n}",
            "func (c *Color) Red() uint8 {\n\treturn uint8(c.value >> 16)\n}",
        ),
        (
            "how is a string converted to an integer",
            "fn parse_i32(s: &str) -> Result<i32, ParseIntError> {\n    s.trim().parse()\n}",
            "fn draw(&mut self, canvas: &Canvas) {\n    canvas.line(self.a, self.b);\n}",
        ),
    ],
)
def test_it_finds_code_by_what_it_does(
    shipped: StaticEmbedder, question: str, right: str, wrong: str
) -> None:
    """The examples share hardly a word with their questions."""
    vectors = shipped.embed([right, wrong])
    scores = vectors @ shipped.embed_query(question)
    assert scores[0] > scores[1] + 0.1
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_it_opens_without_torch_and_embeds_in_any_process() -> None:
    """The same text has the same vector in another process, which loads nothing but numpy."""
    text = "def add(a, b):\n    return a + b"
    script = (
        "import sys\n"
        "from lsp_assist.backends.embedders.static import TABLE, StaticEmbedder\n"
        f"v = StaticEmbedder(TABLE).embed([{text!r}])[0]\n"
        "assert not {'torch', 'transformers', 'tokenizers', 'httpx2'} & set(sys.modules)\n"
        "print(v.tobytes().hex())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    vector = np.frombuffer(bytes.fromhex(done.stdout.strip()), np.float32)
    assert np.allclose(vector, StaticEmbedder(TABLE).embed([text])[0], atol=1e-6)


def test_the_table_of_the_package_learnt_nothing_from_what_search_is_measured_on() -> None:
    """The list of what it learnt from stands beside it, licences and all."""
    rows = (TABLE / "provenance.tsv").read_text("utf-8").splitlines()
    assert len(rows) > 1_000
    for row in rows:
        name, version, licences, n_pairs = row.split("\t")
        assert not is_evaluated_on(name)
        assert version
        assert licences
        assert int(n_pairs) > 0
