"""What a machine's memory is for a model: what is free, the GPU's recommended working set, a card's own."""

from __future__ import annotations

import pytest

from mlxnb import hardware
from mlxnb.decision import Rejected
from mlxnb.hardware import Accelerator, Speed, Speeds
from mlxnb.runtime import Engine, here
from tests.scripted import ScriptedBackend

GB = 10**9


class OnDevice(ScriptedBackend):
    """A backend whose device leaves so much."""

    def __init__(self, left: int | None, **options: object) -> None:
        super().__init__(**options)  # type: ignore[arg-type]
        self.left = left

    def memory_free(self) -> int | None:
        return self.left


@pytest.fixture(autouse=True)
def plain_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """10 GB free, no GPU."""
    monkeypatch.setattr(hardware, "memory_free", lambda: 10 * GB)
    monkeypatch.setattr(hardware, "is_apple_silicon", lambda: False)
    monkeypatch.setattr(hardware, "accelerators", tuple)


def test_without_a_gpu_it_is_what_is_free() -> None:
    assert here.memory_for_models({}) == 10 * GB
    assert here.memory_for_models({"mlx": OnDevice(GB)}) == 10 * GB  # MLX computes on the CPU here


@pytest.mark.parametrize(("left", "expected"), [(3 * GB, 3 * GB), (30 * GB, 10 * GB), (None, 10 * GB)])
def test_on_apple_silicon_it_is_at_most_the_working_set(
    left: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "is_apple_silicon", lambda: True)
    assert here.memory_for_models({"mlx": OnDevice(left)}) == expected
    missing = OnDevice(left, decision=Rejected("mlx", "not installed"))
    assert here.memory_for_models({"mlx": missing}) == 10 * GB


def test_with_a_card_that_torch_uses_it_is_at_most_the_card_s(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Accelerator("cuda", "card", 8 * GB, 6 * GB)
    monkeypatch.setattr(hardware, "accelerators", lambda: (card,))
    monkeypatch.setattr(here, "version", lambda name: "2.9.0+cu130")
    assert here.memory_for_models({}) == 6 * GB
    monkeypatch.setattr(here, "version", lambda name: "2.9.0+cpu")
    assert here.memory_for_models({}) == 10 * GB


def test_recommendations_have_rates_only_where_bandwidth_was_measured(
    scripted: tuple[Engine, ScriptedBackend], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = scripted
    asked: list[object] = []

    def remembered(store: object) -> Speeds | None:
        asked.append(store)
        return None

    monkeypatch.setattr(hardware, "remembered", remembered)
    found = engine.recommend("drafting")
    assert found
    assert {each.rate for each in found} == {None}
    measured = (Speed("torch 9", "cpu", 20e9, {}), Speed("torch 9", "cuda", 800e9, {}))
    monkeypatch.setattr(hardware, "remembered", lambda store: Speeds(measured, at=0.0))
    first = engine.recommend("drafting")[0]
    assert first.rate == pytest.approx(800e9 / first.model.read(first.precision, 4096))
    assert len(asked) == 1
