"""What chats begin with, made once for a state of the workspace and shared by all new chats.

A warm-up freezes it for its chat, and the question finds it. Where the workspace changed in
between, the chat begins with what is true now, and says so. Knows no chat store and no editor.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Sequence

from lsp_assist.context.code import Code, FileKey, ProjectFile
from lsp_assist.context.pack import Pack, pack
from lsp_assist.context.tokens import TokenCounts

__all__ = ["Openings"]

MAX_PACKS = 8
MAX_CHATS = 256


class Openings:
    """The packs of the last states of the workspace, and which chat was warmed with which."""

    def __init__(self) -> None:
        self._packs: OrderedDict[bytes, Pack] = OrderedDict()
        self._outlined: dict[tuple[str, int], Pack] = {}
        self._begun: OrderedDict[str, Pack] = OrderedDict()

    async def pack(
        self,
        model: str,
        code: Code,
        files: Sequence[ProjectFile],
        budget_tokens: int,
        counts: TokenCounts,
    ) -> Pack:
        """The pack of the workspace as it is, made now if nobody did before.

        Raises: ModelError
        """
        outlined = self._outlined.get((model, budget_tokens))
        if outlined is not None and _still_holds(outlined, files):
            return outlined
        key = _state(model, files, budget_tokens)
        found = self._packs.get(key)
        if found is None:
            found = await pack(code, files, budget_tokens, counts)
            self._packs[key] = found
            while len(self._packs) > MAX_PACKS:
                self._packs.popitem(last=False)
        self._packs.move_to_end(key)
        if found.kind in ("skeletons", "map"):
            self._outlined[model, budget_tokens] = found
        return found

    def begin(self, chat_id: str, with_pack: Pack) -> bool:
        """Note what a chat that nobody asked yet begins with; whether it was something else."""
        before = self._begun.pop(chat_id, None)
        self._begun[chat_id] = with_pack
        while len(self._begun) > MAX_CHATS:
            self._begun.popitem(last=False)
        return before is not None and before.segments != with_pack.segments


def _still_holds(outlined: Pack, files: Sequence[ProjectFile]) -> bool:
    """Whether a pack of outlines is true of the files, though others than it shows were edited.

    What matters most in a large project does not change by an edit; to make the pack anew at each
    would only make it cold. It is made anew where a file that it shows changed, or the number of
    files did by a twentieth.
    """
    n_files = sum(s.source is not None for s in outlined.segments) + len(outlined.left_out)
    if abs(len(files) - n_files) * 20 > n_files:
        return False
    digests = {file.key: file.digest for file in files}
    return all(
        digests.get(FileKey(s.source.root, s.source.path)) == s.digest
        for s in outlined.segments
        if s.source is not None
    )


def _state(model: str, files: Sequence[ProjectFile], budget_tokens: int) -> bytes:
    """Names all that a pack is made from. O(files)."""
    said = hashlib.blake2b(f"{model}\0{budget_tokens}".encode(), digest_size=16)
    for f in files:
        line = f"\0{f.key.root}\0{f.key.path}\0{f.digest}\0{f.edited}\0{f.activity}"
        said.update(line.encode("utf-8", "surrogatepass"))
    return said.digest()
