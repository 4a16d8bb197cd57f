import ctypes
import os
import struct
from pathlib import Path

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lsp_assist.engine.gguf import read_model_file
from lsp_assist.engine.gguf_format import TENSOR_TYPES, read_header
from lsp_assist.engine.libllama import library
from lsp_assist.errors import ModelFileError
from tests.engine.templates import CHATML
from tests.engine.tiny import make_model

U32, F32, STRING, ARRAY, U64, I32 = 4, 6, 8, 9, 10, 5


def text(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(key: str, kind: int, data: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + data


def number(key: str, n: int) -> bytes:
    return value(key, U32, struct.pack("<I", n))


def array(key: str, kind: int, n: int, data: bytes) -> bytes:
    return value(key, ARRAY, struct.pack("<IQ", kind, n) + data)


VALUES = {
    "general.architecture": value("general.architecture", STRING, text("llama")),
    "context": number("llama.context_length", 512),
    "blocks": number("llama.block_count", 2),
    "embedding": number("llama.embedding_length", 64),
    "heads": number("llama.attention.head_count", 2),
    "tokenizer": value("tokenizer.ggml.model", STRING, text("gpt2")),
    "tokens": array("tokenizer.ggml.tokens", STRING, 3, text("a") + text("b") + text("c")),
}


def tensor(name: str = "t", *, dims: tuple[int, ...] = (64,), kind: int = 0, at: int = 0) -> bytes:
    head = text(name) + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
    return head + struct.pack("<IQ", kind, at)


def file_of(
    *,
    values: dict[str, bytes] | None = None,
    tensors: tuple[bytes, ...] = (tensor(),),
    version: int = 3,
    n_values: int | None = None,
    n_tensors: int | None = None,
    data: int = 256,
) -> bytes:
    """A GGUF file; the counts are what they are unless said otherwise."""
    given_values = VALUES if values is None else values
    head = b"GGUF" + struct.pack(
        "<IQQ",
        version,
        len(tensors) if n_tensors is None else n_tensors,
        len(given_values) if n_values is None else n_values,
    )
    head += b"".join(given_values.values()) + b"".join(tensors)
    return head + bytes(-len(head) % 32) + bytes(data)


def check_refused(path: Path, data: bytes, expected: str) -> None:
    """The message names the file, says what is wrong, and ends with a remedy."""
    path = path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ModelFileError) as raised:
        read_model_file(path)
    message = str(raised.value)
    assert expected in message
    assert repr(str(path)) in message
    assert message.count(";") >= 1
    assert message.endswith(".")


def test_what_a_header_says(tiny: Path) -> None:
    file = read_model_file(tiny)
    assert file.path == tiny
    assert file.n_bytes == tiny.stat().st_size
    assert (file.architecture, file.name, file.quantisation) == ("llama", "tiny", "F32")
    assert (file.n_ctx_train, file.n_layers, file.head_dim) == (512, 2, 32)
    assert file.chat_template == CHATML
    reader = gguf.GGUFReader(tiny)
    assert file.n_params == sum(int(tensor.n_elements) for tensor in reader.tensors)
    assert file.n_vocab == len(reader.fields["tokenizer.ggml.tokens"].data)


def test_the_smallest_file_that_passes(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(file_of())
    file = read_model_file(path)
    assert (file.name, file.n_params, file.n_vocab, file.chat_template) == ("model", 64, 3, "")


def test_a_large_vocabulary_is_passed_over(tmp_path: Path) -> None:
    """Strings that straddle the pieces in which the file is read."""
    path = make_model(tmp_path / "large.gguf", n_vocab=100_000)
    assert read_model_file(path).n_vocab == 100_000


def test_quantisation_is_told_by_the_weights_where_the_file_does_not_say(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(file_of(tensors=(tensor("a", kind=8), tensor("b", dims=(4,), at=96))))
    assert read_model_file(path).quantisation == "Q8_0"


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"GG", "is not a GGUF file", id="two bytes"),
        pytest.param(b"GGUF", "cut off", id="magic only"),
        pytest.param(b"import os\n" * 9, "is not a GGUF file: it begins with b'impo'", id="text"),
        pytest.param(
            struct.pack("<Q", 99) + b'{"a":{"dtype":"F32"}}', "is not a GGUF", id="safetensors"
        ),
        pytest.param(file_of(version=1), "GGUF version 1", id="version 1"),
        pytest.param(file_of(version=99), "GGUF version 99", id="version 99"),
        pytest.param(file_of(version=3 << 24), "other byte order", id="big endian"),
        pytest.param(file_of(n_values=1 << 60), "claims", id="many values"),
        pytest.param(file_of(n_values=60_000), "is damaged", id="more values than bytes"),
        pytest.param(file_of(n_tensors=1 << 63), "claims", id="many tensors"),
        pytest.param(
            file_of(values=VALUES | {"twice": VALUES["blocks"]}), "twice", id="a key twice"
        ),
        pytest.param(
            file_of(values=VALUES | {"x": text("k") + struct.pack("<I", 77)}),
            "unknown type 77",
            id="unknown type",
        ),
        pytest.param(
            file_of(values=VALUES | {"x": array("k", ARRAY, 1, bytes(12))}),
            "array of the unknown type 9",
            id="array of arrays",
        ),
        pytest.param(
            file_of(values=VALUES | {"x": array("k", U64, 1 << 61, b"")}),
            "claims",
            id="an array whose bytes overflow",
        ),
        pytest.param(
            file_of(values=VALUES | {"x": value("k", STRING, struct.pack("<Q", 1 << 40))}),
            "claims",
            id="a string of a terabyte",
        ),
        pytest.param(
            file_of(values=VALUES | {"x": array("k", STRING, 1, struct.pack("<Q", (1 << 64) - 1))}),
            "beyond the file's end",
            id="a string in an array that overflows",
        ),
        pytest.param(
            file_of(values=VALUES | {"x": value("k", STRING, struct.pack("<Q", 1) + b"\xff")}),
            "not UTF-8",
            id="no UTF-8",
        ),
        pytest.param(
            file_of(values=VALUES | {"x": number("general.alignment", 0)}),
            "power of two",
            id="alignment 0",
        ),
        pytest.param(
            file_of(values=VALUES | {"x": number("general.alignment", 48)}),
            "power of two",
            id="alignment 48",
        ),
        pytest.param(file_of(tensors=()), "no tensors", id="no tensors"),
        pytest.param(file_of(tensors=(tensor(), tensor(at=128))), "two tensors", id="twins"),
        pytest.param(file_of(tensors=(tensor("x" * 64),)), "claims 64 bytes", id="long name"),
        pytest.param(file_of(tensors=(tensor(dims=(1,) * 5),)), "5 dimensions", id="dimensions"),
        pytest.param(file_of(tensors=(tensor(dims=(0,)),)), "the shape [0]", id="no elements"),
        pytest.param(
            file_of(tensors=(tensor(dims=(1 << 40, 1 << 40)),)), "the shape", id="shape overflows"
        ),
        pytest.param(file_of(tensors=(tensor(kind=4),)), "unknown format 4", id="removed type"),
        pytest.param(file_of(tensors=(tensor(kind=12),)), "blocks of 256", id="broken rows"),
        pytest.param(file_of(tensors=(tensor(at=8),)), "not aligned", id="unaligned"),
        pytest.param(file_of(tensors=(tensor(at=32),)), "is cut off", id="beyond the end"),
        pytest.param(
            file_of(tensors=(tensor(at=(1 << 64) - 32),)), "is cut off", id="offset overflows"
        ),
        pytest.param(file_of(data=255), "is cut off", id="a byte short"),
        pytest.param(
            file_of(values=VALUES | {"x": number("split.no", 1)}), "later part", id="second part"
        ),
        pytest.param(
            file_of(values=VALUES | {"x": number("split.count", 2)}),
            "not named like one",
            id="a part without siblings",
        ),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, data: bytes, expected: str) -> None:
    check_refused(tmp_path, data, expected)


@pytest.mark.parametrize("missing", VALUES)
def test_what_every_model_needs_must_be_there(tmp_path: Path, missing: str) -> None:
    values = {key: data for key, data in VALUES.items() if key != missing}
    if missing == "heads":  # models without attention have none
        (tmp_path / "model.gguf").write_bytes(file_of(values=values))
        assert read_model_file(tmp_path / "model.gguf").head_dim == 0
    else:
        check_refused(tmp_path, file_of(values=values), "")


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("general.architecture", value("general.architecture", STRING, text("../../etc"))),
        ("general.architecture", number("general.architecture", 1)),
        ("context", number("llama.context_length", 0)),
        ("context", value("llama.context_length", STRING, text("512"))),
        ("blocks", number("llama.block_count", 1_000_000)),
        ("heads", number("llama.attention.head_count", 65)),
        ("tokens", array("tokenizer.ggml.tokens", U32, 3, bytes(12))),
        ("scores", array("tokenizer.ggml.scores", F32, 2, bytes(8))),
        ("scores", array("tokenizer.ggml.scores", I32, 3, bytes(12))),
        ("types", array("tokenizer.ggml.token_type", I32, 1, bytes(4))),
        ("types", array("tokenizer.ggml.token_type", STRING, 3, text("") * 3)),
        ("merges", array("tokenizer.ggml.merges", U32, 3, bytes(12))),
        ("eos", number("tokenizer.ggml.eos_token_id", 3)),
    ],
)
def test_metadata_that_llama_cpp_would_trust_is_checked(
    tmp_path: Path, key: str, data: bytes
) -> None:
    """llama.cpp reads as many scores as there are tokens, however many the file has."""
    check_refused(tmp_path, file_of(values=VALUES | {key: data}), "")


