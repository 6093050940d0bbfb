"""Where each case stands between the machine's bandwidth and its matrix rate, and the decode rate that allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from ...result import Timings
from ..machine.devices import same_device
from ..model.needs import prompt_bytes, prompt_flops, step_bytes, step_flops
from ..report import Case, Phase, Point, Predicted, Profiled, Report, Roofline, Run

# Contexts for which a decode rate is predicted, beside those that were measured.
CONTEXTS = (128, 512, 1024, 2048, 4096, 8192, 16384, 32768)


def roofline(report: Report) -> Roofline | None:
    """The points of every case's prefill and decode, and decode rates by context; None where nothing can be placed:
    no bandwidth was measured, no matrix rate, or no model tells what it reads and computes.

    MBU = (weights + keys and values) / TPOT / bandwidth. MFU = operations / seconds / matrix rate in the dtype that the
    model computes in. A prompt's bytes are those that it cannot do without, so that its intensity is the highest there
    could be. Requests that run together share a step: its weights count once, keys, values and operations for each.
    Each figure is the median over the runs; what was reused of a prompt counts as no operation. A model on another
    device than that whose speeds were measured has no place, see `unplaced`.
    Source: Williams, Waterman and Patterson, Roofline (https://doi.org/10.1145/1498765.1498785).
    """
    env = report.environment
    told = [model for model in report.models if step_bytes(model, 0) is not None and _is_here(report, model)]
    if env.bandwidth is None or not env.products or not told:
        return None
    dtype, product = computes_in(told[0], env.products)
    points = tuple(point for i, case in enumerate(report.cases) for point in _points(report, i, case))
    return Roofline(env.bandwidth, product, dtype, points, tuple(_predictions(report, env.bandwidth)))


def unplaced(report: Report) -> tuple[str, ...]:
    """What to say of models that the measured speeds are not of."""
    device = report.environment.device
    away = [model for model in report.models if model.weights_read is not None and not _is_here(report, model)]
    return tuple(
        f"{model.name} on {model.backend}: not on the roofline, for it computes on {model.device} and the speeds are "
        f"those of {device}: profile it by itself"
        for model in away
    )


def _is_here(report: Report, model: Profiled) -> bool:
    return same_device(report.environment.device, model.device)


def computes_in(model: Profiled, products: Mapping[str, float]) -> tuple[str, float]:
    """The dtype of a model's matrix products and the rate measured in it; of the fastest float type where none was.

    Only torch's int8 layers multiply whole numbers; what others store in few bits is multiplied as floats, and int4 on
    torch in bfloat16.
    """
    kind = (model.quantization or "").split(",")[0].strip()
    wanted = model.dtype
    if model.backend == "torch" and kind in ("int8", "int4"):
        wanted = {"int8": "int8", "int4": "bfloat16"}[kind]
    if wanted in products:
        return wanted, products[wanted]
    floats = {name: rate for name, rate in products.items() if name != "int8"} or products
    best = max(floats, key=lambda name: floats[name])
    return best, floats[best]


@dataclass(frozen=True, slots=True)
class _Work:
    """What one run did in a phase, at a context: operations, bytes, and the seconds that they took."""

    context: float
    flops: float
    size: float
    seconds: float


def _points(report: Report, index: int, case: Case) -> Iterator[Point]:
    if case.model is None:
        return
    model, bandwidth = report.models[case.model], report.environment.bandwidth
    if not _is_here(report, model):
        return
    _, product = computes_in(model, report.environment.products)
    runs = report.of(index)
    # Requests that ran together waited for one another's prompts, so that none has a prefill of its own to time.
    prefills = [_prefill(model, run.timings) for run in runs if run.timings is not None and case.concurrency == 1]
    decodes = [_decode(model, run, rows_of(case, runs)) for run in runs]
    phases: list[tuple[Phase, list[_Work | None]]] = [("prefill", prefills), ("decode", decodes)]
    for phase, works in phases:
        done = [work for work in works if work is not None]
        if done and bandwidth:
            context = round(median(work.context for work in done))
            intensity = median(work.flops / work.size for work in done)
            rate = median(work.flops / work.seconds for work in done)
            mbu = median(work.size / work.seconds for work in done) / bandwidth
            yield Point(index, phase, context, intensity, rate, mbu, rate / product)


def rows_of(case: Case, runs: Sequence[Run]) -> int:
    """How many requests share a step of decoding: those that ran together, where the backend computes a batch."""
    alone = any(note.startswith("not batched") for run in runs for note in run.notes)
    return 1 if alone else case.concurrency


def _prefill(model: Profiled, times: Timings) -> _Work | None:
    seconds = times.token_times[0] - times.start if times.token_times else 0.0
    flops, size = (
        prompt_flops(model, times.prompt_tokens, times.reused_tokens),
        prompt_bytes(model, times.prompt_tokens),
    )
    return _Work(times.prompt_tokens, flops, size, seconds) if seconds > 0 and flops and size else None


def _decode(model: Profiled, run: Run, rows: int) -> _Work | None:
    """None where a draft was verified: then a step gives several tokens, and the time of one is none of a step."""
    tpot = run.timings.tpot if run.timings is not None else None
    if run.timings is None or not tpot or run.proposed is not None:
        return None
    context = context_of(run.timings.prompt_tokens, run.generation_tokens)
    flops, size = step_flops(model, context, rows), step_bytes(model, context, rows)
    return _Work(context, flops, size, tpot) if flops and size else None


def context_of(prompt_tokens: int, generation_tokens: int) -> float:
    """Tokens that the decode steps of a request attend to on the average, each to itself and all before it: the first
    step to the prompt and one token, the last to all but the token that it gives.
    """
    return prompt_tokens + generation_tokens / 2


def _predictions(report: Report, bandwidth: float) -> Iterator[Predicted]:
    for number, model in enumerate(report.models):
        if not _is_here(report, model):
            continue
        measured = _rates(report, number)
        most = model.context_length
        known = {context for context in CONTEXTS if most is None or context <= most}
        for context in sorted({*known, *measured}):
            rate = predicted_rate(model, context, bandwidth)
            if rate is not None:
                yield Predicted(number, context, rate, measured.get(context))


def predicted_rate(model: Profiled, context: float, bandwidth: float) -> float | None:
    """Tokens a second that one sequence can decode at a context, were nothing but the memory in the way."""
    size = step_bytes(model, context)
    return bandwidth / size if size else None


def _rates(report: Report, model: int) -> dict[int, float]:
    """Measured decode rates of single requests by context, of several cases at one context the fastest."""
    rates: dict[int, float] = {}
    for index, case in enumerate(report.cases):
        if case.model != model or case.concurrency != 1:
            continue
        works = [work for run in report.of(index) if (work := _decode(report.models[model], run, 1)) is not None]
        if works:
            context = round(median(work.context for work in works))
            rates[context] = max(1 / median(work.seconds for work in works), rates.get(context, 0.0))
    return rates
