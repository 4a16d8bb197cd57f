"""Edits on a real workspace: where they may be made, and all or none."""

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from lsp_assist import edits
from lsp_assist.config import IndexSettings, resolve
from lsp_assist.edits import Proposal
from lsp_assist.errors import EditRefused
from lsp_assist.workspace import Workspace


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "a.py").write_text("one\ntwo\n")
    (folder / "b.py").write_text("bee\n")
    return folder


def texts(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def block(path: str, search: str = "two", replace: str = "2") -> str:
    search = f"{search}\n" if search else ""
    return f"{path}\n<<<<<<< SEARCH\n{search}=======\n{replace}\n>>>>>>> REPLACE\n\n"


async def proposed(root: Path, reply: str, **more: object) -> Proposal:
    workspace = Workspace(resolve(), [root])
    try:
        return await edits.propose(workspace, reply, takes_whole_files=True, **more)  # type: ignore[arg-type]  # as the tests name them
    finally:
        await workspace.close()


async def test_an_edit_is_proposed_and_written(root: Path) -> None:
    (root / "src" / "a.py").chmod(0o755)
    proposal = await proposed(root, block("src/a.py") + block("new/c.py", "", "sea"))
    assert [file.path for file in proposal.files] == ["src/a.py", "new/c.py"]
    assert (root / "src" / "a.py").read_text() == "one\ntwo\n"
    edits.write(proposal)
    assert (root / "src" / "a.py").read_text() == "one\n2\n"
    assert stat.S_IMODE((root / "src" / "a.py").stat().st_mode) == 0o755
    assert (root / "new" / "c.py").read_text() == "sea\n"
    assert not any(".lsp-assist-" in str(path) for path in texts(root))


async def test_a_file_may_be_named_by_the_end_of_its_path(root: Path) -> None:
    proposal = await proposed(root, block("a.py"), known_paths=["src/a.py", "b.py"])
    assert [file.path for file in proposal.files] == ["src/a.py"]
    proposal = await proposed(root, block(str(root / "src" / "a.py")))
    assert [file.path for file in proposal.files] == ["src/a.py"]


async def test_unsaved_text_is_what_is_changed(root: Path) -> None:
    workspace = Workspace(resolve(), [root])
    path = root / "src" / "a.py"
    workspace.documents.open(path.as_uri(), path, "python", 7, "one\n  two\nthree\n")
    (file,) = (await edits.propose(workspace, block("src/a.py"), takes_whole_files=False)).files
    assert (file.version, file.after) == (7, "one\n  2\nthree\n")
    await workspace.close()


@pytest.mark.parametrize(
    "path",
    [
        *("../outside.py", "src/../../outside.py", "/etc/passwd", "src//a.py", "./../x.py"),
        *(".git/hooks/pre-commit", ".vscode/tasks.json", ".vim/x.vim", ".idea/x.xml"),
        *(".github/workflows/ci.yml", ".gitlab-ci.yml", ".lsp-assist.toml", ".envrc", ".exrc"),
        *("src/.GIT/config", "Jenkinsfile", "azure-pipelines.yml", "x.code-workspace"),
        *("link/new.py", "linked.py", "ignored.py", "build/x.py", "a/id_rsa", "server.pem"),
        *("src/folder", "binary.py", "latin.py", "missing.py", "node_modules/x.js"),
    ],
)
async def test_where_no_edit_is_made(root: Path, tmp_path: Path, path: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "new.py").write_text("two\n")
    (tmp_path / "outside.py").write_text("two\n")
    (root / "link").symlink_to(outside)
    (root / "linked.py").symlink_to(root / "src" / "a.py")
    (root / ".gitignore").write_text("ignored.py\nbuild/\n")
    (root / "ignored.py").write_text("two\n")
    (root / "binary.py").write_bytes(b"two\n\x00")
    (root / "latin.py").write_bytes(b"two\ncaf\xe9\n")
    (root / "src" / "folder").mkdir()
    before = texts(tmp_path)
    proposal = await proposed(root, block(path))
    assert proposal.files == ()
    assert proposal.id == ""
    assert [refused.path for refused in proposal.refused] == [path]
    assert before == texts(tmp_path)


async def test_settings_that_exclude_a_file_protect_it(root: Path) -> None:
    settings = replace(resolve(), index=IndexSettings(exclude=("src/",)))
    workspace = Workspace(settings, [root])
    proposal = await edits.propose(workspace, block("src/a.py"), takes_whole_files=False)
    assert "ignored" in proposal.refused[0].reason
    await workspace.close()


async def test_a_file_that_changed_since_costs_all(root: Path) -> None:
    proposal = await proposed(root, block("b.py", "bee", "B") + block("src/a.py"))
    (root / "src" / "a.py").write_text("one\ntwo\nthree\n")
    with pytest.raises(EditRefused, match="has changed since"):
        edits.write(proposal)
    assert (root / "b.py").read_text() == "bee\n"
    assert not any(".lsp-assist-" in str(path) for path in texts(root))
    again = await proposed(root, block("b.py", "bee", "B") + block("src/a.py"))
    assert again.id != proposal.id


async def test_what_was_written_is_put_back_when_a_file_cannot_be(root: Path) -> None:
    proposal = await proposed(
        root, block("b.py", "bee", "B") + block("new.py", "", "new") + block("src/a.py")
    )
    # A link that appears after the proposal is one of the ways in which a write may fail.
    (root / "src").rename(root / "real")
    (root / "src").symlink_to(root / "real")
    with pytest.raises(EditRefused, match="symbolic link"):
        edits.write(proposal)
    assert (root / "b.py").read_text() == "bee\n"
    assert not (root / "new.py").exists()
    assert (root / "real" / "a.py").read_text() == "one\ntwo\n"


async def test_a_full_disk_undoes_what_was_done(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "src" / "a.py").unlink()
    proposal = await proposed(root, block("b.py", "bee", "B") + block("src/a.py", "", "new"))
    assert len(proposal.files) == 2
    original = Path.replace

    def failing(self: Path, target: Path) -> Path:
        if target.name == "a.py":
            raise OSError(28, "No space left on device")
        return original(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(EditRefused, match="No space"):
        edits.write(proposal)
    monkeypatch.undo()
    assert (root / "b.py").read_text() == "bee\n"
    assert not (root / "src" / "a.py").exists()


async def test_a_mark_of_byte_order_is_kept(root: Path) -> None:
    (root / "b.py").write_bytes(b"\xef\xbb\xbfbee\n")
    edits.write(await proposed(root, block("b.py", "bee", "B")))
    assert (root / "b.py").read_bytes() == b"\xef\xbb\xbfB\n"
