"""A prompt with `{{ row }}` in it, read once and filled in for each row of a table."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Number
from typing import Any

from ..errors import EmptyPromptError, MlxnbError, PromptError, TemplateError
from ..template import environment, fault, spread
from .rows import Row, is_missing

ROW = "Write {{ row }} where its value belongs, or {{ row.x }} for column x."
MEND = "Mend it; braces that are just text are written {{ '{{' }}."
DEFAULT = "Fill it in, or write what stands for it: {{ row or 'nothing' }}, {{ row.x or 'nothing' }}."


class RowTemplate:
    """`text` with `{{ row }}` or `{{ row.x }}`; `names` are what else may stand in its braces.

    Raises:
        TemplateError: a mistake in the template, or nothing of the row in it.
    """

    def __init__(self, text: str, names: Mapping[str, Any] | None = None) -> None:
        from jinja2 import TemplateSyntaxError, meta

        self._names, self._places = dict(names or {}), list[tuple[int, str]]()
        env = environment()
        env.finalize = _present
        env.undefined = _undefined()
        try:
            source = spread(env, text, self._places)
            asked = meta.find_undeclared_variables(env.parse(source))
            self._template = env.from_string(source)
        except TemplateSyntaxError as error:
            raise self._failed(error, text) from None
        if "row" not in asked:
            raise TemplateError("The prompt has no {{ row }} in it, so that every row would ask the same.", ROW)

    def __call__(self, row: Any) -> str:
        """The prompt of a row.

        Raises:
            EmptyPromptError: a cell that it takes is empty.
            TemplateError: it failed, see `interpolate`.
        """
        given: Any = Row(row) if isinstance(row, Mapping) else None if is_missing(row) else row
        try:
            return self._template.render({**self._names, "row": given})
        except _Empty:
            raise EmptyPromptError("A cell that the prompt takes is empty.", DEFAULT) from None
        except Exception as error:  # the person's own code ran inside the template, and may raise anything
            raise self._failed(error) from error

    def _failed(self, error: Exception, text: str = "") -> TemplateError:
        return TemplateError(fault(error, text, self._places).message, MEND)


def text_of(cell: Any) -> str:
    """A cell as the prompt itself: text as it is, a number as it is written.

    Raises:
        EmptyPromptError: the cell is empty.
        PromptError: it is something else.
    """
    if is_missing(cell):
        raise EmptyPromptError(f"The cell is empty ({cell}).", "Fill it in, or leave out the row.")
    if isinstance(cell, Row):
        raise PromptError("The row of a frame is no prompt by itself.", ROW)
    if isinstance(cell, str):
        if not cell.strip():
            raise EmptyPromptError(f"The cell is empty ({cell!r}).", "Fill it in, or leave out the row.")
        return cell
    if isinstance(cell, Number):
        return str(cell)
    raise PromptError(f"The cell is a {type(cell).__name__}, not text.", f"Make text of it. {ROW}")


def from_function(function: Any, row: Any) -> Any:
    """What a person's function makes of a row: a prompt, messages, or a Request.

    Raises:
        PromptError: the function failed.
    """
    try:
        return function(row)
    except MlxnbError:
        raise
    except Exception as error:  # a person's own code, which may raise anything
        name = getattr(function, "__name__", "the function")
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PromptError(f"{name} failed for the row: {reason}.", "The error's __cause__ says where.") from error


class _Empty(Exception):
    """A cell that is to be written out is empty."""


def _present(value: Any) -> Any:
    """What is written out, which `nan` or `None` in a prompt would not be."""
    if is_missing(value):
        raise _Empty
    return value


def _undefined() -> Any:
    from jinja2 import StrictUndefined

    class NoColumn(StrictUndefined):
        """Says which columns there are."""

        @property
        def _undefined_message(self) -> str:
            if isinstance(self._undefined_obj, Row):
                columns = ", ".join(self._undefined_obj)
                return f"there is no column {self._undefined_name!r} among {columns}"
            if isinstance(self._undefined_obj, str):
                return f"a row is text here, and has no {self._undefined_name!r}: {{{{ row }}}} is all of it"
            return super()._undefined_message

    return NoColumn
