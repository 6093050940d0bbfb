"""What the rules look at: the figures of one case, gathered once, and those of the machine around it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from ...decision import Rejected
from ..report import Case, Finding, Inside, Phase, Point, Profiled, Report, Run, Sample, Trial
from .figures import Summary

# What a rule says of a case: what it found, that its figures are fine, or which figure it would need.
Said = Finding | None | Rejected

# By how much the part of an answer that a rule is about must matter: it takes at least this share of the time.
MOST = 0.5


@dataclass(frozen=True, slots=True)
class Seen:
    """One case with its figures. `summary` is of its answered runs; `samples` are those taken while they ran."""

    report: Report
    index: int
    case: Case
    model: Profiled | None
    runs: tuple[Run, ...]
    summary: Summary
    points: tuple[Point, ...]
    inside: Inside | None
    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, report: Report, index: int) -> Seen:
        """The figures of the case with that index in `report.cases`."""
        case, runs = report.cases[index], report.of(index)
        known = case.model is not None and 0 <= case.model < len(report.models)
        points = report.roofline.points if report.roofline is not None else ()
        return cls(
            report=report,
            index=index,
            case=case,
            model=report.models[case.model] if known and case.model is not None else None,
            runs=runs,
            summary=Summary.of(report, index),
            points=tuple(point for point in points if point.case == index),
            inside=next((each for each in report.insides if known and each.model == case.model), None),
            samples=during(report.samples, runs),
        )

    @property
    def mine(self) -> bool:
        """Whether the model ran in this process, so that its CPU time and memory are the process's."""
        return self.model is not None and not any(run.clients for run in self.runs)

    @property
    def decoding(self) -> float | None:
        """The share of prefill and decode that went into decode, 0 to 1; None where either is not known."""
        prefill, tpot, tokens = self.summary.ttft, self.summary.tpot, self.summary.generation_tokens
        if prefill is None or tpot is None or tokens is None:
            return None
        decode = tpot.median * max(0.0, tokens.median - 1)
        whole = prefill.median + decode
        return decode / whole if whole > 0 else None

    @property
    def phase(self) -> Phase | None:
        """The phase that takes the most of its time."""
        share = self.decoding
        return None if share is None else "decode" if share >= MOST else "prefill"

    def utilised(self, phase: Phase) -> tuple[float | None, float | None]:
        """MBU and MFU of a phase, the medians of its points."""
        here = [point for point in self.points if point.phase == phase]
        return middle(point.mbu for point in here), middle(point.mfu for point in here)


def during(samples: Sequence[Sample], runs: Sequence[Run]) -> tuple[Sample, ...]:
    """The samples from the beginning of the first run to the end of the last."""
    times = [run.timings for run in runs if run.timings is not None]
    if not times:
        return ()
    first = min(t.accepted for t in times)
    last = max(t.token_times[-1] if t.token_times else t.start for t in times)
    return tuple(sample for sample in samples if first <= sample.at <= last)


def middle(values: Iterable[float | None]) -> float | None:
    """The median of those that are there; None where none is."""
    held = [value for value in values if value is not None]
    return median(held) if held else None


def thirds(values: Iterable[float | None]) -> tuple[float, float] | None:
    """The medians of the first and the last third of those that are there; None of fewer than three."""
    held = [value for value in values if value is not None]
    third = len(held) // 3
    return (median(held[:third]), median(held[-third:])) if third else None


def missing(rule: str, figure: str) -> Rejected:
    """What a rule would have needed."""
    return Rejected(rule, f"no {figure}")


@dataclass(frozen=True, slots=True)
class Limit:
    """What a rule watches: a `figure` in a `unit`, and the `threshold` that it must not cross."""

    rule: str
    figure: str
    threshold: float
    unit: str = "share"

    def crossed(
        self, case: int | None, value: float, evidence: str, cause: str, remedy: str, trial: Trial | None = None
    ) -> Finding:
        """The finding that it was."""
        return Finding(self.rule, case, self.figure, value, self.threshold, self.unit, evidence, cause, remedy, trial)
