"""Settings from the environment: their defaults, their origin, and what a wrong value says."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlxnb.config import VARIABLES, settings
from mlxnb.errors import OptionError
from mlxnb.request import Request


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES.values():
        monkeypatch.delenv(name, raising=False)


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
    assert now.origin == VARIABLES
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
        ("MLXNB_MODEL", "a\nb", "without control characters"),
        ("LOCAL_MODELS_DIR", "~nobody-by-this-name/models", "a folder"),
    ],
)
def test_a_wrong_value_names_the_variable(name: str, value: str, takes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(OptionError, match=f"^{name} is .*{takes}"):
        settings()


def test_the_folder_becomes_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("LOCAL_MODELS_DIR", "~/models")
    assert settings().local_models_dir == tmp_path / "models"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCAL_MODELS_DIR", "models")
    assert settings().local_models_dir == tmp_path / "models"
