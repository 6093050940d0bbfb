"""Compiled things on disk: made once, made again where they are damaged, and refused clearly where none can be."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlxnb.errors import KernelError
from mlxnb.kernels.emulator import Kernel, build, cache, launch
from mlxnb.kernels.emulator.seal import is_whole, seal
from tests.kernels.emulator.run import typed

SOURCE = "y[thread_position_in_grid.x] = x[thread_position_in_grid.x];"


def _run(source: str = SOURCE) -> None:
    x = typed(np.arange(8, dtype=np.float32))
    outputs, report = Kernel("k", ("x",), ("y",), source).run([x], [(8,)], ["float32"], (8, 1, 1), (8, 1, 1))
    np.testing.assert_array_equal(outputs[0], x.data)
    assert report.findings == ()


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path))
    _run()
    return tmp_path / "emulator"


def _one(folder: Path, pattern: str) -> Path:
    (found,) = folder.glob(pattern)
    return found


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _one_byte_wrong(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _not_executable(path: Path) -> None:
    path.chmod(0o644)


def _no_library(path: Path) -> None:
    """Whole, as far as the seal goes, and yet nothing that can be loaded or run."""
    path.write_bytes(b"\x7fELF and no more")
    seal(path)


def test_damaged_files_are_made_again(own_cache: Path) -> None:
    library, runner = _one(own_cache, "kernel-*.so"), _one(own_cache, "runner-*")
    cases: list[tuple[Path, Callable[[Path], None]]] = [
        *((library, damage) for damage in (_cut, _empty, _one_byte_wrong, _no_library)),
        *((runner, damage) for damage in (_cut, _not_executable, _no_library)),
    ]
    for path, damage in cases:
        damage(path)
        _run()
        assert is_whole(path)


def test_a_damaged_header_is_made_again(own_cache: Path) -> None:
    _empty(_one(own_cache, "header-*/metal.h.*"))
    _run(SOURCE + " // anew")


def test_what_cannot_be_started_names_the_folder(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the cache lies on a disk mounted noexec."""

    def nothing_to_run(compiler: object, path: Path) -> None:
        path.write_bytes(b"")

    monkeypatch.setattr(build, "_compile_runner", nothing_to_run)
    _cut(_one(own_cache, "runner-*"))
    with pytest.raises(launch.NotStartedError, match=r"Permission denied.*MLXNB_CACHE_DIR") as caught:
        _run()
    assert str(own_cache) in str(caught.value)


def test_a_library_that_cannot_be_loaded_names_the_folder(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library(text: object, marked: str, compiler: object, checks: bool, path: Path) -> None:
        path.write_bytes(b"\x7fELF and no more")

    monkeypatch.setattr(build, "_compile_kernel", no_library)
    with pytest.raises(launch.NotStartedError, match=r"too short.*MLXNB_CACHE_DIR"):
        _run(SOURCE + " // anew")


def test_a_cache_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(in_the_way))
    with pytest.raises(KernelError, match="MLXNB_CACHE_DIR"):
        _run()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no full device")
def test_a_full_disk_leaves_nothing_half_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def make(path: Path) -> None:
        path.write_bytes(b"half")
        with open("/dev/full", "w") as full:
            full.write("the rest")

    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path))
    with pytest.raises(KernelError, match="No space left"):
        cache.kept("thing", make)
    assert list((tmp_path / "emulator").iterdir()) == []


def test_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    _run(SOURCE + " // once")
    monkeypatch.setattr(build, "_compile_kernel", lambda *arguments: pytest.fail("compiled again"))
    _run(SOURCE + " // once")
