"""A LoRA adapter changes a model as W + scale · B·A does, on mlx and torch, and is a part of what the model is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import mlxnb.pocket
from mlxnb.backends import default_backends
from mlxnb.errors import AdapterError, DamagedModelError, MlxnbError, OptionError, UnsupportedModelError
from mlxnb.models.adapter import read_adapter
from mlxnb.render.perplexity import perplexity_table
from mlxnb.request import Request
from mlxnb.runtime import Engine
from mlxnb.runtime.perplexities import perplexities
from tests.adapters import draw_updates, merged, write_mlx, write_peft
from tests.backends.served import ask
from tests.endpoint import says, serving

BACKENDS = ("torch", "mlx")
PROMPTS = ("What is a list?", "def f(x):", "Hello")
TARGETS = [
    f"model.layers.{i}.{name}" for i in (0, 2) for name in ("self_attn.q_proj", "self_attn.o_proj", "mlp.up_proj")
]


@pytest.fixture(scope="module")
def trained(checkpoint, tmp_path_factory):
    """A base, its adapter of scale 2 in both formats, and the checkpoint that they amount to."""
    folder, base = tmp_path_factory.mktemp("adapters"), checkpoint("llama")
    updates = draw_updates(base, TARGETS)
    return {
        "base": base,
        "updates": updates,
        "mlx-lm": write_mlx(folder / "of-mlx", updates, 2.0),
        "peft": write_peft(folder / "of-peft", updates, 8.0),
        "merged": merged(base, folder / "merged", updates, 2.0),
    }


def answers(engine: Engine, model: Path, backend: str, adapter: Path | None = None, **how: object) -> list[list[int]]:
    asked = {"model": str(model), "backend": backend, "max_tokens": 24, "adapter": adapter, **how}
    return [engine.generate(prompt, **asked).tokens for prompt in PROMPTS]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("made_by", ["mlx-lm", "peft"])
def test_an_adapter_is_what_its_merged_weights_are(engine, trained, backend, made_by):
    expected = answers(engine, trained["merged"], backend)
    assert answers(engine, trained["base"], backend, trained[made_by]) == expected
    assert answers(engine, trained["base"], backend) != expected
    batch = engine.batch(
        PROMPTS, model=str(trained["base"]), backend=backend, adapter=trained[made_by], max_tokens=24, progress=False
    )
    assert [result.tokens for result in batch] == expected


def test_one_that_mlx_lm_wrote_is_read_as_mlx_lm_reads_it(engine, trained, tmp_path):
    mx = pytest.importorskip("mlx.core")
    from mlx.utils import tree_flatten
    from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
    from mlx_lm.utils import load_model

    from mlxnb.backends.mlx_config import as_mlx_lm_reads_it

    config = as_mlx_lm_reads_it(json.loads((trained["base"] / "config.json").read_text()))
    model, _ = load_model(trained["base"], model_config=config)
    model.freeze()
    linear_to_lora_layers(
        model, 2, {"rank": 3, "scale": 5.0, "dropout": 0.1, "keys": ["self_attn.v_proj", "mlp.down_proj"]}
    )
    mx.random.seed(0)
    drawn = {name: 0.3 * mx.random.normal(array.shape) for name, array in tree_flatten(model.trainable_parameters())}
    folder = tmp_path / "tuned"
    folder.mkdir()
    mx.save_safetensors(str(folder / "adapters.safetensors"), drawn)
    settings = {"fine_tune_type": "lora", "num_layers": 2}
    settings["lora_parameters"] = {
        "rank": 3,
        "scale": 5.0,
        "dropout": 0.1,
        "keys": ["self_attn.v_proj", "mlp.down_proj"],
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    theirs = load_adapters(load_model(trained["base"], model_config=config)[0], str(folder))
    theirs.eval()
    ids = [5, 9, 77, 300, 21]
    logits = np.array(theirs(mx.array([ids]))[0].astype(mx.float32))
    expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for backend in BACKENDS:

        def ours(loaded):
            return np.concatenate(list(loaded.log_probs(ids)))

        found = engine.call_with(str(trained["base"]), ours, backend, adapter=str(folder))
        assert np.abs(found - expected[:-1]).max() < 1e-3
    plain = engine.call_with(str(trained["base"]), ours, "torch")
    assert np.abs(plain - expected[:-1]).max() > 1


def test_both_backends_answer_alike(engine, trained):
    found = [answers(engine, trained["base"], backend, trained["peft"]) for backend in BACKENDS]
    assert found[0] == found[1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_is_told_with_the_model(engine, trained, backend):
    result = engine.generate("Hi", model=str(trained["base"]), backend=backend, adapter=trained["peft"], max_tokens=2)
    assert result.provenance.adapter == "of-peft"
    where = "added to" if backend == "torch" else "beside"
    assert f"adapter of-peft: LoRA of rank 4 on 6 layers, {where} the weights" in result.provenance.notes
    infos = [info for info in engine.models() if info.backend == backend and info.adapter == "of-peft"]
    assert len(infos) == 1


@pytest.mark.parametrize("made_by", ["mlx-lm", "peft"])
def test_another_base_by_name_is_told(engine, trained, tmp_path, made_by):
    """Many models have the same shapes, so that it fits and answers all the same."""

    def notes(folder: str, base: str) -> list[str]:
        own = {"model": base} if made_by == "mlx-lm" else {"base_model_name_or_path": base}
        write = write_mlx if made_by == "mlx-lm" else write_peft
        adapter = write(tmp_path / folder, trained["updates"], 2.0, **own)
        asked = {"model": str(trained["base"]), "backend": "torch", "max_tokens": 1}
        found = engine.generate("Hi", adapter=adapter, **asked).provenance.notes
        return [note for note in found if "made for" in note]

    assert notes("other", "some/Other-1B") == ["adapter other says that it was made for some/Other-1B"]
    assert notes("same", f"me/{trained['base'].name}") == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_perplexity_with_an_adapter_is_that_of_the_merged_model(engine, trained, backend):
    text = "The pathlib module offers classes for paths."
    base, of_merged = (
        engine.perplexity(text, model=str(trained[name]), backend=backend) for name in ("base", "merged")
    )
    found = engine.perplexity(text, model=str(trained["base"]), backend=backend, adapter=str(trained["peft"]))
    assert found.value == pytest.approx(of_merged.value, rel=1e-4)
    assert found.value != pytest.approx(base.value, rel=1e-2)


@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_and_drafts_are_those_of_the_merged_model(engine, trained, backend):
    """With seeds in a batch, with a guess from the text, and after the base itself was asked in between."""
    asked = {"backend": backend, "temperature": 0.8, "max_tokens": 16, "cache": "off"}

    def drawn(model: Path, adapter: Path | None) -> list[list[int]]:
        requests = [Request.of("Hello", model=str(model), adapter=adapter, seed=seed, **asked) for seed in (1, 2, 3)]
        found = engine.batch(requests, progress=False)
        return [
            *(result.tokens for result in found),
            engine.generate("a, b, a, b, a", model=str(model), adapter=adapter, seed=4, draft="lookup", **asked).tokens,
        ]

    plain, expected = drawn(trained["base"], None), drawn(trained["merged"], None)
    assert drawn(trained["base"], trained["peft"]) == expected
    assert plain != expected
    assert drawn(trained["base"], None) == plain


@pytest.mark.parametrize("backend", BACKENDS)
def test_scales_per_layer_and_rank_stabilised(engine, trained, tmp_path, backend):
    """Layers of their own alpha, by peft's patterns, and alpha / √rank in place of alpha / rank."""
    base, updates = trained["base"], dict(trained["updates"])
    own = {name: pair for name, pair in updates.items() if name.endswith("o_proj")}
    first = {"model.layers.0.mlp.up_proj": updates["model.layers.0.mlp.up_proj"]}
    rest = {name: pair for name, pair in updates.items() if name not in {**own, **first}}
    amounts = merged(base, tmp_path / "a", rest, 2.0)
    amounts = merged(amounts, tmp_path / "b", own, 0.5)
    amounts = merged(amounts, tmp_path / "c", first, 3.0)
    patterns = {"o_proj": 1.0, r"^model\.layers\.0\.mlp\.up_proj": 6.0, "proj": 100.0, "model.layers": 100.0}
    adapter = write_peft(tmp_path / "own", updates, 4.0, alpha_pattern=patterns, use_rslora=True)
    assert answers(engine, base, backend, adapter) == answers(engine, amounts, backend)


