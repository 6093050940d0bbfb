"""What a setting's text means: each kind of value is read here, and refused by the name of its variable."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .errors import OptionError
from .request import QUANTIZE, check_keep_alive, check_option, option_fields

# What reads a variable's text, given its name and the text, or a value that `%config` was given.
Reader = Callable[[str, Any], Any]

WEB = ("http://", "https://")
QUANTIZATION = {"true": "int4", "1": "int4", "yes": "int4", "on": "int4", "4": "int4", "8": "int8",
                "4bit": "int4", "8bit": "int8", "false": None, "0": None, "no": None, "off": None}  # fmt: skip
MOST_MB = 100_000_000


class Nothing(Exception):
    """A variable says nothing of this setting, though it is one of those that may."""


def name(variable: str, value: Any) -> str:
    """A name in printable characters."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise OptionError(f"{variable} is {value!r}.", "It takes a name without control characters.")
    return value.strip()


def key(variable: str, value: Any) -> str:
    """A key that a server can be sent. What is none is not repeated: it may be one, and a letter too much."""
    text = value.strip() if isinstance(value, str) else ""
    if not (text and text.isascii() and text.isprintable()) or " " in text:
        raise OptionError(f"{variable} holds what is no key.", "It takes letters, digits and signs, without spaces.")
    return text


def option(field: str) -> Reader:
    """As the Request's option of that name takes it."""
    meta = option_fields()[field].metadata
    return lambda variable, value: check_option(variable, _whole(value) if meta["kind"] is int else value, meta)


def count(low: int = 1, high: int | None = None) -> Reader:
    """A whole number."""
    meta = {"kind": int, "low": low, "high": high}
    return lambda variable, value: int(check_option(variable, _whole(value), meta))


def keep_alive(variable: str, value: Any) -> float | str:
    """Seconds that an idle model stays in memory, or "forever"."""
    return check_keep_alive(value, variable) or 0.0


def choice(*words: str) -> Reader:
    """One of a few words."""

    def read(variable: str, value: Any) -> str:
        if value not in words:
            raise OptionError(f"{variable} is {value!r}.", f"It takes {', '.join(words[:-1])} or {words[-1]}.")
        return str(value)

    return read


def folder(variable: str, value: Any) -> Path:
    """A folder as an absolute path. Whether it exists is for the reader to find out: a disk may be away for now."""
    text = name(variable, os.fspath(value) if isinstance(value, os.PathLike) else value)
    try:
        return Path(os.path.abspath(Path(text).expanduser()))
    except RuntimeError:
        raise OptionError(f"{variable} is {text!r}, whose user is unknown.", "It takes a folder.") from None


def quantize(variable: str, value: Any) -> str | None:
    """What weights are quantised to: int8, int4, or none."""
    return None if value == "none" else choice(*QUANTIZE, "none")(variable, value)


def quantization(variable: str, value: Any) -> str | None:
    """The same as MLX_QUANTIZATION says it: true is mlx-lm's own default of 4 bits."""
    word = str(value).lower()
    return QUANTIZATION[word] if word in QUANTIZATION else choice("true", "false", *QUANTIZE)(variable, value)


def megabytes(variable: str, value: Any) -> int:
    """Megabytes as a whole number, also written as 8GB or 8192 MB."""
    sized = re.fullmatch(r"(\d+)\s*(MB|GB)", value, re.IGNORECASE) if isinstance(value, str) else None
    if sized is not None:
        value = int(sized[1]) * (1000 if sized[2].upper() == "GB" else 1)
    try:
        return int(count(1, MOST_MB)(variable, value))
    except OptionError as err:
        raise OptionError(err.message, f"It takes megabytes, from 1 to {MOST_MB:,}, such as 8192 or 8GB.") from None


def url(variable: str, value: Any) -> str:
    """A server's web address, without a login or a query in it, which would be shown wherever the address is."""
    text = value.strip() if isinstance(value, str) else ""
    _check_secrets(variable, text)
    takes = "It takes a server's address, such as http://localhost:8080/v1."
    try:
        parts = urlsplit(text)
        known = parts.scheme.lower() in ("http", "https") and bool(parts.hostname) and text.isprintable()
    except ValueError:
        known = False
    if not known:
        raise OptionError(f"{variable} is {value!r}.", takes)
    return text


def chat_model(variable: str, value: Any) -> str:
    """The model that LLM_CHAT_API_URL names: mlx://NAME, or the one of the server at that address."""
    if str(value).lower().startswith("mlx://"):
        return name(variable, value)
    return chat_url(variable, value)


def chat_url(variable: str, value: Any) -> str:
    """The server that LLM_CHAT_API_URL names, if it names one."""
    if str(value).lower().startswith("mlx://"):
        raise Nothing
    if "://" not in str(value) or str(value).lower().startswith(WEB):
        return url(variable, value)
    _check_secrets(variable, str(value))
    raise OptionError(f"{variable} is {value!r}.", "It takes mlx://NAME, or a server's address that begins with http.")


def _check_secrets(variable: str, text: str) -> None:
    # Before anything repeats the address: a login or a query may be a key.
    address = text.partition("#")[0]
    held = "a login" if "@" in address else "a query" if "?" in address else ""
    if held:
        raise OptionError(f"{variable} holds {held}.", "Leave it out, and give the key in MLXNB_API_KEY.")


def _whole(value: Any) -> Any:
    # Text that is no number goes on as it is, so that check_option words the refusal.
    try:
        return int(value) if isinstance(value, str) else value
    except ValueError:
        return value
