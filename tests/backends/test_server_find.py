"""Which server and which model a name stands for, and what is said where there is none."""

import contextlib
import time

import pytest

from mlxnb.backends.server import ServerBackend
from mlxnb.backends.server_address import parse
from mlxnb.backends.server_find import find, servers
from mlxnb.backends.server_models import REMEMBERED, Known, Server, ollama_place
from mlxnb.decision import Absent, Rejected
from mlxnb.errors import BackendMissingError, OptionError, ServerError, UnsupportedModelError
from mlxnb.runtime import Engine
from tests.backends.served import SHORT, engine_for, nothing_set  # noqa: F401
from tests.endpoint import Reply, deaf, refuses, says, serving


@pytest.fixture
def nothing_else(monkeypatch):
    """Nothing answers but what a test serves, whatever runs on this machine."""
    import mlxnb.backends.server_models as module

    looked = module.Known.look

    def look(self, address, named, kind="other"):
        if address.port in (1234, 11434):
            return Absent("server", f"no server listens at {address.shown}", "start it")
        return looked(self, address, named, kind)

    monkeypatch.setattr(module.Known, "look", look)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:8080", "http://localhost:8080/v1"),
        ("http://localhost:8080/", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1/", "http://localhost:8080/v1"),
        ("http://localhost:8080/v1/chat/completions", "http://localhost:8080/v1"),
        ("https://api.example.com/openai/v1", "https://api.example.com/openai/v1"),
        ("http://[::1]:9/v1", "http://[::1]:9/v1"),
        ("HTTP://Example.COM", "http://example.com/v1"),
    ],
)
def test_addresses(text, url):
    assert parse(text).url == url


@pytest.mark.parametrize(
    "text", ["localhost:8080", "ftp://x/v1", "http://", "http://x:99999", "http://[1", "http://x:a"]
)
def test_what_is_no_address(text):
    with pytest.raises(OptionError) as caught:
        parse(text, "MLXNB_SERVER_URL")
    assert caught.value.message.startswith("MLXNB_SERVER_URL ")
    assert "http://localhost:8080/v1" in caught.value.remedy


@pytest.mark.parametrize("url", ["http://me:secret@x/v1", "http://secret@x/v1", "http://x/v1?key=secret"])
def test_an_address_with_a_secret_in_it_is_refused_and_not_shown(url, monkeypatch):
    with engine_for() as engine, pytest.raises(OptionError) as caught:
        engine.generate("x", model=url)
    assert "secret" not in str(caught.value)
    assert "MLXNB_API_KEY" in caught.value.remedy
    monkeypatch.setenv("MLXNB_SERVER_URL", url)
    with pytest.raises(OptionError) as caught:
        find("server:tiny", True)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["127.0.0.1", "localhost", "::1", "app.localhost", "127.8.9.10"])
def test_loopback(text):
    host = f"[{text}]" if ":" in text else text
    assert parse(f"http://{host}:1").loopback
    assert not parse("http://example.com").loopback


def test_an_address_with_one_model_needs_no_name():
    with serving(says("x")) as endpoint:
        found = find(endpoint.url, True)
    assert (found.url, found.served_as, found.kind, found.format) == (endpoint.url, "tiny", "server", "served")


def test_an_address_with_several_models_needs_one():
    with serving(says("x"), models=("alpha", "beta")) as endpoint:
        found = find(endpoint.url, True)
        assert isinstance(found, Rejected)
        assert found.reason == f"{endpoint.host} has alpha, beta"
        assert found.remedy == f"name one: {endpoint.url}#alpha"
        assert find(f"{endpoint.url}#beta", True).served_as == "beta"


def test_a_model_that_is_not_there_is_refused_with_what_comes_close():
    with serving(says("x"), models=("qwen3-0.6b", "llama-3")) as endpoint:
        found = find(f"{endpoint.url}#qwen3-0.6", True)
    assert isinstance(found, Rejected)
    assert "has no 'qwen3-0.6': it has qwen3-0.6b, llama-3" in found.reason
    assert found.remedy == "ask for qwen3-0.6b"


def test_a_server_that_lists_nothing_takes_any_name_but_needs_one():
    with serving(says("x"), gets={"/v1/models": refuses(404)}) as endpoint:
        assert find(f"{endpoint.url}#any", True).served_as == "any"
        found = find(endpoint.url, True)
    assert isinstance(found, Rejected)
    assert found.remedy == f"name one: {endpoint.url}#MODEL"


def test_the_configured_server(monkeypatch, nothing_else):
    found = find("server:tiny", True)
    assert isinstance(found, Rejected)
    assert found.reason == "no server is configured"
    assert "MLXNB_SERVER_URL" in found.remedy
    with serving(says("x")) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        assert find("server:tiny", True).url == endpoint.url
        assert find("tiny", True).served_as == "tiny"
        assert find("tiny", False).served_as == "tiny"
        monkeypatch.delenv("MLXNB_SERVER_URL")
        monkeypatch.setenv("LLM_CHAT_API_URL", endpoint.url)
        assert find("server:tiny", True).url == endpoint.url
        monkeypatch.setenv("LLM_CHAT_API_URL", "mlx://tiny")
        assert isinstance(find("server:tiny", True), Rejected)


