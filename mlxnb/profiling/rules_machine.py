"""What the machine did to the figures: swap, memory pressure, heat, and others that wanted it too."""

from __future__ import annotations

from collections.abc import Sequence

from ..hardware import human_bytes
from .figures import Spread, by_round
from .report import Finding, Report, Run, Sample
from .rules_remedies import fewer_bits
from .rules_seen import Limit, Said, Seen, middle, missing, thirds
from .trend import slope

SWAP = Limit("swap", "swap that came into use", 64e6, "bytes")
PRESSURE = Limit("memory-pressure", "least memory available", 0.05)
THERMAL = Limit("thermal", "decode rate lost from the first to the last third", 0.1)
DECLINE = Limit("decline", THERMAL.figure, THERMAL.threshold)
BUSY = Limit("busy-machine", "processor taken by other programs", 0.25)
NOISY = Limit("noisy-machine", "distance between the quartiles of the time a token takes", 0.15)

HOT, WARMER = 85.0, 5.0  # degrees Celsius: of the last third, and above the first
SLOWER = 0.95  # a clock that runs at less than this share of what it did
COOL = ("nominal", "none", "")  # words of a system that does not hold itself back
LEAST_ROUNDS = 5  # of which the spread says something
LARGE = 0.3  # of the memory: weights from which fewer bits would make room


def swap(report: Report) -> Said:
    """Memory went to the disk."""
    if len(report.samples) < 2:
        return missing(SWAP.rule, "memory over time")
    begin, most = report.samples[0].swap, max(sample.swap for sample in report.samples)
    if most - begin < SWAP.threshold:
        return None
    return _room(
        report,
        SWAP,
        most - begin,
        f"swap rose from {human_bytes(begin)} to {human_bytes(most)} while it was measured",
        "there was too little memory, so that pages went to the disk and had to come back",
    )


def memory_pressure(report: Report) -> Said:
    """Next to no memory was left."""
    if not report.samples or report.environment.memory <= 0:
        return missing(PRESSURE.rule, "memory over time")
    least = min(sample.available for sample in report.samples)
    share = least / report.environment.memory
    if share >= PRESSURE.threshold:
        return None
    return _room(
        report,
        PRESSURE,
        share,
        f"at the least {human_bytes(least)} of {human_bytes(report.environment.memory)} were available",
        "model and cache leave too little memory: the system drops file pages, and would swap next",
    )


def _large(report: Report) -> int | None:
    """The first case of the largest model, where its weights are so large that fewer bits would make room."""
    models = [Seen.of(report, index).model for index in range(len(report.cases))]
    weights = [0 if model is None else model.weights for model in models]
    most = max(weights, default=0)
    return weights.index(most) if most and most >= LARGE * report.environment.memory else None


def _room(report: Report, limit: Limit, value: float, evidence: str, cause: str) -> Finding:
    """What makes room: fewer bits can be tried at once, where that is much; other programs a person has to close."""
    case = _large(report)
    if case is None:
        remedy = "Close other programs, or take fewer bits or a smaller model."
        return limit.crossed(None, value, evidence, cause, remedy)
    remedy = "Take fewer bits or a smaller model, or close other programs."
    return limit.crossed(case, value, evidence, cause, remedy, fewer_bits(Seen.of(report, case)))


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
    if not report.stress:
        return missing(DECLINE.rule, "stress")
    for each in report.stress:
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


def busy_machine(seen: Seen) -> Said:
    """Other programs took the processor. A server's own work would count as theirs, so that its cases are left out."""
    taken = middle(max(0.0, sample.cpu - sample.own_cpu) for sample in seen.samples)
    if taken is None or not seen.mine:
        return missing(BUSY.rule, "processor time of others while a model of this process ran")
    if taken < BUSY.threshold:
        return None
    return BUSY.crossed(
        seen.index,
        taken,
        f"other programs took {taken:.0%} of the processor, half of the time or more",
        "figures say as much about those programs as about the model",
        "Close other programs and profile again.",
    )


def noisy_machine(seen: Seen) -> Said:
    """Rounds that ask the same took different times."""
    times = per_round(seen)
    if len(times) < LEAST_ROUNDS:
        return missing(NOISY.rule, f"{LEAST_ROUNDS} rounds")
    spread = Spread.of(straightened(times))
    assert spread is not None
    if spread.relative < NOISY.threshold:
        return None
    return NOISY.crossed(
        seen.index,
        spread.relative,
        f"half of {len(times)} rounds lie further apart than {spread.relative:.0%} of their median",
        "something else took the machine now and then",
        "Close other programs, measure more runs (--runs), and believe only differences larger than this.",
    )


def per_round(seen: Seen) -> list[float]:
    """Median seconds a token of each round, in their order: from end to end where all answers are of one length, else
    of decode alone, or a longer answer would make its prompt look cheaper.
    """
    alike = len({run.generation_tokens for run in seen.runs}) == 1
    rounds = [middle(_per_token(run, alike) for run in together) for together in by_round(seen.runs)]
    return [each for each in rounds if each is not None]


def _per_token(run: Run, whole: bool) -> float | None:
    times = run.timings
    if times is None or not times.token_times:
        return None
    return (times.token_times[-1] - times.start) / len(times.token_times) if whole else times.tpot


def straightened(values: Sequence[float]) -> list[float]:
    """Values without their trend: a steady decline is no noise, and has a rule of its own."""
    rise = slope(values)
    return [value - rise * (i - (len(values) - 1) / 2) for i, value in enumerate(values)]