def test_ranks_may_differ_between_layers(engine, trained, tmp_path):
    base = trained["base"]
    updates = draw_updates(base, TARGETS[:1], rank=2) | draw_updates(base, TARGETS[1:2], rank=7)
    adapter = write_mlx(tmp_path / "ranks", updates, 1.5)
    assert "ranks 2 to 7 on 2 layers" in str(read_adapter(adapter))
    expected = merged(base, tmp_path / "merged", updates, 1.5)
    for backend in BACKENDS:
        assert answers(engine, base, backend, adapter) == answers(engine, expected, backend)


def test_a_tied_head_becomes_its_own_in_torch(engine, checkpoint, tmp_path):
    """Its update must not reach the embedding that it shares its weights with."""
    base = checkpoint("qwen3")
    hidden, vocabulary = 64, 4096
    draw = np.random.default_rng(1)
    pair = (
        draw.normal(0, hidden**-0.5, (4, hidden)).astype(np.float32),
        draw.normal(0, 1, (vocabulary, 4)).astype(np.float32),
    )
    adapter = write_peft(tmp_path / "head", {"lm_head": pair}, 4.0)
    asked = {"model": str(base), "max_tokens": 8}
    before = engine.generate("Hello", backend="torch", **asked)
    after = engine.generate("Hello", backend="torch", adapter=adapter, **asked)
    assert after.tokens != before.tokens

    def embeddings(loaded):
        model = loaded.model
        both = model.get_input_embeddings(), model.get_output_embeddings()
        return [each.weight.detach().clone() for each in both]

    plain, _ = engine.call_with(str(base), embeddings, "torch")
    inputs, head = engine.call_with(str(base), embeddings, "torch", adapter=str(adapter))
    assert (inputs == plain).all()
    assert np.allclose(head.numpy(), plain.numpy() + pair[1] @ pair[0], atol=1e-5)
    with pytest.raises(UnsupportedModelError, match=r"updates lm_head, which .* has not in mlx-lm"):
        engine.generate("Hello", backend="mlx", adapter=adapter, **asked)


