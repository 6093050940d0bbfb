"""What the machine did to the figures: swap, memory pressure, and other programs that wanted it too."""

from __future__ import annotations

from collections.abc import Sequence

from ...hardware import human_bytes
from ..model.needs import kv_bytes
from ..report import Finding, Report, Run
from .figures import Spread, by_round
from .rules_bound import context_of
from .rules_remedies import fewer_bits, smaller_pieces
from .rules_seen import Limit, Said, Seen, middle, missing
from .trend import slope

SWAP = Limit("swap", "swap that came into use", 64e6, "bytes")
PRESSURE = Limit("memory-pressure", "least memory available", 0.05)
BUSY = Limit("busy-machine", "processor taken by other programs", 0.25)
NOISY = Limit("noisy-machine", "distance between the quartiles of the time a token takes", 0.15)

LEAST_ROUNDS = 5  # of which the spread says something
WIDE = 0.1  # of the memory: what a prompt takes from which smaller pieces would make room
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


def _prompting(report: Report) -> tuple[int, float] | None:
    """The case whose prompt took the most memory beside weights and caches, and how many bytes; None where none took so
    much that smaller pieces would make room, or nothing tells. A GPU's own memory is none of the system's.
    """
    took: dict[int, float] = {}
    for index, case in enumerate(report.cases):
        seen = Seen.of(report, index)
        peak, context = seen.summary.peak_memory, context_of(seen)
        if seen.model is None or seen.model.device.startswith("cuda") or peak is None or context is None:
            continue
        cache = kv_bytes(seen.model, context)
        if cache is not None and smaller_pieces(seen) is not None:
            took[index] = peak - sum(model.weights for model in report.models) - cache * case.concurrency
    most = max(took, key=lambda index: took[index], default=None)
    return (most, took[most]) if most is not None and took[most] >= WIDE * report.environment.memory else None


def _room(report: Report, limit: Limit, value: float, evidence: str, cause: str) -> Finding:
    """What makes room: fewer bits, or smaller pieces of a prompt, can be tried at once, where that is much; other
    programs a person has to close.
    """
    case, prompting = _large(report), _prompting(report)
    if case is not None:
        remedy = "Take fewer bits or a smaller model, or close other programs."
        return limit.crossed(case, value, evidence, cause, remedy, fewer_bits(Seen.of(report, case)))
    if prompting is not None:
        case, took = prompting
        evidence += f"; beside weights and cache {report.cases[case].label} took {human_bytes(took)} for its prompt"
        remedy = "Feed the prompt in smaller pieces (--prefill-step), or close other programs."
        return limit.crossed(case, value, evidence, cause, remedy, smaller_pieces(Seen.of(report, case)))
    remedy = "Close other programs, or take fewer bits or a smaller model."
    return limit.crossed(None, value, evidence, cause, remedy)


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
