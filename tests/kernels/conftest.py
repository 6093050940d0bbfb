"""The emulator's `metal_kernel`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def metal_kernel(compiled_kernels: Path) -> Iterator[Callable[..., Any]]:
    """What makes emulated kernels; skips where there is no C++ compiler."""
    pytest.importorskip("mlx.core")
    from mlxnb.kernels import emulator

    found = emulator.compiler()
    if not found:
        pytest.skip(str(found))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLXNB_CACHE_DIR", str(compiled_kernels))
        yield emulator.metal_kernel
