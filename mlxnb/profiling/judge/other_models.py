"""Bigger and smaller models of the catalogue that fit here, with the decode rate that the roofline gives them."""

from __future__ import annotations

from statistics import median

from ... import hardware
from ...models.recommended import BITS, Recommended, recommend
from ...models.uses import USES
from ...render.numbers import count
from ..report import OtherModel, Profiled, Report

MOST = 4  # bigger ones, and smaller ones
SMALL = 0.3  # an MBU under which time goes elsewhere than into reading, so that it says nothing of a larger model


def other_models(report: Report, on_device: int | None = None) -> tuple[OtherModel, ...]:
    """Models that fit beside what else is in memory, from the largest to the smallest: some that are bigger than what
    was profiled, and some that are smaller. Their decode rate is the measured bandwidth times the MBU that was measured
    here, over the bytes that they read for a token at 4,096 tokens of context; None where either was not measured.
    Where that MBU is a SMALL one, it is what all of the bandwidth would allow.

    `on_device`: bytes of a GPU with memory of its own; asked of the system where not given.
    """
    if not report.models:
        return ()
    own, free = report.models[0], _free(report, on_device)
    mbu, of = _mbu(report)
    used = mbu if mbu is None or mbu >= SMALL else 1.0
    reach = report.environment.bandwidth * used if report.environment.bandwidth and used else None
    found: dict[str, Recommended] = {}
    for use in USES[:-1]:  # models that draft for others are no answer by themselves
        for each in recommend(use, free, bandwidth=reach, mlx=own.backend == "mlx", precisions=_precisions(own)):
            found.setdefault(each.model.name, each)
    sized = sorted(found.values(), key=lambda each: -each.room.weights)
    others = [each for each in sized if own.name not in (each.name, each.model.name)]
    bigger = [each for each in others if each.room.weights > own.weights]
    smaller = [each for each in others if each.room.weights <= own.weights]
    return tuple(_told(each, mbu, of) for each in (*_spread(bigger), *_spread(smaller)))


def _spread(held: list[Recommended]) -> list[Recommended]:
    """At most so many of them, from the largest to the smallest, evenly apart."""
    if len(held) <= MOST:
        return held
    return [held[round(place * (len(held) - 1) / (MOST - 1))] for place in range(MOST)]


def _free(report: Report, on_device: int | None) -> int:
    """Bytes that a model could have in the place of the one that was profiled: what was available, and its own."""
    own, memory = report.models[0], report.environment.memory
    if own.device.startswith("cuda"):
        cards = [gpu.memory_total for gpu in hardware.accelerators() if gpu.kind in ("cuda", "rocm")]
        return on_device or next((total for total in cards if total), 0)
    available = max((sample.available for sample in report.samples), default=hardware.memory_free())
    return min(memory or available, available + own.weights)


def _mbu(report: Report) -> tuple[float | None, str]:
    """The median MBU of decode with the first model and one request at a time, and the model's name."""
    points = report.roofline.points if report.roofline is not None else ()
    cases = {i for i, case in enumerate(report.cases) if case.model == 0 and case.concurrency == 1}
    known = [each.mbu for each in points if each.phase == "decode" and each.case in cases and each.mbu is not None]
    return (median(known) if known else None), report.models[0].name


def _precisions(own: Profiled) -> tuple[str, ...]:
    """Torch has int4 for CPUs only."""
    return ("8-bit",) if own.backend == "torch" and own.device != "cpu" else tuple(BITS)


def _told(each: Recommended, mbu: float | None, of: str) -> OtherModel:
    fits = f"{'fits' if each.room.state == 'fits' else 'fits barely'}: {_sizes(each)}"
    if mbu is None or each.rate is None:
        note = "no decode rate: bandwidth or MBU was not measured"
    elif mbu < SMALL:
        note = f"at most, with all of the bandwidth, of which {of} used {mbu:.1%}"
    else:
        note = f"at the MBU of {mbu:.0%} that {of} reached"
    return OtherModel(each.name, round(each.room.weights), fits, each.rate, f"{each.precision}, {note}")


def _sizes(each: Recommended) -> str:
    need, free = hardware.human_bytes(each.room.need), hardware.human_bytes(each.room.free)
    return f"{need} of {free} with {count(each.room.tokens)} tokens of context"
