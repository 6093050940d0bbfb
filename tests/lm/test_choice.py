"""Which engine answers: one decision, which a variable overrides, and mlx-lm's very functions where it is MLX."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import mlxnb.lm
from mlxnb.decision import Absent, Accepted
from mlxnb.errors import BackendMissingError, OptionError
from mlxnb.lm import models, sample_utils, tokenizer_utils, utils  # noqa: F401 - their presence is the test
from mlxnb.lm.models import cache

CALLS = ["load", "generate", "stream_generate", "batch_generate", "convert"]
SAMPLING = ["make_sampler", "make_logits_processors"]
CACHES = ["make_prompt_cache", "save_prompt_cache", "load_prompt_cache", "trim_prompt_cache", "can_trim_prompt_cache"]
EVERY = [*((mlxnb.lm, "mlx_lm", n) for n in CALLS), *((sample_utils, "mlx_lm.sample_utils", n) for n in SAMPLING),
         *((cache, "mlx_lm.models.cache", n) for n in CACHES), (utils, "mlx_lm.utils", "load")]  # fmt: skip


@pytest.mark.parametrize(("module", "theirs", "name"), EVERY)
def test_the_signature_is_mlx_lm_s(module, theirs, name):
    """Names, kinds, order and defaults; annotations are in torch's types, and a stream is MLX's own object."""
    library = pytest.importorskip(theirs)

    def shape(function):
        found = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, None if p.name == "stream" else p.default) for p in found]

    assert shape(getattr(module, name)) == shape(getattr(library, name))
    assert getattr(module, name).__doc__


def test_the_step_generator_has_mlx_lm_s_options():
    theirs = pytest.importorskip("mlx_lm.generate", reason="mlx-lm is not here") and sys.modules["mlx_lm.generate"]
    from mlxnb.lm.on_torch.steps import generate_step

    ours = inspect.signature(generate_step).parameters
    assert {n: p.default for n, p in ours.items() if n != "stream"} == {
        n: p.default for n, p in inspect.signature(theirs.generate_step).parameters.items() if n != "stream"
    }


@pytest.mark.parametrize(("module", "theirs", "name"), EVERY)
def test_on_mlx_it_is_mlx_lm(module, theirs, name, monkeypatch):
    library = pytest.importorskip(theirs)
    monkeypatch.setenv("MLXNB_LM", "mlx")
    assert getattr(module, name) is getattr(library, name)


def test_the_decision_follows_the_machine(monkeypatch):
    monkeypatch.delenv("MLXNB_LM")
    monkeypatch.setattr("mlxnb.backends.select.automatic_order", lambda: ("torch", "mlx"))
    assert mlxnb.lm.engine_in_use() == Accepted("torch", "the faster one on this machine")
    monkeypatch.setattr("mlxnb.backends.select.automatic_order", lambda: ("mlx", "torch"))
    assert mlxnb.lm.engine_in_use().subject == "mlx"
    absent = Absent("torch", "torch not installed", "pip install 'mlxnb[torch]'")
    monkeypatch.setattr("mlxnb.backends.select.automatic_order", lambda: ("torch", "mlx"))
    monkeypatch.setattr("mlxnb.backends.torch.TorchBackend.available", lambda self: absent)
    assert str(mlxnb.lm.engine_in_use()).startswith("mlx: in place of torch: torch not installed")
    monkeypatch.setenv("MLXNB_LM", "torch")
    with pytest.raises(BackendMissingError, match="MLXNB_LM=torch, but torch not installed"):
        mlxnb.lm.load  # noqa: B018 - the name is looked up when it is asked for
    monkeypatch.setenv("MLXNB_LM", "jax")
    with pytest.raises(OptionError, match="MLXNB_LM is 'jax'"):
        mlxnb.lm.engine_in_use()


def test_unknown_names_are_attribute_errors():
    for module in (mlxnb.lm, sample_utils, cache, utils):
        with pytest.raises(AttributeError, match="no attribute 'fuse'"):
            module.fuse  # noqa: B018
        assert not hasattr(module, "mlx")
    assert set(CALLS) <= set(dir(mlxnb.lm))
    assert set(CACHES) <= set(dir(cache))


def test_importing_it_is_light():
    code = """
import sys
import mlxnb.lm as mlx_lm, mlxnb.lm.sample_utils, mlxnb.lm.models.cache
heavy = {"mlx", "mlx_lm", "torch", "transformers", "huggingface_hub"}
assert not (heavy | {"numpy"}) & set(sys.modules), set(sys.modules) & heavy
assert mlx_lm.engine_in_use()
assert not heavy & set(sys.modules), set(sys.modules) & heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
