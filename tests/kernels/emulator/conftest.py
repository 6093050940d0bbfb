"""One cache of compiled kernels for the session, and no test where there is no compiler."""

from __future__ import annotations

import pytest

from mlxnb.kernels.emulator import compiler


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the session's compiled kernels."""
    return str(tmp_path_factory.mktemp("compiled"))


@pytest.fixture(autouse=True)
def compiles(compiled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of a test are compiled into the session's cache."""
    found = compiler()
    if not found:
        pytest.skip(str(found))
    monkeypatch.setenv("MLXNB_CACHE_DIR", compiled)
