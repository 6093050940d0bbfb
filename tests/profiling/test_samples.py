"""What a sampler sees: this machine's own figures against psutil, and the counters of others from what they print."""

import itertools
import plistlib
import sys
import time
from types import SimpleNamespace

import psutil
import pytest

from mlxnb import hardware
from mlxnb.decision import Rejected
from mlxnb.profiling.machine import apple, samples
from mlxnb.profiling.machine.clock import Clock
from mlxnb.profiling.machine.nvidia import nvidia
from mlxnb.profiling.machine.samples import Sampler, Slow
from mlxnb.profiling.profile import with_peaks
from mlxnb.profiling.report import Run, Sample
from mlxnb.result import Timings


def waited_for(sampler, count):
    while len(sampler.samples) < count:
        time.sleep(0.002)
    return sampler.samples


def test_samples_tell_what_psutil_tells():
    clock = Clock()
    with Sampler(clock, period=0.01) as sampler:
        waited_for(sampler, 5)
    rss = psutil.Process().memory_info().rss
    for sample in sampler.samples:
        assert sample.rss == pytest.approx(rss, rel=0.2)
        assert 0 < sample.available < psutil.virtual_memory().total
        assert sample.swap >= 0
        assert 0 <= sample.own_cpu <= 1
        assert 0 <= sample.cpu <= 1
    times = [sample.at for sample in sampler.samples]
    assert times == sorted(times)
    assert 0 < times[0] <= times[-1] <= clock()


def test_a_busy_process_is_seen_to_be_busy():
    with Sampler(Clock(), period=0.05) as sampler:
        while len(sampler.samples) < 4:
            sum(range(10_000))
    assert max(sample.own_cpu for sample in sampler.samples) > 0.3 / psutil.cpu_count()
    assert max(sample.cpu for sample in sampler.samples) > 0.3 / psutil.cpu_count()


def test_the_thread_ends_with_a_last_sample_also_where_the_block_raises():
    with pytest.raises(KeyboardInterrupt), Sampler(Clock(), period=60) as sampler:
        raise KeyboardInterrupt
    assert len(sampler.samples) == 1
    assert not sampler._thread.is_alive()


def test_a_system_that_stops_answering_is_said_and_keeps_what_was_told(monkeypatch, capsys):
    told, count = psutil.swap_memory, itertools.count()

    def swap():
        if next(count) == 3:
            raise psutil.AccessDenied(msg="not allowed any more")
        return told()

    monkeypatch.setattr(psutil, "swap_memory", swap)
    with Sampler(Clock(), period=0.001) as sampler:
        sampler._thread.join(5)
    assert len(sampler.samples) == 3
    assert "memory, load and heat not told from 0 s on: AccessDenied: not allowed any more" in sampler.missing[-1]
    assert capsys.readouterr().err == ""


def test_what_takes_longer_is_asked_seldom(monkeypatch):
    asked = []

    def slow():
        asked.append(None)
        return Slow(gpu=0.5, gpu_memory=7, clock=3e9, temperature=61.0, pressure="fair")

    with Sampler(Clock(), period=0.005, slow=slow) as sampler:
        waited_for(sampler, 20)
    assert len(asked) < len(sampler.samples) / 4
    last = sampler.samples[-1]
    assert (last.gpu, last.gpu_memory, last.clock, last.temperature, last.pressure) == (0.5, 7, 3e9, 61.0, "fair")


def test_each_source_that_is_not_there_is_none_and_said_once(monkeypatch):
    monkeypatch.setattr(samples, "nvidia", lambda: Rejected("nvml", "none"))
    monkeypatch.setattr(hardware, "accelerators", tuple)
    monkeypatch.setattr(psutil, "sensors_temperatures", dict, raising=False)
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    monkeypatch.setattr(sys, "platform", "linux")
    with Sampler(Clock(), period=0.01) as sampler:
        waited_for(sampler, 3)
    names = ["processor clock", "GPU load", "temperature"]
    assert list(sampler.missing) == [f"{name} not told by this machine" for name in names]
    last = sampler.samples[-1]
    assert last.gpu is last.gpu_memory is last.clock is last.temperature is last.pressure is None


def test_a_gpu_that_could_be_asked_is_told_how(monkeypatch):
    gpu = hardware.Accelerator("cuda", "NVIDIA H200", 2**37, 2**36)
    monkeypatch.setattr(hardware, "accelerators", lambda: (gpu,))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(sys, "platform", "linux")
    missing = [each for each in Sampler(Clock()).missing if each.startswith("GPU load")]
    assert missing == ["GPU load not told: nvidia-ml-py is not installed (pip install nvidia-ml-py)"]


def test_the_processors_sensor_is_taken_before_the_boards(monkeypatch):
    def sensors():
        reading = lambda *degrees: [SimpleNamespace(current=each) for each in degrees]  # noqa: E731
        return {"acpitz": reading(27.8), "nvme": reading(90.0), "coretemp": reading(55.0, 71.0)}

    monkeypatch.setattr(samples, "nvidia", lambda: Rejected("nvml", "none"))
    monkeypatch.setattr(psutil, "sensors_temperatures", sensors, raising=False)
    monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=2500.0))
    monkeypatch.setattr(sys, "platform", "linux")
    with Sampler(Clock(), period=0.01) as sampler:
        waited_for(sampler, 1)
    assert sampler.samples[0].temperature == 71.0
    assert sampler.samples[0].clock == 2.5e9


