"""A backend with known delays: every figure within 2 % or 1 ms of what its own record says that it did."""

import random
from itertools import pairwise

import numpy as np
import pytest

from mlxnb.profiling.judge.figures import Summary
from tests.scripted import ScriptedBackend

TOKENS = 12
RNG = random.Random(7)
# Gaps as a machine has them: most of them short, a few long.
GAPS = [[0.0 if i == 0 else RNG.lognormvariate(-5.3, 0.5) for i in range(TOKENS)] for _ in range(30)]


def near(found, truth):
    return found == pytest.approx(truth, rel=0.02, abs=0.001)


def delayed(**more):
    pieces = [f"word{i} " for i in range(TOKENS)]
    return ScriptedBackend(pieces, prefill=0.05, delays=lambda request, token: GAPS[request % 30][token], **more)


def truths(backend, warmup):
    """(began, token times) of each run, as the script itself recorded them."""
    return list(zip(backend.began[warmup:], backend.emitted[warmup:], strict=True))


def test_every_figure_is_what_the_script_did(run):
    backend = delayed()
    report = run(backend, runs=9, warmup=1, limits={"ttft": 10})
    found, did = Summary.of(report, 0), truths(backend, 1)
    ttfts = [times[0] - began for began, times in did]
    gaps = [b - a for _, times in did for a, b in pairwise(times)]
    tpots = [(times[-1] - times[0]) / (TOKENS - 1) for _, times in did]
    assert (found.n, found.failed, found.rounds) == (9, 0, 9)
    assert near(found.ttft.median, np.median(ttfts))
    assert found.ttft.median >= 0.05
    assert near(found.tpot.median, np.median(tpots))
    assert found.itl.n == len(gaps) == 9 * (TOKENS - 1)
    for q, value in ((25, found.itl.low), (50, found.itl.median), (75, found.itl.high), (95, found.itl.p95)):
        assert near(value, np.percentile(gaps, q))
    assert found.decode_rate.median == pytest.approx(1 / np.median(tpots), rel=0.02)
    assert found.prefill_rate.median == pytest.approx(10 / np.median(ttfts), rel=0.02)
    assert near(
        found.total.median, np.median([run.timings.token_times[-1] - run.timings.accepted for run in report.runs])
    )
    assert found.goodput == pytest.approx(9 / sum(run.timings.total for run in report.runs), rel=0.02)
    assert all(0 <= run.timings.accepted <= run.timings.start <= report.seconds for run in report.runs)


def test_times_count_from_the_beginning_of_the_profile(run):
    backend = delayed()
    report = run(backend, runs=2, warmup=0)
    first, second = report.runs
    between = backend.emitted[1][0] - backend.emitted[0][0]
    assert near(second.timings.token_times[0] - first.timings.token_times[0], between)
    assert 0 < first.timings.token_times[0] < report.seconds


def test_a_known_decline_is_found(run):
    slower = ScriptedBackend(["a"] * 8, delays=lambda request, token: 0.004 * 1.1**request)
    report = run(slower, runs=9, warmup=0)
    rates = [7 / (times[-1] - times[0]) for times in slower.emitted]
    found = Summary.of(report, 0).drift
    truth = np.exp(np.mean(np.log(rates[-3:])) - np.mean(np.log(rates[:3])))
    assert found.median == pytest.approx(truth, rel=0.02)
    assert found.median < 0.8


def test_warm_ups_are_run_and_left_out(run):
    backend = delayed()
    report = run(backend, runs=2, warmup=3)
    assert len(backend.requests) == 5
    assert [run.round for run in report.runs] == [0, 1]
    assert report.warmup == 3


def test_requests_of_a_plan_look_at_no_cache(run):
    backend = delayed()
    run(backend, runs=1, temperature=0.5, seed=3)
    assert {request.cache for request in backend.requests} == {"off"}
    assert {request.sampling.temperature for request in backend.requests} == {0.5}
