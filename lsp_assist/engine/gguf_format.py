"""The GGUF container: metadata and tensor descriptions, read without trusting them.

Every count and length is held against the size of the file, and nothing is allocated by a claimed
size. Knows no llama.cpp and no model: what a model must say stands in gguf.py.

Source: the format is docs/gguf.md of ggml; the limits are those of ggml/src/gguf.cpp.
"""

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from lsp_assist.errors import ModelFileError

__all__ = [
    "FLOAT32",
    "INT32",
    "STRING",
    "TENSOR_TYPES",
    "UINT32",
    "Array",
    "Header",
    "Scalar",
    "Tensor",
    "read_header",
    "refuse",
]

Scalar = bool | int | float | str


@dataclass(frozen=True, slots=True)
class Array:
    """An array in the metadata; its items are not kept."""

    item_type: int
    n_items: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """Where the weights of one name lie, counted from the start of the data."""

    name: str
    type: int
    n_elements: int
    n_bytes: int
    offset: int


@dataclass(frozen=True, slots=True)
class Header:
    """Everything in a file but its weights."""

    n_bytes: int
    """Of the whole file."""
    values: dict[str, Scalar | Array]
    tensors: list[Tensor]


def refuse(path: Path, what: str, *, remedy: str = "download it again") -> NoReturn:
    """Raises: ModelFileError that names the file."""
    raise ModelFileError(f"Model file {str(path)!r} {what}; {remedy}.")


# Limits. Generous: the largest vocabularies known have 262,144 tokens and 515,000 merges.
_MAX_HEADER_BYTES = 256 << 20
_MAX_ARRAY_ITEMS = 4_000_000
_MAX_KEYS = 65_536
_MAX_TENSORS = 1_000_000
_MAX_KEY_BYTES = 65_535
_MAX_TEXT_BYTES = 4 << 20
_MAX_NAME_BYTES = 63  # GGML_MAX_NAME, less the closing zero
_MAX_DIMS = 4
_MAX_ALIGNMENT = 1 << 20
_VERSIONS = (2, 3)
_CHUNK_BYTES = 1 << 20

# Types of metadata values
_BOOL, STRING, _ARRAY = 7, 8, 9
FLOAT32, INT32, UINT32 = 6, 5, 4
_SCALARS: dict[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    UINT32: struct.Struct("<I"),
    INT32: struct.Struct("<i"),
    FLOAT32: struct.Struct("<f"),
    _BOOL: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
_U32 = _SCALARS[UINT32]
_U64 = _SCALARS[10]

# ggml_type -> (name, weights per block, bytes per block). A test holds it against the library.
TENSOR_TYPES: dict[int, tuple[str, int, int]] = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
    41: ("Q1_0", 128, 18),
    42: ("Q2_0", 64, 18),
}


# ---- the file ------------------------------------------------------------------------------


def read_header(path: Path) -> Header:
    """The header of one file, after the checks that need no knowledge of models.

    Raises: ModelFileError
    """
    with _open_regular(path) as file:
        try:
            return _parse(_Bytes(path, file, os.fstat(file.fileno()).st_size))
        except OSError as error:
            raise ModelFileError(
                f"Model file {str(path)!r} cannot be read: {error.strerror}; "
                "check the disk, or download it again."
            ) from error


def _open_regular(path: Path) -> BinaryIO:
    """The file, opened; never waits, as opening a FIFO would.

    Raises: ModelFileError
    """
    choose = "name a GGUF file in `model.path` or `--model`"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            kind = "is a folder" if path.is_dir() else "is no regular file"
            refuse(path, kind, remedy=choose)
        return path.open("rb")
    except FileNotFoundError:
        refuse(path, "is not there", remedy=choose)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        refuse(path, f"cannot be opened: {reason}", remedy=f"check its permissions, or {choose}")


