"""Limits of the monitor: when they are crossed, what is logged, what is no limit."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.errors import OptionError
from mlxnb.profiling.moments import Moment
from mlxnb.widgets.monitor.limits import FEWEST, KEPT, LIMITS, Alarms, Limit, log_html

CALM = Moment(0.0, 0.0, 0, 0, None, None, 0, None, None, None, 0, 0, 10**9, 8 * 10**9, None, 0, None, 0, None, None)


def limit(figure: str) -> Limit:
    return next(each for each in LIMITS if each.figure == figure)


def test_an_alert_begins_ends_and_is_logged_once_each() -> None:
    alarms = Alarms()
    for at, free in enumerate((8, 3, 2, 4, 9, 9)):
        alarms.look(replace(CALM, at=float(at), free=free * 10**9), {"Free memory": 5e9})
        assert ("Free memory" in alarms.over) == (free < 5)
    assert [(alert.at, alert.over) for alert in alarms.log] == [(1.0, True), (4.0, False)]
    first, last = map(str, alarms.log)
    assert first.endswith("Free memory: 3 GB, below the limit of 5 GB")
    assert last.endswith("Free memory: 9 GB, no longer below the limit of 5 GB")
    assert log_html(alarms).index("no longer") < log_html(alarms).index("3 GB")


def test_a_slow_first_token_stays_an_alert_until_the_next_answer() -> None:
    alarms, bounds = Alarms(), {"Time to first token": 0.5}
    for slowest, over in ((None, False), (0.9, True), (None, True), (0.4, False), (None, False)):
        alarms.look(replace(CALM, ttft_slowest=slowest), bounds)
        assert bool(alarms.over) == over
    assert len(alarms.log) == 2


def test_another_limit_or_none_ends_an_alert() -> None:
    alarms, hot = Alarms(), replace(CALM, temperature=90.0)
    alarms.look(hot, {"Temperature": 80.0})
    alarms.look(hot, {"Temperature": 70.0})
    assert alarms.over["Temperature"].bound == 70.0
    alarms.look(hot, {})
    assert alarms.over == {}


def test_a_hit_rate_of_a_few_lookups_is_no_alert() -> None:
    alarms, bounds = Alarms(), {"Prompts with a cached prefix": 0.5}
    alarms.look(replace(CALM, prefixes_hit=0.0, prefixes_n=FEWEST - 1), bounds)
    assert not alarms.over
    alarms.look(replace(CALM, prefixes_hit=0.0, prefixes_n=FEWEST), bounds)
    assert alarms.over


def test_the_log_is_bounded() -> None:
    alarms = Alarms()
    for i in range(3 * KEPT):
        alarms.look(replace(CALM, free=i % 2 * 10**10), {"Free memory": 5e9})
    assert len(alarms.log) == KEPT


@given(st.floats(0, 1e12, allow_nan=False))
def test_a_number_is_taken_in_the_unit_of_its_label(number: float) -> None:
    for each in LIMITS:
        assert each.value(f" {number!r} ") == number * each.factor
        assert each.value("  ") is None


@pytest.mark.parametrize("text", ["much", "nan", "inf", "-1", "1,5", "1,000", "0x10", "<b>"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="Free memory below, GB") as error:
        limit("Free memory").value(text)
    assert "1.5" in error.value.remedy


def test_nothing_is_held_against_a_figure_that_is_not_known() -> None:
    alarms = Alarms()
    alarms.look(replace(CALM, temperature=None, process=None), {"Temperature": 0.0, "Memory of this process": 0.0})
    assert alarms.over == {}
