"""From a backend with something known wrong, through real measuring, to the one finding that names it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from mlxnb.profiling.judge.figures import Summary
from mlxnb.profiling.judge.rules import findings
from mlxnb.profiling.machine.clock import Clock
from mlxnb.profiling.report import Report
from mlxnb.profiling.runs.cases import cases
from mlxnb.profiling.runs.measure import measure
from mlxnb.profiling.runs.plan import Plan
from mlxnb.profiling.runs.stress import stress
from mlxnb.request import Request
from mlxnb.runtime import Engine
from tests.profiling.reports import healthy
from tests.profiling.slow import LeakyBackend, TimedBackend
from tests.scripted import ScriptedBackend

TOKENS = 12
TEXT = [f" {number}" for number in range(64)]
PLAN = Plan(models=("pocket",), scenarios=("simple",), runs=9, warmup=0, max_tokens=TOKENS)


def report_of(backend: ScriptedBackend, plan: Plan = PLAN) -> Report:
    """What a profile of the backend measures, without the samples of whatever else this machine does."""
    engine = Engine({"scripted": backend}, caching=False)
    try:
        got = measure(engine, cases(plan), plan, Clock())
    finally:
        engine.close()
    return healthy(models=got.models, cases=got.cases, runs=got.runs, samples=(), insides=(), roofline=None, stress=())


def counting(rate: Callable[[int], float]) -> TimedBackend:
    """Decodes the i-th measured request at `rate(i)`; those that ask how long a prompt is do not count."""
    measured = itertools.count()

    def of(place: int, request: Request) -> float:
        return rate(next(measured)) if request.max_tokens == TOKENS else 1000.0

    return TimedBackend(of, pieces=TEXT)


def names(report: Report) -> list[str]:
    return [each.rule for each in findings(report)]


def test_a_known_decline_is_found_with_its_size():
    report = report_of(counting(lambda i: 500.0 * (1 - 0.04 * i)))
    (finding,) = findings(report)
    assert finding.rule == "decline"
    # thirds of nine rounds: the geometric means of rounds 7 to 9 over those of 1 to 3
    first, last = (0.96 * 0.92) ** (1 / 3), (0.76 * 0.72 * 0.68) ** (1 / 3)
    assert finding.value == pytest.approx(1 - last / first, abs=0.02)
    assert Summary.of(report, 0).rounds == 9


def test_a_steady_backend_has_nothing_wrong():
    assert names(report_of(counting(lambda i: 500.0))) == ["nothing-found"]


def test_rounds_that_come_and_go_are_noise():
    unrest = [500, 250, 480, 260, 510, 240, 495, 255, 505]
    assert names(report_of(counting(lambda i: unrest[i]))) == ["noisy-machine"]


def test_a_model_that_fails_in_run_3_of_5_is_one_failure_and_no_more():
    measured = itertools.count()

    def rate(place: int, request: Request) -> float:
        if request.max_tokens == TOKENS and next(measured) == 2:
            raise RuntimeError("the driver fell over")
        return 500.0

    report = report_of(TimedBackend(rate, pieces=TEXT), replace(PLAN, runs=5))
    (finding,) = findings(report)
    assert (finding.rule, finding.value) == ("failures", 1)
    assert "1 of 5 requests failed" in finding.evidence
    assert "the driver fell over" in finding.evidence


def test_no_generated_token_is_said():
    backend = TimedBackend(lambda place, request: 500.0, pieces=[])
    assert "empty-answers" in names(report_of(backend))


def test_several_at_once_on_a_backend_that_computes_one_by_one_queue():
    plan = replace(PLAN, runs=3, concurrency=(8,))
    backend = ScriptedBackend(TEXT, prefill=0.01, delay=0.003)
    (finding,) = [each for each in findings(report_of(backend, plan)) if each.rule == "queueing"]
    assert "one batch (mlx or torch)" in finding.remedy


def test_a_known_leak_is_found_by_a_stress_and_named():
    backend = LeakyBackend(lambda i: 1_048_576)
    engine = Engine({"scripted": backend}, caching=False)
    try:
        found = stress(engine, Request.of("Go on.", cache="off"), 120, itertools.count().__next__, 0)
    finally:
        engine.close()
    (finding,) = [each for each in findings(healthy(stress=(found,))) if each.rule != "decline"]  # its speed is real
    assert finding.rule == "leak"
    assert finding.value == pytest.approx(1_048_576, rel=0.02)
    assert "1.0 MB" in finding.evidence
