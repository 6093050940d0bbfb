"""The child process of a launch: it ends when it must, and its ways of ending are told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mlxnb.errors import KernelError
from mlxnb.kernels.emulator import launch
from mlxnb.kernels.emulator.build import Built
from mlxnb.kernels.emulator.launch import Argument
from mlxnb.kernels.emulator.signature import kernel_text

TEXT = kernel_text("k", "", "y[0] = 1;", [], [("y", "float32")], [], False)
ENDLESS = """
import signal
from mlxnb.kernels.emulator import Kernel
signal.signal(signal.SIGINT, signal.default_int_handler)  # not there in the background of a shell
kernel = Kernel("k", (), ("y",), "y[0] = 0; while (true) y[0] += 1;")
try:
    kernel.run([], [(1,)], ["float32"], (1, 1, 1), (1, 1, 1))
except KeyboardInterrupt:
    print("interrupted")
"""


def _launch(script: str, folder: Path, time_limit: float = 5.0) -> launch.Report:
    runner = folder / "runner"
    runner.write_text(f"#!/bin/sh\n{script}\n")
    runner.chmod(0o755)
    output = Argument("y", np.zeros(1, np.float32), True, False)
    return launch.launch(Built(folder / "k.so", runner), TEXT, [output], (1, 1, 1), (1, 1, 1), True, time_limit)


def test_a_runner_that_does_not_stop_by_itself_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(launch, "GRACE", 0.1)
    report = _launch("exec sleep 60", tmp_path, time_limit=0.2)
    assert [finding.kind for finding in report.findings] == ["time-limit"]
    assert not report.ok


def test_a_runner_that_dies_without_a_word(tmp_path: Path) -> None:
    report = _launch("kill -9 $$", tmp_path)
    assert [finding.kind for finding in report.findings] == ["crash"]
    assert "signal 9" in report.findings[0].message


def test_a_runner_that_refuses(tmp_path: Path) -> None:
    with pytest.raises(KernelError, match="not enough memory"):
        _launch("echo There is not enough memory for it. >&2; exit 2", tmp_path)


def test_an_interrupt_ends_the_kernel_too() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS], stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )
    child = _first_child(process.pid)
    while _ticks(child) < 5:  # until the kernel runs; before, Python is starting it, where no interrupt can reach it
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert output == "interrupted\n"
    assert not Path(f"/proc/{child}/exe").exists()


def _ticks(process: int) -> int:
    """Processor time that a process took of its own, in hundredths of a second on most systems."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[11])


def _first_child(parent: int) -> int:
    """The runner, once there is one: compilers come and go before it."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    if not children.exists():
        pytest.skip("this system does not list a process's children")
    for _ in range(600):
        for child in children.read_text().split():
            try:
                if "runner-" in os.readlink(f"/proc/{child}/exe"):
                    return int(child)
            except OSError:
                continue
        time.sleep(0.05)
    raise AssertionError("the kernel was never run")
