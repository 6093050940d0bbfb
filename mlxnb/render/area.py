"""The live area in a notebook: one display that is updated in place and left blank, then one ordinary output."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from .result import mimebundle
from .unfinished import Unfinished

if TYPE_CHECKING:
    from ..result import Result
    from .progress import Progress

BLANK = {"text/plain": "", "text/html": ""}


class Area:
    """A place in a notebook's output. `publisher` is the shell's display publisher."""

    def __init__(self, publisher: Any, format: str, model: str) -> None:
        self._publisher = publisher
        self._format = format
        self._id = uuid.uuid4().hex
        self._unfinished = Unfinished(format, model)

    def start(self) -> None:
        """Publish the blank display that the updates will fill."""
        if self._live:
            self._publish(BLANK, {"display_id": self._id})

    def show(self, progress: Progress) -> None:
        """Fill the area with the answer so far."""
        if self._live:
            self._publish(
                {"text/plain": "", "text/html": self._unfinished.page(progress)}, {"display_id": self._id}, update=True
            )

    def finish(self, result: Result) -> None:
        """Publish the finished output and blank the area: in this order, so that the page never gets shorter."""
        self._publish(mimebundle(result, self._format), {})
        self.close()

    def close(self) -> None:
        """Blank the area."""
        if self._live:
            self._publish(BLANK, {"display_id": self._id}, update=True)

    @property
    def _live(self) -> bool:
        # Inside %%capture the publisher keeps every message: only the finished output should be among them.
        from IPython.core.displaypub import CapturingDisplayPublisher

        return not isinstance(self._publisher, CapturingDisplayPublisher)

    def _publish(self, bundle: dict[str, str], transient: dict[str, str], update: bool = False) -> None:
        self._publisher.publish(data=dict(bundle), metadata={}, transient=transient, update=update)
