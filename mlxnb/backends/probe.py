"""Measures how fast a loaded model reads and writes, in a second or two: a short prompt, a few tokens, warm."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..errors import BackendError
from ..request import Request
from .base import LoadedModel, Watch
from .local import LocalModel
from .rates import Rates
from .reuse import Feed

# Tokens of the prompt, and those decoded after the first: enough that one moment's delay does not decide.
PROMPT, DECODED = 128, 16

# The same of a look beforehand, and how much slower than the fastest it may be for a real measurement to be worth it.
SHORT, HOPELESS = (16, 2), 3.0

TEXT = "The quick brown fox jumps over the lazy dog, counts {} to {} and runs home. "


def probe(model: LoadedModel, check: Callable[[], None], fastest: Rates | None = None) -> Rates:
    """The rates of a model that was just loaded. One that is far slower than `fastest` is only looked at.

    `check` is called between the runs and at each token; what it raises ends the measurement.

    Raises:
        BackendError: the model gave no tokens to measure by.
    """
    if not isinstance(model, LocalModel):
        _streamed(model, *SHORT, check)  # a server may load the model only now
        return _streamed(model, PROMPT, DECODED, check)
    _local(model, *SHORT, check)  # compiles what is compiled on first use
    look = None if fastest is None else _local(model, *SHORT, check)
    if fastest is not None and look is not None and look.typical > HOPELESS * fastest.typical:
        return look
    return _local(model, PROMPT, DECODED, check)


def _local(model: LocalModel, prompt: int, decoded: int, check: Callable[[], None]) -> Rates:
    room = (model.info.context_length or prompt + decoded + 1) - decoded - 1
    request = Request.of(_text(prompt), raw=True, max_tokens=decoded + 1, cache="off")
    ids = model.tokenizer.prompt(request).ids[: max(1, min(prompt, room))]
    watch, times = Watch(), list[float]()
    feed = Feed(model.new_state(request, watch))
    began = time.perf_counter()
    tokens = model.tokens(ids, request, decoded + 1, watch, feed)  # below the stream, which ends where the model does
    try:
        for _ in tokens:
            times.append(time.perf_counter())
            check()
    finally:
        tokens.close()  # type: ignore[attr-defined]
    return _rates(model, len(ids), began, times, len(times))


def _streamed(model: LoadedModel, prompt: int, decoded: int, check: Callable[[], None]) -> Rates:
    """The same of a model on a server, by our clock. Its prompt is a new one each time, for servers keep prefixes."""
    watch, request = Watch(), Request.of(_text(prompt), max_tokens=decoded + 1, cache="off")
    began = time.perf_counter()
    for _ in model.stream(request, watch):
        check()
    counted = getattr(watch, "counted", None) or len(watch.token_times)
    return _rates(model, watch.prompt_tokens - watch.reused_tokens, watch.start or began, watch.token_times, counted)


def _rates(model: LoadedModel, prompt: int, began: float, times: list[float], tokens: int) -> Rates:
    if len(times) < 2 or prompt < 1 or tokens < 2 or not began < times[0] < times[-1]:
        raise BackendError(f"{model.info.name} gave too few tokens on {model.info.backend} to measure by.")
    prefill, decode = prompt / (times[0] - began), (tokens - 1) / (times[-1] - times[0])
    return Rates(prefill, decode, model.info.device, time.time())


def _text(tokens: int) -> str:
    start = time.time_ns() % 10**6
    return "".join(TEXT.format(start + i, start + 7 * i) for i in range(tokens // 8 + 1))
