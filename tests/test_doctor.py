"""The doctor: what it finds here, what it says where something is missing, and how that reads."""

from __future__ import annotations

import importlib.util
import os
import warnings
from pathlib import Path

import pytest

from mlxnb import doctor, hardware
from mlxnb.backends.rates import Rates, rate_book
from mlxnb.decision import Accepted, Rejected
from mlxnb.doctor import diagnose
from mlxnb.hardware import Accelerator, Cores, Speed, Speeds
from mlxnb.models import resolve
from mlxnb.records import Records
from mlxnb.render.doctor import doctor_tables
from mlxnb.request import AS_STORED

SPEEDS = Speeds((Speed("torch 9", "cpu", 3e10, {"float32": 1.5e11, "bfloat16": 8e11}),), at=0.0)
H200 = Accelerator("cuda", "NVIDIA H200", 150 * 10**9, 149 * 10**9, "570")
RADEON = Accelerator("rocm", "Radeon", 16 * 10**9, None)
M3 = Accelerator("metal", "Apple M3", 16 * 10**9, 8 * 10**9)


@pytest.fixture(autouse=True)
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "speeds", lambda store, again: SPEEDS)
    monkeypatch.setattr(hardware, "accelerators", lambda: ())


def finding(subject: str) -> Accepted | Rejected:
    return next(f for f in diagnose().findings if subject in f.subject)


def shown() -> str:
    return "\n".join(table.text() for table in doctor_tables(diagnose()))


def test_this_machine() -> None:
    found = diagnose()
    assert found.memory_free <= found.memory_total
    assert found.versions["torch"]
    assert found.versions["mlxnb"]
    assert finding("backend torch")
    text = shown()
    assert found.chip in text
    assert "30" in text
    assert "150" in text
    assert "none found" in text


def test_what_is_missing_comes_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    really = doctor.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "torch" else really(name, *a))
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name == "jupyterlab" else really(name))
    text = shown()
    assert "pip install 'mlxnb[torch]'" in text
    assert "pip install 'mlxnb[lab]'" in text
    assert finding("JupyterLab").reason == "jupyterlab not installed"


@pytest.mark.parametrize(
    ("gpu", "devices", "remedy"),
    [
        (H200, {"cpu"}, "CUDA build"),
        (RADEON, {"cpu"}, "ROCm build"),
        (M3, {"cpu"}, "pip install --upgrade mlxnb"),
        (H200, {"cpu", "cuda"}, None),
        (RADEON, {"cuda"}, None),
        (M3, {"mps"}, None),
    ],
)
def test_a_gpu_that_nothing_uses(
    gpu: Accelerator, devices: set[str], remedy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    speeds = Speeds(tuple(Speed("torch 9", device, 1e10, {}) for device in sorted(devices)), at=0.0)
    monkeypatch.setattr(hardware, "speeds", lambda store, again: speeds)
    monkeypatch.setattr(hardware, "accelerators", lambda: (gpu,))
    found = finding(gpu.name)
    assert bool(found) == (remedy is None)
    if isinstance(found, Rejected) and remedy:
        assert remedy in found.remedy
    assert gpu.name in shown()


def test_a_measurement_that_failed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "speeds", lambda store, again: Rejected("speed", "the measurement failed: why"))
    assert "the measurement failed: why" in shown()


def test_a_library_that_is_broken_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = Speeds(SPEEDS.measured, 0.0, broken={"torch": "OSError: libtorch.so"}, failed={"mlx": "MemoryError: full"})
    monkeypatch.setattr(hardware, "speeds", lambda store, again: speeds)
    found = finding("backend torch")
    assert isinstance(found, Rejected)
    assert "libtorch.so" in found.reason
    assert "pip install --force-reinstall torch" in found.remedy
    assert "MemoryError: full" in finding("speed of mlx").reason


def test_both_kinds_of_cores_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "cores", lambda: Cores(12, 12, 8, 4))
    assert "12 usable; 8 performance and 4 efficiency cores" in shown()


