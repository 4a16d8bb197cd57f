"""Who may ask the engine: the gate before its API.

A unix socket in the user's own folder lets nobody else in. A TCP port is open to every process of
the machine and, through a browser, to every page: there the request must carry a token, and name
the loopback as its host, so that no page can reach us under a name of its own (DNS rebinding).
Knows no route.
"""

import hmac
import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["gated"]

_LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?", re.IGNORECASE)


def gated(inner: "ASGIApp", *, private_token: str = "", public_token: str = "") -> "ASGIApp":
    """The app behind the gate.

    Tells it in `scope["state"]["is_private"]` whether the request comes from a process of the user:
    over a unix socket or with the private token. The public one is for tools that the user gave it.
    An empty token lets nobody in.
    """

    async def gate(scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "lifespan":
            await inner(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # uvicorn has no WebSockets here
        problem, is_private = _judged(scope, private_token, public_token)
        if problem:
            await _refuse(send, *problem)
            return
        scope.setdefault("state", {})["is_private"] = is_private
        await inner(scope, receive, send)

    return gate


def _judged(
    scope: "Scope", private_token: str, public_token: str
) -> tuple[tuple[int, str] | None, bool]:
    """Status and message of a refusal, or whether the request is private."""
    server = scope.get("server")
    if server is not None and server[1] is None:  # a unix socket has no port
        return None, True
    headers: dict[bytes, bytes] = dict(scope["headers"])
    if not _LOOPBACK.fullmatch(headers.get(b"host", b"").decode("latin-1")):
        return (403, "The Host header does not name the loopback; use 127.0.0.1."), False
    kind, _, token = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer":
        for known, is_private in ((private_token, True), (public_token, False)):
            if known and hmac.compare_digest(token.strip(), known.encode()):
                return None, is_private
    said = "The bearer token is missing or wrong; `lsp-assist engine status` tells where it is."
    return (401, said), False


async def _refuse(send: "Send", status: int, message: str) -> None:
    code = "invalid_api_key" if status == 401 else "forbidden"
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    body = json.dumps({"error": error}).encode("ascii")
    headers = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
