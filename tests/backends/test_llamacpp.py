"""GGUF models on llama.cpp answer as the same models do elsewhere, and everything around an answer is the same too."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mlxnb.pocket
from mlxnb.backends.base import Cancelled, Watch
from mlxnb.backends.llamacpp import LlamaCppBackend
from mlxnb.backends.prefill import prefill
from mlxnb.backends.reuse import Feed
from mlxnb.decision import Absent, Rejected
from mlxnb.errors import (
    DamagedModelError,
    ModelTooLargeError,
    NotAModelError,
    OptionError,
    PromptTooLongError,
    TemplateError,
    UnsupportedModelError,
)
from mlxnb.models import ModelSource, resolve
from mlxnb.pocket.build.exports import as_gguf
from mlxnb.request import Request
from mlxnb.runtime import Engine
from tests.tiny import FAMILIES, Maker, rope, save

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
pytest.importorskip("gguf", reason="gguf writes the models")
torch = pytest.importorskip("torch", reason="torch makes the models")

from mlxnb.models.gguf import to_gguf  # noqa: E402

PROMPT = "What does itertools.chain do, and how do I call it with several lists?"
YARN = {"rope_type": "yarn", "rope_theta": 30000.0, "factor": 4.0, "original_max_position_embeddings": 128}
MADE = {
    "qwen2-yarn": ("Qwen2Config", {"rope_parameters": YARN, "tie_word_embeddings": True}),
    "llama-linear-biases": FAMILIES["llama-biases"],
    "llama-yarn": ("LlamaConfig", {"rope_parameters": YARN, "head_dim": 32, "tie_word_embeddings": False}),
    "olmo2": ("Olmo2Config", {"rope_parameters": rope(8000.0)}),
    "granite": (
        "GraniteConfig",
        {
            "rope_parameters": rope(6000.0),
            "attention_multiplier": 0.3,
            "embedding_multiplier": 3.0,
            "residual_multiplier": 0.7,
            "logits_scaling": 2.5,
        },
    ),
    "qwen3-moe": (
        "Qwen3MoeConfig",
        {
            "rope_parameters": rope(7000.0),
            "head_dim": 32,
            "num_experts": 8,
            "num_experts_per_tok": 3,
            "moe_intermediate_size": 32,
            "norm_topk_prob": True,
            "tie_word_embeddings": False,
        },
    ),
    "qwen3-odd": ("Qwen3Config", {"rope_parameters": rope(12345.0), "head_dim": 24, "num_key_value_heads": 1}),
}


@pytest.fixture(scope="session")
def written(checkpoint: Maker, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Writes a tiny checkpoint as GGUF in float32; the file lies beside the checkpoint's folder."""
    folder = tmp_path_factory.mktemp("written")

    def make(family: str) -> Path:
        file = folder / f"{family}.gguf"
        if not file.exists():
            path = save(*MADE[family], folder / family) if family in MADE else checkpoint(family)
            to_gguf(ModelSource(family, path, "path"), file, dtype="float32")
        return file

    return make


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "llama", "mistral", *MADE])
def test_equal_greedy_tokens(engine: Engine, checkpoint: Maker, written: Maker, family: str) -> None:
    file = written(family)
    path = file.with_suffix("") if family in MADE else checkpoint(family)
    ours = engine.generate(PROMPT, model=str(file), backend="llamacpp", max_tokens=40)
    theirs = engine.generate(PROMPT, model=str(path), backend="torch", dtype="float32", max_tokens=40)
    assert ours.tokens == theirs.tokens
    assert ours.text == theirs.text
    assert len(set(ours.tokens)) > 5
    assert ours.provenance.backend == "llamacpp"


QUESTIONS = ["What does itertools.chain do?", "Where is sqrt?", "Tell me about the weather in Paris.", "Hi!"]


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_pocket_model_answers_alike_everywhere(engine: Engine, question: str) -> None:
    pytest.importorskip("mlx.core", reason="mlx is one of the three")
    mlx, torch, llama = (
        engine.generate(question, backend=name, dtype="float32") for name in ("mlx", "torch", "llamacpp")
    )
    assert mlx.text == torch.text == llama.text != ""
    assert mlx.tokens == torch.tokens == llama.tokens
    assert llama.finish_reason == "stop"
    assert llama.provenance.prompt_tokens == torch.provenance.prompt_tokens
    assert llama.provenance.dtype == "float32"


