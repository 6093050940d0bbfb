"""Figures against their definitions: percentiles by hypothesis, every figure of a case by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.profiling import Report
from mlxnb.profiling.judge.figures import Spread, Summary, by_round, drift, percentile, throughput, wall
from mlxnb.profiling.report import Case, Run
from mlxnb.profiling.show.markdown import to_markdown
from mlxnb.profiling.show.sections_speed import figures_tables
from mlxnb.result import Timings
from tests.profiling.siblings import PLACE

CASE_OF_THREE = Case("simple, 3 at once", "simple", 0, concurrency=3)
VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=150)


@given(VALUES, st.floats(0, 100))
def test_percentiles_are_numpys_where_enough_values_stand_behind_them(values, q):
    found = percentile(values, q)
    far = max(q, 100 - q)
    needed = 1 if q in (0, 100) or far < 95 else 20 if far < 99 else 100
    if len(values) < needed:
        assert found is None
    else:
        assert found == pytest.approx(float(np.percentile(values, q)))
        assert (
            min(values) <= found <= max(values) or math.isclose(found, min(values)) or math.isclose(found, max(values))
        )


@pytest.mark.parametrize(("q", "needed"), [(50, 1), (90, 1), (95, 20), (99, 100), (5, 20), (1, 100)])
def test_the_number_of_values_that_a_percentile_needs(q, needed):
    assert percentile(range(needed), q) is not None
    assert percentile(range(needed - 1), q) is None


def test_no_values_have_no_percentile_and_no_spread():
    assert percentile([], 50) is None
    assert Spread.of([]) is None
    assert Spread.of([None, None]) is None


@given(VALUES)
def test_a_spread_lies_in_order(values):
    spread = Spread.of([*values, None])
    assert spread.n == len(values)
    assert spread.low <= spread.median <= spread.high
    assert (spread.p95 is None) == (len(values) < 20)
    assert (spread.p99 is None) == (len(values) < 100)
    assert spread.relative >= 0


def answered(number, t0, start, *tokens, case=0, prompt=100, reused=0, **more):
    times = Timings(t0, start, tokens, prompt, reused, first_visible=tokens[0] if tokens else None)
    return Run(case, number, times, generation_tokens=len(tokens), **more)


def report(*runs, **more):
    return Report(PLACE, "2026-01-01T00:00:00+00:00", 1.0, 1, cases=(Case("a case", "simple", 0),), runs=runs, **more)


def test_every_figure_of_a_case_is_what_its_definition_says():
    runs = (
        answered(0, 0.0, 0.1, 0.6, 0.7, 0.9, reused=20, energy=3.0, proposed=4, accepted=3, peak_memory=7, peak_rss=9),
        answered(1, 2.0, 2.2, 2.6, 2.8, energy=1.0, proposed=4, accepted=1, peak_memory=5, peak_rss=11),
        Run(0, 2, None, error="it fell over"),
        answered(0, 0.0, 0.0, 9.0, case=1),
    )
    found = Summary.of(report(*runs), 0)
    assert (found.n, found.failed, found.rounds) == (2, 1, 2)
    assert found.ttft.median == pytest.approx((0.5 + 0.4) / 2)
    assert found.queue.median == pytest.approx(0.15)
    assert found.visible.median == pytest.approx(0.45)
    assert found.tpot.median == pytest.approx((0.15 + 0.2) / 2)
    assert found.itl.n == 3
    assert found.itl.median == pytest.approx(0.2)
    assert found.prefill_rate.median == pytest.approx((80 / 0.5 + 100 / 0.4) / 2)
    assert found.decode_rate.median == pytest.approx((1 / 0.15 + 1 / 0.2) / 2)
    assert found.total.median == pytest.approx((0.9 + 0.8) / 2)
    assert found.throughput.median == pytest.approx((3 / 0.9 + 2 / 0.8) / 2)
    assert found.reused_tokens.median == 10
    assert (found.peak_memory, found.peak_rss) == (7, 11)
    assert found.energy == pytest.approx(4 / 5)
    assert found.acceptance == pytest.approx(4 / 8)
    assert found.goodput is None  # nobody gave a limit
    assert found.drift is None  # of so few rounds


def test_a_case_in_which_nothing_came_has_no_figures():
    found = Summary.of(report(Run(0, 0, None, error="out of memory")), 0)
    assert (found.n, found.failed, found.rounds) == (0, 1, 0)
    assert found.ttft is found.itl is found.throughput is found.energy is found.peak_memory is found.drift is None


def test_an_answer_of_one_token_has_no_tpot_and_one_of_none_no_ttft():
    found = Summary.of(report(answered(0, 0.0, 0.0, 0.5), answered(1, 1.0, 1.0)), 0)
    assert found.n == 2
    assert found.ttft.n == 1
    assert found.tpot is None
    assert found.itl is None


def test_acceptance_is_told_by_position():
    """A guess further ahead is right less often, which says how many to make."""
    drafted = (
        answered(0, 0.0, 0.1, 0.2, 0.3, proposed=30, accepted=18, positions=((10, 9), (10, 6), (10, 3))),
        answered(1, 1.0, 1.1, 1.2, 1.3, proposed=11, accepted=4, positions=((10, 3), (1, 1))),
    )
    found = Summary.of(report(*drafted), 0)
    assert found.acceptance == pytest.approx(22 / 41)
    assert found.by_position == pytest.approx((12 / 20, 7 / 11, 3 / 10))
    assert "| 60, 64, 30 |" in to_markdown(report(*drafted))
    plain = report(answered(0, 0.0, 0.1, 0.2, 0.3))
    assert Summary.of(plain, 0).by_position == ()
    assert "by position" not in to_markdown(plain)


def columns(found):
    return figures_tables(found)[0].columns


def test_what_no_case_has_is_no_column():
    plain = report(*(answered(i, float(i), i + 0.1, i + 0.2, i + 0.3) for i in range(3)))
    assert not {("queue", "ms"), ("first visible", "ms"), ("drift", "%")} & set(columns(plain))


def test_thinking_waiting_and_a_drift_have_columns_of_their_own():
    thinking = answered(0, 0.0, 0.1, 0.2, 0.3)
    thinking = replace(thinking, timings=replace(thinking.timings, first_visible=0.3))
    assert ("first visible", "ms") in columns(report(thinking))
    together = replace(report(*(answered(0, 0.0, 0.1 * i, 1.0, 1.1) for i in range(3))), cases=(CASE_OF_THREE,))
    assert ("queue", "ms") in columns(together)
    slower = report(*(answered(i, float(i), i + 0.1, i + 0.2, i + 0.3 + i / 100) for i in range(6)))
    table = figures_tables(slower)[0]
    drift_of = table.columns.index(("drift", "%"))
    gaps = [0.1 + i / 100 for i in range(6)]
    lost = 100 * ((gaps[0] * gaps[1] / gaps[4] / gaps[5]) ** 0.5 - 1)
    assert table.rows[0][drift_of] == pytest.approx(lost, abs=0.06)


def test_the_time_between_two_turns_is_nobodys():
    """There the next prompt is fitted to its length, which is our affair."""
    first = Run(0, 0, Timings(1.0, 1.5, (2.0, 3.0), 10), generation_tokens=2, turn=0)
    later = Run(0, 0, Timings(7.0, 7.5, (8.0, 9.0), 20), generation_tokens=2, turn=1)
    assert wall([later, first]) == pytest.approx(4.0)
    assert throughput([first, later]) == pytest.approx(1.0)
    overlapping = Run(0, 0, Timings(2.5, 3.0, (4.0,), 20), generation_tokens=1)
    assert wall([first, overlapping]) == pytest.approx(3.0)


def test_throughput_counts_all_requests_of_a_round_over_the_time_that_it_took():
    together = [answered(0, 0.0, 0.0, 1.0, 2.0), answered(0, 0.5, 1.0, 1.5, 4.0)]
    assert wall(together) == pytest.approx(4.0)
    found = Summary.of(report(*together), 0)
    assert found.rounds == 1
    assert found.throughput.median == pytest.approx(4 / 4.0)


def test_loading_a_model_is_no_part_of_a_round():
    times = Timings(0.0, 5.0, (5.5, 6.0), 10, load_time=4.0)
    assert wall([Run(0, 0, times, generation_tokens=2)]) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("limits", "good"),
    [
        ({"ttft": 0.65}, 1),  # 0.6 and 0.8 from when they were accepted: a person waits in the queue too
        ({"ttft": 1.0}, 2),
        ({"tpot": 0.1}, 1),
        ({"ttft": 0.65, "tpot": 0.05}, 0),
        ({"total": 2.0, "ttft": 1.0, "tpot": 1.0}, 2),
    ],
)
def test_goodput_counts_the_requests_that_meet_every_limit(limits, good):
    runs = (answered(0, 0.0, 0.3, 0.6, 0.8, 1.0), answered(1, 1.0, 1.1, 1.8, 1.9))
    assert Summary.of(report(*runs, limits=limits), 0).goodput == pytest.approx(good / (1.0 + 0.9))


def test_an_answer_without_a_token_meets_no_limit_and_one_token_breaks_none_on_tpot():
    runs = (answered(0, 0.0, 0.1), answered(1, 1.0, 1.0, 2.0))
    assert Summary.of(report(*runs, limits={"tpot": 0.001}), 0).goodput == pytest.approx(1 / 1.1)


def rounds_of(*rates):
    return by_round([answered(i, i, i + 0.1, i + 0.2, i + 0.2 + 1 / rate) for i, rate in enumerate(rates)])


@given(st.floats(0.2, 3.0), st.integers(4, 24))
def test_a_known_decline_is_found_between_the_first_and_the_last_third(factor, count):
    third = max(1, round(count / 3))
    rates = [10.0] * third + [10.0 * factor**0.5] * (count - 2 * third) + [10.0 * factor] * third
    found = drift(rounds_of(*rates))
    assert found.median == pytest.approx(factor)
    assert found.low <= found.median <= found.high
    assert found.pairs == third


def test_a_steady_decline_differs_and_noise_does_not():
    rng = np.random.default_rng(0)
    declining = drift(rounds_of(*(10 * 0.97**i * rng.normal(1, 0.005) for i in range(12))))
    assert declining.differs
    assert declining.median == pytest.approx(0.97**8, rel=0.02)
    differ = [drift(rounds_of(*(10 * rng.normal(1, 0.05) for _ in range(9)))).differs for _ in range(200)]
    assert sum(differ) < 200 * 0.12  # an interval of 95 % errs in one of twenty


@pytest.mark.parametrize("count", [0, 1, 3])
def test_three_rounds_have_no_first_and_last_third(count):
    assert drift(rounds_of(*[10.0] * count)) is None
