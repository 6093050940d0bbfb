"""Quantised models of every family on both backends: near the full ones, and one answer however they are fed."""

import re

import numpy as np
import pytest

import mlxnb.pocket
from mlxnb.errors import OptionError
from mlxnb.request import Precision, Request
from mlxnb.runtime import Engine
from tests.backends.closeness import BACKENDS, IDS, ONLY_TORCH, loaded, logits
from tests.backends.fed import load as load_fed
from tests.tiny import FAMILIES, save

pytest.importorskip("mlx.core")
pytest.importorskip("torch")

KINDS = ("int8", "int4")
PAIRS = [(b, f) for f in sorted(FAMILIES) for b in BACKENDS if b == "torch" or f not in ONLY_TORCH]

# What a few flipped roundings may change: a tenth of what rounding everything does.
FLIPPED = 0.03


def off(got, exact):
    return np.linalg.norm(got - exact) / np.linalg.norm(exact)


@pytest.mark.parametrize("family", ["llama", "qwen3", "llama-biases", "phi3-partial", "gemma3", "qwen2"])
@pytest.mark.parametrize("kind", KINDS)
def test_torch_answers_as_the_full_model_with_the_rounded_weights(checkpoint, family, kind):
    """What is left is the rounding of inputs: to 8 bits 0.9 % of a row, to bfloat16 0.2 %, amplified up to 12 times."""
    import torch

    from mlxnb.backends import torch_int4, torch_int8
    from mlxnb.backends.torch_int4 import Int4Linear
    from mlxnb.backends.torch_int8 import Int8Linear
    from mlxnb.backends.torch_joined import Part

    quantised = loaded("torch", checkpoint(family), "float32", kind).model
    full = loaded("torch", checkpoint(family), "float32", None).model
    layers, replaced = dict(quantised.named_modules()), []
    for name, module in list(full.named_modules()):
        layer = layers[name].layer if isinstance(layers[name], Part) else layers[name]
        if not isinstance(layer, Int4Linear | Int8Linear):
            continue
        weight = module.weight.detach()
        if isinstance(layer, Int4Linear):
            numbers, scale, zero = torch_int4.quantise(weight)
            steps, zeros = (part.float().repeat_interleave(torch_int4.GROUP, 1) for part in (scale, zero))
            weight = (numbers - 8) * steps + zeros
        else:
            numbers, scale = torch_int8.quantise(weight)
            weight = numbers * scale[:, None]
        module.weight = torch.nn.Parameter(weight, requires_grad=False)  # a tied embedding keeps its own
        replaced.append(name)
    assert len(replaced) >= 3 * 4
    assert off(logits("torch", quantised), logits("torch", full)) < {"int8": 0.12, "int4": 0.06}[kind]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "deepseek-v3", "qwen3-next"])
@pytest.mark.parametrize("kind", KINDS)
def test_mlx_answers_as_its_own_dequantised_model(checkpoint, family, kind):
    from mlx_lm.utils import dequantize_model

    model = loaded("mlx", checkpoint(family), "float32", kind).model
    got = logits("mlx", model)
    assert off(got, logits("mlx", dequantize_model(model))) < 1e-3


@pytest.mark.parametrize(("backend", "family"), PAIRS)
@pytest.mark.parametrize("kind", KINDS)
def test_fed_at_once_in_pieces_and_from_a_kept_prefix_the_logits_are_the_same(checkpoint, backend, family, kind):
    """Up to what attention's sums in another order change, which can flip a rounding of what goes into a layer."""
    fed = load_fed(backend, family, checkpoint(family), Precision("float32", kind))
    import torch

    torch.set_num_threads(1)
    tokens = IDS[:30]
    at_once = fed.logits(fed.prefill(tokens[:-1], [29]), tokens[-1:])
    assert off(fed.logits(fed.prefill(tokens[:-1], [7, 1, 16]), tokens[-1:]), at_once) < FLIPPED
    kept = fed.prefill(tokens[:16], [16])
    again = fed.states.copy(kept)
    fed.feed(again, tokens[16:-1])
    assert off(fed.logits(again, tokens[-1:]), at_once) < FLIPPED


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_reused_prefix_gives_the_same_answer_and_precisions_share_nothing(backend, kind):
    question = f"What does itertools.chain do, and how do I call it with several lists? ({kind})"
    options = {"backend": backend, "dtype": "float32", "max_tokens": 20}
    engine = Engine()
    first = engine.generate(question, quantize=kind, **options)
    full = engine.generate(question, **options)
    assert not full.cached
    assert full.provenance.reused_tokens == 0
    assert full.provenance.quantization is None
    again = engine.generate(question, quantize=kind, **options)
    assert again.cached
    assert again.provenance.quantization == first.provenance.quantization
    assert again.provenance.quantization.startswith(kind)
    longer = engine.generate(question, quantize=kind, **{**options, "max_tokens": 21})
    assert longer.provenance.reused_tokens > 0
    assert longer.tokens[:20] == first.tokens
    engine.close()


