"""Fixtures that many tests share: an engine of the test's own, and tiny checkpoints made once a session."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

import mlxnb
from mlxnb.result import Chunk
from mlxnb.runtime import Engine, Job
from tests.scripted import ScriptedBackend
from tests.tiny import FAMILIES, Maker, make_checkpoint

# No test reads or writes the caches of the person who runs it.
os.environ["MLXNB_CACHE_DIR"] = tempfile.mkdtemp(prefix="mlxnb-tests-")
# Which backend answers must not hang on how busy the machine was: the tests that measure say so themselves.
os.environ["MLXNB_PROBE"] = "off"
atexit.register(shutil.rmtree, os.environ["MLXNB_CACHE_DIR"], ignore_errors=True)

# A noisy machine is no fault of the code: examples may take their time. Where CI is set they are the same in each run,
# as a change is not at fault for a rare example; elsewhere each run draws new ones.
settings.register_profile("mlxnb", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("mlxnb")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite runs in two processes, each test waiting for compilers, kernels and browsers; a part in this one.

    Not more, or what is measured in tests would be measured beside too much else.
    """
    return 2 if config.args_source is pytest.Config.ArgsSource.TESTPATHS else 0


@pytest.fixture(scope="module", autouse=True)
def settled() -> None:
    """What lives by now is left out of later collections.

    Closing a model collects garbage, and going through torch and transformers took up to half a second each time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """A real engine with the real backends, which computes every answer anew."""
    made = Engine(caching=False)
    yield made
    made.close()


@pytest.fixture
def held_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """The next answer waits after so many chunks until it is cancelled, however quick the model is."""
    put = Job.put

    def hold(chunks: int) -> None:
        given: list[Job] = []

        def put_and_wait(job: Job, chunk: Chunk) -> None:
            put(job, chunk)
            if not given or given[0] is job:  # those after it are none of this
                given.append(job)
                if len(given) == chunks:
                    assert job.watch.cancelled.wait(60)

        monkeypatch.setattr(Job, "put", put_and_wait)

    return hold


@pytest.fixture
def scripted() -> Iterator[tuple[Engine, ScriptedBackend]]:
    """An engine whose one backend follows a script."""
    backend = ScriptedBackend()
    made = Engine({"scripted": backend})
    yield made, backend
    made.close()


@pytest.fixture
def script(scripted: tuple[Engine, ScriptedBackend], monkeypatch: pytest.MonkeyPatch) -> ScriptedBackend:
    """The script behind every answer of this test: `mlxnb.engine()` gives an engine that knows this backend only."""
    engine, backend = scripted
    monkeypatch.setattr(mlxnb, "engine", lambda: engine)
    monkeypatch.setenv("MLXNB_BACKEND", "scripted")
    return backend


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Makes a tiny checkpoint of a family, once a session."""
    folder = tmp_path_factory.mktemp("families")

    def make(family: str) -> Path:
        assert family in FAMILIES
        path = folder / family
        return path if path.exists() else make_checkpoint(family, path)

    return make


@pytest.fixture(scope="session")
def compiled_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache folder in which all tests of a run keep the kernels that the emulator compiled, by content."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled-kernels"
    folder.mkdir(exist_ok=True)
    return folder
