"""Both backends reach the same greedy tokens in float32: on the pocket model and on a checkpoint of each family."""

import json

import pytest

from mlxnb.decision import Absent, Rejected
from mlxnb.errors import DamagedModelError, OptionError, UnsupportedModelError
from tests.backends.closeness import ONLY_TORCH, loaded, logits
from tests.tiny import FAMILIES, add_tokenizer

pytest.importorskip("mlx.core")
pytest.importorskip("torch")

PROMPT = "What does itertools.chain do, and how do I call it with several lists?"


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - ONLY_TORCH))
def test_equal_greedy_tokens(engine, checkpoint, family):
    path = str(checkpoint(family))
    answers = [
        engine.generate(PROMPT, model=path, backend=backend, dtype="float32", max_tokens=40)
        for backend in ("mlx", "torch")
    ]
    mlx, torch = (answer.tokens for answer in answers)
    assert mlx == torch
    assert len(mlx) > 20
    assert len(set(mlx)) > 5  # a model that repeats one token would prove nothing
    assert {answer.provenance.backend for answer in answers} == {"mlx", "torch"}


@pytest.mark.parametrize(
    "question", ["What does itertools.chain do?", "Where is sqrt?", "Tell me about the weather in Paris.", "Hi!"]
)
def test_pocket_answers_alike(engine, question):
    mlx, torch = (engine.generate(question, backend=b, dtype="float32") for b in ("mlx", "torch"))
    assert mlx.tokens == torch.tokens
    assert mlx.text == torch.text != ""
    assert mlx.finish_reason == torch.finish_reason == "stop"


def test_a_long_prompt_crosses_prefill_chunks_alike(engine):
    words = "def f(x): return x  # café \N{COMPASS}\n" * 30
    mlx, torch = (engine.generate(words, backend=b, dtype="float32", raw=True, max_tokens=30) for b in ("mlx", "torch"))
    assert mlx.provenance.prompt_tokens > 300
    assert mlx.tokens == torch.tokens


@pytest.mark.parametrize("words", [18, 46, 52])
def test_long_rope_changes_where_transformers_changes_it(engine, checkpoint, words):
    """Below the original context of 256 tokens, across it, and beyond it."""
    path, prompt = checkpoint("phi3-longrope"), "one two three four five " * words
    mlx, torch = (
        engine.generate(prompt, model=str(path), backend=b, dtype="float32", raw=True, max_tokens=40)
        for b in ("mlx", "torch")
    )
    assert mlx.tokens == torch.tokens
    assert len(mlx.tokens) > 20
    assert transformers_tokens(path, prompt)[: len(mlx.tokens)] == mlx.tokens


def transformers_tokens(path, prompt):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(path)(prompt, return_tensors="pt").input_ids
    model = AutoModelForCausalLM.from_pretrained(path)
    return model.generate(ids, max_new_tokens=40, do_sample=False)[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("family", sorted(ONLY_TORCH))
def test_what_mlx_lm_cannot_build_goes_to_torch_and_says_so(engine, checkpoint, family, monkeypatch):
    path = str(checkpoint(family))
    monkeypatch.setattr("mlxnb.backends.select.automatic_order", lambda: ("mlx", "torch"))
    result = engine.generate(PROMPT, model=path, max_tokens=5)
    assert result.provenance.backend == "torch"
    [refused] = [each for each in result.provenance.passed_over if not isinstance(each, Absent)]
    assert isinstance(refused, Rejected)
    assert refused.subject == "mlx"
    assert "parameters not in model" in refused.reason
    with pytest.raises(UnsupportedModelError, match="mlx-lm cannot run"):
        engine.generate(PROMPT, model=path, backend="mlx", max_tokens=5)


def test_strict_raises_instead_of_falling_back(engine, checkpoint, monkeypatch):
    monkeypatch.setattr("mlxnb.backends.select.automatic_order", lambda: ("mlx", "torch"))
    path = str(checkpoint("qwen3-untied-bias"))
    if any(info.name == path for info in engine.models()):  # another test's, which would answer
        engine.unload(path)
    with pytest.raises(UnsupportedModelError):
        engine.generate(PROMPT, model=path, strict=True)


def edit_config(source, target, **changes):
    import shutil

    shutil.copytree(source, target)
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps({**config, **changes}))
    return str(target)


