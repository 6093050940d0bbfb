"""What is recommended rests on what was measured, says on what, and never promises what nobody measured."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb.models.recommended import catalogue
from mlxnb.profiling.judge.gains import CLOSE, ROUGH, SAME, beside, level
from mlxnb.profiling.judge.recommend import GOALS, USES, other_models, recommendations
from mlxnb.profiling.judge.rules import findings
from mlxnb.profiling.report import Case, Comparison, Ratio, Report
from tests.profiling.reports import (
    CAUSES,
    GB,
    JITTER,
    TOKENS,
    environment,
    healthy,
    points,
    profiled,
    run,
    runs,
    samples,
)
from tests.profiling.test_rules import any_report


def rates_of(times: float) -> list[float]:
    return [100 * times * JITTER[i] for i in range(9)]


def swept(option: str, gains: dict[object, float], scenario: str = "medium", turns: bool = False) -> Report:
    """A report in which a value of an option decodes so many times as fast as the first, which is the default. The
    cases run one behind the other, or in turns.
    """
    cases = tuple(
        Case(f"{scenario}, {option} {value}", scenario, 0, max_tokens=TOKENS, varied={option: value})  # type: ignore[dict-item]
        for value in gains
    )
    made = tuple(
        run(place + (0 if turns else 20 * i), case=i, together=place, rate=rate, prefill=0.001)
        for i, times in enumerate(gains.values())
        for place, rate in enumerate(rates_of(times))
    )
    return healthy(cases=cases, runs=made)


def found(report: Report, use: str, goal: str):
    (each,) = [each for each in recommendations(report) if (each.use, each.goal) == (use, goal)]
    return each


def test_there_is_one_for_each_use_and_goal():
    told = recommendations(healthy())
    assert [(each.use, each.goal) for each in told] == [(use, goal) for use in USES for goal in GOALS]
    assert all(each.gain and each.reason for each in told)


def test_a_measured_gain_is_recommended_with_its_interval_where_the_goal_allows_it():
    report = swept("quantize", {None: 1.0, "int8": 1.5, "int4": 2.0})
    speed, balanced, quality = (found(report, "chat", goal) for goal in ("speed", "balanced", "quality"))
    assert speed.options["quantize"] == "int4"
    assert speed.gain.startswith("2.00× the decode rate (1.98 – 2.02), measured one after the other over 9 rounds")
    assert balanced.options["quantize"] == "int8"
    assert balanced.gain.startswith("1.50×")
    assert quality.options.get("quantize") is None
    assert quality.gain == "none measured: no option was varied that the goal allows"


def test_an_option_that_makes_other_answers_is_said_to_have_been_varied():
    report = swept("temperature", {0.0: 1.0, 0.7: 1.2})
    for goal in GOALS:
        told = found(report, "chat", goal).gain
        assert told == "none measured: temperature varied, which makes other answers: that is no gain"
    assert found(healthy(), "chat", "speed").gain == "none measured: no option was varied"


def test_an_option_that_was_varied_over_too_few_rounds_is_said_to_have_been():
    report = swept("kv_bits", {None: 1.0, 8: 1.2})
    few = replace(report, runs=tuple(run for run in report.runs if run.round < 2))
    assert found(few, "chat", "balanced").gain == "none measured: kv_bits varied over fewer than 3 rounds"


def test_the_case_that_stands_for_a_goal_rounds_no_more_than_it_allows():
    report = swept("quantize", {"int4": 1.0, None: 0.5, "int8": 0.75})
    assert found(report, "chat", "quality").options.get("quantize") is None
    assert found(report, "chat", "balanced").gain.startswith("1.50×")
    assert found(report, "chat", "speed").gain.startswith("2.00×")


def test_where_every_case_rounds_nothing_is_promised_for_quality():
    quality = found(swept("quantize", {"int4": 1.0}), "chat", "quality")
    assert "quantize" not in quality.options
    assert quality.gain == "none measured: every case rounds more than the goal allows"


def test_what_every_request_was_asked_with_belongs_to_what_is_recommended():
    report = replace(swept("draft", {None: 1.0, "lookup": 1.3}), options={"kv_bits": 8, "backend": "mlx"})
    balanced = found(report, "chat", "balanced")
    assert {"kv_bits": 8, "backend": "mlx", "draft": "lookup"}.items() <= balanced.options.items()
    assert "rounded" in balanced.reason
    quality = found(report, "chat", "quality")
    assert "kv_bits" not in quality.options
    assert quality.gain == "none measured: every case rounds more than the goal allows"


def test_what_was_compared_in_turns_says_so():
    report = swept("draft", {None: 1.0, "lookup": 1.3}, turns=True)
    quality = found(report, "chat", "quality")
    assert quality.options["draft"] == "lookup"
    assert "in turns" in quality.gain
    assert quality.gain.startswith("1.30× the decode rate (1.30 – 1.30)")  # each round beside its partner
    assert "the answers stay" in quality.reason


def test_what_the_comparison_calls_equal_is_no_gain():
    report = swept("draft", {None: 1.0, "lookup": 1.3}, turns=True)
    wider = Comparison(1, 0, (Ratio("decode_rate", 1.3, 0.9, 1.8, 9),))  # as one among many
    quality = found(replace(report, comparisons=(wider,)), "chat", "quality")
    assert "draft" not in quality.options
    assert quality.gain == "nothing measured gains: draft lookup gave no difference (0.90 – 1.80)"


def test_an_interval_of_three_rounds_is_as_wide_as_three_rounds_are():
    """A bootstrap of three never leaves the three: all of them above 1 is no gain yet."""
    ours = [run(i, rate=rate) for i, rate in enumerate((101, 104, 130))]
    ratio = beside(ours, [run(i, rate=100) for i in range(3)], "decode_rate")
    assert ratio is not None
    assert not ratio.differs


def test_what_made_no_difference_is_not_recommended_and_said():
    report = swept("draft", {None: 1.0, "lookup": 1.0})
    noisy = tuple(
        replace(each, timings=run(each.round, rate=[90, 110, 95, 105, 100][each.round % 5], prefill=0.001).timings)
        if each.case == 1
        else each
        for each in report.runs
    )
    quality = found(replace(report, runs=noisy), "chat", "quality")
    assert quality.options.get("draft") is None
    assert quality.gain.startswith("nothing measured gains: draft lookup gave no difference (")


def test_options_that_another_backend_answered_are_no_gain_of_theirs():
    report = swept("dtype", {None: 1.0, "float32": 1.5})
    moved = replace(report.cases[1], model=1)
    other = replace(report, cases=(report.cases[0], moved), models=(*report.models, profiled(backend="mlx")))
    assert found(report, "chat", "quality").options["dtype"] == "float32"
    assert "dtype" not in found(other, "chat", "quality").options


def test_what_is_slower_is_not_recommended():
    quality = found(swept("draft", {None: 1.0, "lookup": 0.7}), "chat", "quality")
    assert quality.options.get("draft") is None
    assert "draft lookup gave 0.70×" in quality.gain


def test_what_was_tried_counts():
    report = CAUSES["memory-bound", "decode"]()
    (finding,) = findings(report)
    tried = replace(finding, tried=Ratio("decode_rate", 1.6, 1.5, 1.7, 8))
    balanced = found(replace(report, findings=(tried,)), "chat", "balanced")
    assert balanced.options["quantize"] == "int8"
    assert balanced.gain == "1.60× the decode rate (1.50 – 1.70), tried in turns over 8 pairs"


def test_what_was_tried_on_another_case_of_the_model_says_on_which():
    made = CAUSES["memory-bound", "decode"]()
    (finding,) = findings(made)
    tried = replace(finding, tried=Ratio("decode_rate", 1.6, 1.5, 1.7, 8))
    cases = (*made.cases, Case("code", "code", 0, max_tokens=TOKENS))
    report = replace(made, findings=(tried,), cases=cases, runs=(*made.runs, *runs(case=1)))
    assert found(report, "code", "speed").gain.endswith("tried in turns over 8 pairs on simple")


def test_the_roofline_estimates_what_nobody_measured_and_says_so():
    report = healthy(roofline=points(decode=(0.8, 0.05)), models=(profiled(kv_read=0.0),))
    balanced = found(report, "chat", "balanced")
    assert balanced.options["quantize"] == "int8"
    assert balanced.gain.startswith("at most 1.88× the decode rate, by the roofline")  # 16 bits over 8.5
    assert found(report, "chat", "speed").gain.startswith("at most 3.56×")  # 16 bits over 4.5
    assert "none measured" in found(report, "chat", "quality").gain


def test_the_roofline_estimates_nothing_where_memory_is_not_the_bound():
    assert all("none measured" in each.gain for each in recommendations(healthy()))


def test_estimates_for_whole_answers_leave_prefill_as_it_is():
    report = healthy(
        roofline=points(decode=(0.8, 0.05)), models=(profiled(kv_read=0.0),), runs=runs(prefill=TOKENS / 100 - 0.01)
    )  # half of the time is prefill
    gain = found(report, "long documents", "balanced").gain
    assert gain.startswith("at most 1.31× the tokens a second")  # 1 / (0.5 + 0.5 · 8.5/16)


def test_more_at_once_is_recommended_for_batches_where_it_gave_more():
    cases = (Case("batch", "batch", 0), Case("batch, 4 at once", "batch", 0, concurrency=4))
    alone = runs(prefill=0.001)
    four = tuple(run(i, case=1, together=i, rate=60, prefill=0.001) for i in range(9) for _ in range(4))
    told = found(healthy(cases=cases, runs=(*alone, *four)), "batch", "quality")
    assert told.options["batch_size"] == 4
    assert told.gain.startswith("2.4")


def test_a_use_that_nothing_like_was_measured_for_says_so():
    assert "nothing like code was measured" in found(healthy(), "code", "speed").reason
    assert "nothing like chat" not in found(healthy(), "chat", "speed").reason


def test_what_a_finding_could_be_tried_with_is_named_where_nothing_was_measured():
    report = CAUSES["overhead-bound", "low MBU and MFU"]()
    quality = found(replace(report, findings=findings(report)), "chat", "quality")
    assert "draft" not in quality.options
    assert "try tokens guessed ahead from the text (draft lookup)" in quality.reason


def test_nothing_answered_gives_no_recommendation():
    assert recommendations(healthy(runs=())) == ()


@given(any_report())
def test_no_report_makes_it_raise_or_promise_without_a_source(report):
    for each in recommendations(report):
        assert each.goal in GOALS
        sources = (
            "measured in turns",
            "measured one after",
            "tried in turns",
            "by the roofline",
            "none measured",
            "nothing measured",
        )
        assert any(source in each.gain for source in (*sources, "nothing measured gains"))


@pytest.mark.parametrize(
    ("options", "change"),
    [
        ({}, SAME),
        ({"draft": "lookup", "backend": "mlx"}, SAME),
        ({"quantize": "int8"}, CLOSE),
        ({"quantize": None}, SAME),
        ({"kv_bits": 4}, ROUGH),
        ({"dtype": "float32"}, SAME),
        ({"dtype": "bfloat16"}, CLOSE),
        ({"quantize": "int8", "kv_bits": 4}, ROUGH),
        ({"temperature": 0.7}, None),
    ],
)
def test_options_are_known_by_what_they_do_to_answers(options, change):
    assert level(options) == change


@given(st.lists(st.floats(1, 1000), min_size=3, max_size=9), st.floats(0.1, 10))
def test_the_ratio_of_two_cases_is_that_of_their_rates(rates, times):
    ours = [run(i, rate=rate * times) for i, rate in enumerate(rates)]
    theirs = [run(i, rate=rate) for i, rate in enumerate(rates)]
    ratio = beside(ours, theirs, "decode_rate")
    assert ratio is not None
    assert ratio.median == pytest.approx(times, rel=1e-6)
    assert ratio.pairs == len(rates)


def test_two_rounds_give_no_ratio():
    assert beside(runs(2), runs(2), "decode_rate") is None


def known(name: str):
    return next(each for each in catalogue()[1] if name in (each.name, each.mlx))


def test_other_models_fit_and_have_the_rate_that_the_roofline_gives_them():
    others = other_models(healthy(roofline=points(decode=(0.8, 0.05))))
    bigger = [each for each in others if each.weights > GB]
    assert bigger
    assert len(bigger) < len(others)
    assert [each.weights for each in others] == sorted((each.weights for each in others), reverse=True)
    for each in others:
        precision = each.note.split(",")[0]
        assert each.weights < 9 * GB  # 8 GB were available, and 1 GB is the profiled model's own
        assert each.decode_rate == pytest.approx(50e9 * 0.8 / known(each.name).read(precision, 4096))
        assert "80%" in each.note


def test_without_a_measured_bandwidth_there_is_no_rate():
    others = other_models(healthy(roofline=None))
    assert others
    assert all(each.decode_rate is None for each in others)
    assert all("not measured" in each.note for each in others)


def test_a_small_models_low_mbu_says_nothing_of_larger_ones():
    others = other_models(healthy(roofline=points(decode=(0.05, 0.01))))
    for each in others:
        assert "at most, with all of the bandwidth" in each.note
        assert "5.0%" in each.note
        assert each.decode_rate == pytest.approx(50e9 / known(each.name).read(each.note.split(",")[0], 4096))


def test_more_memory_brings_bigger_models():
    def largest(free: int) -> int:
        made = healthy(samples=samples(available=lambda i: free), environment=environment(memory=512 * GB))
        return max(each.weights for each in other_models(made))

    assert 0 < largest(4 * GB) < largest(40 * GB) < largest(400 * GB)


def test_a_card_with_memory_of_its_own_sets_the_limit():
    report = healthy(models=(profiled(device="cuda"),))
    assert max(each.weights for each in other_models(report, on_device=6 * GB)) < 6 * GB
    assert not any("4-bit" in each.note for each in other_models(report, on_device=6 * GB))


def test_no_model_no_others():
    assert other_models(healthy(models=(), cases=(), runs=())) == ()
