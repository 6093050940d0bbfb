"""The machine as the system, its control groups and its tools tell it, from made-up /proc and /sys folders."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mlxnb import hardware
from mlxnb.hardware import gpu, processor, system


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


def test_the_instruction_sets_of_this_machine() -> None:
    known = {*processor.X86.values(), *processor.ARM.values(), *processor.APPLE.values()}
    assert set(hardware.instruction_sets()) <= known
    if sys.platform == "linux":
        assert hardware.instruction_sets()  # every 64-bit x86 and Arm of the last ten years has one of them


def test_instruction_sets_on_x86_and_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    intel = put(tmp_path / "x86", {"proc/cpuinfo": "flags\t\t: fpu avx2 avx512f amx_bf16 amx_tile avx512_vnni\n"})
    assert hardware.instruction_sets(intel) == ("AVX2", "AVX-512", "AVX512-VNNI", "AMX-BF16")
    arm = put(tmp_path / "arm", {"proc/cpuinfo": "Features\t: fp asimd asimddp i8mm bf16\n"})
    assert hardware.instruction_sets(arm) == ("NEON", "DotProd", "I8MM", "BF16")
    assert hardware.instruction_sets(tmp_path / "nothing") == ()


def test_instruction_sets_and_cores_of_a_mac(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = {
        "hw.optional.AdvSIMD": "1",
        "hw.optional.arm.FEAT_BF16": "1",
        "hw.optional.arm.FEAT_SME": "0",
        "hw.perflevel0.physicalcpu": "12",
        "hw.perflevel1.physicalcpu": "4",
    }
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(processor, "sysctl", lambda name: told.get(name, ""))
    assert hardware.instruction_sets() == ("NEON", "BF16")
    cores = hardware.cores(tmp_path)
    assert (cores.performance, cores.efficiency) == (12, 4)


@pytest.mark.parametrize(
    ("files", "kinds"),
    [
        ({"sys/devices/cpu_core/cpus": "0-11\n", "sys/devices/cpu_atom/cpus": "12-19,22\n"}, (12, 9)),
        ({f"sys/devices/system/cpu/cpu{i}/cpu_capacity": "1024" if i < 2 else "380" for i in range(6)}, (2, 4)),
        ({f"sys/devices/system/cpu/cpu{i}/cpu_capacity": "1024" for i in range(4)}, (None, None)),
        ({"sys/devices/cpu_core/cpus": "nonsense", "sys/devices/cpu_atom/cpus": "1-"}, (None, None)),
        ({}, (None, None)),
    ],
    ids=["intel hybrid", "big and little", "all alike", "nonsense", "not told"],
)
def test_two_kinds_of_cores(
    files: dict[str, str], kinds: tuple[int | None, int | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    cores = hardware.cores(put(tmp_path, files))
    assert (cores.performance, cores.efficiency) == kinds


@pytest.mark.parametrize(
    ("quota", "usable"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None)]
)
def test_a_quota_bounds_the_usable_cores(quota: str, usable: int | None, tmp_path: Path) -> None:
    free = hardware.cores(tmp_path).usable
    root = put(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": quota})
    assert hardware.cores(root).usable == (usable or free)


def test_the_tightest_quota_of_a_nested_group_holds(tmp_path: Path) -> None:
    root = put(
        tmp_path,
        {
            "proc/self/cgroup": "0::/user.slice/job.scope\n",
            "sys/fs/cgroup/user.slice/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/user.slice/job.scope/cpu.max": "max 100000\n",
        },
    )
    assert hardware.cores(root).usable == 1


def test_a_quota_of_version_1(tmp_path: Path) -> None:
    group = "sys/fs/cgroup/cpu/x"
    files = {f"{group}/cpu.cfs_quota_us": "150000", f"{group}/cpu.cfs_period_us": "100000"}
    assert hardware.cores(put(tmp_path, {"proc/self/cgroup": "4:cpu,cpuacct:/x\n", **files})).usable == 1


def test_an_nvidia_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    lines = "NVIDIA H200, 143771, 143000, 570.12\nNVIDIA GB10, [N/A], [N/A], 580.1\nnonsense\n"
    monkeypatch.setattr(gpu, "said", lambda command, timeout: lines)
    monkeypatch.setattr(gpu, "is_apple_silicon", lambda: False)
    first, second = hardware.accelerators(tmp_path)
    assert (first.kind, first.name, first.memory_total, first.driver) == (
        "cuda",
        "NVIDIA H200",
        143771 * 2**20,
        "570.12",
    )
    assert (second.name, second.memory_total, second.memory_free) == ("NVIDIA GB10", None, None)


def test_an_amd_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "said", lambda command, timeout: "")
    monkeypatch.setattr(gpu, "is_apple_silicon", lambda: False)
    monkeypatch.setattr(sys, "platform", "linux")
    card = "sys/class/drm/card1/device"
    root = put(
        tmp_path,
        {
            f"{card}/vendor": "0x1002\n",
            f"{card}/mem_info_vram_total": "17163091968\n",
            f"{card}/mem_info_vram_used": "163091968\n",
            "sys/class/drm/card0/device/vendor": "0x8086\n",
        },
    )
    (card_seen,) = hardware.accelerators(root)
    assert (card_seen.kind, card_seen.memory_total, card_seen.memory_free) == ("rocm", 17163091968, 17_000_000_000)


def test_apple_silicon_is_its_own_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "is_apple_silicon", lambda: True)
    (seen,) = hardware.accelerators()
    assert (seen.kind, seen.memory_total) == ("metal", hardware.memory_total())


def test_a_program_that_is_absent_or_fails_says_nothing() -> None:
    assert system.said(["no-such-program-anywhere"]) == ""
    assert system.said([sys.executable, "-c", "print('x'); raise SystemExit(1)"]) == ""
    assert system.said([sys.executable, "-c", "print('x')"]) == "x"


def test_a_program_that_says_what_is_not_utf_8() -> None:
    assert system.said([sys.executable, "-c", r"import os; os.write(1, b'a\xffb')"]) == "a\ufffdb"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells its memory in /proc")
def test_memory_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    total = hardware.memory_total(tmp_path)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError):
        psutil.virtual_memory()
    assert hardware.memory_total(tmp_path) == pytest.approx(total, rel=0.01)
    assert 0 < hardware.memory_free(tmp_path) <= hardware.memory_total(tmp_path)