def test_a_figure_from_a_busy_machine_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "speeds", lambda store, again: Speeds(SPEEDS.measured, 0.0, busy=0.6))
    assert "while 60% of the processor was taken" in shown()


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    assert "cannot be written" in finding("caches").reason


@pytest.mark.parametrize("below", ["", "cache"])
def test_a_cache_folder_that_is_a_file_or_a_link_to_nothing(
    below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for name in ("file", "link"):
        monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / name / below))
        assert "is no folder" in finding("caches").reason


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = doctor.shutil.disk_usage("/")._replace(free=10**9)
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    assert finding("caches").remedy == "make room there"


def test_a_python_under_rosetta(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.sys, "platform", "darwin")
    monkeypatch.setattr(doctor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(hardware, "chip", lambda: "VirtualApple @ 2.50GHz")
    assert "arm64" in finding("Python").remedy


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may enter everywhere")
def test_a_cache_folder_below_one_that_may_not_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(closed / "cache"))
    assert "cannot be written" in finding("caches").reason


def test_a_warning_made_an_error_does_not_end_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def keeps(store: Records, again: bool) -> Speeds:
        store.put("key", {})
        return SPEEDS

    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(hardware, "speeds", keeps)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        assert diagnose().speeds == SPEEDS
    assert "cannot be kept" in str(caught[0].message)


@pytest.mark.parametrize(
    ("version_py", "remedy"),
    [
        ("cuda: Optional[str] = '12.8'\nhip: Optional[str] = None\n", "update the driver"),
        ("cuda: Optional[str] = None\nhip: Optional[str] = None\n", "CUDA build"),
        ("", "CUDA build"),
    ],
)
def test_a_cuda_build_that_cannot_use_the_card_is_not_to_be_installed_again(
    version_py: str, remedy: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").touch()
    (tmp_path / "torch" / "version.py").write_text(version_py)
    found_spec = importlib.util.spec_from_file_location(
        "torch", tmp_path / "torch" / "__init__.py", submodule_search_locations=[str(tmp_path / "torch")]
    )
    monkeypatch.setattr(doctor, "find_spec", lambda name: found_spec)
    monkeypatch.setattr(hardware, "accelerators", lambda: (H200,))
    found = finding(H200.name)
    assert isinstance(found, Rejected)
    assert remedy in found.remedy


@pytest.mark.skipif(os.name != "posix", reason="a shell script stands in for the program")
def test_a_driver_that_does_not_answer_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert hardware.driver_trouble() == ""  # none is installed
    program.write_text("#!/bin/sh\necho 'cannot reach the\n  driver'\nexit 9\n")
    program.chmod(0o755)
    found = finding("NVIDIA driver")
    assert isinstance(found, Rejected)
    assert found.reason == "cannot reach the driver"
    program.write_text("#!/bin/sh\nexit 0\n")
    assert all("driver" not in f.subject for f in diagnose().findings)


def test_a_card_that_only_a_library_knows_of(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "none found" in shown()
    speeds = Speeds((Speed("torch 9", "cuda", 1e12, {}),), at=0.0)
    monkeypatch.setattr(hardware, "speeds", lambda store, again: speeds)
    assert "torch 9 computes on cuda" in shown()


def test_settings_that_cannot_be_taken_are_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finding("settings")
    monkeypatch.setenv("MLXNB_MAX_TOKENS", "abc")
    found = finding("settings")
    assert isinstance(found, Rejected)
    assert "MLXNB_MAX_TOKENS is 'abc'" in found.reason
    monkeypatch.delenv("MLXNB_MAX_TOKENS")
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path / "away"))
    assert "which is no folder" in finding("settings").reason
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path))
    assert finding("settings")


def test_the_speed_of_backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path))
    found = finding("speed of backends")
    assert isinstance(found, Rejected)
    assert found.remedy == "mlxnb backends --measure"
    rate_book().add("torch", resolve("pocket"), AS_STORED, Rates(256, 128))
    assert finding("speed of backends").reason == ("torch 2 s for 256 + 128 tokens, measured with the pocket model")
