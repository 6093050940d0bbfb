"""Reports as a profile would give them, out of requests whose timings are drawn: the figures are computed, not written.

What a request takes is known: a first token after `overhead + prompt / prefill`, then gaps around `gap` at the context
that it has. So a test can say what a figure must come to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mlxnb.profiling.report import (
    Case,
    Comparison,
    Environment,
    Finding,
    Inside,
    OtherModel,
    Point,
    Predicted,
    Profiled,
    Ratio,
    Recommendation,
    Report,
    Roofline,
    Run,
    Sample,
    Share,
    Stress,
    Trial,
    Value,
)
from mlxnb.result import Timings

GB = 10**9
ENVIRONMENT = Environment(
    chip="Apple M4 Pro",
    cores="8 performance and 4 efficiency cores",
    memory=24 * GB,
    system="macOS 26.1",
    versions={"python": "3.11.9", "mlx": "0.32.4", "mlx-lm": "0.32.2", "torch": "2.13.0", "mlxnb": "0.1.0"},
    device="gpu",
    bandwidth=228e9,
    products={"bfloat16": 14.8e12, "float32": 7.1e12},
    datasheet=273e9,
    settings={"threads": 8, "power": "plugged in", "low power mode": False},
)
MODEL = Profiled(
    name="Qwen3-0.6B",
    source="Qwen/Qwen3-0.6B",
    revision="c1899de289a04d12100db370d81485cdf75e47ca",
    backend="mlx",
    backend_version="0.32.4",
    device="gpu",
    dtype="bfloat16",
    quantization=None,
    attention="sdpa",
    parameters=596_049_920,
    weights=1_192_099_840,
    context_length=40_960,
    load_time=0.61,
    weights_read=1.192e9,
    kv_read=114_688.0,
    flops=1.192e9,
    flops_context=229_376.0,
)


@dataclass
class Machine:
    """Draws requests one after another: `now` is the clock, seconds since the profile began."""

    seed: int = 0
    noise: float = 0.03  # of a figure, as the standard deviation of its logarithm
    overhead: float = 0.012  # seconds before each prefill
    prefill: float = 4200.0  # tokens a second
    gap: float = 0.0061  # seconds a token at no context
    slower: float = 6.5e-7  # seconds more for each token of context
    now: float = 0.4
    runs: list[Run] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed)

    def around(self, value: float, count: int | None = None) -> np.ndarray:
        """`value` with the machine's noise."""
        return value * np.exp(self.draw.normal(0, self.noise, count))

    def timings(self, prompt: int, tokens: int, *, speed: float = 1.0, queue: float = 0.0002) -> Timings:
        """One request that is accepted now; `speed` divides every gap, and the time of the prompt."""
        start = self.now + queue
        first = start + float(self.around(self.overhead + prompt / self.prefill / speed))
        context = prompt + np.arange(1, tokens)
        mean = float(self.around(1.0)) * (self.gap / speed + self.slower * context)
        gaps = self.around(1.0, tokens - 1) * mean + self.draw.exponential(0.0001, tokens - 1)
        times = tuple(float(t) for t in first + np.concatenate([[0.0], np.cumsum(gaps)]))
        return Timings(self.now, start, times, prompt, first_visible=times[0])

    def answer(
        self, case: int, round: int, prompt: int, tokens: int, *, together: int = 1, speed: float = 1.0, memory: int = 0
    ) -> None:
        """One round of a case: `together` requests, which share what the machine can do."""
        share = speed / together**0.35
        timed = [self.timings(prompt, tokens, speed=share, queue=0.0002 + i * 0.001) for i in range(together)]
        self.runs += [
            Run(
                case, round, t, tokens, "length" if i else "stop",
                peak_memory=memory or 1_193_000_000 + prompt * 114_688 * together,
                peak_rss=1_900_000_000 + 20_000 * prompt, energy=0.021 * tokens,
            )
            for i, t in enumerate(timed)
        ]  # fmt: skip
        self.now = max(t.token_times[-1] for t in timed) + 0.05

    def fail(self, case: int, round: int, error: str) -> None:
        """A request that raised."""
        self.runs.append(Run(case, round, None, error=error))
        self.now += 0.05


