"""Settings from the environment: their defaults, their origin, and what a wrong value says."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb import config
from mlxnb.config import SETTINGS, VARIABLES, Settings, settings
from mlxnb.env_file import read_env_file
from mlxnb.errors import OptionError
from mlxnb.request import Request


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable, and a folder of the test's own without a .env file."""
    for names in VARIABLES.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    yield
    config.forget_kernel()


def test_the_defaults_are_those_of_a_request() -> None:
    now, request = settings(), Request.of("hello")
    assert (now.model, now.backend, now.max_tokens) == (request.model, request.backend, request.max_tokens)
    assert now.temperature == request.sampling.temperature
    assert now.local_models_dir is None
    assert set(now.origin.values()) == {"default"}
    assert set(now.origin) == set(VARIABLES)


def test_the_environment_is_read_at_each_call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLXNB_MODEL", " mlx-community/Qwen3-0.6B-4bit ")
    monkeypatch.setenv("MLXNB_BACKEND", "torch")
    monkeypatch.setenv("MLXNB_MAX_TOKENS", "64")
    monkeypatch.setenv("MLXNB_TEMPERATURE", "0.7")
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path))
    monkeypatch.setenv("MLXNB_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("MLXNB_LM", "torch")
    monkeypatch.setenv("MLXNB_MEMORY_MB", "8000")
    monkeypatch.setenv("MLXNB_KEEP_ALIVE", "600")
    for name, value in (("ANSWERS_MB", "10"), ("STATES_MB", "2000"), ("DAYS", "7")):
        monkeypatch.setenv(f"MLXNB_CACHE_{name}", value)
    now = settings()
    assert (now.model, now.backend) == ("mlx-community/Qwen3-0.6B-4bit", "torch")
    assert (now.max_tokens, now.temperature, now.local_models_dir) == (64, 0.7, tmp_path)
    assert now.cache_dir == tmp_path / "cache"
    assert (now.cache_answers_mb, now.cache_states_mb, now.cache_days) == (10, 2000, 7)
    assert now.lm == "torch"
    assert (now.memory_mb, now.keep_alive) == (8000, 600)
    assert type(now.max_tokens) is int
    named = ("model", "backend", "max_tokens", "temperature", "cache_dir", "cache_days", "lm")
    assert {name: now.origin[name] for name in named} == {name: VARIABLES[name][0] for name in named}
    assert now.origin["local_models_dir"] == "LOCAL_MODELS_DIR"
    monkeypatch.setenv("MLXNB_TEMPERATURE", "  ")
    assert settings().origin["temperature"] == "default"


@pytest.mark.parametrize(
    ("name", "value", "takes"),
    [
        ("MLXNB_MAX_TOKENS", "many", "a whole number of at least 1"),
        ("MLXNB_MAX_TOKENS", "0", "a whole number of at least 1"),
        ("MLXNB_MAX_TOKENS", "1.5", "a whole number of at least 1"),
        ("MLXNB_TEMPERATURE", "hot", "a number from 0 to 10"),
        ("MLXNB_TEMPERATURE", "nan", "a number from 0 to 10"),
        ("MLXNB_TEMPERATURE", "11", "a number from 0 to 10"),
        ("MLXNB_CACHE_STATES_MB", "0", "a whole number of at least 1"),
        ("MLXNB_CACHE_DAYS", "soon", "a whole number of at least 1"),
        ("MLXNB_LM", "jax", "auto, mlx or torch"),
        ("MLXNB_PROBE", "often", "auto or off"),
        ("MLXNB_QUANTIZE", "int2", "int8, int4 or none"),
        ("MLX_QUANTIZATION", "maybe", "true, false, int8 or int4"),
        ("MLXNB_TOP_P", "1.5", "a number from 0 to 1"),
        ("MLX_TOP_P", "most", "a number from 0 to 1"),
        ("MLX_MAX_TOKENS", "-1", "a whole number of at least 1"),
        ("MLX_BATCH_SIZE", "0", "a whole number of at least 1"),
        ("MLX_MEMORY_POOL_SIZE", "16000000000", "megabytes, from 1 to 100,000,000"),
        ("MLXNB_MEMORY_MB", "lots", "megabytes"),
        ("MLXNB_SERVER_URL", "localhost:8080", "a server's address"),
        ("MLXNB_SERVER_URL", "ftp://here", "a server's address"),
        ("MLXNB_MODEL", "a\nb", "without control characters"),
        ("LOCAL_MODELS_DIR", "~nobody-by-this-name/models", "a folder"),
    ],
)
def test_a_wrong_value_names_the_variable(name: str, value: str, takes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    now = settings()
    [wrong] = {str(err): err for err in now.wrong()}.values()
    assert re.match(f"{name} is .*{takes}", str(wrong), re.DOTALL)
    [field] = [field for field, names in VARIABLES.items() if name in names]
    with pytest.raises(OptionError, match=f"^{name} is "):
        getattr(now, field)
    for other in set(SETTINGS) - {field}:
        getattr(now, other)  # what does not need it goes on


def test_the_folder_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCAL_MODELS_DIR", "~/models")
    assert settings().local_models_dir == tmp_path / "models"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCAL_MODELS_DIR", "models")
    assert settings().local_models_dir == tmp_path / "models"


def test_the_names_of_other_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "LLM_CHAT_API_URL": "mlx://llama-3.1-8b-instruct",
        "MLX_MODEL_NAME": "another",
        "MLX_MAX_TOKENS": "2048",
        "MLX_TEMPERATURE": "0.7",
        "MLX_TOP_P": "0.9",
        "MLX_MEMORY_POOL_SIZE": "8192",
        "MLX_BATCH_SIZE": "1",
        "MLX_QUANTIZATION": "true",
    }.items():
        monkeypatch.setenv(name, text)
    now = settings()
    assert (now.model, now.server_url) == ("mlx://llama-3.1-8b-instruct", None)
    assert (now.max_tokens, now.temperature, now.top_p) == (2048, 0.7, 0.9)
    assert (now.memory_mb, now.batch_size, now.quantize) == (8192, 1, "int4")
    assert now.givers("model") == ["LLM_CHAT_API_URL", "MLX_MODEL_NAME"]
    assert now.givers("server_url") == []
    monkeypatch.setenv("MLXNB_MODEL", "pocket")
    monkeypatch.setenv("MLXNB_QUANTIZE", "none")
    assert (settings().model, settings().quantize) == ("pocket", None)
    assert settings().givers("model") == ["MLXNB_MODEL", "LLM_CHAT_API_URL", "MLX_MODEL_NAME"]


def test_a_chat_address_is_the_server_and_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_CHAT_API_URL", "http://localhost:1234/v1")
    assert (settings().model, config.server_url()) == ("http://localhost:1234/v1",) * 2
    monkeypatch.setenv("LLM_CHAT_API_URL", "telnet://localhost")
    for name in ("model", "server_url"):
        with pytest.raises(OptionError, match=r"LLM_CHAT_API_URL is 'telnet://localhost'. It takes mlx://NAME, or"):
            getattr(settings(), name)


@pytest.mark.parametrize("name", ["MLXNB_SERVER_URL", "LLM_CHAT_API_URL"])
@pytest.mark.parametrize("url", ["http://me:hunter2@host/v1", "https://hunter2@host", "http://host/a@hunter2"])
def test_a_login_in_an_address_is_refused_and_not_repeated(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(OptionError, match=f"{name} holds a login. Leave it out") as caught:
        config.server_url()
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(settings())


@pytest.mark.parametrize(
    ("name", "url", "held"),
    [
        ("MLXNB_SERVER_URL", "https://host/v1?api_key=hunter2", "a query"),
        ("LLM_CHAT_API_URL", "https://host/v1?api_key=hunter2", "a query"),
        ("LLM_CHAT_API_URL", "htp://me:hunter2@host/v1", "a login"),
    ],
)
def test_no_other_secret_in_an_address_is_repeated(
    name: str, url: str, held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(OptionError, match=f"{name} holds {held}. Leave it out") as caught:
        config.server_url()
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("text", ["8GB", "8 gb", "8000", "8000MB"])
def test_memory_may_have_a_unit(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_MEMORY_POOL_SIZE", text)
    assert config.memory_mb() == 8000


def env(text: str) -> Settings:
    Path(".env").write_text(text, encoding="utf-8")
    return settings()


def test_a_file_beside_the_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    now = env(
        "# settings\n"
        "export MLXNB_MODEL='my model' # of mine\n"
        'MLXNB_BACKEND="torch"\n'
        "MLX_TOP_P = 0.9   # nucleus\n"
        "MLXNB_TEMPERATURE=0.1\nMLXNB_TEMPERATURE=0.2\n"
        "MLXNB_MAX_TOKENS=\n"
        "PATH=/nowhere\nthis is no setting\n=\n"
    )
    assert (now.model, now.backend, now.top_p, now.temperature) == ("my model", "torch", 0.9, 0.2)
    assert now.origin["model"] == "MLXNB_MODEL in .env"
    assert now.origin["max_tokens"] == "default"
    assert "PATH" not in now.file.values
    assert os.environ.get("MLXNB_MODEL") is None
    monkeypatch.setenv("MLX_MODEL_NAME", "mine")  # the environment comes after every file
    assert settings().model == "mine"
    assert settings().givers("model") == ["MLX_MODEL_NAME", "MLXNB_MODEL in .env"]


def test_a_wrong_value_in_the_file_says_which_file() -> None:
    now = env("MLXNB_MAX_TOKENS=many\n")
    with pytest.raises(OptionError, match=r"^MLXNB_MAX_TOKENS is 'many' in .*\.env\. It takes a whole number"):
        _ = now.max_tokens


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a b", "a b"),
        ("a#b", "a#b"),
        ("a #b", "a"),
        ("#b", ""),
        ("'a # b'", "a # b"),
        (r"'a\n'", r"a\n"),
        (r'"a\tb"', "a\tb"),
        (r'"say \"x\""', 'say "x"'),
        ("$HOME/x ${Y}", "$HOME/x ${Y}"),
        ("'open", "'open"),
        ("a=b", "a=b"),
    ],
)
def test_how_a_value_is_written(written: str, meant: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text(f"NAME={written}\n", encoding="utf-8")
    assert read_env_file(tmp_path / "file", ["NAME"]).values == {"NAME": meant}


@given(st.binary(max_size=200))
def test_whatever_is_in_the_file_it_is_read_or_there_is_a_reason(content: bytes) -> None:
    Path("any.env").write_bytes(b"NAME=x\n" + content)
    found = read_env_file(Path("any.env"), ["NAME"])
    assert bool(found.trouble) != ("NAME" in found.values)


@pytest.mark.parametrize("value", ['"' + "\\" * 60, "'" + "\\" * 60 + "'x", "x" + " " * 200_000 + "y"])
def test_no_line_takes_long_to_read(value: str) -> None:
    Path("long.env").write_text(f"NAME={value}", encoding="utf-8")
    began = time.monotonic()
    assert read_env_file(Path("long.env"), ["NAME"]).values == {"NAME": value}
    assert time.monotonic() - began < 2


def test_a_file_that_cannot_be_read_is_said_and_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"MLXNB_MODEL=\xff")
    assert (settings().model, settings().file.trouble) == ("pocket", "it is no text in UTF-8")
    (tmp_path / ".env").write_bytes(b"MLXNB_MODEL=x\n" * 100_000)
    assert "larger than" in settings().file.trouble
    (tmp_path / ".env").unlink()
    (tmp_path / ".env").mkdir()
    assert (settings().model, settings().file.trouble) == ("pocket", "")


def test_config_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_BATCH_SIZE", "2")
    config.set_for_kernel("batch_size", 3)
    assert (config.batch_size(), settings().givers("batch_size")) == (3, ["%config", "MLXNB_BATCH_SIZE"])
    with pytest.raises(OptionError, match="batch_size is 0"):
        config.set_for_kernel("batch_size", 0)
    config.set_for_kernel("batch_size", None)
    assert config.batch_size() == 2


def test_what_a_panel_was_given_is_told_from_config(monkeypatch: pytest.MonkeyPatch) -> None:
    config.set_for_kernel("batch_size", 3, config.SESSION)
    assert settings().givers("batch_size") == ["this session"]
    config.set_for_kernel("batch_size", 4)
    assert settings().givers("batch_size") == ["%config"]


@pytest.mark.parametrize("name", ["temperature", "memory_mb", "keep_alive", "cache_dir"])
def test_what_is_built_in_wins_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    built_in = getattr(settings(), name)
    monkeypatch.setenv(f"MLXNB_{name.upper()}", "1.0" if name == "temperature" else "1")
    assert getattr(settings(), name) != built_in
    config.set_for_kernel(name, config.DEFAULT, config.SESSION)
    assert getattr(settings(), name) == built_in
    assert settings().givers(name) == ["this session", f"MLXNB_{name.upper()}"]


def test_what_would_hold_once_it_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_TOP_P", "0.5")
    env("MLXNB_MODEL=old\n")
    config.set_for_kernel("temperature", 0.3)
    then = config.if_saved({"MLXNB_MODEL": "new", "MLXNB_TOP_P": "0.9"})
    assert (then.model, then.top_p, then.temperature) == ("new", 0.5, 0.0)
    assert then.givers("top_p") == ["MLXNB_TOP_P", "MLXNB_TOP_P in .env"]
    assert settings().model == "old"


def test_a_key_does_not_go_to_a_server_that_a_file_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLXNB_API_KEY", "sesame")
    assert config.api_key() == "sesame"
    env("MLXNB_SERVER_URL=http://elsewhere/v1\n")
    assert (config.server_url(), config.api_key()) == ("http://elsewhere/v1", None)
    monkeypatch.setenv("MLXNB_SERVER_URL", "http://mine/v1")
    assert config.api_key() == "sesame"
    monkeypatch.delenv("MLXNB_SERVER_URL")
    monkeypatch.delenv("MLXNB_API_KEY")
    env("MLXNB_SERVER_URL=http://elsewhere/v1\nMLXNB_API_KEY=open\n")
    assert config.api_key() == "open"
    assert "open" not in repr(settings())


def test_a_setting_that_is_none() -> None:
    with pytest.raises(AttributeError, match="no setting colour"):
        _ = settings().colour
