"""The key that a server gets: from the environment, only the server that it is meant for, and never shown."""

from __future__ import annotations

import os
import re

from ..config import api_key, key_is_withheld, server_url
from ..config_values import key
from ..errors import OptionError
from .server_address import Address, parse

OPENAI = "api.openai.com"


def key_for(address: Address) -> str:
    """The key for a server, empty for none: MLXNB_API_KEY goes to the server of MLXNB_SERVER_URL alone, so that a
    notebook that names another one cannot collect it; OPENAI_API_KEY to api.openai.com over https alone.

    Raises:
        OptionError: the variable holds what no header can; the message does not repeat it.
    """
    configured = _configured()
    if configured is not None and configured.origin == address.origin and (given := api_key()):
        return given
    theirs = os.environ.get("OPENAI_API_KEY", "").strip()
    if theirs and address.host == OPENAI and address.scheme == "https":
        return key("OPENAI_API_KEY", theirs)
    return ""


def scrubbed(text: str, secret: str) -> str:
    """Text of a server without the key, which some repeat in their errors, also where JSON or repr escaped it."""
    return re.sub("".join(map(_spellings, secret)), "(the key)", text) if secret else text


def _spellings(char: str) -> str:
    # As many backslashes as two layers of quoting write; without a bound a run of them would take for ever.
    escaped = rf"\\{{0,3}}(?:{re.escape(char)}|(?i:u{ord(char):04x}))"
    return rf"(?:{escaped}|\\{{1,4}})" if char == "\\" else escaped


def how_to_give(where: str) -> str:
    """What to do for a server, by the name that messages have for it, that wants a key and got none."""
    configured = _configured()
    if configured is not None and configured.shown == where and key_is_withheld():
        return (
            "set MLXNB_SERVER_URL in the environment too: a key from there does not go to a server that only .env names"
        )
    return "set MLXNB_API_KEY to its key, and MLXNB_SERVER_URL to its address"


def _configured() -> Address | None:
    try:
        url = server_url()
        return parse(url, "MLXNB_SERVER_URL") if url else None
    except OptionError:
        return None  # an address that is none gets no key, and stops no other server
