"""Which weights an ONNX file has is read as the onnx package reads it, and no file makes the reader do more."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.errors import DamagedModelError
from mlxnb.models.onnx_header import read_graph

onnx = pytest.importorskip("onnx", reason="writes the files; pip install 'mlxnb[onnx]'")

TYPES = {np.float32: "float32", np.float16: "float16"}
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3)


def save(path: Path, arrays: dict[str, np.ndarray], nodes=(), external: bool = True) -> Path:
    weights = [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()]
    nodes = list(nodes) or [onnx.helper.make_node("Identity", [next(iter(arrays))], ["out"])]
    out = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [out], weights))
    aside = {"save_as_external_data": True, "location": f"{path.name}.data", "size_threshold": 0} if external else {}
    onnx.save(model, path, **aside)
    return path


@settings(max_examples=40)
@given(shapes=st.lists(shapes, min_size=1, max_size=6), kind=st.sampled_from(list(TYPES)), external=st.booleans())
def test_names_shapes_and_sizes_are_those_that_were_written(tmp_path_factory, shapes, kind, external):
    arrays = {f"w{i}": np.ones(shape, kind) for i, shape in enumerate(shapes)}
    graph = read_graph(save(tmp_path_factory.mktemp("onnx") / "model.onnx", arrays, external=external))
    assert {name: weight.shape for name, weight in graph.weights.items()} == {n: a.shape for n, a in arrays.items()}
    assert graph.parameters == sum(array.size for array in arrays.values())
    assert graph.nbytes == sum(array.nbytes for array in arrays.values())
    assert graph.dtype == TYPES[kind]


@pytest.mark.parametrize("bits", [4, 8])
def test_packed_weights_count_unpacked_and_their_scales_do_not(tmp_path, bits):
    rows, columns, block = 6, 64, 32
    arrays = {
        "packed": np.zeros((rows, columns // block, block * bits // 8), np.uint8),
        "scales": np.ones((rows, columns // block), np.float32),
        "norm": np.ones(rows, np.float32),
    }
    node = onnx.helper.make_node(
        "MatMulNBits", ["x", "packed", "scales"], ["out"], domain="com.microsoft", K=columns, N=rows, bits=bits
    )
    graph = read_graph(save(tmp_path / "model.onnx", arrays, [node]))
    assert graph.packed == {"packed": bits}
    assert graph.parameters == rows * columns + rows


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save(tmp_path / "model.onnx", {"w": np.arange(4000, dtype=np.float32), "v": np.ones(3, np.float32)})


def test_a_cut_file_of_weights_is_told_with_what_is_missing(file):
    weights = file.with_name("model.onnx.data")
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(DamagedModelError, match=r"model\.onnx\.data is cut off: 15\.0 kB are missing after 'w'"):
        read_graph(file)
    weights.unlink()
    with pytest.raises(DamagedModelError, match=r"model\.onnx\.data is missing"):
        read_graph(file)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a\\b", ""])
def test_weights_lie_in_the_folder_or_nowhere(tmp_path, name):
    path = save(tmp_path / "model.onnx", {"w": np.ones(3, np.float32)})
    model = onnx.load(path, load_external_data=False)
    [tensor] = model.graph.initializer
    next(entry for entry in tensor.external_data if entry.key == "location").value = name
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DamagedModelError, match="no file of its own folder"):
        read_graph(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"\x00" * 50, "no ONNX file"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "cut off"),
        (b"\x08\x07", "holds no weights"),
    ],
)
def test_what_is_no_model_is_said(tmp_path, content, said):
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(DamagedModelError, match=said):
        read_graph(tmp_path / "model.onnx")


@settings(max_examples=300)
@given(data=st.data())
def test_no_damage_is_more_than_a_damaged_model(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("hurt")
    whole = bytearray(save(folder / "whole.onnx", {"w": np.ones((3, 4), np.float32)}).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    del whole[data.draw(st.integers(1, len(whole))) :]
    hurt = folder / "hurt.onnx"
    hurt.write_bytes(whole)
    with contextlib.suppress(DamagedModelError):
        read_graph(hurt)
