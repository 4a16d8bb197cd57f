"""The commands as a shell runs them: output, exit codes, bad input, Ctrl-C, nothing but text."""

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest

import lsp_assist
from tests.engine.tiny import make_model

CODE = '''"""Sends requests."""


def retry(request):
    """Send a request again after a failure."""
    return send(request)


def send(request):
    """Send a request once."""
    return request
'''


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "work space"
    folder.mkdir()
    (folder / "client.py").write_text(CODE)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny.gguf", context_length=8192)


def run(*arguments: object, stdin: str = "", code: int = 0, **environ: str) -> str:
    """The output of a command that ends with this code; never a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "lsp_assist", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stdout + done.stderr


def test_the_version_is_the_package_s() -> None:
    assert run("--version") == f"lsp-assist {lsp_assist.__version__}\n"
    assert "serve" in run("--help")


def test_an_answer_names_places_that_a_terminal_can_follow(root: Path) -> None:
    text = run("ask", "--dir", root, "Where is a request sent again?")
    assert text.startswith("The place to look first is `retry` at client.py:4.\n")
    assert "Send a request again after a failure." in text
    assert "Calls: `send` client.py:9" in text
    assert "No model is configured" in text
    assert f"Sources:\n  {root}/client.py:4  retry\n" in text
    assert "\x1b" not in text


def test_sources_are_relative_to_where_the_user_stands(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("PYTHONPATH", str(Path(lsp_assist.__file__).parents[1]))
    assert "  client.py:4  retry\n" in run("ask", "retry")


def test_the_context_of_a_question_is_shown_and_nothing_is_asked(root: Path, model: Path) -> None:
    shown = run("context", "--dir", root, "--model", model, "Where is a request sent again?")
    assert "pack whole" in shown
    assert "client.py:1  (it belongs to the project)" in shown
    assert "tokens in all of 7,168 that a prompt may have" in shown
    assert "tokens are warm" in shown
    said = json.loads(run("context", "--json", "--dir", root, "Where is a request sent again?"))
    assert said["model"] == "extractive"
    assert next(p["path"] for p in said["pieces"] if p["kind"] == "hit") == "client.py"


def test_a_project_that_is_wanted_whole_and_does_not_fit_is_refused(
    root: Path, model: Path
) -> None:
    (root / "large.py").write_text("".join(f"value_{n} = {n}\n" for n in range(4000)))
    said = run("context", "-p", "--dir", root, "--model", model, "Why?", code=2)
    assert "name files instead of the project" in said


def test_a_script_gets_one_json_object(root: Path) -> None:
    answer = json.loads(run("ask", "--json", "-d", root, "Where is a request sent again?"))
    assert set(answer) == {"answer", "sources", "usage"}
    assert answer["sources"][0] == {
        "path": "client.py",
        "startLine": 4,
        "endLine": 6,
        "symbol": "retry",
    }
    assert answer["usage"]["model"] == "extractive"


def test_a_search_ranks_symbols(root: Path) -> None:
    found = json.loads(run("search", "--json", "-d", root, "retry"))
    assert set(found[0]) == {"path", "startLine", "endLine", "symbol", "kind", "score"}
    assert (found[0]["symbol"], found[0]["kind"]) == ("retry", "function")
    assert f"{root}/client.py:4  retry  function" in run("search", "-d", root, "retry")
    assert (
        json.loads(run("search", "--json", "-d", root, "xyzzy", code=1).split("\n\n")[0] or "[]")
        == []
    )


def test_indexing_tells_what_it_did_and_does_it_once(root: Path) -> None:
    assert "1 files, 12 lines, 2 symbols" in run("index", root)
    assert json.loads(run("index", root, "--json"))["refreshed"]["nChanged"] == 0
    assert "1 files" in run("index", root, "--status")


def test_a_search_may_be_about_a_folder_or_a_language(root: Path) -> None:
    (root / "shop").mkdir()
    (root / "shop" / "again.py").write_text("def retry_order():\n    pass\n")
    (root / "again.js").write_text("function retryInBrowser() {\n  return 1;\n}\n")

    def paths(*options: str) -> set[str]:
        return {hit["path"] for hit in json.loads(run("search", "--json", "-d", root, *options))}

    assert paths("retry") == {"client.py", "shop/again.py", "again.js"}
    assert paths("--path", "shop", "retry") == {"shop/again.py"}
    assert paths("--path", "client.py", "retry") == {"client.py"}
    assert paths("--language", "javascript", "retry") == {"again.js"}
    assert "Nothing found" in run("search", "-d", root, "-l", "go", "retry", code=1)


def test_vectors_are_made_only_when_it_is_not_paused(root: Path) -> None:
    def status() -> dict[str, object]:
        said: dict[str, object] = json.loads(run("index", root, "--status", "--json"))
        return said

    assert ", paused" in run("index", root, "--pause")
    assert "0 chunks embedded" in run("index", root)
    assert status()["embedding"] == "paused"
    run("index", root, "--resume")
    assert ", ready" in run("index", root)
    assert status()["nVectors"] == status()["nChunks"]


def test_a_rebuilt_index_is_as_it_was(root: Path) -> None:
    before = json.loads(run("index", root, "--json"))
    after = json.loads(run("index", root, "--rebuild", "--json"))
    assert after["refreshed"]["nChanged"] == 1
    for key in ("nFiles", "nLines", "nSymbols", "nChunks", "nVectors", "embedding"):
        assert after[key] == before[key]


def test_a_model_file_answers_in_its_own_words(root: Path, model: Path) -> None:
    command = (
        "ask",
        "--json",
        "-d",
        root,
        "--model",
        model,
        "--max-tokens",
        "8",
        "--temperature",
        "0",
    )
    first = json.loads(run(*command, "retry"))
    assert first["usage"]["model"] == "tiny"
    assert first["usage"]["promptTokens"] > 100
    assert 0 < first["usage"]["outputTokens"] <= 8
    assert first["answer"] == json.loads(run(*command, "retry"))["answer"]
    assert first["sources"][0]["symbol"] == "retry"


def test_a_question_may_come_from_standard_input(root: Path) -> None:
    assert "`retry` at client.py:4" in run("ask", "-d", root, "-", stdin="retry\n")


def test_doctor_says_what_is_there(root: Path, model: Path, tmp_path: Path) -> None:
    text = run("doctor", "-d", root)
    assert "answered from the index" in text
    findings = json.loads(run("doctor", "--json", "-d", root, LSP_ASSIST_MODEL_PATH=str(model)))
    assert any(f["topic"] == "model" and "parameters" in f["text"] for f in findings)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF")
    assert "problem" in run("doctor", "-d", root, code=1, LSP_ASSIST_MODEL_PATH=str(broken))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ask", "--dir", "/nowhere", "x"), "name the folder that holds your code"),
        (("ask", "--dir", "{file}", "x"), "is not a folder"),
        (("ask", "--dir", "{root}", ""), "The question is empty"),
        (("ask", "--dir", "{root}", "--mode", "shout", "x"), "There is no mode 'shout'"),
        (("ask", "--dir", "{root}", "--max-tokens", "0", "x"), "must be between 1"),
        (("ask", "--dir", "{root}", "--model", "/nowhere.gguf", "x"), "name a GGUF file"),
        (("ask", "--dir", "{root}", "--model", "{file}", "x"), "client.py"),
        (("ask", "--dir", "{root}", "--model", "{root}", "x"), "work space"),
        (("search", "--dir", "/nowhere", "x"), "name the folder"),
        (("search", "--limit", "0", "x"), "--limit"),
        (("index", "/nowhere"), "name the folder"),
        (("ask",), "Missing argument"),
        (("nope",), "No such command"),
        (("serve", "--tcp", "0.0.0.0:1"), "use 127.0.0.1"),
        (("serve", "--tcp", "many"), "use `host:port`"),
    ],
)
def test_bad_input_ends_with_2_and_a_remedy(
    root: Path, arguments: tuple[str, ...], message: str
) -> None:
    given = [a.format(root=root, file=root / "client.py") for a in arguments]
    assert message in run(*given, code=2)


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"LSP_ASSIST_MODEL_N_CTX": "x"}, "must be a whole number"),
        ({"LSP_ASSIST_LOG_LEVEL": "loud"}, "must be one of"),
    ],
)
def test_a_wrong_setting_ends_with_2(root: Path, environ: dict[str, str], message: str) -> None:
    assert message in run("ask", "-d", root, "x", code=2, **environ)


def test_a_cache_that_cannot_be_written_is_named(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    text = run("ask", "-d", root, "x", code=1, LSP_ASSIST_HOME=str(tmp_path / "file"))
    assert "everything in it may be deleted" in text


def test_a_workspace_s_settings_are_named_where_they_are_not_taken(root: Path) -> None:
    (root / ".lsp-assist.toml").write_text("[model]\npath = 'evil.gguf'\n")
    done = subprocess.run(
        [sys.executable, "-m", "lsp_assist", "ask", "-d", root, "retry"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "may not set" in done.stderr
    assert "`retry`" in done.stdout


def test_code_cannot_speak_to_the_terminal(root: Path) -> None:
    (root / "evil.py").write_text('def evil():\n    """\x1b]0;owned\x07 \u202e evil."""\n')
    text = run("ask", "-d", root, "evil")
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_a_reader_that_leaves_early_is_no_error(root: Path) -> None:
    command = f"{sys.executable} -m lsp_assist ask -d '{root}' retry | head -c 5"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)  # noqa: S602
    assert done.stdout == "The p"
    assert "Traceback" not in done.stderr


def test_ctrl_c_ends_a_reply_within_a_moment_and_keeps_what_was_said(
    root: Path, model: Path
) -> None:
    environ = {**os.environ, "LSP_ASSIST_MODEL_MAX_TOKENS": "7000"}
    with subprocess.Popen(
        [sys.executable, "-m", "lsp_assist", "ask", "-d", root, "--model", model, "retry"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.strip() == "Cancelled."


@pytest.mark.slow
def test_a_file_that_its_grammar_cannot_take_is_named(root: Path) -> None:
    """It takes tree-sitter 20 seconds and does not stop when asked; the rest is indexed."""
    (root / "hangs.kt").write_text("@a\n" * 33_000)
    assert "2 files" in run("index", root)
    status = json.loads(run("index", root, "--status", "--json"))
    assert [problem.partition(":")[0] for problem in status["problems"]] == ["hangs.kt"]
    assert status["nSymbols"] == 2


def test_ctrl_c_while_indexing_keeps_what_is_done(tmp_path: Path) -> None:
    root = tmp_path / "large"
    root.mkdir()
    for n in range(1500):
        (root / f"m{n}.py").write_text(CODE * 5)
    with subprocess.Popen(
        [sys.executable, "-m", "lsp_assist", "index", root],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        deadline = time.monotonic() + 60
        while n_indexed(root) == 0:
            assert time.monotonic() < deadline
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.strip() == "Cancelled."
    kept = n_indexed(root)
    assert 0 < kept < 1500
    assert json.loads(run("index", root, "--json"))["refreshed"]["nChanged"] == 1500 - kept


def n_indexed(root: Path) -> int:
    status: int = json.loads(run("index", root, "--status", "--json"))["nFiles"]
    return status


def test_a_terminal_sees_links_and_steps(root: Path) -> None:
    """In a real pseudo-terminal: hyperlinks on the sources, what is being done in between."""
    leader, follower = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "lsp_assist", "ask", "-d", root, "retry"],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        os.close(follower)
        output = b""
        while select.select([leader], [], [], 30)[0]:
            try:
                piece = os.read(leader, 65536)
            except OSError:  # Linux: the other end was closed
                break
            if not piece:
                break
            output += piece
        process.wait(timeout=30)
    os.close(leader)
    assert process.returncode == 0
    assert b"Searching the workspace ..." in output
    target = (root / "client.py").as_uri().encode()
    assert b"\x1b]8;;" + target + b"\x1b\\" in output


# ---- the engine ------------------------------------------------------------------------------


def test_a_question_to_a_model_starts_the_engine_and_leaves_it(root: Path, model: Path) -> None:
    assert "does not run" in run("engine", "status", code=3)
    assert json.loads(run("engine", "status", "--json", code=3)) is None
    assert run("engine", "stop") == "The engine does not run.\n"
    command = ("ask", "--json", "-d", root, "--model", model, "--max-tokens", "4", "retry")
    first = json.loads(run(*command))["usage"]
    second = json.loads(run(*command))["usage"]
    assert first["cachedTokens"] == 0
    assert second["cachedTokens"] >= second["promptTokens"] - 1
    status = run("engine", "status")
    assert f"The engine {lsp_assist.__version__} runs" in status
    assert f"tiny: ready, a window of 8,192 tokens, {model}" in status
    said = json.loads(run("engine", "status", "--json"))
    assert said["models"][0]["name"] == "tiny"
    assert run("engine", "stop") == "The engine has ended.\n"
    assert "does not run" in run("engine", "status", code=3)


def test_an_engine_by_hand_serves_other_tools(root: Path, model: Path, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    with subprocess.Popen(
        [sys.executable, "-m", "lsp_assist", "engine", "--port", port],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "LSP_ASSIST_MODEL_PATH": str(model), "PYTHONUNBUFFERED": "1"},
    ) as engine:
        assert engine.stdout is not None
        lines = [engine.stdout.readline() for _ in range(4)]
        assert lines[2].strip() == f"OPENAI_BASE_URL=http://127.0.0.1:{port}/v1"
        assert "OPENAI_API_KEY" in lines[3]
        key = subprocess.run(
            ["sh", "-c", f'{lines[3].strip()}; printf %s "$OPENAI_API_KEY"'],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key)
        with client:
            reply = client.chat.completions.create(
                model="tiny", messages=[{"role": "user", "content": "Hello"}], max_tokens=4
            )
            assert reply.usage is not None
            assert reply.usage.completion_tokens > 0
            with pytest.raises(openai.AuthenticationError):
                client.with_options(api_key="wrong").models.list()
        assert "An engine runs already" in run("engine", code=2)
        engine.send_signal(signal.SIGINT)
        assert engine.wait(timeout=30) == 0
    assert "does not run" in run("engine", "status", code=3)
