"""Real models on torch that take turns in memory: the answers stay the same, and what is needed is never taken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlxnb import hardware
from mlxnb.errors import ModelTooLargeError
from mlxnb.models import fits, inspect, resolve
from mlxnb.models.fit import MARGIN_BYTES, kv_bytes
from mlxnb.runtime import Engine
from tests.tiny import Maker

pytest.importorskip("torch")


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(caching=False)
    yield made
    made.close()


def names(engine: Engine) -> list[str]:
    return [Path(info.name).name for info in engine.models()]


def in_budget(monkeypatch: pytest.MonkeyPatch, *sizes: int) -> None:
    monkeypatch.setenv("MLXNB_MEMORY_MB", str(-(-sum(sizes) // 1_000_000)))


def test_two_models_that_take_turns_answer_as_they_do_alone(
    engine: Engine, checkpoint: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = str(checkpoint("qwen3")), str(checkpoint("llama"))
    asked = {"raw": True, "max_tokens": 8, "backend": "torch"}
    alone = {name: engine.generate("The map function", model=name, **asked).tokens for name in (first, second)}
    sizes = [info.memory for info in engine.models()]
    assert names(engine) == ["qwen3", "llama"]
    files = [sum(path.stat().st_size for path in checkpoint(name).iterdir()) for name in names(engine)]
    in_budget(monkeypatch, max(*sizes, *files) + 100_000)
    engine.unload(first)
    for _ in range(2):
        for name in (first, second):
            result = engine.generate("The map function", model=name, **asked)
            assert result.tokens == alone[name]
            assert len(engine.models()) == 1
            assert any("was unloaded to make room" in note for note in result.provenance.notes)


def test_where_free_memory_is_short_the_idle_one_goes(
    engine: Engine, checkpoint: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's free memory is what it would be if it could hold one of them."""
    first, second = str(checkpoint("qwen3")), str(checkpoint("llama"))
    least = min(_need(checkpoint("qwen3")), _need(checkpoint("llama")))
    most = max(_need(checkpoint("qwen3")), _need(checkpoint("llama")))
    engine.load(first, backend="torch")
    assert most - least < engine.models()[0].memory, "the test needs two models of about one size"
    monkeypatch.setattr(hardware, "memory_free", lambda: most - sum(info.memory for info in engine.models()))
    info = engine.load(second, backend="torch", strict=True)
    assert names(engine) == ["llama"]
    assert [note for note in info.notes if "was unloaded to make room" in note]
    engine.keep(second)
    with pytest.raises(ModelTooLargeError, match=r"In memory now, to unload: .*llama"):
        engine.load(first, backend="torch", strict=True)
    assert names(engine) == ["llama"]


def _need(path: Path) -> int:
    """Bytes for which `fits` says yes, and for one less no."""
    model = inspect(path)
    need = model.weight_bytes * 1.1 + MARGIN_BYTES + kv_bytes(model, 512)
    assert fits(model, tokens=512, free=int(need) + 1)
    assert not fits(model, tokens=512, free=int(need) - 1)
    return int(need) + 1


