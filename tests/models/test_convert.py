"""Converting without MLX: what mlx-lm writes, bit for bit."""

from __future__ import annotations

import json

import pytest

from mlxnb.errors import OptionError, UnsupportedModelError
from mlxnb.models import ModelSource
from mlxnb.models.convert import CONVERTIBLE, Quantisation, convert
from tests.models.mlx_folders import TYPES, converted, make
from tests.tiny import FAMILIES

pytest.importorskip("mlx_lm")
torch = pytest.importorskip("torch")

SAME_TYPE = {"qwen2-tied-yarn": "qwen2", "llama-biases": "llama", "gemma3": "gemma3_text", "phi3-partial": "phi3"}


def everything(folder):
    from safetensors import safe_open

    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            assert file.metadata() == {"format": "mlx"}
            found |= {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    return found


def assert_equal(ours, theirs):
    a, b = everything(ours), everything(theirs)
    assert set(a) == set(b)
    for name in a:
        assert (a[name].dtype, a[name].shape) == (b[name].dtype, b[name].shape), name
        assert torch.equal(a[name].view(torch.uint8), b[name].view(torch.uint8)), name
    for file in ("config.json", "model.safetensors.index.json"):
        assert json.loads((ours / file).read_text()) == json.loads((theirs / file).read_text()), file
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}


@pytest.mark.parametrize("family", sorted({"qwen2", "qwen3", "llama", "gemma", "mistral", *SAME_TYPE, *TYPES}))
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        ("bfloat16", {"q_bits": 4, "q_group_size": 32}),
        ("float32", {"q_bits": 6, "q_group_size": 64, "dtype": "float16"}),
    ],
)
def test_quantised_as_mlx_lm_does_it(family, dtype, options, tmp_path):
    source = make(family, tmp_path / "source", dtype)
    theirs = converted(source, tmp_path / "theirs", quantize=True, **options)
    how = Quantisation(options["q_group_size"], options["q_bits"])
    bits = convert(ModelSource("it", source, "path"), tmp_path / "ours", how, options.get("dtype"))
    assert_equal(tmp_path / "ours", theirs)
    assert options["q_bits"] < bits < 16


@pytest.mark.parametrize("family", ["llama", "qwen3-moe"])
def test_plain_as_mlx_lm_does_it(family, tmp_path):
    source = make(family, tmp_path / "source")
    theirs = converted(source, tmp_path / "theirs", dtype="bfloat16")
    assert convert(ModelSource("it", source, "path"), tmp_path / "ours", None, "bfloat16") == 16
    assert_equal(tmp_path / "ours", theirs)


def test_several_files_when_they_get_large(tmp_path, monkeypatch, checkpoint):
    monkeypatch.setattr("mlxnb.models.convert.SHARD_BYTES", 100_000)
    source = ModelSource("it", checkpoint("llama"), "path")
    convert(source, tmp_path / "many", Quantisation(32, 4), None)
    monkeypatch.setattr("mlxnb.models.convert.SHARD_BYTES", 5 << 30)
    convert(source, tmp_path / "one", Quantisation(32, 4), None)
    names = sorted(path.name for path in (tmp_path / "many").glob("*.safetensors"))
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    assert len(names) > 1
    many, one = everything(tmp_path / "many"), everything(tmp_path / "one")
    assert all(torch.equal(many[name].view(torch.uint8), one[name].view(torch.uint8)) for name in one)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(one)


def test_a_conversion_that_fails_leaves_nothing(tmp_path, monkeypatch, checkpoint):
    def fail(*_):
        raise RuntimeError("no more room")

    monkeypatch.setattr("mlxnb.models.convert.quantise", fail)
    with pytest.raises(RuntimeError, match="no more room"):
        convert(ModelSource("it", checkpoint("llama"), "path"), tmp_path / "out" / "m", Quantisation(), None)
    assert list((tmp_path / "out").iterdir()) == []


def test_what_cannot_be_converted_is_refused(tmp_path, checkpoint):
    source, tmp_path = ModelSource("it", checkpoint("llama"), "path"), tmp_path / "out"
    convert(source, tmp_path / "m", Quantisation(32, 4), None)
    with pytest.raises(OptionError, match="already exists"):
        convert(source, tmp_path / "m", None, None)
    with pytest.raises(UnsupportedModelError, match="converted or quantised already"):
        convert(ModelSource("m", tmp_path / "m", "path"), tmp_path / "again", None, None)
    with pytest.raises(UnsupportedModelError, match="falcon_h1 is not known"):
        convert(ModelSource("it", checkpoint("falcon-h1"), "path"), tmp_path / "f", None, None)
    with pytest.raises(OptionError, match=r"q_bits is 7\. It takes 2, 3"):
        Quantisation(64, 7)
    with pytest.raises(OptionError, match=r"q_group_size is 48"):
        Quantisation(48, 4)
    with pytest.raises(OptionError, match="dtype is 'int8'"):
        convert(source, tmp_path / "d", None, "int8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_every_convertible_type_is_tested():
    import transformers

    plain = ("qwen2", "qwen3", "llama", "gemma", "mistral", *SAME_TYPE)
    classes = {*(name for name, _ in TYPES.values()), *(FAMILIES[family][0] for family in plain)}
    assert {getattr(transformers, name).model_type for name in classes} == CONVERTIBLE
