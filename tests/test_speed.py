"""Speeds are measured in another process, remembered, and told with what they hold for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlxnb.decision import Rejected
from mlxnb.hardware import Speeds, measure, speed, speeds
from mlxnb.records import Records

MEASURED = 'mlxnb measured {"library": "torch 9", "device": "cpu", "copy": 2e10, "products": {"float32": 1e11}}'


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The measuring processes that were started; each says the same."""
    started: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        started.append(command)
        return subprocess.CompletedProcess(command, 0, MEASURED, "")

    monkeypatch.setattr(speed.subprocess, "run", run)
    monkeypatch.setattr(speed, "_machine", lambda: "this machine")
    monkeypatch.setattr(speed, "_busy", lambda: 0.0)
    return started


def test_measured_once_and_remembered_over_processes(runs: list[list[str]], tmp_path: Path) -> None:
    first = speeds(Records(tmp_path))
    assert not isinstance(first, Rejected)
    assert first.measured[0].products == {"float32": 1e11}
    assert speeds(Records(tmp_path)) == first
    assert len(runs) == 1
    again = speeds(Records(tmp_path), again=True)
    assert len(runs) == 2
    assert not isinstance(again, Rejected)
    assert again.at > first.at


def test_another_machine_is_measured_anew(
    runs: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds(Records(tmp_path))
    monkeypatch.setattr(speed, "_machine", lambda: "another torch")
    speeds(Records(tmp_path))
    assert len(runs) == 2


def test_what_a_busy_machine_gave_is_shown_and_not_remembered(
    runs: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_busy", lambda: 0.9)
    found = speeds(Records(tmp_path))
    assert not isinstance(found, Rejected)
    assert found.busy == 0.9
    speeds(Records(tmp_path))
    assert len(runs) == 2


def test_a_record_that_cannot_be_read_is_measured_anew(runs: list[list[str]], tmp_path: Path) -> None:
    Records(tmp_path).put("this machine", {"at": 1.0, "measured": [{"library": "x"}]})
    assert not isinstance(speeds(Records(tmp_path)), Rejected)
    assert len(runs) == 1


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ([sys.executable, "-c", "raise ValueError('no such thing')"], "no such thing"),
        ([sys.executable, "-c", "print('[]x')"], "neither torch nor mlx"),
        ([sys.executable, "-c", "print('mlxnb measured {')"], "cannot be read"),
        ([sys.executable, "-c", r"import os; os.write(2, b'bad \xff byte'); os._exit(3)"], "bad \ufffd byte"),
        (["no-such-python"], "could not be started"),
    ],
)
def test_a_measurement_that_fails_says_why(
    command: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = subprocess.run
    monkeypatch.setattr(speed, "_busy", lambda: 0.0)
    monkeypatch.setattr(speed.subprocess, "run", lambda _, **options: really(command, **options))
    found = speeds(Records(tmp_path))
    assert isinstance(found, Rejected)
    assert reason in str(found)
    assert list(tmp_path.glob("*.json")) == []


def measured_by(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Speeds:
    """What a measuring process that runs `script` leaves; twice, since in part it must not be remembered."""
    really = subprocess.run
    monkeypatch.setattr(speed, "_busy", lambda: 0.0)
    monkeypatch.setattr(speed, "_machine", lambda: "this machine")
    monkeypatch.setattr(speed.subprocess, "run", lambda _, **o: really([sys.executable, "-c", script], **o))
    assert isinstance(speeds(Records(tmp_path)), Speeds)
    found = speeds(Records(tmp_path))
    assert isinstance(found, Speeds)
    return found


def test_what_others_print_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measured_by(f"print('welcome'); print({MEASURED!r}); print('bye')", tmp_path, monkeypatch)
    assert [one.library for one in found.measured] == ["torch 9"]


def test_a_library_that_fails_costs_its_own_figures_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        "import importlib, sys\n"
        "from mlxnb.hardware import measure\n"
        "def full():\n"
        "    yield {'library': 'torch 9', 'device': 'cpu', 'copy': 1e10, 'products': {}}\n"
        "    raise MemoryError('the device is full')\n"
        "sys.modules['mlx.core'] = None\n"
        "measure.LIBRARIES = {'mlx': measure.LIBRARIES['mlx'], 'torch': ('json', full)}\n"
        "measure.main()\n"
    )
    found = measured_by(script, tmp_path, monkeypatch)
    assert [one.library for one in found.measured] == ["torch 9"]
    assert "mlx" in found.broken
    assert found.failed == {"torch": "MemoryError: the device is full"}
    assert list(tmp_path.glob("*.json")) == []


def test_a_library_that_dies_leaves_what_came_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"import os; print({MEASURED!r}, flush=True); os.abort()"
    found = measured_by(script, tmp_path, monkeypatch)
    assert [one.library for one in found.measured] == ["torch 9"]
    assert found.failed == {"the measurement": "exit status -6"}


def test_a_measurement_without_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = subprocess.run
    monkeypatch.setattr(speed, "_busy", lambda: 0.0)
    monkeypatch.setattr(speed, "LIMIT", 0.5)
    monkeypatch.setattr(speed, "_machine", lambda: "this machine")  # which runs programs too
    endless = [sys.executable, "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(speed.subprocess, "run", lambda _, **options: really(endless, **options))
    assert "not done" in str(speeds(Records(tmp_path)))


@pytest.mark.slow
def test_this_machine_really(tmp_path: Path) -> None:
    found = speeds(Records(tmp_path), again=True)
    assert not isinstance(found, Rejected), str(found)
    assert {s.library.split()[0] for s in found.measured} >= {"torch"}
    for one in found.measured:
        assert 1e8 < one.copy < 1e14
        assert all(1e6 < rate < 1e16 for rate in one.products.values())
        assert "float32" in one.products


def test_a_product_grows_until_it_takes_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def product(n: int):
        made.append(n)
        return lambda: None

    monkeypatch.setattr(measure, "best", lambda work: (made[-1] / 1024) ** 2 * 0.01)  # so 2048 rows take 0.04 s
    assert measure.product_rate(product) == pytest.approx(2 * 2048**3 / 0.04)
    assert made == [256, 512, 1024, 2048]
