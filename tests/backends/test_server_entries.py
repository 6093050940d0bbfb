"""The models of servers in the list of models, against scripted endpoints."""

from __future__ import annotations

import pytest

from mlxnb.backends.server_entries import in_ollamas_memory, served_entries
from mlxnb.backends.server_find import find
from mlxnb.errors import ModelNotFoundError, OptionError
from mlxnb.models import ModelSource
from mlxnb.render.models import ollama_table
from mlxnb.runtime.downloads import download
from tests.backends.served import nothing_set  # noqa: F401
from tests.backends.test_ollama import DETAILS, lines
from tests.endpoint import nobody, says, serving

pytest.importorskip("openai", reason="the client of the server backend is not installed")


def test_no_server_is_no_entry():
    assert served_entries() == []


def test_a_plain_server_lists_names(monkeypatch):
    with serving(says("x"), models=("tiny", "<b>bold</b>")) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        entries = served_entries()
        assert [entry.name for entry in entries] == ["server:tiny", "server:<b>bold</b>"]
        assert {(entry.format, entry.problem) for entry in entries} == {("served", "")}
        assert endpoint.host in entries[0].where
        assert isinstance(find("server:tiny", True), ModelSource)


def test_a_server_that_a_person_named_and_that_is_away_is_said(monkeypatch):
    monkeypatch.setenv("MLXNB_SERVER_URL", nobody())
    [entry] = served_entries()
    assert "no server listens at" in entry.problem.lower()
    assert entry.remedy == "Try to start it, or check the address."


def test_an_address_that_is_none(monkeypatch):
    monkeypatch.setenv("MLXNB_SERVER_URL", "nonsense")
    [entry] = served_entries()
    assert "MLXNB_SERVER_URL" in entry.problem


def listing(owner, *names):
    """What a kind of server, known by the owner that it names, says that it has."""
    return {"/v1/models": {"data": [{"id": name, "owned_by": owner} for name in names]}}


@pytest.fixture
def ollama(monkeypatch):
    pytest.importorskip("ollama", reason="Ollama's client is not installed")
    with serving(says("x"), gets=listing("library", "qwen3:0.6b", "other:latest")) as endpoint:
        monkeypatch.setenv("OLLAMA_HOST", endpoint.host)
        endpoint.gets["/api/tags"] = {"models": [{"model": "qwen3:0.6b", "size": 639446688, "details": DETAILS}]}
        yield endpoint


def test_ollama_s_models_come_with_their_sizes(ollama):
    first, second = served_entries()
    assert (first.name, first.format, first.size, first.parameters) == ("ollama:qwen3:0.6b", "gguf", 639446688, 596e6)
    assert (first.precision, first.architecture) == ("Q8_0", "qwen3")
    assert first.where.startswith("Ollama at ")
    assert (second.name, second.size) == ("ollama:other:latest", None)


def test_what_ollama_has_in_memory(ollama):
    ollama.gets["/api/ps"] = {"models": [{"model": "qwen3:0.6b", "size": 900, "size_vram": 600, "context_length": 4096,
                                          "expires_at": "2026-11-21T17:00:00Z"}]}  # fmt: skip
    [one] = in_ollamas_memory()
    assert (one.name, one.memory, one.on_gpu) == ("ollama:qwen3:0.6b", 900, 600)
    text = ollama_table([one]).text()
    assert "ollama:qwen3:0.6b" in text
    assert "2026-11-21T17:00:00+00:00" in text


@pytest.mark.parametrize("secret", ["hunter2hunter2", ""])
def test_another_ollama_is_asked_itself_and_only_it_gets_its_key(ollama, monkeypatch, secret):
    ollama.gets["/api/ps"] = {"models": [{"model": "here", "size": 1}]}
    with serving(says("x"), gets=listing("library", "qwen3:0.6b")) as other:
        other.gets["/api/tags"] = {"models": [{"model": "qwen3:0.6b", "size": 5, "details": DETAILS}]}
        other.gets["/api/ps"] = {"models": [{"model": "there", "size": 2}]}
        monkeypatch.setenv("MLXNB_SERVER_URL", other.url)
        monkeypatch.setenv("MLXNB_API_KEY", secret)
        monkeypatch.setenv("OLLAMA_API_KEY", "swordfish")
        sizes = {entry.name: entry.size for entry in served_entries()}
        assert (sizes["server:qwen3:0.6b"], sizes["ollama:qwen3:0.6b"]) == (5, 639446688)
        assert {one.name for one in in_ollamas_memory()} == {"server:there", "ollama:here"}
    assert {key for _, key in keys(other)} == {f"Bearer {secret}" if secret else ""}
    assert {key for path, key in keys(ollama) if path.startswith("/api/")} == {"Bearer swordfish"}


def keys(endpoint):
    """Each path that was looked at, and the key that came with it."""
    lower = [(one.path, {name.lower(): value for name, value in one.headers.items()}) for one in endpoint.looked]
    return [(path, headers.get("authorization", "")) for path, headers in lower]


def test_nothing_is_in_the_memory_of_one_that_is_not_there():
    assert in_ollamas_memory() == []


def test_lm_studio_tells_more_than_names(monkeypatch):
    told = {"data": [{"id": "tiny", "arch": "llama", "compatibility_type": "mlx", "quantization": "4bit",
                      "state": "loaded", "max_context_length": 4096}, {"id": 5}, "x"]}  # fmt: skip
    with serving(says("x"), gets={"/api/v0/models": told, **listing("organization_owner", "tiny")}) as endpoint:
        from mlxnb.backends import server_find
        from mlxnb.backends.server_address import parse
        from mlxnb.backends.server_models import Place

        at = [Place("lmstudio", parse(endpoint.url), "lmstudio", False)]
        monkeypatch.setattr(server_find, "places", lambda: at)
        [entry] = served_entries()
    assert (entry.name, entry.format, entry.precision) == ("lmstudio:tiny", "safetensors", "4bit")
    assert (entry.context, entry.architecture, entry.note) == (4096, "llama", "in its memory")


def test_download_has_ollama_pull_it(ollama):
    ollama.gets["/api/pull"] = lines({"status": "x", "digest": "a", "total": 9, "completed": 9}, {"status": "success"})
    heard = []
    source = download("ollama:qwen3:0.6b", None, lambda done, total: heard.append((done, total)))
    assert (source.name, source.format, heard) == ("ollama:qwen3:0.6b", "served", [(9, 9)])


@pytest.mark.parametrize(
    ("name", "revision", "error", "says_so"),
    [
        ("ollama:x", "v1", OptionError, "has no revisions"),
        ("lmstudio:x", None, ModelNotFoundError, "ollama:NAME is fetched here"),
        ("ollama: ", None, ModelNotFoundError, "a model of a server"),
        ("http://localhost:1/v1", None, ModelNotFoundError, "a model of a server"),
    ],
)
def test_what_no_server_fetches(name, revision, error, says_so):
    with pytest.raises(error, match=says_so):
        download(name, revision)
