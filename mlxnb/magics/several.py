"""`--n` and `--compare`: one cell that gives several answers, shown together, as a list."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..errors import OptionError
from ..render.answers import comparison_bundle, samples_bundle
from ..request import Request
from ..result import Result
from .compare import arms_of, run_arms
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


def ask_several(request: Request, options: argparse.Namespace, kind: str) -> tuple[list[Answer], bool]:
    """The answers, which are shown unless the line says --quiet, and whether there was time for all of them.

    Raises:
        OptionError: no such number of samples, or nothing to compare.
    """
    if options.n is not None:
        answers, whole = _samples(request, options.n, options.quiet)
        if not any(isinstance(answer, Result) for answer in answers):
            return answers, whole  # one error says as much as all of them
        bundle = samples_bundle(answers, kind)
    else:
        arms = arms_of(options.compare, request)
        answers, whole = run_arms(arms, options.quiet)
        names = [arm.name for arm in arms[: len(answers)]]
        own = options.format or request.logprobs is not None
        bundle = comparison_bundle(names, answers, kind if own else None, "json" if kind == "json" else "text")
    if answers and not options.quiet:
        from IPython.display import display

        display(bundle, raw=True)
    return answers, whole


def _samples(request: Request, n: str, quiet: bool) -> tuple[list[Answer], bool]:
    from .. import engine
    from ..runtime.bar import shown
    from ..runtime.samples import sampled

    batch = engine().submit_batch(sampled(request, int(n) if n.isdecimal() else n))  # type: ignore[arg-type]
    try:
        with shown(False if quiet else None, engine().bar) as show:
            return batch.results(show), True
    except KeyboardInterrupt:
        batch.wait(GRACE)
        ended = [job.answer() for job in batch.jobs if job.settled]
        return [answer for answer in ended if not isinstance(answer, Result) or answer.tokens], False