def test_auto_takes_a_gguf_file_where_it_runs(engine: Engine, written: Maker) -> None:
    result = engine.generate("Hi!", model=str(written("qwen3")), max_tokens=3)
    assert result.provenance.backend == "llamacpp"
    with pytest.raises(UnsupportedModelError, match="is GGUF"):
        engine.generate("Hi!", model=str(written("qwen3")), backend="torch")


def test_auto_never_converts() -> None:
    found = LlamaCppBackend().find("pocket", lambda: resolve("pocket"), named=False)
    assert isinstance(found, Rejected)
    assert "auto converts none" in found.reason


def test_the_pocket_model_is_written_once() -> None:
    backend = LlamaCppBackend()
    found = [backend.find("pocket", lambda: resolve("pocket"), named=True) for _ in range(2)]
    assert found[0] == found[1]
    assert isinstance(found[0], ModelSource)
    assert found[0].format == "gguf"
    assert found[0].path.parent.name == "gguf"


def test_a_damaged_pocket_model_is_written_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mlxnb.pocket.build.exports.cache_dir", lambda: tmp_path)
    file = as_gguf(resolve("pocket")).path
    content = file.read_bytes()
    file.write_bytes(content[:-5000])
    assert as_gguf(resolve("pocket")).path == file
    assert file.stat().st_size == len(content)


def test_safetensors_are_rejected_with_what_converts_them(engine: Engine, checkpoint: Maker) -> None:
    with pytest.raises(UnsupportedModelError, match=r"stored in safetensors.*%mlxnb convert"):
        engine.generate("Hi!", model=str(checkpoint("qwen3")), backend="llamacpp")


def test_without_llama_cpp_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    found = LlamaCppBackend().available()
    assert isinstance(found, Absent)
    assert "pip install 'mlxnb[llamacpp]'" in found.remedy
    assert "minutes" in found.remedy


# Around an answer.


def test_a_stop_string_ends_it(engine: Engine) -> None:
    whole = engine.generate(QUESTIONS[0], backend="llamacpp").text
    part = engine.generate(QUESTIONS[0], backend="llamacpp", stop=[whole[10:14]])
    assert part.text == whole[:10]
    assert part.finish_reason == "stop"


def test_a_limit_ends_it_and_tokens_stream(engine: Engine) -> None:
    chunks = list(engine.stream(QUESTIONS[0], backend="llamacpp", max_tokens=7))
    assert len([chunk for chunk in chunks if chunk.token is not None]) == 7
    assert engine.generate(QUESTIONS[0], backend="llamacpp", max_tokens=7).finish_reason == "length"


def test_a_seed_repeats(engine: Engine, written: Maker) -> None:
    options = {"model": str(written("qwen3")), "temperature": 1.5, "top_p": 0.95, "min_p": 0.01, "max_tokens": 30}
    one, two, other = (engine.generate(QUESTIONS[2], seed=seed, **options) for seed in (7, 7, 8))
    assert one.tokens == two.tokens
    assert one.tokens != other.tokens


def test_a_repetition_penalty_counts(engine: Engine, written: Maker, checkpoint: Maker) -> None:
    file = written("qwen3")
    options = {"repetition_penalty": 1.7, "max_tokens": 25}
    ours = engine.generate(PROMPT, model=str(file), backend="llamacpp", **options)
    theirs = engine.generate(PROMPT, model=str(checkpoint("qwen3")), backend="torch", dtype="float32", **options)
    assert ours.tokens == theirs.tokens
    assert ours.tokens != engine.generate(PROMPT, model=str(file), backend="llamacpp", max_tokens=25).tokens


def test_a_cancelled_answer_keeps_its_text(engine: Engine, held_after: Callable[[int], None]) -> None:
    held_after(4)
    job = engine.submit(Request.of(QUESTIONS[0], backend="llamacpp"))
    for chunk in job:
        if chunk.text:
            job.cancel()
            break
    result = job.result()
    assert result.finish_reason == "interrupted"
    assert engine.generate("Where is sqrt?", backend="llamacpp").text


def test_a_prefill_is_cancelled_within_a_piece(engine: Engine, written: Maker) -> None:
    """The library itself is stopped, not only between pieces; what comes next starts from what is whole."""
    file = str(written("qwen3"))
    expected = engine.generate(PROMPT, model=file, backend="llamacpp", max_tokens=10).tokens
    job = engine.submit(Request.of("word " * 400, model=file, backend="llamacpp", raw=True, max_tokens=2))
    job.cancel()
    assert job.result().finish_reason == "interrupted"
    assert engine.generate(PROMPT, model=file, backend="llamacpp", max_tokens=10).tokens == expected


