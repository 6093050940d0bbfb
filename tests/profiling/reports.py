"""Reports made by hand, of a machine and a model that nothing is wrong with, and with one thing wrong each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from mlxnb.profiling.report import (
    Case,
    Environment,
    Inside,
    Point,
    Profiled,
    Report,
    Roofline,
    Run,
    Sample,
    Share,
    Stress,
)
from mlxnb.result import Timings

GB = 10**9
TOKENS = 33
JITTER = (1.0, 1.01, 0.99, 1.005, 0.995, 1.0, 1.01, 0.99, 1.0)  # of an idle machine


def environment(**more: Any) -> Environment:
    made = Environment(
        chip="chip",
        cores="4",
        memory=16 * GB,
        system="system",
        versions={"torch": "2"},
        bandwidth=50e9,
        products={"float32": 1e12, "bfloat16": 2e12},
    )
    return replace(made, **more)


def profiled(**more: Any) -> Profiled:
    made = Profiled(
        name="model",
        source="model",
        revision=None,
        backend="torch",
        backend_version="2",
        device="cpu",
        dtype="bfloat16",
        quantization=None,
        attention="sdpa",
        parameters=500_000_000,
        weights=GB,
        context_length=8192,
        weights_read=1e9,
        kv_read=1e4,
        flops=1e9,
        flops_context=1e4,
    )
    return replace(made, **more)


def run(
    place: int,
    *,
    case: int = 0,
    together: int | None = None,
    rate: float = 100.0,
    prefill: float = 0.1,
    wait: float = 0.0005,
    tokens: int = TOKENS,
    prompt: int = 100,
    reused: int = 0,
    **more: Any,
) -> Run:
    """The run that was the `place`-th, one second after the one before it; `rate` in decoded tokens a second."""
    accepted = 1.0 + place
    start = accepted + wait
    times = tuple(start + prefill + i / rate for i in range(tokens))
    timings = Timings(accepted, start, times, prompt, reused)
    return Run(case, place if together is None else together, timings, tokens, "length", **more)


def runs(count: int = 9, rates: Sequence[float] = (), **more: Any) -> tuple[Run, ...]:
    return tuple(run(i, rate=(rates[i] if rates else 100 * JITTER[i % 9]), **more) for i in range(count))


def sample(place: int, **more: Any) -> Sample:
    """Taken half a second after the run of that place began."""
    made = Sample(1.2 + place, 2 * GB, 8 * GB, 0, 0.55, 0.5, temperature=60.0, clock=3e9, pressure="nominal")
    return replace(made, **more)


def samples(count: int = 9, **more: Callable[[int], Any]) -> tuple[Sample, ...]:
    return tuple(sample(i, **{name: of(i) for name, of in more.items()}) for i in range(count))


def points(decode: tuple[float, float] = (0.45, 0.02), prefill: tuple[float, float] = (0.05, 0.4)) -> Roofline:
    """(MBU, MFU) of both phases of the first case."""
    made = (Point(0, "decode", 116, 1.0, 5e10, *decode), Point(0, "prefill", 100, 100.0, 4e11, *prefill))
    return Roofline(50e9, 1e12, "float32", made, ())


def inside(**shares: float) -> Inside:
    """A decode step of 10 ms, of which `shares` are parts; attention takes the rest."""
    rest = {"attention": 1 - sum(shares.values())}
    parts = tuple(Share(name.replace("_", " "), share * 0.01) for name, share in (rest | shares).items())
    return Inside(0, 116, 16, parts, 0.01, 0.009)


def stress(**more: Any) -> Stress:
    made = Stress(0, 60.0, 200, 10.0, -20.0, 40.0, 0.05, 0.0, "no leak", 0.99)
    return replace(made, **more)


def _slow_stress() -> Stress:
    """That began ten seconds after the profile."""
    return stress(
        seconds=50.0, decline=0.3, decline_low=0.25, decline_high=0.35, memory=tuple((10.0 + i, GB) for i in range(50))
    )


def healthy(**more: Any) -> Report:
    """Everything was measured, and nothing is wrong."""
    made = Report(
        environment=environment(),
        began="2026-11-21T20:00:00Z",
        seconds=12.0,
        warmup=1,
        models=(profiled(),),
        cases=(Case("simple", "simple", 0, max_tokens=TOKENS),),
        runs=runs(),
        samples=samples(),
        insides=(inside(mlp=0.4, detokenising=0.01, overhead=0.05),),
        roofline=points(),
        stress=(stress(),),
    )
    return replace(made, **more)


def case(**more: Any) -> tuple[Case, ...]:
    return (replace(healthy().cases[0], **more),)


def _slower(share: float, count: int = 9) -> list[float]:
    """Rates that fall steadily by `share`, with an idle machine's jitter."""
    return [100 * JITTER[i % 9] * (1 - share * i / (count - 1)) for i in range(count)]


