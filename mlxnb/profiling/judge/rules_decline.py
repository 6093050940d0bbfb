"""A machine that became slower on the way: from heat where it says so, else for a reason that nobody measured."""

from __future__ import annotations

from collections.abc import Sequence

from ..report import Finding, Report, Sample
from .rules_machine import BUSY, LEAST_ROUNDS
from .rules_seen import Limit, Said, Seen, middle, missing, thirds

THERMAL = Limit("thermal", "decode rate lost from the first to the last third", 0.1)
DECLINE = Limit("decline", THERMAL.figure, THERMAL.threshold)

HOT, WARMER = 85.0, 5.0  # degrees Celsius: of the last third, and above the first
SLOWER = 0.95  # a clock that runs at less than this share of what it did
COOL = ("nominal", "none", "")  # words of a system that does not hold itself back


def declined(seen: Seen) -> Said:
    """The machine became slower from round to round."""
    drift = seen.summary.drift
    if drift is None:
        return missing(DECLINE.rule, f"{LEAST_ROUNDS} rounds with a decode rate")
    part = 1 - drift.median
    if part < DECLINE.threshold or not drift.differs or seen.summary.rounds < LEAST_ROUNDS:
        return None
    fell = f"the decode rate fell by {part:.0%} from the first to the last third of {seen.summary.rounds} rounds"
    return _slowed(seen.index, part, fell, seen.samples)


def declined_under_stress(report: Report) -> Said:
    """The machine became slower while it generated without a pause, with nobody else to blame."""
    if all(each.decline is None for each in report.stress):
        return missing(DECLINE.rule, "stress with a decode rate")
    for each in report.stress:
        if each.decline is None:
            continue
        began = each.memory[0][0] if each.memory else 0.0
        samples = [sample for sample in report.samples if began <= sample.at <= began + each.seconds]
        taken = middle(max(0.0, sample.cpu - sample.own_cpu) for sample in samples)
        if each.decline >= DECLINE.threshold and each.decline_low > 0 and (taken or 0.0) < BUSY.threshold:
            fell = f"the decode rate fell by {each.decline:.0%} from the first to the last third of "
            fell += f"{each.requests} requests without a pause"
            return _slowed(each.case, each.decline, fell, samples)
    return None


def _slowed(case: int, part: float, fell: str, samples: Sequence[Sample]) -> Finding:
    """From heat where the machine says so, else for a reason that nobody measured."""
    hot = heat(samples)
    if hot is not None:
        cause = "the machine slows itself down for its heat"
        remedy = "Let it cool, give it air or mains power, and put pauses between long runs."
        return THERMAL.crossed(case, part, f"{fell}, while {hot}", cause, remedy)
    return DECLINE.crossed(
        case,
        part,
        f"{fell}; neither temperature, clock nor thermal pressure tells why",
        "unknown: heat that this machine does not tell of, or other programs",
        "Profile again after a pause, with nothing else running; compare in turns (--compare), which a decline spares.",
    )


def heat(samples: Sequence[Sample]) -> str | None:
    """How a machine shows that it slowed down for its heat between the first and the last third; None where not."""
    pressed = [sample.pressure for sample in samples if sample.pressure is not None]
    third = len(pressed) // 3
    if third and _presses(pressed[-third:]) > 0.5 >= _presses(pressed[:third]):
        return f"thermal pressure rose to {pressed[-1]}"
    clocks = thirds(sample.clock for sample in samples)
    if clocks and clocks[1] < SLOWER * clocks[0]:
        return f"the clock fell from {clocks[0] / 1e9:.2f} to {clocks[1] / 1e9:.2f} GHz"
    warm = thirds(sample.temperature for sample in samples)
    if warm and warm[1] >= HOT and warm[1] - warm[0] >= WARMER:
        return f"the temperature rose from {warm[0]:.0f} to {warm[1]:.0f} °C"
    return None


def _presses(words: Sequence[str]) -> float:
    return sum(word.lower() not in COOL for word in words) / len(words)
