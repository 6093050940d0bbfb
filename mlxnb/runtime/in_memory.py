"""Copies of models in memory, and one of them as a request sees it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ..backends.base import LoadedModel, ModelInfo
from ..backends.select import Candidates
from ..decision import Rejected
from ..models import ModelSource
from ..models.mark import Mark
from ..request import Precision
from .residency import Stay


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model in memory as one request sees it: in the precision that it asked for, after the backends passed over."""

    model: LoadedModel
    info: ModelInfo
    source: ModelSource
    precision: Precision
    passed_over: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()

    def goes_by(self, name: str) -> bool:
        """Whether it is meant by a name, or by the path of its folder."""
        return name == self.source.name or Path(os.path.abspath(os.path.expanduser(name))) == self.source.path


@dataclass(slots=True, eq=False)
class InMemory:
    """One copy of a model. `serves`: every precision that it is the answer to, with what to say of it then.

    A model that could not be quantised as asked, or was stored so already, is what it would be unasked: one copy.
    `slower` are the backends that it was measured to be faster than; `only_named` tells that `auto` would not have
    found it there, as with a model that was exported for a person who named the backend; `unseen` are the backends on
    which `auto` would not have found it, so that they are not told of. Both are asked once: a look may read headers.
    `adapter_mark` is of the folder of its adapter, where it has one.
    """

    model: LoadedModel
    source: ModelSource
    mark: Mark
    passed_over: tuple[Rejected, ...]
    serves: dict[Precision, ModelInfo]
    stay: Stay
    slower: frozenset[str] = frozenset()
    only_named: bool = False
    unseen: frozenset[str] = frozenset()
    adapter_mark: Mark = ()

    @property
    def info(self) -> ModelInfo:
        """What it is, whoever asked."""
        return self.model.info.unasked or self.model.info

    def goes_by(self, name: str, folder: Path | None) -> bool:
        """Whether `name`, which stands for `folder` now if for any, is this model."""
        if folder is not None:
            return is_folder(self.source) and folder == self.source.path
        return name == self.source.name and (not is_folder(self.source) or not self.source.path.exists())


def is_folder(source: ModelSource) -> bool:
    return source.kind in ("path", "local")


def as_found(copy: InMemory, chain: Candidates, place: int, precision: Precision) -> Loaded:
    """A model in memory as this request sees it: only backends that come before its own in this chain count."""
    before = {backend.name for backend in chain.backends[:place]}
    refused = tuple(r for r in copy.passed_over if r.subject in before)
    merely_elsewhere = before - {r.subject for r in refused}
    if not chain.named:
        merely_elsewhere -= copy.unseen | copy.slower
    note = (f"taken where it is in memory, before {', '.join(sorted(merely_elsewhere))}",) if merely_elsewhere else ()
    return Loaded(copy.model, copy.serves[precision], copy.source, precision, (*chain.passed_over, *refused), note)
