"""Scripted backends with something known wrong: memory that they keep, speed that goes with time or an option."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator

from mlxnb.backends import Watch
from mlxnb.backends.base import ModelInfo
from mlxnb.request import AS_STORED, Precision, Request
from mlxnb.result import Chunk
from tests.scripted import ScriptedBackend, ScriptedModel


class LeakyBackend(ScriptedBackend):
    """Keeps `leak(i)` bytes of touched pages at the i-th request, from 0."""

    def __init__(self, leak: Callable[[int], int], **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.leak = leak
        self.kept: list[mmap.mmap] = []

    def load(self, source: object, precision: Precision = AS_STORED) -> ScriptedModel:
        return LeakyModel(self)

    @property
    def bytes_kept(self) -> int:
        return sum(len(each) for each in self.kept)


class LeakyModel(ScriptedModel):
    """See LeakyBackend."""

    script: LeakyBackend

    def stream(self, request: Request, watch: Watch) -> Iterator[Chunk]:
        size = self.script.leak(len(self.script.requests))
        yield from super().stream(request, watch)
        if size > 0:
            pages = mmap.mmap(-1, size)
            for at in range(0, size, mmap.PAGESIZE):
                pages[at] = 1
            self.script.kept.append(pages)


class TimedBackend(ScriptedBackend):
    """Decodes at `rate(i, request)` tokens a second at the i-th request: its token times say so exactly, whatever the
    machine does meanwhile, and it waits for none of them.
    """

    def __init__(self, rate: Callable[[int, Request], float], **more: object) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.rate = rate

    def load(self, source: object, precision: Precision = AS_STORED) -> ScriptedModel:
        self.loads += 1
        return TimedModel(self)


class TimedModel(ScriptedModel):
    """See TimedBackend."""

    script: TimedBackend
    info: ModelInfo

    def stream(self, request: Request, watch: Watch) -> Iterator[Chunk]:
        step = 1 / self.script.rate(len(self.script.requests), request)
        self.script.requests.append(request)
        watch.begin(10)
        assert watch.start is not None
        watch.finish_reason = "length"
        for i, piece in enumerate(self.script.pieces[: request.max_tokens]):
            watch.token_times.append(watch.start + (i + 1) * step)
            yield Chunk(piece, i, watch.token_times[-1])
            if watch.cancelled.is_set():
                watch.finish_reason = "interrupted"
                return
