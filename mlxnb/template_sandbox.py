"""What the templates of a prompt file may reach: a file comes from anywhere, where a cell is the person's own code.

Jinja2's sandbox keeps a template from Python's inside. It calls whatever it finds by name all the same, and a notebook
has names that reach everything: IPython's own, and the modules that were imported.
"""

from __future__ import annotations

from functools import cache
from inspect import unwrap
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

SHELL = ("IPython", "ipykernel")
NOTEBOOK = "__main__"
FORMAT = "jinja2.sandbox"  # where it wraps the format of a string, so that this reaches no more than the template
INSTEAD = "make a variable of what it gives"


@cache
def for_files() -> type[SandboxedEnvironment]:
    """Jinja2's sandbox in which values cannot be changed, and only functions and classes can be called that the
    notebook itself defines, beside methods of values and what the template brings.

    A value's own methods are trusted: one that writes a file, as a frame's do, still can.
    """
    from jinja2.exceptions import SecurityError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class FileSandbox(ImmutableSandboxedEnvironment):
        def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
            reached = isinstance(obj, ModuleType) or _of_the_shell(obj)
            return not reached and super().is_safe_attribute(obj, attr, value)

        def is_safe_callable(self, obj: Any) -> bool:
            known = any(obj is each for each in self.globals.values())
            return (known or _own(obj)) and super().is_safe_callable(obj)

        def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
            if not __self.is_safe_callable(__obj):
                name = getattr(__obj, "__name__", type(__obj).__name__)
                raise SecurityError(f"a prompt file calls what the notebook itself defines, and not {name}: {INSTEAD}")
            return super().call(__context, __obj, *args, **kwargs)

        def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
            if not isinstance(obj, ModuleType):
                return super().unsafe_undefined(obj, attribute)
            why = f"{obj.__name__}.{attribute} is out of reach of a prompt file: {INSTEAD}"
            return self.undefined(why, name=attribute, obj=obj, exc=SecurityError)

    return FileSandbox


def _own(called: Any) -> bool:
    """Whether the notebook defines it, also under a decorator from elsewhere, or it is part of a value."""
    called = unwrap(called) if isinstance(called, FunctionType) else called
    if isinstance(called, FunctionType):
        return called.__globals__.get("__name__") in (NOTEBOOK, FORMAT)
    if isinstance(called, type):
        return called.__module__ == NOTEBOOK
    if isinstance(called, MethodType | BuiltinFunctionType):
        owner = called.__self__
        if isinstance(owner, type):
            return owner.__module__ == NOTEBOOK
        return owner is not None and not isinstance(owner, ModuleType) and not _of_the_shell(owner)
    return not _of_the_shell(called)


def _of_the_shell(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] in SHELL
