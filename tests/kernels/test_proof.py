"""The proofs: the kernels pass them, wrong paths do not, and the bytes are what the kernels' files say."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.errors import KernelError
from mlxnb.kernels import proof, stock, supported, traffic
from mlxnb.kernels.cases import GRIDS, Case, cases, covering
from mlxnb.kernels.problem import problem, unpacked

mx = pytest.importorskip("mlx.core")

CASE = Case("bfloat16", 64, (8, 2), "bool padding [B, 1, L, S]", False, 3, 5, 80, (8, 64))


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_a_kernel_is_as_near_to_float64_as_stock_on_every_pair_of_values(metal_kernel, name):
    failed = [str(p) for case in covering(name) if not (p := proof.prove(name, case, metal_kernel)).passed]
    assert failed == []


@pytest.mark.metal
@pytest.mark.parametrize("name", sorted(GRIDS))
def test_natively_too(name):
    if not mx.metal.is_available():
        pytest.skip("needs Metal: MLX here has none")
    failed = [str(p) for case in covering(name) if not (p := proof.prove(name, case)).passed]
    assert failed == []


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_the_covering_cases_have_every_pair_that_any_case_has(name):
    grid = GRIDS[name]
    chosen = covering(name)
    assert all(supported.takes(name, case.config) for case in chosen)
    met = {p for case in chosen for p in combinations([(axis, getattr(case, axis)) for axis in grid], 2)}
    # A part of the full grid, drawn evenly: all of it takes minutes.
    for number, case in enumerate(cases(name)):
        if number % 97 == 0:
            assert set(combinations([(axis, getattr(case, axis)) for axis in grid], 2)) <= met
        if number > 20_000:
            break


def test_stock_itself_passes_where_it_is_right():
    assert proof.prove(stock.attention, replace(CASE, mask="causal")).passed


def wrong_scale(call):
    return stock.attention(replace(call, scale=call.scale * 1.05))


def no_mask(call):
    return stock.attention(replace(call, mask=None))


def not_a_number(call):
    return call.queries * float("nan")


def refuses(call):
    raise KernelError("It refuses.")


@pytest.mark.parametrize("path", [wrong_scale, no_mask, not_a_number, refuses])
def test_a_wrong_path_does_not_pass(path):
    result = proof.prove(path, CASE)
    assert not result.passed
    assert "FAILED" in str(result)
    assert path.__name__ in str(result)


def test_zeros_for_queries_that_see_nothing_are_asked_for():
    shut = replace(CASE, mask="bool shut [B, heads, L, S]")
    posed = problem(shut)
    assert (~posed.seeing).any()
    right = np.where(posed.seeing[..., None], posed.expected, 0.0)
    assert posed.blind_are_zero(mx.array(right.astype(np.float32)))
    assert not posed.blind_are_zero(mx.array((right + ~posed.seeing[..., None]).astype(np.float32)))


@pytest.mark.parametrize(
    ("case", "note"),
    [
        (replace(CASE, sinks=True), "stock refuses"),
        (replace(CASE, mask="bool [heads, L, S]"), "stock (refuses|is wrong)"),
        (replace(CASE, mask="additive [B, heads, L, S]", batch=1, pattern=(4, 2)), "stock (refuses|is wrong)"),
    ],
)
def test_where_stock_is_no_yardstick_the_proof_says_so(metal_kernel, case, note):
    result = proof.prove("decode_quantized", case, metal_kernel)
    assert result.stock_error is None
    assert re.match(note, result.stock_note)
    assert result.passed, result


@settings(max_examples=20)
@given(
    bits=st.sampled_from([4, 8]),
    group=st.sampled_from([32, 64]),
    rows=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_unpacking_in_float64_is_what_mlx_dequantises(bits, group, rows, seed):
    array = mx.array(np.random.default_rng(seed).standard_normal((1, 1, rows, 128)).astype(np.float32))
    triple = mx.quantize(array, group_size=group, bits=bits)
    theirs = np.array(mx.dequantize(*triple, group_size=group, bits=bits))
    assert np.allclose(unpacked(triple, bits, group), theirs, rtol=1e-5, atol=1e-6)


def test_a_decode_kernel_reads_every_byte_of_the_cache_once_at_every_ratio(metal_kernel):
    table = traffic.bytes_table(metal_kernel)
    assert {row.ratio for row in table} == {1, 2, 4, 8, 16}
    for row in table:
        assert row.unique == pytest.approx(1.0)
        if row.kernel == "decode_per_head":
            assert row.total == pytest.approx(row.ratio)
        else:
            assert 1.0 <= row.total <= 1.05


def test_the_bytes_of_several_queries_and_masks_are_the_same(metal_kernel):
    case = Case("bfloat16", 128, (32, 2), "bool shut [B, heads, L, S]", False, 1, 8, 300, (4, 64))
    counts = proof.prove("decode_quantized", case, metal_kernel).traffic["decode_quantized"]
    call = problem(case).call
    names = ("keys", "key_scales", "key_biases", "values", "value_scales", "value_biases")
    there = [array.nbytes for array in (*call.keys, *call.values)]
    assert [counts[name].read for name in names] == there
    assert counts["mask"].read == call.mask.nbytes


def test_one_decode_is_timed(metal_kernel):
    assert 0 < traffic.decode_time(4, metal_kernel) < 60
