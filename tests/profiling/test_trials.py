"""A remedy is measured against the case as it was: a known gain is found, none is called none, a refused one raises."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from mlxnb.errors import BackendError, OptionError
from mlxnb.profiling.judge.rules import findings
from mlxnb.profiling.report import Case, Finding, Report, Trial
from mlxnb.profiling.runs.progress import Progress
from mlxnb.profiling.trials import FEWEST, MOST, figure_of, outcome, pairs_for, try_it
from mlxnb.request import Request
from mlxnb.runtime import Engine
from tests.profiling.reports import CAUSES, healthy, profiled, runs
from tests.profiling.slow import TimedBackend

TEXT = [f" {word}" for word in "one two three four five six seven eight".split()]  # noqa: SIM905


@pytest.fixture
def engine_at() -> Iterator[Callable[[Callable[[int, Request], float]], Engine]]:
    made: list[Engine] = []

    def make(rate: Callable[[int, Request], float]) -> Engine:
        made.append(Engine({"scripted": TimedBackend(rate, pieces=TEXT)}, caching=False))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def report_of(**more: object) -> Report:
    case = Case("simple", "simple", 0, max_tokens=8, asked="pocket")
    return healthy(models=(profiled(name="pocket", backend="scripted"),), cases=(replace(case, **more),))  # type: ignore[arg-type]


def finding(options: dict[str, object], rule: str = "memory-bound") -> Finding:
    trial = Trial("the remedy", options)  # type: ignore[arg-type]
    return Finding(rule, 0, "MBU", 0.8, 0.6, "share", "seen", "why", "do", trial)


def faster_in_8_bits(times: float) -> Callable[[int, Request], float]:
    return lambda place, request: 100.0 * (times if request.kv_bits else 1.0)


def test_a_known_gain_is_found(engine_at):
    tried = try_it(engine_at(faster_in_8_bits(1.5)), report_of(), finding({"kv_bits": 8}))
    assert tried.tried is not None
    assert tried.tried.figure == "decode_rate"
    assert tried.tried.median == pytest.approx(1.5, rel=0.02)
    assert tried.tried.low <= tried.tried.median <= tried.tried.high
    assert tried.tried.pairs == pairs_for(report_of(), tried)
    assert tried.was == pytest.approx(100, rel=0.02)
    assert tried.became == pytest.approx(150, rel=0.02)
    said = f"the remedy: 1.50× the decode rate (1.50 – 1.50), {tried.tried.pairs} pairs: 100 tok/s before"
    assert outcome(tried).startswith(said)
    assert replace(tried, tried=None, was=None, became=None) == finding({"kv_bits": 8})


def test_a_drifting_machine_does_not_change_the_ratio(engine_at):
    measured = itertools.count()

    def rate(place: int, request: Request) -> float:
        counted = next(measured) if request.max_tokens == 8 else 0  # others ask how long a prompt is
        return (200.0 if request.kv_bits else 100.0) * 0.97**counted

    tried = try_it(engine_at(rate), report_of(), finding({"kv_bits": 8})).tried
    assert tried is not None
    assert tried.median == pytest.approx(2.0, rel=0.02)


def test_what_is_slower_is_told(engine_at):
    tried = try_it(engine_at(faster_in_8_bits(0.5)), report_of(), finding({"kv_bits": 8})).tried
    assert tried is not None
    assert tried.median == pytest.approx(0.5, rel=0.02)


def test_within_the_spread_there_is_no_difference(engine_at):
    unrest = [90.0, 111.0, 96.0, 104.0, 100.0, 93.0, 107.0]
    engine = engine_at(lambda place, request: unrest[place * place % 7])
    tried = try_it(engine, report_of(), finding({"kv_bits": 8}))
    assert tried.tried is not None
    assert not tried.tried.differs
    assert "no difference" in outcome(tried)


def test_the_case_as_it_was_keeps_its_own_options(engine_at):
    asked: list[Request] = []

    def rate(place: int, request: Request) -> float:
        asked.append(request)
        return 100.0

    report = report_of(varied={"temperature": 0.5, "draft": "lookup"})
    try_it(engine_at(rate), report, finding({"draft": None, "draft_tokens": None}, "poor-draft"), base={"top_k": 5})
    measured = [request for request in asked if request.max_tokens == 8]
    assert {request.sampling.temperature for request in measured} == {0.5}
    assert {request.sampling.top_k for request in measured} == {5}
    asked.clear()
    draft = finding({"draft": None, "draft_tokens": None}, "poor-draft")
    try_it(engine_at(rate), replace(report, options={"top_k": 7}), draft)  # which the report itself tells
    assert {request.sampling.top_k for request in asked if request.max_tokens == 8} == {7}
    assert {(request.draft, request.strict) for request in measured} == {("lookup", False), (None, True)}


def test_nothing_to_try_says_what_to_do_by_hand():
    report = CAUSES["memory-pressure", "little left"]()
    (found,) = findings(report)
    with pytest.raises(OptionError, match=r"Nothing can be tried at once against memory-pressure\. Close other"):
        try_it(None, report, found)  # type: ignore[arg-type]


def test_a_prompt_of_a_persons_own_is_not_kept():
    with pytest.raises(OptionError, match=r"not kept in a report.*--sweep kv_bits="):
        try_it(None, report_of(scenario="prompt"), finding({"kv_bits": 8}))  # type: ignore[arg-type]


def test_a_remedy_that_is_refused_raises_and_says_why(engine_at):
    def rate(place: int, request: Request) -> float:
        if request.kv_bits:
            raise OptionError("kv_bits 8 was refused.")
        return 100.0

    with pytest.raises(BackendError, match=r"The remedy could not be tried: .*kv_bits 8 was refused"):
        try_it(engine_at(rate), report_of(), finding({"kv_bits": 8}))


def test_an_answer_of_one_token_has_no_decode_rate_to_compare(engine_at):
    with pytest.raises(BackendError, match="fewer than 3 pairs"):
        try_it(engine_at(faster_in_8_bits(2.0)), report_of(max_tokens=1), finding({"kv_bits": 8}))


def test_random_prompts_are_drawn_again(engine_at):
    tried = try_it(engine_at(faster_in_8_bits(2.0)), report_of(scenario="random 16"), finding({"kv_bits": 8}))
    assert tried.tried is not None
    assert tried.tried.median == pytest.approx(2.0, rel=0.02)


def test_progress_is_told(engine_at):
    heard = []
    try_it(engine_at(faster_in_8_bits(2.0)), report_of(), finding({"kv_bits": 8}), heard.append)
    assert heard
    assert heard[-1].done == heard[-1].total


def interrupting(requests: int) -> Callable[[Progress], None]:
    """Hears of progress, and interrupts once so many requests are done."""

    def hear(progress: Progress) -> None:
        if progress.done >= requests:
            raise KeyboardInterrupt

    return hear


def test_an_interrupt_keeps_the_pairs_that_there_are(engine_at):
    engine = engine_at(faster_in_8_bits(2.0))
    tried = try_it(engine, report_of(), finding({"kv_bits": 8}), interrupting(14)).tried
    assert tried is not None
    assert 3 <= tried.pairs < MOST
    assert tried.median == pytest.approx(2.0, rel=0.02)


def test_an_interrupt_before_that_says_so(engine_at):
    with pytest.raises(BackendError, match="was not tried for long enough: interrupted"):
        try_it(engine_at(faster_in_8_bits(2.0)), report_of(), finding({"kv_bits": 8}), interrupting(4))


@pytest.mark.parametrize(("seconds", "pairs"), [(0.0, MOST), (1.0, MOST), (4.0, 7), (100.0, FEWEST)])
def test_as_many_pairs_as_a_minute_holds(seconds, pairs):
    report = replace(report_of(), runs=runs(rates=[32 / max(seconds, 1e-6)] * 9, prefill=0.0, wait=0.0))
    assert pairs_for(report, finding({})) == pairs


def test_the_figure_is_that_of_the_phase_that_takes_the_time():
    assert figure_of(healthy(), finding({})) == "decode_rate"
    assert figure_of(healthy(runs=runs(prefill=5.0)), finding({})) == "prefill_rate"
    assert figure_of(healthy(), finding({}, "cache-misses")) == "ttft"


def report_of_pocket(scenario: str, tokens: int, **varied: object) -> Report:
    case = Case(scenario, scenario, 0, max_tokens=tokens, asked="pocket", varied=varied)  # type: ignore[arg-type]
    return healthy(models=(profiled(name="pocket", backend="torch"),), cases=(case,))


def test_lookup_is_tried_with_a_real_model(engine):
    report = report_of_pocket("simple", 24)
    tried = try_it(engine, report, finding({"draft": "lookup"})).tried
    assert tried is not None
    assert tried.pairs == MOST
    assert 0 < tried.low <= tried.median <= tried.high


def test_int8_is_tried_with_a_real_model(engine):
    tried = try_it(engine, report_of_pocket("simple", 16), finding({"quantize": "int8"})).tried
    assert tried is not None
    assert 0 < tried.low <= tried.median <= tried.high


def test_smaller_pieces_of_a_prompt_are_tried_by_the_memory_that_they_take(engine):
    pytest.importorskip("mlx_lm")
    report = report_of_pocket("random 600", 4)
    report = replace(report, models=(replace(report.models[0], backend="mlx"),))
    tried = try_it(engine, report, finding({"prefill_step": 64}, "memory-pressure"))
    assert tried.tried is not None
    assert tried.tried.figure == "peak_memory"
    assert tried.tried.high < 1
    assert "× the peak memory (0." in outcome(tried)


def test_the_prefix_cache_is_tried_with_a_real_conversation():
    engine = Engine()
    try:
        tried = try_it(engine, report_of_pocket("multi-turn", 8), finding({"cache": "auto"}, "cache-misses")).tried
    finally:
        engine.close()
    assert tried is not None
    assert tried.figure == "ttft"
    assert 0 < tried.low <= tried.median <= tried.high


def test_what_a_backend_cannot_do_is_no_silent_fallback(engine):
    with pytest.raises(BackendError, match=r"could not be tried: .*Kv_bits 8 not used"):
        try_it(engine, report_of_pocket("simple", 8), finding({"kv_bits": 8}, "kv-bound"))