def test_a_model_in_two_files_is_read_as_one(tmp_path: Path) -> None:
    first = file_of(values=VALUES | {"n": number("split.count", 2), "i": number("split.no", 0)})
    second = file_of(
        values={"n": number("split.count", 2), "i": number("split.no", 1)}, tensors=(tensor("u"),)
    )
    path = tmp_path / "m-00001-of-00002.gguf"
    path.write_bytes(first)
    with pytest.raises(ModelFileError, match=r"m-00002-of-00002\.gguf' is not there"):
        read_model_file(path)
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(second)
    file = read_model_file(path)
    assert (file.n_params, file.n_bytes) == (128, len(first) + len(second))
    (tmp_path / "m-00002-of-00002.gguf").write_bytes(second[:-1])
    with pytest.raises(ModelFileError, match=r"m-00002-of-00002\.gguf' is cut off"):
        read_model_file(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name, expected in {
        "": "is a folder",
        "missing.gguf": "is not there",
        "pipe": "is no regular file",
        "loop": "cannot be opened",
        "a\0b": "cannot be opened",
    }.items():
        with pytest.raises(ModelFileError, match=expected):
            read_model_file(tmp_path / name)


@given(
    cut=st.one_of(st.none(), st.integers(0, 1 << 20)),
    flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=6),
)
def test_random_damage_is_refused_or_harmless(
    tiny: Path,
    tmp_path_factory: pytest.TempPathFactory,
    cut: int | None,
    flips: list[tuple[int, int]],
) -> None:
    data = bytearray(tiny.read_bytes())
    n_header = len(data) - 4 * read_model_file(tiny).n_params
    for at, byte in flips:
        data[at % n_header] = byte
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(data if cut is None else data[: cut % len(data)])
    try:
        header = read_header(path)
        file = read_model_file(path)
    except ModelFileError:
        return
    assert sum(tensor.n_bytes for tensor in header.tensors) <= path.stat().st_size
    assert file.n_vocab > 0


@given(st.binary(max_size=300))
def test_random_bytes_after_the_magic_are_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "random.gguf"
    path.write_bytes(b"GGUF" + data)
    with pytest.raises(ModelFileError):
        read_model_file(path)


def test_tensor_types_are_those_of_the_library() -> None:
    """The table says the sizes that the llama.cpp at hand computes with, and misses no type."""
    llama = library()
    name = "ggml-base.dll" if os.name == "nt" else "libggml-base.so"
    assert llama.__file__
    ggml = ctypes.CDLL(str(Path(llama.__file__).parent / "lib" / name))
    ggml.ggml_type_name.restype = ctypes.c_char_p
    ggml.ggml_type_size.restype = ctypes.c_size_t
    ggml.ggml_blck_size.restype = ctypes.c_int64
    known = {
        kind: (ggml.ggml_type_name(kind).decode().upper(), ggml.ggml_blck_size(kind), size)
        for kind in range(llama.GGML_TYPE_COUNT)
        if (size := ggml.ggml_type_size(kind))
    }
    assert known == TENSOR_TYPES
