"""The profiler itself: what sampling the machine costs, and its figures beside those of mlx-lm and of a hand loop.

`profile-sampling-torch` and `-mlx`: decode rates with the machine being sampled against without, in turns. The goal is
that sampling costs less than 2 %. `profile-sampling-cpu`: the same as processor time, which other programs leave alone.

`profile-mlx-lm`: the pocket model on MLX, one process, 512 random tokens of prompt and 128 of answer, in turns: our
profile, `mlx_lm.benchmark` as its command runs it, and a loop by hand over mlx-lm's model. Every difference is put down
to a definition: what mlx-lm prints is also converted to ours.
"""

from __future__ import annotations

import contextlib
import io
import re
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

from mlxnb import pocket
from mlxnb.comparison import Ratio
from mlxnb.profiling import Plan, profile
from mlxnb.profiling.judge.figures import Summary
from mlxnb.runtime import Engine

from .decode import engine_stream
from .pairs import Comparison, alternate

PROMPT, ANSWER, TURNS = 512, 128, 9
STEP = 256  # tokens that are prefilled at once, in all three: what the mlx backend takes on a CPU


def sampling(backend: str) -> Comparison:
    """Decode rate of the pocket model while the machine is sampled, against while it is not."""
    from mlxnb.profiling.machine.clock import Clock
    from mlxnb.profiling.machine.samples import Sampler

    engine = Engine(caching=False)
    plain = engine_stream(engine, backend)

    def sampled() -> float:
        with Sampler(Clock()):
            return plain()

    rates = alternate(sampled, plain, pairs=20)
    engine.close()
    return Comparison(f"profile-sampling-{backend}", "sampled", "not sampled", "tok/s", rates, goal=0.98)


def sampling_cpu(seconds: float = 20.0) -> dict[str, object]:
    """What sampling takes of one core, by the processor's own clock: no other program disturbs that figure."""
    from mlxnb.profiling.machine.clock import Clock
    from mlxnb.profiling.machine.samples import Sampler

    began = time.process_time()
    with Sampler(Clock()) as sampler:
        time.sleep(seconds)
    share = (time.process_time() - began) / seconds
    return {
        "benchmark": "profile-sampling-cpu",
        "ours": f"{100 * share:.2f} % of a core",
        "theirs": "",
        "ratio": "",
        "interval": "",
        "pairs": len(sampler.samples),
        "goal": "< 2 %",
    }


def ours(engine: Engine) -> dict[str, float]:
    """One run of a profile: METRICS' figures, as its report has them."""
    plan = Plan.of(
        prompt_tokens=PROMPT, max_tokens=ANSWER, runs=1, warmup=0, backend="mlx", inside=False, scenarios=None
    )
    report = profile(engine, plan)
    found = Summary.of(report, 0)
    assert found.prefill_rate is not None
    assert found.decode_rate is not None
    assert found.ttft is not None
    return {
        "prefill": found.prefill_rate.median,
        "decode": found.decode_rate.median,
        "ttft": found.ttft.median,
        "memory": (found.peak_memory or 0) / 1e6,
    }


def mlx_lm_benchmark() -> dict[str, float]:
    """What one trial of `mlx_lm.benchmark` prints."""
    import mlx_lm.benchmark

    line = ["benchmark", "--model", str(pocket.path()), "-p", str(PROMPT), "-g", str(ANSWER), "-n", "1"]
    line += ["--prefill-step-size", str(STEP)]
    with mock.patch.object(sys, "argv", line), contextlib.redirect_stdout(io.StringIO()) as out:
        mlx_lm.benchmark.main()
    printed = dict(re.findall(r"(\w+)=([\d.]+)", out.getvalue().split("Averages:")[1]))
    return {
        "prefill": float(printed["prompt_tps"]),
        "decode": float(printed["generation_tps"]),
        "ttft": PROMPT / float(printed["prompt_tps"]),
        "memory": float(printed["peak_memory"]) * 1e3,
    }


def by_hand() -> Callable[[], dict[str, float]]:
    """A loop that a person would write: prefill, then one token after the other, each waited for, with a stopwatch."""
    import mlx.core as mx
    import mlx_lm
    from mlx_lm.models.cache import make_prompt_cache

    loaded: Any = mlx_lm.load(str(pocket.path()))
    model = loaded[0]
    prompt = mx.random.randint(0, 4096, (PROMPT,))

    def run() -> dict[str, float]:
        mx.reset_peak_memory()
        cache, times = make_prompt_cache(model), []
        start = time.perf_counter()
        for begin in range(0, PROMPT - 1, STEP):
            model(prompt[None, begin : min(begin + STEP, PROMPT - 1)], cache=cache)  # whose logits are not computed
            mx.eval([layer.state for layer in cache])
        token = mx.argmax(model(prompt[None, -1:], cache=cache)[:, -1], axis=-1)
        for _ in range(ANSWER):
            token.item()
            times.append(time.perf_counter())
            token = mx.argmax(model(token[None], cache=cache)[:, -1], axis=-1)
        return {
            "prefill": PROMPT / (times[0] - start),
            "decode": (ANSWER - 1) / (times[-1] - times[0]),
            "ttft": times[0] - start,
            "memory": mx.get_peak_memory() / 1e6,
        }

    return run


def beside_mlx_lm() -> list[dict[str, object]]:
    """Rows: each figure of ours beside theirs as printed, theirs by our definition, and the hand loop's."""
    engine, hand = Engine(caching=False), by_hand()
    arms: dict[str, Callable[[], dict[str, float]]] = {
        "ours": lambda: ours(engine),
        "mlx_lm.benchmark": mlx_lm_benchmark,
        "by hand": hand,
    }
    found: dict[str, list[dict[str, float]]] = {name: [] for name in arms}
    for turn in range(-1, TURNS):
        for name in list(arms)[:: 1 if turn % 2 else -1]:
            made = arms[name]()
            if turn >= 0:
                found[name].append(made)
    engine.close()
    printed = found["mlx_lm.benchmark"]
    # It counts ANSWER tokens over the ANSWER − 1 intervals between them.
    found["mlx_lm.benchmark, by our definition"] = [
        {**t, "decode": t["decode"] * (ANSWER - 1) / ANSWER} for t in printed
    ]
    units = {"prefill": "tok/s", "decode": "tok/s", "ttft": "s", "memory": "MB"}
    return [
        _row(figure, name, unit, [(mine[figure], its[figure]) for mine, its in zip(found["ours"], other, strict=True)])
        for figure, unit in units.items()
        for name, other in found.items()
        if name != "ours" and not (name.endswith("definition") and figure != "decode")
    ]


def _row(figure: str, name: str, unit: str, pairs: list[tuple[float, float]]) -> dict[str, object]:
    ratio = Ratio.of(pairs)
    mine, its = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    return {
        "benchmark": f"profile-mlx-lm {figure}",
        "ours": f"profile {mine:.4g} {unit}",
        "theirs": f"{name} {its:.4g} {unit}",
        "ratio": round(ratio.median, 3),
        "interval": [round(ratio.low, 3), round(ratio.high, 3)],
        "pairs": ratio.pairs,
        "goal": None,
        "rates": pairs,
    }


BENCHMARKS: dict[str, Callable[[], Any]] = {
    "profile-sampling-torch": lambda: sampling("torch"),
    "profile-sampling-mlx": lambda: sampling("mlx"),
    "profile-sampling-cpu": sampling_cpu,
    "profile-mlx-lm": beside_mlx_lm,
}