def full(seed: int = 0, runs: int = 5) -> Report:
    """Everything a report can hold: contexts, clients together, a sweep in turns, an error, and what was judged."""
    machine = Machine(seed)
    cases: list[Case] = []
    for prompt in (128, 512, 2048, 8192):
        cases.append(Case(f"{prompt} tokens", "random", 0, max_tokens=48, prompt_tokens=prompt))
        for round in range(runs):
            machine.answer(len(cases) - 1, round, prompt, 48)
    for together in (1, 2, 4, 8):
        cases.append(Case(f"batch × {together}", "batch", 0, together, 40, 96))
        for round in range(runs):
            machine.answer(len(cases) - 1, round, 96, 40, together=together)
    _sweep(machine, cases, runs)
    cases.append(Case("long-context", "long-context", 0, max_tokens=64, prompt_tokens=65_536))
    machine.fail(len(cases) - 1, 0, "PromptTooLongError: The prompt has 65 536 tokens; the context holds 40 960.")
    cases.append(Case("simple, unknown", "simple", None, error="ModelNotFoundError: no model is called unknown."))
    report = Report(
        ENVIRONMENT, "2026-11-21T20:15:00+00:00", machine.now, 1, (MODEL,), tuple(cases), tuple(machine.runs)
    )
    report = replace(report, samples=samples(report, seed), limits={"ttft": 0.5, "tpot": 0.01})
    return judged(report)


def _sweep(machine: Machine, cases: list[Case], runs: int) -> None:
    """KV bits in turns: A B C, C B A, …"""
    first = len(cases)
    kept: tuple[tuple[Value, float, int], ...] = ((None, 1.0, 235), (8, 1.12, 125), (4, 1.16, 66))
    cases += [Case(f"code, kv_bits={bits}", "code", 0, 1, 48, 900, {"kv_bits": bits}) for bits, _, _ in kept]
    for round in range(runs):
        order = range(len(kept)) if round % 2 == 0 else reversed(range(len(kept)))
        for i in order:
            _, speed, extra = kept[i]
            machine.answer(first + i, round, 900, 48, speed=speed, memory=1_193_000_000 + extra * 10**6)


def samples(report: Report, seed: int = 0) -> tuple[Sample, ...]:
    """Five a second over the report: memory that follows the runs' prompts."""
    draw = np.random.default_rng(seed)
    found = []
    for at in np.arange(0, report.seconds, 0.2):
        held = [r for r in report.runs if r.timings and r.timings.accepted <= at <= r.timings.token_times[-1]]
        state = sum(run.timings.prompt_tokens * 114_688 for run in held if run.timings)
        found.append(
            Sample(
                float(at), 1_850_000_000 + state + int(draw.integers(20_000_000)), 9 * GB - state, 0, 0.31, 0.12,
                gpu=0.93 if held else 0.02, gpu_memory=1_200_000_000 + state, temperature=61.0 + float(at) / 20,
                pressure="nominal",
            )
        )  # fmt: skip
    return tuple(found)


SHARES = {"attention": 0.0021, "MLP": 0.0024, "norms": 0.0003, "head": 0.0009, "sampling": 0.00015,
          "detokenising": 0.00004, "overhead": 0.00035}  # fmt: skip


def inside(model: int = 0, context: int = 512, layers: int = 28) -> Inside:
    """Time inside a token, layer by layer where the part lies in the layers."""
    shares: list[Share] = []
    for part, seconds in SHARES.items():
        if part in ("attention", "MLP", "norms"):
            shares += [Share(part, seconds / layers, layer) for layer in range(layers)]
        else:
            shares.append(Share(part, seconds))
    total = sum(share.seconds for share in shares)
    return Inside(model, context, 16, tuple(shares), total, 0.81 * total)


def judged(report: Report) -> Report:
    """The report with what the rules, the roofline and the comparison would say of it."""
    points, predicted = [], []
    model = report.models[0]
    for i, case in enumerate(report.cases):
        runs = report.of(i)
        rates = [run.timings.decode_rate for run in runs if run.timings]
        if case.model is None or not rates or case.varied or case.concurrency > 1 or model.weights_read is None:
            continue
        context, decode = case.prompt_tokens or 0, float(np.median([rate for rate in rates if rate]))
        prefill = float(np.median([run.timings.prefill_rate for run in runs if run.timings]))
        read = model.weights_read + (model.kv_read or 0) * context
        flops = (model.flops or 0) + (model.flops_context or 0) * context
        bandwidth, product = report.environment.bandwidth or 1, report.environment.products["bfloat16"]
        points.append(Point(i, "decode", context, flops / read, flops * decode, read * decode / bandwidth, None))
        points.append(
            Point(i, "prefill", context, context * flops / read, flops * prefill, None, flops * prefill / product)
        )
        predicted.append(Predicted(0, context, bandwidth / read, decode))
    predicted += [Predicted(0, context, (report.environment.bandwidth or 1) / (1.192e9 + 114_688 * context), None)
                  for context in (16_384, 32_768)]  # fmt: skip
    return replace(
        report,
        insides=(inside(), inside(context=4096)),
        roofline=Roofline(228e9, 14.8e12, "bfloat16", tuple(points), tuple(predicted)),
        findings=FINDINGS,
        recommendations=RECOMMENDATIONS,
        others=OTHERS,
        stress=(stress(),),
        comparisons=(Comparison(9, 8, (Ratio("decode_rate", 1.12, 1.08, 1.15, 5), Ratio("ttft", 0.9, 0.87, 0.94, 5))),),
    )


