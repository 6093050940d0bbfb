"""Keeps an answer that a cell has shown while it came from being shown a second time as that cell's Out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.displayhook import CapturingDisplayHook

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell


class Shown:
    """What this cell has shown. As the shell's display hook it lets such a value go to `_` and `Out` in silence.

    IPython calls the hook with the value of a cell's last expression only, so that `display(result)` always shows.
    A formatter could not do this: terminal IPython has written `Out[3]: ` by the time it asks one.
    """

    def __init__(self, shell: InteractiveShell) -> None:
        self._shell = shell
        self._next = shell.display_trap.hook
        self._values: list[Any] = []
        self._cell = 0

    def add(self, value: Any) -> None:
        """Note that the cell which is running now has shown `value`."""
        if self._cell != self._shell.execution_count:
            self._cell, self._values = self._shell.execution_count, []
        self._values.append(value)
        if isinstance(sys.displayhook, CapturingDisplayHook):
            sys.displayhook = self._around(sys.displayhook)

    def _around(self, capturing: CapturingDisplayHook) -> Callable[[Any], None]:
        """The hook that `%%capture` put in place, and takes away itself, with the same rule."""
        return lambda value: None if self._is_shown(value) else capturing(value)

    def __call__(self, value: Any = None) -> None:
        if not self._is_shown(value):
            self._next(value)
            return
        hook = self._shell.displayhook
        hook.check_for_underscore()
        hook.update_user_ns(value)
        hook.fill_exec_result(value)

    def _is_shown(self, value: Any) -> bool:
        return self._cell == self._shell.execution_count and any(value is shown for shown in self._values)

    def install(self) -> None:
        """Take the display hook's place, in the cell that is running too."""
        self._shell.display_trap.hook = self
        if sys.displayhook is self._next:
            sys.displayhook = self

    def uninstall(self) -> None:
        """Put back the display hook that was there, unless another has come since, which then passes on to this."""
        if self._shell.display_trap.hook is self:
            self._shell.display_trap.hook = self._next
        if sys.displayhook is self:
            sys.displayhook = self._next
        self._values = []