def test_a_draft_never_takes_the_place_of_the_model_it_drafts_for(
    engine: Engine, checkpoint: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The draft finds no room beside its target: the answer is decoded plainly, and says so."""
    target, draft = str(checkpoint("qwen3")), str(checkpoint("qwen2"))
    asked = {"model": target, "raw": True, "max_tokens": 8, "backend": "torch"}
    plain = engine.generate("The map function", **asked)
    files = sum(path.stat().st_size for path in checkpoint("qwen3").iterdir())
    in_budget(monkeypatch, max(files, engine.models()[0].memory) + 100_000)
    result = engine.generate("The map function", draft=draft, **asked)
    assert result.tokens == plain.tokens
    assert names(engine) == ["qwen3"]
    assert any("draft" in note and "may take" in note for note in result.provenance.notes)


def test_a_batch_answers_while_others_wait_for_room(
    engine: Engine, checkpoint: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = str(checkpoint("qwen3")), str(checkpoint("llama"))
    asked = {"raw": True, "max_tokens": 6, "backend": "torch"}
    alone = [engine.generate("The map function", model=name, **asked).tokens for name in (first, second)]
    files = max(sum(p.stat().st_size for p in checkpoint(name).iterdir()) for name in ("qwen3", "llama"))
    in_budget(monkeypatch, max(files, *[info.memory for info in engine.models()]) + 100_000)
    engine.unload(first)
    engine.unload(second)
    batches = [engine.submit_batch(["The map function"] * 3, model=name, **asked) for name in (first, second, first)]
    for batch, expected in zip(batches, [alone[0], alone[1], alone[0]], strict=True):
        assert [answer.tokens for answer in batch.results()] == [expected] * 3
    assert names(engine) == ["qwen3"]


def test_a_stream_of_mlx_lm_s_calls_keeps_its_model(checkpoint: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller may take its time between two tokens: neither another model nor a keep_alive ends the stream."""
    from mlxnb.lm.on_torch.loading import load
    from mlxnb.lm.on_torch.steps import generate_step
    from mlxnb.runtime import shared_engine

    first, second = str(checkpoint("qwen3")), str(checkpoint("llama"))
    ids = [5, 6, 7, 8]
    model, _ = load(first)
    expected = [token for token, _ in generate_step(ids, model, max_tokens=6)]
    engine = shared_engine()
    files = max(sum(p.stat().st_size for p in checkpoint(name).iterdir()) for name in ("qwen3", "llama"))
    in_budget(monkeypatch, max(files, engine.models()[0].memory) + 100_000)
    monkeypatch.setenv("MLXNB_KEEP_ALIVE", "0")
    engine.unload(first)
    steps = generate_step(ids, model, max_tokens=6)
    tokens = [next(steps)[0]]
    with pytest.raises(ModelTooLargeError, match=r"beside .*qwen3"):
        engine.load(second, backend="torch")
    tokens += [token for token, _ in steps]
    assert tokens == expected
    engine.call(lambda: None)
    assert names(engine) == []
    engine.load(second, backend="torch", keep_alive="forever")
    assert names(engine) == ["llama"]
    engine.unload(second)


def test_a_gguf_file_is_in_the_list_and_takes_turns_with_a_folder(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pocket model as GGUF on llama.cpp and as a folder on torch, in float32: the same answer, one at a time."""
    pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed")
    pytest.importorskip("gguf", reason="gguf is not installed")
    from mlxnb.models.gguf import to_gguf

    monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path))
    file = to_gguf(resolve("pocket"), tmp_path / "pocket-f32.gguf", dtype="float32")
    listed = {entry.name: entry for entry in engine.inventory()}
    gguf, folder = listed["pocket-f32"], listed["pocket"]
    assert (gguf.format, gguf.path, gguf.problem) == ("gguf", file, "")
    assert gguf.room is not None
    assert gguf.room.state == "fits"
    assert (gguf.context, gguf.attention, gguf.parameters) == (folder.context, folder.attention, folder.parameters)
    in_budget(monkeypatch, file.stat().st_size * 3 // 2)
    asked = {"prompt": "What does zip do?", "max_tokens": 12}
    by_llama = engine.generate(model="pocket-f32", backend="llamacpp", keep_alive=600, **asked)
    by_torch = engine.generate(model="pocket", backend="torch", dtype="float32", **asked)
    assert by_torch.text == by_llama.text
    assert [note for note in by_torch.provenance.notes if note.startswith("pocket-f32 (llamacpp) was unloaded")]
    assert names(engine) == ["pocket"]
    engine.generate(model="pocket-f32", backend="llamacpp", keep_alive=0, **asked)
    engine.call(lambda: None)
    assert names(engine) == []
