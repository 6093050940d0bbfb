"""Conversions to the formats of other backends: whole weights cost nothing but rounding, fewer bits cost more."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from mlxnb.errors import OptionError, UnsupportedModelError
from mlxnb.runtime import Engine

pytest.importorskip("torch")

TEXT = """What does itertools.chain do? It joins several iterables into one, end to end, and copies none of them.
Where is sqrt? It lives in the math module, beside floor and ceil. A deque is a list with two fast ends.
for name in sorted(names):
    print(name.title(), len(name))
"""
NEEDS = {"gguf": "gguf", "onnx": "onnxruntime_genai"}
MODULES = {"gguf": "gguf", "onnx": "onnx_export"}
READS = {"gguf": "llama_cpp", "onnx": "onnxruntime_genai"}


@pytest.fixture(params=["gguf", "onnx"])
def to(request: pytest.FixtureRequest) -> str:
    for module in (NEEDS[request.param], READS[request.param]):
        pytest.importorskip(module, reason=f"{request.param} wants {module}")
    return str(request.param)


@pytest.fixture
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("text") / "sample.txt"
    file.write_text(TEXT)
    return file


def target(folder: Path, to: str, name: str = "m") -> Path:
    return folder / (f"{name}.gguf" if to == "gguf" else name)


@pytest.mark.slow
def test_whole_weights_cost_rounding_and_eight_bits_more(engine: Engine, to: str, tmp_path: Path, sample: Path) -> None:
    whole = engine.convert("pocket", target(tmp_path, to), to=to, text=sample)
    eight = engine.convert("pocket", target(tmp_path, to, "m8"), to=to, quantize=8, text=sample)
    assert whole.quality is not None, whole.unchecked
    assert eight.quality is not None, eight.unchecked
    assert whole.quality.divergence.tokens > 60
    assert whole.quality.divergence.kl_mean < 2e-3  # torch computes the source in bfloat16
    assert whole.quality.divergence.kl_mean < eight.quality.divergence.kl_mean < 0.2
    assert eight.bytes < whole.bytes
    assert eight.weights == {"gguf": "q8_0", "onnx": "int8"}[to]
    assert any("two backends" in note for note in whole.quality.notes)
    reader = {"gguf": "llamacpp", "onnx": "onnx"}[to]
    answer = engine.generate("Where is sqrt?", model=whole.target, backend=reader, max_tokens=24)
    assert "math" in answer.text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(target(tmp_path, to, n).name for n in ("m", "m8"))


@pytest.mark.slow
def test_force_and_failure(engine: Engine, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = target(tmp_path, to)
    engine.convert("pocket", place, to=to, check=False)
    before = place.stat().st_mtime_ns
    with pytest.raises(OptionError, match="already exists"):
        engine.convert("pocket", place, to=to, check=False)

    def stop(done: int, total: int, doing: str) -> None:
        assert doing == f"writing {place.name}"
        if done > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.convert("pocket", place, to=to, force=True, progress=stop)
    assert os.listdir(tmp_path) == [place.name]
    assert place.stat().st_mtime_ns == before
    engine.convert("pocket", place, to=to, force=True, check=False)
    assert os.listdir(tmp_path) == [place.name]
    assert place.stat().st_mtime_ns > before


@pytest.mark.parametrize("to", ["gguf", "onnx"])
def test_a_writer_that_fails_leaves_nothing(
    engine: Engine, to: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(NEEDS[to], reason=f"{to} wants {NEEDS[to]}")

    def fail(source: object, building: Path, **_: object) -> None:
        (building.write_bytes if to == "gguf" else building.mkdir)(*([b"half"] if to == "gguf" else []))
        raise UnsupportedModelError("It does not know this one.")

    monkeypatch.setattr(importlib.import_module(f"mlxnb.models.{MODULES[to]}"), f"to_{to}", fail)
    with pytest.raises(UnsupportedModelError, match="does not know this one"):
        engine.convert("pocket", target(tmp_path / "new", to), to=to)
    assert os.listdir(tmp_path) == []
