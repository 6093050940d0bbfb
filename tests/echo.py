"""A scripted backend that answers each prompt with itself, or with an error that the script has for it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from mlxnb.backends import Watch
from mlxnb.request import AS_STORED, Precision, Request
from mlxnb.result import Chunk
from tests.scripted import ScriptedBackend, ScriptedModel


class EchoBackend(ScriptedBackend):
    """`<prompt>` to each prompt. `errors` maps a prompt to what is raised at it; see ScriptedBackend for the delays."""

    def __init__(self, **delays: float) -> None:
        super().__init__(**delays)  # type: ignore[arg-type]
        self.errors: dict[str, Callable[[], BaseException]] = {}

    def load(self, source: object, precision: Precision = AS_STORED) -> ScriptedModel:
        self.loads += 1
        return _Echo(self)


class _Echo(ScriptedModel):
    script: EchoBackend

    def stream(self, request: Request, watch: Watch) -> Iterator[Chunk]:
        asked = request.messages[-1].content
        self.script.requests.append(request)
        watch.begin(len(asked))
        if asked in self.script.errors:
            raise self.script.errors[asked]()
        time.sleep(self.script.delay)
        if watch.cancelled.is_set():
            watch.finish_reason = "interrupted"
            return
        watch.token_times.append(time.perf_counter())
        watch.finish_reason = "stop"
        yield Chunk(f"<{asked}>", 1, watch.token_times[-1])