def test_ollamas_latest_needs_no_tag(monkeypatch):
    with serving(says("x"), models=("llama3:latest", "qwen3:0.6b")) as endpoint:
        monkeypatch.setenv("OLLAMA_HOST", endpoint.host)
        found = find("ollama:llama3", True)
        assert (found.served_as, found.note) == ("llama3:latest", "")
        missing = find("ollama:mistral", True)
    assert isinstance(missing, Rejected)
    assert "Ollama at" in missing.reason
    assert "ollama pull mistral" in missing.remedy


def test_a_path_goes_by_its_last_part():
    with serving(says("x"), models=("/models/qwen.gguf", "org/other")) as endpoint:
        found = find(f"{endpoint.url}#qwen.gguf", True)
        assert (found.served_as, found.note) == ("/models/qwen.gguf", "served as /models/qwen.gguf")
        assert isinstance(find(f"{endpoint.url}#other", True), Rejected)  # another organisation's may be another model


@pytest.mark.parametrize("name", ["pocket", "./folder", "/folder", "~/folder", "mlx://name", "C:\\models\\x"])
def test_what_is_of_this_machine_is_no_servers_unless_a_person_says_so(name, monkeypatch):
    with serving(says("x"), models=(name,)) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        found = find(name, False)
        assert isinstance(found, Rejected)
        assert found.remedy == f"ask a server for it by server:{name}"
        assert endpoint.looked == []
        assert find(f"server:{name}", False).served_as == name
        assert find(name, True).served_as == name


def test_no_server_at_all_says_what_to_start(nothing_else):
    found = find("some-model", True)
    assert isinstance(found, Rejected)
    assert found.reason == "no server answers at 127.0.0.1:1234 or 127.0.0.1:11434"
    assert "start LM Studio or Ollama, or set MLXNB_SERVER_URL" in found.remedy


@pytest.mark.parametrize(
    ("prefix", "says_so", "remedy"),
    [
        ("ollama", "Ollama does not run: no server listens at 127.0.0.1:11434", "start Ollama, or set OLLAMA_HOST"),
        ("lmstudio", "LM Studio does not run: no server listens at 127.0.0.1:1234", "start LM Studio's server"),
    ],
)
def test_one_that_does_not_run_is_to_be_started(prefix, says_so, remedy, nothing_else):
    found = find(f"{prefix}:tiny", False)
    assert isinstance(found, Absent)
    assert found.reason == says_so
    assert found.remedy.startswith(remedy)


@pytest.mark.parametrize("named", ["auto", "server"])
def test_under_auto_a_name_of_a_servers_goes_to_servers_alone(named, nothing_else):
    from tests.scripted import ScriptedBackend

    other = ScriptedBackend(name="other")
    engine = Engine({"other": other, "server": ServerBackend(SHORT)}, caching=False)
    with contextlib.closing(engine), serving(says("x"), refuses(400, "no")) as endpoint:
        result = engine.generate("Hi", model=endpoint.url, backend=named)
        assert (result.text, result.provenance.passed_over) == ("x", ())
        with pytest.raises(ServerError, match="refused the request"):
            engine.generate("Hi", model=endpoint.url, backend=named)
        with pytest.raises(UnsupportedModelError, match="has no 'nix': it has tiny"):
            engine.generate("Hi", model=f"{endpoint.url}#nix", backend=named)
    assert other.loads == 0


def test_without_the_package_a_name_of_a_servers_says_what_to_install(monkeypatch):
    import mlxnb.backends.server as module

    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with engine_for() as engine, pytest.raises(BackendMissingError) as caught:
        engine.generate("Hi", model="ollama:tiny")
    assert caught.value.message == "The server backend cannot run here: openai is not installed."
    assert caught.value.remedy == "Try pip install 'mlxnb[server]'."


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0", "http://127.0.0.1:11434/v1"),
        ("0.0.0.0:1", "http://127.0.0.1:1/v1"),
        (":1", "http://127.0.0.1:1/v1"),
        ("::1", "http://[::1]:11434/v1"),
        ("::", "http://127.0.0.1:11434/v1"),
        ("box", "http://box:11434/v1"),
        ("https://box", "https://box/v1"),
        ("http://box:7/", "http://box:7/v1"),
    ],
)
def test_where_ollama_is(given, url, monkeypatch):
    monkeypatch.setenv("OLLAMA_HOST", given)
    assert ollama_place().address.url == url


@pytest.mark.parametrize(("variable", "wrong"), [("MLXNB_SERVER_URL", "localhost:8080"), ("OLLAMA_HOST", "box:port")])
def test_a_wrong_address_stops_only_what_asks_for_a_server(variable, wrong, monkeypatch, nothing_else):
    monkeypatch.setenv(variable, wrong)
    found = find("some-model", False)
    assert isinstance(found, Rejected)
    assert variable in found.reason
    assert found.remedy.startswith("it takes ")
    with pytest.raises(OptionError, match=variable):
        find("some-model", True)
    with serving(says("x")) as endpoint:
        assert find(endpoint.url, True).served_as == "tiny"