def test_a_long_answer_outgrows_the_first_context(tmp_path: Path) -> None:
    differs = {"head_dim": 32, "rope_parameters": rope(7000.0), "max_position_embeddings": 4096, "eos_token_id": None}
    path = save("Qwen3Config", differs, tmp_path / "long")
    file = to_gguf(ModelSource("long", path, "path"), tmp_path / "long.gguf", dtype="float32")
    own = Engine(caching=False)
    try:
        prompt, options = "one two three " * 280, {"raw": True, "max_tokens": 700}
        ours = own.generate(prompt, model=str(file), backend="llamacpp", **options)
        theirs = own.generate(prompt, model=str(path), backend="torch", dtype="float32", **options)
    finally:
        own.close()
    assert ours.provenance.prompt_tokens + len(ours.tokens) > 1200
    assert ours.tokens[:300] == theirs.tokens[:300]  # random weights: near ties decide some time


def test_too_long_a_prompt(engine: Engine, written: Maker) -> None:
    with pytest.raises(PromptTooLongError, match="context of 512"):
        engine.generate("word " * 600, model=str(written("qwen3")), backend="llamacpp", raw=True)


def test_what_it_cannot_do_is_refused_by_name(engine: Engine, written: Maker) -> None:
    file = str(written("qwen3"))
    for options, words in (
        ({"quantize": "int8"}, "quantize int8 not used: a GGUF model runs as it is stored, in float32"),
        ({"dtype": "bfloat16"}, "dtype bfloat16 not used: a GGUF model runs as it is stored"),
        ({"kv_bits": 8}, "kv_bits 8 not used: llamacpp keeps its KV cache in float32"),
        ({"prefill_step": 64}, "prefill_step 64 not used: llamacpp feeds this model in pieces of its own"),
    ):
        asked = {"model": file, "backend": "llamacpp", "max_tokens": 2, **options}
        assert any(words in note for note in engine.generate("Hi!", **asked).provenance.notes), words
        with pytest.raises(OptionError):
            engine.generate("Hi!", strict=True, **asked)
    with pytest.raises(OptionError, match="draft"):
        engine.generate("Hi!", model=file, backend="llamacpp", draft="lookup", strict=True)


def test_perplexity_is_torch_s(engine: Engine, written: Maker, checkpoint: Maker) -> None:
    ids = [*range(100, 260)]
    ours, theirs = (
        engine.call(lambda p=path, b=backend: engine._models.get(str(p), b).model.losses(ids))
        for path, backend in ((written("qwen3"), "llamacpp"), (checkpoint("qwen3"), "torch"))
    )
    assert len(ours) == len(ids) - 1
    assert ours == pytest.approx(theirs, abs=2e-3)


@pytest.mark.parametrize(("kind", "bound"), [("q8_0", 0.01), ("q4_0", 0.3)])
def test_quantising_costs_little(engine: Engine, tmp_path: Path, kind: str, bound: float) -> None:
    source = resolve("pocket")
    file = to_gguf(source, tmp_path / "pocket.gguf", quantize=kind)

    answers = [engine.generate(question, backend="llamacpp").tokens for question in QUESTIONS]

    def losses(path: str) -> list[float]:
        """Of every token of the answers that the model gives in full precision."""
        model, said = engine._models.get(path, "llamacpp").model, []
        for question, answer in zip(QUESTIONS, answers, strict=True):
            said += model.losses([*model.tokenizer.prompt(Request.of(question)).ids, *answer])[-len(answer) :]
        return said

    full, less = (engine.call(lambda p=path: losses(p)) for path in ("pocket", str(file)))
    mean = sum(abs(a - b) for a, b in zip(full, less, strict=True)) / len(full)
    assert 0 < mean < bound
    info = next(info for info in engine.models() if info.quantization == kind.upper())
    assert info.backend == "llamacpp"


# Tokenizers.


@pytest.fixture(scope="module")
def tokenizers(engine: Engine) -> Iterator[tuple]:
    from mlxnb.backends.tokenizer import Tokenizer

    model = engine.call(lambda: engine._models.get("pocket", "llamacpp").model)
    return model.tokenizer, Tokenizer(mlxnb.pocket.path())


