"""Which models stay in memory and which go, by a clock of the test's own: rules, then whole engines."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlxnb import hardware
from mlxnb.errors import ModelNotFoundError, ModelTooLargeError, OptionError
from mlxnb.request import Request
from mlxnb.runtime import Engine
from mlxnb.runtime.alarm import Alarm
from mlxnb.runtime.loaded import LoadedModels
from tests.runtime.sized import MB, SizedBackend

SIZES = {"a": 4, "b": 3, "c": 2, "d": 6}
BUDGET = 9


@pytest.fixture
def sized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SizedBackend:
    """Four models, of which the budget holds two or three at a time."""
    monkeypatch.setenv("MLXNB_MEMORY_MB", str(BUDGET))
    return SizedBackend(tmp_path, SIZES)


class Time:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Time:
    return Time()


@pytest.fixture
def models(sized: SizedBackend, clock: Time) -> LoadedModels:
    return LoadedModels({"scripted": sized}, clock=clock)


def names(models: LoadedModels) -> set[str]:
    return {info.name for info in models.infos()}


def test_the_one_not_used_for_longest_goes_first_and_the_notes_say_so(models: LoadedModels, clock: Time) -> None:
    for name in ("a", "b", "a"):
        clock.now += 10
        models.get(name)
    clock.now += 5
    loaded = models.get("c")  # 4 + 3 + 2 are within 9
    assert loaded.notes == ()
    clock.now += 1
    loaded = models.get("d")  # 6 with nothing but b or c beside it
    assert names(models) == {"c", "d"}
    assert loaded.notes == (
        "b (scripted) was unloaded to make room: idle for 16 s",
        "a (scripted) was unloaded to make room: idle for 6 s",
    )


def test_what_is_pinned_or_in_use_stays(models: LoadedModels, sized: SizedBackend) -> None:
    models.get("b")
    models.keep("b")
    with models.in_use():
        models.get("c")
        with pytest.raises(ModelTooLargeError) as caught:
            models.get("d")
    assert str(caught.value) == (
        "d takes about 6.0 MB, and the models in memory may take 9.0 MB beside b, c. "
        "Raise MLXNB_MEMORY_MB, or take a smaller model."
    )
    assert sized.closed == []
    models.get("d")  # c is idle by now
    assert names(models) == {"b", "d"}
    models.keep("b", False)
    models.get("a")  # 4 beside 3 and 6: b goes, then d
    assert names(models) == {"a"}


def test_one_that_the_budget_can_never_hold_unloads_nothing(
    models: LoadedModels, sized: SizedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.get("c")
    monkeypatch.setenv("MLXNB_MEMORY_MB", "3")
    with pytest.raises(ModelTooLargeError, match=r"a takes about 4\.0 MB, .* may take 3\.0 MB\."):
        models.get("a")
    assert names(models) == {"c"}


def test_a_model_that_free_memory_has_no_room_for_beside_another(
    models: LoadedModels, sized: SizedBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a budget it is the backend that finds no memory, for other formats than safetensors."""
    monkeypatch.delenv("MLXNB_MEMORY_MB")
    monkeypatch.setattr(hardware, "memory_free", lambda: 10**12)
    load = sized.load

    def only_alone(source: object, *precision: object) -> object:
        if set(sized.loaded) - set(sized.closed):
            raise ModelTooLargeError("There is no memory for it.")
        return load(source, *precision)  # type: ignore[arg-type]

    monkeypatch.setattr(sized, "load", only_alone)
    models.get("a")
    assert models.get("b").notes == ("a (scripted) was unloaded to make room: idle for 0 s",)
    monkeypatch.setattr(hardware, "memory_free", lambda: 0)
    with pytest.raises(ModelTooLargeError, match="There is no memory for it"):
        models.get("d")  # without b there would be 3 MB for its 6
    assert names(models) == {"b"}


def test_an_idle_model_goes_after_its_keep_alive(models: LoadedModels, clock: Time) -> None:
    models.get("a", keep_alive=60)
    models.get("b")
    assert models.give_back_idle() == 60
    clock.now += 59
    assert models.give_back_idle() == 1
    models.get("a")  # which holds on to its 60 s
    assert models.give_back_idle() == 60
    clock.now += 60
    assert models.give_back_idle(lambda: {"a"}) is None  # asked for by what waits
    assert names(models) == {"a", "b"}
    assert models.give_back_idle() is None
    assert names(models) == {"b"}
    models.get("b", keep_alive=5)
    models.get("b", keep_alive="forever")
    assert models.give_back_idle() is None


def test_idle_time_counts_from_the_end_of_the_use(models: LoadedModels, clock: Time) -> None:
    with models.in_use():
        models.get("a", keep_alive=10)
        clock.now += 100
        assert models.give_back_idle() is None
        [resident] = models.residents()
        assert (resident.idle, resident.goes, resident.in_use) == (0, None, True)
    clock.now += 4
    [resident] = models.residents()
    assert (resident.idle, resident.goes, resident.in_use) == (4, 6, False)


