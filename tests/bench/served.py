"""The engine as the user has it: a process of its own, asked over its socket."""

import contextlib
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import httpx2

from lsp_assist.config import ModelSettings, Places, Settings
from lsp_assist.engine.process import connected, model_served, running, stopped
from lsp_assist.engine.requests import GenerateRequest
from lsp_assist.engine.runtime import Endpoint
from tests.bench.asking import Heard

__all__ = ["Served", "served"]


@dataclass(frozen=True, slots=True)
class Served:
    """A home with an engine in it, which may be killed and is started when it is asked for."""

    settings: Settings
    model: str

    def endpoint(self) -> Endpoint:
        """Where it answers; started, and told of the model, if need be."""
        endpoint = connected(self.settings)
        assert self.settings.model.path is not None
        model_served(endpoint, self.settings.model.path)
        return endpoint

    def pid(self) -> int:
        """Of the process that answers now."""
        found = running(self.settings)
        assert found is not None, "no engine answers"
        return found.pid

    def kill(self) -> None:
        """As `kill -9`, and waits until the process is gone."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            while "Z" not in Path(f"/proc/{pid}/stat").read_text("ascii").split(")")[-1][:3]:
                time.sleep(0.002)
                os.kill(pid, 0)

    @contextlib.asynccontextmanager
    async def client(self) -> AsyncIterator[httpx2.AsyncClient]:
        """A connection of somebody who asks."""
        endpoint = self.endpoint()
        assert endpoint.socket is not None, "these benches talk through a unix socket"
        async with httpx2.AsyncClient(
            transport=httpx2.AsyncHTTPTransport(uds=str(endpoint.socket)),
            base_url=endpoint.url,
            headers={"Authorization": f"Bearer {endpoint.token}"} if endpoint.token else {},
            timeout=600,
        ) as client:
            yield client

    def body(self, wanted: GenerateRequest) -> dict[str, object]:
        """The request as the API takes it."""
        return {
            "model": self.model,
            "prompt": list(cast("tuple[int, ...]", wanted.prompt)),
            "max_tokens": wanted.sampling.max_tokens,
            "temperature": wanted.sampling.temperature,
            "n": wanted.n,
            "priority": wanted.priority.name.lower(),
            "speculative": wanted.is_speculative,
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def ask(self, client: httpx2.AsyncClient, wanted: GenerateRequest) -> Heard:
        """The answer to a request, noted while it comes."""
        heard = Heard()
        started = time.perf_counter()
        async with client.stream("POST", "/v1/completions", json=self.body(wanted)) as response:
            assert response.status_code == 200, await response.aread()
            async for line in response.aiter_lines():
                now = time.perf_counter() - started
                if not line.startswith("data: {"):
                    continue
                chunk: dict[str, Any] = json.loads(line.removeprefix("data: "))
                assert "error" not in chunk, chunk
                for choice in chunk.get("choices", ()):
                    if choice.get("text"):
                        heard.pieces.append(now)
                        heard.text += choice["text"]
                        heard.first_s = heard.first_s or now
                    heard.n_ended += choice.get("finish_reason") is not None
                if usage := chunk.get("usage"):
                    heard.n_tokens = usage["completion_tokens"]
                    heard.n_prompt = usage["prompt_tokens"]
                    heard.n_cached = usage["prompt_tokens_details"]["cached_tokens"]
            heard.ended_s = time.perf_counter() - started
        heard.first_s = heard.first_s or heard.ended_s
        return heard

    async def status(self, client: httpx2.AsyncClient) -> dict[str, Any]:
        """What it says of itself."""
        response = await client.get("/status")
        found: dict[str, Any] = response.json()
        return found


@contextlib.contextmanager
def served(path: Path, *, n_ctx: int) -> Iterator[Served]:
    """An engine in a home of its own, stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="la-") as folder:
        settings = Settings(
            places=Places.of_user({"LSP_ASSIST_HOME": folder}),
            model=ModelSettings(path=path, n_ctx=n_ctx),
        )
        before = os.environ.get("LSP_ASSIST_HOME")
        os.environ["LSP_ASSIST_HOME"] = folder  # for the process that is started
        try:
            yield Served(settings, path.stem)
        finally:
            stopped(settings)
            del os.environ["LSP_ASSIST_HOME"]
            if before is not None:
                os.environ["LSP_ASSIST_HOME"] = before
