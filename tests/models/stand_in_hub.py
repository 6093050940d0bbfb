"""A Hugging Face Hub on 127.0.0.1 with the endpoints that a download uses, and the ways in which they fail."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

CHUNK = 64 * 1024


@dataclass
class Repository:
    """Files by name. `cut` maps a name to the bytes after which its connection drops, `drops` times."""

    files: dict[str, bytes]
    gated: bool = False
    sha: str = "a" * 40
    cut: dict[str, int] = field(default_factory=dict)
    drops: int = 10**9
    status: int = 200


@dataclass
class Hub:
    """What it serves, and what it was asked: (method, path, Range header, Authorization header)."""

    url: str
    repositories: dict[str, Repository]
    asked: list[tuple[str, str, str | None, str | None]] = field(default_factory=list)

    def fetched(self) -> list[str]:
        """The names of the files whose bytes were asked for, in order."""
        return [path.rpartition("/")[2] for method, path, *_ in self.asked if method == "GET" and "/resolve/" in path]


class Failed(Exception):
    """A request's answer is this status, with the Hub's error code."""

    def __init__(self, status: int, code: str = "") -> None:
        self.status, self.code = status, code


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range"), self.headers.get("Authorization")))
        try:
            if path.startswith("/api/models/"):
                self.api(path.removeprefix("/api/models/").split("/"))
            else:
                name, _, rest = path[1:].partition("/resolve/")
                self.file(self.repository(name), *rest.split("/", 1))
        except Failed as failed:
            self.send_response(failed.status)
            if failed.code:
                self.send_header("X-Error-Code", failed.code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def repository(self, name: str) -> Repository:
        if name not in self.hub.repositories:
            raise Failed(404, "RepoNotFound")
        repository = self.hub.repositories[name]
        if repository.status != 200:
            raise Failed(repository.status)
        return repository

    def api(self, parts: list[str]) -> None:
        name, verb, revision = "/".join(parts[:2]), *[*parts[2:4], "", "main"][:2]
        repository = self.repository(name)
        if revision not in ("main", repository.sha):
            raise Failed(404, "RevisionNotFound")
        files = [{"type": "file", "path": path, **self.facts(data)} for path, data in repository.files.items()]
        if verb == "tree":
            return self.send(json.dumps(files).encode(), {"Content-Type": "application/json"})
        siblings = [{"rfilename": file["path"], "size": file["size"], "blobId": file["oid"]} for file in files]
        info = {"_id": "1", "id": name, "sha": repository.sha, "siblings": siblings, "private": False, "tags": []}
        return self.send(json.dumps(info).encode(), {"Content-Type": "application/json"})

    def file(self, repository: Repository, revision: str, path: str) -> None:
        if revision not in ("main", repository.sha):
            raise Failed(404, "RevisionNotFound")
        if path not in repository.files:
            raise Failed(404, "EntryNotFound")
        if repository.gated and self.headers.get("Authorization") != "Bearer hf_good":
            raise Failed(403 if self.headers.get("Authorization") else 401, "GatedRepo")
        data = repository.files[path]
        headers = {"ETag": f'"{self.facts(data)["oid"]}"', "X-Repo-Commit": repository.sha, "Accept-Ranges": "bytes"}
        limit = None
        if self.command == "GET" and path in repository.cut and repository.drops > 0:
            repository.drops -= 1
            limit = repository.cut[path]
        self.send(data, headers, limit)

    @staticmethod
    def facts(data: bytes) -> dict[str, Any]:
        return {"size": len(data), "oid": hashlib.sha1(data).hexdigest()}

    def send(self, data: bytes, headers: dict[str, str], limit: int | None = None) -> None:
        start = 0
        asked = self.headers.get("Range")
        if asked:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.send_response(206 if asked else 200)
        for name, value in {**headers, "Content-Length": str(len(data) - start)}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        end = len(data) if limit is None else min(len(data), start + limit)
        for i in range(start, end, CHUNK):
            self.wfile.write(data[i : min(i + CHUNK, end)])
        if end < len(data):
            self.close_connection = True


@contextmanager
def serve(repositories: dict[str, Repository]) -> Iterator[Hub]:
    """The Hub, while the block runs."""
    handler = type("BoundHandler", (Handler,), {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub = handler.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}", repositories)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
