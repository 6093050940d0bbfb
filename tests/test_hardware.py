"""Memory as the system and a container's control groups give it, from made-up /proc and /sys folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mlxnb import hardware


def put(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_this_machine() -> None:
    assert 0 < hardware.memory_free() <= hardware.memory_total() <= psutil.virtual_memory().total
    assert hardware.chip()
    assert isinstance(hardware.is_apple_silicon(), bool)


def test_no_control_groups(tmp_path: Path) -> None:
    assert list(hardware.cgroup_limits(tmp_path)) == []
    assert hardware.memory_total(tmp_path) == psutil.virtual_memory().total
    assert hardware.memory_free(tmp_path) <= psutil.virtual_memory().total


def test_version_2_in_a_container(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": "1000000\n",
            "sys/fs/cgroup/memory.current": "700000\n",
            "sys/fs/cgroup/memory.stat": "anon 200000\nfile 500000\ninactive_file 400000\nactive_file 100000\n",
        },
    )
    assert list(hardware.cgroup_limits(root)) == [(1_000_000, 300_000)]
    assert hardware.memory_total(root) == 1_000_000
    assert hardware.memory_free(root) == 700_000


def test_version_2_nested_takes_the_tightest(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/job.scope\n",
            "sys/fs/cgroup/user.slice/memory.max": "900000",
            "sys/fs/cgroup/user.slice/memory.current": "850000",
            "sys/fs/cgroup/user.slice/job.scope/memory.max": "max",
            "sys/fs/cgroup/user.slice/job.scope/memory.current": "10",
        },
    )
    assert list(hardware.cgroup_limits(root)) == [(900_000, 850_000)]
    assert hardware.memory_free(root) == 50_000


def test_a_path_of_the_host_that_the_container_does_not_see(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/../../docker/abc\n",
            "sys/fs/cgroup/memory.max": "5000",
            "sys/fs/cgroup/memory.current": "9000",
        },
    )
    assert hardware.memory_total(root) == 5000
    assert hardware.memory_free(root) == 0


def test_version_1(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/\n4:memory:/docker/abc\n1:name=systemd:/x\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "1\n",
            "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes": "800000\n",
            "sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes": "500000\n",
            "sys/fs/cgroup/memory/docker/abc/memory.stat": "cache 1\ntotal_inactive_file 100000\n",
        },
    )
    assert hardware.memory_total(root) == 800_000
    assert hardware.memory_free(root) == 400_000


@pytest.mark.parametrize("line", ["", "nonsense", "0::", "a:b", "4:memory:", "\x00:::"])
def test_files_that_make_no_sense(line: str, tmp_path: Path) -> None:
    root = put(tmp_path, {"proc/self/cgroup": line, "sys/fs/cgroup/memory.max": "lots", "proc/cpuinfo": "model name"})
    assert list(hardware.cgroup_limits(root)) == []
    assert hardware.chip(root)


def test_the_chip_on_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    root = put(tmp_path, {"proc/cpuinfo": "processor\t: 0\nmodel name\t: AMD EPYC 9654 : x\nflags\t: fpu\n"})
    assert hardware.chip(root) == "AMD EPYC 9654 : x"


def test_the_chip_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    def sysctl(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        assert command[1:] == ["-n", "machdep.cpu.brand_string"]
        return subprocess.CompletedProcess(command, 0, "Apple M3 Max\n", "")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setattr("platform.processor", lambda: "arm")
    monkeypatch.setattr(subprocess, "run", sysctl)
    assert hardware.chip() == "Apple M3 Max"
    assert hardware.is_apple_silicon()
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert not hardware.is_apple_silicon()


def test_the_chip_on_a_mac_without_sysctl(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(command: list[str], **options: object) -> None:
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.processor", lambda: "arm")
    monkeypatch.setattr(subprocess, "run", fail)
    assert hardware.chip() == "arm"


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1000, "1.0 kB"),
        (7_612_736, "7.6 MB"),
        (99_940_000, "99.9 MB"),
        (537_000_000, "537 MB"),
        (999_600_000, "1.0 GB"),
        (16_000_000_000, "16.0 GB"),
        (128_400_000_000, "128 GB"),
        (5e14, "500.0 TB"),
        (5e18, "5,000,000.0 TB"),
    ],
)
def test_human_bytes(count: float, text: str) -> None:
    assert hardware.human_bytes(count) == text
