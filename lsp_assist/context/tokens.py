"""How many tokens texts have for one model, each text counted once.

Asking a tokenizer costs milliseconds a text; a project has hundreds, and a chat the same ones at
every question. Knows the tokenizer as a function only.
"""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable

from lsp_assist.llm import Message

__all__ = ["TokenCounts"]

MAX_KNOWN = 200_000
_AT_ONCE = 4
MESSAGE_OVERHEAD = 8
"""Tokens that a chat template puts around a message, at the most of those we know."""

_SAMPLE = '''\
class Session:
    """A connection that is kept open, with its headers and a limit on retries."""

    def __init__(self, base_url: str, *, timeout_s: float = 10.0, max_retries: int = 3) -> None:
        self.base_url = base_url
        self.timeout_s = timeout_s
        self._pool = ConnectionPool(max_size=16)

    async def get(self, path: str, params: dict[str, str] | None = None) -> Response:
        for attempt in range(self.max_retries):
            response = await self._pool.send("GET", f"{self.base_url}/{path}", params)
            if response.status_code < 500:
                return response
        raise TimeoutError(f"no answer from {path!r} after {self.max_retries} attempts")

int main(int argc, char **argv) {
    if (argc != 2) { fprintf(stderr, "usage: %s FILE\\n", argv[0]); return 1; }
    return process_file(argv[1]) ? 0 : 1;
}
'''


class TokenCounts:
    """Counts by text for one model."""

    def __init__(self, count: Callable[[str], Awaitable[int]]) -> None:
        self._count = count
        self._known: OrderedDict[bytes, int] = OrderedDict()
        self._gate = asyncio.Semaphore(_AT_ONCE)

    async def of(self, text: str) -> int:
        """The tokens of a text.

        Raises: ModelError
        """
        if not text:
            return 0
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        async with self._gate:
            n_tokens = await self._count(text)
        self._known[key] = n_tokens
        while len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return n_tokens

    async def of_each(self, texts: Iterable[str]) -> list[int]:
        """The tokens of each text; what is not known yet is asked for at once.

        Raises: ModelError
        """
        return list(await asyncio.gather(*map(self.of, texts)))

    async def of_messages(self, messages: Iterable[Message]) -> int:
        """The tokens of messages with what a template puts around them; never too few.

        Segments are counted by themselves: joined they have as many or a few less.

        Raises: ModelError
        """
        messages = tuple(messages)
        found = await self.of_each(s.text for m in messages for s in m.segments)
        return sum(found) + MESSAGE_OVERHEAD * len(messages)

    async def bytes_per_token(self) -> float:
        """About how many bytes of code a token stands for, found with a fixed sample.

        The same for a model at all times, so that what is decided by it is decided alike.

        Raises: ModelError
        """
        return len(_SAMPLE) / max(1, await self.of(_SAMPLE))
