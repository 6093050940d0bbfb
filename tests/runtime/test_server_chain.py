"""A chain that begins with a server goes on to torch where the server cannot, and says why."""

import pytest

from mlxnb.backends.server import ServerBackend
from mlxnb.backends.torch import TorchBackend
from mlxnb.runtime import Engine
from tests.backends.served import SHORT, nothing_set  # noqa: F401
from tests.endpoint import Reply, nobody, refuses, says, serving

pytest.importorskip("openai", reason="the server backend needs the openai package")
pytest.importorskip("torch", reason="torch is what the chain goes on to")

CHAIN = "server,torch"


@pytest.fixture(scope="module")
def pair():
    """An engine whose server has little patience."""
    made = Engine({"server": ServerBackend(SHORT), "torch": TorchBackend()}, caching=False)
    yield made
    made.close()


def ask(engine, **options):
    return engine.generate("What is two plus three?", backend=CHAIN, max_tokens=8, **options)


def passed_over(result):
    [rejected] = [rejected for rejected in result.provenance.passed_over if rejected.subject == "server"]
    return rejected.reason


def test_the_server_answers_where_it_can(pair, monkeypatch):
    with serving(says("from afar"), models=("pocket",)) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        result = ask(pair)
        pair.unload("pocket")
    assert (result.text, result.provenance.backend) == ("from afar", "server")


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
        result = pair.generate("Hi", model="pocket", backend=CHAIN, max_tokens=4)
        pair.unload("pocket")
    assert result.provenance.backend == "torch"
    if trouble != "refused":
        assert reason in passed_over(result) or "no server answers" in passed_over(result).lower()
    assert result.text
