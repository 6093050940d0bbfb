"""Runs the cases of a profile: rounds and warm-ups, in turns where cases are compared, and what became of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from ...decision import Rejected
from ...errors import EngineClosedError, MlxnbError, in_words
from ...request import Message, Request
from ...result import Result
from ...runtime import Engine
from ...runtime.kernels import patched_kernels
from ..machine.clock import Clock
from ..machine.energy import Meter, meter
from ..report import Case, Profiled, Run
from .asking import Asking
from .cases import groups, rounds
from .loading import Models
from .plan import Plan
from .progress import Pace, Progress
from .scenarios import Scenario, scenario, scenarios

# Rounds of a case that fail one after the other before no more are made of it.
PATIENCE = 3

Hears = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Measured:
    """What came of it: `cases` as they were given, with their models. `partial` says why it is not whole."""

    models: tuple[Profiled, ...]
    cases: tuple[Case, ...]
    runs: tuple[Run, ...]
    notes: tuple[str, ...] = ()
    partial: str | None = None


def measure(engine: Engine, cases: Sequence[Case], plan: Plan, clock: Clock, progress: Hears | None = None) -> Measured:
    """Run the cases. What fails is the error of its run, or of its case, and the rest goes on; an interrupt ends it and
    keeps what was measured.

    Requests take their options from `plan.base` and each case's `varied`; cases of one scenario run in turns where
    `plan.compare` says so.
    """
    return Measuring(engine, cases, plan, clock, progress).all()


class Measuring:
    """The work of `measure`, on the thread that waits for it."""

    def __init__(
        self, engine: Engine, cases: Sequence[Case], plan: Plan, clock: Clock, progress: Hears | None = None
    ) -> None:
        self._engine, self._plan, self._clock, self._hears = engine, plan, clock, progress
        self._cases = list(cases)
        self._runs: list[Run] = []
        self._models = Models(engine, plan, clock)
        self._asking: dict[int, Asking] = {}
        self._meters: dict[str, Meter | None] = {}
        self._failures = [0] * len(self._cases)
        self._notes: list[str] = []
        self._pace = Pace()
        self._groups = groups(self._cases, plan.compare)
        self._rounds = [list(rounds(group, plan.warmup, plan.runs)) for group in self._groups]
        self.total = sum(self._requests(place) for each in self._rounds for place, _ in each)
        self._doing = ""

    def first(self) -> Profiled:
        """The first model that can be loaded.

        Raises:
            MlxnbError: none can; what the first of them failed with.
        """
        errors: list[Exception] = []
        for case in self._cases:
            self._say(f"loading {case.asked}")
            try:
                return self._models.found[self._models.of(case)[0]]
            except MlxnbError as err:
                errors.append(err)
        raise errors[0]

    def request(self, place: int) -> Request:
        """A request as a case asks it, of one that was measured."""
        asking = self._asking[place]
        return asking.turn(0, [], 0) if self._turns(place) > 1 else asking.together(0)[0]

    def all(self) -> Measured:
        """See `measure`."""
        partial = None
        try:
            for group, planned in zip(self._groups, self._rounds, strict=True):
                for place in group:
                    self._prepare(place)
                while planned:
                    place, number = planned[0]
                    if place in self._asking and self._failures[place] < PATIENCE:
                        self._round(place, number)
                    planned.pop(0)
            self._say("measured")
        except KeyboardInterrupt:
            partial = f"interrupted: {self._doing}"
        except EngineClosedError:
            partial = f"the engine was closed: {self._doing}"
        return Measured(tuple(self._models.found), tuple(self._cases), tuple(self._runs), tuple(self._notes), partial)

    # Models.

    def _prepare(self, place: int) -> None:
        """Load the model of a case and make it ready to be asked; where that fails it is the error of the case."""
        case = self._cases[place]
        self._say(f"loading {case.asked}: {case.label}")
        try:
            model, target = self._models.of(case)
            asking = Asking(self._engine, self._plan, case, self._scenario(case), target)
            self._cases[place] = replace(case, model=model)
            tokenising = asking.tokenising()
        except EngineClosedError:
            raise
        except Exception as err:  # noqa: BLE001 - an edge: whatever a library raises is the error of this case alone
            self._cases[place] = replace(self._cases[place], error=_said(err))
            return
        self._asking[place] = asking
        self._cases[place] = replace(self._cases[place], tokenising=tokenising)

    def _scenario(self, case: Case) -> Scenario:
        own = {each.name: each for each in scenarios(self._plan)}
        return own[case.scenario] if case.scenario in own else scenario(case.scenario)

    # Rounds.

    def _round(self, place: int, number: int) -> None:
        """One round of a case; a warm-up is kept only where it fails, as a note."""
        case = self._cases[place]
        many = f"warm-up {number + self._plan.warmup + 1} of {self._plan.warmup}"
        self._say(f"{case.label}, {many if number < 0 else f'run {number + 1} of {self._plan.runs}'}")
        began = self._clock()
        try:
            with _kernels(self._engine, self._plan, case):
                runs = list(
                    self._conversation(place, number) if self._turns(place) > 1 else self._at_once(place, number)
                )
        except EngineClosedError:
            raise
        except Exception as err:  # noqa: BLE001 - an edge: a prompt that cannot be made, kernels that cannot be put in
            runs = [Run(place, number, None, error=_said(err))]
        for note in self._asking[place].notes:
            self._note(place, note)
        failed = [run for run in runs if run.timings is None]
        self._failures[place] = self._failures[place] + 1 if failed else 0
        self._pace.add(place, self._clock() - began, runs)
        if number >= 0:
            self._runs += runs
        elif failed:
            self._note(place, f"a warm-up failed: {failed[0].error}")
        if self._failures[place] == PATIENCE:
            error = f"no more runs were made after {PATIENCE} that failed, the last with: {failed[0].error}"
            self._cases[place] = replace(self._cases[place], error=error)
            if number < 0:
                self._runs += [replace(run, round=0) for run in failed]

    def _at_once(self, place: int, number: int) -> list[Run]:
        return self._ask(place, number, self._asking[place].together(number))

    def _conversation(self, place: int, number: int) -> Iterator[Run]:
        """The requests of a conversation, one after the other; one that fails is the last."""
        messages: list[Message] = []
        for turn in range(self._turns(place)):
            request = self._asking[place].turn(number, messages, turn)
            answers: list[Result] = []
            (run,) = self._ask(place, number, [request], answers)
            yield replace(run, turn=turn)
            if not answers:
                return
            messages = [*request.messages, Message("assistant", answers[0].text)]

    def _ask(self, place: int, number: int, requests: list[Request], answers: list[Result] | None = None) -> list[Run]:
        """Ask requests at the same time, and what became of each."""
        counter = self._meter(place)
        if counter is not None:
            counter.begin()
        got = self._answers(requests)
        joules = counter.end() if counter is not None else None
        rss = _rss()
        if answers is not None:
            answers += [each for each in got if isinstance(each, Result)]
        runs = [self._run(place, number, each, len(requests) == 1) for each in got]
        return _shared([each if each.clients else replace(each, peak_rss=rss) for each in runs], joules)

    def _answers(self, requests: list[Request]) -> Sequence[Result | MlxnbError]:
        got = self._asked(requests)
        if any(isinstance(each, Result) and each.finish_reason == "interrupted" for each in got):
            self._say(self._doing)  # who cancelled it may want the profile to end, and raises now
        return got

    def _asked(self, requests: list[Request]) -> Sequence[Result | MlxnbError]:
        if len(requests) > 1:
            return self._engine.submit_batch(requests).results()
        try:
            return [self._engine.submit(requests[0]).result()]
        except EngineClosedError:
            raise
        except MlxnbError as err:
            return [err]

    def _run(self, place: int, number: int, answer: Result | MlxnbError, alone: bool) -> Run:
        if isinstance(answer, MlxnbError):
            return Run(place, number, None, error=str(answer))
        if answer.cached:
            return Run(place, number, None, error="it was answered from the result cache, so that nothing was computed")
        if answer.finish_reason == "interrupted":
            return Run(place, number, None, error="it was cancelled")
        speculation, model = answer.speculation, self._cases[place].model
        assert model is not None
        of_model = self._models.found[model].notes
        notes = [note for note in answer.provenance.notes if note not in of_model]
        return Run(
            case=place,
            round=number,
            timings=self._clock.relative(answer.timings),
            generation_tokens=answer.generation_tokens,
            finish_reason=answer.finish_reason,
            peak_memory=answer.peak_memory,
            proposed=speculation.proposed if speculation else None,
            accepted=speculation.accepted if speculation else None,
            positions=speculation.positions if speculation else (),
            attention_calls=dict(answer.provenance.attention_calls),
            clients=answer.provenance.backend == "server",
            notes=(*notes, *(() if answer.generation_tokens else ("no token was generated",))),
            own=max(0.0, answer.timings.queue_time) if alone else None,
        )

    # What goes on beside.

    def _turns(self, place: int) -> int:
        return self._scenario(self._cases[place]).turns

    def _requests(self, place: int) -> int:
        return self._cases[place].concurrency * self._turns(place)

    def _meter(self, place: int) -> Meter | None:
        model = self._cases[place].model
        assert model is not None
        device = self._models.found[model].device
        if self._models.found[model].backend == "server":
            note = "energy and memory of a server's model not measured: both are the server's own"
            self._notes += [note] if note not in self._notes else []
            return None
        if device not in self._meters:
            found = meter(device)
            if isinstance(found, Rejected):
                remedy = f" ({found.remedy})" if found.remedy else ""
                self._notes.append(f"energy not measured: {found.reason}{remedy}")
            else:
                self._notes.append(f"energy: {found.what}")
            self._meters[device] = None if isinstance(found, Rejected) else found
        return self._meters[device]

    def _note(self, place: int, note: str) -> None:
        case = self._cases[place]
        if note not in case.notes:
            self._cases[place] = replace(case, notes=(*case.notes, note))

    def _say(self, doing: str) -> None:
        self._doing = doing
        if self._hears is None:
            return
        left = [(place, self._cases[place]) for each in self._rounds for place, _ in each]
        left = [(place, case) for place, case in left if case.error is None]
        undone = sum(self._requests(place) for place, _ in left)
        self._hears(Progress(doing, self.total - undone, self.total, self._pace.left(left)))


def _kernels(engine: Engine, plan: Plan, case: Case) -> AbstractContextManager[object]:
    """What a round runs within: attention kernels patched in, where the case says so."""
    on = {**plan.base, **case.varied}.get("kernels")
    return patched_kernels(engine=engine) if on else nullcontext()


def _said(err: Exception) -> str:
    return str(err) if isinstance(err, MlxnbError) else in_words(err)


def _shared(runs: list[Run], joules: float | None) -> list[Run]:
    """The energy of a round among its requests, by the tokens that each generated."""
    tokens = sum(run.generation_tokens for run in runs)
    if joules is None or not tokens:
        return runs
    return [
        run if run.timings is None else replace(run, energy=joules * run.generation_tokens / tokens) for run in runs
    ]


def _rss() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)
