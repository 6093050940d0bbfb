"""llama.cpp's library through llama-cpp-python's plain bindings, imported when it is first needed and kept quiet."""

from __future__ import annotations

import ctypes
import importlib.util
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from ..decision import Absent, Accepted, Decision

SUBJECT = "llamacpp"
INSTALL = "pip install 'mlxnb[llamacpp]', which compiles llama.cpp for some minutes and needs a C++ compiler"
ERROR, CONTINUED = 4, 5  # of ggml_log_level


def installed() -> Decision:
    """Whether llama-cpp-python is installed; does not import it."""
    if importlib.util.find_spec("llama_cpp") is None:
        return Absent(SUBJECT, "llama-cpp-python not installed", INSTALL)
    return Accepted(SUBJECT, "llama-cpp-python is installed")


class Library:
    """The bindings, as `module`, and what llama.cpp complained of lately."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self._said: deque[str] = deque(maxlen=16)
        self._level = 0
        self._callback = module.llama_log_callback(self._hear)  # kept as long as llama.cpp may call it
        module.llama_log_set(self._callback, ctypes.c_void_p(0))
        module.llama_backend_init()

    def _hear(self, level: int, text: bytes, _data: Any) -> None:
        if level != CONTINUED:
            self._level = level
        if self._level == ERROR:
            self._said.append(text.decode("utf-8", "replace"))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Within, `complaint` is about what happens here only."""
        self._said.clear()
        yield

    def complaint(self) -> str:
        """The first error that llama.cpp told of, on one line; "" where it told of none."""
        return next((line for line in (" ".join(text.split()) for text in self._said) if line), "").rstrip(".")


@cache
def library() -> Library:
    """The one library of the process.

    Raises:
        ImportError, OSError: it is not there or cannot be loaded.
    """
    import llama_cpp.llama_cpp as module
    from llama_cpp import _logger  # noqa: F401 - imported here, so that it does not set its own log afterwards

    return Library(module)
