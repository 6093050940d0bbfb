"""Converting without MLX: what mlx-lm writes, bit for bit."""

from __future__ import annotations

import json
import shutil

import pytest

from mlxnb.conversion import RECIPES, Conversion
from mlxnb.errors import ConversionError, OptionError, TokenizerMissingError, UnsupportedModelError
from mlxnb.models import ModelSource
from mlxnb.models.convert import CONVERTIBLE, Quantisation, convert
from mlxnb.models.convert_to import write
from tests.models.mlx_folders import TYPES, converted, make
from tests.tiny import FAMILIES, save

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


@pytest.mark.parametrize("recipe", sorted(RECIPES))
@pytest.mark.parametrize("family", ["qwen3", "phi3-partial", "qwen3-moe", "granite", "olmoe"])
def test_mixed_recipes_as_mlx_lm_does_them(family, recipe, tmp_path):
    source = make(family, tmp_path / "source", "bfloat16")
    theirs = converted(source, tmp_path / "theirs", quantize=True, quant_predicate=recipe, q_group_size=32)
    bits = convert(ModelSource("it", source, "path"), tmp_path / "ours", Quantisation(32, 4, recipe), None)
    assert_equal(tmp_path / "ours", theirs)
    assert RECIPES[recipe][0] < bits < RECIPES[recipe][1] + 1.1


def test_a_recipe_for_many_layers(tmp_path):
    """Only from eight layers on is there a first and a last eighth."""
    name, differs = FAMILIES["llama"]
    source = save(name, {**differs, "num_hidden_layers": 17}, tmp_path / "source")
    file = source / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "rope_theta": 1e4}))
    theirs = converted(source, tmp_path / "theirs", quantize=True, quant_predicate="mixed_2_6", q_group_size=32)
    convert(ModelSource("it", source, "path"), tmp_path / "ours", Quantisation(32, 4, "mixed_2_6"), None)
    assert_equal(tmp_path / "ours", theirs)
    layers = json.loads((tmp_path / "ours" / "config.json").read_text())["quantization"]
    down = [layers[f"model.layers.{i}.mlp.down_proj"]["bits"] for i in range(17)]
    assert down == [6, 6, 2, 2, 6, 2, 2, 6, 2, 2, 6, 2, 2, 6, 6, 6, 6]


@pytest.mark.parametrize("family", ["phi", "starcoder2"])
def test_a_recipe_for_layers_of_other_names_is_refused(family, tmp_path):
    source = make(family, tmp_path / "source")
    with pytest.raises(ValueError, match="expected keys"):
        converted(source, tmp_path / "theirs", quantize=True, quant_predicate="mixed_3_6", q_group_size=32)
    with pytest.raises(OptionError, match=rf"down_proj layers, and {family} has none"):
        convert(ModelSource("it", source, "path"), tmp_path / "ours", Quantisation(32, 4, "mixed_3_6"), None)
    assert not (tmp_path / "ours").exists()


@pytest.mark.parametrize("family", ["qwen3", "qwen3-moe"])
def test_what_mlx_lm_wrote_whole_can_be_quantised(family, tmp_path):
    plain = converted(make(family, tmp_path / "source"), tmp_path / "plain", dtype="bfloat16")
    theirs = converted(plain, tmp_path / "theirs", quantize=True, q_bits=4, q_group_size=32)
    convert(ModelSource("it", plain, "path"), tmp_path / "ours", Quantisation(32, 4), None)
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
    assert not (tmp_path / "out").exists()  # nor the folder that was made for it


def test_progress_names_each_tensor_and_what_it_raises_leaves_nothing(tmp_path, checkpoint):
    source, heard, tmp_path = ModelSource("it", checkpoint("llama"), "path"), [], tmp_path / "out"

    def stop(done, total, doing):
        if done == 7:
            raise KeyboardInterrupt

    convert(source, tmp_path / "m", None, None, lambda *now: heard.append(now))
    assert [done for done, _, _ in heard] == list(range(len(heard)))
    assert {total for _, total, _ in heard} == {len(heard)}
    assert len({doing for _, _, doing in heard}) == len(heard)
    assert heard[0][2] == "model.embed_tokens"
    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "new" / "deep" / "m", None, None, stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


def test_the_disk_is_looked_at_before_the_work(tmp_path, monkeypatch, checkpoint):
    source, out = ModelSource("it", checkpoint("llama"), "path"), tmp_path / "new"
    need = convert(source, tmp_path / "m", Quantisation(32, 4), None)
    size = (tmp_path / "m" / "model.safetensors").stat().st_size
    assert need > 4
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size // 2))
    with pytest.raises(ConversionError, match=r"m needs \d+ kB of disk and .* has \d+ kB free"):
        convert(source, out / "m", Quantisation(32, 4), None)
    assert not out.exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=size))
    convert(source, out / "m", Quantisation(32, 4), None)  # what was asked for is what it takes, but for the header


def test_what_cannot_be_converted_is_refused(tmp_path, checkpoint):
    source, tmp_path = ModelSource("it", checkpoint("llama"), "path"), tmp_path / "out"
    convert(source, tmp_path / "m", Quantisation(32, 4), None)
    with pytest.raises(OptionError, match="already exists"):
        convert(source, tmp_path / "m", None, None)
    with pytest.raises(UnsupportedModelError, match=r"m is quantised already \(4-bit, group 32\)"):
        convert(ModelSource("m", tmp_path / "m", "path"), tmp_path / "again", None, None)
    with pytest.raises(UnsupportedModelError, match="falcon_h1 is not known"):
        convert(ModelSource("it", checkpoint("falcon-h1"), "path"), tmp_path / "f", None, None)
    with pytest.raises(OptionError, match=r"q_bits is 7\. It takes 2, 3"):
        Quantisation(64, 7)
    with pytest.raises(OptionError, match=r"q_group_size is 48"):
        Quantisation(48, 4)
    with pytest.raises(OptionError, match=r"no mixed recipe '4_6'\. Recipes are mixed_2_6"):
        Quantisation(64, 4, "4_6")
    with pytest.raises(OptionError, match="dtype is 'int8'"):
        convert(source, tmp_path / "d", None, "int8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


@pytest.mark.parametrize("to", ["mlx", "gguf"])
def test_a_damaged_tokenizer_is_told_before_anything_is_written(to, tmp_path, checkpoint):
    source = shutil.copytree(checkpoint("llama"), tmp_path / "source")
    (source / "tokenizer.json").write_text('{"version": ')
    target = tmp_path / ("m.gguf" if to == "gguf" else "m")
    heard = []
    with pytest.raises(TokenizerMissingError, match="The tokenizer in source cannot be loaded"):
        write(ModelSource("it", source, "path"), target, Conversion(to), progress=lambda *at: heard.append(at))
    assert heard == []
    assert {path.name for path in tmp_path.iterdir()} <= {"source", "here"}  # the second is of the fixtures


def test_every_convertible_type_is_tested():
    import transformers

    plain = ("qwen2", "qwen3", "llama", "gemma", "mistral", *SAME_TYPE)
    classes = {*(name for name, _ in TYPES.values()), *(FAMILIES[family][0] for family in plain)}
    assert {getattr(transformers, name).model_type for name in classes} == CONVERTIBLE
