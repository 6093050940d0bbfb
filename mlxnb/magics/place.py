"""Where a cell shows its answer: as it comes, once when it is finished, or nowhere."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from ..render import LiveCell, mimebundle
from ..render.progress import progress_of

if TYPE_CHECKING:
    from ..result import Result
    from ..runtime import Job


class Place:
    """One answer's place, to be used in a `with`: left with an error, it shows nothing and the error stands alone."""

    def __init__(self, kind: str, model: str, *, stream: bool, quiet: bool) -> None:
        self._kind = kind
        self._quiet = quiet
        self._live = LiveCell(kind, model) if stream and not quiet else None

    def __enter__(self) -> Place:
        if self._live is not None:
            self._live.start()
        return self

    def update(self, job: Job, text: str, thinking: str) -> None:
        """Show how far the job has come; `text` and `thinking` are everything so far."""
        if self._live is not None and job.state != "done":
            self._live.show(progress_of(job, text, thinking))

    def finish(self, result: Result) -> None:
        """Show the finished answer."""
        live, self._live = self._live, None
        if live is not None:
            live.finish(result)
        elif not self._quiet:
            from IPython.display import display

            display(mimebundle(result, self._kind), raw=True)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self._live is not None:
            self._live.close()