def test_an_activation_that_mlx_lm_would_ignore_is_refused(engine, checkpoint, tmp_path):
    path = edit_config(checkpoint("llama"), tmp_path / "gelu", hidden_act="gelu")
    with pytest.raises(UnsupportedModelError, match="activation 'gelu'"):
        engine.load(path, backend="mlx")
    assert engine.load(path, backend="torch").backend == "torch"


@pytest.mark.parametrize("activation", ["gelu", "gelu_pytorch_tanh", "gelu_new"])
def test_starcoder_computes_the_gelu_that_its_config_names(checkpoint, tmp_path, activation):
    """mlx-lm computes the exact one, and the models that were published say the approximation."""
    from pathlib import Path

    path = Path(edit_config(checkpoint("starcoder2"), tmp_path / activation, hidden_act=activation))
    mlx, torch = (logits(backend, loaded(backend, path, "float32", None).model) for backend in ("mlx", "torch"))
    assert abs(mlx - torch).max() < 1e-4


@pytest.mark.parametrize(
    ("family", "changes", "said"),
    [
        ("starcoder2", {"hidden_act": "relu"}, "starcoder2 with the activation 'relu'"),
        ("starcoder2", {"use_bias": False}, "starcoder2 without biases"),
        ("gemma2", {"attn_logit_softcapping": None}, "gemma2 without attn_logit_softcapping"),
        ("gemma2", {"final_logit_softcapping": None}, "gemma2 without final_logit_softcapping"),
        ("gemma2", {"tie_word_embeddings": False}, "gemma2 with a head of its own"),
        ("gemma2", {"hidden_activation": "silu"}, "gemma2 with the activation 'silu'"),
    ],
)
def test_what_the_loader_of_a_family_cannot_express_is_refused_by_name(checkpoint, tmp_path, family, changes, said):
    from pathlib import Path

    path = Path(edit_config(checkpoint(family), tmp_path / "other", **changes))
    with pytest.raises(UnsupportedModelError, match=f"mlx-lm does not support {said}"):
        loaded("mlx", path, None, None)


@pytest.mark.parametrize("family", ["phi3", "gemma2", "starcoder2"])
def test_a_sliding_window_that_mlx_lm_ignores_limits_the_context(engine, checkpoint, tmp_path, family):
    path = edit_config(checkpoint(family), tmp_path / "window", sliding_window=64)
    info = engine.load(path, backend="mlx")
    assert info.context_length == 64
    assert "sliding window" in info.notes[-1]


def test_missing_weights_are_not_filled_with_random_ones(engine, checkpoint, tmp_path):
    path = edit_config(checkpoint("llama"), tmp_path / "deeper", num_hidden_layers=4)
    with pytest.raises(DamagedModelError, match="lacks 9 of the weights"):
        engine.load(path, backend="torch")
    with pytest.raises(UnsupportedModelError, match="Missing 9 parameters"):
        engine.load(path, backend="mlx")


def test_an_unknown_architecture_is_refused_by_both(engine, checkpoint, tmp_path):
    path = edit_config(checkpoint("llama"), tmp_path / "new", model_type="llama9", architectures=["Llama9ForCausalLM"])
    for backend in ("mlx", "torch", "auto"):
        with pytest.raises(UnsupportedModelError, match="llama9"):
            engine.load(path, backend=backend)


