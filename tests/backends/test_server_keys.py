"""A key goes to its own server alone, and shows nowhere."""

import pytest

from mlxnb.backends.server_address import parse
from mlxnb.backends.server_key import key_for
from mlxnb.errors import MlxnbError, OptionError, ServerError
from tests.backends.served import ask, engine_for, nothing_set  # noqa: F401
from tests.endpoint import Reply, refuses, says, serving

pytest.importorskip("openai", reason="the server backend needs the openai package")

KEY = "sk-very-secret"
ELSEWHERE = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY", "OPENAI_API_KEY")


def test_the_key_goes_to_the_configured_server(monkeypatch):
    with serving(says("x")) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        monkeypatch.setenv("MLXNB_API_KEY", KEY)
        result = ask(endpoint)
    for asked in (*endpoint.looked, *endpoint.asked):
        assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert KEY not in repr(result)


def test_a_key_that_is_set_or_taken_back_later_holds_for_a_model_in_memory(monkeypatch):
    with serving(says("x"), says("y"), says("z")) as endpoint, engine_for() as engine:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        for key in ("", KEY, ""):
            monkeypatch.setenv("MLXNB_API_KEY", key)
            engine.generate("Say it", model=endpoint.url, backend="server")
    assert [asked.headers.get("Authorization") for asked in endpoint.asked] == [None, f"Bearer {KEY}", None]


def test_no_other_server_gets_any_secret(monkeypatch):
    monkeypatch.setenv("MLXNB_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", f"X-Mine: {KEY}")
    for variable in ELSEWHERE:
        monkeypatch.setenv(variable, KEY)
    with serving(says("x")) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", "http://127.0.0.1:1/v1")
        ask(endpoint)
    for asked in (*endpoint.looked, *endpoint.asked):
        assert KEY not in repr(asked.headers)
        assert "Authorization" not in asked.headers


def test_openais_key_goes_to_openai_alone_and_encrypted(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert key_for(parse("https://api.openai.com/v1")) == KEY
    for other in ("http://api.openai.com/v1", "https://api.openai.com.evil.example/v1", "https://evil.example/v1"):
        assert key_for(parse(other)) == ""


@pytest.mark.parametrize("other", ["http://localhost:2/v1", "https://localhost:1/v1", "http://127.0.0.1:1/v1"])
def test_a_key_belongs_to_scheme_host_and_port(other, monkeypatch):
    monkeypatch.setenv("MLXNB_SERVER_URL", "http://localhost:1/v1")
    monkeypatch.setenv("MLXNB_API_KEY", KEY)
    assert key_for(parse("http://localhost:1/other")) == KEY
    assert key_for(parse(other)) == ""


def test_a_server_that_repeats_the_key_does_not_get_it_shown(monkeypatch):
    with serving(refuses(401, f"Incorrect API key provided: {KEY}")) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        monkeypatch.setenv("MLXNB_API_KEY", KEY)
        with pytest.raises(ServerError) as caught:
            ask(endpoint)
    assert "refused the key (401): Incorrect API key provided: (the key)" in caught.value.message
    assert KEY not in str(caught.value)


def test_an_error_in_the_stream_that_repeats_the_key(monkeypatch):
    with serving(Reply(({"error": {"message": f"{KEY} is wrong"}},))) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        monkeypatch.setenv("MLXNB_API_KEY", KEY)
        with pytest.raises(ServerError) as caught:
            ask(endpoint)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("listed", [True, False], ids=["asked", "looked at"])
def test_a_key_that_is_withheld_says_why(listed, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLXNB_API_KEY", KEY)
    with serving(refuses(401, "no key"), **({} if listed else {"gets": {"/v1/models": refuses(401)}})) as endpoint:
        (tmp_path / ".env").write_text(f"MLXNB_SERVER_URL={endpoint.url}\n", encoding="utf-8")
        with pytest.raises(MlxnbError) as caught:
            ask(endpoint)
    assert "et MLXNB_SERVER_URL in the environment too: a key from there does not go" in caught.value.remedy
    assert "Authorization" not in endpoint.looked[0].headers


AWKWARD = "ab+cd/ef"
ESCAPED = b"ab\\u002Bcd\\/ef"


@pytest.mark.parametrize(
    "reply",
    [
        Reply((b'{"error": {"message": "wrong: ' + ESCAPED + b'"}}',), 401, {"Content-Type": "application/json"}),
        Reply((b'{"error": {"message": "wrong: ' + ESCAPED,), 401, {"Content-Type": "application/json"}),
        Reply((b'data: {"error": {"message": "wrong: ' + ESCAPED + b'"}}\n\n',)),
        Reply((b"data: " + b"x" * 34 + AWKWARD.encode() + b"\n\n",)),
        refuses(400, "x" * 292 + AWKWARD),
        Reply((), 307, {"Location": f"http://elsewhere/{AWKWARD}"}),
    ],
    ids=["escaped", "cut JSON", "in a stream", "cut event", "cut words", "redirect"],
)
def test_a_key_that_is_escaped_or_cut_is_not_shown_either(reply, monkeypatch):
    with serving(reply) as endpoint:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        monkeypatch.setenv("MLXNB_API_KEY", AWKWARD)
        with pytest.raises(ServerError) as caught:
            ask(endpoint)
    for part in (AWKWARD, AWKWARD[:5], ESCAPED.decode()):
        assert part not in str(caught.value)


def test_a_redirect_takes_neither_key_nor_prompt_along(monkeypatch):
    with serving(says("trap")) as trap:
        there = f"http://localhost:{trap.port}/v1/chat/completions"
        with serving(Reply((), 307, {"Location": there})) as endpoint:
            monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
            monkeypatch.setenv("MLXNB_API_KEY", KEY)
            with pytest.raises(ServerError, match="not followed"):
                ask(endpoint)
    assert trap.asked == []
    assert trap.looked == []


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "schlüssel"])
def test_what_is_no_key_is_refused_without_being_shown(key, monkeypatch):
    with serving(says("x")) as endpoint, engine_for() as engine:
        monkeypatch.setenv("MLXNB_SERVER_URL", endpoint.url)
        monkeypatch.setenv("MLXNB_API_KEY", key)
        with pytest.raises(OptionError, match="MLXNB_API_KEY holds what is no key") as caught:
            engine.generate("x", model=endpoint.url)
    assert key not in str(caught.value)


def test_only_what_a_request_needs_is_sent():
    with serving(says("x")) as endpoint:
        ask(endpoint)
    names = {name.lower() for name in endpoint.asked[0].headers}
    assert names <= {"host", "accept", "accept-encoding", "connection", "content-type", "content-length"}
    assert endpoint.asked[0].headers["Accept-Encoding"] == "identity"


def test_a_key_that_goes_unencrypted_over_a_network_is_noted(monkeypatch):
    from pathlib import Path

    from mlxnb.backends.server import _info
    from mlxnb.backends.server_models import Server
    from mlxnb.models import ModelSource
    from mlxnb.request import AS_STORED

    monkeypatch.setenv("MLXNB_API_KEY", KEY)
    source = ModelSource("server:x", Path(), "server", format="served", served_as="x")
    for url, noted in (
        ("http://box.example/v1", True),
        ("https://box.example/v1", False),
        ("http://localhost/v1", False),
    ):
        monkeypatch.setenv("MLXNB_SERVER_URL", url)
        notes = _info(Server(parse(url), "other"), source, AS_STORED).notes
        assert any("unencrypted" in note for note in notes) == noted
        assert KEY not in repr(notes)
