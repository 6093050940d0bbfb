"""Thresholds are guesses until a person sets them or a measurement knows better."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlxnb.decision import Accepted, Rejected
from mlxnb.errors import OptionError
from mlxnb.kernels import AttentionConfig, configure_optimizer, should_optimize

SHORT, LONG = AttentionConfig(8, 2, 64, 1, 32), AttentionConfig(8, 2, 64, 1, 4096)


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    yield
    configure_optimizer()


def test_a_short_context_is_not_worth_a_try_and_a_long_one_is():
    assert not should_optimize(SHORT)
    assert "32 keys" in should_optimize(SHORT).reason
    assert should_optimize(LONG)


def test_a_measurement_overrides_a_default_threshold():
    won = Accepted("blockwise", "2× stock")
    assert should_optimize(SHORT, won) is won
    lost = Rejected("optimised attention", "not faster")
    assert should_optimize(LONG, lost) is lost


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("min_len", 8192, "4096 keys"),
        ("max_len", 1024, "4096 keys"),
        ("min_ratio", 8, "4 query"),
        ("min_heads", 9, "8 heads"),
    ],
)
def test_what_a_person_sets_binds_even_against_a_measurement(name, value, reason):
    configure_optimizer(**{name: value})
    decision = should_optimize(LONG, Accepted("blockwise", "2× stock"))
    assert not decision
    assert reason in decision.reason
    configure_optimizer()
    assert should_optimize(LONG)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_lenght": 3}, "Unknown threshold 'min_lenght'"),
        ({"min_len": 0}, "min_len is 0"),
        ({"min_len": "9"}, "min_len is '9'"),
        ({"min_ratio": None}, "min_ratio is None"),
        ({"min_heads": True}, "min_heads is True"),
        ({"min_len": 512, "max_len": 256}, "below min_len 512"),
    ],
)
def test_a_threshold_that_makes_no_sense_is_refused_and_changes_nothing(changes, message):
    before = should_optimize(LONG)
    with pytest.raises(OptionError, match=message):
        configure_optimizer(**changes)
    assert should_optimize(LONG) == before
