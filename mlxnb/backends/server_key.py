"""The key that a server gets: from the environment, only the server that it is meant for, and never shown."""

from __future__ import annotations

import os

from ..config import server_url
from ..errors import OptionError
from .server_address import Address, parse

OPENAI = "api.openai.com"


def key_for(address: Address) -> str:
    """The key for a server, empty for none: MLXNB_API_KEY goes to the server of MLXNB_SERVER_URL alone, so that a
    notebook that names another one cannot collect it; OPENAI_API_KEY to api.openai.com over https alone.

    Raises:
        OptionError: the variable holds what no header can; the message does not repeat it.
    """
    if _configured() == address.origin and (key := _read("MLXNB_API_KEY")):
        return key
    if address.host == OPENAI and address.scheme == "https":
        return _read("OPENAI_API_KEY")
    return ""


def scrubbed(text: str, key: str) -> str:
    """Text of a server without the key, which some repeat in their errors."""
    return text.replace(key, "(the key)") if key else text


def _configured() -> tuple[str, str, int] | None:
    url = server_url()
    return parse(url, "MLXNB_SERVER_URL").origin if url else None


def _read(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise OptionError(f"{variable} holds what is no key.", "It takes letters, digits and signs, without spaces.")
    return key
