"""Judges a report by rules: each names a figure, its threshold, what it means and what to do; none fires without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from ...decision import Rejected
from ..report import Finding, Report
from . import rules_bound as bound
from . import rules_decline as decline
from . import rules_machine as machine
from . import rules_requests as requests
from .rules_seen import Said, Seen

# Of each case, and of the machine as a whole, by the name of what they find.
OF_A_CASE: tuple[tuple[str, Callable[[Seen], Said]], ...] = (
    ("failures", requests.failures),
    ("empty-answers", requests.empty_answers),
    ("memory-bound", bound.memory_bound),
    ("kv-bound", bound.kv_bound),
    ("compute-bound", bound.compute_bound),
    ("overhead-bound", bound.overhead_bound),
    ("tokenizer-bound", bound.detokenising),
    ("tokenizer-bound", requests.tokenizing),
    ("cache-misses", requests.cache_misses),
    ("queueing", requests.queueing),
    ("poor-draft", requests.poor_draft),
    ("thermal", decline.declined),  # or "decline", where nothing tells of heat
    ("busy-machine", machine.busy_machine),
    ("noisy-machine", machine.noisy_machine),
)
OF_ALL: tuple[tuple[str, Callable[[Report], Said]], ...] = (
    ("swap", machine.swap),
    ("memory-pressure", machine.memory_pressure),
    ("leak", requests.leak),
    ("thermal", decline.declined_under_stress),
)

# What a finding explains: the other would only say again, or wrongly, what it does to the figures.
EXPLAINS: Mapping[str, tuple[str, ...]] = {
    "swap": ("memory-pressure", "decline", "noisy-machine", "overhead-bound"),
    "busy-machine": ("decline", "noisy-machine", "overhead-bound"),
    "tokenizer-bound": ("overhead-bound",),
}

NOTHING = "nothing-found"
OF_THE_MACHINE = ("busy-machine", "noisy-machine", "thermal", "decline")  # whichever model ran on it


def findings(report: Report) -> tuple[Finding, ...]:
    """What limits the cases of a report, one finding for each rule and model: that of the case where it is worst. Where
    no rule fires, one that says what was looked at.
    """
    seen = [Seen.of(report, index) for index in range(len(report.cases))]
    said = [(name, rule(report)) for name, rule in OF_ALL]
    said += [(name, rule(case)) for name, rule in OF_A_CASE for case in seen]
    found = [each for _, each in said if isinstance(each, Finding)]
    held = [each for each in found if not any(_explains(other, each) for other in found)]
    return tuple(_worst_of_each(report, held)) or (_nothing(said),)


def _explains(one: Finding, other: Finding) -> bool:
    of_all = one.rule == "swap"
    return other.rule in EXPLAINS.get(one.rule, ()) and (of_all or one.case == other.case)


def _worst_of_each(report: Report, held: Iterable[Finding]) -> Iterable[Finding]:
    """One finding for each rule and model, or for the machine: the worst, which names the others."""
    groups: dict[tuple[str, int | None], list[Finding]] = {}
    for finding in held:
        of_all = finding.case is None or finding.rule in OF_THE_MACHINE
        model = None if of_all or finding.case is None else report.cases[finding.case].model
        groups.setdefault((finding.rule, model), []).append(finding)
    for group in groups.values():
        worst, *others = sorted(group, key=_margin, reverse=True)
        if others:
            named = " · ".join(report.cases[each.case].label for each in others if each.case is not None)
            worst = replace(worst, evidence=f"{worst.evidence}; likewise in {named}")
        yield worst


def _margin(finding: Finding) -> float:
    """How far beyond its threshold a figure lies, on whichever side."""
    return abs(finding.value - finding.threshold)


def _nothing(said: Iterable[tuple[str, Said]]) -> Finding:
    """That nothing was found, with what was looked at and what could not be."""
    said = list(said)
    looked = list(dict.fromkeys(name for name, each in said if each is None))
    lacked = {name: each.reason for name, each in said if isinstance(each, Rejected) and name not in looked}
    unseen = "; ".join(f"{name}: {reason}" for name, reason in lacked.items())
    return Finding(
        rule=NOTHING,
        case=None,
        figure="rules that had their figures",
        value=len(looked),
        threshold=len(looked) + len(lacked),
        unit="rules",
        evidence=f"looked at: {', '.join(looked) or 'nothing'}" + (f"; not looked at: {unseen}" if unseen else ""),
        cause="no figure crossed its threshold" if looked else "there was nothing to look at",
        remedy="Nothing to do."
        if not lacked
        else "Measure what is missing, if it matters: see what was not looked at.",
    )
