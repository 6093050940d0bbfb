"""One short question to a server, such as which models it has: within a deadline, a size, and without redirects."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from http.client import HTTPException
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from .server_address import Address

LIMIT = 4_000_000  # bytes of an answer; OpenRouter's list of some 400 models has about half a million


class Unanswered(Exception):
    """There was no usable answer. `refused`: nobody listens there; `status` is HTTP's, where there was one."""

    def __init__(self, reason: str, *, refused: bool = False, status: int | None = None) -> None:
        super().__init__(reason)
        self.refused = refused
        self.status = status


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it could lead a key and a prompt to another host."""

    def redirect_request(self, *_: Any) -> None:
        return None


def ask(address: Address, url: str, *, seconds: float, key: str = "", body: Any = None) -> tuple[Any, str]:
    """The JSON that a GET of `url` answers, or a POST with a `body`, None for nothing; and the Server header.

    A thread waits for it, since a socket's own timeout begins anew with every byte.

    Raises:
        Unanswered: refused, too late, too large, an HTTP error, or no JSON.
    """
    answers: SimpleQueue[tuple[Any, str] | Unanswered] = SimpleQueue()
    request = urllib.request.Request(url, headers={"Accept": "application/json"})
    if key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    if body is not None:
        request.data = json.dumps(body).encode()
        request.add_header("Content-Type", "application/json")
    Thread(target=lambda: answers.put(_asked(address, request, seconds)), daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except Empty:
        answer = Unanswered(f"did not answer within {seconds:g} s")
    if isinstance(answer, Unanswered):
        raise answer
    return answer


def _asked(address: Address, request: urllib.request.Request, seconds: float) -> tuple[Any, str] | Unanswered:
    proxies: dict[str, str] | None = {} if address.loopback else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies), _Stay)
    try:
        with opener.open(request, timeout=seconds) as response:
            data = response.read(LIMIT + 1)
            if len(data) > LIMIT:
                return Unanswered(f"answered more than {LIMIT // 1_000_000} MB")
            return json.loads(data) if data.strip() else None, response.headers.get("Server", "")
    except urllib.error.HTTPError as err:
        with err:
            return Unanswered(f"answered HTTP {err.code}", status=err.code)
    except urllib.error.URLError as err:
        return _trouble(err.reason, seconds)
    except (OSError, HTTPException) as err:
        return _trouble(err, seconds)
    except (ValueError, RecursionError):
        return Unanswered("answered what is no JSON")


def _trouble(reason: Any, seconds: float) -> Unanswered:
    if isinstance(reason, ConnectionRefusedError):
        return Unanswered("refused the connection", refused=True)
    if isinstance(reason, TimeoutError):
        return Unanswered(f"did not answer within {seconds:g} s")
    text = " ".join(str(getattr(reason, "strerror", None) or reason).split())
    return Unanswered(f"could not be reached: {text or type(reason).__name__}")
