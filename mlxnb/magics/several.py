"""`--n` and `--compare`: one cell that gives several answers, shown together, as a list."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import OptionError
from ..render.answers import comparison_bundle, samples_bundle
from ..request import Request
from ..result import Result
from .compare import Arm, arms_of, run_arms
from .follow import GRACE

if TYPE_CHECKING:
    from ..runtime.batch import Answer

# What a cell with several answers cannot have besides.
ALONE = {"chat": "--chat", "tool": "--tool", "compare": "--compare", "n": "--n"}


def check_several(options: argparse.Namespace) -> bool:
    """Whether a line asks for several answers.

    Raises:
        OptionError: together with an option that goes with one answer only.
    """
    asked = "--n" if options.n is not None else "--compare" if options.compare is not None else ""
    other = next((flag for name, flag in ALONE.items() if getattr(options, name) is not None and flag != asked), None)
    if asked and other:
        raise OptionError(f"{asked} and {other} do not go together.", "Give one of them.")
    return bool(asked)


@dataclass(frozen=True, slots=True)
class Several:
    """What a cell asks for several answers: samples, or the arms of a comparison."""

    samples: tuple[Request, ...] = ()
    arms: tuple[Arm, ...] = ()

    @classmethod
    def of(cls, request: Request, options: argparse.Namespace) -> Several:
        """What the line asks for.

        Raises:
            OptionError: no such number of samples, or nothing to compare.
        """
        if options.n is None:
            return cls(arms=tuple(arms_of(options.compare, request)))
        from ..runtime.samples import sampled

        return cls(tuple(sampled(request, int(options.n) if options.n.isdecimal() else options.n)))

    def ask(self, options: argparse.Namespace, kind: str) -> tuple[list[Answer], bool]:
        """The answers, which are shown unless the line says --quiet, and whether there was time for all of them."""
        if self.samples:
            answers, whole = _samples(self.samples, options.quiet)
            if not any(isinstance(answer, Result) for answer in answers):
                return answers, whole  # one error says as much as all of them
            bundle = samples_bundle(answers, kind)
        else:
            answers, whole = run_arms(self.arms, options.quiet)
            names = [arm.name for arm in self.arms[: len(answers)]]
            request = self.arms[0].request
            own = options.format or request.logprobs is not None
            bundle = comparison_bundle(names, answers, kind if own else None, "json" if kind == "json" else "text")
        if answers and not options.quiet:
            from IPython.display import display

            display(bundle, raw=True)
        return answers, whole


def _samples(requests: Sequence[Request], quiet: bool) -> tuple[list[Answer], bool]:
    from .. import engine
    from ..runtime.bar import shown

    batch = engine().submit_batch(requests)
    try:
        with shown(False if quiet else None, engine().bar) as show:
            return batch.results(show), True
    except KeyboardInterrupt:
        batch.wait(GRACE)
        ended = [job.answer() for job in batch.jobs if job.settled]
        return [answer for answer in ended if not isinstance(answer, Result) or answer.tokens], False
