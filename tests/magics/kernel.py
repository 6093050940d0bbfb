"""A real ipykernel, driven as a front end drives it: every message it sends is kept with the time it was sent."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from jupyter_client.manager import KernelManager

ROOT = Path(__file__).parents[2]
SETUP = """
import mlxnb
from tests.scripted import ScriptedBackend
def script(*pieces, **delays):
    engine = mlxnb.engine()
    if any(info.name == "pocket" for info in engine.models()):
        engine.unload("pocket")
    engine.backends["scripted"] = ScriptedBackend(pieces, **delays)
%load_ext mlxnb
%config MLXNB.backend = "scripted"
"""
QUIET = ["--HistoryManager.hist_file=:memory:", "--log-level=ERROR"]
TIMEOUT = 120


@dataclass
class Ran:
    """What came of one execute_request: its reply, and the messages on the side channel as (seconds, message).

    The seconds are the kernel's own: how soon this process reads what it was sent is the machine's affair.
    """

    reply: dict[str, Any]
    messages: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """The content of the messages of these types."""
        return [message["content"] for _, message in self.messages if message["msg_type"] in kinds]

    def times(self, *kinds: str) -> list[float]:
        """When the kernel sent them."""
        return [at for at, message in self.messages if message["msg_type"] in kinds]

    @property
    def answers(self) -> list[str]:
        """The plain twins of what was displayed, blank displays left out."""
        shown = self.of("display_data", "execute_result")
        return [content["data"]["text/plain"] for content in shown if content["data"].get("text/plain")]

    @property
    def printed(self) -> str:
        """What went to stdout."""
        return "".join(content["text"] for content in self.of("stream") if content["name"] == "stdout")


class Kernel:
    """One kernel process and a client of it."""

    def __enter__(self) -> Kernel:
        self.manager = KernelManager(kernel_name="python3")
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        self.manager.start_kernel(cwd=str(ROOT), env={**os.environ, "PYTHONPATH": path}, extra_arguments=QUIET)
        self.client = self.manager.client()
        self.client.start_channels()
        self.ready()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def ready(self) -> None:
        """Wait for the kernel and load the extension."""
        self.client.wait_for_ready(timeout=TIMEOUT)
        assert self.run(SETUP).reply["status"] == "ok"

    def restart(self) -> None:
        """Kill the process, whatever it does, and start another."""
        self.manager.restart_kernel(now=True)
        self.ready()

    def send(self, code: str, **options: Any) -> str:
        """Send an execute_request and return at once; the message's id."""
        return str(self.client.execute(code, **options))

    def run(self, code: str, **options: Any) -> Ran:
        """Execute a cell and wait for all of it."""
        return self.collect(self.send(code, **options))

    def collect(self, sent: str) -> Ran:
        """Everything that comes of a request, until the kernel is idle again and has replied."""
        messages = []
        while True:
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            if message["parent_header"].get("msg_id") != sent:
                continue
            messages.append((message["header"]["date"].timestamp(), message))
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                break
        while (reply := self.client.get_shell_msg(timeout=TIMEOUT))["parent_header"].get("msg_id") != sent:
            pass
        return Ran(reply["content"], messages)

    def wait_for(self, sent: str, kind: str, having: str = "") -> None:
        """Wait for a message of this type that belongs to the request and has the text in it."""
        while True:
            message = self.client.get_iopub_msg(timeout=TIMEOUT)
            mine = message["parent_header"].get("msg_id") == sent and message["msg_type"] == kind
            if mine and having in str(message["content"]):
                return

    def interrupt(self) -> None:
        """What the stop button does."""
        self.manager.interrupt_kernel()

    def complete(self, code: str) -> list[str]:
        """The completions at the end of `code`, as whole lines would read."""
        self.client.complete(code, len(code))
        content = self.client.get_shell_msg(timeout=TIMEOUT)["content"]
        return [code[: content["cursor_start"]] + match for match in content["matches"]]
