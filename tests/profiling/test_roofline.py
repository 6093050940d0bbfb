"""Points and predictions from figures that are known."""

from dataclasses import replace

import pytest

from mlxnb.profiling.judge.roofline import computes_in, roofline, unplaced
from mlxnb.profiling.machine.devices import same_device
from mlxnb.profiling.report import Case, Environment, Predicted, Profiled, Report, Run
from mlxnb.result import Timings

PRODUCTS = {"float32": 1e11, "bfloat16": 4e11, "int8": 8e11}
MACHINE = Environment("chip", "8", 16 * 10**9, "system", {}, "cpu", 1e10, PRODUCTS)
MODEL = Profiled(
    name="m", source="local", revision=None, backend="torch", backend_version="", device="cpu", dtype="bfloat16",
    quantization=None, attention="", parameters=10**8, weights=2 * 10**8, context_length=1024,
    weights_read=2e8, kv_read=1e4, flops=2e8, flops_context=2e4, flops_head=5e7, weights_prefill=2e8,
)  # fmt: skip


def run(case=0, prompt=100, tokens=21, prefill=0.5, tpot=0.04, reused=0, **more):
    times = tuple(10 + prefill + i * tpot for i in range(tokens))
    return Run(case, 0, Timings(9.9, 10.0, times, prompt, reused), tokens, **more)


def report(runs, cases=None, models=(MODEL,), machine=MACHINE):
    cases = (Case("simple", "simple", 0),) if cases is None else cases
    return Report(machine, "2026-11-01T00:00:00+00:00", 1.0, 1, models, cases, tuple(runs))


def test_the_points_of_a_request_by_hand():
    made = roofline(report([run(), run(prefill=0.5, tpot=0.04), run(prefill=3.0, tpot=0.5)]))
    assert made is not None
    assert (made.bandwidth, made.product, made.dtype) == (1e10, 4e11, "bfloat16")
    prefill, decode = made.points
    flops = 100 * 2e8 - 99 * 5e7 + 2e4 * 5050
    size = 2e8 + 100 * 1e4
    assert (prefill.case, prefill.phase, prefill.context) == (0, "prefill", 100)
    assert prefill.intensity == pytest.approx(flops / size)
    assert prefill.rate == pytest.approx(flops / 0.5)
    assert prefill.mfu == pytest.approx(flops / 0.5 / 4e11)
    assert prefill.mbu == pytest.approx(size / 0.5 / 1e10)
    context = 100 + 10.5
    flops, size = 2e8 + 2e4 * context, 2e8 + 1e4 * context
    assert (decode.phase, decode.context) == ("decode", 110)
    assert decode.intensity == pytest.approx(flops / size)
    assert decode.rate == pytest.approx(flops / 0.04)
    assert decode.mbu == pytest.approx(size / 0.04 / 1e10)
    assert decode.mfu == pytest.approx(flops / 0.04 / 4e11)


def test_what_was_reused_is_no_operation():
    made = roofline(report([run(prompt=100, reused=60)]))
    assert made.points[0].rate == pytest.approx((40 * 2e8 - 39 * 5e7 + 2e4 * (5050 - 1830)) / 0.5)


def test_requests_that_run_together_share_the_weights():
    together = (Case("batch", "batch", 0, concurrency=4),)
    (decode,) = roofline(report([run()], together)).points
    context = 110.5
    assert decode.phase == "decode"
    assert decode.intensity == pytest.approx(4 * (2e8 + 2e4 * context) / (2e8 + 4 * 1e4 * context))
    (alone,) = roofline(report([run(notes=("not batched: it cannot",))], together)).points
    assert alone.intensity == pytest.approx((2e8 + 2e4 * context) / (2e8 + 1e4 * context))


