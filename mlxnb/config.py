"""The settings that a person gives through the environment, read in one place, each with where it came from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from .errors import OptionError
from .request import FOREVER, check_keep_alive, check_option, option_fields

VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "model": "MLXNB_MODEL",
        "backend": "MLXNB_BACKEND",
        "max_tokens": "MLXNB_MAX_TOKENS",
        "temperature": "MLXNB_TEMPERATURE",
        "local_models_dir": "LOCAL_MODELS_DIR",
        "cache_dir": "MLXNB_CACHE_DIR",
        "cache_answers_mb": "MLXNB_CACHE_ANSWERS_MB",
        "cache_states_mb": "MLXNB_CACHE_STATES_MB",
        "cache_days": "MLXNB_CACHE_DAYS",
        "lm": "MLXNB_LM",
        "memory_mb": "MLXNB_MEMORY_MB",
        "keep_alive": "MLXNB_KEEP_ALIVE",
    }
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds where a person says nothing else. `origin` maps every field to "default" or to its variable.

    `local_models_dir` is None unless LOCAL_MODELS_DIR is set: no folder of a person's home is searched unasked. On disk
    finished answers may take `cache_answers_mb` and KV states `cache_states_mb` megabytes; an answer counts for
    `cache_days`, None for ever. `lm` is what answers the calls of `mlxnb.lm`: "auto", "mlx" or "torch".
    The models in memory may take `memory_mb` megabytes together, None for what is free; one that was idle for
    `keep_alive` seconds is given back, "forever" for none.
    """

    model: str
    backend: str
    max_tokens: int
    temperature: float
    local_models_dir: Path | None
    cache_dir: Path
    cache_answers_mb: int
    cache_states_mb: int
    cache_days: int | None
    lm: str
    memory_mb: int | None
    keep_alive: float | str
    origin: Mapping[str, str]


def settings() -> Settings:
    """The settings as the environment gives them now; a variable that is set but empty counts as unset.

    Raises:
        OptionError: a variable holds a value that its option does not take; the message names the variable.
    """
    given = {field: name for field, name in VARIABLES.items() if os.environ.get(name, "").strip()}
    return Settings(
        model=_name("MLXNB_MODEL", "pocket"),
        backend=_name("MLXNB_BACKEND", "auto"),
        max_tokens=_number("MLXNB_MAX_TOKENS", "max_tokens"),
        temperature=_number("MLXNB_TEMPERATURE", "temperature"),
        local_models_dir=local_models_dir(),
        cache_dir=cache_dir(),
        cache_answers_mb=_count("MLXNB_CACHE_ANSWERS_MB", 256) or 0,
        cache_states_mb=_count("MLXNB_CACHE_STATES_MB", 4000) or 0,
        cache_days=_count("MLXNB_CACHE_DAYS", None),
        lm=lm(),
        memory_mb=_count("MLXNB_MEMORY_MB", None),
        keep_alive=_keep_alive(),
        origin=MappingProxyType({field: given.get(field, "default") for field in VARIABLES}),
    )


def local_models_dir() -> Path | None:
    """The folder that LOCAL_MODELS_DIR names, absolute, or None. Whether it exists is for the reader to find out.

    An external disk may be away for now; that must not stop models that live elsewhere.
    """
    return _folder("LOCAL_MODELS_DIR")


def cache_dir() -> Path:
    """The folder of everything that can be made again: MLXNB_CACHE_DIR, or the platform's cache folder."""
    from platformdirs import user_cache_path

    return _folder("MLXNB_CACHE_DIR") or user_cache_path("mlxnb", appauthor=False)


def lm() -> str:
    """What answers the calls of `mlxnb.lm`: MLXNB_LM, one of "auto", "mlx" and "torch".

    Raises:
        OptionError: it is another word.
    """
    word = os.environ.get("MLXNB_LM", "").strip() or "auto"
    if word not in ("auto", "mlx", "torch"):
        raise OptionError(f"MLXNB_LM is {word!r}.", "It takes auto, mlx or torch.")
    return word


def _keep_alive() -> float | str:
    given = os.environ.get("MLXNB_KEEP_ALIVE", "").strip() or FOREVER
    return check_keep_alive(given, "MLXNB_KEEP_ALIVE") or 0.0


def server_url() -> str | None:
    """The address of an OpenAI-compatible server: MLXNB_SERVER_URL, or LLM_CHAT_API_URL where that is a web address."""
    url = os.environ.get("MLXNB_SERVER_URL", "").strip()
    other = os.environ.get("LLM_CHAT_API_URL", "").strip()
    return url or (other if other.lower().startswith(("http://", "https://")) else None)


def _folder(variable: str) -> Path | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return None
    try:
        return Path(os.path.abspath(Path(text).expanduser()))
    except RuntimeError:
        raise OptionError(f"{variable} is {text!r}, whose user is unknown.", "It takes a folder.") from None


def _name(variable: str, default: str) -> str:
    value = os.environ.get(variable, "").strip() or default
    if not value.isprintable():
        raise OptionError(f"{variable} is {value!r}.", "It takes a name without control characters.")
    return value


def _number(variable: str, option: str) -> Any:
    """The variable's value as the option's own kind, held against the option's own bounds."""
    field = option_fields()[option]
    text = os.environ.get(variable, "").strip()
    if not text:
        return field.default
    return check_option(variable, _whole(text) if field.metadata["kind"] is int else text, field.metadata)


def _count(variable: str, default: int | None) -> int | None:
    text = os.environ.get(variable, "").strip()
    if not text:
        return default
    return int(check_option(variable, _whole(text), {"kind": int, "low": 1, "high": None}))


def _whole(text: str) -> int | str:
    # Text that is no number goes on as it is, so that check_option words the refusal.
    try:
        return int(text)
    except ValueError:
        return text
