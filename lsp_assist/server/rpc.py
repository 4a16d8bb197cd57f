"""JSON-RPC as the specification has it, on top of pygls: each request is answered exactly once.

What differs from pygls 2.1.1, each because we met it:
- A message that does not fit its type is answered (-32602, naming the field); pygls stays silent.
- Only what is asked under `initialize` is answered before it (-32002) or after `shutdown` (-32600).
- Errors carry a sentence for a person; tracebacks go to the log, and neither log nor answer holds
  params: they are the user's code and keys.
- Requests to the client have integer ids from 1,000,000,000 (Vim refuses strings, and takes a
  request with the id of one of its own for the response), and end after a time.
- Nothing is kept of a notification. pygls keeps a Future for each.
- pygls' own copies of the documents are not made: it splits lines at form feeds.

Handlers are called in the order in which messages arrive. A handler that returns an awaitable is
answered when that ends, and cancelled by `$/cancelRequest`; what it did before returning saw the
state in which the request was made. Knows no method but those of the base protocol.
"""

import asyncio
import itertools
import json
import logging
import re
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from typing import Any, Literal, cast

from cattrs import Converter, transform_error
from lsprotocol import types
from pygls.exceptions import JsonRpcException
from pygls.lsp.server import LanguageServer
from pygls.protocol import LanguageServerProtocol, default_converter
from pygls.protocol.json_rpc import (
    JsonRPCNotification,
    JsonRPCRequestMessage,
    JsonRPCResponseMessage,
)

from lsp_assist.errors import AssistError, BadInput
from lsp_assist.server.wire import frame

__all__ = ["FIRST_SERVER_ID", "ClientTimeout", "Connection", "Phase", "converter", "log_failure"]

logger = logging.getLogger(__name__)

FIRST_SERVER_ID = 1_000_000_000

Phase = Literal["new", "initializing", "running", "shutdown"]
"""Which messages are answered: all in "running", which the answer to `initialize` begins and the
handler of `shutdown` ends."""

Id = str | int


class ClientTimeout(Exception):
    """The client did not answer a request of ours, or is gone."""


def converter() -> Converter:
    """The converter of pygls, but custom params stay the dicts that they are on the wire.

    pygls makes named tuples of them, which lose every key that is no Python identifier.
    """
    made: Converter = default_converter()  # type: ignore[no-untyped-call]
    for message in (JsonRPCRequestMessage, JsonRPCNotification, JsonRPCResponseMessage):
        made.register_structure_hook(message, lambda data, cls: cls(**data))
    return made