def test_a_use_within_a_use_ends_with_its_own(models: LoadedModels, clock: Time) -> None:
    with models.in_use():
        models.get("a", keep_alive=0)
        with models.in_use():
            models.get("a")
            models.get("b", keep_alive=0)
        assert models.give_back_idle() is None
        assert names(models) == {"a"}
    models.give_back_idle()
    assert names(models) == set()


def test_the_setting_is_the_default(models: LoadedModels, clock: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_KEEP_ALIVE", "30")
    models.get("a")
    assert models.give_back_idle() == 30
    monkeypatch.setenv("MLXNB_KEEP_ALIVE", "a while")
    with pytest.raises(OptionError, match=r"MLXNB_KEEP_ALIVE is 'a while'. It takes seconds, 0 for at once, or"):
        models.get("b")
    assert names(models) == {"a"}


@pytest.mark.parametrize("wrong", [-1, "5m", True, float("nan"), float("inf"), "", []])
def test_a_keep_alive_that_is_none(wrong: object) -> None:
    with pytest.raises(OptionError, match=r"keep_alive is .* It takes seconds, 0 for at once, or forever"):
        Request.of("Hi", keep_alive=wrong)


def test_a_keep_alive_is_a_number_of_seconds() -> None:
    assert Request.of("Hi", keep_alive="2.5").keep_alive == 2.5
    assert Request.of("Hi", keep_alive="forever").keep_alive == "forever"
    assert Request.of("Hi").keep_alive is None


class Rules(RuleBasedStateMachine):
    """The models in memory are those that a plain list of (name, last use, keep_alive, pinned) says."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        self._environment = mock.patch.dict(os.environ, {"MLXNB_MEMORY_MB": str(BUDGET)})
        self._environment.start()
        self.clock = Time()
        self.models = LoadedModels({"scripted": SizedBackend(Path(self._folder.name), SIZES)}, clock=self.clock)
        self.stays: dict[str, list[float]] = {}  # name: last use, keep_alive
        self.pinned: set[str] = set()

    def teardown(self) -> None:
        self._environment.stop()
        self._folder.cleanup()

    @rule(name=st.sampled_from(sorted(SIZES)), keep_alive=st.one_of(st.none(), st.integers(0, 20), st.just("forever")))
    def ask(self, name: str, keep_alive: int | str | None) -> None:
        self.clock.now += 1
        seconds = float("inf") if keep_alive == "forever" else keep_alive
        if name not in self.stays:
            if SIZES[name] + sum(SIZES[n] for n in self.pinned) > BUDGET:
                with pytest.raises(ModelTooLargeError):
                    self.models.get(name, keep_alive=keep_alive)
                return
            for oldest in sorted(set(self.stays) - self.pinned, key=lambda n: self.stays[n][0]):
                if SIZES[name] + sum(SIZES[n] for n in self.stays) > BUDGET:
                    del self.stays[oldest]
            self.stays[name] = [0, float("inf")]
        self.models.get(name, keep_alive=keep_alive)
        self.stays[name] = [self.clock.now, self.stays[name][1] if seconds is None else float(seconds)]

    @precondition(lambda self: self.stays)
    @rule(data=st.data(), pinned=st.booleans())
    def pin(self, data: st.DataObject, pinned: bool) -> None:
        name = data.draw(st.sampled_from(sorted(self.stays)))
        self.models.keep(name, pinned)
        (self.pinned.add if pinned else self.pinned.discard)(name)

    @rule(seconds=st.integers(0, 30))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds
        following = self.models.give_back_idle()
        for name, (used, keep_alive) in list(self.stays.items()):
            if name not in self.pinned and used + keep_alive <= self.clock.now:
                del self.stays[name]
        left = [sum(stay) - self.clock.now for name, stay in self.stays.items() if name not in self.pinned]
        expected = min(left, default=float("inf"))
        assert following == (None if expected == float("inf") else expected)

    @precondition(lambda self: self.stays)
    @rule(data=st.data())
    def unload(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.stays)))
        self.models.unload(name)
        del self.stays[name]
        self.pinned.discard(name)

    @invariant()
    def memory_holds_what_it_should(self) -> None:
        assert names(self.models) == set(self.stays)
        assert sum(info.memory for info in self.models.infos()) <= BUDGET * MB
        assert {r.info.name for r in self.models.residents() if r.pinned} == self.pinned


TestRules = Rules.TestCase
TestRules.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


# Whole engines.


@pytest.fixture
def engine(sized: SizedBackend) -> Iterator[Engine]:
    made = Engine({"scripted": sized}, caching=False)
    yield made
    made.close()


def test_a_result_names_what_went_for_it(engine: Engine) -> None:
    engine.load("a")
    engine.load("c")
    engine.load("b")
    result = engine.generate("Hi", model="d")
    assert [note.partition(": idle")[0] for note in result.provenance.notes] == [
        "a (scripted) was unloaded to make room",
        "c (scripted) was unloaded to make room",
    ]
    assert engine.generate("Hi", model="d").provenance.notes == ()
    assert "b (scripted) was unloaded" in engine.load("a").notes[0]


def test_a_pinned_model_stays_until_it_is_unloaded(engine: Engine, sized: SizedBackend) -> None:
    engine.load("b", pin=True, keep_alive=0)
    engine.call(lambda: None)
    assert [(r.info.name, r.pinned, r.goes) for r in engine.residents()] == [("b", True, None)]
    engine.keep("b", False)  # what it was kept alive for is over
    assert engine.models() == []
    with pytest.raises(ModelNotFoundError, match="b is not loaded"):
        engine.keep("b")


def test_keep_alive_0_gives_it_back_after_the_answer(engine: Engine, sized: SizedBackend) -> None:
    assert engine.generate("Hi", model="c", keep_alive=0).text == "Yes."
    engine.call(lambda: None)  # behind it
    assert (sized.loaded, engine.models()) == (["c"], [])


def test_requests_that_wait_for_a_model_keep_it(engine: Engine, sized: SizedBackend) -> None:
    gate = threading.Event()
    engine.later(gate.wait)  # type: ignore[arg-type]
    jobs = [engine.stream("Hi", model="c", keep_alive=0) for _ in range(5)]
    gate.set()
    assert [job.result().text for job in jobs] == ["Yes."] * 5
    engine.call(lambda: None)
    assert (sized.loaded, sized.closed) == (["c"], ["c"])


def test_an_idle_model_goes_by_itself_on_the_engine_s_thread(engine: Engine, sized: SizedBackend) -> None:
    gone, where = threading.Event(), []
    load = sized.load

    def watched(source: object, *precision: object) -> object:
        model = load(source, *precision)  # type: ignore[arg-type]
        close = model.close

        def closed() -> None:
            close()
            where.append(threading.current_thread().name)
            gone.set()

        model.close = closed  # type: ignore[method-assign]
        return model

    sized.load = watched  # type: ignore[assignment, method-assign]
    engine.generate("Hi", model="c", keep_alive=0.05)
    assert gone.wait(60)
    assert where == ["mlxnb-engine"]


def test_a_batch_keeps_its_model(engine: Engine, sized: SizedBackend) -> None:
    """What a callback of the batch loads meanwhile finds no room, and takes none from the batch."""
    said: list[str] = []

    def meanwhile(job: object) -> None:
        try:
            engine.load("d")
        except ModelTooLargeError as err:
            said.append(str(err))

    gate = threading.Event()
    engine.later(gate.wait)  # type: ignore[arg-type]
    batch = engine.submit_batch(["One", "Two"], model="a")
    batch.jobs[0].on_done(meanwhile)  # on the engine's thread, within the batch
    gate.set()
    assert [getattr(answer, "text", answer) for answer in batch.results()] == ["Yes.", "Yes."]
    assert "beside a" in said[0]
    assert sized.loaded == ["a"]


def test_closing_an_engine_silences_its_alarm(sized: SizedBackend) -> None:
    made = Engine({"scripted": sized}, caching=False)
    made.generate("Hi", model="c", keep_alive=3600)
    made.close()
    assert made._answering._alarm._timer is not None
    assert made._answering._alarm._timer.finished.is_set()


def test_an_alarm_rings_at_the_earliest_time_and_once() -> None:
    rang = threading.Semaphore(0)
    alarm = Alarm(rang.release)
    alarm.set(3600)
    alarm.set(0.01)
    alarm.set(0.02)
    assert rang.acquire(timeout=60)
    assert not rang.acquire(timeout=0.1)
    alarm.set(float("inf"))
    alarm.close()
    alarm.set(0)
    assert not rang.acquire(timeout=0.1)


def test_a_model_that_failed_makes_room_for_the_next_of_its_chain(sized: SizedBackend, tmp_path: Path) -> None:
    class Failing(SizedBackend):
        name = "first"

        def load(self, source: object, *precision: object) -> object:  # type: ignore[override]
            model = super().load(source, *precision)  # type: ignore[arg-type]
            model.info = replace(model.info, backend="first")
            return model

    first = Failing(tmp_path, SIZES)
    first.fail_after = 0
    made = Engine({"first": first, "scripted": sized}, caching=False)
    result = made.generate("Hi", model="d", backend="first,scripted")
    assert result.text == "Yes."
    assert first.closed == ["d"]
    assert "d (first) was unloaded to make room" in result.provenance.notes[0]
    made.close()


def test_a_mapped_model_gives_no_memory_back_that_counts(tmp_path: Path) -> None:
    """The pages of its file count as free while it is loaded."""
    from types import SimpleNamespace

    from mlxnb.runtime.making_room import _free

    backend = SizedBackend(tmp_path, {"a": 1})
    backend.memory_free = lambda: None  # type: ignore[method-assign]
    mapped, read = (
        SimpleNamespace(info=SimpleNamespace(backend=name, device="cpu", memory=1 << 50))
        for name in ("llamacpp", "torch")
    )
    assert _free(backend, [mapped]) < 1 << 50 < _free(backend, [read])
