"""Follows a running generation from a cell: shows its text as it comes, and stops it when the kernel is interrupted."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..result import Result
    from ..runtime import Job
    from .place import Place

# Seconds between two updates. A front end gets at most 15 a second, the finished answer's included.
PERIOD = 1 / 13
# Seconds to wait for a stopped job: a token or a prefill chunk mostly ends within them.
GRACE = 5.0


def follow(job: Job, place: Place) -> Result:
    """Wait for the Result, and show its text in `place` on the way. Left early for any reason, the job is cancelled.

    Raises:
        KeyboardInterrupt: the kernel was interrupted; `stop` has what there is.
        MlxnbError: what made the job fail.
    """
    text, thinking = "", ""
    try:
        while not job.wait(PERIOD):
            for chunk in job.drain():
                text, thinking = text + chunk.text, thinking + chunk.thinking
            place.update(job, text, thinking)
    except BaseException:
        job.cancel()
        raise
    return job.result()


def stop(job: Job) -> Result | None:
    """The Result of a cancelled job, with the text so far; None if it takes too long, or is interrupted once more.

    A model that is being loaded is not waited for: there is no text yet.

    Raises:
        MlxnbError: the job failed on its own just then.
    """
    try:
        done = job.state != "loading" and job.wait(GRACE)
    except KeyboardInterrupt:
        done = False
    return job.result() if done else None
