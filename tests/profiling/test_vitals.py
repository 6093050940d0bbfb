"""A monitor's figures against a scripted backend: tokens counted once, latencies as they were, a ring that ends."""

from __future__ import annotations

import csv
import io
import json
import time
from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest

from mlxnb.profiling.moments import Moment, as_csv, as_json, to_frame
from mlxnb.profiling.vitals import Vitals
from mlxnb.request import Request
from mlxnb.runtime import Engine
from tests.scripted import ScriptedBackend


@pytest.fixture
def scripted_engine() -> object:
    backend = ScriptedBackend([" a"] * 20, prefill=0.05, delay=0.01)
    made = Engine({"scripted": backend}, caching=False)
    yield made, backend
    made.close()


def test_every_token_is_counted_once_and_latencies_are_those_of_the_answers(scripted_engine) -> None:
    engine, _ = scripted_engine
    with Vitals(engine, period=0.05) as vitals:
        jobs = [engine.submit(Request.of(f"Hi {i}", backend="scripted", cache="off")) for i in range(4)]
        results = [job.result() for job in jobs]
        began, seen = time.monotonic(), len(vitals.moments)
        while len(vitals.moments) < seen + 3:
            assert time.monotonic() < began + 60
            time.sleep(0.01)
    moments = vitals.moments
    ends = [moment.at for moment in moments]
    spans = [b - a for a, b in pairwise(ends)]
    tokens = sum(moment.token_rate * span for moment, span in zip(moments[1:], spans, strict=True))
    first = moments[0].token_rate * 0.05
    assert tokens + first == pytest.approx(80, rel=0.1)
    ttfts = sorted(result.timings.ttft for result in results)
    assert moments[-1].ttft_50 == pytest.approx((ttfts[1] + ttfts[2]) / 2)
    assert moments[-1].tpot_50 == pytest.approx(sorted(r.timings.tpot for r in results)[1], rel=0.5)
    assert max(moment.queued for moment in moments) >= 1
    assert max(moment.running for moment in moments) == 1
    assert moments[-1].running == moments[-1].queued == 0
    assert moments[-1].token_rate == 0


def test_it_keeps_the_last_moments_only_and_hears_nothing_after_its_end(scripted_engine) -> None:
    engine, _ = scripted_engine
    vitals = Vitals(engine, period=0.01, keep=5)
    with vitals:
        while len(vitals.moments) < 5 or vitals.moments[0].at - vitals.moments[-1].at == 0:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(vitals.moments) == 5
    vitals.close()
    kept = vitals.moments
    engine.generate("Hi", backend="scripted")
    assert vitals.moments == kept
    assert engine._ears == ()


def test_what_runs_already_is_seen_and_its_earlier_tokens_are_no_news(scripted_engine) -> None:
    engine, backend = scripted_engine
    backend.pieces, backend.delay = [" a"] * 5000, 0.002
    job = engine.submit(Request.of("Hi", backend="scripted", cache="off", max_tokens=5000))
    while len(job.watch.token_times) < 100:
        time.sleep(0.01)
    before = len(job.watch.token_times)
    with Vitals(engine, period=0.05) as vitals:
        while len(vitals.moments) < 3:
            time.sleep(0.01)
        moments, after = vitals.moments, len(job.watch.token_times)
        job.cancel()
    assert [moment.running for moment in moments[:3]] == [1, 1, 1]
    assert 0 < moments[0].token_rate * 0.05 <= after - before


def test_a_p95_needs_twenty_answers_and_n_is_told(scripted_engine) -> None:
    engine, backend = scripted_engine
    backend.prefill = backend.delay = 0.0
    with Vitals(engine, period=0.02) as vitals:
        for n in (19, 20):
            while len(vitals._ttfts) < n:
                engine.generate(f"Hi {n} {len(vitals._ttfts)}", backend="scripted", cache="off")
                seen = len(vitals.moments)
                while len(vitals.moments) < seen + 2:
                    time.sleep(0.005)
            last = vitals.moments[-1]
            assert (last.ttft_n, last.tpot_n) == (n, n)
            assert (last.ttft_95 is not None, last.tpot_95 is not None) == (n >= 20, n >= 20)
    slowest = [moment.ttft_slowest for moment in vitals.moments if moment.ttft_slowest is not None]
    assert len(slowest) == 20
    assert float(np.percentile(slowest, 95)) == pytest.approx(last.ttft_95)


def test_a_look_that_fails_is_told_and_not_repeated(scripted_engine, monkeypatch) -> None:
    engine, _ = scripted_engine
    with Vitals(engine, period=0.01) as vitals:
        monkeypatch.setattr(engine, "status", lambda: 1 // 0)
        vitals._thread.join(60)
    assert isinstance(vitals.failed, ZeroDivisionError)


def test_another_engine_is_followed_and_what_was_seen_stays(scripted_engine) -> None:
    engine, _ = scripted_engine
    other = Engine({"scripted": ScriptedBackend()}, caching=False)
    with Vitals(engine, period=0.02) as vitals:
        engine.generate("Hi", backend="scripted")
        while not any(moment.ttft_n for moment in vitals.moments):
            time.sleep(0.01)
        vitals.follow(other)
        assert engine._ears == ()
        other.generate("Hi", backend="scripted")
        while vitals.moments[-1].ttft_n < 2:
            time.sleep(0.01)
    assert other._ears == ()
    other.close()


MOMENTS = (
    Moment(1.5, 20.0, 1, 2, 0.25, None, 3, 0.3, 0.01, None, 3, 100, None, 300, None, 0, 0.5, 4, None, "nominal"),
    Moment(2.5, 0.0, 0, 0, 0.25, None, 3, None, 0.01, None, 3, 100, 200, 300, None, 0, 0.5, 4, 61.5, None),
)


def test_moments_as_csv_and_json_read_back() -> None:
    first, second = csv.DictReader(io.StringIO(as_csv(MOMENTS)))
    assert list(first) == [f.name for f in fields(Moment)]
    assert (first["token_rate"], first["ttft_95"], first["pressure"]) == ("20.0", "", "nominal")
    assert (first["process"], second["process"]) == ("", "200")
    data = json.loads(as_json(MOMENTS))
    assert (data["format"], data["schema"]) == ("mlxnb monitor", 1)
    assert tuple(Moment(**row) for row in data["moments"]) == MOMENTS
    assert json.loads(as_json(()))["moments"] == []


def test_moments_as_a_frame() -> None:
    pytest.importorskip("pandas")
    frame = to_frame(MOMENTS)
    assert str(frame.index[0]) == "1970-01-01 00:00:01.500000+00:00"
    assert frame["process"].isna().tolist() == [True, False]
    assert frame["token_rate"].tolist() == [20.0, 0.0]
    assert frame["temperature"].dtype == "float64"
    assert len(to_frame(())) == 0
