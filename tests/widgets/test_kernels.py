"""The kernels panel: attention exchanged and taken back, and tables of what was found on a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from threading import Thread
from typing import Any

import pytest

import mlxnb
from mlxnb.decision import Rejected
from mlxnb.kernels import active, unpatch_mlx_lm
from mlxnb.widgets.kernels.panel import CUT, SO_FAR, where_it_runs

from .conftest import until

pytest.importorskip("mlx_lm")


@pytest.fixture
def kernels(panel: Callable[[str], Any]) -> Iterator[Any]:
    yield panel("kernels")
    while active() is not None:
        unpatch_mlx_lm()


def settled(kernels: Any) -> None:
    until(lambda: not kernels.work.running)


@pytest.fixture
def stepwise(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Tuning that measures so many shapes and then waits for leave to go on."""
    from threading import Semaphore

    from mlxnb.kernels.tune import Measured

    leave, real = Semaphore(0), Measured.measure

    def measure(self: Measured, config: Any) -> Any:
        assert leave.acquire(timeout=60)
        return real(self, config)

    monkeypatch.setattr(Measured, "measure", measure)
    yield lambda n: leave.release(n)
    leave.release(100)


def test_attention_is_exchanged_and_taken_back(kernels: Any) -> None:
    assert kernels.on.value is False
    kernels.on.value = True
    settled(kernels)
    assert active() is not None
    until(lambda: "Attention is patched" in kernels._state.value)
    mlxnb.engine().generate("What is zip?", model="pocket", backend="mlx", max_tokens=2, cache="off")
    until(lambda: "qwen" in kernels._state.value.lower() or "Attention</td>" in kernels._state.value)
    kernels.on.value = False
    settled(kernels)
    assert active() is None


def test_a_glance_between_a_click_and_its_callback_loses_no_click(kernels: Any) -> None:
    assert kernels.on.value is False  # as the glance has just set it back
    kernels._switched({"new": True})
    settled(kernels)
    assert active() is not None


def test_a_cell_that_patches_moves_the_switch(kernels: Any) -> None:
    with mlxnb.patched_kernels():
        until(lambda: kernels.on.value is True)
    until(lambda: kernels.on.value is False)
    assert not kernels.work.running


def test_it_explains_what_each_path_would_do(kernels: Any) -> None:
    kernels.explain.click()
    settled(kernels)
    assert "GQA" in kernels._found.value
    assert "GQA" in kernels.picture()[1]


@pytest.mark.parametrize("name", ["no-such-model", "  "])
def test_a_model_that_is_not_there_is_told(kernels: Any, name: str) -> None:
    kernels.model.value = name
    kernels.explain.click()
    settled(kernels)
    assert 'role="alert"' in kernels._notice.value
    assert not kernels.explain.disabled


def test_tuning_shows_what_it_has_and_keeps_it_where_it_is_stopped(
    kernels: Any, stepwise: Callable[[int], None]
) -> None:
    kernels.tune.click()
    stepwise(2)
    until(lambda: SO_FAR in kernels._found.value and kernels._found.value.count("</tr>") == 3)
    assert kernels.bench.disabled
    kernels.work.stop()
    stepwise(1)
    settled(kernels)
    assert "was stopped" in kernels._notice.value
    assert CUT in kernels._found.value
    assert kernels._found.value.count("</tr>") == 4
    assert CUT in kernels.picture()[1]
    assert CUT in kernels.picture()[0]


def test_what_was_tuned_before_a_stop_is_chosen_anew(kernels: Any, stepwise: Callable[[int], None]) -> None:
    kernels.on.value = True
    settled(kernels)
    stepwise(50)
    mlxnb.engine().generate("What is zip?", model="pocket", backend="mlx", max_tokens=2, cache="off")
    assert active().lines()
    kernels.tune.click()
    until(lambda: kernels._partial is not None or not kernels.work.running)
    kernels.work.stop()
    settled(kernels)
    assert active().lines() == []


