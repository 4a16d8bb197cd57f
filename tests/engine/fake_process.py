"""An engine process with the fake engine: all between it and its clients is real.

    python -m tests.engine.fake_process     detaches, as `lsp-assist engine --background`

With FAKE_VERSION in the environment it says to be of that version; with FAKE_FAILS it fails.
"""

import logging
import os
import sys

import lsp_assist
from lsp_assist.config import resolve
from lsp_assist.engine import daemon
from lsp_assist.errors import ModelUnavailable
from tests.engine.fake import FakeEngine

COMMAND = (sys.executable, "-m", "tests.engine.fake_process")


def main() -> None:
    """Be an engine until told to end."""
    lsp_assist.__version__ = os.environ.get("FAKE_VERSION", lsp_assist.__version__)
    with daemon.detached() as on_ready:
        logging.basicConfig(level=logging.INFO)
        if "FAKE_FAILS" in os.environ:
            raise ModelUnavailable("There is no room for an engine; make some.")
        daemon.run(resolve(), FakeEngine, exits_when_idle=True, on_ready=on_ready)


if __name__ == "__main__":
    main()
