"""One profile from its plan to its report, on the engine that every other front asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ..backends.memory import let_go
from ..decision import Rejected
from ..errors import BackendError, MlxnbError, in_words
from .machine.clock import Clock
from .report import INTERRUPTED, Inside, Report, Run, Sample, Stress
from .runs.cases import cases
from .runs.plan import Plan
from .runs.progress import Progress

if TYPE_CHECKING:
    from ..runtime import Engine
    from .runs.measure import Measured, Measuring

__all__ = ["Progress", "profile"]

AFTER = "interrupted after the runs"


def profile(engine: Engine, plan: Plan, progress: Callable[[Progress], None] | None = None) -> Report:
    """Measure what `plan` names. An interrupt ends it and keeps what was measured: the report is then `partial`.

    Raises:
        OptionError: the plan names a scenario, a field or a model that is not there.
        MlxnbError: nothing of it could be measured.
        KeyboardInterrupt: before anything was measured.
    """
    from .machine.environment import environment
    from .machine.samples import Sampler
    from .runs.measure import Measuring

    clock, began = Clock(), datetime.now(timezone.utc).isoformat(timespec="seconds")
    measuring = Measuring(engine, cases(plan), plan, clock, progress)
    first = measuring.first()
    if progress is not None:  # it is measured the first time, and whenever it was busy
        progress(Progress("looking at this machine", 0, measuring.total, None))
    found = engine.call(lambda: environment(first.device, first.dtype))  # where models have set their threads
    with Sampler(clock) as sampler:
        measured = measuring.all()
        _check(measured)
        report = Report(
            environment=found,
            began=began,
            seconds=clock(),
            warmup=plan.warmup,
            models=measured.models,
            cases=measured.cases,
            runs=measured.runs,
            limits=plan.limits.given(),
            options={name: value for name, value in plan.base.items() if name not in plan.sweep},
            partial=measured.partial,
            notes=measured.notes,
        )
        report = _looked_into(_Steps(engine, plan, clock, measuring, progress), report)
    samples = sampler.samples
    report = replace(report, samples=samples, runs=with_peaks(report.runs, samples))
    report = replace(report, notes=(*report.notes, *sampler.missing))
    try:
        report = _judged(report)
    except KeyboardInterrupt:
        report = replace(report, partial=report.partial or AFTER)
    return replace(report, seconds=clock())


def with_peaks(runs: Sequence[Run], samples: Sequence[Sample]) -> tuple[Run, ...]:
    """Runs with the largest memory that the process was seen with while each went on."""

    def peak(run: Run) -> int | None:
        times = run.timings
        if times is None or run.peak_rss is None:
            return run.peak_rss
        end = times.token_times[-1] if times.token_times else times.start
        return max([run.peak_rss, *(sample.rss for sample in samples if times.accepted <= sample.at <= end)])

    return tuple(replace(run, peak_rss=peak(run)) for run in runs)


def _check(measured: Measured) -> None:
    """Whether there is anything to report of."""
    if any(run.timings is not None for run in measured.runs):
        return
    if measured.partial is not None:
        raise KeyboardInterrupt(measured.partial)
    errors = [each.error for each in measured.runs] + [each.error for each in measured.cases]
    error = next(filter(None, errors), "no case was run")
    raise BackendError(f"Nothing could be measured: {error}", "Ask the model once by itself to see more of it.")


class _Steps:
    """What follows the runs and takes time. What one model gave stays here, whatever becomes of the next."""

    def __init__(
        self,
        engine: Engine,
        plan: Plan,
        clock: Clock,
        measuring: Measuring,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.engine, self.plan, self.clock, self._measuring, self._hears = engine, plan, clock, measuring, progress
        self.insides: list[Inside] = []
        self.stressed: list[Stress] = []
        self.notes: list[str] = []

    def look_inside(self, report: Report) -> None:
        """Time inside a token, of every model that was measured and that can be looked into."""
        from .model.inside import look_inside

        for model, case in _one_each(report):
            which = f"{report.models[model].name} on {report.models[model].backend}"
            self._say(f"time inside a token: {which}")
            with self._noted(f"time inside a token, {which}"):
                seen = look_inside(self.engine, self._measuring.request(case))
                if isinstance(seen, Rejected):
                    self.notes.append(f"{which}: {seen}")
                else:
                    self.insides.append(replace(seen, model=model))

    def stress(self, report: Report) -> None:
        """Every model that was measured, generating without a pause for as long as the plan says."""
        from .runs.stress import stress

        seconds = self.plan.stress_seconds
        for model, case in _one_each(report):
            which = f"{report.models[model].name} on {report.models[model].backend}"
            self._say(f"stress: {which}, {'until memory has settled' if seconds is None else f'{seconds:g} s'}")
            with self._noted(f"stress, {which}"):
                request = self._measuring.request(case)
                self.stressed.append(stress(self.engine, request, seconds, self.clock, case, progress=self._hears))
                if self.stressed[-1].ended == INTERRUPTED:
                    raise KeyboardInterrupt

    @contextmanager
    def _noted(self, what: str) -> Iterator[None]:
        """Within, what fails is a note that says why: of one model it takes nothing from the others."""
        try:
            yield
        except Exception as err:  # noqa: BLE001 - an edge: whatever a library raises must not cost what was measured
            let_go(err)
            self.notes.append(f"{what}: {err if isinstance(err, MlxnbError) else in_words(err)}")

    def _say(self, doing: str) -> None:
        if self._hears is not None:
            total = self._measuring.total
            self._hears(Progress(doing, total, total, None))


def _one_each(report: Report) -> list[tuple[int, int]]:
    """(model, case) of the first case of each model that was answered."""
    found: dict[int, int] = {}
    for place, case in enumerate(report.cases):
        if case.model is not None and report.of(place):
            found.setdefault(case.model, place)
    return sorted(found.items())


def _looked_into(steps: _Steps, report: Report) -> Report:
    """A report with what is measured beside its runs; as far as that came where it was interrupted."""
    if report.partial is not None:
        return report
    partial = None
    try:
        if steps.plan.inside:
            steps.look_inside(report)
        if steps.plan.stress is not None:
            steps.stress(report)
    except KeyboardInterrupt:
        partial = AFTER
    notes = (*report.notes, *steps.notes)
    return replace(report, insides=tuple(steps.insides), stress=tuple(steps.stressed), notes=notes, partial=partial)


def _judged(report: Report) -> Report:
    """A report with all that follows from what was measured."""
    from .judge.compare import comparisons
    from .judge.recommend import other_models, recommendations
    from .judge.roofline import roofline, unplaced
    from .judge.rules import findings

    report = replace(report, roofline=roofline(report), notes=(*report.notes, *unplaced(report)))
    report = replace(report, comparisons=comparisons(report))
    report = replace(report, findings=findings(report))
    return replace(report, recommendations=recommendations(report), others=other_models(report))
