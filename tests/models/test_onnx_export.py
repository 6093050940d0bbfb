"""An export is shown right before it is written, and is there whole or not at all."""

import json
import shutil
from pathlib import Path

import pytest

from mlxnb.errors import BackendMissingError, ModelError, OptionError, UnsupportedModelError
from mlxnb.models import resolve
from mlxnb.models.onnx_build import LAYERS, first_layers
from mlxnb.models.onnx_export import exportable, to_onnx
from mlxnb.models.onnx_folder import inspect_onnx
from mlxnb.pocket.build.heldout import questions

pytest.importorskip("torch", reason="the models are exported from torch")
if not exportable():
    pytest.skip(str(exportable()), allow_module_level=True)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder with nothing in it, to write to."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def test_what_is_written_is_what_was_there(engine, out):
    heard: list[tuple[int, int]] = []
    target = to_onnx(resolve("pocket"), out / "new", quantize="int4", progress=lambda *at: heard.append(at))
    found = inspect_onnx(target)
    assert found.quantization == "4-bit"
    assert found.dtype == "float32"
    assert found.parameters == pytest.approx(3_800_000, rel=0.02)
    assert found.context_length == 1024
    assert (found.layers, found.heads, found.kv_heads, found.head_dim) == (4, 4, 2, 64)
    assert found.weight_bytes <= (target / "model.onnx.data").stat().st_size < found.weight_bytes * 1.01
    assert heard == [(step, len(heard)) for step in range(1, len(heard) + 1)]
    assert [path.name for path in out.iterdir()] == ["new"]
    asked = [q for q in questions("tuning", 1) if len(q.messages) == 1]
    texts = [(q.messages[0]["content"], q.accepted[0]) for q in asked]
    full = engine.perplexity(texts, backend="torch", dtype="float32")
    int4 = engine.perplexity(texts, model=str(target), backend="onnx")
    assert int4.tokens == full.tokens > 200
    assert int4.value != full.value
    assert int4.value == pytest.approx(full.value, rel=5e-3)  # 1.00622 and 1.00605 over 78 such questions


def test_a_model_that_the_builder_writes_wrongly_is_refused(checkpoint, out):
    """It takes this one without a word: with other angles, its logits differ by more than they are large."""
    with pytest.raises(UnsupportedModelError, match=r"computes something else: logits of up to \d.* differ by up to"):
        to_onnx(resolve(str(checkpoint("llama-yarn-untruncated"))), out / "new")
    assert list(out.iterdir()) == []


def test_a_family_that_the_builder_does_not_know_is_named(checkpoint, out):
    with pytest.raises(UnsupportedModelError, match=r"cannot export .* \(deepseek_v3\): .* not currently supported"):
        to_onnx(resolve(str(checkpoint("deepseek-v3-plain"))), out / "new")
    assert list(out.iterdir()) == []


def test_an_interrupt_leaves_nothing_behind(out):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        to_onnx(resolve("pocket"), out / "new", progress=stop)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("family", "said"),
    [("phi3-longrope", r"by the length of the text \(longrope\)"), ("mistral-window", "a window of 12 tokens")],
)
def test_what_a_short_proof_would_not_see_is_refused_before_it(checkpoint, out, family, said):
    with pytest.raises(UnsupportedModelError, match=said):
        to_onnx(resolve(str(checkpoint(family))), out / "new")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "bfloat16"}, "dtype is 'bfloat16'. ONNX models are written in float32"),
        ({"quantize": "int3"}, "quantize is 'int3'. ONNX models are quantised to int8 or int4"),
    ],
)
def test_options_are_checked_first(out, options, said):
    with pytest.raises(OptionError, match=said):
        to_onnx(resolve("pocket"), out / "new", **options)


def test_an_existing_target_stays_as_it_is(out):
    (out / "here").mkdir()
    (out / "here" / "mine.txt").write_text("mine")
    with pytest.raises(OptionError, match="already exists"):
        to_onnx(resolve("pocket"), out / "here")
    assert (out / "here" / "mine.txt").read_text() == "mine"


def test_a_damaged_model_is_told_before_a_process_starts(out):
    folder = Path(shutil.copytree(resolve("pocket").path, out / "hurt"))
    (folder / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(ModelError, match="damaged"):
        to_onnx(resolve(str(folder)), out / "new")


def test_without_the_builder_it_says_what_installs_it(out, monkeypatch):
    monkeypatch.setattr("mlxnb.models.onnx_export.find_spec", lambda name: None if name == "onnx_ir" else object())
    with pytest.raises(BackendMissingError, match=r"onnx-ir not installed\. Try pip install 'mlxnb\[onnx,torch\]'"):
        to_onnx(resolve("pocket"), out / "new")


def test_the_proof_reads_the_first_layers_of_a_deep_model(tmp_path):
    origin = tmp_path / "deep"
    shutil.copytree(resolve("pocket").path, origin)
    (origin / "modeling.py").write_text("raise SystemExit")
    config = json.loads((origin / "config.json").read_text())
    deep = {**config, "num_hidden_layers": 30, "layer_types": ["full_attention"] * 30}
    (origin / "config.json").write_text(json.dumps(deep))
    cut = first_layers(origin, tmp_path / "cut")
    made = json.loads((cut / "config.json").read_text())
    assert (made["num_hidden_layers"], len(made["layer_types"])) == (LAYERS, LAYERS)
    assert (cut / "model.safetensors").read_bytes() == (origin / "model.safetensors").read_bytes()
    assert not (cut / "modeling.py").exists()
    assert json.loads((origin / "config.json").read_text()) == deep  # only the link was replaced
    assert first_layers(resolve("pocket").path, tmp_path / "none") == resolve("pocket").path