def test_verifying_shows_what_it_has_and_can_be_stopped(kernels: Any) -> None:
    kernels.verify.click()
    until(lambda: SO_FAR in kernels._found.value)
    assert "emulator" in kernels._found.value or "Metal" in kernels._found.value
    kernels.work.stop()
    settled(kernels)
    assert "was stopped" in kernels._notice.value
    assert CUT in kernels._found.value


def test_a_proof_that_fails_is_told(kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxnb.kernels import verify as module
    from mlxnb.kernels.paths import PATHS

    right = next(path for path in PATHS if path.name == "over_dequantised")
    wrong = replace(right, name="doubled", run=lambda call: right.run(call) * 2)
    monkeypatch.setattr(module, "PATHS", (right, wrong))
    monkeypatch.setattr(module, "_traffic", lambda report: ((), None))
    kernels.verify.click()
    settled(kernels)
    assert 'role="alert"' in kernels._notice.value
    assert "failed, of doubled." in kernels._notice.value
    assert "mlxnb-error" in kernels._found.value
    assert CUT not in kernels._found.value
    assert "FAILED" in kernels.picture()[1]


def test_bench_comes_with_its_plot_and_the_next_work_takes_it_away(
    kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlxnb.kernels import bench as module

    monkeypatch.setattr(module, "LENGTHS", (32,))
    monkeypatch.setattr(module, "TOKENS", 4)
    kernels.bench.click()
    settled(kernels)
    assert kernels._notice.value == ""
    assert "Metal kernels took no part" in kernels._found.value or "metal" in kernels._found.value
    assert 'src="data:image/png' in kernels._plot.value
    assert 'src="data:image/png' in kernels.picture()[0]
    kernels.explain.click()
    settled(kernels)
    assert kernels._plot.value == ""


def test_it_says_what_is_measured_here_and_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlxnb.kernels import device, emulator

    usable = mlxnb.engine().backends["mlx"].available()
    monkeypatch.setattr(device, "device", lambda: "cpu")
    assert "on an emulator" in where_it_runs(usable)
    assert "Metal kernels are not measured" in where_it_runs(usable)
    monkeypatch.setattr(emulator, "compiler", lambda: Rejected("C++ compiler", "none was found", "apt install g++"))
    assert "cannot be proven here: none was found. apt install g++." in where_it_runs(usable)
    monkeypatch.setattr(device, "device", lambda: "metal")
    assert "GPU" in where_it_runs(usable)


def test_without_mlx_it_says_how_to_get_it_and_offers_nothing(
    panel: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(mlxnb.engine().backends["mlx"]),
        "available",
        lambda self: Rejected("mlx", "mlx is not installed", "pip install --upgrade mlxnb"),
    )
    kernels = panel("kernels")
    assert "mlx is not installed. pip install --upgrade mlxnb" in kernels.view.children[3].value
    assert all(each.disabled for each in (kernels.on, kernels.verify, kernels.tune, kernels.bench, kernels.explain))


def test_closing_in_the_middle_ends_the_work_at_its_next_step(kernels: Any, stepwise: Callable[[int], None]) -> None:
    kernels.tune.click()
    stepwise(1)
    until(lambda: kernels._partial is not None)
    thread = kernels.work._thread
    kernels.close()
    stepwise(1)
    thread.join(60)
    assert not thread.is_alive()
    assert mlxnb.engine().generate("Hi", model="pocket", max_tokens=1, cache="off").generation_tokens == 1


def test_two_clicks_at_once_begin_one_piece_of_work(kernels: Any, stepwise: Callable[[int], None]) -> None:
    kernels.tune.click()
    thread = kernels.work._thread
    kernels.tune.click()
    kernels.bench.click()
    assert kernels.work._thread is thread
    stepwise(100)
    settled(kernels)
    assert kernels._notice.value == ""


def test_an_engine_that_is_closed_in_the_middle_is_told(kernels: Any, stepwise: Callable[[int], None]) -> None:
    kernels.tune.click()
    until(lambda: kernels.work._now[1] > 0)
    closing = Thread(target=mlxnb.engine().close)  # which waits for the step that is under way
    closing.start()
    stepwise(100)
    closing.join(60)
    settled(kernels)
    assert not kernels.tune.disabled
    kernels.explain.click()
    settled(kernels)
    assert "GQA" in kernels._found.value