@settings(max_examples=300)
@given(st.text())
@example("  <|im_start|>user\n\n  it's 3.14 <|im_end|>\t<|endoftext|>x<|im")
@example("\x00 \ufeff\u200d🙂")
def test_text_becomes_the_same_tokens_and_back(tokenizers: tuple, text: str) -> None:
    ours, theirs = tokenizers
    ids = theirs.inner.encode(text, add_special_tokens=False)
    assert ours.inner.encode(text, add_special_tokens=False) == ids
    assert ours.decode(ids) == theirs.decode(ids)


@settings(max_examples=150)
@given(st.lists(st.integers(0, 4095), max_size=30))
def test_any_tokens_become_the_same_text(tokenizers: tuple, ids: list[int]) -> None:
    ours, theirs = tokenizers
    assert ours.decode(ids) == theirs.decode(ids)
    assert ours.inner.decode(ids) == theirs.inner.decode(ids, clean_up_tokenization_spaces=False)


def test_prompts_are_the_same(tokenizers: tuple) -> None:
    ours, theirs = tokenizers
    request = Request.of("Where is sqrt?", system="Be brief.")
    assert ours.prompt(request).ids == theirs.prompt(request).ids
    assert ours.turn_ends(request, ours.prompt(request).ids) == theirs.turn_ends(request, theirs.prompt(request).ids)
    assert ours.end_ids == theirs.end_ids
    assert ours.inner.eos_token_id == theirs.inner.eos_token_id
    assert ours.inner.get_vocab() == theirs.inner.get_vocab()


def test_a_hostile_template_is_an_error(engine: Engine, checkpoint: Maker, tmp_path: Path) -> None:
    import json
    import shutil

    folder = shutil.copytree(checkpoint("qwen3"), tmp_path / "hostile")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = "{{ messages.__class__.__mro__[-1].__subclasses__() }}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    file = to_gguf(ModelSource("hostile", folder, "path"), tmp_path / "hostile.gguf")
    with pytest.raises(TemplateError):
        engine.generate("Hi!", model=str(file), backend="llamacpp")
    assert engine.generate("Hi!", model=str(file), backend="llamacpp", raw=True, max_tokens=2).tokens


# Files.


def test_a_cut_file_is_damaged(engine: Engine, written: Maker, tmp_path: Path) -> None:
    content = written("qwen3").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[:-5000])
    with pytest.raises(DamagedModelError, match=r"cut\.gguf is cut off"):
        engine.generate("Hi!", model=str(tmp_path / "cut.gguf"))


def test_an_architecture_that_nobody_knows(engine: Engine, written: Maker, tmp_path: Path) -> None:
    content = written("qwen3").read_bytes().replace(b"qwen3", b"qwen9")
    (tmp_path / "new.gguf").write_bytes(content)
    with pytest.raises(UnsupportedModelError, match="unknown model architecture: 'qwen9'"):
        engine.generate("Hi!", model=str(tmp_path / "new.gguf"), backend="llamacpp")


