"""Fixtures that many tests share: an engine of the test's own, and tiny checkpoints made once a session."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from mlxnb.runtime import Engine
from tests.scripted import ScriptedBackend
from tests.tiny import FAMILIES, Maker, make_checkpoint

# No test reads or writes the caches of the person who runs it.
os.environ["MLXNB_CACHE_DIR"] = tempfile.mkdtemp(prefix="mlxnb-tests-")
atexit.register(shutil.rmtree, os.environ["MLXNB_CACHE_DIR"], ignore_errors=True)

# A noisy machine is no fault of the code: examples may take their time.
settings.register_profile("mlxnb", deadline=None)
settings.load_profile("mlxnb")


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """A real engine with the real backends, which computes every answer anew."""
    made = Engine(caching=False)
    yield made
    made.close()


@pytest.fixture
def scripted() -> Iterator[tuple[Engine, ScriptedBackend]]:
    """An engine whose one backend follows a script."""
    backend = ScriptedBackend()
    made = Engine({"scripted": backend})
    yield made, backend
    made.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Makes a tiny checkpoint of a family, once a session."""
    folder = tmp_path_factory.mktemp("families")

    def make(family: str) -> Path:
        assert family in FAMILIES
        path = folder / family
        return path if path.exists() else make_checkpoint(family, path)

    return make
