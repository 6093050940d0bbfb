"""Finds what a line names: a variable, a column of a frame, an entry or an attribute of something; never runs code."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import OptionError
from ..frames import kind_of

FRAMES = ("pandas.DataFrame", "polars.DataFrame")
OF_IPYTHON = ("In", "Out", "exit", "quit", "open", "get_ipython")
PART = re.compile(r"\.([^\W\d]\w*)|\[([^\]]*)\]")
SLICE = re.compile(r"(-?\d+)?:(-?\d+)?")
TAKES = "It takes a variable's name, df.column, 'df[\"a column\"]' or rows[:10]. Give anything else a name first."

Key = str | int | slice


def path_of(text: str, option: str) -> tuple[str, list[Key]]:
    """The variable of `df.column` or `df[column]`, and what follows it.

    Raises:
        OptionError: it is nothing of the kind.
    """
    text = text.strip()
    name = re.match(r"[^\W\d]\w*", text)
    at, keys = name.end() if name else 0, list[Key]()
    while name is not None and (part := PART.match(text, at)):
        keys.append(part[1] or _key(part[2].strip()))
        at = part.end()
    if name is None or at < len(text) or "" in keys:
        raise OptionError(f"{option} is {text!r}.", TAKES)
    return name[0], keys


def value_of(text: str, names: Mapping[str, Any], option: str) -> Any:
    """What it names.

    Raises:
        OptionError: there is no such variable, or it has no such part.
    """
    name, keys = path_of(text, option)
    value = variable(name, names, option)
    said = name
    for key in keys:
        value = _step(value, key, said, option)
        said += f"[{key!r}]"
    return value


def variable(name: str, names: Mapping[str, Any], option: str) -> Any:
    """The value of a variable.

    Raises:
        OptionError: there is none by that name.
    """
    if name not in names:
        raise OptionError(f"{option} names {name!r}, and no variable goes by that name.", _near(name, rowlike(names)))
    return names[name]


def _key(text: str) -> Key:
    """What is in brackets: a number, a stretch of rows, or a name, whose quotes the line may have lost."""
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if found := SLICE.fullmatch(text):
        return slice(*(None if end is None else int(end) for end in found.groups()))
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


def _step(value: Any, key: Key, said: str, option: str) -> Any:
    if kind_of(value) == "polars.LazyFrame":
        raise OptionError(f"{option}: {said} is a LazyFrame.", "Give what its collect() gives.")
    if isinstance(key, str) and kind_of(value) in FRAMES:
        columns = list(value.columns)
        if key not in columns:
            raise OptionError(f"{option}: {said} has no column {key!r}.", _near(key, map(str, columns)))
        return value[key]
    if isinstance(value, Mapping) and not isinstance(key, slice):
        if key not in value:
            raise OptionError(f"{option}: {said} has no key {key!r}.", _near(str(key), map(str, value)))
        return value[key]
    try:
        return getattr(value, key) if isinstance(key, str) and hasattr(value, key) else value[key]
    except Exception as error:  # whatever a person's own class raises
        why = f"{type(error).__name__}: {error}"
        raise OptionError(f"{option}: {said} has no {key!r} ({why}).", TAKES) from error


def rowlike(names: Mapping[str, Any]) -> list[str]:
    """Variables that may hold rows: a notebook's names are full of functions."""
    return [
        name
        for name, value in names.items()
        if isinstance(value, Iterable) and not isinstance(value, str | bytes | type) and name not in OF_IPYTHON
    ]


def columns_of(names: Mapping[str, Any], begun: str) -> list[str]:
    """`df.x` for each column, or key, of the variable that is begun with its dot, where it is a name."""
    name, dot, _ = begun.rpartition(".")
    held: Any = names.get(name) if dot else None
    columns = list(held.columns) if kind_of(held) in FRAMES else held if isinstance(held, Mapping) else ()
    return [f"{name}.{column}" for column in columns if isinstance(column, str) and column.isidentifier()]


def notebook_names() -> dict[str, Any]:
    """The variables of the notebook that a person made."""
    from IPython import get_ipython

    shell = get_ipython()
    names = {} if shell is None else shell.user_ns
    return {name: value for name, value in names.items() if not name.startswith("_") and name not in OF_IPYTHON}


def _near(name: str, known: Iterable[str]) -> str:
    names = [one for one in known if not one.startswith("_")]
    near = difflib.get_close_matches(name, names, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return f"There are {', '.join(names[:20])}." if 0 < len(names) <= 20 else "Run the cell that makes it."
