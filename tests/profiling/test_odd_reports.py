"""Reports with odd figures in them: showing, drawing, saving and comparing them is never what fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from mlxnb.profiling.judge.compare import against, comparisons
from mlxnb.profiling.report import Comparison, Predicted, Ratio, Report, Roofline

from .whole_reports import full, single, turns

FULL = full(runs=2)


def no_tokens(report: Report) -> Report:
    runs = (replace(run, timings=run.timings and replace(run.timings, token_times=())) for run in report.runs)
    return replace(report, runs=tuple(runs))


def at_one_moment(report: Report) -> Report:
    """Every token came at the moment that the request was accepted, as a clock that stands still would tell."""
    runs = []
    for run in report.runs:
        at = run.timings.accepted if run.timings else 0.0
        timings = run.timings and replace(run.timings, start=at, token_times=(at,) * 4)
        runs.append(replace(run, timings=timings))
    return replace(report, runs=tuple(runs))


def backwards(report: Report) -> Report:
    """A clock that runs backwards."""
    runs = (
        replace(run, timings=run.timings and replace(run.timings, token_times=run.timings.token_times[::-1]))
        for run in report.runs
    )
    return replace(report, runs=tuple(runs))


ODD: dict[str, Callable[[], Report]] = {
    "no tokens": lambda: no_tokens(FULL),
    "at one moment": lambda: at_one_moment(FULL),
    "backwards": lambda: backwards(FULL),
    "all failed": lambda: replace(FULL, runs=tuple(replace(r, timings=None, error="x") for r in FULL.runs)),
    "no run": lambda: replace(FULL, runs=()),
    "one round": lambda: full(runs=1),
    "no model": lambda: replace(
        single(), models=(), cases=(replace(single().cases[0], model=None, error="x"),), runs=()
    ),
    "memory of zero": lambda: replace(FULL, runs=tuple(replace(r, peak_memory=0, energy=0.0) for r in FULL.runs)),
    "one sample": lambda: replace(FULL, samples=FULL.samples[:1]),
    "samples at one moment": lambda: replace(FULL, samples=tuple(replace(s, at=1.0) for s in FULL.samples)),
    "no gain in a comparison": lambda: replace(FULL, comparisons=(Comparison(1, 0, ()),)),
    "a ratio down to zero": lambda: replace(FULL, comparisons=(Comparison(1, 0, (Ratio("ttft", 1, 0, 2, 3),)),)),
    "a machine without a speed": lambda: replace(FULL, roofline=replace(FULL.roofline, bandwidth=0.0)),
    "a context of zero": lambda: replace(
        FULL, roofline=Roofline(1e9, 1e12, "float32", (), (Predicted(0, 0, 0.0, None), Predicted(0, 0, 1.0, 1.0)))
    ),
    "nothing inside": lambda: replace(FULL, insides=(replace(FULL.insides[0], shares=(), synchronised=0.0),)),
    "inside without a free step": lambda: replace(FULL, insides=(replace(FULL.insides[0], free=0.0),)),
    "a stress of one request": lambda: replace(FULL, stress=(replace(FULL.stress[0], memory=((0.0, 1),)),)),
    "a stress that does not move": lambda: replace(
        FULL, stress=(replace(FULL.stress[0], growth=0.0, memory=((0.0, 5), (1.0, 5))),)
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_it_is_shown_drawn_saved_and_compared(name: str) -> None:
    report = ODD[name]()
    bundle = report._repr_mimebundle_()
    assert "Machine" in bundle["text/html"]
    assert report.to_markdown().startswith("# Profile")
    assert Report.from_json(report.to_json()) == report
    assert all(plot.png().startswith(b"\x89PNG") for plot in report.plots().values())
    comparisons(report)
    for pair in ((report, FULL), (FULL, report)):
        assert against(*pair)._repr_mimebundle_()["text/plain"].startswith("Against")


@pytest.mark.parametrize("rounds", [2, 3])
def test_few_rounds_give_wide_intervals_that_stay_in_bounds(rounds: int) -> None:
    [comparison] = comparisons(turns(speed=3.0, rounds=rounds, noise=0.4))
    for ratio in comparison.ratios:
        assert 0.001 <= ratio.low <= ratio.median <= ratio.high <= 1000
