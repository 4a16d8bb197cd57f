"""Training from the command line: from packages to a table that the embedder opens."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lsp_assist.backends.embedders.static import StaticEmbedder
from lsp_assist.cli import commands
from tests.micro.test_packages import MIT, pack, write

SOURCE = '''\
def remove_folder(path):
    """Deletes a folder and all that is in it."""
    for entry in os.scandir(path):
        os.unlink(entry)


def undocumented(value, other):
    total = value + other
    total += 1
    return total
'''


def test_pairs_are_gathered_from_what_the_outline_finds(tmp_path: Path) -> None:
    downloads, pairs = tmp_path / "downloads", tmp_path / "pairs"
    write(downloads / "p_1.dsc", f"Source: p\n {'0' * 64} 9 p_1.tar.gz\n")
    pack(downloads / "p_1.tar.gz", {"p/io.py": SOURCE, "p/debian/copyright": MIT, "p/a.txt": "-"})
    done = CliRunner().invoke(commands, ["micro", "gather", str(downloads), str(pairs)])
    assert done.exit_code == 0, done.output
    assert "1 of 1 packages, 1 pairs" in done.output
    (line,) = (pairs / "p.jsonl").read_text().splitlines()
    pair = json.loads(line)
    assert (pair["kind"], pair["language"]) == ("doc", "python")
    assert pair["query"] == "Deletes a folder and all that is in it."
    assert pair["code"].startswith("io.py\nremove_folder\ndef remove_folder(path):\n    for entry")


@pytest.mark.slow
def test_a_table_is_trained_that_the_embedder_opens(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs torch")
    lines = [
        {
            "kind": "doc",
            "language": "",
            "query": f"word{n % 9} of {n}",
            "code": f"p\nf\ncode{n % 9}",
        }
        for n in range(2_100)
    ]
    write(tmp_path / "pairs/p.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
    arguments = [str(tmp_path / "pairs"), str(tmp_path / "table"), "--epochs", "1", "--dims", "8"]
    done = CliRunner().invoke(commands, ["micro", "train-embedder", *arguments])
    assert done.exit_code == 0, done.output
    assert "step 1 of 1" in done.output
    assert StaticEmbedder(tmp_path / "table").embed(["word1"]).shape == (1, 8)


def test_too_few_pairs_are_refused_with_a_remedy(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="training needs torch")
    write(
        tmp_path / "p.jsonl", json.dumps(dict.fromkeys(("kind", "language", "query", "code"), "x"))
    )
    arguments = ["micro", "train-embedder", str(tmp_path), str(tmp_path / "table")]
    done = CliRunner().invoke(commands, arguments)
    assert done.exit_code == 2
    assert "1 pairs to learn from and a step takes 2,048" in done.output
    assert not (tmp_path / "table").exists()