@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_that_are_quantised_while_they_are_loaded(engine, trained, backend):
    """mlx puts it beside the quantised weights, torch into them before: near the merged model in either case."""
    asked = {"model": str(trained["base"]), "backend": backend, "quantize": "int8", "max_tokens": 8}
    result = engine.generate("Hello", adapter=trained["peft"], **asked)
    plain = engine.generate("Hello", **asked)
    assert result.provenance.adapter == "of-peft"
    assert result.tokens != plain.tokens


def test_a_base_that_mlx_stored_quantised(engine, trained, tmp_path):
    """mlx adds to the packed weights; torch unpacks them first."""
    pytest.importorskip("mlx_lm")
    from mlx_lm.convert import convert

    stored = tmp_path / "stored"
    convert(str(trained["base"]), str(stored), quantize=True, q_bits=8, q_group_size=32, dtype="float32")
    for backend in BACKENDS:
        asked = {"model": str(stored), "backend": backend, "max_tokens": 12}
        result = engine.generate("Hello", adapter=trained["mlx-lm"], **asked)
        assert result.tokens != engine.generate("Hello", **asked).tokens


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_adapters_over_one_base_are_two_models(trained, tmp_path, backend):
    """In memory, and in both caches."""
    made = Engine()
    other = write_mlx(tmp_path / "other", draw_updates(trained["base"], TARGETS, seed=5), 2.0)
    adapters = (None, trained["mlx-lm"], other)
    asked = {"model": str(trained["base"]), "backend": backend, "max_tokens": 12}
    try:
        first = [made.generate("Hello", adapter=each, **asked) for each in adapters]
        again = [made.generate("Hello", adapter=each, **asked) for each in adapters]
        assert len({tuple(result.tokens) for result in first}) == 3
        assert not any(result.cached or result.provenance.reused_tokens for result in first)
        assert all(result.cached for result in again)
        assert [result.tokens for result in again] == [result.tokens for result in first]
        assert sorted(info.adapter for info in made.models()) == ["", "of-mlx", "other"]
        longer = [made.generate("Hello", adapter=each, **{**asked, "max_tokens": 14}) for each in adapters]
        assert all(result.provenance.reused_tokens for result in longer)
        for short, long in zip(first, longer, strict=True):
            assert long.tokens[:12] == short.tokens
        assert len(made.unload(str(trained["base"]))) == 3
    finally:
        made.close()


