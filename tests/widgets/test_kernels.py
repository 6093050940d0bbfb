"""The kernels panel: attention exchanged and taken back, and tables of what was found on a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlxnb.kernels import active, unpatch_mlx_lm

from .conftest import until

pytest.importorskip("mlx_lm")


@pytest.fixture
def kernels(panel: Callable[[str], Any]) -> Any:
    yield panel("kernels")
    while active() is not None:
        unpatch_mlx_lm()


def settled(kernels: Any) -> None:
    until(lambda: not kernels.work.running)


def test_attention_is_exchanged_and_taken_back(kernels: Any) -> None:
    assert kernels.on.value is False
    kernels.on.value = True
    settled(kernels)
    assert active() is not None
    until(lambda: "Attention is patched" in kernels._state.value)
    kernels.on.value = False
    settled(kernels)
    assert active() is None


def test_it_explains_what_each_path_would_do(kernels: Any) -> None:
    kernels.explain.click()
    settled(kernels)
    assert "GQA" in kernels._found.value
    assert "GQA" in kernels.picture()[1]


def test_a_model_that_is_not_there_is_told(kernels: Any) -> None:
    kernels.model.value = "no-such-model"
    kernels.explain.click()
    settled(kernels)
    assert 'role="alert"' in kernels._notice.value


def test_verifying_can_be_stopped(kernels: Any) -> None:
    kernels.verify.click()
    until(lambda: kernels.work._now[1] > 0)
    kernels.work.stop()
    settled(kernels)
    assert "was stopped" in kernels._notice.value
