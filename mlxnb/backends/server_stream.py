"""One question to a server and the events of its answer: with deadlines, tries, and an end as soon as it is cancelled.

The client is asynchronous, and its loop runs on the engine's thread while that waits: a task that is cancelled closes
its connection wherever it hangs, in the name's look-up, the connection, or before the first byte. A blocking client
can be stopped in none of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

from .base import Cancelled, Watch
from .server_address import Address
from .server_client import make_client
from .server_events import BadStream, Events
from .server_faults import Fault, Refusal, cut_off, in_stream, malformed, refused, silent, unreachable

POLL = 0.05  # seconds after which a cancelled request is noticed


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds to wait: for a connection, for the first token (a server may load the model for it), between two events,
    for the token counts after the end; how often a server is asked, the pause after the first try, and the longest. Any
    byte is a sign of life: some servers send comments while they are at work on a long prompt.
    """

    connect: float = 5.0
    first: float = 300.0
    between: float = 60.0
    end: float = 2.0
    tries: int = 4
    pause: float = 0.25
    longest: float = 30.0

    def before(self, attempt: int, fault: Fault) -> float | None:
        """Seconds until the server is asked again after its `attempt`th failure; None where it is not.

        The pause doubles each time, and varies by a quarter, so that many who were refused do not come back at once.
        """
        if not fault.again or attempt >= self.tries:
            return None
        if fault.wait is not None:
            return fault.wait if fault.wait <= self.longest else None
        return min(self.pause * 2 ** (attempt - 1), self.longest) * random.uniform(0.75, 1.25)


class Line:
    """The way to one server. Used and closed on one thread."""

    def __init__(self, address: Address, key: str, patience: Patience) -> None:
        self._address = address
        self._key = key
        self._patience = patience
        self._client = make_client(address, key, patience.connect)
        # Both are imported here, or the first request's patience would have to last for it.
        self._calls = {"/chat/completions": self._client.chat.completions, "/completions": self._client.completions}
        self._loop = asyncio.new_event_loop()

    def with_key(self, key: str) -> Line:
        """The way to the same server with a key: this one where it is its key, else a new one, and this is closed."""
        if key == self._key:
            return self
        other = Line(self._address, key, self._patience)
        self.close()
        return other

    def events(
        self, call: str, body: dict[str, Any], watch: Watch, ended: Callable[[], bool]
    ) -> Generator[dict[str, Any], None, None]:
        """The events that a call ("/chat/completions") answers with. As long as `watch` has no token, a try that
        failed is made again where that may help. `ended` tells that the answer is whole, so that little is waited for.

        Raises:
            Fault: the last try's.
            Cancelled: by `watch`, within POLL seconds.
        """
        failed: list[str] = []
        notes = list(watch.notes)
        while True:
            try:
                yield from self._try(call, body, watch, ended)
                return
            except Fault as fault:
                failed.append(fault.short)
                pause = None if watch.token_times else self._patience.before(len(failed), fault)
                if pause is None:
                    fault.tries = len(failed)
                    raise
            self._sleep(pause, watch)
            watch.notes[:] = [*notes, f"asked {len(failed) + 1} times: {', '.join(failed)}"]

    def close(self) -> None:
        """Close what is open."""
        self._loop.run_until_complete(self._client.close())
        self._loop.close()

    def _try(
        self, call: str, body: dict[str, Any], watch: Watch, ended: Callable[[], bool]
    ) -> Iterator[dict[str, Any]]:
        events, pieces = Events(self._key), _Pieces(self._loop, self._bytes(call, body))
        try:
            while not events.done:
                data = pieces.next(self._seconds(watch, ended), watch)
                if data is None:
                    if ended():
                        return
                    raise silent(self._address.shown, self._seconds(watch, ended), bool(watch.token_times))
                for event in events.feed(data) if data else events.finish():
                    if event.get("error"):
                        raise in_stream(json.dumps(event), self._address.shown, self._key)
                    yield event
                if data:
                    continue
                if not events.done and not ended():
                    raise cut_off(self._address.shown, bool(watch.token_times))
                return
        except BadStream as err:
            raise malformed(self._address.shown, str(err)) from None
        except (Fault, Cancelled):
            raise
        except Exception as err:  # whatever a client's libraries raise, under which the system's own error lies
            if ended():
                return
            raise self._fault(err, body) from err
        finally:
            pieces.close()

    def _seconds(self, watch: Watch, ended: Callable[[], bool]) -> float:
        if ended():
            return self._patience.end
        return self._patience.between if watch.token_times else self._patience.first

    async def _bytes(self, call: str, body: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        async with await self._calls[call].create(**body) as stream:
            async for data in stream.response.aiter_bytes():  # its own reader knows no bounds
                yield data

    def _fault(self, err: Exception, body: dict[str, Any]) -> Fault:
        refusal: BaseException | None = err
        while refusal is not None and not isinstance(refusal, Refusal):
            refusal = refusal.__cause__ or refusal.__context__
        if isinstance(refusal, Refusal):
            return refused(refusal, self._address.shown, body["model"], self._key)
        return unreachable(self._address.shown, err)

    def _sleep(self, seconds: float, watch: Watch) -> None:
        if watch.cancelled.wait(seconds):
            raise Cancelled


class _Pieces:
    """What an asynchronous iterator gives, one after the other, to a thread that waits for it on the iterator's loop.

    The loop runs only while the thread waits, so that little more is read than is asked for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, pieces: AsyncGenerator[bytes, None]) -> None:
        self._loop = loop
        self._read: deque[bytes] = deque()
        self._news = asyncio.Event()
        self._pump: asyncio.Task[None] = loop.create_task(self._run(pieces))

    async def _run(self, pieces: AsyncGenerator[bytes, None]) -> None:
        try:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    if piece:
                        self._read.append(piece)
                        self._news.set()
        finally:
            self._news.set()

    def next(self, seconds: float, watch: Watch) -> bytes | None:
        """The next piece, empty at the end; None where `seconds` went by without one.

        Raises:
            Cancelled: by `watch`.
            Exception: what the iterator raised.
        """
        until = time.monotonic() + seconds
        while not self._read:
            if self._pump.done():
                self._pump.result()
                return b""
            if watch.cancelled.is_set():
                raise Cancelled
            left = until - time.monotonic()
            if left <= 0:
                return None
            self._loop.run_until_complete(self._moved(min(left, POLL)))
        return self._read.popleft()

    async def _moved(self, seconds: float) -> None:
        """Until there is something new, at most so long."""
        self._news.clear()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._news.wait(), seconds)

    def close(self) -> None:
        """End it, wherever it hangs."""
        self._pump.cancel()
        self._loop.run_until_complete(asyncio.wait({self._pump}, timeout=1))
        if self._pump.done() and not self._pump.cancelled():
            self._pump.exception()  # or the loop would complain that nobody asked for it
