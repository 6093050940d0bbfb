"""An error as the one red line that a failing magic shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .text import one_row

if TYPE_CHECKING:
    from ..errors import MlxnbError

BOLD_RED, RESET = "\x1b[1;31m", "\x1b[0m"
# A message quotes the offending value, which can be a whole book; the remedy must stay in sight.
LONGEST = 1000


def one_line(error: MlxnbError) -> list[str]:
    """The line for `_render_traceback_`: the error's name in bold red, then what is wrong and what to do."""
    message, remedy = one_row(error.message), one_row(error.remedy)
    if len(message) > LONGEST:
        message = message[: LONGEST - 1] + "…"
    return [f"{BOLD_RED}{type(error).__name__}{RESET}: {message} {remedy}".rstrip()]
