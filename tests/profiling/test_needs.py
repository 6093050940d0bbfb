"""Bytes and operations of steps and prompts, by sums over their tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.profiling.model.needs import kv_bytes, prompt_bytes, prompt_flops, step_bytes, step_flops
from mlxnb.profiling.model.weights import Costs
from mlxnb.profiling.report import Window

MODEL = Costs(1000.0, 10.0, 500.0, 7.0, (Window(12, 3.0, 2.0), Window(40, 1.0, 4.0)), 50.0, 100.0, 3000.0)


@given(st.integers(1, 200), st.data())
def test_a_prompt_is_its_tokens_one_by_one_with_the_head_for_the_last(tokens, data):
    reused = data.draw(st.integers(0, tokens - 1))
    steps = sum(step_flops(MODEL, context) for context in range(reused + 1, tokens + 1))
    assert prompt_flops(MODEL, tokens, reused) == pytest.approx(steps - 100 * (tokens - reused - 1))


@given(st.integers(0, 300), st.integers(1, 16))
def test_rows_share_the_weights_and_nothing_else(context, rows):
    assert step_bytes(MODEL, context, rows) == pytest.approx(1000 + rows * (step_bytes(MODEL, context) - 1000))
    assert step_flops(MODEL, context, rows) == pytest.approx(rows * step_flops(MODEL, context))


def test_windows_end_and_states_do_not_grow():
    assert kv_bytes(MODEL, 10) == 10 * 10 + 3 * 10 + 1 * 10 + 50
    assert kv_bytes(MODEL, 100) == 10 * 100 + 3 * 12 + 1 * 40 + 50


def test_a_prompt_reads_experts_that_a_token_does_not():
    assert prompt_bytes(MODEL, 100) == 3000 + kv_bytes(MODEL, 100)
    assert prompt_bytes(MODEL, 1) == step_bytes(MODEL, 1)


def test_what_is_not_told_stays_untold():
    assert (
        step_bytes(Costs(), 1) is step_flops(Costs(), 1) is prompt_flops(Costs(), 5) is prompt_bytes(Costs(), 5) is None
    )
