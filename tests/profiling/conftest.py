"""What tests of a profile share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from mlxnb.profiling import Plan, Report, profile
from mlxnb.profiling.runs.progress import Progress
from mlxnb.runtime import Engine
from tests.profiling.siblings import stand_in
from tests.scripted import ScriptedBackend


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a profile measures, without what other parts make of it."""
    stand_in(monkeypatch)


Profile = Callable[..., Report]


@pytest.fixture
def run(alone: None) -> Iterator[Profile]:
    """`run(script, progress=None, **options)` profiles a scripted backend on an engine of its own."""
    engines: list[Engine] = []

    def made(script: ScriptedBackend, progress: Callable[[Progress], None] | None = None, **options: object) -> Report:
        engines.append(Engine({"scripted": script}, caching=False))
        asked = {"prompts": ["Tell me something."], "backend": "scripted", "inside": False, **options}
        return profile(engines[-1], Plan.of(**asked), progress)

    yield made
    for engine in engines:
        engine.close()
