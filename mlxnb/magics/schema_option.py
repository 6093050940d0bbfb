"""`--schema NAME`: a schema from a variable of the notebook."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from ..errors import OptionError
from ..schema import REGEX, Schema


def schema_of(options: argparse.Namespace, names: Mapping[str, Any]) -> Schema | None:
    """The schema that a line names, or has in it as `regex:…`; None where it has none.

    Raises:
        OptionError: no variable goes by that name, or what it holds is no schema.
    """
    name: str | None = options.schema
    if name is None:
        if options.schema_in_prompt:
            raise OptionError("--schema-in-prompt is on without a schema.", "Give --schema NAME too.")
        return None
    if name.startswith((REGEX, "{")):
        return Schema.of(name)
    first, *rest = name.split(".")
    if not all(part.isidentifier() for part in (first, *rest)):
        raise OptionError(f"--schema is {name!r}.", f"It takes the name of a variable, or {REGEX}… itself.")
    if first not in names:
        raise OptionError(f"--schema is {name!r}, and no variable goes by that name.", "Run the cell that defines it.")
    value = names[first]
    for part in rest:
        if not hasattr(value, part):
            raise OptionError(f"--schema is {name!r}, and {first} has no {part}.", "Mend the name.")
        value = getattr(value, part)
    return Schema.of(value)
