"""A monitor's figures against a scripted backend: tokens counted once, latencies as they were, a ring that ends."""

from __future__ import annotations

import csv
import io
import time
from dataclasses import fields
from itertools import pairwise

import pytest

from mlxnb.profiling.vitals import Moment, Vitals, as_csv
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


def test_moments_as_csv_read_back() -> None:
    moment = Moment(1.5, 20.0, 1, 2, 0.25, None, 0.01, None, 100, 200, 300, None, 0.5, None, "nominal")
    [row] = csv.DictReader(io.StringIO(as_csv((moment,))))
    assert list(row) == [f.name for f in fields(Moment)]
    assert (row["token_rate"], row["ttft_95"], row["pressure"]) == ("20.0", "", "nominal")