def _falling(**more: Callable[[int], Any]) -> Report:
    return healthy(runs=runs(rates=_slower(0.3)), samples=samples(**more))


def _with_prefill(seconds: float, **more: Any) -> Report:
    return healthy(runs=runs(prefill=seconds), **more)


# What is wrong, by the rule that should say so and a word on how: each is the only thing wrong with its report.
CAUSES: dict[tuple[str, str], Callable[[], Report]] = {
    ("memory-bound", "decode"): lambda: healthy(roofline=points(decode=(0.8, 0.05))),
    ("memory-bound", "quantised"): lambda: healthy(
        roofline=points(decode=(0.8, 0.05)), models=(profiled(quantization="int4"),)
    ),
    ("memory-bound", "short prompt"): lambda: _with_prefill(0.9, roofline=points(prefill=(0.7, 0.1))),
    ("kv-bound", "long context"): lambda: healthy(
        roofline=points(decode=(0.8, 0.05)), models=(profiled(backend="mlx", kv_read=2e7),)
    ),
    ("compute-bound", "prefill"): lambda: _with_prefill(0.9, roofline=points(prefill=(0.05, 0.8))),
    ("compute-bound", "batch"): lambda: healthy(roofline=points(decode=(0.3, 0.7))),
    ("overhead-bound", "low MBU and MFU"): lambda: healthy(roofline=points(decode=(0.1, 0.01))),
    ("overhead-bound", "inside"): lambda: healthy(insides=(inside(overhead=0.4),)),
    ("tokenizer-bound", "detokenising"): lambda: healthy(
        insides=(inside(detokenising=0.3),), roofline=points(decode=(0.2, 0.01))
    ),
    ("tokenizer-bound", "before prefill"): lambda: healthy(runs=runs(wait=0.2)),
    ("tokenizer-bound", "timed by itself"): lambda: healthy(cases=case(tokenising=0.2)),
    ("swap", "grew"): lambda: healthy(
        samples=samples(swap=lambda i: i * GB // 4, available=lambda i: GB // 10), roofline=points(decode=(0.1, 0.01))
    ),
    ("memory-pressure", "little left"): lambda: healthy(samples=samples(available=lambda i: GB // 10)),
    ("memory-pressure", "long prompt"): lambda: healthy(
        samples=samples(available=lambda i: GB // 10),
        models=(profiled(backend="mlx"),),
        runs=runs(prompt=4000, peak_memory=5 * GB),
    ),
    ("thermal", "pressure"): lambda: _falling(pressure=lambda i: "nominal" if i < 4 else "serious"),
    ("thermal", "clock"): lambda: _falling(clock=lambda i: 3e9 - i * 1e8),
    ("thermal", "temperature"): lambda: _falling(temperature=lambda i: 60.0 + 5 * i),
    ("decline", "nothing tells why"): lambda: _falling(),
    ("thermal", "stress"): lambda: healthy(
        stress=(_slow_stress(),), samples=samples(60, clock=lambda i: 3e9 if i < 30 else 2e9)
    ),
    ("decline", "stress"): lambda: healthy(stress=(_slow_stress(),)),
    ("cache-misses", "nothing reused"): lambda: healthy(cases=case(scenario="multi-turn")),
    ("queueing", "four at once"): lambda: healthy(
        cases=case(concurrency=4),
        runs=tuple(
            run(i, together=i // 4, rate=100 * JITTER[i % 9], wait=(0.0, 0.5, 1.0, 1.5)[i % 4]) for i in range(24)
        ),
    ),
    ("failures", "one of nine"): lambda: healthy(
        runs=(*runs(8), Run(0, 8, None, error="Generation failed: the driver fell over."))
    ),
    ("failures", "case"): lambda: healthy(
        cases=(*healthy().cases, Case("large", "simple", None, error="large needs 40 GB and 8 GB are free."))
    ),
    ("empty-answers", "no token"): lambda: healthy(runs=runs(tokens=0)),
    ("empty-answers", "one token"): lambda: healthy(runs=runs(tokens=1)),
    ("poor-draft", "one in ten"): lambda: healthy(runs=runs(proposed=100, accepted=10)),
    ("busy-machine", "others compute"): lambda: healthy(
        samples=samples(cpu=lambda i: 0.9), runs=runs(rates=[100, 60, 90, 50, 100, 70, 95, 55, 80])
    ),
    ("noisy-machine", "rounds apart"): lambda: healthy(runs=runs(rates=[100, 60, 90, 50, 100, 60, 95, 50, 98])),
    ("leak", "stress"): lambda: healthy(stress=(stress(growth=2e5, low=1.9e5, high=2.1e5, verdict="leak"),)),
}
