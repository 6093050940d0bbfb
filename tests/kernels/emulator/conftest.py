"""No test where there is no compiler."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxnb.kernels.emulator import compiler


@pytest.fixture(autouse=True)
def compiles(compiled_kernels: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of a test are compiled into the cache that all tests share."""
    found = compiler()
    if not found:
        pytest.skip(str(found))
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(compiled_kernels))
