"""Which model a name stands for now: a folder written anew, a relative name; and one copy of one model."""

import os
import shutil

import pytest

from mlxnb.errors import MlxnbError, ModelNotFoundError, OptionError
from mlxnb.runtime import Engine
from tests.tiny import make_checkpoint, rope, save

pytest.importorskip("torch")


@pytest.fixture
def engine():
    made = Engine(caching=False)
    yield made
    made.close()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return make_checkpoint("llama", folder / "a", 0), make_checkpoint("qwen3", folder / "b", 1)


def answer(engine, model, **options):
    return engine.generate("zip zip", model=str(model), backend="torch", max_tokens=8, raw=True, **options)


def test_a_folder_that_was_written_anew_is_another_model(engine, two, tmp_path):
    first, second = (answer(engine, path).tokens for path in two)
    assert first != second
    folder = tmp_path / "m"
    shutil.copytree(two[0], folder)
    assert answer(engine, folder).tokens == first
    shutil.rmtree(folder)
    shutil.copytree(two[1], folder)
    anew = answer(engine, folder)
    assert anew.tokens == second
    assert any("has changed since it was loaded" in note for note in anew.provenance.notes)
    assert not any("has changed" in note for note in answer(engine, folder).provenance.notes)
    assert len([info for info in engine.models() if info.name == str(folder)]) == 1
    both = engine.batch(["zip zip"] * 2, model=str(folder), backend="torch", max_tokens=8, raw=True)
    assert [result.tokens for result in both] == [second] * 2


def test_a_folder_that_is_gone_leaves_the_model_in_memory(engine, two, tmp_path):
    shutil.copytree(two[0], tmp_path / "m")
    first = answer(engine, tmp_path / "m").tokens
    shutil.rmtree(tmp_path / "m")
    assert answer(engine, tmp_path / "m").tokens == first


def test_a_relative_name_is_of_the_folder_that_one_is_in(engine, two, tmp_path, monkeypatch):
    for place, path in zip("xy", two, strict=True):
        shutil.copytree(path, tmp_path / place / "m")
    expected = [answer(engine, path).tokens for path in two]
    said = []
    for place in "xy":
        monkeypatch.chdir(tmp_path / place)
        said.append(answer(engine, "m").tokens)
    assert said == expected
    loads = engine._models.loads
    assert answer(engine, tmp_path / "y" / "m").tokens == said[1]
    assert engine._models.loads == loads, "one folder by two names is one copy"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match="No model goes by 'm'"):
        answer(engine, "m")
    monkeypatch.chdir(tmp_path / "y")
    assert [info.name for info in engine.unload("./m")] == ["m"]


def test_a_batch_keeps_the_model_it_began_with(two, tmp_path):
    """A folder that changes while rows are computed is seen by the next request."""
    engine, folder = Engine(caching=False), tmp_path / "m"
    shutil.copytree(two[0], folder)
    ids = answer(engine, folder).tokens

    def change_and_get():
        with engine._models.steady():
            before = engine._models.get(str(folder), "torch").model
            os.utime(folder / "config.json", ns=(1, 1))
            return before is engine._models.get(str(folder), "torch").model

    assert engine.call(change_and_get)
    again = answer(engine, folder)
    assert again.tokens == ids
    assert any("has changed" in note for note in again.provenance.notes)
    engine.close()


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """No group divides its widths, so that nothing quantises it."""
    shape = {"hidden_size": 40, "intermediate_size": 72, "head_dim": 10, "rope_parameters": rope(1e4)}
    return str(save("LlamaConfig", {**shape, "tie_word_embeddings": True}, tmp_path_factory.mktemp("odd") / "odd"))


def asked(engine, odd, quantize, **options):
    return engine.generate("hi", model=odd, backend="mlx", quantize=quantize, max_tokens=2, raw=True, **options)


def test_a_model_that_cannot_be_quantised_is_in_memory_once(engine, odd):
    pytest.importorskip("mlx_lm")
    notes = {kind: asked(engine, odd, kind).provenance.notes for kind in ("int8", "int4", None)}
    assert len(engine.models()) == 1
    assert engine.models()[0].refused == ()
    for kind in ("int8", "int4"):
        assert any(f"quantize {kind} not used" in note for note in notes[kind])
    assert not any("not used" in note for note in notes[None])
    loads = engine._models.loads
    for kind, said in notes.items():
        assert asked(engine, odd, kind).provenance.notes == said
    assert engine._models.loads == loads
    assert engine.load(odd, "mlx", quantize="int4").refused[0].subject == "quantize int4"


def test_a_model_that_was_loaded_only_to_refuse_it_is_closed_again(engine, odd):
    pytest.importorskip("mlx_lm")
    with pytest.raises(OptionError, match=r"quantize int8 of .* was refused"):
        asked(engine, odd, "int8", strict=True)
    assert engine.models() == []
    asked(engine, odd, "int8")
    with pytest.raises(OptionError, match=r"quantize int4 of .* was refused"):
        asked(engine, odd, "int4", strict=True)
    assert len(engine.models()) == 1


def test_a_model_that_is_stored_quantised_is_in_memory_once(engine, two, tmp_path):
    mlx_lm = pytest.importorskip("mlx_lm")
    mlx_lm.convert(str(two[1]), str(tmp_path / "q4"), quantize=True, q_bits=4, q_group_size=32)
    notes = {kind: asked(engine, str(tmp_path / "q4"), kind).provenance.notes for kind in (None, "int4", "int8")}
    assert len(engine.models()) == 1
    assert any("nothing was quantised again" in note for note in notes["int4"])
    assert any("quantize int8 not used" in note for note in notes["int8"])
    assert not any("again" in note or "not used" in note for note in notes[None])


@pytest.mark.parametrize("option", [{"dtype": []}, {"quantize": []}, {"dtype": "float8"}])
def test_a_precision_that_is_none_is_refused_by_name(engine, option):
    for ask in (engine.load, lambda name, **o: engine.call_with(name, lambda model: model.info, **o)):
        with pytest.raises(OptionError, match=f"{next(iter(option))} is "):
            ask("pocket", **option)


def test_a_function_of_a_model_in_another_precision(engine):
    assert engine.call_with("pocket", lambda model: model.info.dtype, "torch", dtype="float16") == "float16"


@pytest.mark.parametrize("name", [None, 5, "", "a\0b"])
def test_what_is_no_name_is_refused(engine, name):
    with pytest.raises(MlxnbError):
        engine.load(name)
    with pytest.raises(ModelNotFoundError):
        engine.unload(name)


def test_a_path_object_is_a_name_too(engine, two):
    engine.load(two[0], "torch")
    loads = engine._models.loads
    answer(engine, two[0])
    assert engine._models.loads == loads
    assert len(engine.unload(two[0])) == 1