def test_an_unknown_dtype_names_the_known_ones(engine):
    for backend in ("mlx", "torch", "auto"):
        with pytest.raises(OptionError, match="bfloat16"):
            engine.load("pocket", backend=backend, dtype="int3")
        with pytest.raises(OptionError, match="bfloat16"):
            engine.generate("hi", backend=backend, dtype="int3")


def test_old_configs_read_as_they_did(engine, checkpoint, tmp_path):
    """transformers 4 wrote rope_theta and rope_scaling beside each other; nothing may be laid over them."""
    config = json.loads((checkpoint("llama") / "config.json").read_text())
    rope = config["rope_parameters"]
    old = {"rope_parameters": None, "rope_theta": rope["rope_theta"], "rope_scaling": rope}
    path = edit_config(checkpoint("llama"), tmp_path / "old", **old)
    new, was = (
        engine.generate(PROMPT, model=p, backend="mlx", dtype="float32", max_tokens=20)
        for p in (str(checkpoint("llama")), path)
    )
    assert new.tokens == was.tokens


def test_a_model_quantised_for_mlx_runs_on_torch_or_torch_says_why_not(engine, tmp_path):
    from mlx_lm import convert

    import mlxnb.pocket

    how = {"affine": {"q_bits": 4, "q_group_size": 64}, "mxfp4": {"q_bits": 4, "q_group_size": 32, "q_mode": "mxfp4"}}
    for name, options in how.items():
        convert(str(mlxnb.pocket.path()), str(tmp_path / name), quantize=True, **options)
    unpacked = engine.generate("What does itertools.chain do?", model=str(tmp_path / "affine"), backend="torch")
    foreign = engine.generate("What does itertools.chain do?", model=str(tmp_path / "mxfp4"))
    for result in (unpacked, foreign):
        assert "itertools.chain" in result.text
    assert unpacked.provenance.quantization is None  # as it is in memory
    assert "4" in foreign.provenance.quantization
    assert any("unpacked to bfloat16" in note for note in unpacked.provenance.notes)
    assert foreign.provenance.backend == "mlx"
    with pytest.raises(UnsupportedModelError, match="stored in MLX's format, and its mode 'mxfp4' is not read here"):
        engine.load(str(tmp_path / "mxfp4"), backend="torch")


def test_a_model_whose_cache_torch_would_ignore_is_refused(engine, tmp_path):
    """Mamba takes its cache under another name: given ours it would see one token at a time, and say nothing."""
    import transformers

    config = transformers.MambaConfig(vocab_size=4096, hidden_size=64, num_hidden_layers=2, state_size=8)
    transformers.MambaForCausalLM(config).save_pretrained(tmp_path / "mamba")
    path = str(add_tokenizer(tmp_path / "mamba"))
    with pytest.raises(UnsupportedModelError, match="no cache for MambaForCausalLM"):
        engine.load(path, backend="torch")
    assert engine.load(path).backend == "mlx"


def test_experts_that_mlx_cannot_multiply_go_to_torch(engine, checkpoint, monkeypatch):
    from mlxnb.backends.mlx import device

    if device() != "cpu":
        pytest.skip("MLX multiplies experts in half precision on a GPU")
    path = str(checkpoint("deepseek-v3"))
    monkeypatch.setattr("mlxnb.backends.select.automatic_order", lambda: ("mlx", "torch"))
    result = engine.generate(PROMPT, model=path, dtype="bfloat16", max_tokens=3)
    assert result.provenance.backend == "torch"
    [refused] = [each for each in result.provenance.passed_over if not isinstance(each, Absent)]
    assert "has no product for the experts of" in refused.reason
    assert refused.reason.endswith("in bfloat16.")
    assert engine.generate(PROMPT, model=path, backend="mlx", dtype="float32", max_tokens=3).tokens
    quantised = engine.generate(PROMPT, model=path, backend="mlx", dtype="bfloat16", quantize="int8", max_tokens=3)
    assert quantised.provenance.quantization.startswith("int8")
