"""What to profile: models, scenarios and options, checked when the plan is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .report import Value


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request must keep to for goodput, in seconds; None is no limit."""

    ttft: float | None = None
    tpot: float | None = None
    total: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """One profile. Empty `models` is the default model; empty `scenarios` those of `quick` or a full profile.

    `prompts` are texts of a person's own, `prompt_tokens` lengths of random prompts. `sweep` maps a field of Request or
    Sampling to values, `base` holds options of every request. `compare` runs the cases of several models, backends or
    swept values in turns, the first one being what the others are held against. `stress` is in seconds.
    """

    models: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()
    prompts: tuple[str, ...] = ()
    prompt_tokens: tuple[int, ...] = ()
    max_tokens: int | None = None
    runs: int = 5
    warmup: int = 1
    concurrency: tuple[int, ...] = (1,)
    sweep: Mapping[str, Sequence[Value]] = field(default_factory=dict)
    base: Mapping[str, Value] = field(default_factory=dict)
    quick: bool = False
    compare: bool = False
    stress: float | None = None
    limits: Limits = Limits()
    inside: bool = True