def registry(*statistics):
    """A property list as ioreg prints it of the accelerators of a Mac."""
    entries = [
        {
            "IOClass": "AGXAcceleratorG14X",
            "IOObjectRetainCount": 61,
            "gpu-core-count": 30,
            "model": "Apple M2 Max",
            **({"PerformanceStatistics": each} if each is not None else {}),
        }
        for each in statistics
    ]
    return plistlib.dumps(entries)


BUSY = {
    "Device Utilization %": 87,
    "Renderer Utilization %": 86,
    "Tiler Utilization %": 3,
    "In use system memory": 5_368_709_120,
    "Alloc system memory": 9_663_676_416,
    "recoveryCount": 0,
}


def test_the_counters_of_an_apple_gpu_are_read():
    assert apple.counters(registry(BUSY)) == (0.87, 5_368_709_120)
    assert apple.accelerator(lambda: registry(BUSY)) == (0.87, 5_368_709_120)


def test_of_two_accelerators_the_busier_counts():
    idle = {"Device Utilization %": 2, "In use system memory": 1_000}
    assert apple.counters(registry(idle, BUSY)) == (0.87, 5_368_709_120)


@pytest.mark.parametrize(
    "printed",
    [
        b"",
        b"no property list",
        b"<?xml version='1.0'?><plist><array><dict>",
        plistlib.dumps([]),
        plistlib.dumps({"a": 1}),
        registry(None),
        registry({"Device Utilization %": "much"}),
        registry({}),
    ],
)
def test_what_is_no_answer_of_ioreg_is_none(printed):
    assert apple.counters(printed) == (None, None)


@pytest.mark.parametrize(("state", "word"), [(0, "nominal"), (1, "fair"), (2, "serious"), (3, "critical"), (9, None)])
def test_the_thermal_state_has_apples_words(state, word):
    assert apple._word(state) == word


@pytest.mark.skipif(sys.platform == "darwin", reason="this is a Mac")
def test_there_is_no_thermal_state_elsewhere():
    assert apple.thermal_state() is None


@pytest.mark.metal
@pytest.mark.skipif(sys.platform != "darwin", reason="needs Apple silicon")
def test_a_mac_tells_its_gpu_and_its_heat():
    assert apple.accelerator()[0] is not None
    assert apple.thermal_state()() in apple.THERMAL


class Driver:
    """nvidia-ml-py with one GPU; `silent` calls are not supported by it."""

    NVML_TEMPERATURE_GPU = 0

    class NVMLError(Exception):
        pass

    def __init__(self, *silent):
        self.silent, self.asked, self.millijoules = silent, None, 5000

    def nvmlInit(self):
        self.told("init")

    def told(self, name):
        if name in self.silent:
            raise self.NVMLError(f"{name} is not supported")

    def nvmlDeviceGetHandleByIndex(self, index):
        self.asked = index
        return "handle"

    def nvmlDeviceGetHandleByUUID(self, name):
        self.asked = name
        return "handle"

    def nvmlDeviceGetName(self, handle):
        return "NVIDIA H200"

    def nvmlDeviceGetUtilizationRates(self, handle):
        self.told("busy")
        return SimpleNamespace(gpu=64, memory=12)

    def nvmlDeviceGetMemoryInfo(self, handle):
        return SimpleNamespace(used=2**30, total=2**37)

    def nvmlDeviceGetTemperature(self, handle, sensor):
        return 55

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        self.told("energy")
        self.millijoules += 2500
        return self.millijoules


def test_an_nvidia_gpu_tells_its_figures(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Driver())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    gpu = nvidia()
    assert (gpu.name, gpu.busy(), gpu.memory(), gpu.temperature()) == ("NVIDIA H200", 0.64, 2**30, 55.0)
    assert gpu.joules() == 7.5


@pytest.mark.parametrize(("visible", "asked"), [("", 0), ("2,3", 2), ("GPU-5a", "GPU-5a"), ("MIG-1", "MIG-1")])
def test_the_gpu_that_is_seen_is_the_one_of_this_process(monkeypatch, visible, asked):
    driver = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    nvidia()
    assert driver.asked == asked


def test_what_a_driver_does_not_tell_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", Driver("busy"))
    assert nvidia().busy() is None
    monkeypatch.setitem(sys.modules, "pynvml", Driver("init"))
    assert "no NVIDIA driver answers" in nvidia().reason
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvidia().remedy == "pip install nvidia-ml-py"


def test_samples_give_runs_the_largest_memory_while_they_went_on():
    def sample(at, rss):
        return Sample(at, rss, 0, 0, 0.0, 0.0)

    run = Run(0, 0, Timings(1.0, 1.1, (2.0, 3.0), 5), peak_rss=50)
    failed = Run(0, 1, None, error="no")
    seen = [sample(0.5, 900), sample(1.5, 70), sample(2.9, 60), sample(3.1, 800)]
    assert [each.peak_rss for each in with_peaks([run, failed], seen)] == [70, None]
    assert with_peaks([run], [])[0].peak_rss == 50