def test_an_adapter_that_was_trained_on_is_read_anew(engine, trained, tmp_path):
    adapter = write_mlx(tmp_path / "growing", trained["updates"], 2.0)
    asked = {"model": str(trained["base"]), "backend": "torch", "adapter": adapter, "max_tokens": 12}
    before = engine.generate("Hello", **asked)
    shutil.rmtree(adapter)
    write_mlx(adapter, draw_updates(trained["base"], TARGETS, seed=9), 2.0)
    after = engine.generate("Hello", **asked)
    assert after.tokens != before.tokens
    assert "its adapter has changed since it was loaded, so it was loaded anew" in after.provenance.notes


def test_one_folder_is_one_adapter_however_it_is_written(trained, monkeypatch):
    folder = trained["peft"]
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for written in (folder, str(folder), "of-peft", "./of-peft/", "~/of-peft", f"{folder}/../of-peft"):
        assert Request.of("Hi", adapter=written).adapter == str(folder)
    for wrong in ("", " ", 3, ["x"]):
        with pytest.raises(OptionError, match="It takes the folder of a LoRA adapter"):
            Request.of("Hi", adapter=wrong)


@pytest.mark.parametrize("backend", [name for name in ("llamacpp", "onnx") if default_backends()[name].available()])
def test_other_backends_refuse_by_name(engine, trained, backend):
    with pytest.raises(UnsupportedModelError, match=f"The {backend} backend cannot put an adapter on pocket"):
        engine.generate("Hi", backend=backend, adapter=trained["peft"])


def test_a_server_refuses_by_name(trained):
    pytest.importorskip("openai")
    with (
        serving(says("ok")) as endpoint,
        pytest.raises(UnsupportedModelError, match="The server backend cannot"),
    ):
        ask(endpoint, adapter=trained["peft"])
    assert endpoint.asked == []


def test_what_is_in_the_folder_is_said(tmp_path, trained):
    updates = trained["updates"]

    def refused(path: Path, says: str, kind: type[MlxnbError] = AdapterError) -> None:
        with pytest.raises(kind, match=says):
            read_adapter(path)

    refused(tmp_path / "nowhere", "nowhere is not there")
    refused(trained["peft"] / "adapter_config.json", "is a file")
    refused(mlxnb.pocket.path(), "is no adapter: it has no adapter_config.json")
    cut = write_peft(tmp_path / "cut", updates, 8.0)
    (cut / "adapter_config.json").write_text("{")
    refused(cut, "adapter_config.json is not JSON", DamagedModelError)
    pickled = write_peft(tmp_path / "pickled", updates, 8.0)
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    refused(pickled, r"has its weights in adapter_model\.bin, which is never loaded")
    (pickled / "adapter_model.bin").unlink()
    refused(pickled, "has neither adapters.safetensors nor adapter_model.safetensors")
    refused(write_mlx(tmp_path / "dora", updates, 2.0, fine_tune_type="dora"), "fine-tuning of the kind 'dora'")
    refused(write_peft(tmp_path / "dora-peft", updates, 2.0, use_dora=True), "holds DoRA: only low-rank")
    refused(write_peft(tmp_path / "prompt", updates, 2.0, peft_type="PROMPT_TUNING"), "kind 'PROMPT_TUNING'")
    refused(write_peft(tmp_path / "alpha", updates, 2.0, lora_alpha=None), "has None for lora_alpha")
    refused(write_mlx(tmp_path / "scale", updates, 2.0, lora_parameters={"alpha": 2}), "has None for scale")
    refused(write_peft(tmp_path / "pattern", updates, 2.0, alpha_pattern={"(": 2}), r"alpha_pattern '\('")
    refused(write_peft(tmp_path / "empty", {}, 2.0), "is empty")
    for begun in ("pissa", "pissa_niter_16", "olora", "corda", "loftq"):
        other = write_peft(tmp_path / begun, updates, 8.0, init_lora_weights=begun)
        refused(other, f"began as {begun}: it belongs to a base whose weights were changed.*weight_conversion")
    for begun in (True, False, "gaussian", "eva", "orthogonal"):
        assert read_adapter(write_peft(tmp_path / f"plain-{begun}", updates, 8.0, init_lora_weights=begun)).updates
    a, b = updates[TARGETS[0]]
    refused(write_peft(tmp_path / "ranks", {"x": (a[:2], b)}, 2.0), "A and B of shapes")
    refused(write_mlx(tmp_path / "experts", {"x": (a[None], b[None])}, 2.0), "updates of shapes")
    refused(write_peft(tmp_path / "whole", {"x": (a.astype(np.int32), b)}, 2.0), "numbers in I32 and F32")


