"""The Metal kernels, run by the emulator: shapes they take, layouts they read, and what must not change the answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlxnb.errors import KernelError
from mlxnb.kernels import fused, source, supported, tiling
from mlxnb.kernels.call import Call
from mlxnb.kernels.cases import GRIDS, MASKS, PATTERNS, Case
from mlxnb.kernels.config import AttentionConfig
from mlxnb.kernels.problem import problem, to_numpy
from mlxnb.kernels.proof import KERNELS, prove
from mlxnb.kernels.tiling import HEAD_DIMS

mx = pytest.importorskip("mlx.core")

PLAIN = AttentionConfig(num_heads=8, num_kv_heads=2, head_dim=128, query_len=1, kv_len=100)
PACKED = replace(PLAIN, kv_bits=4, group_size=64)


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("decode_dense", PACKED, "the cache is quantised"),
        ("decode_quantized", PLAIN, "the cache is not quantised"),
        ("decode_dense", replace(PLAIN, dtype="float64"), "the dtype is float64"),
        ("decode_dense", replace(PLAIN, head_dim=72), "head_dim is 72"),
        ("prefill_dense", replace(PLAIN, num_heads=9), "9 heads do not share 2 KV heads evenly"),
        ("decode_dense", replace(PLAIN, kv_len=0), "there are no keys"),
        ("decode_quantized", replace(PACKED, kv_bits=6), "the cache has 6 bits"),
        ("decode_quantized", replace(PACKED, group_size=128), "the groups have 128 values"),
        ("decode_quantized", replace(PACKED, head_dim=80), "head_dim 80 is no multiple of group size 64"),
        ("decode_quantized", replace(PACKED, head_dim=96), "head_dim 96 is no multiple of group size 64"),
        ("decode_dense", replace(PLAIN, query_len=9), "there are 9 queries"),
        ("decode_dense", replace(PLAIN, num_heads=514), "257 rows share a KV head (query heads × queries)"),
    ],
)
def test_what_a_kernel_cannot_do_is_rejected_with_the_reason(name, config, reason):
    decision = supported.takes(name, config)
    assert not decision
    assert decision.reason == reason


@pytest.mark.parametrize("head_dim", HEAD_DIMS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_combination_asked_for_is_taken(head_dim, pattern):
    heads, kv_heads = pattern
    config = replace(PLAIN, num_heads=heads, num_kv_heads=kv_heads, head_dim=head_dim, query_len=8)
    assert supported.takes("decode_dense", config)
    assert supported.takes("prefill_dense", replace(config, query_len=1000))
    for group in (32, 64):
        packed = replace(config, kv_bits=8, group_size=group)
        assert bool(supported.takes("decode_quantized", packed)) == (head_dim % group == 0)


@given(head_dim=st.sampled_from(HEAD_DIMS), packed=st.booleans(), height=st.integers(1, 256))
def test_a_tiling_covers_rows_and_head_dim_within_metals_limits(head_dim, packed, height):
    if (packed and head_dim == 80) or height > tiling.most_rows(head_dim, packed):
        return
    laid = tiling.tiling(head_dim, height, packed)
    assert laid.lanes in (4, 8, 16, 32)
    assert laid.lanes * laid.elements >= head_dim
    assert laid.rows * (laid.simdgroups if laid.staged else 1) >= height
    assert laid.rows * laid.elements <= tiling.REGISTERS
    assert laid.simdgroups * 32 <= 1024
    if packed:
        assert 32 // laid.elements >= 4  # four lanes to a group, for four keys' scales
    if not laid.staged:
        assert 4 * laid.simdgroups * laid.rows * head_dim <= 16 * 1024  # the board that the simdgroups meet on


@st.composite
def drawn_cases(draw: st.DrawFn) -> tuple[str, Case]:
    name = draw(st.sampled_from(sorted(KERNELS)))
    grid = {axis: st.sampled_from(values) for axis, values in GRIDS[name].items()}
    grid["kv_len"] = st.integers(1, 300)
    grid["query_len"] = st.integers(1, 20 if name == "prefill_dense" else 8)
    case = draw(st.builds(Case, **grid).filter(lambda case: bool(supported.takes(name, case.config))))
    return name, case


@settings(max_examples=15, suppress_health_check=list(HealthCheck))
@given(drawn=drawn_cases())
def test_any_case_is_as_near_to_float64_as_stock_and_clean(metal_kernel, drawn):
    name, case = drawn
    proof = prove(name, case, metal_kernel)
    assert proof.passed, proof


CASE = Case("float32", 64, (8, 2), "bool shut [B, heads, L, S]", True, 2, 3, 70)
CALLS = [
    ("decode_quantized", replace(CASE, packing=(4, 32))),
    ("decode_quantized", replace(CASE, packing=(8, 64), query_len=1)),
    ("decode_dense", CASE),
    ("decode_dense", replace(CASE, query_len=1)),
    ("prefill_dense", CASE),
]


def strided(array):
    """The same values at steps of two along head_dim and with the middle axes swapped in memory."""
    wide = mx.stack([array, array * 0], axis=-1).reshape(*array.shape[:-1], -1)
    swapped = mx.contiguous(wide.swapaxes(1, 2))
    return swapped.swapaxes(1, 2)[..., ::2]


@pytest.mark.parametrize(("name", "case"), CALLS)
def test_the_layout_in_memory_changes_nothing(metal_kernel, name, case):
    call = problem(case).call
    packed = call.bits is not None
    moved = replace(
        call,
        queries=strided(call.queries),
        keys=tuple(map(strided, call.keys)) if packed else strided(call.keys),
        values=tuple(map(strided, call.values)) if packed else strided(call.values),
        mask=mx.contiguous(call.mask.swapaxes(-1, -2)).swapaxes(-1, -2),
        sinks=mx.stack([call.sinks, call.sinks * 0], axis=-1)[:, 0],
    )
    assert np.array_equal(to_numpy(KERNELS[name](call, metal_kernel)), to_numpy(KERNELS[name](moved, metal_kernel)))


@pytest.mark.parametrize(("name", "case"), CALLS)
def test_a_mask_given_as_boolean_additive_or_broadcast_is_the_same_mask(metal_kernel, name, case):
    call = problem(replace(case, mask="bool window [L, S]")).call
    forms = [
        call.mask,
        mx.broadcast_to(call.mask, (2, 8, *call.mask.shape)) & mx.array(True),
        call.mask[None],
        mx.where(call.mask, 0.0, -mx.inf),
    ]
    answers = [to_numpy(KERNELS[name](replace(call, mask=form), metal_kernel)) for form in forms]
    for answer in answers[1:]:
        assert np.array_equal(answer, answers[0])


@pytest.mark.parametrize(("name", "case"), CALLS)
def test_a_mask_over_the_end_of_the_keys_is_as_if_they_were_not_there(metal_kernel, name, case):
    call = problem(replace(case, mask="none")).call
    shorter = [tuple(a[..., :50, :] for a in x) if call.bits else x[..., :50, :] for x in (call.keys, call.values)]
    masked = KERNELS[name](replace(call, mask=mx.arange(70)[None] < mx.full((case.query_len, 1), 50)), metal_kernel)
    cut = KERNELS[name](replace(call, keys=shorter[0], values=shorter[1]), metal_kernel)
    assert np.allclose(to_numpy(masked), to_numpy(cut), rtol=0, atol=1e-6)


@pytest.mark.parametrize("parts", [1, 2, 7])
@pytest.mark.parametrize("packing", [(None, None), (8, 32)])
def test_the_number_of_splits_changes_rounding_only(metal_kernel, monkeypatch, parts, packing):
    case = replace(CASE, packing=packing, query_len=1, kv_len=201)
    name = "decode_dense" if packing == (None, None) else "decode_quantized"
    call = problem(case).call
    monkeypatch.setattr(fused, "splits", lambda *_: parts)
    assert problem(case).error(KERNELS[name](call, metal_kernel)) < 1e-6


@pytest.mark.parametrize("name", ["decode_dense", "prefill_dense"])
def test_a_large_sink_takes_all_and_one_of_minus_infinity_nothing(metal_kernel, name):
    call = problem(replace(CASE, mask="none", sinks=False)).call
    run = KERNELS[name]
    without = to_numpy(run(call, metal_kernel))
    nothing = to_numpy(run(replace(call, sinks=mx.full((8,), -mx.inf)), metal_kernel))
    everything = to_numpy(run(replace(call, sinks=mx.full((8,), 1e4)), metal_kernel))
    assert np.allclose(nothing, without, rtol=0, atol=1e-7)
    assert np.abs(everything).max() == 0


@pytest.mark.parametrize(("name", "case"), CALLS)
@pytest.mark.parametrize("sinks", [False, True])
def test_a_query_that_may_look_at_nothing_gives_zeros(metal_kernel, name, case, sinks):
    call = problem(replace(case, sinks=sinks)).call
    for nothing in (mx.zeros((1, 70), dtype=mx.bool_), mx.full((case.query_len, 70), -mx.inf)):
        out = to_numpy(KERNELS[name](replace(call, mask=nothing), metal_kernel))
        assert out.shape == (2, 8, case.query_len, 64)
        assert not out.any()


BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"
STAGED = replace(CASE, pattern=(32, 2), kv_len=150)
BARRIERS = [
    *[(name, 0, STAGED) for name in ("decode_dense", "decode_quantized")],
    *[(name, 1, STAGED) for name in ("decode_dense", "decode_quantized")],
    *[(name, 2, replace(CASE, query_len=1)) for name in ("decode_dense", "decode_quantized")],
    ("prefill_dense", 0, replace(CASE, mask="causal", query_len=150, kv_len=1)),
    *[("prefill_dense", number, STAGED) for number in range(1, 6)],
]


def test_the_list_of_barriers_is_whole():
    for name in KERNELS:
        there = source.text(source.SOURCES[name].body).count(BARRIER)
        assert [number for kernel, number, _ in BARRIERS if kernel == name] == list(range(there))


@pytest.mark.parametrize(("name", "number", "case"), BARRIERS)
def test_the_sanitizer_misses_no_barrier(metal_kernel, name, number, case):
    """Each kernel without one of its barriers is caught, so that its clean run means something."""
    pieces = source.text(source.SOURCES[name].body).split(BARRIER)

    def without_it(**how):
        if how["name"].endswith(name):
            how["source"] = BARRIER.join(pieces[: number + 1]) + ";" + BARRIER.join(pieces[number + 1 :])
        return metal_kernel(**how)

    packing = (8, 32) if name == "decode_quantized" else (None, None)
    result = prove(name, replace(case, packing=packing), without_it)
    assert not result.passed
    assert "race" in result.fault or "uninitialised" in result.fault


def test_bad_input_is_refused_before_anything_runs():
    call = problem(CASE).call
    with pytest.raises(KernelError, match=r"mask has the shape \(4, 70\).*\(2, 8, 3, 70\)"):
        fused.decode_dense(replace(call, mask=mx.ones((4, 70)) > 0))
    with pytest.raises(KernelError, match=r"values have the shape \(2, 2, 69, 64\)"):
        fused.decode_dense(replace(call, values=call.values[:, :, 1:]))
    with pytest.raises(KernelError, match="cannot compute this: head_dim is 32"):
        fused.prefill_dense(Call(call.queries[..., :32], call.keys[..., :32], call.values[..., :32], 1.0))
    with pytest.raises(KernelError, match=r"keys are .*int32"):
        fused.decode_dense(replace(call, keys=call.keys.astype(mx.int32)))
    with pytest.raises(KernelError, match=r"sinks have the shape \(4,\).*\(8,\)"):
        fused.decode_dense(replace(call, mask=None, sinks=call.sinks[:4]), metal_kernel=print)
    keys = mx.quantize(call.keys, group_size=32, bits=8)
    with pytest.raises(KernelError, match=r"keys have the shape \(2, 2, 70, 16\).*\(2, 2, 70, 8\)"):
        fused.decode_quantized(Call(call.queries, keys, keys, 1.0, bits=4, group_size=32))


def test_the_hash_is_of_the_text(monkeypatch, tmp_path):
    before = {name: source.kernel_hash(name) for name in KERNELS}
    assert len(set(before.values())) == len(before)
    for path in source.FOLDER.glob("*.metal"):
        changed = path.read_text().replace("total += factor", "total -= factor")
        (tmp_path / path.name).write_text(changed)
    monkeypatch.setattr(source, "FOLDER", tmp_path)
    source.kernel_hash.cache_clear()
    try:
        after = {name: source.kernel_hash(name) for name in KERNELS}
    finally:
        source.kernel_hash.cache_clear()
    assert {name for name in KERNELS if after[name] != before[name]} == {"decode_quantized", "decode_dense"}


def test_a_kernel_object_is_made_once(metal_kernel):
    assert source.built("combine", metal_kernel) is source.built("combine", metal_kernel)


@pytest.mark.parametrize("path", sorted(source.FOLDER.glob("*.metal")), ids=lambda path: path.stem)
def test_every_kernel_file_says_what_it_is_and_that_metal_has_not_seen_it(path):
    text = path.read_text(encoding="utf-8")
    assert text.startswith("// ")
    assert "it was not run on Metal" in text
    assert "double" not in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_the_masks_of_the_cases_are_of_every_kind_and_rank():
    assert set(MASKS.values()) == {"none", "causal", "bool", "additive"}
    assert {name.count(",") + 1 for name in MASKS if "[" in name} == {2, 3, 4}
