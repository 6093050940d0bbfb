"""Keeps secrets out of the caches, and the caches' files to their owner."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

SECRET_NAME = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|PRIVATE_?KEY|CREDENTIALS?)S?($|_)", re.I
)
LOGIN_IN_URL = re.compile(rb"://[^/\s:@\"]+:[^/\s@\"]+@")
SHORTEST = 8  # a shorter value, such as "true", is found in any text


def secret_in(body: bytes) -> str | None:
    """What secret a text in UTF-8 holds, plain or as JSON, named without saying it: the value of an environment
    variable that is one.
    """
    for name, value in os.environ.items():
        if len(value) >= SHORTEST and SECRET_NAME.search(name) and any(form in body for form in _forms(value)):
            return f"the value of {name}"
    return None


def _forms(value: str) -> set[bytes]:
    """A text as it stands in a prompt, and in JSON with and without its other letters escaped."""
    in_json = (json.dumps(value, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))
    return {form.encode("utf-8", "surrogatepass") for form in (value, *in_json)}


def login_in(body: bytes) -> str | None:
    """Whether a text holds an address with a password in it, in words."""
    return "an address with a password" if LOGIN_IN_URL.search(body) else None


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may enter; one that is there stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
