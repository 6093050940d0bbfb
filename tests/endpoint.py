"""A scripted OpenAI-compatible endpoint on loopback: each answer is written out in the test, each question is kept."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

STREAM = "text/event-stream"
DONE = b"data: [DONE]\n\n"


class Hang:
    """Send nothing more until the client leaves."""


class Reset:
    """Break the connection off."""


HANG, RESET = Hang(), Reset()
Part = bytes | dict[str, Any] | float | Hang | Reset


@dataclass(frozen=True)
class Reply:
    """One answer: its parts are sent in order, bytes as they are, an object as an event, a number is a pause in s."""

    parts: tuple[Part, ...] = ()
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": STREAM})


@dataclass(frozen=True)
class Asked:
    """A question as it came."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


def piece(text: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    """An event of a chat's stream."""
    said = {**({} if text is None else {"content": text}), **delta}
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


def usage(prompt: int, made: int, **more: Any) -> dict[str, Any]:
    """The event with the counts."""
    counts = {"prompt_tokens": prompt, "completion_tokens": made, "total_tokens": prompt + made, **more}
    return {"choices": [], "usage": counts}


def says(*texts: str, finish: str = "stop") -> Reply:
    """A whole answer in pieces."""
    return Reply((piece("", role="assistant"), *map(piece, texts), piece(finish=finish), usage(7, len(texts)), DONE))


def refuses(status: int, message: str = "no", **headers: str) -> Reply:
    """An answer with an error in it, as OpenAI writes one."""
    body = json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode()
    return Reply((body,), status, {"Content-Type": "application/json", **headers})


class Endpoint:
    """Answers each POST with the next reply of its script, the last of them for ever; GETs by their path."""

    def __init__(
        self, *script: Reply, models: Any = ("tiny",), gets: dict[str, Any] | None = None, software: str = "Scripted"
    ) -> None:
        listed = [{"id": name, "object": "model"} for name in models]
        self.software = software
        self.gets: dict[str, Any] = {"/v1/models": {"object": "list", "data": listed}, **(gets or {})}
        self.script = list(script)
        self.asked: list[Asked] = []
        self.looked: list[Asked] = []
        self.left = Event()  # a client went away while it waited
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}/v1"
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()

    def reply(self) -> Reply:
        """The next answer to a POST."""
        return self.script.pop(0) if len(self.script) > 1 else self.script[0]


@contextlib.contextmanager
def serving(*script: Reply, **options: Any) -> Iterator[Endpoint]:
    """An Endpoint while the test needs it."""
    endpoint = Endpoint(*script, **options)
    try:
        yield endpoint
    finally:
        endpoint.close()


