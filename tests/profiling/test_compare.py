"""Comparisons: equal where there is noise only, different where there is a real shift, and what else has changed."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb.profiling.judge.changes import Change, changes
from mlxnb.profiling.judge.compare import FIGURES, against, comparisons
from mlxnb.profiling.judge.ratios import Repeated, paired, ratios_of, unpaired
from mlxnb.profiling.report import Ratio, Report, Run
from mlxnb.profiling.report.turns import in_turns
from mlxnb.profiling.show.sections import sections

from .whole_reports import EMPTY, ENVIRONMENT, MODEL, Machine, full, single, turns


def ratios(report: Report) -> dict[str, Ratio]:
    [comparison] = comparisons(report)
    assert (comparison.ours, comparison.theirs) == (1, 0)
    return {ratio.figure: ratio for ratio in comparison.ratios}


def alone(repeated: Repeated) -> Ratio:
    """A ratio that nothing else is looked at with."""
    [(ratio,)] = ratios_of([[repeated]])
    return ratio


def test_a_real_shift_is_found_with_its_size() -> None:
    found = ratios(turns(speed=1.25, rounds=7))
    assert set(found) == set(FIGURES)
    # A gap is 6.1 ms / speed, 0.6 ms for 900 tokens of context and 0.1 ms; the prompt takes 12 ms + 214 ms / speed.
    decode, first = (6.1 + 0.6 + 0.1) / (6.1 / 1.25 + 0.6 + 0.1), (12 + 214 / 1.25) / (12 + 214)
    for figure, expected in (("decode_rate", decode), ("ttft", first), ("prefill_rate", 1 / first)):
        assert found[figure].differs
        assert found[figure].low <= expected <= found[figure].high, figure
        assert found[figure].pairs == 7
    assert not found["peak_memory"].differs
    assert (found["peak_memory"].low, found["peak_memory"].high) == (1, 1)


@pytest.mark.parametrize("rounds", [3, 5, 12])
def test_noise_is_said_to_be_equal(rounds: int) -> None:
    """At 95 % one in twenty may be taken for a difference; of 300 draws that is 15, and hardly ever 30."""
    draw = np.random.default_rng(rounds)
    wrong = sum(alone(paired("x", list(draw.normal(0, 0.05, rounds)))).differs for _ in range(300))
    assert wrong < 30
    a, b = draw.normal(0, 0.05, (300, rounds)), draw.normal(0, 0.05, (300, rounds))
    assert sum(alone(unpaired("x", list(x), list(y))).differs for x, y in zip(a, b, strict=True)) < 30


def test_whole_reports_that_differ_by_noise_are_equal() -> None:
    """However many figures are looked at: of 40 reports 2 may be wrong, and hardly ever 7."""
    in_turns = [comparisons(turns(seed=seed))[0].ratios for seed in range(40)]
    assert sum(any(ratio.differs for ratio in each) for each in in_turns) < 7
    days = [many(seed) for seed in range(41)]
    assert sum(not against(*pair).equal for pair in pairwise(days)) < 7


def many(seed: int, faster: float = 1.0) -> Report:
    """Eight cases of one model; the first is `faster` than it is otherwise."""
    machine = Machine(seed)
    for case in range(8):
        for round in range(5):
            machine.answer(case, round, 300, 24, speed=faster if case == 0 else 1.0)
    cases = tuple(replace(single().cases[0], label=f"case {i}") for i in range(8))
    return replace(single(), cases=cases, runs=tuple(machine.runs))


def test_one_case_that_changed_is_found_among_many() -> None:
    found = against(many(1, faster=1.5), many(2))
    assert not found.equal
    first, *others = found.matches
    assert next(ratio for ratio in first.ratios if ratio.figure == "decode_rate").differs
    assert sum(ratio.differs for match in others for ratio in match.ratios) <= 2


def test_a_drift_of_the_machine_does_not_count_as_a_difference() -> None:
    """Both arms get slower by half from round to round: unpaired that is a spread, paired it is none."""
    report = turns(noise=0.001)
    slowed = []
    for run in report.runs:
        t, factor = run.timings, 1.5**run.round
        times = tuple(t.accepted + factor * (at - t.accepted) for at in t.token_times)
        slowed.append(replace(run, timings=replace(t, token_times=times)))
    found = ratios(replace(report, runs=tuple(slowed)))
    assert 0.99 < found["decode_rate"].low <= found["decode_rate"].high < 1.01


def test_rounds_are_paired_by_number_and_those_without_a_partner_are_left_out() -> None:
    report = turns(speed=1.25, rounds=5)
    failed = [replace(run, timings=None, error="x") if (run.case, run.round) == (1, 3) else run for run in report.runs]
    found = ratios(replace(report, runs=tuple(failed)))
    assert {ratio.pairs for ratio in found.values()} == {4}


def one_behind_the_other(noise: float = 0.03) -> Report:
    """The cases of `turns`, the second one after the first."""
    machine, both = Machine(3, noise), turns()
    for case in (0, 1):
        for round in range(5):
            machine.answer(case, round, 900, 32)
    return replace(both, runs=tuple(machine.runs))


def test_only_rounds_that_took_turns_are_pairs() -> None:
    """Of those that did not, which of them has which number says nothing."""
    report = one_behind_the_other()
    assert not in_turns(report, comparisons(report)[0])
    assert in_turns(turns(), comparisons(turns())[0])
    renumbered = ratios(replace(report, runs=_renumbered(report)))
    for figure, ratio in ratios(report).items():
        other = renumbered[figure]
        assert (other.low, other.median, other.high) == pytest.approx((ratio.low, ratio.median, ratio.high))
    paired_up, numbered = (ratios(replace(turns(), runs=each)) for each in (turns().runs, _renumbered(turns())))
    assert paired_up != numbered


def _renumbered(report: Report) -> tuple[Run, ...]:
    return tuple(replace(run, round=4 - run.round) if run.case else run for run in report.runs)


def test_what_did_not_take_turns_is_not_said_to_have() -> None:
    for report, title in ((turns(), "Compared in turns"), (one_behind_the_other(), "Compared one after the other")):
        compared = replace(report, comparisons=comparisons(report))
        titles = [section.title for section in sections(compared)]
        assert [each for each in titles if each.startswith("Compared")] == [title]


def test_one_round_has_no_spread_and_so_no_ratio() -> None:
    assert comparisons(turns(rounds=1)) == ()
    assert comparisons(EMPTY) == ()
    assert against(single(rounds=1), single()).matches == ()


def test_cases_are_held_against_the_first_of_their_scenario_and_length_only() -> None:
    report = full()
    labels = [(report.cases[c.ours].label, report.cases[c.theirs].label) for c in comparisons(report)]
    assert labels == [("code, kv_bits=8", "code, kv_bits=None"), ("code, kv_bits=4", "code, kv_bits=None")]


def test_memory_that_halves_is_a_difference_without_spread() -> None:
    memory = next(r for r in comparisons(full())[1].ratios if r.figure == "peak_memory")
    assert memory.low == memory.median == memory.high == pytest.approx(1259 / 1428)


@settings(max_examples=60, deadline=None)
@given(logs=st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=12), shift=st.floats(-2, 2))  # none reaches MOST
def test_the_interval_holds_the_median_and_moves_with_the_values(logs: list[float], shift: float) -> None:
    ratio = alone(paired("x", logs))
    assert ratio.low <= ratio.median <= ratio.high
    moved = alone(paired("x", [value + shift for value in logs]))
    assert moved.median == pytest.approx(ratio.median * math.exp(shift))
    assert moved.low == pytest.approx(ratio.low * math.exp(shift))
    inverse = alone(paired("x", [-value for value in logs]))
    assert inverse.median == pytest.approx(1 / ratio.median)


def test_an_interval_ends_where_it_says_no_more() -> None:
    ratio = alone(paired("x", [1.0, -1.0]))
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((0.001, 1, 1000))


def test_against_the_same_is_equal_and_against_a_faster_one_is_not() -> None:
    same = against(single(seed=1), single(seed=2))
    assert same.equal
    assert same.changed == ()
    other = against(single(speed=1.3), single(seed=1))
    assert not other.equal
    decode = next(ratio for ratio in other.matches[0].ratios if ratio.figure == "decode_rate")
    assert decode.differs
    assert decode.low <= (6.1 + 0.6 + 0.1) / (6.1 / 1.3 + 0.6 + 0.1) <= decode.high


def test_against_matches_cases_by_what_they_are_and_names_the_others() -> None:
    ours, theirs = full(0), full(1)
    found = against(replace(ours, cases=(*ours.cases, replace(ours.cases[0], label="new", scenario="new"))), theirs)
    assert [match.ours for match in found.matches] == list(range(11))
    assert [match.theirs for match in found.matches] == list(range(11))
    assert found.only_ours == ("new",)
    moved = replace(theirs.cases[4], label="batch × 16", concurrency=16)
    found = against(ours, replace(theirs, cases=(*theirs.cases[:4], moved, *theirs.cases[5:])))
    assert found.only_ours == ("batch × 1",)
    assert found.only_theirs == ("batch × 16",)


def test_two_models_are_compared_where_each_report_has_one() -> None:
    other = replace(single(seed=1), models=(replace(MODEL, name="Other-0.6B", revision=None),))
    found = against(single(), other)
    assert len(found.matches) == 1
    assert Change("model: name", "Other-0.6B", "Qwen3-0.6B") in found.changed


def test_reports_without_a_case_in_common() -> None:
    found = against(single(), EMPTY)
    assert (found.matches, found.equal, found.only_ours) == ((), False, ("simple",))


def test_what_changed_is_named() -> None:
    environment = replace(
        ENVIRONMENT,
        chip="Apple M4 Max",
        versions={**ENVIRONMENT.versions, "mlx": "0.33.0", "transformers": "5.23.0"},
        settings={"threads": 4, "power": "plugged in"},
        bandwidth=1.2 * 228e9,
        products={"bfloat16": 1.01 * 14.8e12, "float32": 7.1e12},
    )
    model = replace(MODEL, revision="0000", quantization="4-bit, group 64")
    found = changes(replace(single(), environment=environment, models=(model,)), single())
    assert [change.what for change in found] == [
        "chip", "measured bandwidth", "mlx", "transformers", "low power mode", "threads", "model: revision",
        "model: quantization",
    ]  # fmt: skip
    assert found[3] == Change("transformers", None, "5.23.0")
    assert found[4] == Change("low power mode", False, None)
    assert changes(single(), single(seed=5)) == ()


def test_what_was_asked_differently_is_named() -> None:
    """Or a report in 8 bits would be held against one without, and nobody told."""
    earlier, now = single(seed=1), replace(single(), options={"kv_bits": 8, "temperature": 0.7})
    case = replace(now.cases[0], max_tokens=128)
    now = replace(now, cases=(case,), models=(replace(MODEL, kv_cache="KV cache in 8 bits"),))
    assert against(now, earlier).changed == (
        Change("model: kv cache", None, "KV cache in 8 bits"),
        Change("every request: kv_bits", None, 8),
        Change("every request: temperature", None, 0.7),
        Change("simple: max_tokens", 32, 128),
    )
    assert against(now, replace(now, runs=earlier.runs)).changed == ()


def test_models_of_one_name_are_held_against_each_other_in_order() -> None:
    pair = (MODEL, replace(MODEL, quantization="8-bit"))
    other = (MODEL, replace(MODEL, quantization="4-bit"))
    found = changes(replace(single(), models=pair), replace(single(), models=other))
    assert found == (Change("Qwen3-0.6B (2): quantization", "4-bit", "8-bit"),)
