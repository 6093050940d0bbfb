"""The memory that is read is that of the device: what is held on it counts, and what was given back does not."""

from __future__ import annotations

import mmap

import pytest

from mlxnb.profiling.machine.memory import in_process, on_cuda, on_metal, reading_for

MB = 1_048_576


def test_what_is_read_follows_the_device():
    pytest.importorskip("torch")
    assert reading_for("torch", "cpu") is in_process
    assert reading_for("torch", "mps") is in_process
    assert reading_for("torch", "cuda") is on_cuda
    assert reading_for("torch", "cuda:1") is on_cuda
    assert reading_for("mlx", "gpu") is on_metal
    assert reading_for("mlx", "cpu") is in_process
    assert reading_for("server", "127.0.0.1:1234") is None  # this process is not where its model is


def test_pages_that_are_touched_count_and_come_back():
    before = in_process().used
    pages = mmap.mmap(-1, 64 * MB)
    for at in range(0, 64 * MB, mmap.PAGESIZE):
        pages[at] = 1
    held = in_process().used
    pages.close()
    after = in_process().used
    assert held - before == pytest.approx(64 * MB, abs=8 * MB)
    assert held - after == pytest.approx(64 * MB, abs=8 * MB)


def test_mlx_tells_what_is_in_use_and_what_it_only_keeps():
    mx = pytest.importorskip("mlx.core")
    mx.clear_cache()
    before = on_metal().used
    array = mx.ones((4 * MB,), mx.float32)
    mx.eval(array)
    held = on_metal()
    assert held.used - before >= 16 * MB
    del array
    assert on_metal().used - before < MB
    mx.clear_cache()


@pytest.mark.cuda
def test_a_card_tells_what_is_in_use_and_what_it_only_keeps():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs an NVIDIA card")
    before = on_cuda().used
    array = torch.ones(64 * MB, device="cuda")
    assert on_cuda().used - before >= 200 * MB
    del array
    after = on_cuda()
    assert after.free_share is not None
    assert after.free_share > 0


def test_elsewhere_than_on_glibc_no_free_share_is_told(monkeypatch):
    monkeypatch.setattr("mlxnb.profiling.machine.memory._mallinfo", lambda: None)
    assert in_process().free_share is None
    assert in_process().used > 0