@pytest.mark.parametrize(("file", "lost"), [("of-peft", "lora_B"), ("of-mlx", "lora_a")])
def test_a_layer_without_its_other_half(tmp_path, trained, file, lost):
    from safetensors.numpy import load_file, save_file

    source = trained["peft" if file == "of-peft" else "mlx-lm"]
    folder = shutil.copytree(source, tmp_path / "half")
    [path] = folder.glob("*.safetensors")
    tensors = load_file(path)
    del tensors[next(name for name in tensors if lost in name)]
    save_file(tensors, path)
    with pytest.raises(AdapterError, match=f"has no {lost[-1].upper()} for model.layers"):
        read_adapter(folder)
    tensors["something.else"] = np.zeros((2, 2), np.float32)
    save_file(tensors, path)
    with pytest.raises(AdapterError, match="only low-rank updates"):
        read_adapter(folder)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_adapter_for_another_model(engine, trained, checkpoint, tmp_path, backend):
    other = checkpoint("qwen2-tied-yarn")
    asked = {"model": str(other), "backend": backend, "max_tokens": 2}
    says = r"does not fit .*o_proj has 64 outputs and 64 inputs there, its update 64 and 128.*made for some/base\."
    with pytest.raises(AdapterError, match=says):
        engine.generate("Hi", adapter=trained["peft"], **asked)
    a, b = trained["updates"][TARGETS[0]]
    far = write_peft(tmp_path / "far", {"model.layers.77.self_attn.q_proj": (a, b)}, 2.0)
    with pytest.raises(
        UnsupportedModelError, match=r"updates model\.layers\.77\.self_attn\.q_proj, which .* has not in"
    ):
        engine.generate("Hi", adapter=far, **asked)
    norm = write_peft(tmp_path / "norm", {"model.norm": (a, b)}, 2.0)
    with pytest.raises(UnsupportedModelError, match=r"cannot be added to model\.norm"):
        engine.generate("Hi", adapter=norm, **asked)
    assert engine.generate("Hi", **asked).tokens  # the model itself is as good as before


def test_a_family_whose_names_are_not_known_takes_its_own_library_s_adapters_only(engine, checkpoint, tmp_path):
    base = checkpoint("falcon-h1")
    updates = draw_updates(base, ["model.layers.0.self_attn.q_proj"])
    of_mlx, of_peft = write_mlx(tmp_path / "a", updates, 4.0), write_peft(tmp_path / "b", updates, 16.0)
    asked = {"model": str(base), "max_tokens": 4}
    assert engine.generate("Hi", backend="torch", adapter=of_peft, **asked).tokens
    with pytest.raises(UnsupportedModelError, match=r"made by mlx-lm for .*a falcon_h1, whose layers torch may name"):
        engine.generate("Hi", backend="torch", adapter=of_mlx, **asked)
    with pytest.raises(UnsupportedModelError, match=r"made by peft for .*Take --backend torch"):
        engine.generate("Hi", backend="mlx", adapter=of_peft, **asked)


