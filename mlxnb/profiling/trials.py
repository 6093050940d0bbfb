"""Measures a finding's remedy at once, beside the case as it was, in turns in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from ..errors import BackendError, OptionError
from .judge.figures import by_round, wall
from .judge.gains import LEAST, beside, typical
from .judge.rules_seen import Seen
from .report import Case, Finding, Report, Value
from .report.words import before_and_after

if TYPE_CHECKING:
    from ..runtime import Engine
    from .runs.measure import Measured
    from .runs.plan import Plan
    from .runs.progress import Progress

# Seconds that a trial may take, and how many pairs of rounds it makes of them.
SECONDS, FEWEST, MOST = 60.0, 6, 12


def try_it(
    engine: Engine,
    report: Report,
    finding: Finding,
    progress: Callable[[Progress], None] | None = None,
    base: Mapping[str, Value] | None = None,
) -> Finding:
    """The finding with `tried`: the figure that its remedy is about, with the remedy over without it, pair by pair; and
    with the figure itself, before and after.
    "ttft" is a time and "peak_memory" bytes, so that less than 1 is better. `base` are options that every request of
    the profile had, those that the report tells where not given.

    An interrupt after three pairs keeps them.

    Raises:
        OptionError: there is nothing to try at once, the prompt is not kept in a report, or the remedy is refused.
        BackendError: either way of asking failed.
        MlxnbError: the model cannot be loaded.
    """
    if finding.trial is None or finding.case is None:
        raise OptionError(f"Nothing can be tried at once against {finding.rule}.", finding.remedy)
    from .machine.clock import Clock
    from .runs.measure import measure

    was, tried = _cases(report, finding, finding.trial.options)
    plan = _plan(report, finding, was, report.options if base is None else base)
    got, figure = measure(engine, [was, tried], plan, Clock(), progress), figure_of(report, finding)
    before, after = ([run for run in got.runs if run.case == place and run.timings is not None] for place in (0, 1))
    ratio = beside(after, before, figure)
    if ratio is None:
        raise _failed(got, finding.trial.label)
    return replace(finding, tried=ratio, was=typical(before, figure), became=typical(after, figure))


def outcome(finding: Finding) -> str:
    """What a trial gave, in words; empty where there was none."""
    tried, trial = finding.tried, finding.trial
    if tried is None or trial is None:
        return ""
    between, seen = f"({tried.low:.2f} – {tried.high:.2f})", before_and_after(finding)
    if not tried.differs:
        return f"{trial.label}: no difference {between}{seen}"
    name = {
        "decode_rate": "the decode rate",
        "prefill_rate": "the prefill rate",
        "ttft": "the time to first token",
        "peak_memory": "the peak memory",
    }
    figure = name.get(tried.figure, tried.figure)
    return f"{trial.label}: {tried.median:.2f}× {figure} {between}, {tried.pairs} pairs{seen}"


def figure_of(report: Report, finding: Finding) -> str:
    """The figure that a remedy is about: the wait for a turn that was computed before, the memory that pieces of a
    prompt take, else the rate of the phase that takes the most time.
    """
    assert finding.case is not None
    if finding.trial is not None and "prefill_step" in finding.trial.options:
        return "peak_memory"
    if finding.rule == "cache-misses":
        return "ttft"
    return "prefill_rate" if Seen.of(report, finding.case).phase == "prefill" else "decode_rate"


def _cases(report: Report, finding: Finding, options: Mapping[str, Value]) -> tuple[Case, Case]:
    """The case as it was, and with the remedy, which must then come as it is asked for. Both name the backend that
    answered, or a remedy might be compared with another one.
    """
    assert finding.case is not None
    case = report.cases[finding.case]
    seen = Seen.of(report, finding.case)
    own = dict(case.varied)
    if seen.model is not None:
        own["backend"] = seen.model.backend
    if "cache" in options and not any(run.timings and run.timings.reused_tokens for run in seen.runs):
        own["cache"] = "off"
    asked = case.asked or (seen.model.name if seen.model is not None else "")
    was = replace(case, label=f"{case.label}, as it was", model=None, error=None, varied=own, asked=asked)
    tried = {**own, **options, "strict": True}
    return was, replace(was, label=f"{case.label}, {_words(options)}", varied=tried)


def _words(options: Mapping[str, Value]) -> str:
    return ", ".join(f"{name} {'none' if value is None else value}" for name, value in options.items())


def _plan(report: Report, finding: Finding, case: Case, base: Mapping[str, Value]) -> Plan:
    """So many pairs as there is time for, in turns. Random prompts have their length in their name."""
    from .runs.plan import Plan
    from .runs.scenarios import NAMES

    kind, _, length = case.scenario.partition(" ")
    drawn = kind == "random" and length.isdecimal()
    if case.scenario not in NAMES and not drawn:
        option = next(iter(finding.trial.options)) if finding.trial is not None else "quantize"
        raise OptionError(
            f"The prompt of {case.label} is not kept in a report, so that it cannot be asked again.",
            f"Profile it with --sweep {option}=… --compare.",
        )
    models = (case.asked, case.asked)  # each of the two cases; nothing else of a plan says which there are
    prompts = (int(length),) if drawn else ()
    pairs = pairs_for(report, finding)
    return Plan(models=models, prompt_tokens=prompts, runs=pairs, warmup=1, compare=True, base=base)


def pairs_for(report: Report, finding: Finding) -> int:
    """Pairs of rounds that fit into a minute, by what a round took."""
    assert finding.case is not None
    took = [wall(together) for together in by_round(report.of(finding.case))]
    pair = 2 * median(took) if took else 0.0
    return MOST if pair <= 0 else int(min(MOST, max(FEWEST, SECONDS / pair)))


def _failed(got: Measured, label: str) -> Exception:
    """Why there is no ratio."""
    name = f"{label[:1].upper()}{label[1:]}"
    errors = [run.error for run in reversed(got.runs) if run.error]
    errors += [case.error for case in reversed(got.cases) if case.error]
    if errors:
        return BackendError(f"{name} could not be tried: {errors[0]}")
    if got.partial:
        return BackendError(f"{name} was not tried for long enough: {got.partial}.", "Try again.")
    least = f"fewer than {LEAST} pairs of rounds gave the figure that it is about"
    return BackendError(f"{name} could not be tried: {least}.", "Raise max_tokens.")
