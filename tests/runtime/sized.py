"""A scripted backend whose models have the sizes that a test gives them, and files of those sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mlxnb.decision import Rejected
from mlxnb.models import ModelSource
from mlxnb.request import AS_STORED, Precision
from tests.scripted import ScriptedBackend, ScriptedModel

MB = 1_000_000


class SizedBackend(ScriptedBackend):
    """Models of so many megabytes, by name; `closed` are those that were given back, in order."""

    def __init__(self, folder: Path, megabytes: Mapping[str, int]) -> None:
        super().__init__(("Yes", "."))
        self.closed: list[str] = []
        self.loaded: list[str] = []
        self._sizes = {name: size * MB for name, size in megabytes.items()}
        self._folder = folder
        for name, size in self._sizes.items():
            with (folder / f"{name}.gguf").open("wb") as file:
                file.truncate(size)

    def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource | Rejected:
        return ModelSource(name, self._folder / f"{name}.gguf", "server", format="gguf")

    def load(self, source: ModelSource, precision: Precision = AS_STORED) -> SizedModel:  # type: ignore[override]
        self.loaded.append(source.name)
        return SizedModel(self, source.name, self._sizes[source.name])


class SizedModel(ScriptedModel):
    """See SizedBackend."""

    def __init__(self, script: SizedBackend, name: str, memory: int) -> None:
        super().__init__(script)
        self.info = replace(self.info, name=name, memory=memory)
        self._closed = script.closed

    def close(self) -> None:
        self._closed.append(self.info.name)