def test_auto_says_once_what_is_wrong(engine, trained, tmp_path):
    with pytest.raises(AdapterError, match="is not there"):
        engine.generate("Hi", model=str(trained["base"]), adapter=tmp_path / "nowhere")


def test_a_draft_has_no_adapter(engine, trained):
    asked = {"model": str(trained["base"]), "backend": "torch", "adapter": trained["peft"], "max_tokens": 12}
    plain = engine.generate("Hello", **asked)
    guessed = engine.generate("Hello", draft=str(trained["base"]), **asked)
    assert guessed.tokens == plain.tokens
    assert guessed.speculation is not None
    assert guessed.speculation.accepted < guessed.speculation.proposed


def test_rows_of_another_adapter_are_not_those_that_were_kept(trained, tmp_path, monkeypatch):
    """Also where it has the same path, as after more training."""
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    adapter = write_mlx(tmp_path / "growing", trained["updates"], 2.0)
    asked = {"model": str(trained["base"]), "backend": "torch", "adapter": adapter, "max_tokens": 8, "temperature": 1.0}

    def run() -> tuple[int, list[list[int]]]:
        made = Engine()
        try:
            job = made.map("{{ row }}", ["a", "b"], seed=3, **asked)
            return job.kept, [result.tokens for result in job]
        finally:
            made.close()

    kept, first = run()
    assert kept == 0
    assert run() == (2, first)
    shutil.rmtree(adapter)
    write_mlx(adapter, draw_updates(trained["base"], TARGETS, seed=9), 2.0)
    kept, other = run()
    assert kept == 0
    assert other != first


def test_a_conversation_that_is_shortened_loads_no_second_model(trained):
    """Its prompts are counted with the model that answers."""
    made = Engine(caching=False)
    try:
        chat = made.chats.open("long")
        asked = {"model": str(trained["base"]), "backend": "torch", "adapter": trained["peft"], "max_tokens": 8}
        for number in range(4):
            result = chat.ask(f"{number} {'word ' * 120}", overflow="drop", **asked)
        assert result.left_out
        assert [info.adapter for info in made.models()] == ["of-peft"]
    finally:
        made.close()


@pytest.mark.parametrize("family", ["gemma2", "phi3", "qwen3", "starcoder2"])
def test_families_with_other_layers_come_out_as_their_merged_weights(engine, checkpoint, tmp_path, family):
    """Every linear layer, joined projections and biases among them; both libraries' adapters, on both backends."""
    from safetensors.numpy import load_file

    base = checkpoint(family)
    weights = load_file(base / "model.safetensors")
    names = [name for name, weight in weights.items() if weight.ndim == 2 and ("proj" in name or "fc" in name)]
    updates = draw_updates(base, [name.removesuffix(".weight") for name in names])
    peft, mlx = write_peft(tmp_path / "a", updates, 2.0), write_mlx(tmp_path / "b", updates, 0.5)
    whole = merged(base, tmp_path / "merged", updates, 0.5)
    for backend in BACKENDS:
        asked = {"backend": backend, "max_tokens": 8, "cache": "off"}
        expected = engine.generate("Hello", model=str(whole), **asked).tokens
        assert engine.generate("Hello", model=str(base), **asked).tokens != expected
        for adapter in (peft, mlx):
            assert engine.generate("Hello", model=str(base), adapter=adapter, **asked).tokens == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_perplexity_is_that_of_the_merged_weights(engine, trained, backend):
    asked = {"backend": backend, "adapter": trained["peft"]}
    found = engine.perplexity("def f(x): return x", model=str(trained["base"]), **asked)
    merged_in = engine.perplexity("def f(x): return x", model=str(trained["merged"]), backend=backend)
    bare = engine.perplexity("def f(x): return x", model=str(trained["base"]), backend=backend)
    assert found.value == pytest.approx(merged_in.value, rel=1e-4)
    assert abs(bare.value / merged_in.value - 1) > 0.01
    table = perplexities(engine, ["def f(x): return x"], str(trained["base"]), **asked)
    assert table.total.value == pytest.approx(found.value, rel=1e-6)
    assert f"{trained['base'].name} + of-peft" in perplexity_table(table).text()
