"""Every exception that a person may meet, in one tree.

    AssistError                 what happened, and what to do about it
    ├── BadInput                the caller can mend it: exit code 2, or -32602 over LSP
    │   ├── WorkspaceNotFound   no such folder, or not a folder
    │   ├── SettingError        a setting is unknown, of the wrong type or out of range
    │   ├── DocumentError       a text change that does not fit the document
    │   ├── UnknownTurn         a chat or turn that is not there
    │   ├── StillAnswered       a turn that has to end before it can be continued
    │   ├── LogError            a chat log that cannot be read, with the line
    │   └── EditRefused         an edit that does not fit, is stale, or may not be made
    ├── ModelError              a model cannot answer
    │   ├── ModelFileError      the file is missing, damaged or not a GGUF
    │   ├── ModelUnavailable    the backend is not installed, not started or out of memory
    │   └── ContextTooLong      the prompt exceeds the context window
    ├── IndexUnusable           the index cannot be read or written
    └── ChatsUnusable           the chats on disk cannot be read or written

A message names values with `!r` and ends with the remedy. Cancellation is no error and is not here.
"""

__all__ = [
    "AssistError",
    "BadInput",
    "ChatsUnusable",
    "ContextTooLong",
    "DocumentError",
    "EditRefused",
    "IndexUnusable",
    "LogError",
    "ModelError",
    "ModelFileError",
    "ModelUnavailable",
    "SettingError",
    "StillAnswered",
    "UnknownTurn",
    "WorkspaceNotFound",
]


class AssistError(Exception):
    """Base of all errors that are shown to a person without a traceback."""


class BadInput(AssistError):
    """Something that the caller said cannot be used.

    `field` names the request field or the setting at fault, empty where there is none.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class WorkspaceNotFound(BadInput):
    """The workspace is not a folder that can be read."""


class SettingError(BadInput):
    """A setting has a wrong name, type or value."""


class DocumentError(BadInput):
    """A document is not open, or a change does not fit the version that it was made for."""


class UnknownTurn(BadInput):
    """A chat or a turn was named that does not exist."""


class StillAnswered(BadInput):
    """A turn was named whose reply is still coming."""


class LogError(BadInput):
    """A chat log cannot be read; `line` counts from one, as editors show it."""

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(f"Line {line} of the log: {message}", field="text")
        self.line = line


class EditRefused(BadInput):
    """An edit does not fit the text, is older than the text, or is where none may be made."""


class ModelError(AssistError):
    """A model cannot answer."""


class ModelFileError(ModelError):
    """A model file is missing, unreadable, damaged or of an unknown format."""


class ModelUnavailable(ModelError):
    """The code or the memory that a model needs is not there."""


class ContextTooLong(ModelError):
    """A prompt has more tokens than the context window holds."""

    def __init__(
        self,
        n_tokens: int,
        n_ctx: int,
        remedy: str = "ask with less context, or raise `model.n_ctx`",
    ) -> None:
        super().__init__(
            f"The prompt has {n_tokens:,} tokens and the context window holds {n_ctx:,}; {remedy}."
        )
        self.n_tokens = n_tokens
        self.n_ctx = n_ctx


class IndexUnusable(AssistError):
    """The index on disk cannot be used; `is_damaged` where a rebuild would mend that."""

    def __init__(self, message: str, *, is_damaged: bool = False) -> None:
        super().__init__(message)
        self.is_damaged = is_damaged


class ChatsUnusable(AssistError):
    """The database of chats cannot be used: not writable, full, or of a newer version."""
