"""An engine in a process that can be killed: reads commands as lines of JSON, answers each."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lsp_assist.engine.service import Engine, EngineSettings
from tests.bench.asking import MODEL, ask, request


async def main() -> None:
    """Serve the commands of stdin."""
    settings = json.loads(sys.argv[1])
    engine = Engine(
        EngineSettings(
            {MODEL: Path(settings["path"])},
            Path(settings["folder"]),
            n_ctx=settings["n_ctx"],
            idle_sleep_s=-1,
        )
    )
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await answer(engine, json.loads(line))), flush=True)
    await engine.close()


async def answer(engine: Engine, command: Mapping[str, Any]) -> Mapping[str, float]:
    """What came of a command."""
    if command["op"] == "ask":
        heard = await ask(engine, request(command["tokens"], max_tokens=command.get("n", 1)))
        return {"first_s": heard.first_s, "n_cached": heard.n_cached}
    assert command["op"] == "wait_until_saved"
    n_calm = 0
    while n_calm < 20:
        before = (await engine.status()).counters
        await asyncio.sleep(0.1)
        now = (await engine.status()).counters
        is_calm = now["saved"] == before["saved"] > 0 and now["written"] >= now["saved"]
        n_calm = n_calm + 1 if is_calm else 0
    return {"saved": now["saved"]}


if __name__ == "__main__":
    asyncio.run(main())
