"""Folders that mlx-lm wrote, on the torch backend: the same greedy tokens as MLX, or a refusal that says why."""

from __future__ import annotations

import json

import pytest

from mlxnb.errors import DamagedModelError, ModelTooLargeError, UnsupportedModelError
from mlxnb.models import inspect
from mlxnb.models.mlx_format import is_mlx, readable, tensors
from tests.models.mlx_folders import TYPES, converted, make
from tests.tiny import FAMILIES

pytest.importorskip("mlx_lm")
torch = pytest.importorskip("torch")

PROMPT = "What does itertools.chain do, and how do I call it with several lists?"
# Attention biases that mlx-lm's Qwen3 lacks; weights that mlx-lm multiplies when it converts.
NOT_THESE = {"qwen3-untied-bias", "falcon-h1"}
# mlx-lm and transformers compute these two differently on tiny weights; that their tensors are equal is held below.
COMPUTED_OTHERWISE = {"gemma2", "starcoder2", "granite"}
# Where mlx-lm names, stacks, turns or shifts weights.
CHANGED = {"mixtral", "olmoe", "qwen2-moe", "qwen3-moe", "qwen3-next", "deepseek-v3", "deepseek-v3-plain"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Makes mlx-lm's conversion of a tiny family, once."""
    root = tmp_path_factory.mktemp("converted")

    def make_one(family, **options):
        target = root / f"{family}{options}".replace("'", "").replace(" ", "")
        if not (root / family).exists():
            make(family, root / family)
        return target if target.exists() else converted(root / family, target, **options)

    return make_one


def both(engine, path, **options):
    answers = [
        engine.generate(PROMPT, model=str(path), backend=backend, dtype="float32", max_tokens=24, **options).tokens
        for backend in ("mlx", "torch")
    ]
    engine.unload(str(path))
    return answers


@pytest.mark.parametrize("family", sorted({*FAMILIES, *TYPES} - NOT_THESE - COMPUTED_OTHERWISE))
def test_four_bits_give_mlx_s_tokens(engine, folder, family):
    mlx, torch_tokens = both(engine, folder(family, quantize=True, q_bits=4, q_group_size=32))
    assert mlx == torch_tokens
    assert family == "phi3" or len(set(mlx)) > 3  # a model that repeats one token would prove nothing


@pytest.mark.parametrize("family", sorted(CHANGED))
def test_weights_that_mlx_lm_changes_come_back(engine, folder, family):
    mlx, torch_tokens = both(engine, folder(family))
    assert mlx == torch_tokens
    assert len(set(mlx)) > 5


@pytest.mark.parametrize("family", sorted(TYPES))
def test_every_tensor_is_the_original_s(folder, family):
    """By transformers' name, whatever mlx-lm calls it."""
    path = folder(family)
    from safetensors.torch import load_file

    original = load_file(path.parent / family / "model.safetensors")
    ours = tensors(inspect(path), torch.float32)
    assert set(ours) == set(original) - {"lm_head.weight"} | (set(ours) & {"lm_head.weight"})
    assert all(torch.equal(ours[name][...], original[name]) for name in ours)


@pytest.mark.parametrize("bits", [2, 3, 5, 6, 8])
def test_every_number_of_bits(engine, folder, bits):
    mlx, torch_tokens = both(engine, folder("llama", quantize=True, q_bits=bits, q_group_size=64))
    assert mlx == torch_tokens


def test_layers_of_their_own_bits(engine, folder):
    path = folder("qwen2", quantize=True, quant_predicate="mixed_3_6", q_group_size=32)
    settings = json.loads((path / "config.json").read_text())["quantization"]
    assert {value["bits"] for value in settings.values() if isinstance(value, dict)} == {3, 6}
    mlx, torch_tokens = both(engine, path)
    assert mlx == torch_tokens


def test_a_group_size_that_nobody_gave(engine, folder):
    """mlx-lm then writes null for the layers of a mixed recipe, which MLX reads as 64."""
    path = folder("qwen2", quantize=True, quant_predicate="mixed_3_6")
    settings = json.loads((path / "config.json").read_text())["quantization"]
    assert {value["group_size"] for value in settings.values() if isinstance(value, dict)} == {None}
    mlx, torch_tokens = both(engine, path)
    assert mlx == torch_tokens


def test_the_figures_are_those_of_what_is_in_memory(engine, folder):
    path = folder("qwen3", quantize=True, q_bits=4, q_group_size=32)
    info = engine.load(str(path), backend="torch")
    assert info.quantization is None
    assert info.notes == ("stored by MLX in 4-bit, group 32, unpacked to float32",)
    assert info.dtype == "float32"  # that of the scales
    engine.unload(str(path))
    assert engine.load(str(path), backend="torch", dtype="bfloat16").dtype == "bfloat16"
    again = engine.load(str(path), backend="torch", quantize="int8")
    assert again.quantization == "int8"
    assert again.notes[0].endswith("unpacked to float32 and quantised again: rounded twice")


def test_each_tensor_is_read_when_it_is_asked_for(folder, monkeypatch):
    path = folder("llama", quantize=True, q_bits=4, q_group_size=32)
    read = []
    monkeypatch.setattr("mlxnb.models.mlx_format.dequantise", lambda *args: read.append(args) or torch.zeros(1))
    found = tensors(inspect(path), torch.float32)
    assert read == []
    found["model.embed_tokens.weight"][...]
    assert len(read) == 1


def test_what_mlx_wrote_is_known_as_such(folder, checkpoint):
    assert is_mlx(inspect(folder("llama")))
    assert is_mlx(inspect(folder("llama", quantize=True, q_bits=4, q_group_size=32)))
    assert not is_mlx(inspect(checkpoint("llama")))


def changed(path, target, **settings):
    """A copy whose configuration says something else of its quantisation."""
    import shutil

    shutil.copytree(path, target)
    config = json.loads((target / "config.json").read_text())
    config["quantization"] |= settings
    (target / "config.json").write_text(json.dumps(config))
    return target


def test_unknown_modes_and_bits_are_refused_by_name(folder, tmp_path):
    path = folder("llama", quantize=True, q_bits=4, q_group_size=32)
    for number, (settings, said) in enumerate(
        (
            ({"mode": "mxfp4"}, "mode 'mxfp4'"),
            ({"bits": 7}, "7 bits in groups of 32"),
            ({"bits": "4"}, "bits in its config.json is '4', no whole number"),
            ({"bits": 4.0}, "bits in its config.json is 4.0, no whole number"),
            ({"bits": True}, "bits in its config.json is True, no whole number"),
            ({"bits": None}, "bits in its config.json is None, no whole number"),
            ({"group_size": 32.0}, "group_size in its config.json is 32.0, no whole number"),
            ({"model.layers.0.self_attn.q_proj": {"bits": "4", "group_size": 32}}, "bits in its config.json is '4'"),
        )
    ):
        decision = readable(inspect(changed(path, tmp_path / str(number), **settings)))
        assert not decision
        assert said in decision.reason
        assert decision.remedy


def test_parts_that_do_not_fit_are_damage(engine, folder, tmp_path):
    path = changed(folder("llama", quantize=True, q_bits=4, q_group_size=32), tmp_path / "m", bits=8)
    with pytest.raises(DamagedModelError, match=r"weight U32 .* is not 8 bits in groups of 32"):
        engine.load(str(path), backend="torch")


def test_a_type_whose_weights_mlx_lm_changes_otherwise_is_refused(engine, folder):
    path = folder("falcon-h1")
    with pytest.raises(UnsupportedModelError, match="the weights of falcon_h1 is not known here") as caught:
        engine.load(str(path), backend="torch")
    assert "--backend mlx" in caught.value.remedy
    result = engine.generate("Hi", model=str(path), max_tokens=2)
    assert result.provenance.backend == "mlx"
    assert any("falcon_h1" in refused.reason for refused in result.provenance.passed_over)


def test_what_does_not_fit_once_unpacked_is_said_before_it_is_read(engine, folder, monkeypatch):
    path = folder("qwen3", quantize=True, q_bits=4, q_group_size=32)
    engine.unload(str(path)) if any(m.name == str(path) for m in engine.models()) else None
    monkeypatch.setattr("mlxnb.backends.torch_mlx.memory_free", lambda: 201_000_000)
    with pytest.raises(ModelTooLargeError, match="does not fit once dequantised to float32"):
        engine.load(str(path), backend="torch", dtype="float32")


@pytest.mark.parametrize("word", ["x", [4], 5])
def test_a_quantization_that_is_no_mapping_is_refused_by_name(folder, tmp_path, word):
    path = changed(folder("llama", quantize=True, q_bits=4, q_group_size=32), tmp_path / "m")
    config = json.loads((path / "config.json").read_text()) | {"quantization": word}
    (path / "config.json").write_text(json.dumps(config))
    decision = readable(inspect(path))
    assert not decision
    assert "says neither bits nor group_size" in decision.reason
