"""The language server: the only place that knows LSP."""

from collections.abc import Mapping
from typing import NoReturn

__all__ = ["serve"]


def serve(overrides: Mapping[str, object] | None = None, *, tcp: str | None = None) -> NoReturn:
    """Serve one client over stdio, or over `tcp` ("host:port", "port"), until it leaves.

    `overrides` are settings as `config.resolve` takes them; they win over the client's. Ends the
    process: with 0 after `shutdown`, else with 1.

    Raises: BadInput for an address that is none or is not this machine's own
    """
    from lsp_assist.server.app import AssistServer
    from lsp_assist.server.run import run

    run(lambda: AssistServer(overrides or {}), tcp=tcp)
