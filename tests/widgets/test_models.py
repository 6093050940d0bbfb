"""The models panel: what its buttons do to the engine, what it says of what is here, and of what fails."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlxnb
from mlxnb import hardware
from mlxnb.widgets.models.memory_bar import divided
from tests.endpoint import says, serving
from tests.models.conftest import CONFIG, hub, own_environment, write_model
from tests.models.stand_in_hub import Handler, Hub
from tests.scripted import ScriptedBackend

from .conftest import until

__all__ = ["hub", "own_environment"]


@pytest.fixture
def models(panel: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "models").mkdir()
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path / "models"))
    for info in mlxnb.engine().models():
        mlxnb.engine().unload(info.name)
    made = panel("models")
    settled(made)
    yield made
    made.close()
    for info in mlxnb.engine().models():
        mlxnb.engine().unload(info.name)


def settled(models: Any) -> None:
    """Wait until nothing is under way in the panel, nor looked at."""

    def quiet() -> bool:
        with models.lock:
            return not (models.work.running or models._list.running or models._about.running)

    until(quiet)


def names(models: Any) -> list[str]:
    return [name for _, name in models.model.options]


def test_the_list_is_read_and_a_model_loaded_pinned_and_unloaded(models: Any) -> None:
    assert "pocket" in names(models)
    models.model.value = "pocket"
    models.load.click()
    assert models.load.disabled
    settled(models)
    assert "pocket is in memory" in models._notice.value
    assert [info.name for info in mlxnb.engine().models()] == ["pocket"]
    assert not models.unload.disabled
    models.pin.click()
    settled(models)
    assert [each.pinned for each in mlxnb.engine().residents()] == [True]
    until(lambda: models.pin.description == "Unpin" and "pinned" in models._memory.value)
    models.unload.click()
    assert "It is pinned" in models.question._said.value
    models.question.no.click()
    settled(models)
    assert [info.name for info in mlxnb.engine().models()] == ["pocket"]
    models.unload.click()
    models.question.yes.click()
    settled(models)
    assert mlxnb.engine().models() == []
    assert "were given back" in models._notice.value
    assert models.unload.disabled


def test_where_a_model_runs_and_fits_is_told_with_the_reason(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    models.model.value = "pocket"
    settled(models)
    assert "<strong>torch</strong>" in models._places.value
    assert "weights 7.6" in models._places.value or "weights 7.9" in models._places.value
    assert "KV cache" in models._places.value
    assert "is GGUF" not in models._places.value
    assert "3.8 M parameters" in models._what.value
    monkeypatch.setattr(hardware, "memory_free", lambda: 50_000_000)
    models.again.click()
    settled(models)
    assert "does not fit" in models._places.value
    assert "of 50 MB free" in models._places.value


def test_a_damaged_folder_is_named_with_its_trouble_and_cannot_be_loaded(models: Any, tmp_path: Path) -> None:
    hostile = CONFIG | {"model_type": "<img src=x onerror=alert(1)>"}
    write_model(tmp_path / "models" / "<b>&amp;", hostile)
    broken = write_model(tmp_path / "models" / "broken")
    (broken / "config.json").write_text("{nope <script>alert(1)</script>")
    models.again.click()
    settled(models)
    assert ("broken (damaged)", "broken") in models.model.options
    models.model.value = "broken"
    settled(models)
    assert "is damaged" in models._what.value
    assert models.load.disabled
    assert models.converting.button.disabled
    assert models._places.value == ""
    models.model.value = "<b>&amp;"
    settled(models)
    assert "onerror" in models._what.value
    page, _ = models.picture()
    values = [each.value for each in (models._what, models._places, models._table, models._broken)]
    assert "<img" not in "".join([page, *values])
    assert "<b>" not in "".join([page, *values])
    assert "<script" not in "".join([page, *values])


def test_a_servers_models_are_listed_loaded_and_not_converted(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openai", reason="the client of the server backend is not installed")
    with serving(says("x"), models=("tiny", "<b>bold</b>")) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        models.again.click()
        settled(models)
        assert {"server:tiny", "server:<b>bold</b>"} <= set(names(models))
        assert "<b>bold" not in models._table.value
        models.model.value = "server:tiny"
        settled(models)
        assert "ready" in models._places.value
        assert models.converting.button.disabled
        models.load.click()
        settled(models)
        assert "server:tiny is in memory, on server" in models._notice.value
        models.unload.click()
        settled(models)
    models.again.click()
    settled(models)
    assert "server:tiny" not in names(models)
    assert "no server listens" in models._broken.value.lower()


def test_a_model_that_vanished_is_told_and_the_panel_goes_on(models: Any, tmp_path: Path) -> None:
    write_model(tmp_path / "models" / "short-lived")
    models.again.click()
    settled(models)
    models.model.value = "short-lived"
    settled(models)
    shutil.rmtree(tmp_path / "models" / "short-lived")
    models.load.click()
    settled(models)
    assert 'role="alert"' in models._notice.value
    assert "error of its own" not in models._notice.value
    assert not models.load.disabled
    models.again.click()
    settled(models)
    assert "short-lived" not in names(models)
    assert models.model.value in names(models)


def test_what_a_cell_loads_by_its_path_is_seen_and_can_be_unloaded(models: Any, tmp_path: Path) -> None:
    folder = shutil.copytree(mlxnb.pocket.path(), tmp_path / "mine")
    mlxnb.engine().load(str(folder), "torch")
    until(lambda: str(folder) in names(models))
    settled(models)
    models.model.value = str(folder)
    assert not models.unload.disabled
    models.unload.click()
    settled(models)
    assert mlxnb.engine().models() == []
    until(lambda: str(folder) not in names(models))


def test_a_load_waits_for_its_turn_and_stop_gives_that_up(models: Any) -> None:
    engine = mlxnb.engine()
    engine.backends["scripted"] = ScriptedBackend(["word "] * 100_000, delay=0.01)
    try:
        job = engine.stream("Talk", model="pocket", backend="scripted", max_tokens=100_000)
        until(lambda: job.state not in ("queued", "loading"))
        models.model.value = "pocket"
        models.backend.value = "torch"
        models.load.click()
        until(lambda: "waiting for what the engine does now" in models.work._line.value)
        models.work._stop.click()
        until(lambda: not models.work.running)  # while the answer still goes on
        assert job.state != "done"
        assert "was stopped" in models._notice.value
        job.cancel()
        engine.call(lambda: None)
        assert "torch" not in [info.backend for info in engine.models()]
    finally:
        del engine.backends["scripted"]


def test_a_model_is_converted_and_what_that_cost_is_shown(models: Any, tmp_path: Path) -> None:
    models.model.value, models.converting.bits.value = "pocket", 4
    target = tmp_path / "models" / "pocket-4bit"
    assert models.converting.into.placeholder == str(target)
    models.converting.button.click()
    settled(models)
    assert "perplexity" in models.converting.news.value
    assert (target / "model.safetensors").exists()
    until(lambda: "pocket-4bit" in names(models))
    (target / "README.md").write_text("old")
    models.converting.button.click()
    assert "is there already" in models.question._said.value
    models.question.no.click()
    assert (target / "README.md").read_text() == "old"
    models.converting.button.click()
    models.question.yes.click()
    settled(models)
    assert (target / "README.md").read_text() != "old"
    models.converting.into.value = str(tmp_path / "elsewhere")
    models.converting.button.click()
    settled(models)
    until(lambda: str(tmp_path / "elsewhere") in names(models))  # though it lies where nobody looks


def test_a_conversion_that_is_stopped_leaves_nothing(models: Any, tmp_path: Path) -> None:
    models.model.value = "pocket"
    models.converting.button.click()
    models.work._stop.click()
    settled(models)
    assert "was stopped" in models._notice.value
    assert list((tmp_path / "models").iterdir()) == []


def test_precisions_are_those_of_the_format(models: Any) -> None:
    models.converting.bits.value = 3
    models.converting.format.value = "onnx"
    assert models.converting.bits.value == 0
    assert [value for _, value in models.converting.bits.options] == [0, 4, 8]


def test_a_download_is_listed_and_told(models: Any, hub: Hub) -> None:
    models.name.value = "lab/tiny"
    models.fetch.click()
    settled(models)
    assert "lab/tiny is here" in models._notice.value
    assert "lab/tiny" in names(models)
    assert models.name.value == ""


def test_a_download_that_hangs_is_stopped(models: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, send = threading.Event(), Handler.send

    def slow(self: Handler, data: bytes, headers: dict[str, str], limit: int | None = None) -> None:
        if len(data) > 1_000_000 and self.command == "GET":
            gate.wait(120)
        send(self, data, headers, limit)

    monkeypatch.setattr(Handler, "send", slow)
    models.name.value = "lab/tiny"
    models.fetch.click()
    models.fetch.click()  # twice is once
    until(lambda: hub.fetched())
    assert models.load.disabled
    models.work._stop.click()
    settled(models)  # long before the network gives up
    gate.set()
    assert "was stopped" in models._notice.value
    assert not models.fetch.disabled
    models.fetch.click()
    settled(models)
    assert "lab/tiny is here" in models._notice.value


def test_a_stopped_download_says_what_is_here_and_goes_on_from_there(
    models: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlxnb.models import progress

    gate, count = threading.Event(), progress.Reporter.add

    def slow(self: progress.Reporter, number: int) -> None:
        count(self, number)
        gate.wait(60)  # after the first piece

    monkeypatch.setattr(progress.Reporter, "add", slow)
    models.name.value = "lab/tiny"
    models.fetch.click()
    until(lambda: "of 1.2 MB" in models.work._line.value)
    models.work._stop.click()
    settled(models)
    gate.set()
    assert "of 1.2 MB are here: Download goes on from there" in models._notice.value
    models.fetch.click()
    settled(models)
    assert "lab/tiny is here" in models._notice.value
    assert any(asked[2] for asked in hub.asked)  # a range: not all of it came again


def test_closing_ends_what_is_under_way(models: Any, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, send = threading.Event(), Handler.send

    def stuck(self: Handler, data: bytes, headers: dict[str, str], limit: int | None = None) -> None:
        gate.wait(60)
        send(self, data, headers, limit)

    monkeypatch.setattr(Handler, "send", stuck)
    models.name.value = "lab/tiny"
    models.fetch.click()
    until(lambda: hub.asked)
    models.close()
    gate.set()
    until(lambda: not any(thread.name == "mlxnb-panel-work" for thread in threading.enumerate()))
    assert repr(models) == "Models panel, closed"


@pytest.mark.parametrize(
    ("name", "says"),
    [("pocket", "comes with mlxnb"), ("", "no name to fetch"), ("<b>x</b>", "names no"), ("lab/none", "lab/none")],
)
def test_a_name_that_is_none_is_told(models: Any, hub: Hub, name: str, says: str) -> None:
    models.name.value = name
    models.fetch.click()
    settled(models)
    assert says in models._notice.value
    assert 'role="alert"' in models._notice.value
    assert "<b>" not in models._notice.value
    assert "error of its own" not in models._notice.value


def test_what_fails_after_the_work_leaves_the_buttons_free(models: Any) -> None:
    def fails(_: object) -> None:
        raise ZeroDivisionError

    models.work.start("Working", lambda report: None, fails)
    assert models.load.disabled
    until(lambda: not models.work.running)
    until(lambda: not models.load.disabled)
    assert "error of its own" in models._notice.value


def test_the_picture_has_memory_and_models(models: Any) -> None:
    page, text = models.picture()
    for words in ("kept KV states", "everything else", "free"):
        assert words in page
        assert words in text
    assert "pocket" in text


BYTES = st.integers(0, 10**13)


@given(weights=BYTES, states=BYTES, free=BYTES, total=st.integers(10**9, 10**13))
def test_the_parts_of_the_bar_add_up(weights: int, states: int, free: int, total: int) -> None:
    free = min(free, total)
    parts = divided("here", weights, states, free, total)
    assert min(parts.weights, parts.states, parts.others, parts.free) >= 0
    assert parts.weights + parts.states + parts.others + parts.free == parts.total
    if weights + states <= total:  # or weights that are mapped are more than the machine has
        assert abs(parts.total - total / 1e6) <= 2
        assert parts.free <= free / 1e6 + 1
    assert abs(parts.weights - weights / 1e6) <= 1


def test_weights_that_are_mapped_from_a_file_are_counted_once() -> None:
    parts = divided("here", 6 * 10**9, 0, 9 * 10**9, 10 * 10**9)
    assert (parts.weights, parts.others, parts.free, parts.total) == (6000, 0, 4000, 10_000)


def test_only_weights_in_the_machines_memory_are_in_its_bar(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxnb.widgets.models import memory_bar

    engine = mlxnb.engine()
    info = engine.load("pocket", "torch")
    card = replace(info, device="cuda (NVIDIA H200)", memory=10**9)
    monkeypatch.setattr(engine._models, "infos", lambda: [card])
    monkeypatch.setattr(engine.backends["torch"], "memory_free", lambda: 5 * 10**9)
    machine, on_card = memory_bar.memories(engine, 8 * 10**9)
    assert machine.weights == 0
    assert (on_card.weights, on_card.others, on_card.free, on_card.total) == (1000, 2000, 5000, 8000)
