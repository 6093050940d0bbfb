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


# Seconds between two looks at how far a batch is: a front end gets at most 15 updates a second, the last one included.
PERIOD = 1 / 13


class Progress(NamedTuple):
    """How many of a batch are answered or failed, of how many, and the tokens that were made so far.

    `failed`: how many of `done` have no answer. `seconds` since the first prompt began to be computed, until now or
    the end. `share` of the work that is behind, from 0 to 1: a row that is not done counts as if it took all of its
    `max_tokens`, so that what is left is seldom underestimated. `kept`: how many of `done` an earlier run answered,
    which count in no share.
    """

    done: int
    total: int
    tokens: int
    failed: int = 0
    seconds: float = 0.0
    share: float = 0.0
    kept: int = 0

    @property
    def tokens_per_second(self) -> float | None:
        """Over all rows together; None before the first token."""
        return self.tokens / self.seconds if self.tokens and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """At the rate so far; None before anything can be said."""
        return self.seconds * (1 - self.share) / self.share if self.share and self.seconds else None


# Of the time that a batch takes, what looking how far it is may take: that costs more the more rows there are.
LOOKING = 0.05


class Pace:
    """Calls `show` with how far a batch is, at most 15 times a second, and more seldom where looking takes long."""

    def __init__(self, show: Callable[[Progress], object]) -> None:
        self._show, self._next = show, 0.0

    def __call__(self, progress: Callable[[], Progress]) -> None:
        begin = time.perf_counter()
        if begin < self._next:
            return
        now = progress()
        took = time.perf_counter() - begin
        self._show(now)
        self._next = time.perf_counter() + max(0.9 * PERIOD, took / LOOKING)  # after a wait of PERIOD it is time


class BatchJob:
    """Handle of a submitted batch. Iterating gives (index, Result or error) as they finish; leaving the loop early
    cancels the rest. Every method may be called from any thread.
    """

    def __init__(self, parts: Sequence[Job | MlxnbError]) -> None:
        self._parts = tuple(parts)
        self._finished: SimpleQueue[tuple[int, Answer]] = SimpleQueue()
        self._given, self._lock = 0, Lock()  # how many of them a loop has had: another one goes on from there
        self._ended = 0.0  # when the last of them was done

    @property
    def jobs(self) -> list[Job]:
        """Those that could be asked, in order."""
        return [part for part in self._parts if isinstance(part, Job)]

    def follow(self) -> None:
        """Called by the engine before anything runs: from now on `__iter__` hears what finishes."""
        for index, part in enumerate(self._parts):
            if isinstance(part, Job):
                part.on_done(lambda job, index=index: self._done(index, job.answer()))  # type: ignore[misc]
            else:
                self._done(index, part)

    def _done(self, index: int, answer: Answer) -> None:
        self._ended = time.perf_counter()
        self._finished.put((index, answer))

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

    @property
    def more(self) -> bool:
        """Whether another one has finished that no loop had yet."""
        return not self._finished.empty()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all are done, at most `timeout` seconds; whether they are."""
        end = None if timeout is None else time.monotonic() + timeout
        return all(job.wait(None if end is None else max(0.0, end - time.monotonic())) for job in self.jobs)

    def results(self, show: Callable[[Progress], object] | None = None) -> list[Answer]:
        """Wait for all, and give them in order; an interrupt of the waiting thread cancels the batch.

        `show` is called on this thread several times a second, and once more when all are done; what it raises is
        raised here, and cancels the batch.
        """
        pace = Pace(show) if show is not None else None
        try:
            while not self.wait(PERIOD if pace is not None else None):
                pace(self.progress)  # type: ignore[misc]
            if show is not None:
                show(self.progress())
        except BaseException:
            self.cancel()
            raise
        return [part.answer() if isinstance(part, Job) else part for part in self._parts]

    def progress(self) -> Progress:
        """How far it is; never waits."""
        jobs, total = self.jobs, len(self._parts)
        shares = [_share(part) for part in self._parts]
        done = sum(share == 1 for share in shares)
        starts = [job.watch.start for job in jobs if job.watch.start is not None]
        until = self._ended if done == total else time.perf_counter()
        return Progress(
            done,
            total,
            sum(len(job.watch.token_times) for job in jobs),
            sum(_failed(part) for part in self._parts),
            max(0.0, until - min(starts)) if starts else 0.0,
            sum(shares) / total if total else 1.0,
        )

    def cancel(self) -> None:
        """Stop between two tokens: what is finished stays, what runs is `interrupted` with its text so far."""
        for job in self.jobs:
            job.cancel()


def _share(part: Job | MlxnbError) -> float:
    """How much of one is behind: 1 where it is done, and only there."""
    if not isinstance(part, Job) or part.state == "done":
        return 1.0
    return min(0.999, len(part.watch.token_times) / part.request.max_tokens)


def _failed(part: Job | MlxnbError) -> bool:
    return not isinstance(part, Job) or (part.settled and not isinstance(part.answer(), Result))


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
    options = for_many(options)
    check(alike := Request.of("an option that is wrong is wrong for all", **options))
    if alike.schema is not None:
        options = {**options, "schema": alike.schema}  # made once: of a large model that takes milliseconds
    return [_part(prompt, options, job) for prompt in prompts]


def for_many(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that every prompt can be asked with: of a generator only the first would have anything."""
    return {name: tuple(value) if isinstance(value, Iterator) else value for name, value in options.items()}


def _part(prompt: Any, options: Mapping[str, Any], job: Callable[[Request], Job]) -> Job | MlxnbError:
    try:
        return job(prompt if isinstance(prompt, Request) else Request.of(prompt, **options))
    except PromptError as err:
        return err
