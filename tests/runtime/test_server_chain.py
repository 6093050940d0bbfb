"""A chain that begins with a server goes on where the server cannot, and says why."""

import contextlib
import time

import pytest

from mlxnb.backends.server import ServerBackend
from mlxnb.errors import GenerationError, ModelNotFoundError, PromptTooLongError
from mlxnb.runtime import Engine
from tests.backends.served import SHORT, nothing_set  # noqa: F401
from tests.endpoint import AFTER, BEFORE, HANG, Fault, Reply, nobody, refuses, says, serving
from tests.scripted import ScriptedBackend

pytest.importorskip("openai", reason="the server backend needs the openai package")

CHAIN = "server,second"
TEXT = "from here"


@pytest.fixture(scope="module")
def pair():
    """An engine whose server has little patience."""
    second = ScriptedBackend(["from ", "here"], name="second")
    made = Engine({"server": ServerBackend(SHORT), "second": second}, caching=False)
    yield made
    made.close()


def ask(engine, **options):
    return engine.generate("What is two plus three?", backend=CHAIN, max_tokens=8, **options)


def passed_over(result):
    [rejected] = result.provenance.passed_over
    assert rejected.subject == "server"
    return rejected.reason


@pytest.fixture(autouse=True)
def let_go(pair, nothing_set):  # noqa: F811
    """Each test has a server of its own."""
    yield
    with contextlib.suppress(ModelNotFoundError):
        pair.unload("pocket")


def test_the_server_answers_where_it_can(pair, monkeypatch):
    with serving(says("from afar"), models=("pocket",)) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        result = ask(pair)
    assert (result.text, result.provenance.backend) == ("from afar", "server")


def test_a_name_that_leads_to_another_server_by_now_is_asked_there(pair, monkeypatch):
    with (
        serving(says("old"), models=("pocket",)) as old,
        serving(says("new"), says("again"), models=("pocket",)) as new,
    ):
        monkeypatch.setenv("MLXNB_SERVER_URL", old.url)
        assert ask(pair).text == "old"
        monkeypatch.setenv("MLXNB_SERVER_URL", new.url)
        moved, after = ask(pair), ask(pair)
    assert (moved.text, after.text) == ("new", "again")
    assert "the name leads to another server by now" in moved.provenance.notes
    assert "the name leads to another server by now" not in after.provenance.notes


NO_SERVER = {
    "refused": ({}, "No server listens at"),
    "other models": ({"/v1/models": {"data": [{"id": "else"}]}}, "has no 'pocket'"),
    "an error": ({"/v1/models": refuses(500)}, "answered HTTP 500"),
    "a key": ({"/v1/models": refuses(401)}, "wants a key"),
    "no list": ({"/v1/models": Reply((b"<html>",), 200, {"Content-Type": "text/html"})}, "answered what is no JSON"),
}


@pytest.mark.parametrize("trouble", NO_SERVER)
def test_a_server_that_cannot_be_used_is_passed_over(pair, monkeypatch, trouble):
    gets, reason = NO_SERVER[trouble]
    with serving(says("x"), gets=gets) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", nobody() if trouble == "refused" else endpoint.url)
        result = ask(pair)
    assert (result.text, result.provenance.backend) == (TEXT, "second")
    assert reason in passed_over(result)
    assert endpoint.asked == []


@pytest.mark.parametrize("fault", BEFORE, ids=str)
def test_a_server_that_fails_before_the_first_token_is_passed_over(pair, monkeypatch, fault: Fault):
    with serving(*fault.script, models=("pocket",)) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        result = ask(pair)
    assert (result.text, result.provenance.backend) == (TEXT, "second")
    assert fault.says.replace("tiny", "pocket") in passed_over(result)
    assert len(endpoint.asked) == fault.asked
    assert not any("asked" in note or "client's" in note for note in result.provenance.notes)


@pytest.mark.parametrize("fault", AFTER, ids=str)
def test_no_second_answer_is_glued_to_one_that_broke_off(pair, monkeypatch, fault: Fault):
    with serving(*fault.script, models=("pocket",)) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        with pytest.raises(GenerationError) as caught:
            ask(pair)
    assert caught.value.partial.text == "Half an"
    assert caught.value.partial.provenance.backend == "server"
    assert fault.says.format(host=endpoint.host) in caught.value.message


def test_cancelling_does_not_send_a_request_on(pair, monkeypatch):
    with serving(Reply((HANG,)), models=("pocket",)) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        job = pair.stream("Hi", backend=CHAIN)
        while not endpoint.asked:
            time.sleep(0.01)
        job.cancel()
        result = job.result()
    assert (result.text, result.finish_reason, result.provenance.backend) == ("", "interrupted", "server")


def test_a_prompt_that_is_too_long_goes_nowhere_else(pair, monkeypatch):
    with serving(refuses(400, "exceeds the context"), models=("pocket",)) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        with pytest.raises(PromptTooLongError):
            ask(pair)


def test_a_batch_is_asked_one_by_one(pair, monkeypatch):
    with serving(says("one"), refuses(400), says("three"), models=("pocket",)) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        first, second, third = pair.batch(["a", "b", "c"], backend=CHAIN, max_tokens=4)
    assert (first.text, third.text) == ("one", "three")
    assert (second.text, second.provenance.backend) == (TEXT, "second")
    assert "refused the request (400)" in passed_over(second)


def test_the_chain_of_the_real_ones(monkeypatch):
    pytest.importorskip("torch", reason="torch is what the chain goes on to")
    from mlxnb.backends.torch import TorchBackend

    both = Engine({"server": ServerBackend(SHORT), "torch": TorchBackend()}, caching=False)
    with serving(refuses(500, "kaput"), models=("pocket",)) as endpoint, contextlib.closing(both):
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        result = both.generate("What is a list?", backend="server,torch", max_tokens=8)
        alone = both.generate("What is a list?", backend="torch", max_tokens=8)
    assert (result.text, result.tokens) == (alone.text, alone.tokens)
    assert "failed (500): kaput" in passed_over(result)
    assert len(endpoint.asked) == 3


def test_under_auto_a_server_that_was_never_to_be_asked_is_not_passed_over(pair):
    result = pair.generate("Hi", max_tokens=4)
    assert (result.provenance.backend, result.provenance.passed_over) == ("second", ())
