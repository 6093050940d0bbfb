"""Which servers there are and which models each lists, remembered for some seconds."""

from __future__ import annotations

import ipaddress
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import Any
from urllib.parse import urlsplit

from ..config import server_url
from ..decision import Absent, Rejected
from .server_address import Address, parse
from .server_get import Unanswered, ask
from .server_key import how_to_give, key_for
from .server_kinds import KINDS, Kind, kind_of

# Seconds for a server that was only guessed to be there, and for one that a person named.
GUESSED, NAMED = 0.3, 5.0
REMEMBERED = 5.0  # seconds; a person who starts a server and asks again finds it

SUBJECT = "server"
LONGEST = 300  # characters of a model's name


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers, with the models that it lists; `listed` is what it says of each, by name.

    `complete` is False for one that lists no models at all: then any may be asked of it.
    """

    address: Address
    kind: str
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    complete: bool = True

    @property
    def label(self) -> str:
        """What it is, where that is known, and where."""
        return self.address.shown if self.kind == "other" else f"{self.traits.label} at {self.address.shown}"

    @property
    def traits(self) -> Kind:
        """What its kind of server takes."""
        return KINDS[self.kind]


@dataclass(frozen=True, slots=True)
class Place:
    """A place where a server is looked for. `prefix` is what names of its models may begin with."""

    prefix: str
    address: Address
    kind: str
    named: bool


class Known:
    """What was found lately. Safe on any thread: `%mlxnb` tables look while the engine works."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._found: dict[Address, tuple[float, bool, Server | Rejected]] = {}

    def look(self, address: Address, named: bool, kind: str = "other") -> Server | Rejected:
        """The server at an address, or why there is none. `kind` is what it is taken for unless it says otherwise.

        That a guess found none in its short time is no answer for a person who named the server.
        """
        with self._lock:
            then, patient, found = self._found.get(address, (float("-inf"), False, None))
        answers = isinstance(found, Server) or patient or not named
        if found is not None and answers and self._clock() - then < REMEMBERED:
            return found
        found = _look(address, named, kind)
        with self._lock:
            self._found[address] = self._clock(), named, found
        return found

    def forget(self) -> None:
        """Look anew next time."""
        with self._lock:
            self._found.clear()


known = Known()


def places() -> list[Place]:
    """Where a server may be: the configured one, then LM Studio and Ollama on this machine, or at OLLAMA_HOST.

    Raises:
        OptionError: the address in a variable cannot be used.
    """
    url = server_url()
    found = [Place("server", parse(url, "The server in MLXNB_SERVER_URL"), "other", True)] if url else []
    return [*found, Place("lmstudio", Address("http", "127.0.0.1", 1234), "lmstudio", False), ollama_place()]


def ollama_place() -> Place:
    """Where Ollama is: OLLAMA_HOST, as its own client reads it, else port 11434 of this machine.

    Raises:
        OptionError: OLLAMA_HOST is no address.
    """
    given = _with_host(os.environ.get("OLLAMA_HOST", "").strip())
    text = given if "://" in given else f"http://{given or '127.0.0.1'}"
    address = parse(text, "The server in OLLAMA_HOST")
    host = "127.0.0.1" if address.host in ("0.0.0.0", "::") else address.host  # it listens everywhere
    port = 11434 if "://" not in given and urlsplit(text).port is None else address.port
    return Place("ollama", Address(address.scheme, host, port), "ollama", bool(given))


def _with_host(given: str) -> str:
    """An OLLAMA_HOST that is a port alone with this machine before it, a bare IPv6 address in brackets."""
    if re.fullmatch(r":\d+", given):
        return f"127.0.0.1{given}"
    try:
        return f"[{given}]" if ipaddress.ip_address(given).version == 6 else given
    except ValueError:
        return given


def _look(address: Address, named: bool, kind: str) -> Server | Rejected:
    key = key_for(address)
    try:
        answer, software = ask(address, f"{address.url}/models", seconds=NAMED if named else GUESSED, key=key)
    except Unanswered as err:
        if err.status in (404, 405, 501):
            return Server(address, "openai" if address.host == "api.openai.com" else kind, complete=False)
        return _absent(address, err, bool(key))
    if answer is None:  # mlx_lm.server 0.32 says nothing where there is no Hugging Face cache that it could list
        return Server(address, _taken_for(address, [], software, kind), complete=False)
    models = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(models, list):
        reason = f"{address.shown} answers, but not as an OpenAI-compatible server does"
        return Rejected(SUBJECT, reason, f"check the address, {address.url}")
    listed = [model for model in models if isinstance(model, dict) and _is_name(model.get("id"))]
    return Server(address, _taken_for(address, listed, software, kind), {model["id"]: model for model in listed})


def _is_name(value: Any) -> bool:
    """Whether a model's name can be shown and asked for; a server may list anything."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= LONGEST


def _taken_for(address: Address, listed: list[dict[str, Any]], software: str, kind: str) -> str:
    told = kind_of(address, listed, software)
    return kind if told == "other" else told


def _absent(address: Address, err: Unanswered, had_key: bool) -> Rejected:
    if err.refused:
        return Absent(SUBJECT, f"no server listens at {address.shown}", "start it, or check the address")
    if err.status in (401, 403):
        remedy = "check the key" if had_key else how_to_give(address.shown)
        return Rejected(SUBJECT, f"{address.shown} wants {'another' if had_key else 'a'} key ({err})", remedy)
    return Rejected(SUBJECT, f"{address.shown} {err}", "start it anew, or check the address")
