"""Makes a request of each row: by a template, or by a function of the person's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import MlxnbError, OptionError
from ..request import Request
from .batch import for_many
from .row_template import RowTemplate, from_function
from .rows import rows_of

Asking = str | Callable[[Any], Any]


def requests_of(asking: Asking, rows: Any, options: Mapping[str, Any]) -> list[Request | MlxnbError]:
    """The Request of each row; of one that cannot be asked the error that says why.

    Raises:
        OptionError: `rows` has none, or an option is wrong.
        TemplateError: a mistake in the template.
    """
    if isinstance(asking, str):
        asking = RowTemplate(asking)
    elif not callable(asking):
        raise OptionError(f"The template is a {type(asking).__name__}.", "Give text with {{ row }}, or a function.")
    options = for_many(options)
    alike = Request.of("an option that is wrong is wrong for all", **options)
    if alike.schema is not None:
        options = {**options, "schema": alike.schema}  # made once: of a large model that takes milliseconds
    return [_request(asking, row, options) for row in rows_of(rows).cells]


def _request(asking: Callable[[Any], Any], row: Any, options: Mapping[str, Any]) -> Request | MlxnbError:
    try:
        prompt = from_function(asking, row)
        return prompt if isinstance(prompt, Request) else Request.of(prompt, **options)
    except OptionError:
        raise
    except MlxnbError as err:
        return err
