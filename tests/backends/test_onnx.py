"""onnxruntime-genai answers as torch does in float32, and all that surrounds an answer is as it is elsewhere."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.backends.onnx import OnnxBackend
from mlxnb.backends.onnx_sequence import LEAST, capacity_for
from mlxnb.backends.onnx_session import thread_options
from mlxnb.config import cache_dir
from mlxnb.decision import Absent, Rejected
from mlxnb.errors import DamagedModelError, ModelTooLargeError, OptionError, UnsupportedModelError
from mlxnb.hardware import Cores
from mlxnb.models import resolve
from mlxnb.models.onnx_export import exportable, to_onnx
from mlxnb.models.onnx_folder import inspect_onnx
from mlxnb.runtime import Engine

pytest.importorskip("torch", reason="the models are exported from torch")
pytest.importorskip("onnxruntime_genai", reason="pip install 'mlxnb[onnx]'")
if not exportable():
    pytest.skip(str(exportable()), allow_module_level=True)

QUESTIONS = ["What does itertools.chain do?", "Where is sqrt?", "Tell me about the weather in Paris.", "Hi!"]
PROMPT = "What does itertools.chain do, and how do I call it with several lists?"


@pytest.fixture(scope="module")
def pocket(tmp_path_factory) -> Path:
    """The pocket model in ONNX, as a folder of its own."""
    found = OnnxBackend().find("pocket", lambda: resolve("pocket"), named=True)
    return copy(found.path, tmp_path_factory.mktemp("onnx") / "pocket")


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_pocket_model_answers_as_on_torch(engine, question):
    onnx, torch = (engine.generate(question, backend=b, dtype="float32") for b in ("onnx", "torch"))
    assert onnx.text == torch.text != ""
    assert onnx.tokens == torch.tokens
    assert onnx.finish_reason == torch.finish_reason == "stop"
    assert onnx.provenance.backend == "onnx"
    assert onnx.provenance.dtype == "float32"
    assert onnx.provenance.prompt_tokens == torch.provenance.prompt_tokens
    assert any("exported to ONNX in float32, once" in note for note in onnx.provenance.notes)


def test_it_was_exported_once_into_the_cache_folder(engine):
    engine.load("pocket", backend="onnx")
    [folder] = (cache_dir() / "onnx").glob("pocket-*")
    before = (folder / "genai_config.json").stat().st_mtime_ns
    engine.unload("pocket")
    engine.load("pocket", backend="onnx")
    assert (folder / "genai_config.json").stat().st_mtime_ns == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # nothing left behind


def test_a_damaged_export_is_made_again(engine):
    engine.load("pocket", backend="onnx")
    engine.unload("pocket")
    [folder] = (cache_dir() / "onnx").glob("pocket-*")
    [weights] = folder.glob("*.data")
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert "itertools.chain" in engine.generate(QUESTIONS[0], backend="onnx").text


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_family_gives_the_greedy_tokens_of_torch(engine, checkpoint, tmp_path, family):
    source = checkpoint(family)
    target = to_onnx(resolve(str(source)), tmp_path / family)
    onnx = engine.generate(PROMPT, model=str(target), backend="onnx", max_tokens=40)
    torch = engine.generate(PROMPT, model=str(source), backend="torch", dtype="float32", max_tokens=40)
    assert onnx.tokens == torch.tokens
    assert len(set(onnx.tokens)) > 5


def test_auto_takes_a_folder_in_onnx_where_it_runs(engine, pocket):
    result = engine.generate(QUESTIONS[0], model=str(pocket))
    assert result.provenance.backend == "onnx"
    refused = [each for each in result.provenance.passed_over if not isinstance(each, Absent)]
    assert refused == []  # that the others do not read it tells nobody anything


def test_auto_never_exports(engine):
    backend = OnnxBackend()
    refused = backend.find("pocket", lambda: resolve("pocket"), named=False)
    assert isinstance(refused, Rejected)
    assert refused.remedy == "take --backend onnx"


def test_another_model_is_not_exported_even_where_onnx_is_named(engine, checkpoint):
    with pytest.raises(
        UnsupportedModelError, match=r"is not in ONNX\. Try to convert it with `%mlxnb convert .* --to onnx`"
    ):
        engine.generate("hi", model=str(checkpoint("llama")), backend="onnx")


def test_a_long_prompt_is_fed_in_pieces_alike(engine):
    words = "def f(x): return x  # café \N{COMPASS}\n" * 30
    onnx, torch = (
        engine.generate(words, backend=b, dtype="float32", raw=True, max_tokens=30) for b in ("onnx", "torch")
    )
    assert onnx.provenance.prompt_tokens > 300
    assert onnx.tokens == torch.tokens


def test_a_seed_repeats(engine, pocket):
    options = {"model": str(pocket), "temperature": 1.5, "top_p": 0.95, "max_tokens": 30, "raw": True}
    first, again, other = (engine.generate("import os\n", seed=seed, **options) for seed in (7, 7, 8))
    assert first.tokens == again.tokens != other.tokens
    assert first.provenance.sampling.seed == 7


def test_what_stops_an_answer(engine, pocket):
    whole = engine.generate(QUESTIONS[0], model=str(pocket))
    cut = engine.generate(QUESTIONS[0], model=str(pocket), stop="chain")
    assert cut.text == whole.text[: whole.text.index("chain")]
    assert cut.finish_reason == "stop"
    short = engine.generate(QUESTIONS[0], model=str(pocket), max_tokens=3)
    assert short.finish_reason == "length"
    assert short.tokens == whole.tokens[:3]


def test_an_interrupt_ends_it_and_leaves_the_model_whole(engine, pocket, monkeypatch, held_after):
    loaded = engine.call(lambda: engine._models.get(str(pocket))).model
    monkeypatch.setattr(loaded.tokenizer, "end_ids", frozenset())  # it must not be done before it is interrupted
    held_after(3)
    job = engine.stream("def " * 300, model=str(pocket), raw=True, max_tokens=500)
    for _ in zip(range(3), job, strict=False):
        pass
    job.cancel()
    assert job.result().finish_reason == "interrupted"
    monkeypatch.undo()
    assert "itertools.chain" in engine.generate(QUESTIONS[0], model=str(pocket)).text


@pytest.fixture(scope="module")
def caching() -> Engine:
    """An engine with its caches on; its answers are asked for with their own words each."""
    made = Engine()
    yield made
    made.close()


def test_a_conversation_goes_on_from_its_last_request(caching, pocket):
    talk = [{"role": "user", "content": QUESTIONS[0]}]
    first = caching.generate(talk, model=str(pocket))
    talk += [{"role": "assistant", "content": first.text}, {"role": "user", "content": "Where is it?"}]
    second = caching.generate(talk, model=str(pocket))
    assert first.provenance.reused_tokens == 0
    assert second.provenance.reused_tokens >= first.provenance.prompt_tokens
    fresh = caching.generate(talk, model=str(pocket), cache="off")
    assert fresh.provenance.reused_tokens == 0
    assert fresh.tokens == second.tokens
    after = caching.generate(f"{QUESTIONS[0]} Please.", model=str(pocket))
    assert after.provenance.reused_tokens == 0  # `off` kept nothing


def test_an_engine_without_caches_keeps_no_sequence(engine, pocket):
    jobs = [engine.stream(QUESTIONS[0], model=str(pocket)) for _ in range(2)]
    assert [job.result().provenance.reused_tokens for job in jobs] == [0, 0]
    assert [job.watch.afterwards for job in jobs] == [[], []]  # nobody would run them, and each would hold a KV cache


def test_a_secret_leaves_no_state_behind(caching, pocket, monkeypatch):
    monkeypatch.setenv("SOME_API_TOKEN", "hunter2hunter2")
    for word in ("good", "bad"):
        result = caching.generate(f"Is hunter2hunter2 {word}?", model=str(pocket), max_tokens=5)
        assert result.provenance.reused_tokens == 0
        assert "prefix cache not used: the prompt holds the value of SOME_API_TOKEN" in result.provenance.notes


def test_losses_are_those_of_torch(engine, pocket):
    text = "The function itertools.chain joins several iterables into one, and os.path.join joins paths. " * 20
    onnx = engine.perplexity(text, model=str(pocket), backend="onnx")
    torch = engine.perplexity(text, backend="torch", dtype="float32")
    assert onnx.tokens == torch.tokens > 300
    assert onnx.value == pytest.approx(torch.value, rel=1e-4)


def test_how_likely_every_token_is_comes_in_pieces_whatever_their_size(engine, pocket, monkeypatch):
    ids = list(range(40, 340))

    def log_probs(model):
        return [piece.copy() for piece in model.log_probs(ids)]

    few = engine.call_with(str(pocket), log_probs, "onnx")
    monkeypatch.setattr("mlxnb.backends.onnx_model.ROWS_BYTES", 4096 * 4 * 7)
    many = engine.call_with(str(pocket), log_probs, "onnx")
    assert [len(piece) for piece in few] == [256, 43]
    assert {len(piece) for piece in many} == {7, 5}
    whole = np.concatenate(few)
    np.testing.assert_allclose(whole, np.concatenate(many), atol=1e-3)
    losses = engine.call_with(str(pocket), lambda model: model.losses(ids), "onnx")
    np.testing.assert_allclose(losses, -whole[np.arange(299), ids[1:]], atol=1e-3)


@given(tokens=st.integers(1, 5000), context=st.integers(1, 5000))
def test_a_sequence_has_room_for_what_it_is_made_for(tokens, context):
    room = capacity_for(tokens, context)
    assert min(tokens, context) <= room <= max(LEAST, 2 * tokens)
    assert room <= context


class TestWhatItCannotDo:
    """Refused by name: noted, or raised where the request is strict."""

    def test_kv_bits(self, engine, pocket):
        result = engine.generate("Hi!", model=str(pocket), kv_bits=8)
        assert any("kv_bits 8 not used: onnx keeps its KV cache in float32" in note for note in result.provenance.notes)
        with pytest.raises(OptionError, match="v_bits 8 not used"):
            engine.generate("Hi!", model=str(pocket), backend="onnx", kv_bits=8, strict=True)

    @pytest.mark.parametrize("option", [{"dtype": "bfloat16"}, {"quantize": "int4"}])
    def test_another_precision_than_it_was_exported_in(self, engine, pocket, option):
        [(name, value)] = option.items()
        result = engine.generate("Hi!", model=str(pocket), **option)
        assert f"{name} {value} not used: the model was exported in float32" in result.provenance.notes
        assert result.provenance.dtype == "float32"
        with pytest.raises(OptionError, match=f"{name} {value} of .* was refused: the model was exported in float32"):
            engine.generate("Hi!", model=str(pocket), backend="onnx", strict=True, **option)

    def test_a_draft(self, engine, pocket):
        result = engine.generate("Hi!", model=str(pocket), draft="lookup")
        assert any("draft lookup not used: the onnx backend cannot" in note for note in result.provenance.notes)


class TestDamage:
    """Every part of a folder may be missing or broken; the error names it, and the process goes on."""

    @pytest.mark.parametrize(
        ("name", "said"),
        [
            ("model.onnx", r"model\.onnx cannot be read|model\.onnx is missing"),
            ("model.onnx.data", r"model\.onnx\.data is missing"),
            ("tokenizer.json", "has no tokenizer"),
        ],
    )
    def test_a_missing_file_is_named(self, engine, pocket, tmp_path, name, said):
        folder = copy(pocket, tmp_path / "gone")
        (folder / name).unlink()
        with pytest.raises(Exception, match=said):
            engine.load(str(folder), backend="onnx")

    @pytest.mark.parametrize(
        ("part", "said"),
        [
            (("model",), "has no model"),
            (("model", "decoder"), r"has no model\.decoder"),
            (("model", "decoder", "filename"), r"has no model\.decoder\.filename"),
            (("model", "decoder", "inputs"), r"has no model\.decoder\.inputs"),
            (("model", "decoder", "num_hidden_layers"), r"has model\.decoder\.num_hidden_layers = None"),
            (("model", "context_length"), r"has model\.context_length = None"),
            (("model", "type"), r"has no model\.type"),
        ],
    )
    def test_a_missing_part_of_genai_config_is_named(self, engine, pocket, tmp_path, part, said):
        folder = copy(pocket, tmp_path / "part")
        config = json.loads((folder / "genai_config.json").read_text())
        inner = config
        for name in part[:-1]:
            inner = inner[name]
        del inner[part[-1]]
        (folder / "genai_config.json").write_text(json.dumps(config))
        with pytest.raises(DamagedModelError, match=rf"genai_config\.json {said}"):
            engine.load(str(folder), backend="onnx")

    @pytest.mark.parametrize(
        ("place", "name"),
        [
            (("model", "decoder", "session_options"), "custom_ops_library"),
            (("model", "decoder", "session_options"), "enable_profiling"),
            (("model", "decoder", "session_options"), "session.collect_node_memory_stats_to_file"),
            (("model", "decoder", "session_options"), "ep.context_file_path"),
            (("search",), "custom_ops_library"),
        ],
    )
    def test_what_may_run_code_or_write_files_is_refused(self, pocket, tmp_path, place, name):
        folder = copy(pocket, tmp_path / "hostile")
        config = json.loads((folder / "genai_config.json").read_text())
        inner = config
        for part in place:
            inner = inner[part]
        inner[name] = str(tmp_path / "evil.so")
        (folder / "genai_config.json").write_text(json.dumps(config))
        with pytest.raises(DamagedModelError, match=r"asks for '.*', which may run code or write files"):
            inspect_onnx(folder)

    @pytest.mark.parametrize("option", ["gpu_external_alloc", "backend_path"])
    def test_so_are_such_options_of_a_provider(self, pocket, tmp_path, option):
        folder = copy(pocket, tmp_path / "provider")
        config = json.loads((folder / "genai_config.json").read_text())
        config["model"]["decoder"]["session_options"]["provider_options"] = [{"cuda": {option: "1"}}]
        (folder / "genai_config.json").write_text(json.dumps(config))
        with pytest.raises(DamagedModelError, match=f"asks for '{option}'"):
            inspect_onnx(folder)

    def test_a_genai_config_that_says_a_thing_twice(self, pocket, tmp_path):
        folder = copy(pocket, tmp_path / "twice")
        text = (folder / "genai_config.json").read_text().rstrip()
        (folder / "genai_config.json").write_text('{"model": {}, ' + text[1:])
        with pytest.raises(DamagedModelError, match="has 'model' twice in one object"):
            inspect_onnx(folder)

    def test_a_graph_that_cannot_be_parsed(self, engine, pocket, tmp_path):
        folder = copy(pocket, tmp_path / "graph")
        graph = (folder / "model.onnx").read_bytes()
        (folder / "model.onnx").write_bytes(graph[: len(graph) // 2])
        with pytest.raises(DamagedModelError, match="cut off"):
            engine.load(str(folder), backend="onnx")

    def test_a_type_that_the_library_does_not_know(self, engine, pocket, tmp_path):
        folder = copy(pocket, tmp_path / "type")
        config = json.loads((folder / "genai_config.json").read_text())
        config["model"]["type"] = "llama9"
        (folder / "genai_config.json").write_text(json.dumps(config))
        with pytest.raises(UnsupportedModelError, match="llama9"):
            engine.load(str(folder), backend="onnx")

    def test_a_model_with_eyes(self, engine, pocket, tmp_path):
        folder = copy(pocket, tmp_path / "eyes")
        config = json.loads((folder / "genai_config.json").read_text())
        config["model"]["vision"] = {"filename": "vision.onnx"}
        (folder / "genai_config.json").write_text(json.dumps(config))
        with pytest.raises(UnsupportedModelError, match="a part for vision"):
            engine.load(str(folder), backend="onnx")


def test_a_provider_that_this_build_has_not_is_passed_over_and_said(engine, pocket, tmp_path):
    folder = copy(pocket, tmp_path / "cuda")
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["decoder"]["session_options"]["provider_options"] = [{"cuda": {}}]
    (folder / "genai_config.json").write_text(json.dumps(config))
    info = engine.load(str(folder), backend="onnx")
    if info.device == "cpu":
        assert any(note.startswith("CUDA passed over: ") for note in info.notes)
    assert "itertools.chain" in engine.generate(QUESTIONS[0], model=str(folder)).text


@pytest.mark.parametrize(
    ("cores", "threads"),
    [(Cores(16, 8), 8), (Cores(2, 8), 2), (Cores(4), 4), (Cores(12, 12, 8, 4), 8), (Cores(1, None), 1)],
)
def test_as_many_threads_as_fast_cores_that_it_may_use(cores, threads):
    assert thread_options(cores)["intra_op_num_threads"] == threads


def test_a_model_larger_than_memory_is_refused_before_it_is_loaded(engine, pocket, monkeypatch):
    monkeypatch.setattr("mlxnb.models.fit.memory_free", lambda: 10_000_000)
    with pytest.raises(ModelTooLargeError, match="does not fit"):
        OnnxBackend().load(resolve(str(pocket)))


def test_without_the_library_it_says_what_installs_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    absent = OnnxBackend().available()
    assert isinstance(absent, Absent)
    assert absent.remedy == "pip install 'mlxnb[onnx]'"
    assert "onnxruntime-genai" in absent.reason
