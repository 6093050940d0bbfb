"""Quantising on mlx where a family's own rule says how: its bits are told, and its group may not divide a layer."""

import re

import pytest

from mlxnb.models import ModelSource
from mlxnb.request import Precision
from tests.models.mlx_folders import make

pytest.importorskip("mlx_lm")
pytest.importorskip("torch")


def load(path, kind):
    from mlxnb.backends.mlx import MlxBackend

    return MlxBackend().load(ModelSource("tiny", path, "path"), Precision(None, kind))


def layers(model):
    import mlx.nn as nn
    from mlx.utils import tree_flatten

    return dict(tree_flatten(model.model.leaf_modules(), is_leaf=nn.Module.is_module))


def test_what_a_rule_has_in_other_bits_is_said(tmp_path):
    """Granite's keeps o_proj and down_proj in 8 bits."""
    model = load(make("granite", tmp_path / "granite"), "int4")
    held = {4: 0, 8: 0}
    for layer in layers(model).values():
        if hasattr(layer, "bits"):
            held[layer.bits] += layer.scales.size * layer.group_size
    assert held[8] > 0
    assert model.info.quantization == f"int4, group 64, {held[8] / sum(held.values()):.0%} int8"
    assert load(tmp_path / "granite", "int8").info.quantization == "int8, group 64"


def test_a_layer_that_a_rule_s_group_does_not_divide_stays_in_full(tmp_path, monkeypatch):
    """Qwen3-MoE's rule wants its routers in groups of 64, and this model is 96 wide."""
    from tests.models import mlx_folders

    name, shape = mlx_folders.TYPES["qwen3-moe"]
    monkeypatch.setitem(mlx_folders.TYPES, "qwen3-moe", (name, {**shape, "hidden_size": 96}))
    model = load(make("qwen3-moe", tmp_path / "moe"), "int4")
    assert model.info.refused == ()
    assert model.info.quantization == "int4, group 64 and 32"
    found = layers(model)
    assert not hasattr(found["model.layers.0.mlp.gate"], "bits")
    assert found["model.layers.0.self_attn.q_proj"].bits == 4


def test_a_rule_for_a_few_weights_is_said_too(tmp_path):
    info = load(make("qwen3-moe", tmp_path / "moe"), "int4").info
    assert re.fullmatch(r"int4, group 64 and 32, (under 1|\d)% int8", info.quantization)