FINDINGS = (
    Finding(
        "memory-bound", 3, "MBU", 0.837, 0.6, "share",
        "decode takes 81% of the time and reads at 84% of the measured bandwidth; likewise in 2048 tokens",
        "each token waits until the weights are read from memory once",
        "Read fewer bytes a token: fewer bits, or several tokens a pass with a draft or a batch.",
        Trial("weights in int8", {"quantize": "int8"}),
    ),
    Finding(
        "kv-bound", 3, "KV share of the bytes that a token reads", 0.52, 0.5, "share",
        "at 84% of the measured bandwidth, 52% of what a token reads are keys and values",
        "the context is so long that the KV cache is read for longer than the weights",
        "Keep the KV cache in fewer bits, as `--kv-bits 8` does, or give a shorter context.",
        Trial("KV cache in 8 bits", {"kv_bits": 8}), Ratio("decode_rate", 1.12, 1.08, 1.15, 5),
    ),
    Finding(
        "leak", None, "bytes that each request left behind", 1200.0, 0.0, "bytes", "1.2 kB a request over 120 requests",
        "something keeps what a request made", "Report it with this profile.",
    ),
)  # fmt: skip
RECOMMENDATIONS = (
    Recommendation("chat", "balanced", {"kv_bits": 8, "max_tokens": 512}, "1.12× decode rate (1.08–1.15)",
                   "measured in turns on code, 900 tokens"),
    Recommendation("batch", "speed", {"concurrency": 8}, "3.9× throughput", "measured on batch × 8 against batch × 1"),
)  # fmt: skip
OTHERS = (
    OtherModel("Qwen3-4B", 2_300_000_000, "fits", 74.0, "4-bit"),
    OtherModel("Qwen3-14B", 8_300_000_000, "tight", 24.5, "4-bit"),
)


def stress(growth: float = 1200.0, seed: int = 3) -> Stress:
    """A minute of requests that each leave `growth` bytes."""
    draw = np.random.default_rng(seed)
    held = [(i * 0.5, 1_900_000_000 + int(i * growth + draw.integers(400_000))) for i in range(120)]
    return Stress(0, 60.0, 120, growth, growth - 2900, growth + 2900, 0.04, -0.012, "no leak", 0.95, tuple(held))


def turns(
    speed: float = 1.0, rounds: int = 5, seed: int = 0, noise: float = 0.03, varied: Sequence[Mapping[str, Value]] = ()
) -> Report:
    """Two cases in turns, A B, B A, …, the second one `speed` times as fast."""
    machine = Machine(seed, noise)
    first, second = varied or ({"kv_bits": None}, {"kv_bits": 8})
    cases = (
        Case("code", "code", 0, 1, 32, 900, first),
        Case("code", "code", 0, 1, 32, 900, second),
    )
    for round in range(rounds):
        for case in (0, 1) if round % 2 == 0 else (1, 0):
            machine.answer(case, round, 900, 32, speed=speed if case else 1.0)
    return Report(ENVIRONMENT, "2026-11-21T20:15:00+00:00", machine.now, 1, (MODEL,), cases, tuple(machine.runs))


def single(speed: float = 1.0, rounds: int = 5, seed: int = 0, noise: float = 0.03) -> Report:
    """One case of one model, as a small profile of one day holds it."""
    machine = Machine(seed, noise)
    for round in range(rounds):
        machine.answer(0, round, 900, 32, speed=speed)
    case = Case("simple", "simple", 0, 1, 32, 900)
    return Report(ENVIRONMENT, "2026-11-21T20:15:00+00:00", machine.now, 1, (MODEL,), (case,), tuple(machine.runs))


EMPTY = Report(ENVIRONMENT, "2026-11-21T20:15:00+00:00", 0.2, 1, partial="interrupted before the first request")
