"""Several samples of one prompt as Requests of a batch, each of which repeats by itself."""

from __future__ import annotations

from dataclasses import replace

from ..errors import OptionError
from ..request import MAX_SEED, Request, check_option

MOST = 1000
NUMBER = {"kind": int, "low": 1, "high": MOST}


def sampled(request: Request, n: int) -> list[Request]:
    """`n` times a request: with the seeds seed, seed + 1, …; each with one of its own where there is no seed.

    Raises:
        OptionError: `n` is no number of samples, or they would all be alike.
    """
    n = int(check_option("n", n, NUMBER))
    seed = request.sampling.seed
    if n > 1 and request.sampling.temperature == 0:
        raise OptionError(
            f"n is {n} at temperature 0, where every answer is the same.", "Give a temperature above 0, such as 0.7."
        )
    if seed is None:
        return [request] * n
    if seed + n - 1 > MAX_SEED:
        raise OptionError(f"seed is {seed}, and {n} samples count up from there beyond the largest.", "Take another.")
    return [replace(request, sampling=replace(request.sampling, seed=seed + i)) for i in range(n)]