class Connection(LanguageServerProtocol):
    """One client: what it asks, what it is asked, and where things stand."""

    def __init__(self, server: LanguageServer, converter: Converter) -> None:
        super().__init__(server, converter)
        self.phase: Phase = "new"
        self.requests: Mapping[str, Callable[[Any], object]] = {}
        self.notifications: Mapping[str, Callable[[Any], None]] = {}
        self.on_close: Callable[[], None] = lambda: None
        self._ids = itertools.count(FIRST_SERVER_ID)
        self._running: dict[Id, asyncio.Future[object]] = {}
        self._replies: dict[Id, tuple[str, asyncio.Future[Any]]] = {}

    def _register_builtin_features(self) -> None:
        """None of pygls' own handlers: ours are in app.py, and they alone keep state."""

    async def read(self, bodies: AsyncIterator[bytes]) -> None:
        """Act on messages as they come.

        None is taken up before `initialize` is answered: a client that does not wait for that
        breaks the specification, and loses nothing.
        """
        async for body in bodies:
            self.receive(body)
            if self.phase == "initializing":
                await asyncio.wait(self._running.values())
            # A burst of messages is in the buffer at once and would be read without a pause.
            await asyncio.sleep(0)

    def receive(self, body: bytes) -> None:
        """Act on one message. Whatever it holds, nothing is raised."""
        try:
            message = json.loads(body)
        except (ValueError, RecursionError) as error:
            logger.warning("A message is no JSON: %s", type(error).__name__)
            self._refuse(None, types.ErrorCodes.ParseError, "The message is no valid JSON.")
            return
        self.handle_message(message)

    def handle_message(self, message: Any) -> None:
        """Act on one message that is JSON."""
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            self._refuse(
                None, types.ErrorCodes.InvalidRequest, "The message is no JSON-RPC 2.0 object."
            )
            return
        method, msg_id = message.get("method"), message.get("id")
        if "method" not in message and ("result" in message or "error" in message):
            self._settle(msg_id, message)
        elif not isinstance(method, str):
            self._refuse(None, types.ErrorCodes.InvalidRequest, "The message names no method.")
        elif "id" not in message:
            self._notified(method, message)
        elif not isinstance(msg_id, (str, int)) or isinstance(msg_id, bool):
            self._refuse(
                None, types.ErrorCodes.InvalidRequest, "`id` must be a string or a whole number."
            )
        else:
            self._requested(msg_id, method, message)

    # Requests from the client

    def _requested(self, msg_id: Id, method: str, message: dict[str, Any]) -> None:
        if msg_id in self._running:
            self._refuse(msg_id, types.ErrorCodes.InvalidRequest, f"Id {msg_id!r} is in use.")
            return
        try:
            self._check_phase(method)
            handler = self.requests.get(method)
            if handler is None:
                raise JsonRpcException(
                    f"There is no method {method!r} here.", types.ErrorCodes.MethodNotFound
                )
            params = self._params(method, message)
            if method == types.INITIALIZE:
                self.phase = "initializing"
            result = handler(params)
        except Exception as error:  # noqa: BLE001  the boundary: each request is answered
            self._refuse_for(msg_id, method, error)
            return
        if not isinstance(result, Awaitable):
            self._answer(msg_id, method, result)
            return
        task = asyncio.ensure_future(cast("Coroutine[Any, Any, object]", result))
        self._running[msg_id] = task
        task.add_done_callback(lambda done: self._ended(msg_id, method, done))

    def _check_phase(self, method: str) -> None:
        if self.phase == "shutdown":
            raise JsonRpcException("The server is shutting down.", types.ErrorCodes.InvalidRequest)
        if method == types.INITIALIZE and self.phase != "new":
            raise JsonRpcException(
                "The server is initialized already.", types.ErrorCodes.InvalidRequest
            )
        if method != types.INITIALIZE and self.phase != "running":
            raise JsonRpcException(
                "The server is not initialized yet.", types.ErrorCodes.ServerNotInitialized
            )

    def _ended(self, msg_id: Id, method: str, task: asyncio.Future[object]) -> None:
        self._running.pop(msg_id, None)
        if task.cancelled():
            self._refuse(msg_id, types.LSPErrorCodes.RequestCancelled, "The request was cancelled.")
        elif (error := task.exception()) is not None:
            self._refuse_for(msg_id, method, error)
        else:
            self._answer(msg_id, method, task.result())

    def _answer(self, msg_id: Id, method: str, result: object) -> None:
        if method == types.INITIALIZE:
            self.phase = "running"
        try:
            plain = self._converter.unstructure(result)
            self._send_data({"jsonrpc": "2.0", "id": msg_id, "result": plain})
        except Exception as error:  # noqa: BLE001  the boundary: each request is answered
            self._refuse_for(msg_id, method, error)

    def _refuse_for(self, msg_id: Id, method: str, error: BaseException) -> None:
        if method == types.INITIALIZE and self.phase == "initializing":
            self.phase = "new"
        code, text, data = _explained(error)
        if code == types.ErrorCodes.InternalError:
            log_failure(method, error)
        self._refuse(msg_id, code, text, data)

    def _refuse(self, msg_id: Id | None, code: int, text: str, data: object = None) -> None:
        error = {"code": int(code), "message": text} | ({} if data is None else {"data": data})
        self._send_data({"jsonrpc": "2.0", "id": msg_id, "error": error})

    # Notifications from the client

    def _notified(self, method: str, message: dict[str, Any]) -> None:
        if method == types.CANCEL_REQUEST:
            self._cancel(message.get("params"))
            return
        if method != types.EXIT and self.phase != "running":
            logger.debug("%s is ignored: the server is %s.", method, self.phase)
            return
        handler = self.notifications.get(method)
        if handler is None:
            if not method.startswith("$/"):
                logger.debug("%s is ignored: nothing here handles it.", method)
            return
        try:
            handler(self._params(method, message))
        except AssistError as error:
            # The message of an error may quote what the user wrote.
            logger.warning("%s was not taken: %s", method, type(error).__name__)
            logger.debug("%s: %s", method, error)
        except JsonRpcException as error:
            logger.warning("%s was not taken: %s", method, error.message)
        except Exception as error:  # noqa: BLE001  the boundary: a notification kills nothing
            log_failure(method, error)

    def _cancel(self, params: object) -> None:
        msg_id = params.get("id") if isinstance(params, dict) else None
        task = self._running.get(msg_id) if isinstance(msg_id, (str, int)) else None
        if task is not None:
            task.cancel()

    # Requests to the client

    async def send_request_async(
        self,
        method: str,
        params: Any | None = None,
        msg_id: Id | None = None,
        *,
        timeout_s: float = 10.0,
    ) -> Any:
        """What the client answers.

        Raises: ClientTimeout; JsonRpcException with the client's error
        """
        msg_id = next(self._ids) if msg_id is None else msg_id
        request = (self.get_message_type(method) or JsonRPCRequestMessage)(
            id=msg_id, method=method, params=params, jsonrpc="2.0"
        )
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._replies[msg_id] = (method, reply)
        try:
            self._send_data(request)
            async with asyncio.timeout(timeout_s):
                return await reply
        except TimeoutError:
            raise ClientTimeout(f"The client did not answer {method!r}.") from None
        finally:
            self._replies.pop(msg_id, None)

    def _settle(self, msg_id: object, message: dict[str, Any]) -> None:
        method, reply = (
            self._replies.get(msg_id, ("", None)) if isinstance(msg_id, (str, int)) else ("", None)
        )
        if reply is None or reply.done():
            logger.debug("A response that is not waited for.")
            return
        if "error" in message:
            error = message["error"] if isinstance(message["error"], dict) else {}
            code = error.get("code")
            reply.set_exception(
                JsonRpcException(
                    str(error.get("message", "")), code if isinstance(code, int) else None
                )
            )
            return
        result_type = self.get_result_type(method) or JsonRPCResponseMessage
        try:
            reply.set_result(self._converter.structure(message, result_type).result)
        except Exception:  # noqa: BLE001  cattrs raises groups of many kinds
            reply.set_exception(JsonRpcException(f"The answer to {method!r} has a wrong type."))

    def send_request(
        self,
        method: str,
        params: Any | None = None,
        callback: Callable[[Any], None] | None = None,
        msg_id: Id | None = None,
    ) -> Any:
        """Not for use: pygls waits without end here, and with string ids."""
        raise NotImplementedError("use send_request_async")

    # The wire

    def _params(self, method: str, message: dict[str, Any]) -> Any:
        """The params as the type that the method has, or as they are for one of ours.

        Raises: JsonRpcException naming the field at fault
        """
        message_type = self.get_message_type(method)
        if message_type is None:
            return message.get("params")
        while True:
            try:
                return getattr(self._converter.structure(message, message_type), "params", None)
            except Exception as error:  # noqa: BLE001  cattrs raises groups of many kinds
                said, path = _fault(error)
                if method != types.INITIALIZE or not _drop_capability(message, path):
                    raise _invalid(said, path) from None
                logger.info("The client's %s cannot be read and is left out.", path)

    def _send_data(self, data: Any) -> None:
        if self.writer is None:
            return
        body = json.dumps(data, default=self._serialize_message, separators=(",", ":"))
        self.writer.write(frame(body.encode("ascii")))

    def cancel_requests(self) -> None:
        """Cancel what the client has asked and was not answered yet."""
        for task in self._running.values():
            task.cancel()

    def hang_up(self) -> None:
        """The client is gone: nothing is answered any more, and nothing waits for an answer."""
        self.writer = None
        self.cancel_requests()
        for method, reply in self._replies.values():
            if not reply.done():
                reply.set_exception(ClientTimeout(f"The client left before answering {method!r}."))


