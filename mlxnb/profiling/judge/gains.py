"""What options gave over the same case without them: measured beside it, tried, or at most by the roofline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ...models.recommended import BITS
from ...request import DTYPES
from ...result import Timings
from ..report import Ratio, Report, Run, Value
from ..report.turns import took_turns
from .figures import by_round, throughput, ttft
from .ratios import paired, unpaired
from .rules_bound import MEMORY, bytes_of_step
from .rules_remedies import QUANTISES
from .rules_seen import Seen, middle
from .student import LEVEL

LEAST = 3  # rounds of both cases that a ratio rests on

# What options do to an answer: nothing, rounding that is seldom seen, rounding that is.
SAME, CLOSE, ROUGH = 0, 1, 2
KEEPS = ("draft", "draft_tokens", "backend", "cache", "kernels", "batch_size", "keep_alive", "prefill_step")
# Values from which on an option rounds more than seldom.
ROUGH_VALUES: Mapping[str, Value] = {"quantize": "int4", "kv_bits": 4}
WHOLE: Mapping[str, Value] = {"dtype": "float32"}  # which holds whatever weights are stored in
ROUNDS = ("quantize", "kv_bits", "kv_group_size", "dtype")

_UNSET = object()  # in the place of a value that a case does not set


@dataclass(frozen=True, slots=True)
class Gain:
    """How many times as fast a figure is with `options`, with an interval where it was measured; `how` says how."""

    options: Mapping[str, Value]
    figure: str
    times: float
    how: str
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        name = {"decode_rate": "the decode rate", "throughput": "the tokens a second"}[self.figure]
        if self.low is None or self.high is None:
            return f"at most {self.times:.2f}× {name}, {self.how}"
        return f"{self.times:.2f}× {name} ({self.low:.2f} – {self.high:.2f}), {self.how}"


def level(options: Mapping[str, Value]) -> int | None:
    """What options do to an answer; None where they make another one of it, as sampling does."""
    if not all(name in (*KEEPS, *ROUNDS) for name in options):
        return None
    rounding = [name for name in ROUNDS if options.get(name) not in (None, WHOLE.get(name))]
    if not rounding:
        return SAME
    return ROUGH if any(options[name] == ROUGH_VALUES.get(name) for name in rounding) else CLOSE


def measured(report: Report, base: int, figure: str) -> Iterator[Gain]:
    """Of every case that differs from `base` in its options only, and of every trial with its model."""
    for index in range(len(report.cases)):
        options = _options_beside(report, index, base, figure)
        ratio = _compared(report, index, base, figure) if options else None
        if options and ratio is not None:
            how = "in turns" if took_turns(report.of(index), report.of(base)) else "one after the other"
            yield _gain(options, ratio, f"measured {how} over {ratio.pairs} rounds")
    for finding in report.findings:
        tried, trial, case = finding.tried, finding.trial, finding.case
        if tried is None or trial is None or case is None or tried.figure != figure:
            continue
        if report.cases[case].model == report.cases[base].model:
            where = "" if case == base else f" on {report.cases[case].label}"
            yield _gain(trial.options, tried, f"tried in turns over {tried.pairs} pairs{where}")


def _compared(report: Report, index: int, base: int, figure: str) -> Ratio | None:
    """The ratio that the report shows of two cases, or one worked out here; so that both say the same of a gain."""
    for each in report.comparisons:
        shown = next((ratio for ratio in each.ratios if ratio.figure == figure and ratio.pairs >= LEAST), None)
        if shown is not None and (each.ours, each.theirs) == (index, base):
            return shown
        if shown is not None and (each.ours, each.theirs) == (base, index):
            return Ratio(figure, 1 / shown.median, 1 / shown.high, 1 / shown.low, shown.pairs)
    return beside(report.of(index), report.of(base), figure)


def _options_beside(report: Report, index: int, base: int, figure: str) -> dict[str, Value]:
    """What a case sets that `base` does not, or sets otherwise; {} where they differ in more than options."""
    case, own = report.cases[index], report.cases[base]
    if case.scenario != own.scenario or _name(report, index) != _name(report, base):
        return {}
    if "backend" not in case.varied and _backend(report, index) != _backend(report, base):
        return {}  # what a difference would be of, nobody could say
    if own.varied.keys() - case.varied.keys():
        return {}  # what only the other sets has no value here that could be named
    options = {name: value for name, value in case.varied.items() if value != own.varied.get(name, _UNSET)}
    if case.concurrency == own.concurrency:
        return options
    return {"batch_size": case.concurrency} if not options and figure == "throughput" else {}


def _name(report: Report, index: int) -> str | None:
    model = report.cases[index].model
    return None if model is None else report.models[model].name


def _backend(report: Report, index: int) -> str | None:
    model = report.cases[index].model
    return None if model is None else report.models[model].backend


def _gain(options: Mapping[str, Value], ratio: Ratio, how: str) -> Gain:
    return Gain(options, ratio.figure, ratio.median, how, ratio.low, ratio.high)


def beside(ours: Sequence[Run], theirs: Sequence[Run], figure: str) -> Ratio | None:
    """A figure of one case's runs over that of another's, round by round where they took turns; None of fewer than
    three rounds.
    """
    a, b = _by_round(ours, figure), _by_round(theirs, figure)
    if took_turns(ours, theirs):
        logs = [math.log(a[number] / b[number]) for number in sorted(a.keys() & b.keys())]
        return paired(figure, logs).ratio(LEVEL) if len(logs) >= LEAST else None
    if min(len(a), len(b)) < LEAST:
        return None
    return unpaired(figure, *([math.log(value) for value in each.values()] for each in (a, b))).ratio(LEVEL)


def typical(runs: Sequence[Run], figure: str) -> float | None:
    """The median of a figure over rounds, as `beside` takes it; None of no round."""
    return middle(_by_round(runs, figure).values())


def _by_round(runs: Sequence[Run], figure: str) -> dict[int, float]:
    """A figure of each round, the median of its requests'. "ttft" of a conversation is that of its later turns."""
    of_run: Mapping[str, Callable[[Timings], float | None]] = {
        "decode_rate": lambda times: times.decode_rate,
        "prefill_rate": lambda times: times.prefill_rate,
        "ttft": ttft,
    }
    found: dict[int, float] = {}
    value: float | None
    for together in by_round(runs):
        if figure == "throughput":
            value = throughput(together)
        elif figure == "peak_memory":
            value = max((run.peak_memory for run in together if run.peak_memory is not None), default=None)
        else:
            counted = [run for run in together if figure != "ttft" or run.turn != 0]
            value = middle(of_run[figure](run.timings) for run in counted if run.timings is not None)
        if value:
            found[together[0].round] = value
    return found


def by_roofline(seen: Seen, quantize: str, figure: str) -> Gain | None:
    """At most what fewer bits would give, were the bandwidth reached as it is now: TPOT goes with the bytes that a step
    reads, and nothing else of an answer becomes faster. None where decode is not bound by memory, or is quantised.
    """
    model, read, mbu = seen.model, bytes_of_step(seen), seen.utilised("decode")[0]
    if model is None or read is None or mbu is None or mbu < MEMORY.threshold or seen.decoding is None:
        return None
    if model.quantization or model.backend not in QUANTISES:
        return None
    whole, cache = read
    bits = BITS[{"int8": "8-bit", "int4": "4-bit"}[quantize]] / 8 / DTYPES.get(model.dtype, 2)
    decode = ((whole - cache) * bits + cache) / whole
    share = 1.0 if figure == "decode_rate" else seen.decoding
    times = 1 / (1 - share + share * decode)
    how = f"by the roofline at the measured MBU of {mbu:.0%}; not measured: try it"
    return Gain({"quantize": quantize}, figure, times, how) if times > 1 else None
