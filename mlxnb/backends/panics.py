"""A panic of a library in Rust as an error like any other: it is no Exception, and would end the engine's thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

# What pyo3 raises, which no module exports.
PANIC = "PanicException"


class Panic(RuntimeError):
    """A library failed where it thinks that it cannot: an assertion of its own does not hold."""


def is_panic(err: BaseException) -> bool:
    """Whether a library in Rust panicked."""
    return type(err).__name__ == PANIC


def as_error(err: BaseException) -> Panic:
    """A panic as an exception, with the library's own words."""
    return Panic(" ".join(str(err).split())[:200] or "a library in Rust panicked")


@contextmanager
def panics_as_errors() -> Iterator[None]:
    """Raise what panics within as an exception.

    Raises:
        Panic: a library panicked.
    """
    try:
        yield
    except BaseException as err:
        if not is_panic(err):
            raise
        raise as_error(err) from err
