"""Many requests at once: the handle that fronts follow, cancel and take the answers from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from threading import Lock
from typing import Any, NamedTuple

from ..errors import MlxnbError, OptionError, PromptError
from ..request import Request
from ..result import Result
from .job import WAKE, Job

# What became of one of them: its answer, or why there is none.
Answer = Result | MlxnbError


class Progress(NamedTuple):
    """How many of a batch are answered or failed, of how many, and the tokens that were made so far."""

    done: int
    total: int
    tokens: int


class BatchJob:
    """Handle of a submitted batch. Iterating gives (index, Result or error) as they finish; leaving the loop early
    cancels the rest. Every method may be called from any thread.
    """

    def __init__(self, parts: Sequence[Job | MlxnbError]) -> None:
        self._parts = tuple(parts)
        self._finished: SimpleQueue[tuple[int, Answer]] = SimpleQueue()
        self._given, self._lock = 0, Lock()  # how many of them a loop has had: another one goes on from there

    @property
    def jobs(self) -> list[Job]:
        """Those that could be asked, in order."""
        return [part for part in self._parts if isinstance(part, Job)]

    def follow(self) -> None:
        """Called by the engine before anything runs: from now on `__iter__` hears what finishes."""
        for index, part in enumerate(self._parts):
            if isinstance(part, Job):
                part.on_done(lambda job, index=index: self._finished.put((index, job.answer())))  # type: ignore[misc]
            else:
                self._finished.put((index, part))

    def __iter__(self) -> Iterator[tuple[int, Answer]]:
        try:
            while (part := self._next()) is not None:
                yield part
        except BaseException:  # the loop was left early, or interrupted
            self.cancel()
            raise

    def _next(self) -> tuple[int, Answer] | None:
        """The next that finishes; None once all of them were given, to whichever loop."""
        while self._given < len(self._parts):
            try:
                part = self._finished.get(timeout=WAKE)
            except Empty:
                for job in self.jobs:
                    job.check_thread()
                continue
            with self._lock:
                self._given += 1
            return part
        return None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all are done, at most `timeout` seconds; whether they are."""
        end = None if timeout is None else time.monotonic() + timeout
        return all(job.wait(None if end is None else max(0.0, end - time.monotonic())) for job in self.jobs)

    def results(self) -> list[Answer]:
        """Wait for all, and give them in order; an interrupt of the waiting thread cancels the batch."""
        try:
            self.wait()
        except BaseException:
            self.cancel()
            raise
        return [part.answer() if isinstance(part, Job) else part for part in self._parts]

    def progress(self) -> Progress:
        """How far it is; never waits."""
        done = sum(not isinstance(part, Job) or part.state == "done" for part in self._parts)
        return Progress(done, len(self._parts), sum(len(job.watch.token_times) for job in self.jobs))

    def cancel(self) -> None:
        """Stop between two tokens: what is finished stays, what runs is `interrupted` with its text so far."""
        for job in self.jobs:
            job.cancel()


def as_jobs(
    prompts: Iterable[Any],
    options: Mapping[str, Any],
    job: Callable[[Request], Job],
    check: Callable[[Request], object],
) -> list[Job | MlxnbError]:
    """A Job for each prompt, made by `job`; for one that cannot be asked, the error that says why. `check` hears a
    Request with the options, and raises where none like it can be run.

    Raises:
        OptionError: an option that is wrong whatever the prompt is, or something that is no list of prompts.
        PromptError: options that go with no prompt, such as `raw` with `system`.
        BackendMissingError: the backend that is named cannot run here.
    """
    if isinstance(prompts, str | bytes | Mapping | Request) or not isinstance(prompts, Iterable):
        raise OptionError(f"prompts is a {type(prompts).__name__}.", "Give a list of prompts; one alone to `generate`.")
    stop = options.get("stop")
    if isinstance(stop, Iterable) and not isinstance(stop, str):
        options = {**options, "stop": tuple(stop)}  # it may be a generator, which only the first prompt would have
    check(Request.of("an option that is wrong is wrong for all", **options))
    return [_part(prompt, options, job) for prompt in prompts]


def _part(prompt: Any, options: Mapping[str, Any], job: Callable[[Request], Job]) -> Job | MlxnbError:
    try:
        return job(prompt if isinstance(prompt, Request) else Request.of(prompt, **options))
    except PromptError as err:
        return err