def log_failure(what: str, error: BaseException) -> None:
    """Log an error that should not be, without what it says: that may quote the user's code."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    logger.error("%s failed with %s\n%s", what, type(error).__name__, frames)
    logger.debug("%s: %s", what, error)


def _explained(error: BaseException) -> tuple[int, str, Mapping[str, object] | None]:
    """Code, sentence and data of the answer that an error makes."""
    match error:
        case BadInput():
            return (
                types.ErrorCodes.InvalidParams,
                str(error),
                {"field": error.field} if error.field else None,
            )
        case AssistError():
            return types.LSPErrorCodes.RequestFailed, str(error), None
        case JsonRpcException():
            return error.code, error.message, error.data
        case asyncio.CancelledError():
            return types.LSPErrorCodes.RequestCancelled, "The request was cancelled.", None
        case _:
            return (
                types.ErrorCodes.InternalError,
                f"An error in lsp-assist ({type(error).__name__}); its log has the details.",
                None,
            )


def _fault(error: Exception) -> tuple[str, str]:
    """What is wrong with params and where, from what cattrs says of them; the value unsaid."""
    try:
        first = transform_error(error)[0]
    except Exception:  # noqa: BLE001  an error that cattrs cannot explain either
        return "", ""
    # Like "required field missing @ $.params.text_document.uri".
    said, _, path = first.partition(" @ $.")
    path = path.removeprefix("params").removeprefix(".")
    return said, re.sub(r"_(\w)", lambda match: match[1].upper(), path)


def _invalid(said: str, path: str) -> JsonRpcException:
    text = f"{said}: `{path}`" if path else "The params have a wrong shape."
    return JsonRpcException(text, types.ErrorCodes.InvalidParams, {"field": path} if path else None)


def _drop_capability(message: dict[str, Any], path: str) -> bool:
    """Take out what the client can do and we cannot read; whether anything was.

    A client newer than our types, or one that writes an empty object as a list, is served
    without the one capability rather than not at all.
    """
    names = re.findall(r"\w+", path)[1:3] if path.startswith("capabilities.") else []
    holder = message["params"].get("capabilities") if names else None
    for name in names[:-1]:
        if isinstance(holder, dict) and isinstance(holder.get(name), dict):
            holder = holder[name]
        else:
            names = names[:1]
    return isinstance(holder, dict) and bool(names) and holder.pop(names[-1], None) is not None
