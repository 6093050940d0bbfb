"""What a report says of the machine: measured, stated, and nothing that is secret."""

import sys

import pytest

from mlxnb.decision import Rejected
from mlxnb.hardware import Speed, Speeds
from mlxnb.profiling.machine import environment as module
from mlxnb.profiling.machine.datasheet import datasheet
from mlxnb.profiling.machine.environment import environment, fastest, power

MEASURED = Speeds(
    (
        Speed("torch 2", "cpu", 3e10, {"float32": 2e11, "int8": 9e11}),
        Speed("mlx 0", "cpu", 4e10, {"float32": 1e11, "bfloat16": 5e9}),
        Speed("torch 2", "mps", 9e10, {"float16": 7e12}),
        Speed("mlx 0", "metal", 8e10, {"float16": 8e12}),
    ),
    at=0.0,
)


@pytest.fixture
def measured(monkeypatch):
    monkeypatch.setattr("mlxnb.hardware.speeds", lambda store: MEASURED)
    monkeypatch.setattr(module, "_measured_here", {})


def test_the_fastest_library_tells_what_a_device_can_do():
    assert fastest(MEASURED, "cpu") == (4e10, {"float32": 2e11, "int8": 9e11, "bfloat16": 5e9})
    assert fastest(MEASURED, "mps") == fastest(MEASURED, "metal") == (9e10, {"float16": 8e12})
    assert fastest(MEASURED, "gpu") == (9e10, {"float16": 8e12})
    assert fastest(MEASURED, "cuda") == (None, {})
    assert fastest(Rejected("speed", "no library"), "cpu") == (None, {})


def test_a_machine_is_described(measured):
    found = environment("cpu", "bfloat16")
    assert found.bandwidth == 4e10
    assert found.products["float32"] == 2e11
    assert found.memory > 0
    assert found.versions["Python"].startswith(f"{sys.version_info.major}.{sys.version_info.minor}")
    assert found.versions["numpy"]
    assert found.settings["speeds"] == "torch 2, mlx 0"
    assert found.settings["mlxnb probe"] == "off"  # as the tests' own conftest has it
    assert "product" not in found.settings


def test_what_was_not_measured_is_said(monkeypatch, measured):
    assert environment("cuda", "float16").settings["speeds"] == "not measured on cuda"
    assert environment("cpu", "float16").settings["product"] == "none measured in float16"
    monkeypatch.setattr("mlxnb.hardware.speeds", lambda store: Rejected("speed", "neither torch nor mlx"))
    monkeypatch.setattr(module, "_measured_here", {})
    found = environment("cpu", "float32")
    assert (found.bandwidth, found.products) == (None, {})
    assert found.settings["speeds"] == "not measured: neither torch nor mlx"


def test_a_busy_machine_is_measured_once_in_a_process(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(module, "cache_dir", lambda: tmp_path)
    monkeypatch.setattr("mlxnb.hardware.speeds", lambda store: asked.append(store) or MEASURED)
    assert environment("cpu", "float32").products == environment("cpu", "float32").products
    assert len(asked) == 1


def test_torchs_threads_are_those_of_the_thread_that_asks(engine, measured):
    torch = pytest.importorskip("torch")

    def look():
        torch.set_num_threads(1)
        return environment("cpu", "float32").settings["torch threads"]

    assert engine.call(look) == 1


def test_settings_that_count_are_there_and_secrets_are_not(monkeypatch, measured):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MLXNB_QUANTIZE", "int8")
    monkeypatch.setenv("MLXNB_BATCH_SIZE", "many")
    for name in ("MLXNB_API_KEY", "HF_TOKEN", "OPENAI_API_KEY", "MLXNB_SERVER_URL"):
        monkeypatch.setenv(name, "http://someone:hidden@host/v1")
    found = environment("cpu", "float32")
    assert found.settings["OMP_NUM_THREADS"] == "3"
    assert found.settings["mlxnb quantize"] == "int8"
    assert str(found.settings["mlxnb batch_size"]).startswith("wrong: MLXNB_BATCH_SIZE")
    assert "hidden" not in repr(found)
    assert all(isinstance(value, str | int | float | bool | None) for value in found.settings.values())


def test_power_and_governor_are_told_where_the_system_does(monkeypatch, tmp_path):
    import psutil

    folder = tmp_path / "sys/devices/system/cpu/cpu0/cpufreq"
    folder.mkdir(parents=True)
    (folder / "scaling_governor").write_text("powersave\n")
    plugged = type("Battery", (), {"power_plugged": False})
    monkeypatch.setattr(psutil, "sensors_battery", lambda: plugged, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    assert dict(power(tmp_path)) == {"power": "battery", "governor": "powersave"}
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None, raising=False)
    assert dict(power(tmp_path / "elsewhere")) == {}
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(module, "said", lambda command: " hibernatemode 3\n lowpowermode         1\n sleep 1")
    assert dict(power(tmp_path / "elsewhere")) == {"low power mode": True}


@pytest.mark.parametrize(
    ("name", "cores", "expected"),
    [
        ("Apple M1", 8, 68.25e9),
        ("Apple M3 Max", 16, 400e9),
        ("Apple M3 Max", 14, 300e9),
        ("Apple M3 Max", None, None),
        ("Apple M4 Pro", 14, 273e9),
        ("Apple M9", 8, None),
        ("NVIDIA H200", None, 4.8e12),
        ("NVIDIA GeForce RTX 4090", None, 1.008e12),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None, None),
        ("Tesla T4", None, 320e9),
        ("AMD EPYC", 64, None),
    ],
)
def test_the_makers_bandwidth_is_found_by_name(name, cores, expected):
    assert datasheet(name, cores) == (None if expected is None else pytest.approx(expected))
