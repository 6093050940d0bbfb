"""The file of an entry: what was written is read, the library reads it too, and no damage goes unnoticed."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import deserialize

from mlxnb.cache import HostArray
from mlxnb.cache.entry_file import ALONE, ASIDE, DamagedEntryError, Entry, read_arrays, read_head, write
from mlxnb.cache.states import BITS, NUMPY, tokens_of

ENTRY = Entry(
    "a namespace",
    (5, 2**32 - 1, 0),
    False,
    {"layer.0": HostArray.of(np.arange(12, dtype="<u2").reshape(3, 4), "BF16"), "at": HostArray.of(np.array([7]))},
    {"window": "none"},
)


def read(path):
    head = read_head(path)
    return head, read_arrays(path, head)


@st.composite
def host_arrays(draw):
    name = draw(st.sampled_from([*NUMPY, *BITS]))
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    kind = np.dtype({**NUMPY, **BITS}[name])
    size = int(np.prod(shape)) * kind.itemsize
    raw = draw(st.binary(min_size=size, max_size=size))
    values = np.frombuffer(raw, np.uint8) & 1 if name == "BOOL" else np.frombuffer(raw, np.uint8)
    return HostArray.of(values.view(kind).reshape(shape), name)


@given(
    namespace=st.text(),
    tokens=st.lists(st.integers(0, 2**32 - 1), max_size=20),
    whole_only=st.booleans(),
    arrays=st.dictionaries(st.text(), host_arrays(), max_size=4),
    meta=st.dictionaries(st.text(), st.text(), max_size=3),
)
def test_what_is_written_is_read(tmp_path_factory, namespace, tokens, whole_only, arrays, meta):
    path = tmp_path_factory.mktemp("entry") / "e.safetensors"
    size = write(Entry(namespace, tokens, whole_only, arrays, meta), path)
    head, found = read(path)
    assert (head.namespace, tokens_of(head.key), head.whole_only, head.meta) == (namespace, tokens, whole_only, meta)
    assert {n: (a.dtype, a.shape, bytes(a.view)) for n, a in found.items()} == {
        n: (a.dtype, a.shape, bytes(a.view)) for n, a in arrays.items()
    }
    assert size == path.stat().st_size
    assert [p.name for p in path.parent.iterdir()] == ["e.safetensors"]


def test_the_library_reads_the_file(tmp_path):
    path = tmp_path / "e.safetensors"
    write(ENTRY, path)
    tensors = dict(deserialize(path.read_bytes()))
    assert tensors["state.layer.0"]["dtype"] == "BF16"
    assert tensors["state.layer.0"]["shape"] == [3, 4]
    assert bytes(tensors["state.layer.0"]["data"]) == bytes(ENTRY.arrays["layer.0"].view)
    assert np.frombuffer(bytes(tensors["tokens"]["data"]), "<u4").tolist() == list(ENTRY.tokens)


def test_a_large_state_is_read_by_several_threads(tmp_path):
    path, random = tmp_path / "e.safetensors", np.random.default_rng(0)
    arrays = {str(n): HostArray.of(random.integers(0, 255, ALONE // 4, np.uint8)) for n in range(5)}
    write(Entry("n", (1, 2), True, arrays, {}), path)
    head, found = read(path)
    assert all((found[n].data == arrays[n].data).all() for n in arrays)
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DamagedEntryError, match="altered"):
        read_arrays(path, head)


def test_every_flipped_bit_is_found(tmp_path):
    path = tmp_path / "e.safetensors"
    write(ENTRY, path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in (0, 5, 7):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            with pytest.raises(DamagedEntryError):
                read(path)


def test_every_cut_and_every_addition_is_found(tmp_path):
    path = tmp_path / "e.safetensors"
    write(ENTRY, path)
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedEntryError):
            read(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(DamagedEntryError):
        read(path)


@given(st.binary(max_size=300))
def test_garbage_is_damage(tmp_path_factory, garbage):
    path = tmp_path_factory.mktemp("entry") / "e.safetensors"
    for content in (garbage, struct.pack("<Q", len(garbage)) + garbage, struct.pack("<Q", 2) + b"{}" + garbage):
        path.write_bytes(content)
        with pytest.raises(DamagedEntryError):
            read(path)


@pytest.mark.parametrize("metadata", [{}, {"format": "pt"}, {"header_checksum": "x"}, {"header_checksum": 7}, 3, None])
def test_a_foreign_file_is_damage(tmp_path, metadata):
    header = json.dumps({"__metadata__": metadata}).encode()
    path = tmp_path / "e.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    with pytest.raises(DamagedEntryError):
        read(path)


def test_another_version_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "e.safetensors"
    monkeypatch.setattr("mlxnb.cache.entry_file.VERSION", "2")
    write(ENTRY, path)
    monkeypatch.undo()
    with pytest.raises(DamagedEntryError, match="format '2'"):
        read(path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "e.safetensors"
    write(ENTRY, path)
    before = path.read_bytes()

    def full(descriptor):
        assert [p.suffix for p in tmp_path.iterdir()].count(ASIDE) == 1
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(ENTRY, path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_numpy_has_no_name_for_it():
    with pytest.raises(ValueError, match="complex128"):
        HostArray.of(np.zeros(2, np.complex128))
    with pytest.raises(ValueError, match="BF16"):
        HostArray.of(np.zeros(2, np.float32), "BF16")
