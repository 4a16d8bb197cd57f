"""The language server: the only place that knows LSP."""

from collections.abc import Mapping

__all__ = ["serve"]


def serve(overrides: Mapping[str, object] | None = None, *, tcp: str | None = None) -> int:
    """Serve one client over stdio, or over `tcp` ("host:port", "port"), until it leaves.

    `overrides` are settings as `config.resolve` takes them; they win over the client's. The result
    is the exit code: 0 after `shutdown`, else 1.

    Raises: BadInput for an address that is none or is not this machine's own
    """
    from lsp_assist.server.app import AssistServer
    from lsp_assist.server.run import run

    return run(lambda: AssistServer(overrides or {}), tcp=tcp)
