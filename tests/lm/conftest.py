"""The torch engine behind `mlxnb.lm`, and the same model in float32 for mlx-lm and for it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlxnb.pocket


@pytest.fixture(autouse=True)
def on_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("MLXNB_LM", "torch")


@pytest.fixture(scope="session")
def pocket32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pocket model in float32, where both engines give the same tokens."""
    pytest.importorskip("mlx_lm")
    import mlx_lm

    folder = tmp_path_factory.mktemp("pocket32") / "pocket"
    with contextlib.redirect_stdout(io.StringIO()):
        mlx_lm.convert(str(mlxnb.pocket.path()), str(folder), dtype="float32")
    return folder


@pytest.fixture(scope="module")
def theirs(pocket32: Path) -> tuple:
    """mlx-lm's model and tokenizer of it."""
    import mlx_lm

    return mlx_lm.load(str(pocket32))


@pytest.fixture
def ours(pocket32: Path) -> Iterator[tuple]:
    """The torch engine's model and tokenizer of it; the copy in memory is the engine's, kept between tests."""
    import mlxnb.lm

    return mlxnb.lm.load(str(pocket32))
