"""What is faster, and by how much: cases that took turns pair by pair, and a report against one of before."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

from ...result import Timings
from ..report import Case, Comparison, Ratio, Report, Run
from ..report.turns import took_turns
from .changes import Change, changes, of_cases
from .figures import by_round, throughput, ttft
from .ratios import Repeated, paired, ratios_of, unpaired

Figure = Callable[[Sequence[Run]], "float | None"]


def _median(of: Callable[[Timings], float | None], together: Sequence[Run]) -> float | None:
    """Of the requests of one round: they share the machine, so that they are one observation."""
    held = [value for run in together if run.timings is not None and (value := of(run.timings)) is not None]
    return median(held) if held else None


def _peak(together: Sequence[Run]) -> float | None:
    return max((run.peak_memory for run in together if run.peak_memory is not None), default=None)


def _energy(together: Sequence[Run]) -> float | None:
    """Joules a generated token."""
    tokens, joules = sum(run.generation_tokens for run in together), [run.energy for run in together]
    return sum(j for j in joules if j is not None) / tokens if tokens and None not in joules else None


# What a round comes to. All of them are above zero where they are defined.
FIGURES: Mapping[str, Figure] = {
    "ttft": partial(_median, ttft),
    "prefill_rate": partial(_median, lambda timings: timings.prefill_rate),
    "decode_rate": partial(_median, lambda timings: timings.decode_rate),
    "throughput": throughput,
    "peak_memory": _peak,
    "energy": _energy,
}


@dataclass(frozen=True, slots=True)
class Match:
    """A case of this report (`ours`) and the same of the earlier one (`theirs`), with ratios of ours over theirs."""

    ours: int
    theirs: int
    ratios: tuple[Ratio, ...]


@dataclass(frozen=True, slots=True)
class Against:
    """A report beside an earlier one. `changed` is what may explain a difference; `only_ours` and `only_theirs` are the
    labels of cases that the other one has not. The rounds are not pairs, so each interval holds the spread of both
    reports; how much the machine itself changes from one day to the next is in none of them.
    """

    report: Report
    earlier: Report
    matches: tuple[Match, ...]
    changed: tuple[Change, ...]
    only_ours: tuple[str, ...] = ()
    only_theirs: tuple[str, ...] = ()

    @property
    def equal(self) -> bool:
        """Whether cases were matched and no figure of them lies outside its spread."""
        return bool(self.matches) and not any(ratio.differs for match in self.matches for ratio in match.ratios)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        from ...render.profile import against_bundle

        return against_bundle(self)


def comparisons(report: Report) -> tuple[Comparison, ...]:
    """Each case beside the first one of its scenario: rounds are paired by their number where the two took turns. Where
    one ran behind the other no round has a partner, and the interval holds the spread of both.
    """
    first: dict[tuple[Any, ...], int] = {}
    found = []
    for i, case in enumerate(report.cases):
        theirs = first.setdefault((case.scenario, case.concurrency, case.prompt_tokens), i)
        if theirs != i and (tests := _beside(report, i, theirs)):
            found.append((i, theirs, tests))
    ratios = ratios_of([tests for _, _, tests in found])
    return tuple(Comparison(i, j, each) for (i, j, _), each in zip(found, ratios, strict=True))


def against(report: Report, earlier: Report) -> Against:
    """Every case beside the same one of an earlier report: by model, scenario, label and options."""
    named = len(report.models) > 1 or len(earlier.models) > 1
    theirs = _keyed(earlier, named)
    found, only_ours, matched = [], [], set()
    for key, ours in _keyed(report, named).items():
        if key not in theirs:
            only_ours.append(report.cases[ours].label)
        elif tests := _unpaired(report, ours, earlier, theirs[key]):
            found.append((ours, theirs[key], tests))
        matched.add(key)
    only_theirs = tuple(earlier.cases[i].label for key, i in theirs.items() if key not in matched)
    ratios = ratios_of([tests for _, _, tests in found])
    matches = [Match(i, j, each) for (i, j, _), each in zip(found, ratios, strict=True)]
    asked = [each for i, j, _ in found for each in of_cases(report.cases[i], earlier.cases[j])]
    changed = (*changes(report, earlier), *asked)
    return Against(report, earlier, tuple(matches), changed, tuple(only_ours), only_theirs)


def _keyed(report: Report, named: bool) -> dict[tuple[Any, ...], int]:
    """Cases by what makes them the same; those that are so twice are told apart by their order. Where each report has
    one model, its name does not count: then two models are compared.
    """
    found: dict[tuple[Any, ...], int] = {}
    for i, case in enumerate(report.cases):
        model = report.models[case.model].name if named and case.model is not None else None
        varied = tuple(sorted((name, repr(value)) for name, value in case.varied.items()))
        key = (model, case.scenario, _plain_label(case, report), case.concurrency, case.prompt_tokens, varied)
        again = sum(known == key for known, _ in found)
        found[key, again] = i
    return found


def _plain_label(case: Case, report: Report) -> str:
    """The label without the model's name, which may be another one."""
    name = report.models[case.model].name if case.model is not None else ""
    return case.label.replace(name, "").strip(" ,·:") if name else case.label


def _beside(report: Report, ours: int, theirs: int) -> tuple[Repeated, ...]:
    if took_turns(report.of(ours), report.of(theirs)):
        return _paired(report, ours, theirs)
    return _unpaired(report, ours, report, theirs)


def _paired(report: Report, ours: int, theirs: int) -> tuple[Repeated, ...]:
    a, b = (_rounds(report, case) for case in (ours, theirs))
    both = [number for number in a if number in b]
    tests = []
    for name, figure in FIGURES.items():
        pairs = [(figure(a[number]), figure(b[number])) for number in both]
        logs = [math.log(x / y) for x, y in pairs if x and y and x > 0 and y > 0]
        tests += [paired(name, logs)] if len(logs) > 1 else []
    return tuple(tests)


def _unpaired(report: Report, ours: int, earlier: Report, theirs: int) -> tuple[Repeated, ...]:
    a, b = by_round(report.of(ours)), by_round(earlier.of(theirs))
    tests = []
    for name, figure in FIGURES.items():
        values = [[value for each in rounds if (value := figure(each)) is not None] for rounds in (a, b)]
        logs = [[math.log(value) for value in each if value > 0] for each in values]
        tests += [unpaired(name, *logs)] if min(map(len, logs)) > 1 else []
    return tuple(tests)


def _rounds(report: Report, case: int) -> dict[int, list[Run]]:
    return {together[0].round: together for together in by_round(report.of(case))}