class _Bytes:
    """The file from its start on, in the pieces that the format is made of.

    Every length is held against what is left of the file before anything is read.
    """

    __slots__ = ("_at", "_buffer", "_file", "_read", "n_bytes", "path")

    def __init__(self, path: Path, file: BinaryIO, n_bytes: int) -> None:
        self.path = path
        self.n_bytes = n_bytes
        self._file = file
        self._buffer = b""
        self._at = 0
        self._read = 0

    @property
    def position(self) -> int:
        return self._read - len(self._buffer) + self._at

    def take(self, n: int, what: str) -> bytes:
        self._fill(n, what)
        at = self._at
        self._at = at + n
        return self._buffer[at : at + n]

    def number(self, kind: struct.Struct, what: str) -> int:
        return cast("int", kind.unpack(self.take(kind.size, what))[0])

    def text(self, limit_bytes: int, what: str) -> str:
        n = self.number(_U64, what)
        if n > limit_bytes:
            refuse(self.path, f"is damaged: {what} claims {n:,} bytes")
        try:
            return self.take(n, what).decode("utf-8")
        except UnicodeDecodeError:
            refuse(self.path, f"is damaged: {what} is not UTF-8")

    def skip(self, n: int, what: str) -> None:
        self._check_left(n, what)
        if n <= len(self._buffer) - self._at:
            self._at += n
            return
        target = self.position + n
        self._file.seek(target)
        self._buffer, self._at, self._read = b"", 0, target

    def skip_texts(self, n_texts: int, what: str) -> None:
        """Passes over strings without making them: vocabularies have hundreds of thousands."""
        if n_texts * _U64.size > self.n_bytes - self.position:
            self._end(what)
        length_at = _U64.unpack_from
        buffer, at = self._buffer, self._at
        size = len(buffer)
        for _ in range(n_texts):
            end = at + 8
            if end <= size:
                end += length_at(buffer, at)[0]
            if end > size:
                self._at = at
                self.skip(self.number(_U64, what), what)
                self._fill(0, what)
                buffer, at = self._buffer, self._at
                size = len(buffer)
            else:
                at = end
        self._at = at

    def _fill(self, n: int, what: str) -> None:
        """Makes the next n bytes present in the buffer, and more for the calls to come."""
        if n and n <= len(self._buffer) - self._at:
            return
        self._check_left(n, what)
        rest = self._buffer[self._at :]
        more = self._file.read(max(n - len(rest), _CHUNK_BYTES))
        self._buffer, self._at = rest + more, 0
        self._read += len(more)
        if len(self._buffer) < n:  # it became shorter while it was read
            self._end(what)

    def _check_left(self, n: int, what: str) -> None:
        position = self.position
        if n > self.n_bytes - position:
            self._end(what)
        if position + n > _MAX_HEADER_BYTES:
            refuse(self.path, f"is damaged: its header exceeds {_MAX_HEADER_BYTES:,} bytes")

    def _end(self, what: str) -> NoReturn:
        refuse(
            self.path,
            f"is cut off or damaged: {what} goes beyond the file's end at byte {self.n_bytes:,}",
        )


# ---- the format ----------------------------------------------------------------------------


