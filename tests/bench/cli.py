"""`make bench-cli`: how long a person waits for the command line, and how fast files are outlined.

The workspace is 100,000 lines of Python's own standard library, indexed before the clock starts.
Every figure is the median of several runs; processes are started as a shell would.
"""

import os
import shutil
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lsp_assist.codebase.languages import language_of
from lsp_assist.codebase.outline import outline
from tests.bench.report import Bar, report

N_LINES = 100_000
N_RUNS = 9
QUESTION = "Where is a request retried?"

BARS: dict[str, Bar] = {
    "cli.first_byte_s": ("<=", 1.5),
    "cli.version_s": ("<=", 0.15),
    "cli.version_vs_python": ("<=", 6),
}


def main() -> None:
    """Measure, print and write bench.json."""
    command = shutil.which("lsp-assist", path=str(Path(sys.executable).parent))
    assert command, "install the project first: `make setup`"
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder, "workspace")
        n_lines = copy_standard_library(workspace)
        environ = {**os.environ, "LSP_ASSIST_HOME": str(Path(folder, "home"))}
        started = time.perf_counter()
        subprocess.run([command, "index", workspace], env=environ, check=True, capture_output=True)
        full_s = time.perf_counter() - started
        ask = [command, "ask", "--dir", str(workspace), QUESTION]
        version_s = median(lambda: seconds([command, "--version"], environ))
        python_s = median(lambda: seconds([sys.executable, "-c", "pass"], environ))
        figures = {
            "cli.first_byte_s": median(lambda: first_byte_s(ask, environ)),
            "cli.version_s": version_s,
            "cli.version_vs_python": version_s / python_s,
            "index.full_s_per_100k_lines": full_s / n_lines * 100_000,
            "index.outline_files_per_s": outline_files_per_s(workspace),
        }
    report(figures, BARS)


def copy_standard_library(target: Path) -> int:
    """Copy modules of the standard library until there are enough lines; returns how many."""
    library = Path(sysconfig.get_path("stdlib"))
    n_lines = 0
    for source in sorted(library.rglob("*.py")):
        relative = source.relative_to(library)
        if "site-packages" in relative.parts or "test" in relative.parts:
            continue
        (target / relative).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target / relative)
        n_lines += source.read_bytes().count(b"\n")
        if n_lines >= N_LINES:
            break
    return n_lines


def median(measure: Callable[[], float]) -> float:
    """The median of several runs, after one that only fills the caches."""
    measure()
    return statistics.median(measure() for _ in range(N_RUNS))


def seconds(command: list[str], environ: dict[str, str]) -> float:
    """How long a command takes from start to end."""
    started = time.perf_counter()
    subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def first_byte_s(command: list[str], environ: dict[str, str]) -> float:
    """How long a command takes until it prints something."""
    started = time.perf_counter()
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1), "the command printed nothing"
        waited = time.perf_counter() - started
        process.stdout.read()
    return waited


def outline_files_per_s(workspace: Path) -> float:
    """How many files a second are outlined by one thread, reading them not counted."""
    files = [(str(path), path.read_text("utf-8", "replace")) for path in workspace.rglob("*.py")]
    languages = [language_of(path) for path, _ in files]
    started = time.perf_counter()
    for (path, text), language in zip(files, languages, strict=True):
        assert language is not None
        outline(path, text, language)
    return len(files) / (time.perf_counter() - started)


if __name__ == "__main__":
    main()