def test_decode_rates_are_predicted_beside_those_that_were_measured():
    made = roofline(report([run(), run(1, prompt=502, tokens=21, tpot=0.05)], (CASE, replace(CASE, label="long"))))
    by_context = {each.context: each for each in made.predicted}
    assert list(by_context) == [110, 128, 512, 1024]  # no longer than the model's context
    assert by_context[128] == Predicted(0, 128, pytest.approx(1e10 / (2e8 + 128 * 1e4)), None)
    assert by_context[110].measured == pytest.approx(25)
    assert by_context[512].measured == pytest.approx(20)


CASE = Case("simple", "simple", 0)


def test_runs_that_a_draft_helped_give_no_decode_point():
    made = roofline(report([run(proposed=8, accepted=4)]))
    assert [point.phase for point in made.points] == ["prefill"]
    assert all(each.measured is None for each in made.predicted)


def test_a_single_token_gives_no_decode_point():
    assert [point.phase for point in roofline(report([run(tokens=1)])).points] == ["prefill"]
    assert roofline(report([run(tokens=0)])).points == ()
    assert roofline(report([Run(0, 0, None, error="out of memory")])).points == ()


def test_nothing_can_be_placed_without_a_bandwidth_or_a_model_that_tells():
    silent = replace(MODEL, weights_read=None, kv_read=None, flops=None, flops_context=None)
    assert roofline(report([run()], machine=replace(MACHINE, bandwidth=None))) is None
    assert roofline(report([run()], machine=replace(MACHINE, products={}))) is None
    assert roofline(report([run()], models=(silent,))) is None
    assert roofline(report([], (Case("simple", "simple", None, error="gone"),), ())) is None
    beside = roofline(report([run(), run(1)], (CASE, Case("s", "simple", 1)), (MODEL, silent)))
    assert {point.case for point in beside.points} == {0}


def test_a_model_on_another_device_is_not_held_against_this_ones_speeds():
    """One on the CPU beside one on a GPU reads at the GPU's bandwidth for nobody."""
    both = report(
        [run(), run(1)],
        (CASE, Case("s", "simple", 1)),
        (MODEL, replace(MODEL, device="cuda", backend="torch")),
    )
    made = roofline(both)
    assert {point.case for point in made.points} == {0}
    assert {each.model for each in made.predicted} == {0}
    (note,) = unplaced(both)
    assert note.startswith("m on torch: not on the roofline, for it computes on cuda and the speeds are those of cpu")
    on_gpu = replace(both, environment=replace(MACHINE, device="cuda"))
    assert {point.case for point in roofline(on_gpu).points} == {1}
    assert unplaced(report([run()])) == ()


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("mps", "metal", True),
        ("gpu", "cuda", True),
        ("metal", "gpu", True),
        ("gpu", "cpu", False),
        ("mps", "cpu", False),
        ("cuda", "mps", False),
    ],
)
def test_a_device_goes_by_several_names(one, other, same):
    assert same_device(one, other) == same_device(other, one) == same


def test_a_model_that_tells_its_bytes_and_not_its_operations_has_predictions_only():
    made = roofline(report([run()], models=(replace(MODEL, flops_context=None),)))
    assert made.points == ()
    assert {each.context for each in made.predicted} >= {128, 512, 1024}


@pytest.mark.parametrize(
    ("backend", "dtype", "quantization", "expected"),
    [
        ("torch", "bfloat16", None, "bfloat16"),
        ("torch", "float32", "int8", "int8"),
        ("torch", "float32", "int4, group 32, head int8", "bfloat16"),
        ("mlx", "bfloat16", "int8, group 64", "bfloat16"),
        ("mlx", "float16", "int4", "bfloat16"),  # no product was measured in float16: the fastest float type
    ],
)
def test_the_matrix_rate_is_that_of_what_a_model_computes_in(backend, dtype, quantization, expected):
    model = replace(MODEL, backend=backend, dtype=dtype, quantization=quantization)
    assert computes_in(model, PRODUCTS) == (expected, PRODUCTS[expected])
