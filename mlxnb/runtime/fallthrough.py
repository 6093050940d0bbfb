"""What sends a request on to the next backend of its chain once one had its model, and what is said of it then."""

from __future__ import annotations

from ..backends.base import Cancelled
from ..decision import Absent, Rejected
from ..errors import GenerationError, MlxnbError, PromptError, in_words
from .in_memory import Loaded
from .job import Job
from .loaded import LEAD_ON
from .outcome import Outcome


def passed_over(loaded: Loaded, err: Exception) -> Rejected | None:
    """Why a backend is passed over that failed before the first token; None where another one would fail alike, since
    the prompt or an option is wrong, and where nobody waits any more.
    """
    if isinstance(err, LEAD_ON):
        return Rejected(loaded.info.backend, err.message.rstrip("."), err.remedy)
    if isinstance(err, MlxnbError | Cancelled):
        return None
    return Rejected(loaded.info.backend, f"it failed before the first token: {in_words(err)}")


def ended_by(err: Exception, job: Job, outcome: Outcome) -> MlxnbError:
    """What a request ends with that has no other backend to go to: with the text so far where there is some, and with
    what was wrong on each backend where several failed.
    """
    # A server may find a prompt too long for its answer when that has begun.
    if outcome.began and (isinstance(err, (*LEAD_ON, PromptError)) or not isinstance(err, MlxnbError)):
        return outcome.failed(err)
    last = err if isinstance(err, MlxnbError) else outcome.failed(err)
    tried = [each for each in job.tried if not isinstance(each, Absent)]
    if not tried or not isinstance(last, LEAD_ON):
        return last
    why = passed_over(outcome.loaded, err) if outcome.loaded is not None else None
    reasons = [f"{each.subject}: {each.reason}" for each in ([*tried, why] if why is not None else tried)]
    reasons += [last.message.rstrip(".")] if why is None else []  # none of the others could load it
    all_of_them = GenerationError(
        f"No backend here could answer with {job.request.model}. {'; '.join(reasons)}.", last.remedy
    )
    all_of_them.__cause__ = err
    return all_of_them
