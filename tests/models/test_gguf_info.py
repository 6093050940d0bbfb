"""GGUF headers: good ones as the gguf package writes them, and everything that can be wrong with a file."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.errors import DamagedModelError, NotAModelError
from mlxnb.models.gguf_header import KEPT, MAX_ENTRIES, Long, read_gguf
from mlxnb.models.gguf_info import gguf_info, models_in
from mlxnb.models.gguf_types import NUMBERS, TYPES

gguf = pytest.importorskip("gguf", reason="gguf writes the files that are read here")


def write(path: Path, arch: str = "qwen3", tokens: int = 40, **kinds: Any) -> Path:
    """A model of two tensors and a vocabulary; `kinds` gives tensors of another type by name."""
    writer = gguf.GGUFWriter(path, arch)
    writer.add_name("tiny <b>model</b>")
    writer.add_context_length(2048)
    writer.add_block_count(3)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv([2, 1, 2])
    writer.add_key_length(32)
    writer.add_value_length(16)
    writer.add_token_list([f"t{i}" for i in range(tokens)])
    writer.add_chat_template("{{ messages }}")
    for name, kind in ({"a.weight": "F16", "b.weight": "F32"} | kinds).items():
        numbers = np.zeros((4, 64), np.float32)
        kept = gguf.quants.quantize(numbers, gguf.GGMLQuantizationType[kind])
        writer.add_tensor(name, kept, raw_dtype=gguf.GGMLQuantizationType[kind])
    writer.add_tensor("norm.weight", np.ones(64, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("gguf") / "good.gguf")


def test_what_a_model_is(good: Path) -> None:
    info = gguf_info(good)
    assert (info.architecture, info.name, info.context_length) == ("qwen3", "tiny <b>model</b>", 2048)
    assert (info.layers, info.heads, info.kv_heads, info.head_dim, info.value_dim) == (3, 4, 2, 32, 16)
    assert (info.hidden, info.vocabulary, info.template, info.files) == (64, 40, True, (good,))
    assert (info.parameters, info.weight_bytes) == (2 * 4 * 64 + 64, 4 * 64 * (2 + 4) + 64 * 4)
    assert info.quantization is None
    assert info.kv_width == 2 * (32 + 16)


def test_a_quantised_model_says_what_most_of_it_is_in(tmp_path: Path) -> None:
    path = write(tmp_path / "q.gguf", **{"c.weight": "Q8_0", "d.weight": "Q8_0", "e.weight": "Q8_0"})
    assert gguf_info(path).quantization == "Q8_0"
    assert 8 < gguf_info(path).bits < 20


def test_sizes_of_types_are_those_of_the_gguf_package() -> None:
    theirs = {kind.name: size for kind, size in gguf.constants.GGML_QUANT_SIZES.items()}
    for name, number in NUMBERS.items():
        assert (TYPES[number].block, TYPES[number].size) == theirs[name]
        assert gguf.GGMLQuantizationType(number).name == name


def test_long_lists_are_passed_over(tmp_path: Path) -> None:
    header = read_gguf(write(tmp_path / "long.gguf", tokens=KEPT + 1))
    assert header.metadata["tokenizer.ggml.tokens"] == Long(KEPT + 1)
    assert gguf_info(tmp_path / "long.gguf").vocabulary == KEPT + 1


def entry(key: bytes, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", kind) + value


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def build(
    entries: list[bytes], tensors: list[bytes] = (), data: bytes = b"", counts: tuple[int, int] | None = None
) -> bytes:
    number = counts or (len(tensors), len(entries))
    head = b"GGUF" + struct.pack("<IQQ", 3, *number) + b"".join(entries) + b"".join(tensors)
    return head + b"\0" * (-len(head) % 32) + data


def tensor(name: bytes, shape: tuple[int, ...], kind: int, begin: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, begin)


ARCH = entry(b"general.architecture", 8, text(b"llama"))
BAD = {
    "empty": (b"", "is empty"),
    "short": (b"GGUF", "does not begin like a GGUF"),
    "html": (b"<html>404 not found</html>", "does not begin like a GGUF"),
    "a git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
    "version 1": (b"GGUF" + struct.pack("<III", 1, 0, 0), "version 1"),
    "big-endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "too many entries": (build([], counts=(0, MAX_ENTRIES + 1)), "claims to have"),
    "more entries than there are": (build([ARCH], counts=(0, 2)), "without a name"),
    "a long text": (build([entry(b"k", 8, struct.pack("<Q", 2**40))]), "text of"),
    "a long list": (build([entry(b"k", 9, struct.pack("<IQ", 4, 2**40))]), "cut off inside the list 'k'"),
    "a list of lists": (build([entry(b"k", 9, struct.pack("<IQ", 9, 1))]), "unknown type 9"),
    "a type that is none": (build([entry(b"k", 77, b"")]), "unknown type 77"),
    "a key twice": (build([ARCH, ARCH]), "twice"),
    "no architecture": (build([]), "names no architecture"),
    "no tensor": (build([ARCH]), "holds no tensor"),
    "a count that is a text": (
        build([ARCH, entry(b"llama.block_count", 8, text(b"many"))], [tensor(b"w", (4,), 0, 0)], b"\0" * 16),
        "gives block_count as 'many'",
    ),
    "a negative count": (
        build([ARCH, entry(b"llama.block_count", 5, struct.pack("<i", -1))], [tensor(b"w", (4,), 0, 0)], b"\0" * 16),
        "gives block_count as -1",
    ),
    "five dimensions": (build([ARCH], [tensor(b"w", (1, 1, 1, 1, 1), 0, 0)]), "5 dimensions"),
    "rows that are no whole blocks": (build([ARCH], [tensor(b"w", (33, 2), 8, 0)], b"\0" * 99), "the shape"),
    "a huge shape": (build([ARCH], [tensor(b"w", (2**60, 2**60), 0, 0)]), "the shape"),
    "beyond the end": (build([ARCH], [tensor(b"w", (64,), 0, 0)], b"\0" * 255), "is cut off: 1"),
    "far beyond the end": (build([ARCH], [tensor(b"w", (64,), 0, 2**62)], b"\0" * 256), "is cut off"),
    "out of line": (build([ARCH], [tensor(b"w", (4,), 0, 7)], b"\0" * 64), "not aligned"),
    "a tensor twice": (build([ARCH], [tensor(b"w", (4,), 0, 0)] * 2, b"\0" * 16), "twice"),
    "an odd alignment": (
        build([ARCH, entry(b"general.alignment", 4, struct.pack("<I", 24))], [tensor(b"w", (4,), 0, 0)], b"\0" * 99),
        "alignment as 24",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_is_said(tmp_path: Path, name: str) -> None:
    content, message = BAD[name]
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(DamagedModelError, match=message) as raised:
        gguf_info(tmp_path / "bad.gguf")
    assert "bad.gguf" in raised.value.message
    assert raised.value.remedy


@settings(max_examples=150)
@given(at=st.floats(0, 1), value=st.one_of(st.none(), st.binary(min_size=1, max_size=9)))
def test_a_cut_or_spoilt_file_is_read_or_damaged(good: Path, at: float, value: bytes | None) -> None:
    content = bytearray(good.read_bytes())
    place = int(at * (len(content) - 1))
    if value is None:
        del content[place:]
    else:
        content[place : place + len(value)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.gguf"
        path.write_bytes(content)
        try:
            info = gguf_info(path)
        except (DamagedModelError, NotAModelError):
            return
    assert value is not None or len(content) >= len(good.read_bytes()) - 32  # only padding may be missing
    assert info.parameters >= 0


def test_a_folder_with_one_model(good: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "Model-Q4.gguf")
    write(tmp_path / "mmproj-model.gguf", arch="clip")
    assert gguf_info(tmp_path).path == path
    write(tmp_path / "Model-Q8.gguf")
    with pytest.raises(NotAModelError, match=r"2 GGUF models: Model-Q4\.gguf, Model-Q8\.gguf"):
        gguf_info(tmp_path)


def test_a_folder_without_and_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(NotAModelError, match="holds no GGUF model"):
        gguf_info(tmp_path)
    with pytest.raises(DamagedModelError, match=r"gone\.gguf cannot be read"):
        gguf_info(tmp_path / "gone.gguf")
    with pytest.raises(NotAModelError, match="cannot be read"):
        models_in(tmp_path / "gone")


def test_a_projector_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotAModelError, match="pictures"):
        gguf_info(write(tmp_path / "p.gguf", arch="clip"))


def test_a_model_in_parts(tmp_path: Path) -> None:
    for i in (1, 2):
        write(tmp_path / f"m-0000{i}-of-00002.gguf")
    assert len(gguf_info(tmp_path).files) == 2
    with pytest.raises(NotAModelError, match="part 2"):
        gguf_info(tmp_path / "m-00002-of-00002.gguf")
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(DamagedModelError, match="is missing"):
        gguf_info(tmp_path)
