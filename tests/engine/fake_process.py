"""An engine process with the fake engine: all between it and its clients is real.

    python -m tests.engine.fake_process     detaches, as `lsp-assist engine --background`

With FAKE_VERSION in the environment it says to be of that version; with FAKE_FAILS it fails; with
FAKE_DIES_ONCE it kills itself after two pieces of a reply, unless the file named there exists.
"""

import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import lsp_assist
from lsp_assist.config import resolve
from lsp_assist.engine import daemon
from lsp_assist.engine.requests import Event, GenerateRequest, Piece
from lsp_assist.errors import ModelUnavailable
from tests.engine.fake import FakeEngine

COMMAND = (sys.executable, "-m", "tests.engine.fake_process")


class MortalEngine(FakeEngine):
    """A fake that can be made to die."""

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Event, None]:
        """As the fake, up to the death."""
        n_left = 2
        async with aclosing(super().generate(request)) as events:
            async for event in events:
                yield event
                n_left -= isinstance(event, Piece)
                if isinstance(event, Piece) and n_left == 0:
                    _die_once()


def _die_once() -> None:
    mark = Path(os.environ.get("FAKE_DIES_ONCE", os.devnull))
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Be an engine until told to end."""
    lsp_assist.__version__ = os.environ.get("FAKE_VERSION", lsp_assist.__version__)
    with daemon.detached() as on_ready:
        logging.basicConfig(level=logging.INFO)
        if "FAKE_FAILS" in os.environ:
            raise ModelUnavailable("There is no room for an engine; make some.")
        daemon.run(resolve(), MortalEngine, exits_when_idle=True, on_ready=on_ready)


if __name__ == "__main__":
    main()
