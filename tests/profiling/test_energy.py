"""Joules of work by scripted counters: what they add up to, where they begin again, and why there are none."""

import sys
from types import SimpleNamespace

import pytest

from mlxnb.decision import Rejected
from mlxnb.profiling.judge.figures import Summary
from mlxnb.profiling.machine import energy
from mlxnb.profiling.machine.energy import Counter, Sum, Zeus, meter, packages
from mlxnb.profiling.runs import measure
from tests.profiling.reports import healthy, run, runs
from tests.profiling.test_samples import Driver
from tests.scripted import ScriptedBackend


def counter(*readings, wraps=None):
    left = iter(readings)
    return Counter("a counter", lambda: next(left), wraps)


@pytest.mark.parametrize(
    ("readings", "wraps", "joules"),
    [((5.0, 7.5), None, 2.5), ((95.0, 3.0), 100.0, 8.0), ((95.0, 3.0), None, None), ((None, 3.0), None, None)],
)
def test_a_counter_tells_what_was_added(readings, wraps, joules):
    made = counter(*readings, wraps=wraps)
    made.begin()
    assert made.end() == joules


def test_a_counter_that_never_moved_measured_nothing():
    """Steps of a tenth of a second are longer than the answers of a small model."""
    assert Summary.of(healthy(runs=runs(energy=0.0)), 0).energy is None
    some = (*runs(2, energy=0.0), run(2, energy=6.6))  # of which each has 33 tokens
    assert Summary.of(healthy(runs=some), 0).energy == pytest.approx(6.6 / 99)


def test_a_counter_that_cannot_be_read_any_more_tells_nothing():
    made = Sum("two", (counter(1.0, 2.0), counter(1.0, None)))
    made.begin()
    assert made.end() is None


def rapl(root, **packages):
    for name, (now, most) in packages.items():
        folder = root / name.replace("_", ":").replace("intel", "intel-rapl")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "energy_uj").write_text(f"{now}\n")
        (folder / "max_energy_range_uj").write_text(f"{most}\n")


def test_the_sockets_of_a_machine_are_added_and_their_parts_are_not(tmp_path):
    rapl(tmp_path, intel_0=(1_000_000, 9_000_000), intel_1=(8_000_000, 9_000_000), intel_0_0=(1, 9))
    found = packages(tmp_path)
    found.begin()
    rapl(tmp_path, intel_0=(3_000_000, 9_000_000), intel_1=(500_000, 9_000_000), intel_0_0=(7, 9))
    assert found.end() == pytest.approx(2.0 + 1.5)


def test_why_the_sockets_are_not_counted_is_told(tmp_path):
    assert "no counters" in packages(tmp_path).reason
    (tmp_path / "intel-rapl:0").mkdir()
    assert "root only" in packages(tmp_path).reason
    assert "chmod" in packages(tmp_path).remedy


class Monitor:
    """zeus-apple-silicon's monitor, by the calls that it documents."""

    def __init__(self, **told):
        self.told, self.open = told, set()

    def begin_window(self, key):
        assert key not in self.open
        self.open.add(key)

    def end_window(self, key):
        self.open.remove(key)
        return SimpleNamespace(**self.told)


def test_apples_counters_are_added_as_far_as_they_tell():
    made = Zeus(Monitor(cpu_total_mj=1500, gpu_mj=2500, gpu_sram_mj=None, ane_mj=0, dram_mj=None))
    made.begin()
    assert made.end() == 4.0
    assert made.end() is None


def test_an_interrupt_leaves_no_window_open():
    made = Zeus(Monitor(cpu_total_mj=1))
    made.begin()
    made.begin()
    assert made.end() == 0.001


def test_a_mac_without_the_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(energy, "is_apple_silicon", lambda: True)
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", None)
    assert meter("gpu").remedy == "pip install zeus-apple-silicon"
    monkeypatch.setitem(sys.modules, "zeus_apple_silicon", SimpleNamespace(AppleEnergyMonitor=Monitor))
    assert isinstance(meter("gpu"), Zeus)


def test_work_on_an_nvidia_gpu_is_counted_by_its_driver(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    found = meter("cuda:0")
    assert found.what == "NVIDIA H200 by NVML"
    found.begin()
    assert found.end() == 2.5
    monkeypatch.setitem(sys.modules, "pynvml", Driver("energy"))
    assert "does not tell its energy" in meter("cuda").reason


class Steady:
    """A meter by which every piece of work takes 6 joules."""

    what = "a steady meter"

    def begin(self):
        pass

    def end(self):
        return 6.0


def test_energy_is_shared_by_the_tokens_that_requests_generated(run, monkeypatch):
    monkeypatch.setattr(measure, "meter", lambda device: Steady())
    report = run(ScriptedBackend(["a"] * 3), concurrency=[1, 2], runs=2)
    assert [each.energy for each in report.runs] == [6.0, 6.0, 3.0, 3.0, 3.0, 3.0]
    assert Summary.of(report, 0).energy == pytest.approx(2.0)
    assert Summary.of(report, 1).energy == pytest.approx(1.0)
    assert "energy: a steady meter" in report.notes


def test_a_machine_without_a_meter_has_no_energy(run, monkeypatch):
    monkeypatch.setattr(measure, "meter", lambda device: Rejected("energy", "nothing counts it"))
    report = run(ScriptedBackend(), runs=1)
    assert report.runs[0].energy is None
    assert Summary.of(report, 0).energy is None
    assert "energy not measured: nothing counts it" in report.notes