def test_a_file_without_vocabulary_is_refused(written: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp would abort the process where such a one is asked for the text of a token."""
    from mlxnb.models.llama_library import library

    monkeypatch.setattr(library().module, "llama_vocab_type", lambda vocab: 0)
    with pytest.raises(UnsupportedModelError, match="holds no vocabulary"):
        LlamaCppBackend().load(ModelSource("m", written("qwen3"), "path", format="gguf"))


def test_a_model_without_a_kv_cache_is_refused(written: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """As BERT is, which makes embeddings: llama.cpp gives such a one logits that say nothing."""
    from mlxnb.models.llama_library import library

    monkeypatch.setattr(library().module, "llama_get_memory", lambda context: None)
    with pytest.raises(UnsupportedModelError, match=r"\(qwen3\) keeps no KV cache"):
        LlamaCppBackend().load(ModelSource("m", written("qwen3"), "path", format="gguf"))


def test_a_folder_with_several_names_them(engine: Engine, written: Maker, tmp_path: Path) -> None:
    for name in ("m-Q4_0.gguf", "m-Q8_0.gguf"):
        (tmp_path / name).write_bytes(written("qwen3").read_bytes())
    with pytest.raises(NotAModelError, match=r"2 GGUF models: m-Q4_0\.gguf, m-Q8_0\.gguf"):
        engine.generate("Hi!", model=str(tmp_path), backend="llamacpp")
    (tmp_path / "m-Q4_0.gguf").unlink()
    assert engine.generate("Hi!", model=str(tmp_path), max_tokens=2).provenance.backend == "llamacpp"


def test_too_large_a_model_is_refused(written: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlxnb.backends.llamacpp.memory_free", lambda: 200_000_000)
    source = ModelSource("m", written("qwen3"), "path", format="gguf")
    with pytest.raises(ModelTooLargeError, match="does not fit"):
        LlamaCppBackend().load(source)


def test_memory_bounds_the_context_and_that_is_said(
    written: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    differs = {"head_dim": 32, "max_position_embeddings": 1_000_000, "num_key_value_heads": 4}
    path = save("Qwen3Config", differs, tmp_path / "wide")
    file = to_gguf(ModelSource("wide", path, "path"), tmp_path / "wide.gguf")
    monkeypatch.setattr("mlxnb.backends.llamacpp.memory_free", lambda: 400_000_000)
    model = LlamaCppBackend().load(ModelSource("wide", file, "path", format="gguf"))
    try:
        held = model.info.context_length
        assert held is not None
        assert 4096 <= held < 1_000_000
        assert f"context lowered from 1000000 to {held} tokens" in model.info.notes[0]
    finally:
        model.close()


@pytest.mark.parametrize("short", ["weights", "context"])
def test_what_a_gpu_has_no_room_for_runs_on_the_cpu(
    written: Maker, monkeypatch: pytest.MonkeyPatch, short: str
) -> None:
    from mlxnb.models.llama_library import library

    api = library().module
    load, init = api.llama_model_load_from_file, api.llama_init_from_model
    monkeypatch.setattr(api, "llama_supports_gpu_offload", lambda: True)
    name, on_gpu = {
        "weights": ("llama_model_load_from_file", lambda file, p: None if p.n_gpu_layers else load(file, p)),
        "context": ("llama_init_from_model", lambda model, p: None if p.offload_kqv else init(model, p)),
    }[short]
    monkeypatch.setattr(api, name, on_gpu)
    model = LlamaCppBackend().load(ModelSource("m", written("qwen3"), "path", format="gguf"))
    try:
        assert model.info.device == "cpu"
        assert "on the CPU: llama.cpp" in model.info.notes[0]
    finally:
        model.close()


def test_no_memory_for_the_first_context_means_too_large(written: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxnb.models.llama_library import library

    monkeypatch.setattr(library().module, "llama_init_from_model", lambda model, params: None)
    with pytest.raises(ModelTooLargeError, match="could not make a context"):
        LlamaCppBackend().load(ModelSource("m", written("qwen3"), "path", format="gguf"))


def test_mapped_weights_leave_no_room_for_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """The system calls their pages free."""
    from types import SimpleNamespace

    from mlxnb.backends.llamacpp import MARGIN, _context_length

    monkeypatch.setattr("mlxnb.backends.llamacpp.memory_free", lambda: MARGIN + 10_000_000)
    llama = SimpleNamespace(module=SimpleNamespace(llama_model_n_ctx_train=lambda model: 100_000))
    assert _context_length(llama, None, 1000, 0)[0] == 9984
    assert _context_length(llama, None, 1000, 4_000_000)[0] == 5888


def test_threads_that_wait_for_one_another_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxnb.backends import llamacpp_threads

    tried: list[int] = []
    monkeypatch.setattr(llamacpp_threads, "_step_time", lambda context, count: tried.append(count) or 0.4 / count)
    threads = llamacpp_threads.measured((1, 2, 4), None, parameters=10**9)
    assert set(tried) == {2, 4}  # one alone would take long
    assert threads.best > 1
    for count in (2, 4):
        threads.saw(count, 5.0)
        assert threads.best > 1  # once is an accident
        threads.saw(count, 5.0)
    assert threads.best == 1
    for _ in range(2000):  # the cores are free again
        threads.saw(threads.best, 0.4 / threads.best)
    assert threads.best == 4


# States.


@pytest.fixture
def caching() -> Iterator[Engine]:
    made = Engine()
    yield made
    made.close()


def test_a_reused_prefix_gives_the_same_answer(engine: Engine, caching: Engine, written: Maker) -> None:
    file = str(written("qwen3"))
    document = "The quick brown fox jumps over the lazy dog. " * 20
    for i, question in enumerate(("Who jumps?", "Over whom?", "Who jumps?")):
        prompt = f"{document}{question}"
        asked = {"model": file, "backend": "llamacpp", "raw": True, "max_tokens": 20, "cache": "auto"}
        fresh = engine.generate(prompt, **{**asked, "cache": "off"})
        seeded = caching.generate(prompt, temperature=1e-4, seed=i, **asked)
        assert seeded.tokens == fresh.tokens
        assert (seeded.provenance.reused_tokens > 100) == (i > 0)


def test_states_are_cut_copied_and_stored(engine: Engine, written: Maker) -> None:
    model = engine.call(lambda: engine._models.get(str(written("llama")), "llamacpp").model)

    def work() -> None:
        context, states, ids = model._context, model.states, list(range(50, 150))
        state = model.new_state(Request.of("?"), None)
        whole = context.feed(state, ids).copy()
        half = states.trim(state, 40)
        kept = states.copy(state)
        arrays, meta = states.arrays(half)
        stored = states.state(arrays, meta)
        assert (state.length, half.length, stored.length) == (100, 40, 40)
        assert arrays["state"].nbytes < states.nbytes(state)
        for part in (half, stored):
            assert abs(context.feed(part, ids[40:]) - whole).max() < 1e-3
        assert context.feed(kept, [7]).argmax() == context.feed(state, [7]).argmax()
        assert states.size(state, 10) == 10 * 3 * 2 * 2 * 32 * 4

    engine.call(work)


@pytest.mark.parametrize("cuttable", [True, False])
def test_what_is_cancelled_in_a_piece_is_kept_only_where_it_can_be_cut(
    engine: Engine, written: Maker, monkeypatch: pytest.MonkeyPatch, cuttable: bool
) -> None:
    model = engine.call(lambda: engine._models.get(str(written("llama")), "llamacpp").model)
    monkeypatch.setattr(model.states, "cuttable", cuttable)

    def work() -> None:
        ids, watch = list(range(50, 100)), Watch()
        feed = Feed(model.new_state(Request.of("?"), watch))
        feeding = model._feeding(ids, watch)
        prefill(feed, 20, 20, feeding)
        watch.cancelled.set()
        with pytest.raises(Cancelled):
            feeding.take(20, 50, feed)
        assert (feed.length, feed.state.length) == ((20, 20) if cuttable else (0, 0))

    engine.call(work)


@pytest.mark.parametrize("spoil", ["cut", "zeros", "longer", "other length", "no bytes"])
def test_spoilt_states_are_refused(engine: Engine, written: Maker, spoil: str) -> None:
    from mlxnb.cache import HostArray

    model = engine.call(lambda: engine._models.get(str(written("llama")), "llamacpp").model)

    def work() -> None:
        state = model.new_state(Request.of("?"), None)
        expected = model._context.feed(state, [5, 6, 7, 8]).copy()
        arrays, meta = model.states.arrays(state)
        data = arrays["state"].numpy().copy()
        changed = {
            "cut": data[:-9],
            "zeros": data * 0,
            "longer": data.repeat(2),
            "other length": data,
            "no bytes": data[:0],
        }[spoil]
        with pytest.raises(ValueError):
            model.states.state({"state": HostArray.of(changed)}, {"length": "9"} if spoil == "other length" else meta)
        again = model.states.state(arrays, meta)
        again.length = 3
        assert abs(model._context.feed(again, [8]) - expected).max() < 1e-3

    engine.call(work)


def test_closing_gives_memory_back(written: Maker) -> None:
    own = Engine(caching=False)
    own.generate("Hi!", model=str(written("qwen3")), max_tokens=2)
    assert own.unload(str(written("qwen3")))
    assert own.models() == []
    own.close()


def test_a_load_that_fails_late_leaves_no_context(written: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxnb.backends import llamacpp

    contexts: list[llamacpp.LlamaContext] = []

    def fail(counts: object, context: llamacpp.LlamaContext, parameters: int) -> None:
        contexts.append(context)
        raise KeyboardInterrupt

    monkeypatch.setattr(llamacpp, "measured", fail)
    with pytest.raises(KeyboardInterrupt):
        LlamaCppBackend().load(ModelSource("m", written("qwen3"), "path", format="gguf"))
    assert [context._context for context in contexts] == [None]


def test_quiet(written: Maker, capfd: pytest.CaptureFixture[str]) -> None:
    own = Engine(caching=False)
    own.generate("Hi!", model=str(written("qwen3")), max_tokens=2)
    own.close()
    time.sleep(0.05)
    assert capfd.readouterr() == ("", "")