@contextlib.contextmanager
def deaf() -> Iterator[str]:
    """The address of something that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def nobody() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def _handler(endpoint: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        server_version = endpoint.software

        def log_message(self, *_: Any) -> None:
            return

        def do_GET(self) -> None:
            endpoint.looked.append(Asked(self.path, dict(self.headers), {}))
            found = endpoint.gets.get(self.path)
            if isinstance(found, Reply):
                self._send(found)
            elif found is None:
                self._send(refuses(404, "not found"))
            else:
                self._send(Reply((json.dumps(found).encode(),), 200, {"Content-Type": "application/json"}))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked = Asked(self.path, dict(self.headers), body)
            if self.path in endpoint.gets:
                endpoint.looked.append(asked)
                found = endpoint.gets[self.path]
                known = isinstance(found, Reply)
                self._send(found if known else Reply((json.dumps(found).encode(),)))
                return
            endpoint.asked.append(asked)
            self._send(endpoint.reply())

        def _send(self, reply: Reply) -> None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                if reply.parts and reply.parts[0] is HANG:
                    self._until_left()
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                for part in reply.parts:
                    self._part(part)
            self.close_connection = True

        def _part(self, part: Part) -> None:
            if isinstance(part, bytes | dict):
                self.wfile.write(part if isinstance(part, bytes) else b"data: " + json.dumps(part).encode() + b"\n\n")
                self.wfile.flush()
            elif isinstance(part, float):
                time.sleep(part)
            elif isinstance(part, Hang):
                self._until_left()
            else:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                raise ConnectionResetError

        def _until_left(self) -> None:
            with contextlib.suppress(OSError):
                if self.connection.recv(1) == b"":
                    endpoint.left.set()

    return Handler


@dataclass(frozen=True)
class Fault:
    """A way to fail: the script, what the message says of it, and how often it is asked (with three tries)."""

    name: str
    script: tuple[Reply, ...]
    says: str
    asked: int = 1

    def __str__(self) -> str:
        return self.name


HTML = Reply((b"<html><body>Welcome</body></html>",), 200, {"Content-Type": "text/html; charset=utf-8"})
HUGE_LINE = tuple([b"data: {" + b"x" * 60_000] + [b"x" * 65_000] * 40)

# Every way to fail before the first token, for the server alone and for a chain that goes on.
BEFORE = (
    Fault("hung", (Reply((HANG,)),), "did not begin to answer for"),
    Fault("hung after the headers", (Reply((b": working\n\n", HANG)),), "did not begin to answer for"),
    Fault("busy for ever", (refuses(429, "slow down"),), "has too much to do (429): slow down", 3),
    Fault("broken", (refuses(500, "out of memory"),), "failed (500): out of memory", 3),
    Fault("wrong request", (refuses(400, "bad stuff"),), "refused the request (400): bad stuff"),
    Fault("wants a key", (refuses(401, "who are you"),), "refused to answer without a key (401): who are you"),
    Fault("unknown", (refuses(404, "no such model"),), "knows no 'tiny', or no such call (404): no such model"),
    Fault("reset", (Reply((RESET,)),), "broke the connection off", 3),
    Fault("closed at once", (Reply(),), "ended the stream before the answer was whole", 3),
    Fault("a web page", (HTML,), "answered with text/html where a stream of events was expected"),
    Fault("no JSON", (Reply((b"data: {oops\n\n",)),), "sent an event that is no JSON, '{oops'"),
    Fault("no UTF-8", (Reply((b'data: {"a": "\xff"}\n\n',)),), "sent an event that is no UTF-8"),
    Fault("a list", (Reply((b"data: []\n\n",)),), "sent an event that is no object, '[]'"),
    Fault("strange choices", (Reply(({"choices": "abc"},)),), "sent an event whose choices are none"),
    Fault("strange text", (Reply((piece(**{"content": 5}),)),), "sent a int where text was expected"),
    Fault("huge line", (Reply(HUGE_LINE),), "sent an event of more than 1 MB"),
    Fault("huge event", (Reply(tuple([b"data: " + b"x" * 50_000 + b"\n"] * 40)),), "sent an event of more than 1 MB"),
    Fault("error in the stream", (Reply(({"error": {"message": "kaput"}},)),), "reported an error: kaput"),
    Fault(
        "redirect",
        (Reply((), 307, {"Location": "http://elsewhere.example/v1/chat/completions"}),),
        "redirects to http://elsewhere.example/v1/chat/completions, which is not followed",
    ),
)

# Every way to fail in the middle of an answer: what was said by then is kept.
BEGUN = (piece("", role="assistant"), piece("Half "), piece("an"))
AFTER = (
    Fault("half an answer", (Reply(BEGUN),), "{host} ended the stream before the answer was whole"),
    Fault("reset", (Reply((*BEGUN, 0.05, RESET)),), "{host} broke the connection off"),
    Fault("hung", (Reply((*BEGUN, HANG)),), "{host} went silent for"),
    Fault("no JSON", (Reply((*BEGUN, b"data: {oops\n\n")),), "{host} sent an event that is no JSON"),
    Fault("huge", (Reply((*BEGUN, *HUGE_LINE)),), "{host} sent an event of more than 1 MB"),
    Fault("error", (Reply((*BEGUN, {"error": {"message": "kaput"}})),), "{host} reported an error: kaput"),
)
