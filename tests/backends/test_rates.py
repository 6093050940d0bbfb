"""Measured speeds: their order with ties, what of them is remembered and for whom, and what a probe measures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.backends import rates as module
from mlxnb.backends.probe import DECODED, probe
from mlxnb.backends.rates import KEPT, RateBook, Rates, by_speed, in_words, of_run
from mlxnb.decision import Rejected
from mlxnb.models import ModelSource, resolve
from mlxnb.records import Records
from mlxnb.request import AS_STORED, Precision
from mlxnb.result import Timings
from tests.tiny import Maker

POCKET = resolve("pocket")


def seconds(typical: float) -> Rates:
    """Rates at which a typical request takes so long."""
    return Rates(prefill=2 * 256 / typical, decode=2 * 128 / typical)


@pytest.fixture
def book(tmp_path: Path) -> RateBook:
    return RateBook(Records(tmp_path))


def test_the_figure_is_the_time_of_a_typical_request() -> None:
    assert Rates(prefill=256, decode=64).typical == pytest.approx(1 + 2)
    assert seconds(0.4).typical == pytest.approx(0.4)
    assert in_words({"b": seconds(0.81), "a": seconds(0.4)}) == "a 0.4 s, b 0.81 s for 256 + 128 tokens"


@pytest.mark.parametrize(
    ("typical", "order"),
    [
        ({}, "abc"),
        ({"a": 2, "b": 1, "c": 3}, "bac"),
        ({"a": 1.09, "b": 1}, "abc"),  # a tie
        ({"a": 1.11, "b": 1}, "bac"),
        ({"c": 1}, "abc"),  # what was not measured stays where it is
        ({"a": 2, "c": 1}, "cba"),
        ({"a": 1.2, "b": 1.1, "c": 1.0}, "bca"),  # b ties with c, a ties with b and not with the fastest
    ],
)
def test_order(typical: dict[str, float], order: str) -> None:
    assert by_speed("abc", {name: seconds(each) for name, each in typical.items()}) == list(order)


@given(st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 100)))
def test_the_order_keeps_every_backend_and_the_first_is_among_the_fastest(typical: dict[str, float]) -> None:
    rates = {name: seconds(each) for name, each in typical.items()}
    order = by_speed("abcdef", rates)
    assert sorted(order) == list("abcdef")
    assert [name for name in order if name not in rates] == [name for name in "abcdef" if name not in rates]
    measured = [name for name in order if name in rates]
    if measured:
        assert rates[measured[0]].typical <= 1.1001 * min(each.typical for each in rates.values())


def test_the_median_of_the_last_runs_holds(book: RateBook, tmp_path: Path) -> None:
    assert book.get("torch", POCKET, AS_STORED) is None
    for decode in (1.0, 100.0, 300.0, 200.0):
        book.add("torch", POCKET, AS_STORED, Rates(10 * decode, decode, "cpu"))
    found = book.get("torch", POCKET, AS_STORED)
    assert isinstance(found, Rates)
    assert (found.decode, found.prefill, found.device, found.runs) == (150.0, 1500.0, "cpu", 4)
    for _ in range(KEPT):
        book.add("torch", POCKET, AS_STORED, Rates(70, 7, "cuda"))
    again = RateBook(Records(tmp_path)).get("torch", POCKET, AS_STORED)
    assert isinstance(again, Rates)
    assert (again.decode, again.device, again.runs) == (7, "cuda", KEPT)


def test_for_whom_it_holds(book: RateBook, checkpoint: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book.add("torch", POCKET, AS_STORED, Rates(2, 1))
    path = checkpoint("qwen3")
    copied = ModelSource("a copy", POCKET.path, "path")
    assert book.get("torch", copied, AS_STORED) is not None  # the shape counts, not the name
    for backend, source, precision in (
        ("mlx", POCKET, AS_STORED),
        ("torch", POCKET, Precision("float32")),
        ("torch", POCKET, Precision(None, "int8")),
        ("torch", ModelSource(str(path), path, "path"), AS_STORED),
        ("torch", ModelSource("served", Path(), "server", format="served", url="http://a", served_as="b"), AS_STORED),
    ):
        assert book.get(backend, source, precision) is None
    monkeypatch.setattr(module, "_version", lambda library: f"{library} 999")
    assert book.get("torch", POCKET, AS_STORED) is None
    monkeypatch.undo()
    monkeypatch.setattr(module, "_machine", lambda: "another machine")
    assert book.get("torch", POCKET, AS_STORED) is None


def test_a_model_on_a_server_and_a_file_have_a_shape_too(book: RateBook, tmp_path: Path) -> None:
    def served(name: str) -> ModelSource:
        return ModelSource(name, Path(), "server", format="served", url="http://a", served_as=name)

    book.add("server", served("x"), AS_STORED, Rates(2, 1))
    assert book.get("server", served("x"), AS_STORED) is not None
    assert book.get("server", served("y"), AS_STORED) is None
    (tmp_path / "m.gguf").write_bytes(b"x")
    file = ModelSource("m", tmp_path / "m.gguf", "path", format="gguf")
    book.add("llamacpp", file, AS_STORED, Rates(2, 1))
    assert book.get("llamacpp", file, AS_STORED) is not None
    (tmp_path / "m.gguf").write_bytes(b"xy")
    assert book.get("llamacpp", file, AS_STORED) is None
    (tmp_path / "m").mkdir()  # a folder that is no model
    assert book.get("torch", ModelSource("m", tmp_path / "m", "path"), AS_STORED) is None


def test_what_a_backend_cannot_run_is_remembered_as_such(book: RateBook) -> None:
    why = Rejected("mlx", "no such architecture", "take torch")
    book.refuse(why, POCKET, AS_STORED)
    assert book.get("mlx", POCKET, AS_STORED) == why
    book.add("mlx", POCKET, AS_STORED, Rates(2, 1))
    assert isinstance(book.get("mlx", POCKET, AS_STORED), Rates)


@pytest.mark.parametrize(
    "record", [{}, {"prefill": [], "decode": []}, {"prefill": [0], "decode": [1], "device": "", "at": 0},
               {"prefill": "fast", "decode": [1]}, {"prefill": [float("nan")], "decode": [1], "device": "", "at": 0}]
)  # fmt: skip
def test_a_record_that_makes_no_sense_counts_as_none(book: RateBook, tmp_path: Path, record: dict[str, Any]) -> None:
    book.add("torch", POCKET, AS_STORED, Rates(2, 1))
    [file] = tmp_path.glob("*.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "record": record}))
    assert RateBook(Records(tmp_path)).get("torch", POCKET, AS_STORED) is None


def timings(prompt: int, decoded: int, **more: Any) -> Timings:
    return Timings(0.0, 1.0, tuple(2.0 + 0.1 * i for i in range(decoded + 1)), prompt, **more)


def test_which_generations_tell_a_rate() -> None:
    found = of_run(timings(64, 16), "cpu")
    assert found is not None
    assert (found.prefill, found.decode, found.device) == (pytest.approx(64), pytest.approx(10), "cpu")
    for told in (
        timings(63, 16),
        timings(64, 15),
        timings(100, 16, reused_tokens=40),
        timings(64, 16, load_time=1.0),
        Timings(0.0, 1.0, (), 64),
    ):
        assert of_run(told, "cpu") is None


@pytest.mark.parametrize("backend", ["torch", "mlx"])
@pytest.mark.parametrize("family", ["qwen3", "gemma3"])
def test_a_probe_measures_a_real_model(engine: Any, checkpoint: Maker, backend: str, family: str) -> None:
    pytest.importorskip({"mlx": "mlx.core", "torch": "torch"}[backend])
    path, checks = str(checkpoint(family)), []
    said = {"model": path, "backend": backend, "raw": True, "max_tokens": 5, "cache": "off"}
    before = engine.generate("the same before", **said).text
    found = engine.call_with(path, lambda model: probe(model, lambda: checks.append(1)), backend)
    assert found.prefill > found.decode > 0
    assert found.device
    assert len(checks) >= DECODED + 1
    assert engine.generate("the same before", **said).text == before


def test_a_hopeless_one_is_only_looked_at(engine: Any, checkpoint: Maker) -> None:
    pytest.importorskip("torch")
    path, checks = str(checkpoint("qwen3")), []
    engine.call_with(path, lambda model: probe(model, lambda: checks.append(1), Rates(1e9, 1e9)), "torch")
    assert len(checks) < DECODED


def test_a_context_that_is_shorter_than_the_probe(engine: Any, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from tests.tiny import rope, save

    differs = {"rope_parameters": rope(5000.0), "max_position_embeddings": 40, "tie_word_embeddings": True}
    path = str(save("Qwen2Config", differs, tmp_path / "short"))
    found = engine.call_with(path, lambda model: probe(model, lambda: None), "torch")
    assert found.decode > 0


def test_what_the_check_raises_ends_a_probe(engine: Any) -> None:
    pytest.importorskip("torch")

    def check() -> None:
        raise KeyError("stop")

    with pytest.raises(KeyError, match="stop"):
        engine.call_with("pocket", lambda model: probe(model, check), "torch")
