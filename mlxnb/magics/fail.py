"""Makes a magic fail with one line for what a person can mend, and with a traceback only for bugs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import MlxnbError

Magic = TypeVar("Magic", bound=Callable[..., Any])


def one_line_errors(magic: Magic) -> Magic:
    """Decorate a magic so that MlxnbErrors and interrupts end the cell with one line, in a kernel and a terminal."""

    @functools.wraps(magic)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return magic(*args, **kwargs)
        except MlxnbError as error:
            shorten(error)
            raise
        except KeyboardInterrupt as error:
            raise error if hasattr(error, "_render_traceback_") else interrupted("stopped.") from None

    return guarded  # type: ignore[return-value]


def shorten(error: MlxnbError) -> None:
    """Have IPython show `error` as one line in place of its traceback."""
    from ..render import one_line

    error._render_traceback_ = lambda: one_line(error)  # type: ignore[attr-defined]


class _Stopped(MlxnbError):
    """What `one_line` needs of an error, under the name that an interrupted cell ends with."""


_Stopped.__name__ = "KeyboardInterrupt"


def interrupted(message: str) -> KeyboardInterrupt:
    """The KeyboardInterrupt that ends an interrupted cell, shown as one line."""
    from ..render import one_line

    error = KeyboardInterrupt(message)
    error._render_traceback_ = lambda: one_line(_Stopped(message))  # type: ignore[attr-defined]
    return error
