"""auto measures a small model on first use, remembers it, and says why it took a backend; nothing is left behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlxnb.backends.rates import Rates, rate_book
from mlxnb.backends.torch import TorchBackend
from mlxnb.decision import Rejected
from mlxnb.errors import EngineClosedError, ModelTooLargeError, OptionError, UnsupportedModelError
from mlxnb.models import ModelSource, resolve
from mlxnb.request import AS_STORED
from mlxnb.runtime import Engine, contest
from tests.scripted import ScriptedBackend

POCKET = resolve("pocket")
MANY = ["word "] * 40


@pytest.fixture(autouse=True)
def probing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_PROBE", "auto")
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))


@contextmanager
def engine_of(*backends: ScriptedBackend) -> Iterator[Engine]:
    made = Engine({backend.name: backend for backend in backends})
    yield made
    made.close()


def slow(name: str = "slow", delay: float = 0.01, **options: Any) -> ScriptedBackend:
    return ScriptedBackend(MANY, delay=delay, name=name, **options)


def fast(name: str = "fast", **options: Any) -> ScriptedBackend:
    return ScriptedBackend(MANY, delay=0.001, name=name, **options)


def measured(*names: str) -> list[bool]:
    return [isinstance(rate_book().get(name, POCKET, AS_STORED), Rates) for name in names]


def test_the_faster_one_is_taken_and_the_other_is_given_back() -> None:
    first, second = slow(), fast()
    with engine_of(first, second) as engine:
        result = engine.generate("go", max_tokens=2)
        assert [info.backend for info in engine.models()] == ["fast"]
        assert (first.loads, first.closed, second.loads, second.closed) == (1, 1, 1, 0)
        again = engine.generate("go", max_tokens=2)
    p = result.provenance
    assert (p.backend, p.passed_over, again.provenance.notes) == ("fast", (), ())
    [note] = p.notes
    assert note.startswith("chosen by a first measurement: fast ")
    assert note.endswith(" s for 256 + 128 tokens")
    assert result.timings.load_time > 0.1  # the measurement is part of the wait
    assert measured("slow", "fast") == [True, True]


def test_it_is_measured_once() -> None:
    for first, second in ((slow(), fast()), (slow(), fast())):
        with engine_of(first, second) as engine:
            result = engine.generate("go", max_tokens=2)
    assert (first.loads, second.loads, result.provenance.backend) == (0, 1, "fast")
    assert result.provenance.notes[0].startswith("chosen by what was measured here: fast ")


def test_where_the_first_is_the_fastest_nothing_need_be_said() -> None:
    with engine_of(fast(), slow()) as engine:
        engine.generate("go", max_tokens=2)
    with engine_of(fast(), slow()) as engine:
        result = engine.generate("go", max_tokens=2)
    assert (result.provenance.backend, result.provenance.notes) == ("fast", ())


@pytest.mark.parametrize("options", [{"backend": "slow"}, {"backend": "slow,fast"}, {"strict": True}])
def test_nothing_is_measured_for_a_chain_that_a_person_named(options: dict[str, Any]) -> None:
    first, second = slow(), fast()
    with engine_of(first, second) as engine:
        assert engine.generate("go", max_tokens=2, **options).provenance.backend == "slow"
    assert (first.loads, second.loads, measured("slow", "fast")) == (1, 0, [False, False])


def test_nothing_is_measured_where_that_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    rate_book().add("slow", POCKET, AS_STORED, Rates(1, 1))
    rate_book().add("fast", POCKET, AS_STORED, Rates(9, 9))
    monkeypatch.setenv("MLXNB_PROBE", "off")
    with engine_of(slow(), fast()) as engine:
        assert engine.generate("go", max_tokens=2).provenance.backend == "slow"
    monkeypatch.setenv("MLXNB_PROBE", "sometimes")
    with engine_of(slow(), fast()) as engine, pytest.raises(OptionError, match="MLXNB_PROBE is 'sometimes'"):
        engine.generate("go", max_tokens=2)


def test_nothing_is_measured_for_a_large_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contest, "SMALL", 1000)
    first, second = slow(), fast()
    with engine_of(first, second) as engine:
        assert engine.generate("go", max_tokens=2).provenance.backend == "slow"
    assert (first.loads, second.loads) == (1, 0)


def test_nothing_is_measured_beside_another_copy_of_the_model(tmp_path: Path) -> None:
    class Elsewhere(ScriptedBackend):
        def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource:
            return replace(here(), path=tmp_path)

    first, second = slow(), Elsewhere(MANY, name="elsewhere")
    with engine_of(first, second) as engine:
        assert engine.generate("go", max_tokens=2).provenance.backend == "slow"
    assert (first.loads, second.loads) == (1, 0)


def test_nothing_is_downloaded_for_the_sake_of_a_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    class Serves(ScriptedBackend):
        def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource:
            return ModelSource(name, Path(), "server", format="served", url="http://localhost:9", served_as=name)

    fetched: list[str] = []

    def fetch(name: str, revision: str | None, progress: object) -> tuple[Path, str]:
        fetched.append(name)
        return POCKET.path, "1"

    monkeypatch.setattr(sys.modules["mlxnb.models.resolve"], "fetch", fetch)  # its package has a function of that name
    with engine_of(Serves(MANY, name="served"), fast()) as engine:
        assert engine.generate("go", model="some/model", max_tokens=2).provenance.backend == "served"
    assert fetched == []
    with engine_of(slow(), fast()) as engine:  # neither has it: then it is fetched, once, and measured
        assert engine.generate("go", model="some/model", max_tokens=2).provenance.backend == "fast"
    assert fetched == ["some/model"]


def test_a_model_in_memory_is_still_taken_where_it_is() -> None:
    first, second = slow(), fast()
    with engine_of(first, second) as engine:
        engine.load("pocket", "slow")
        assert engine.generate("go", max_tokens=2).provenance.backend == "slow"
    assert second.loads == 0


def test_a_backend_that_cannot_load_it_is_measured_no_more() -> None:
    for _ in range(2):
        broken = slow("broken", fails={"load": lambda: UnsupportedModelError("No such architecture.", "Take fast.")})
        other = fast()
        with engine_of(other, broken) as engine:
            result = engine.generate("go", max_tokens=2)
        assert (result.provenance.backend, result.provenance.passed_over, result.provenance.notes) == ("fast", (), ())
    assert other.loads == 1
    assert rate_book().get("broken", POCKET, AS_STORED) == Rejected("broken", "No such architecture", "Take fast.")


def test_a_backend_that_broke_down_while_it_was_measured_comes_last_and_is_told_of() -> None:
    why = Rejected("broken", "the measurement failed: RuntimeError: the driver fell over")
    for loads in (1, 0):
        broken = slow("broken", fails={"decode 3": lambda: RuntimeError("the driver fell over")})
        with engine_of(broken, fast()) as engine:
            result, again = engine.generate("go"), engine.generate("go")
        assert (broken.loads, broken.closed) == (loads, loads)
        for each in (result, again):
            assert (each.provenance.backend, each.provenance.passed_over) == ("fast", (why,))


@pytest.mark.parametrize("fault", [lambda: ModelTooLargeError("Too large for now."), MemoryError])
def test_too_little_memory_is_not_remembered(fault: Callable[[], Exception]) -> None:
    with engine_of(fast(), slow(fails={"load": fault})) as engine:
        assert engine.generate("go", max_tokens=2).provenance.backend == "fast"
    assert rate_book().get("slow", POCKET, AS_STORED) is None


def test_what_is_under_way_is_told_and_can_be_cancelled() -> None:
    first, second = slow(delay=0.05), fast()
    with engine_of(first, second) as engine:
        job, said = engine.stream("go", max_tokens=2), set[str]()
        while not said:
            said |= {job.watch.doing} - {""}
            assert job.state in ("queued", "loading")
        job.cancel()
        began = time.perf_counter()
        result = job.result()
        waited = time.perf_counter() - began
        engine.call(lambda: None)
        assert (result.finish_reason, result.text, engine.models()) == ("interrupted", "", [])
        assert (first.closed, second.loads, job.watch.doing) == (1, 0, "")
    assert said == {"measuring slow"}
    assert waited < 17 * 0.05 * 20  # it did not go through with all of it, even on a busy machine
    assert rate_book().get("slow", POCKET, AS_STORED) is None


def test_closing_the_engine_ends_a_measurement_of_a_load() -> None:
    first = slow(delay=0.05)
    made = Engine({"slow": first, "fast": fast()})
    done: list[str] = []

    def watched(done_bytes: int, total: int) -> None:
        done.append("once")
        made._closed = True  # what `close` does first, which then waits for this very call

    with pytest.raises(EngineClosedError):
        made.load("pocket", progress=watched)
    made._closed = False
    made.close()
    assert (first.closed, len(done)) == (first.loads, 1)


def test_an_engine_without_caches_measures_nothing() -> None:
    made = Engine({"slow": slow(), "fast": fast()}, caching=False)
    assert made.generate("go", max_tokens=2).provenance.backend == "slow"
    made.close()


def test_long_enough_answers_are_measured_on_the_way() -> None:
    pytest.importorskip("torch")
    made = Engine({"torch": TorchBackend()})

    def ask(words: int, **options: Any) -> Rates | Rejected | None:
        result = made.generate("word " * words, raw=True, max_tokens=60, cache="off", **options)
        made.call(lambda: None)  # what is left to do once the answer is out
        assert len(result.tokens) >= 17
        return rate_book().get("torch", POCKET, AS_STORED)

    assert ask(100) is None  # it had its model loaded
    assert ask(10) is None  # too short a prompt
    assert ask(100, draft="lookup") is None
    found = ask(100)
    assert isinstance(found, Rates)
    assert found.runs == 1
    assert ask(110) == replace(rate_book().get("torch", POCKET, AS_STORED), runs=2)  # type: ignore[type-var]
    made.close()


@pytest.mark.parametrize("name", ["torch", "mlx"])
def test_the_real_backends_are_measured_and_one_stays(name: str) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("mlx.core")
    rate_book().add(name, POCKET, AS_STORED, Rates(1e6, 1e6))  # so that no other can be faster
    made = Engine()
    result = made.generate("Where is sqrt?", max_tokens=4, cache="off")
    assert (result.provenance.backend, [info.backend for info in made.models()]) == (name, [name])
    made.close()
    assert all(measured("torch", "mlx"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, True),
        ({"think": "off"}, True),
        ({"logprobs": 3}, False),
        ({"think": 5}, False),
        ({"schema": "regex:(word )*"}, False),
        ({"kv_bits": 8}, False),
    ],
)
def test_an_answer_that_had_more_to_do_tells_no_speed(
    options: dict[str, Any], told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlxnb.runtime.loaded.of_run", lambda timings, device: Rates(1.0, 2.0, device))
    with engine_of(fast()) as engine:
        monkeypatch.setattr("mlxnb.runtime.loaded.measuring_is_off", lambda: False)
        engine.generate("word " * 30, **options)
        engine.call(lambda: None)  # behind what comes after an answer
        assert measured("fast") == [told]
