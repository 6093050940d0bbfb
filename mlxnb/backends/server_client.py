"""The openai package's client, as an endpoint that may be anybody's is asked: nothing from the environment goes along,
no redirect is followed, and of an answer that is no stream only the beginning is read.
"""

from __future__ import annotations

from typing import Any

from .server_address import Address
from .server_faults import Refusal

# Headers that a request has; whatever else the package adds says more of this machine than a model needs to know.
SENT = ("host", "accept", "accept-encoding", "connection", "content-type", "content-length")
BEGINNING = 65_536  # bytes of an answer that is no stream
STREAM = "text/event-stream"


def make_client(address: Address, key: str, connect: float) -> Any:
    """An AsyncOpenAI for a server, with `connect` seconds to reach it. Waiting for its answer is the caller's part."""
    import openai

    async def clean(request: Any) -> None:
        for name in list(request.headers):
            if name.lower() not in SENT:
                del request.headers[name]
        request.headers["Accept-Encoding"] = "identity"  # a few bytes could unfold to gigabytes
        request.headers["Connection"] = "close"
        if key:
            request.headers["Authorization"] = f"Bearer {key}"

    return openai.AsyncOpenAI(
        base_url=address.url,
        api_key="unused",  # `clean` has the real one
        max_retries=0,
        timeout=openai.Timeout(None, connect=connect),
        http_client=openai.DefaultAsyncHttpxClient(
            follow_redirects=False,
            trust_env=not address.loopback,
            event_hooks={"request": [clean], "response": [_check]},
        ),
    )


async def _check(response: Any) -> None:
    """Let a stream pass.

    Raises:
        Refusal: it is none.
    """
    kind = response.headers.get("content-type", "").lower()
    if response.status_code == 200 and kind.startswith(STREAM):
        return
    data = b""
    async for piece in response.aiter_bytes():
        data += piece
        if len(data) >= BEGINNING:
            break
    raise Refusal(response.status_code, dict(response.headers), data[:BEGINNING].decode(errors="replace"))
