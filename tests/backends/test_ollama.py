"""Ollama's own calls against a scripted endpoint: what they give, and its errors as ours."""

import json

import pytest

from mlxnb.backends import ollama
from mlxnb.errors import DownloadError, ModelNotFoundError, ServerError
from tests.backends.served import nothing_set  # noqa: F401
from tests.endpoint import HANG, RESET, Reply, nobody, refuses, says, serving

pytest.importorskip("ollama", reason="Ollama's client is not installed")

DETAILS = {"family": "qwen3", "parameter_size": "596M", "quantization_level": "Q8_0"}


def plain(status, **body):
    return Reply((json.dumps(body).encode(),), status, {"Content-Type": "application/json"})


def lines(*steps):
    return Reply(
        tuple(json.dumps(step).encode() + b"\n" for step in steps), 200, {"Content-Type": "application/x-ndjson"}
    )


@pytest.fixture
def served(monkeypatch):
    """An endpoint in Ollama's place, with calls to fill in."""
    with serving(says("x")) as endpoint:
        monkeypatch.setenv("OLLAMA_HOST", endpoint.host)
        yield endpoint


def test_models(served):
    served.gets["/api/tags"] = {
        "models": [{"model": "qwen3:0.6b", "size": 639446688, "details": DETAILS}, {"model": "x"}]
    }
    first, second = ollama.models()
    assert first == ollama.OllamaModel("qwen3:0.6b", 639446688, "qwen3", "596M", "Q8_0")
    assert second == ollama.OllamaModel("x", 0)


def test_show(served):
    served.gets["/api/show"] = plain(
        200, details=DETAILS, model_info={"qwen3.context_length": 40960}, capabilities=["completion", "thinking"]
    )
    found = ollama.show("qwen3:0.6b")
    assert (found.context_length, found.quantization) == (40960, "Q8_0")
    assert found.capabilities == ("completion", "thinking")
    assert served.looked[-1].body["model"] == "qwen3:0.6b"


def test_running_and_unload(served):
    served.gets["/api/ps"] = {
        "models": [
            {"model": "a", "size": 100, "size_vram": 60, "context_length": 4096, "expires_at": "2026-11-21T17:00:00Z"}
        ]
    }
    [one] = ollama.running()
    assert one == ollama.OllamaRunning("a", 100, 60, 4096, "2026-11-21T17:00:00+00:00")
    served.gets["/api/generate"] = plain(200, model="a", response="", done=True)
    ollama.unload("a")
    assert (served.looked[-1].body["model"], served.looked[-1].body["keep_alive"]) == ("a", 0)


def test_pull_tells_how_far_it_is(served):
    served.gets["/api/pull"] = lines(
        {"status": "pulling manifest"},
        {"status": "pulling", "digest": "sha256:a", "total": 100},
        {"status": "pulling", "digest": "sha256:a", "total": 100, "completed": 40},
        {"status": "pulling", "digest": "sha256:b", "total": 10, "completed": 10},
        {"status": "success"},
    )
    heard = []
    ollama.pull("qwen3", lambda done, total: heard.append((done, total)))
    assert heard == [(0, 100), (40, 100), (50, 110)]


def test_pull_stops_where_progress_raises(served):
    class Enough(Exception):
        pass

    def stop(done, total):
        raise Enough

    step = {"status": "pulling", "digest": "sha256:a", "total": 100}
    served.gets["/api/pull"] = Reply((json.dumps(step).encode() + b"\n", HANG), 200, {})
    with pytest.raises(Enough):
        ollama.pull("qwen3", stop)
    assert served.left.wait(5)


@pytest.mark.parametrize(
    ("reply", "kind", "says_so"),
    [
        (lines({"error": "pull model manifest: file does not exist"}), ModelNotFoundError, "knows no 'nix'"),
        (lines({"status": "pulling"}, {"error": "no space left on device"}), DownloadError, "no space left on device"),
        (refuses(500, "kaput"), DownloadError, "could not fetch nix"),
        (Reply((RESET,)), DownloadError, "broke off"),
        (Reply((b"{oops\n",), 200, {}), ServerError, "does not understand"),
        (Reply((), 307, {"Location": "http://elsewhere.example/"}), DownloadError, "could not fetch nix"),
    ],
)
def test_pull_that_fails(served, reply, kind, says_so):
    served.gets["/api/pull"] = reply
    with pytest.raises(kind, match=says_so) as caught:
        ollama.pull("nix")
    assert caught.value.remedy


def test_a_model_that_is_not_there(served):
    served.gets["/api/show"] = plain(404, error="model 'nix' not found")
    with pytest.raises(ModelNotFoundError, match="knows no 'nix': model 'nix' not found") as caught:
        ollama.show("nix")
    assert caught.value.remedy == "Fetch it: ollama pull nix."


@pytest.mark.parametrize("answer", [{"models": 5}, [], {"models": [{"size": "many"}]}])
def test_a_list_of_another_form(served, answer):
    served.gets["/api/tags"] = answer
    with pytest.raises(ServerError, match="does not understand"):
        ollama.models()


def test_nobody_there(monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", nobody().removesuffix("/v1"))
    with pytest.raises(ServerError, match="does not answer") as caught:
        ollama.models()
    assert caught.value.remedy == "Start it, or set OLLAMA_HOST to its address."
