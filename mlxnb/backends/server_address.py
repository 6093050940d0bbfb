"""Where a server is, as a person writes it: checked, completed, and never with a secret in it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from ..errors import OptionError

TAKES = "It takes an address such as http://localhost:8080/v1."

# What people copy along with the address of a server.
ENDPOINTS = ("/chat/completions", "/completions", "/models")


@dataclass(frozen=True, slots=True)
class Address:
    """The base address of an OpenAI-compatible server. `path` has no slash at its end."""

    scheme: str
    host: str
    port: int
    path: str = "/v1"

    @property
    def root(self) -> str:
        """Scheme, host and port, under which servers have calls of their own."""
        return f"{self.scheme}://{self.shown}"

    @property
    def url(self) -> str:
        """What `/models` and the other calls are appended to."""
        return self.root + self.path

    @property
    def shown(self) -> str:
        """Host and port, as messages name the server."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        usual = {"http": 80, "https": 443}[self.scheme]
        return host if self.port == usual else f"{host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether it is this machine, which no proxy leads to."""
        if self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def origin(self) -> tuple[str, str, int]:
        """What a key belongs to."""
        return self.scheme, self.host, self.port


def parse(text: str, what: str = "A server's address") -> Address:
    """The address in a text; without a path it gets /v1. `what` begins the message of an error.

    Raises:
        OptionError: it is none, or holds a user name, a password or a query, which are not shown.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as err:
        raise OptionError(f"{what} cannot be read: {err}.", TAKES) from None
    if parts.username is not None or parts.password is not None or parts.query:
        held = "a query" if parts.query else "a user name or password"
        raise OptionError(f"{what} has {held} in it.", "Leave it out, and give a key in MLXNB_API_KEY.")
    if parts.scheme not in ("http", "https") or not parts.hostname or not text.isprintable():
        raise OptionError(f"{what} is {text!r}.", TAKES)
    default = 443 if parts.scheme == "https" else 80
    return Address(parts.scheme, parts.hostname, default if port is None else port, _path(parts))


def _path(parts: SplitResult) -> str:
    path = parts.path.rstrip("/")
    for ending in ENDPOINTS:
        path = path.removesuffix(ending)
    return path or "/v1"
