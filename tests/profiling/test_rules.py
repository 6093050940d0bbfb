"""Rules fire on their cause and on nothing else, never without their figures, and never raise."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.profiling.judge.rules import NOTHING, OF_A_CASE, OF_ALL, findings
from mlxnb.profiling.report import Report
from tests.profiling.reports import (
    CAUSES,
    GB,
    case,
    environment,
    healthy,
    inside,
    points,
    profiled,
    run,
    runs,
    sample,
    samples,
    stress,
)

RULES = sorted({name for name, _ in (*OF_A_CASE, *OF_ALL)} | {"decline"})


@pytest.mark.parametrize("cause", CAUSES, ids=" ".join)
def test_each_cause_is_found_and_nothing_else(cause):
    assert [finding.rule for finding in findings(CAUSES[cause]())] == [cause[0]]


def test_every_rule_has_a_cause_in_the_table():
    assert sorted({rule for rule, _ in CAUSES}) == RULES


@pytest.mark.parametrize("cause", CAUSES, ids=" ".join)
def test_a_finding_says_what_crossed_what_and_what_to_do(cause):
    (finding,) = findings(CAUSES[cause]())
    assert finding.figure
    assert finding.unit
    assert finding.evidence
    assert finding.cause
    assert finding.remedy
    assert math.isfinite(finding.value)
    assert finding.value != finding.threshold or finding.rule == "failures"  # of which one is enough
    assert "None" not in f"{finding.evidence} {finding.cause} {finding.remedy}"


def test_nothing_found_says_what_was_looked_at():
    (finding,) = findings(healthy())
    assert finding.rule == NOTHING
    assert finding.trial is None
    assert "memory-bound" in finding.evidence
    assert "not looked at: cache-misses: no conversation of several turns" in finding.evidence


def test_nothing_measured_is_not_nothing_wrong():
    (finding,) = findings(healthy(runs=(), samples=(), insides=(), roofline=None, stress=(), cases=()))
    assert finding.rule == NOTHING
    assert finding.value == 0
    assert finding.cause == "there was nothing to look at"


# What each rule cannot fire without: the causes of the table, with that figure taken away.
WITHOUT = {
    "memory-bound": {"roofline": None},
    "kv-bound": {"models": (profiled(backend="mlx", kv_read=None),), "roofline": None},
    "compute-bound": {"roofline": None},
    "overhead-bound": {"roofline": None, "insides": ()},
    "tokenizer-bound": {"insides": (), "runs": (), "roofline": None, "cases": case()},
    "swap": {"samples": (), "roofline": None},
    "memory-pressure": {"samples": ()},
    "thermal": {"runs": (), "stress": ()},
    "decline": {"runs": (), "stress": ()},
    "cache-misses": {"runs": ()},
    "queueing": {"runs": ()},
    "failures": {"runs": (), "cases": ()},
    "empty-answers": {"runs": ()},
    "poor-draft": {"runs": runs(proposed=None, accepted=None)},
    "busy-machine": {"samples": (), "runs": runs()},
    "noisy-machine": {"runs": runs(3)},
    "leak": {"stress": ()},
}


@pytest.mark.parametrize("cause", CAUSES, ids=" ".join)
def test_no_rule_fires_without_its_figures(cause):
    report = replace(CAUSES[cause](), **WITHOUT[cause[0]])
    assert [finding.rule for finding in findings(report)] == [NOTHING]


def test_heat_without_a_slower_rate_is_no_finding():
    hot = samples(temperature=lambda i: 60.0 + 5 * i, pressure=lambda i: "nominal" if i < 4 else "serious")
    assert [finding.rule for finding in findings(healthy(samples=hot))] == [NOTHING]


def test_answers_of_different_lengths_are_no_noise():
    made = tuple(run(i, tokens=(33, 9, 20)[i % 3], rate=100.0) for i in range(9))
    assert [each.rule for each in findings(healthy(runs=made))] == [NOTHING]


def test_a_single_slow_round_is_no_decline():
    report = healthy(runs=runs(rates=[100, 101, 99, 100, 100.5, 99.5, 100, 101, 60]))
    assert not {"decline", "thermal"} & {finding.rule for finding in findings(report)}


def test_a_stress_beside_others_or_within_its_noise_shows_no_decline():
    slow = CAUSES["decline", "stress"]().stress[0]
    busy = samples(60, cpu=lambda i: 0.5 if i < 9 else 1.0)
    unsure = replace(slow, decline_low=-0.1)
    assert [each.rule for each in findings(healthy(stress=(slow,), samples=busy))] == [NOTHING]
    assert [each.rule for each in findings(healthy(stress=(unsure,)))] == [NOTHING]


def test_a_servers_own_processor_time_is_not_that_of_others():
    report = healthy(samples=samples(cpu=lambda i: 1.0, own_cpu=lambda i: 0.05), runs=runs(clients=True))
    assert [finding.rule for finding in findings(report)] == [NOTHING]


def test_what_a_conversation_reuses_counts_from_its_second_turn():
    first, *later = runs(3, turn=0)
    found = (first, *(replace(each, turn=1, timings=replace(each.timings, reused_tokens=80)) for each in later))
    assert [each.rule for each in findings(healthy(cases=case(scenario="multi-turn"), runs=found))] == [NOTHING]


def test_what_waits_before_prefill_for_another_reason_is_not_the_tokenizer():
    report = healthy(cases=case(tokenising=0.001), runs=runs(wait=0.2))
    assert [each.rule for each in findings(report)] == [NOTHING]


def test_a_batch_that_waits_for_prompts_only_does_not_queue():
    together = tuple(run(i, together=i // 4, prefill=0.01, wait=(0.0, 0.01, 0.02, 0.03)[i % 4]) for i in range(24))
    assert [each.rule for each in findings(healthy(cases=case(concurrency=4), runs=together))] == [NOTHING]


def test_requests_that_no_batch_took_are_told_of_one_that_would():
    made = CAUSES["queueing", "four at once"]()
    notes = ("not batched: the scripted backend computes one at a time",)
    (finding,) = findings(replace(made, runs=tuple(replace(each, notes=notes) for each in made.runs)))
    assert "one batch (mlx or torch)" in finding.remedy
    assert "one batch" not in findings(made)[0].remedy


def test_one_rule_of_many_cases_is_one_finding_of_the_worst():
    cases = (*case(label="a"), *case(label="b"))
    both = (*runs(wait=0.2), *runs(wait=0.4, case=1))
    (finding,) = findings(healthy(cases=cases, runs=both))
    assert (finding.rule, finding.case) == ("tokenizer-bound", 1)
    assert finding.evidence.endswith("likewise in a")


def test_what_the_machine_does_is_one_finding_whichever_model_ran():
    cases = (*case(label="a"), *case(label="b", model=1))
    others = samples(cpu=lambda i: 0.9)
    both = healthy(cases=cases, models=(profiled(), profiled(name="b")), runs=(*runs(), *runs(case=1)), samples=others)
    (finding,) = findings(both)
    assert finding.rule == "busy-machine"
    assert "likewise in b" in finding.evidence


@pytest.mark.parametrize(
    ("cause", "options"),
    [
        (("memory-bound", "decode"), {"quantize": "int8"}),
        (("memory-bound", "quantised"), {"draft": "lookup"}),
        (("kv-bound", "long context"), {"kv_bits": 8}),
        (("overhead-bound", "low MBU and MFU"), {"draft": "lookup"}),
        (("cache-misses", "nothing reused"), {"cache": "auto"}),
        (("poor-draft", "one in ten"), {"draft": None, "draft_tokens": None}),
    ],
)
def test_what_can_be_tried_at_once_is_a_trial(cause, options):
    (finding,) = findings(CAUSES[cause]())
    assert finding.trial is not None
    assert finding.trial.options == options


@pytest.mark.parametrize("rule", ["swap", "memory-pressure", "busy-machine", "noisy-machine", "queueing", "failures"])
def test_closing_other_programs_is_not_tried(rule):
    for name, made in CAUSES.items():
        if name[0] == rule and name[1] != "long prompt":
            assert findings(made())[0].trial is None


def test_a_prompt_that_takes_much_memory_is_tried_in_smaller_pieces():
    made = CAUSES["memory-pressure", "long prompt"]()
    (finding,) = findings(made)
    assert (finding.case, finding.trial.options) == (0, {"prefill_step": 64})
    # 5 GB less 1 GB of weights and 10 kB for each of 4,000 tokens
    assert finding.evidence.endswith("beside weights and cache simple took 4.0 GB for its prompt")
    on_gpu = replace(made, models=(profiled(backend="mlx", device="metal"),))
    assert findings(on_gpu)[0].trial.options == {"prefill_step": 512}


@pytest.mark.parametrize(
    "changed",
    [
        {"models": (profiled(backend="llamacpp"),)},  # which feeds prompts by its own
        {"models": (profiled(backend="torch", device="cuda"),)},  # whose memory is not the system's
        {"models": (profiled(backend="mlx", kv_read=None),)},
        {"runs": runs(prompt=4000)},
        {"runs": runs(prompt=60, peak_memory=5 * GB)},
        {"runs": runs(prompt=4000, peak_memory=2 * GB)},
        {"cases": case(varied={"prefill_step": 128})},
    ],
)
def test_pieces_are_not_tried_where_they_are_not_what_takes_the_memory(changed):
    (finding,) = findings(replace(CAUSES["memory-pressure", "long prompt"](), **changed))
    assert (finding.rule, finding.case, finding.trial) == ("memory-pressure", None, None)


def test_a_large_model_under_memory_pressure_can_be_tried_in_fewer_bits():
    report = healthy(samples=samples(available=lambda i: GB // 10), models=(profiled(weights=8 * GB),))
    (finding,) = findings(report)
    assert finding.trial is not None
    assert finding.trial.options == {"quantize": "int8"}


def test_what_a_case_was_measured_with_is_not_tried_again():
    made = CAUSES["memory-bound", "decode"]()
    (finding,) = findings(replace(made, cases=case(varied={"draft": "lookup", "quantize": "int8"})))
    assert finding.trial is None
    (of_all,) = findings(replace(made, options={"draft": "lookup", "quantize": "int8"}))
    assert of_all.trial is None


def test_a_quantised_cache_is_tried_with_kernels_and_then_with_nothing():
    made = CAUSES["kv-bound", "long context"]()
    (quantised,) = findings(replace(made, cases=case(varied={"kv_bits": 8})))
    (both,) = findings(replace(made, cases=case(varied={"kv_bits": 8, "kernels": True})))
    assert quantised.trial is not None
    assert quantised.trial.options == {"kernels": True}
    assert both.trial is None


@pytest.mark.parametrize(("decode", "rule"), [((0.8, 0.05), "memory-bound"), ((0.2, 0.7), "compute-bound")])
def test_overhead_that_hides_behind_a_busy_machine_is_none(decode, rule):
    """MLX computes while Python goes on: a wait after each part would blame what a real step never waits for."""
    made = healthy(insides=(inside(overhead=0.4),), roofline=points(decode=decode))
    assert [each.rule for each in findings(made)] == [rule]


def test_overhead_is_tried_with_what_can_help_its_phase():
    both = environment(versions={"torch": "2", "mlx": "0.32"})
    slow = {"roofline": points(decode=(0.1, 0.01), prefill=(0.1, 0.01)), "environment": both}
    (decode,) = findings(healthy(**slow))
    (prefill,) = findings(healthy(**slow, runs=runs(prefill=2.0)))
    (on_mlx,) = findings(healthy(**slow, models=(profiled(backend="mlx"),)))
    assert [each.trial and each.trial.options for each in (decode, prefill, on_mlx)] == [
        {"draft": "lookup"},
        {"backend": "mlx"},
        {"backend": "torch"},
    ]


def test_a_limit_that_was_exceeded_says_nothing_of_what_bounds_a_case():
    made = CAUSES["compute-bound", "prefill"]()
    beyond = tuple(replace(point, mfu=1.32) for point in made.roofline.points)
    found = findings(replace(made, roofline=replace(made.roofline, points=beyond)))
    assert "compute-bound" not in [finding.rule for finding in found]
    (nothing,) = findings(replace(CAUSES["kv-bound", "long context"](), roofline=points(decode=(1.3, 0.05))))
    assert "kv-bound: no limit to believe: MBU is 130% of it" in nothing.evidence


def test_a_compute_bound_prefill_in_float32_is_tried_in_what_multiplies_faster():
    made = CAUSES["compute-bound", "prefill"]()
    (finding,) = findings(replace(made, models=(profiled(dtype="float32"),)))
    assert finding.trial is not None
    assert finding.trial.options == {"dtype": "bfloat16"}


def test_memory_that_ran_out_is_named():
    report = healthy(runs=(*runs(8), run(8)))
    failed = replace(report.runs[8], timings=None, error="RuntimeError: out of memory")
    (finding,) = findings(replace(report, runs=(*report.runs[:8], failed)))
    assert finding.cause == "memory ran out"


shares = st.one_of(st.none(), st.floats(0, 1.5))


@st.composite
def any_report(draw: st.DrawFn) -> Report:
    """What a profile may hold: figures missing here and there, and of any size."""
    count = draw(st.integers(0, 6))
    made = tuple(
        run(
            i,
            case=draw(st.integers(0, 1)),
            rate=draw(st.floats(1e-3, 1e6)),
            prefill=draw(st.floats(0, 100)),
            wait=draw(st.floats(0, 100)),
            tokens=draw(st.integers(0, 5)),
            prompt=draw(st.integers(0, 1000)),
            proposed=draw(st.one_of(st.none(), st.integers(0, 100))),
            accepted=0,
            clients=draw(st.booleans()),
        )
        for i in range(count)
    )
    made = tuple(replace(each, timings=None, error="it failed") if draw(st.booleans()) else each for each in made)
    more = {
        "cpu": lambda i: draw(st.floats(0, 1)),
        "swap": lambda i: draw(st.integers(0, 10 * GB)),
        "available": lambda i: draw(st.integers(0, 16 * GB)),
        "temperature": lambda i: draw(st.one_of(st.none(), st.floats(0, 120))),
        "clock": lambda i: draw(st.one_of(st.none(), st.floats(0, 5e9))),
        "pressure": lambda i: draw(st.sampled_from([None, "nominal", "serious", ""])),
    }
    of_model = draw(st.sampled_from([None, 0]))
    cases = tuple(
        replace(
            case()[0],
            label=label,
            model=of_model,
            concurrency=draw(st.integers(1, 4)),
            scenario=draw(st.sampled_from(["simple", "multi-turn"])),
            error=draw(st.sampled_from([None, "it could not be loaded."])),
        )
        for label in "ab"
    )
    costs = {
        name: draw(st.one_of(st.none(), st.floats(0, 1e12)))
        for name in ("weights_read", "kv_read", "flops", "flops_context")
    }
    roofline = points((draw(shares), draw(shares)), (draw(shares), draw(shares)))  # type: ignore[arg-type]
    return healthy(
        models=(profiled(**costs),),
        cases=cases,
        runs=made,
        samples=samples(draw(st.integers(0, 5)), **more),
        insides=draw(st.sampled_from([(), (inside(),), (inside(overhead=0.6),)])),
        roofline=draw(st.sampled_from([None, roofline])),
        stress=draw(st.sampled_from([(), (stress(),)])),
    )


@given(any_report())
def test_no_report_makes_a_rule_raise_and_every_finding_crossed_its_threshold(report):
    found = findings(report)
    assert found
    for finding in found:
        assert finding.rule in {*RULES, NOTHING}
        assert math.isfinite(finding.value)
        assert finding.case is None or finding.case < len(report.cases)
        needs_roofline = finding.rule in ("memory-bound", "kv-bound", "compute-bound")
        assert not (needs_roofline and report.roofline is None)
        assert not (finding.rule in ("swap", "memory-pressure", "busy-machine") and not report.samples)
        assert not (finding.rule == "queueing" and report.cases[finding.case or 0].concurrency < 2)
    assert (found[0].rule == NOTHING) == (len(found) == 1 and found[0].figure == "rules that had their figures")


def test_samples_lie_within_the_runs_they_are_told_of():
    """The table would prove little if its samples were of another time than its runs."""
    first, last = healthy().runs[0].timings, healthy().runs[-1].timings
    assert first is not None
    assert last is not None
    assert first.accepted <= sample(0).at
    assert sample(8).at <= last.token_times[-1]
    assert {"temperature", "clock", "pressure"} <= {f.name for f in fields(sample(0))}
