"""The words that figures, cases and ratios go by wherever a report is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ...render.numbers import duration, plural, rate, significant, size
from . import Case, Finding, Profiled, Ratio, Report, Value

FIGURES: Mapping[str, str] = {
    "ttft": "first token",
    "tpot": "time a token",
    "total": "end to end",
    "prefill_rate": "prefill rate",
    "decode_rate": "decode rate",
    "throughput": "throughput",
    "peak_memory": "peak memory",
    "peak_rss": "process memory",
    "energy": "energy a token",
    "acceptance": "accepted drafts",
    "goodput": "goodput",
}
MORE_IS_BETTER = frozenset({"prefill_rate", "decode_rate", "throughput", "acceptance", "goodput"})

# In what a model of one name may have been loaded differently; the first that differs tells two of them apart.
WAYS = ("quantization", "adapter", "dtype", "backend", "device", "attention", "revision", "kv_cache")
# Parts of a decode step as a person names them.
PARTS: Mapping[str, str] = {"mlp": "MLP", "norm": "norms", "other": "rest of the model", "overhead": "our own work"}


def part_name(part: str) -> str:
    """A part of a decode step in words."""
    return PARTS.get(part, part)


def limits_words(limits: Mapping[str, float]) -> str:
    """`first token 500 ms, time a token 10 ms`."""
    return ", ".join(f"{figure_name(name)} {duration(limit)}" for name, limit in limits.items())


def figure_name(figure: str) -> str:
    """A figure in words."""
    return FIGURES.get(figure, figure.replace("_", " "))


def better(ratio: Ratio) -> bool | None:
    """Whether it is for the better; None inside the spread."""
    return (ratio.median > 1) == (ratio.figure in MORE_IS_BETTER) if ratio.differs else None


def ratio_words(ratio: Ratio) -> str:
    """`1.42× (1.38–1.47)`, or that there is no difference, with the interval too."""
    interval = f"{times(ratio.low)}–{times(ratio.high)}"
    return f"{times(ratio.median)}× ({interval})" if ratio.differs else f"no difference ({interval})"


def times(ratio: float) -> str:
    """A ratio to two decimals, to three figures where it is large or small."""
    return f"{ratio:.2f}" if 0.1 <= ratio < 10 else significant(ratio)


def before_and_after(finding: Finding) -> str:
    """`: 120 tok/s before, 156 tok/s after` of a finding whose remedy was tried; empty where that is not known."""
    tried, was, became = finding.tried, finding.was, finding.became
    if tried is None or was is None or became is None:
        return ""
    write = {"ttft": duration, "peak_memory": size}.get(tried.figure, rate)
    return f": {write(was)} before, {write(became)} after"


def case_names(report: Report) -> tuple[str, ...]:
    """Each case's label, with what sets it apart where two have the same."""
    labels = [case.label for case in report.cases]
    again = Counter(labels)
    names = [
        label if again[label] == 1 else ", ".join([label, *_apart(report, case)])
        for label, case in zip(labels, report.cases, strict=True)
    ]
    still = Counter(names)
    return tuple(name if still[name] == 1 else f"{name} [{i + 1}]" for i, name in enumerate(names))


def model_names(report: Report) -> tuple[str, ...]:
    """Each model's name, with how it was loaded where one name was loaded in several ways."""
    names = [model.name for model in report.models]
    for way in WAYS:
        again, held = Counter(names), list(names)
        for i, model in enumerate(report.models):
            same = [other for other, name in zip(report.models, held, strict=True) if name == held[i]]
            if again[held[i]] > 1 and len({getattr(other, way) for other in same}) > 1:
                names[i] = f"{held[i]} {getattr(model, way) or 'whole'}"
    still = Counter(names)
    return tuple(name if still[name] == 1 else f"{name} [{i + 1}]" for i, name in enumerate(names))


def _apart(report: Report, case: Case) -> list[str]:
    """What a case has that another of its label may have otherwise."""
    said = [f"{name}={value_words(value)}" for name, value in case.varied.items()]
    if len(report.models) > 1 and case.model is not None:
        said.append(model_names(report)[case.model])
    return [*said, *([f"× {case.concurrency}"] if case.concurrency > 1 else [])]


def value_words(value: Value) -> str:
    """A value of an option as it is written on a line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)


def own_options(case: Case) -> dict[str, Value]:
    """What sets a case apart beside its model, which is named by itself."""
    return {name: value for name, value in case.varied.items() if name != "model"}


def flags(options: Mapping[str, Value]) -> str:
    """Options as they are written on a magic's line."""
    return " ".join(f"--{name.replace('_', '-')} {value_words(value)}" for name, value in options.items())


def model_words(model: Profiled) -> str:
    """`Qwen3-0.6B · mlx gpu bfloat16, 4-bit`."""
    kept = ", ".join(filter(None, [model.dtype, model.quantization]))
    return f"{model.name} · {model.backend} {model.device} {kept}".rstrip()


def counted(counts: list[int], noun: str) -> str:
    """`n = 5 runs`, or `n = 3 to 5 runs` where the counts differ."""
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    return f"n = {plural(high, noun)}" if low == high else f"n = {low} to {plural(high, noun)}"
