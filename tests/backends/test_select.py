"""Which backends a request may go to: the order of `auto`, names, chains, and what was tried."""

from __future__ import annotations

import pytest

from mlxnb import hardware
from mlxnb.backends import default_backends
from mlxnb.backends.select import automatic_order, candidates, in_order
from mlxnb.decision import Absent, Rejected
from mlxnb.errors import BackendMissingError, OptionError
from tests.scripted import ScriptedBackend

HERE = {name: ScriptedBackend(name=name) for name in ("one", "two", "three")}
GONE = Absent("gone", "not installed", "pip install it")


def names(wanted: str, strict: bool = False, **more: ScriptedBackend) -> list[str]:
    return [backend.name for backend in candidates(wanted, {**HERE, **more}, strict).backends]


def test_a_chain_keeps_its_order_and_names_each_once() -> None:
    assert names("auto") == ["one", "two", "three"]
    assert names("two") == ["two"]
    assert names("three, one,three") == ["three", "one"]
    assert names("three,one", strict=True) == ["three"]
    assert names("auto", strict=True) == ["one", "two", "three"]  # the first that has the model is taken of them
    assert [candidates(wanted, HERE).named for wanted in ("auto", "one", "one,two")] == [False, True, True]


@pytest.mark.parametrize("wanted", ["four", "one,four", "", "one,", "One"])
def test_a_name_that_is_none(wanted: str) -> None:
    with pytest.raises(OptionError, match=r"There is no backend '.*'\. Backends are auto, one, two, three\."):
        candidates(wanted, HERE)


def test_what_cannot_run_here_is_passed_over_in_a_chain_and_an_error_alone() -> None:
    gone = ScriptedBackend(name="gone", decision=GONE)
    found = candidates("gone,two", {**HERE, "gone": gone})
    assert ([each.name for each in found.backends], found.passed_over) == (["two"], (GONE,))
    for wanted, strict in (("gone", False), ("gone,two", True)):
        with pytest.raises(BackendMissingError, match=r"cannot run here: not installed\. Try pip install it\."):
            candidates(wanted, {**HERE, "gone": gone}, strict)
    away = ScriptedBackend(name="away", decision=Rejected("away", "nothing answers", "start it"))
    with pytest.raises(BackendMissingError, match=r"gone: not installed; away: nothing answers\."):
        candidates("auto", {"gone": gone, "away": away})


def test_without_those_that_were_tried() -> None:
    found = candidates("auto", {**HERE, "gone": ScriptedBackend(name="gone", decision=GONE)})
    left = found.without(["one", "gone"])
    assert ([each.name for each in left.backends], left.passed_over) == (["two", "three"], ())
    assert found.without([]) == found


@pytest.mark.parametrize(
    ("apple", "order"),
    [
        (True, ["mlx", "server", "llamacpp", "torch", "onnx"]),
        (False, ["server", "llamacpp", "torch", "mlx", "onnx"]),
    ],
)
def test_the_built_in_order(apple: bool, order: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "is_apple_silicon", lambda: apple)
    assert in_order({name: ScriptedBackend(name=name) for name in ["own", *reversed(order)]}) == [*order, "own"]
    assert set(default_backends()) <= set(automatic_order())