def test_each_precision_is_a_copy_of_its_own(engine):
    infos = [engine.load("pocket", backend="torch", quantize=kind) for kind in (None, *KINDS)]
    assert [info.quantization for info in infos] == [None, "int8", "int4, group 32, head int8"]
    assert infos[0].memory > infos[1].memory > infos[2].memory
    for kind, info in zip(KINDS, infos[1:], strict=True):
        assert engine.load("pocket", backend="torch", quantize=kind) == info
    engine.unload("pocket")


@pytest.mark.parametrize("kind", ["int3", "INT8", "", 8, True])
def test_an_unknown_kind_names_the_known_ones(engine, kind):
    with pytest.raises(OptionError, match=r"quantize is .*\. It takes"):
        engine.generate("hi", quantize=kind)
    with pytest.raises(OptionError, match="It takes int8 or int4"):
        engine.load("pocket", quantize=kind)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_cannot_be_quantised_runs_in_full_and_says_so_and_strict_raises(engine, tmp_path, backend):
    """No width of this model can be divided into groups, and torch's trial is made to fail."""
    odd = {"hidden_size": 40, "intermediate_size": 72, "head_dim": 10, "tie_word_embeddings": True}
    path = str(save("LlamaConfig", {**odd, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, tmp_path))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlxnb.backends.torch_quantize.BOUNDS", {"int8": 1e-9, "int4": 1e-9})
        result = engine.generate("hi", model=path, backend=backend, dtype="float32", quantize="int4", max_tokens=5)
    assert result.provenance.quantization is None
    [note] = result.provenance.notes
    assert note.startswith("quantize int4 not used: ")
    full = engine.generate("hi", model=path, backend=backend, dtype="float32", max_tokens=5)
    assert result.tokens == full.tokens
    with pytest.raises(OptionError, match=r"quantize int4 of .* was refused: .+"):
        engine.generate("hi", model=path, backend=backend, dtype="float32", quantize="int4", strict=True)


def test_a_quantised_model_that_does_not_run_is_loaded_again_in_full(monkeypatch):
    """As where a family reads a layer's weights by itself."""
    from mlxnb.backends import torch_quantize

    def broken(self, x):
        raise AttributeError("'Int8Linear' object has no attribute 'weight'")

    trial = torch_quantize._trial
    path = mlxnb.pocket.path()
    monkeypatch.setattr(torch_quantize, "_trial", lambda linear, kind: None)
    monkeypatch.setattr("mlxnb.backends.torch_int8.Int8Linear.forward", broken)
    model = loaded("torch", path, "float32", "int8")
    [refused] = model.info.refused
    assert "no attribute 'weight'" in refused.reason
    assert model.info.quantization is None
    assert off(logits("torch", model.model), logits("torch", loaded("torch", path, "float32", None).model)) == 0
    monkeypatch.setattr(torch_quantize, "_trial", trial)
    [refused] = loaded("torch", path, "float32", "int8").info.refused
    assert refused.reason.startswith("this torch cannot: AttributeError")


def test_a_checkpoint_that_is_quantised_already(engine, tmp_path):
    from mlx_lm import convert

    path = str(tmp_path / "pocket-4bit")
    convert(str(mlxnb.pocket.path()), path, quantize=True, q_bits=4, q_group_size=64)
    same = engine.load(path, backend="mlx", quantize="int4")
    assert same.refused == ()
    assert same.quantization == "4-bit, group 64"
    assert "already" in same.notes[-1]
    other = engine.load(path, backend="mlx", quantize="int8")
    assert other.quantization == "4-bit, group 64"
    assert "stored quantised already" in other.notes[-1]
    with pytest.raises(OptionError, match="stored quantised already"):
        engine.generate("hi", model=path, backend="mlx", quantize="int8", strict=True)


def test_what_stays_in_full_is_said(checkpoint):
    [note] = loaded("torch", checkpoint("qwen3-next"), "float32", "int8").info.notes
    assert re.fullmatch(r"[1-9]\d% of the weights stay in float32: experts, .*", note)
    assert loaded("torch", checkpoint("llama"), "float32", "int8").info.notes == ()


@pytest.mark.parametrize("backend", BACKENDS)
def test_perplexity_is_that_of_the_logits(checkpoint, backend):
    from mlxnb.backends.perplexity import perplexity

    model = loaded(backend, checkpoint("llama"), "float32", None)
    rows = logits(backend, model.model).astype(np.float64)[:-1]
    losses = np.log(np.exp(rows).sum(1)) - rows[np.arange(len(rows)), IDS[1:]]
    whole, part = perplexity(model, [([], IDS)]), perplexity(model, [(IDS[:30], IDS[30:])])
    assert (whole.tokens, part.tokens) == (39, 10)
    assert whole.value == pytest.approx(np.exp(losses.mean()), rel=1e-4)
    assert part.value == pytest.approx(np.exp(losses[29:].mean()), rel=1e-4)
    with pytest.raises(OptionError, match="no token to predict"):
        perplexity(model, [([], IDS[:1])])


def test_a_request_carries_its_precision():
    assert Request.of("hi", dtype="float16", quantize="int8").precision == Precision("float16", "int8")
    assert str(Precision("float16", "int8")) == "float16 int8"
    assert str(Precision()) == ""
