"""Cancelling leaves the server within a moment, wherever the answer hangs."""

import time

import pytest

from mlxnb.backends.server_stream import Patience
from tests.backends.served import LONG, engine_for, nothing_set  # noqa: F401
from tests.endpoint import HANG, Reply, piece, refuses, serving

pytest.importorskip("openai", reason="the server backend needs the openai package")

PLACES = {
    "before the headers": Reply((HANG,)),
    "before the first token": Reply((b": working\n\n", HANG)),
    "in the middle": Reply((piece("Half "), piece("an EN"), HANG)),
}


@pytest.mark.parametrize("place", PLACES)
def test_cancelling_closes_the_connection(place):
    with serving(PLACES[place]) as endpoint, engine_for(LONG) as engine:
        job = engine.stream("x", model=endpoint.url, stop="END")
        if place == "in the middle":
            chunks = iter(job)
            next(chunks), next(chunks)
        else:
            wait_for(lambda: endpoint.asked)
        job.cancel()
        result = job.result()
        assert endpoint.left.wait(5), "the connection is still open"
    assert result.finish_reason == "interrupted"
    assert result.text == ("Half an EN" if place == "in the middle" else "")
    assert len(endpoint.asked) == 1


def test_leaving_the_loop_closes_the_connection():
    with serving(Reply((piece("a"), HANG))) as endpoint, engine_for(LONG) as engine:
        for chunk in engine.stream("x", model=endpoint.url):
            assert chunk.text == "a"
            break
        assert endpoint.left.wait(5)


def test_cancelling_ends_the_pause_between_two_tries():
    patience = Patience(pause=1000.0, longest=1000.0)
    with serving(refuses(503)) as endpoint, engine_for(patience) as engine:
        job = engine.stream("x", model=endpoint.url)
        wait_for(lambda: endpoint.asked)
        time.sleep(0.2)
        job.cancel()
        assert job.wait(10)
        assert job.result().finish_reason == "interrupted"
    assert len(endpoint.asked) == 1


def test_closing_the_engine_leaves_a_server_that_hangs():
    with serving(Reply((HANG,))) as endpoint:
        with engine_for(LONG) as engine:
            job = engine.stream("x", model=endpoint.url)
            wait_for(lambda: endpoint.asked)
        assert job.wait(5)
        assert endpoint.left.wait(5)


def wait_for(there, seconds=10.0):
    until = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < until
        time.sleep(0.01)
