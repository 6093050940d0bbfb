"""What to profile: models, scenarios and options, checked when the plan is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import product
from typing import Any, Literal

from ...errors import OptionError
from ...request import Request
from ..report import Value
from .plan_values import (
    SETTLED,
    check_field,
    field_value,
    listed,
    names,
    near,
    numbers,
    pairs,
    seconds,
    seconds_or_settled,
    sweepable,
    whole,
)
from .scenarios import NAMES

# Repetitions of a quick profile where nobody says how many.
QUICK_RUNS = 3
# Options that are no field of a Request.
BESIDE = ("kernels",)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a request must keep to for goodput, in seconds; None is no limit."""

    ttft: float | None = None
    tpot: float | None = None
    total: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None:
                object.__setattr__(self, name, seconds(f"The limit of {name}", value))

    @classmethod
    def of(cls, given: Any) -> Limits:
        """From itself, a mapping, or text such as "ttft=200ms,tpot=0.05".

        Raises:
            OptionError: a figure that has no limit, or one that is no time.
        """
        if given is None or isinstance(given, Limits):
            return given or cls()
        known = [f.name for f in fields(cls)]
        takes = "figure=seconds, such as ttft=0.5,tpot=50ms"
        read = pairs("limits", given.split(",") if isinstance(given, str) else given, takes)
        unknown = next((name for name in read if name not in known), None)
        if unknown is not None:
            limits = near(unknown, known, f"Limits are on {', '.join(known)}.")
            raise OptionError(f"There is no limit on {unknown!r}.", limits)
        return cls(**read)

    def given(self) -> dict[str, float]:
        """Those that there are, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Plan:
    """One profile. Empty `models` is the default model; empty `scenarios` those of `quick` or a full profile.

    `prompts` are texts of a person's own, `prompt_tokens` lengths of random prompts. `sweep` maps a field of Request or
    Sampling to values, `base` holds options of every request. `compare` runs the cases of several models, backends or
    swept values in turns, the first one being what the others are held against. `stress` is in seconds, or
    "settled": until memory stops growing.

    Raises:
        OptionError: an option is unknown or out of its range; it is named with what it takes.
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
    stress: float | Literal["settled"] | None = None
    limits: Limits = Limits()
    inside: bool = True

    def __post_init__(self) -> None:
        unknown = next((name for name in self.scenarios if name not in NAMES), None)
        if unknown is not None:
            named = near(unknown, NAMES, f"Scenarios are {', '.join(NAMES)}.")
            raise OptionError(f"There is no scenario {unknown!r}.", named)
        whole("runs", self.runs, 1)
        whole("warmup", self.warmup, 0)
        for name, given in (("concurrency", self.concurrency), ("prompt_tokens", self.prompt_tokens)):
            for number in given:
                whole(name, number, 1)
        if self.max_tokens is not None:
            whole("max_tokens", self.max_tokens, 1)
        if self.stress is not None:
            seconds_or_settled("stress", self.stress)
        for name in (*self.sweep, *self.base):
            check_field(name)
        for combination in self.combinations():
            options: dict[str, Any] = {**self.base, **combination}
            Request.of("x", **{name: value for name, value in options.items() if name not in BESIDE})
        if self.compare and max(1, len(self.models)) * len(list(self.combinations())) < 2:
            raise OptionError(
                "compare has nothing to compare.", "Name two models, or vary something, as in sweep backend=mlx,torch."
            )

    @classmethod
    def of(cls, **options: Any) -> Plan:
        """A plan from what a person gives: values, or their text as on a magic's line.

        Beside the fields of a Plan it takes those of Request and Sampling: one value goes into `base`, a list of them
        into `sweep`. A quick profile makes 3 runs, unless `runs` says otherwise.

        Raises:
            OptionError: an option is unknown or out of its range; it is named with what it takes.
        """
        given = {name: value for name, value in options.items() if value is not None}
        own = {f.name for f in fields(cls)}
        unknown = next((name for name in given if name not in own and name not in sweepable()), None)
        if unknown is not None:
            known = sorted({*own, *sweepable()})
            raise OptionError(f"Unknown option {unknown!r}.", near(unknown, known, f"Options are {', '.join(known)}."))
        read: dict[str, Any] = {name: _READ[name](name, value) for name, value in given.items() if name in _READ}
        sweep, base = _varied(given, own)
        if read.get("quick"):
            read.setdefault("runs", QUICK_RUNS)
        return cls(**read, sweep=sweep, base=base)

    @property
    def stress_seconds(self) -> float | None:
        """How long the stress goes on; None until memory stops growing, or where there is none."""
        return None if self.stress == SETTLED else self.stress

    def combinations(self) -> Iterator[dict[str, Value]]:
        """What sets the cases of one model and scenario apart: every swept value with every other."""
        for values in product(*self.sweep.values()):
            yield dict(zip(self.sweep, values, strict=True))


def _varied(given: Mapping[str, Any], own: set[str]) -> tuple[dict[str, tuple[Value, ...]], dict[str, Value]]:
    """(sweep, base) out of the options `sweep` and `base` and of the fields that were given by themselves."""
    takes = "FIELD=value,value,…"
    asked = pairs("sweep", given.get("sweep", {}), takes) if given.get("sweep") else {}
    base = {name: field_value(name, value) for name, value in pairs("base", given.get("base", {}), takes).items()}
    for name, value in given.items():
        if name in own:
            continue
        several = isinstance(value, list | tuple) or (isinstance(value, str) and "," in value)
        if several and name in asked:
            raise OptionError(f"{name} is swept twice.", f"Give {name} alone, or sweep {name}=….")
        if several:
            asked[name] = value
        else:
            base[name] = field_value(name, value)
    return {name: _swept(name, values) for name, values in asked.items()}, base


def _swept(name: str, values: Any) -> tuple[Value, ...]:
    check_field(name)
    parts = values.split(",") if isinstance(values, str) else listed(f"sweep {name}", values, "values, by commas")
    return tuple(dict.fromkeys(field_value(name, part) for part in parts))


def _texts(option: str, given: Any) -> tuple[str, ...]:
    texts = (given,) if isinstance(given, str) else tuple(listed(option, given, "prompts, as a list of strings"))
    if not all(isinstance(text, str) and text.strip() for text in texts):
        wrong = next(text for text in texts if not isinstance(text, str) or not text.strip())
        raise OptionError(f"{option} holds {wrong!r}.", "It takes prompts, as a list of strings.")
    return texts


def _flag(option: str, given: Any) -> bool:
    if not isinstance(given, bool):
        raise OptionError(f"{option} is {given!r}.", "It takes True or False.")
    return given


_READ: dict[str, Callable[[str, Any], Any]] = {
    "models": names,
    "scenarios": names,
    "prompts": _texts,
    "prompt_tokens": numbers,
    "max_tokens": lambda option, given: whole(option, given, 1),
    "runs": lambda option, given: whole(option, given, 1),
    "warmup": lambda option, given: whole(option, given, 0),
    "concurrency": numbers,
    "quick": _flag,
    "compare": _flag,
    "stress": seconds_or_settled,
    "inside": _flag,
    "limits": lambda option, given: Limits.of(given),
}
