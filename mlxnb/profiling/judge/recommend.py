"""What to generate with for a use and a goal, by what was measured here; and what other models would do here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ..report import Case, Recommendation, Report, Value
from .gains import CLOSE, LEAST, ROUGH, ROUNDS, SAME, Gain, by_roofline, level, measured
from .other_models import other_models
from .rules_seen import Seen

__all__ = ["GOALS", "USES", "other_models", "recommendations"]


@dataclass(frozen=True, slots=True)
class Use:
    """What stands for a use: the scenarios that are like it, the likest first, the figure that counts, and sampling
    by convention, which no measurement of speed says anything of.
    """

    scenarios: tuple[str, ...]
    figure: str
    sampling: Mapping[str, Value]


USES: Mapping[str, Use] = {
    "chat": Use(("multi-turn", "medium", "simple"), "decode_rate", {"temperature": 0.7, "top_p": 0.95}),
    "code": Use(("code", "complex"), "decode_rate", {"temperature": 0.0}),
    "long documents": Use(("long-context", "complex"), "throughput", {"temperature": 0.0}),
    "batch": Use(("batch",), "throughput", {"temperature": 0.0}),
}

# How far an answer may differ from that of the model as it is stored.
GOALS: Mapping[str, int] = {"speed": ROUGH, "balanced": CLOSE, "quality": SAME}
WORDS = {
    SAME: "the answers stay those of the model as it is",
    CLOSE: "weights or keys are rounded, which answers seldom show; hold it against your own prompts",
    ROUGH: "4 bits change answers: hold them against your own prompts",
}


def recommendations(report: Report) -> tuple[Recommendation, ...]:
    """Options for every use and goal, and the gain that was measured with them; where nothing was measured that gains,
    the roofline's estimate, and where it has none, nothing but what is there. () where nothing was answered.
    """
    found = []
    for name, use in USES.items():
        for goal in GOALS:
            base = _base(report, use, goal)
            if base is not None:
                found.append(_for(report, base, name, use, goal))
    return tuple(found)


def _base(report: Report, use: Use, goal: str) -> int | None:
    """The case that stands for a use: of those that the goal allows, or of any where it allows none, one of the likest
    scenario that was answered, with the fewest options.
    """
    answered = [index for index in range(len(report.cases)) if report.of(index)]
    places = {scenario: place for place, scenario in enumerate(use.scenarios)}

    def unlike(index: int) -> tuple[bool, int, int, int]:
        case, options = report.cases[index], _options(report, report.cases[index])
        return _rounds_more(options, goal), places.get(case.scenario, len(places)), len(options), index

    return min(answered, key=unlike, default=None)


def _options(report: Report, case: Case) -> dict[str, Value]:
    """What a case was asked with; a model is no option, and None is what is there without it."""
    asked = {**report.options, **case.varied}
    return {name: value for name, value in asked.items() if name != "model" and value is not None}


def _rounds_more(options: Mapping[str, Value], goal: str) -> bool:
    """Whether options round more than a goal allows; whatever else they do."""
    rounding = {name: value for name, value in options.items() if name in ROUNDS}
    return (level(rounding) or SAME) > GOALS[goal]


def _for(report: Report, base: int, name: str, use: Use, goal: str) -> Recommendation:
    case, seen = report.cases[base], Seen.of(report, base)
    own = _options(report, case)
    stands = f"from {case.label}" + ("" if case.scenario in use.scenarios else f"; nothing like {name} was measured")
    if _rounds_more(own, goal):
        gain = "none measured: every case rounds more than the goal allows"
        return Recommendation(name, goal, dict(use.sampling), gain, f"{stands}; leave out what rounds")
    gains = list(measured(report, base, use.figure))
    known = [gain for gain in gains if _allowed(gain.options, goal)]
    best = max((gain for gain in known if gain.low is not None and gain.low > 1), key=_times, default=None)
    if best is None:
        best = _estimate(seen, use.figure, goal, tried={str(gain.options) for gain in known})
    if best is None:
        gain = f"nothing measured gains: {_said(known)}" if known else _nothing(report, base, bool(gains))
        reason = f"{stands}; leave it as it is{_untried(report, base, goal, known)}"
        return Recommendation(name, goal, {**own, **use.sampling}, gain, reason)
    kept = {option: value for option, value in {**own, **best.options}.items() if value is not None}
    change = WORDS[level({option: value for option, value in kept.items() if option in ROUNDS}) or SAME]
    return Recommendation(name, goal, {**kept, **use.sampling}, str(best), f"{stands}; {change}")


def _nothing(report: Report, base: int, compared: bool) -> str:
    """Why there is no gain to tell of, although options may have been varied."""
    names = _varied(report, base)
    if names and all(level({name: True}) is None for name in names):
        return f"none measured: {' and '.join(names)} varied, which makes other answers: that is no gain"
    if names and not compared:
        return f"none measured: {' and '.join(names)} varied over fewer than {LEAST} rounds"
    return "none measured: no option was varied" + (" that the goal allows" if names else "")


def _varied(report: Report, base: int) -> list[str]:
    """The options in which answered cases of the same scenario and model differ from this one."""
    own = report.cases[base]
    found: dict[str, None] = {}
    for index, case in enumerate(report.cases):
        if (case.scenario, case.model, case.concurrency) == (own.scenario, own.model, own.concurrency):
            names = {**own.varied, **case.varied} if report.of(index) else {}
            found |= dict.fromkeys(name for name in names if case.varied.get(name) != own.varied.get(name))
    return list(found)


def _untried(report: Report, base: int, goal: str, known: list[Gain]) -> str:
    """What there would be to measure: a finding's remedy, or anything at all."""
    model = report.cases[base].model
    for finding in report.findings:
        about = None if finding.case is None else report.cases[finding.case].model
        trial = finding.trial if finding.tried is None and about == model else None
        if trial is not None and _allowed(trial.options, goal):
            return f", or try {trial.label} ({_words(trial.options)}), which nobody measured yet"
    return "" if known else ", or vary an option with --sweep to know more"


def _allowed(options: Mapping[str, Value], goal: str) -> bool:
    change = level(options)
    return change is not None and change <= GOALS[goal]


def _times(gain: Gain) -> float:
    return gain.times


def _estimate(seen: Seen, figure: str, goal: str, tried: set[str]) -> Gain | None:
    """The roofline's, for fewer bits that were not measured."""
    if GOALS[goal] == SAME:
        return None
    on_cpu = seen.model is not None and (seen.model.backend == "mlx" or seen.model.device == "cpu")
    bits = ["int4"] if GOALS[goal] == ROUGH and on_cpu else []  # torch has int4 for CPUs only
    guesses = [by_roofline(seen, each, figure) for each in (*bits, "int8")]
    return next((guess for guess in guesses if guess is not None and str(guess.options) not in tried), None)


def _said(known: list[Gain]) -> str:
    """What was measured and gave nothing, in words."""
    parts = [f"{_words(gain.options)} gave {_result(gain)}" for gain in known]
    return ", ".join(parts)


def _result(gain: Gain) -> str:
    between = f"({gain.low:.2f} – {gain.high:.2f})"
    return f"{gain.times:.2f}× {between}" if gain.high is not None and gain.high < 1 else f"no difference {between}"


def _words(options: Mapping[str, Value]) -> str:
    return ", ".join(f"{name} {value}" for name, value in options.items())