def test_every_place_is_told_for_tables(monkeypatch, nothing_else):
    with serving(says("x")) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        found = servers()
    assert [place.prefix for place, _ in found] == ["server", "lmstudio", "ollama"]
    assert [isinstance(server, Server) for _, server in found] == [True, False, False]
    assert found[0][1].label == endpoint.host


def test_what_was_found_is_remembered_for_some_seconds():
    now = [100.0]
    known = Known(clock=lambda: now[0])
    with serving(says("x")) as endpoint:
        address = parse(endpoint.url)
        for seconds in (0, REMEMBERED - 0.1):
            now[0] = 100.0 + seconds
            assert isinstance(known.look(address, True), Server)
        assert len(endpoint.looked) == 1
        now[0] += 0.2
        known.look(address, True)
        assert len(endpoint.looked) == 2
        known.forget()
        known.look(address, True)
        assert len(endpoint.looked) == 3


def test_a_guess_that_hangs_is_given_up_soon():
    with deaf() as url:
        began = time.perf_counter()
        found = Known().look(parse(url), False)
    assert isinstance(found, Rejected)
    assert "did not answer within 0.3 s" in found.reason
    assert time.perf_counter() - began < 5  # far less than the 60 s of a socket


def test_a_guess_that_was_given_up_is_no_answer_for_who_names_the_server(monkeypatch):
    import mlxnb.backends.server_models as module

    monkeypatch.setattr(module, "NAMED", 0.6)
    known = Known()
    with deaf() as url:
        reasons = [known.look(parse(url), named).reason for named in (False, True, False)]
    assert ["0.3 s" in reason for reason in reasons] == [True, False, False]
    assert all("did not answer within 0.6 s" in reason for reason in reasons[1:])  # the last is remembered


@pytest.mark.parametrize(
    ("reply", "says_so"),
    [
        (Reply((b"<html>",), 200, {"Content-Type": "text/html"}), "answered what is no JSON"),
        (Reply((b'{"data": 5}',)), "answers, but not as an OpenAI-compatible server does"),
        (Reply((b"[]",)), "answers, but not as an OpenAI-compatible server does"),
        (refuses(500), "answered HTTP 500"),
        (refuses(401), "wants a key (answered HTTP 401)"),
        (Reply((b'{"data": ["' + b"x" * 5_000_000 + b'"]}',)), "answered more than 4 MB"),
        (Reply((), 302, {"Location": "http://elsewhere.example/"}), "answered HTTP 302"),
    ],
)
def test_a_list_that_is_none(reply, says_so):
    with serving(says("x"), gets={"/v1/models": reply}) as endpoint:
        found = find(endpoint.url, True)
    assert isinstance(found, Rejected)
    assert says_so in found.reason
    assert found.remedy


def test_models_that_are_strange_are_left_out():
    listed = {
        "/v1/models": {"data": [5, {"id": 7}, {}, {"id": "a\x1b[31m"}, {"id": "x" * 400}, {"id": ""}, {"id": "fine"}]}
    }
    with serving(says("x"), gets=listed) as endpoint:
        assert find(endpoint.url, True).served_as == "fine"


@pytest.mark.parametrize(
    ("owner", "gets", "context", "quantization"),
    [
        ("vllm", {}, 4096, None),
        ("llamacpp", {"/props": {"default_generation_settings": {"n_ctx": 2048}}}, 2048, None),
        (
            "organization_owner",
            {"/api/v0/models/tiny": {"max_context_length": 9, "loaded_context_length": 5, "quantization": "Q4_K_M"}},
            5,
            "Q4_K_M",
        ),
        (
            "library",
            {
                "/api/ps": {"models": [{"name": "tiny", "context_length": 8192}]},
                "/api/show": {"details": {"quantization_level": "Q8_0"}},
            },
            8192,
            "Q8_0",
        ),
        ("library", {}, None, None),
        ("organization_owner", {"/api/v0/models/tiny": {"max_context_length": "many", "quantization": 5}}, None, None),
        ("organization_owner", {"/api/v0/models/tiny": {"max_context_length": 10**30}}, None, None),
        (
            "organization_owner",
            {"/api/v0/models/tiny": {"quantization": "Q4\x1b[1m\n" + "x" * 99}},
            None,
            "Q4 [1m " + "x" * 33,
        ),
    ],
)
def test_what_a_server_tells_of_its_model(owner, gets, context, quantization):
    listed = {"/v1/models": {"data": [{"id": "tiny", "owned_by": owner, "max_model_len": 4096}]}}
    with serving(says("x"), gets={**listed, **gets}) as endpoint, engine_for() as engine:
        info = engine.load(endpoint.url)
    assert (info.context_length, info.quantization) == (context, quantization)
    assert (info.parameters, info.memory) == (0, 0)
