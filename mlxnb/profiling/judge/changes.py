"""What is another than in an earlier report: the machine, what is installed on it, and the models as loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..report import Case, Environment, Profiled, Report, Value

# A measured speed of the machine differs a little each time; from this share on it is named.
MEASURED = 0.05
OF_A_MODEL = (
    "name", "source", "revision", "backend", "backend_version", "device", "dtype", "quantization", "adapter",
    "attention", "kv_cache", "weights",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """`what` was `before` and is `now`; None is what one of the reports has not."""

    what: str
    before: Value
    now: Value


def changes(report: Report, earlier: Report) -> tuple[Change, ...]:
    """What may explain that a figure differs, the machine first."""
    machine = _machine(report.environment, earlier.environment)
    asked = _mapping(earlier.options, report.options, "every request: ")
    return (*machine, *_models(report.models, earlier.models), *asked)


def _machine(now: Environment, before: Environment) -> Iterator[Change]:
    for name in ("chip", "cores", "memory", "system", "device"):
        yield from _other(name, getattr(before, name), getattr(now, name))
    yield from _measured("bandwidth", before.bandwidth, now.bandwidth)
    for dtype in sorted({*now.products, *before.products}):
        yield from _measured(f"{dtype} products", before.products.get(dtype), now.products.get(dtype))
    yield from _mapping(before.versions, now.versions)
    yield from _mapping(before.settings, now.settings)


def _models(now: tuple[Profiled, ...], before: tuple[Profiled, ...]) -> Iterator[Change]:
    """Models of one name; the only one of each report, whatever it is called."""
    if len(now) == len(before) == 1:
        yield from _model("model", now[0], before[0])
        return
    for name in dict.fromkeys(model.name for model in now):
        ours = [model for model in now if model.name == name]
        theirs = [model for model in before if model.name == name]
        for i, (one, other) in enumerate(zip(ours, theirs, strict=False)):
            yield from _model(f"{name} ({i + 1})" if len(ours) > 1 else name, one, other)


def _model(called: str, now: Profiled, before: Profiled) -> Iterator[Change]:
    for name in OF_A_MODEL:
        yield from _other(f"{called}: {name.replace('_', ' ')}", getattr(before, name), getattr(now, name))


def _mapping(before: Mapping[str, Value], now: Mapping[str, Value], of: str = "") -> Iterator[Change]:
    for name in sorted({*now, *before}):
        yield from _other(f"{of}{name}", before.get(name), now.get(name))


def of_cases(now: Case, before: Case) -> Iterator[Change]:
    """What two cases that are held against each other were asked differently."""
    yield from _other(f"{now.label}: max_tokens", before.max_tokens, now.max_tokens)


def _measured(name: str, before: float | None, now: float | None) -> Iterator[Change]:
    if not (before and now) or abs(now / before - 1) >= MEASURED:
        yield from _other(f"measured {name}", before, now)


def _other(what: str, before: Value, now: Value) -> Iterator[Change]:
    if before != now:
        yield Change(what, before, now)
