"""safetensors headers: the good ones as the reference library writes them, and everything that can be wrong."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from mlxnb.errors import DamagedModelError
from mlxnb.models.headers import MAX_HEADER, Tensor, read_header


def build(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file's bytes from its header (JSON or bytes)."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw) if length is None else length) + raw + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def test_a_real_file(tmp_path: Path) -> None:
    tensors = {"a": np.zeros((3, 5), np.float16), "b": np.zeros((0, 4), np.int64), "c": np.ones((), np.float32)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path / "x.safetensors")
    assert {name: (t.dtype, t.shape, t.elements) for name, t in header.items()} == {
        "a": ("F16", (3, 5), 15),
        "b": ("I64", (0, 4), 0),
        "c": ("F32", (), 1),
    }


BAD = {
    "empty": (b"", "is empty"),
    "seven bytes": (b"\0" * 7, "does not begin"),
    "zeros": (b"\0" * 64, "does not begin"),
    "text": (b"<html>404 not found</html>", "does not begin"),
    "a git lfs pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
    "too long a header": (build({}, length=MAX_HEADER + 1), "does not begin"),
    "cut in the header": (build({"a": entry()})[:-20], "is cut off"),
    "garbage": (build(b"\xff" * 30), "not JSON"),
    "deep": (build(b"[" * 100_000), "not JSON"),
    "a list": (build([1, 2]), "not a JSON object"),
    "a number too long": (build(b'{"a":' + b"9" * 5000 + b"}"), "not JSON"),
    "an entry that is none": (build({"a": 5}), "'a' by something"),
    "a dtype that is none": (build({"a": entry(dtype="Q4_K")}, b"\0" * 8), "unknown dtype 'Q4_K'"),
    "a dtype that is a list": (build({"a": entry(dtype=["F32"])}, b"\0" * 8), "unknown dtype"),
    "a negative shape": (build({"a": entry(shape=[-2])}, b"\0" * 8), "the shape"),
    "a shape of bools": (build({"a": entry(shape=[True, 2])}, b"\0" * 8), "the shape"),
    "too many dimensions": (build({"a": entry(shape=[1] * 99)}, b"\0" * 8), "the shape"),
    "offsets backwards": (build({"a": entry(offsets=[8, 0])}, b"\0" * 8), "place"),
    "three offsets": (build({"a": entry(offsets=[0, 8, 8])}, b"\0" * 8), "place"),
    "a size that does not match": (build({"a": entry(offsets=[0, 4])}, b"\0" * 8), "place"),
    "an overlap": (build({"a": entry(), "b": entry(offsets=[4, 12])}, b"\0" * 12), "overlap before 'b'"),
    "a gap": (build({"a": entry(), "b": entry(offsets=[12, 20])}, b"\0" * 20), "gap before 'b'"),
    "out of range": (build({"a": entry()}, b"\0" * 4), "4 bytes of 8 bytes of weights are missing"),
    "far out of range": (build({"a": entry(shape=[2**61], offsets=[0, 2**63])}, b""), "place"),
    "bytes to spare": (build({"a": entry()}, b"\0" * 9), "1 byte after its last tensor"),
    "a deep shape": (build(b'{"a":{"dtype":"F32","shape":' + b"[" * 700 + b"]" * 700 + b"}}"), "[[[[[[[...]]]]]]]"),
    "a name of a page": (build({"a" * 5000: 5}), "..."),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_named(case: str, tmp_path: Path) -> None:
    data, says = BAD[case]
    file = tmp_path / "model.safetensors"
    file.write_bytes(data)
    with pytest.raises(DamagedModelError) as caught:
        read_header(file)
    assert says in caught.value.message
    assert caught.value.message.startswith("model.safetensors ")
    assert caught.value.remedy
    assert len(str(caught.value)) < 250
    with pytest.raises(SafetensorError), safe_open(file, "np"):  # the reference reader agrees
        pass


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DamagedModelError, match="cannot be read"):
        read_header(tmp_path / "none.safetensors")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_in_a_files_place(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(DamagedModelError, match="is no regular file"):
        read_header(tmp_path / "model.safetensors")


def read(data: bytes, file: Path) -> dict[str, Tensor] | None:
    file.write_bytes(data)
    try:
        return read_header(file)
    except DamagedModelError:
        return None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
likely = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "F16", "F4", "BOOL", "Q4"]) | json_values,
        "shape": st.lists(st.integers(-1, 4), max_size=3) | json_values,
        "data_offsets": st.lists(st.integers(-1, 2**64), max_size=3) | json_values,
    }
)


@settings(max_examples=400, deadline=None)
@given(data=st.binary(max_size=200))
@example(data=b"\x02\0\0\0\0\0\0\0{}")
def test_random_bytes_raise_nothing_else(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    read(data, tmp_path_factory.getbasetemp() / "random.safetensors")


@settings(max_examples=400, deadline=None)
@given(header=st.dictionaries(st.text(max_size=8), likely | json_values, max_size=3), data=st.binary(max_size=64))
def test_random_headers_are_taken_only_where_the_reference_takes_them(
    header: Any, data: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "headers.safetensors"
    tensors = read(build(header, data), file)
    if tensors is not None and "__metadata__" not in header:
        with safe_open(file, "np") as reference:
            assert set(reference.keys()) == set(tensors)


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 400), bit=st.integers(0, 7))
def test_a_flipped_bit_is_seen_or_harmless(position: int, bit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    save_file({"a": np.zeros((3, 5), np.float16), "b": np.zeros((4, 4), np.float32)}, file)
    data = bytearray(file.read_bytes())
    data[position % len(data)] ^= 1 << bit
    tensors = read(bytes(data), file)
    if tensors is not None:
        assert sum(tensor.end - tensor.begin for tensor in tensors.values()) == 30 + 64
