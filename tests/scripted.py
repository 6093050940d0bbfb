"""A backend with scripted text and delays, for what only a script can show: time, faults and hostile answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from mlxnb.backends import ModelInfo, Watch
from mlxnb.backends.base import Cancelled
from mlxnb.backends.tool_text import STYLES, ToolText
from mlxnb.decision import Accepted, Decision, Rejected
from mlxnb.models import ModelSource
from mlxnb.request import AS_STORED, Precision, Request
from mlxnb.result import Chunk


class ScriptedBackend:
    """Answers every request with `pieces`, one a token. Delays in seconds: `load`, `prefill`, and `delay` a token, or
    `delays(request, token)` by those numbers, counted from 0. `began` and `emitted` hold when each request began and
    each of its tokens really came, by time.perf_counter: a busy machine sleeps longer than it is told.
    With `answers` the first request gets the first of them, and so on; the last is for all that follow. Where tools are
    offered it calls them as Hermes and Qwen do.

    `fail_after` raises RuntimeError after that many tokens, as a driver would. `fails` maps a place ("find", "load",
    "stream", "prefill", "decode" before the first token, or "decode 2" before the third) to what is raised there.
    """

    name = "scripted"

    def __init__(
        self,
        pieces: Sequence[str] = ("Hello", ", ", "world", "."),
        *,
        load: float = 0.0,
        prefill: float = 0.0,
        delay: float = 0.0,
        thinking: Sequence[str] = (),
        fail_after: int | None = None,
        decision: Decision | None = None,
        name: str = "",
        fails: Mapping[str, Callable[[], BaseException]] | None = None,
        delays: Callable[[int, int], float] | None = None,
        answers: Sequence[Sequence[str]] = (),
    ) -> None:
        self.answers = [list(each) for each in answers]
        self.name, self.fails = name or self.name, dict(fails or {})
        self.pieces, self.thinking, self.fail_after = list(pieces), list(thinking), fail_after
        self.load_delay, self.prefill, self.delay = load, prefill, delay
        self.decision = Accepted(self.name, "scripted") if decision is None else decision  # a Rejected is falsy
        self.delays = delays if delays is not None else lambda request, token: self.delay
        self.requests: list[Request] = []
        self.began: list[float] = []
        self.emitted: list[list[float]] = []
        self.loads = self.closed = 0  # models

    def available(self) -> Decision:
        return self.decision

    def find(self, name: str, here: Callable[[], ModelSource], named: bool) -> ModelSource | Rejected:
        self.fail("find")
        return here()

    def fail(self, place: str) -> None:
        """Raise what the script has for a place, if anything."""
        if place in self.fails:
            raise self.fails[place]()

    def load(self, source: object, precision: Precision = AS_STORED) -> ScriptedModel:
        time.sleep(self.load_delay)
        self.fail("load")
        self.loads += 1
        return ScriptedModel(self)

    def memory_free(self) -> int | None:
        return None

    def smaller_way(self, checkpoint: object, precision: Precision) -> Decision:
        return Rejected(self.name, "scripted")

    def close(self) -> None:
        """Nothing is kept on the thread."""


class ScriptedModel:
    """See ScriptedBackend."""

    def __init__(self, script: ScriptedBackend) -> None:
        self.script = script
        self.info = ModelInfo(
            name="pocket",
            source="pocket",
            revision=None,
            backend=script.name,
            backend_version="1",
            device="cpu",
            dtype="float32",
            quantization=None,
            parameters=1,
            memory=1,
            context_length=None,
            attention="none",
        )

    def stream(self, request: Request, watch: Watch) -> Iterator[Chunk]:
        script = self.script
        script.requests.append(request)
        number = len(script.requests) - 1
        script.emitted.append([])
        script.fail("stream")
        script.began.append(time.perf_counter())
        watch.begin(10)
        try:
            self._prefill(watch)
        except Cancelled:
            watch.finish_reason = "interrupted"
            return
        if script.answers:
            script.pieces = script.answers.pop(0)
        pieces = [("", t) for t in script.thinking] + [(p, "") for p in script.pieces]
        calls = ToolText(STYLES[0], request.tools) if request.tools else None
        watch.finish_reason = "length" if len(pieces) > request.max_tokens else "stop"
        for i, (text, thinking) in enumerate(pieces[: request.max_tokens]):
            if script.fail_after == i:
                raise RuntimeError("the scripted driver fell over")
            script.fail(f"decode {i}" if i else "decode")
            time.sleep(script.delays(number, i))
            script.emitted[-1].append(time.perf_counter())
            watch.token_times.append(script.emitted[-1][-1])
            yield Chunk(calls.feed(text) if calls else text, i, watch.token_times[-1], thinking)
            if watch.cancelled.is_set():
                watch.finish_reason = "interrupted"
                return
        if calls:
            rest, watch.tool_calls = calls.finish()
            yield Chunk(rest, None, time.perf_counter())

    def _prefill(self, watch: Watch) -> None:
        for _ in range(10):
            time.sleep(self.script.prefill / 10)
            if watch.cancelled.is_set():
                raise Cancelled
            watch.prefill_done += 1
        self.script.fail("prefill")

    def close(self) -> None:
        """Nothing to give back."""
        self.script.closed += 1