def _parse(data: _Bytes) -> Header:
    path = data.path
    if data.n_bytes == 0:
        refuse(path, "is empty")
    magic = data.take(min(4, data.n_bytes), "the magic number")
    if magic != b"GGUF":
        refuse(
            path,
            f"is not a GGUF file: it begins with {magic!r}",
            remedy="name a file that ends in .gguf; other formats must be converted",
        )
    version = data.number(_U32, "the version")
    if version not in _VERSIONS:
        refuse(path, _odd_version(version), remedy="convert or download it again as version 3")
    n_tensors = data.number(_U64, "the number of tensors")
    n_values = data.number(_U64, "the number of metadata values")
    if n_tensors > _MAX_TENSORS or n_values > _MAX_KEYS:
        refuse(path, f"is damaged: it claims {n_tensors:,} tensors and {n_values:,} values")
    values: dict[str, Scalar | Array] = {}
    for index in range(n_values):
        key = data.text(_MAX_KEY_BYTES, f"metadata key {index}")
        if not key or key in values:
            refuse(path, f"is damaged: its metadata has the key {key!r} twice or without a name")
        values[key] = _value(data, key)
    alignment = _alignment(path, values)
    tensors = _tensors(data, n_tensors)
    start = -(-data.position // alignment) * alignment
    for tensor in tensors:
        if tensor.offset % alignment:
            refuse(path, f"is damaged: tensor {tensor.name!r} is not aligned to {alignment}")
        if tensor.offset + tensor.n_bytes > data.n_bytes - start:
            refuse(
                path,
                f"is cut off: tensor {tensor.name!r} ends at byte "
                f"{start + tensor.offset + tensor.n_bytes:,} and the file at {data.n_bytes:,}",
            )
    return Header(data.n_bytes, values, tensors)


def _odd_version(version: int) -> str:
    if version & 0xFFFF == 0 and version:
        return "is a GGUF file for a machine of the other byte order"
    return f"is GGUF version {version}, and versions 2 and 3 can be read"


def _value(data: _Bytes, key: str) -> Scalar | Array:
    what = f"metadata value {key!r}"
    kind = data.number(_U32, what)
    if kind == STRING:
        return data.text(_MAX_TEXT_BYTES, what)
    if kind in _SCALARS:
        scalar = _SCALARS[kind]
        return cast("Scalar", scalar.unpack(data.take(scalar.size, what))[0])
    if kind != _ARRAY:
        refuse(data.path, f"is damaged: {what} has the unknown type {kind}")
    item_type = data.number(_U32, what)
    n_items = data.number(_U64, what)
    if n_items > _MAX_ARRAY_ITEMS:
        refuse(data.path, f"is damaged: {what} claims {n_items:,} items")
    if item_type == STRING:
        data.skip_texts(n_items, what)
    elif item_type in _SCALARS:
        data.skip(n_items * _SCALARS[item_type].size, what)
    else:
        refuse(data.path, f"is damaged: {what} is an array of the unknown type {item_type}")
    return Array(item_type, n_items)


def _alignment(path: Path, values: dict[str, Scalar | Array]) -> int:
    alignment = values.get("general.alignment", 32)
    if (
        not isinstance(alignment, int)
        or isinstance(alignment, bool)
        or not 0 < alignment <= _MAX_ALIGNMENT
        or alignment & (alignment - 1)
    ):
        refuse(path, f"is damaged: it is aligned to {alignment!r}, which is no power of two")
    return alignment


def _tensors(data: _Bytes, n_tensors: int) -> list[Tensor]:
    tensors: list[Tensor] = []
    names: set[str] = set()
    for index in range(n_tensors):
        tensor = _tensor(data, index)
        if tensor.name in names:
            refuse(data.path, f"is damaged: it has two tensors named {tensor.name!r}")
        names.add(tensor.name)
        tensors.append(tensor)
    return tensors


def _tensor(data: _Bytes, index: int) -> Tensor:
    name = data.text(_MAX_NAME_BYTES, f"the name of tensor {index}")
    what = f"tensor {name!r}"
    n_dims = data.number(_U32, what)
    if n_dims > _MAX_DIMS:
        refuse(data.path, f"is damaged: {what} has {n_dims:,} dimensions")
    dims = [data.number(_U64, what) for _ in range(n_dims)]
    kind = data.number(_U32, what)
    offset = data.number(_U64, what)
    if kind not in TENSOR_TYPES:
        refuse(
            data.path,
            f"has {what} in the unknown format {kind}",
            remedy="take another quantisation, or update lsp-assist",
        )
    _, n_weights, n_block_bytes = TENSOR_TYPES[kind]
    n_elements = 1
    for dim in dims:
        n_elements *= dim
    # Python's integers do not overflow; the limit keeps the products of C within 63 bits.
    if not 0 < n_elements < 1 << 56:
        refuse(data.path, f"is damaged: {what} has the shape {dims!r}")
    if (dims[0] if dims else 1) % n_weights:
        refuse(data.path, f"is damaged: rows of {what} do not divide into blocks of {n_weights}")
    return Tensor(name, kind, n_elements, n_elements // n_weights * n_block_bytes, offset)
