"""A Result as JSON and back, exactly: every field, tuples as tuples; nothing but the named classes is ever made."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from ..decision import Absent, Accepted, Rejected
from ..errors import OptionError
from ..request import Sampling
from ..result import Provenance, Result, Speculation, Timings, TokenLogprob
from ..tools import ToolCall

VERSION = 1
CLASSES: dict[str, Any] = {
    cls.__name__: cls
    for cls in (Result, TokenLogprob, Timings, Provenance, Speculation, Sampling, Accepted, Rejected, Absent, ToolCall)
}
KIND = "is"


def encode(result: Result) -> bytes:
    """The Result as ASCII JSON.

    Raises:
        TypeError: a field holds something that JSON and the classes above do not.
    """
    return as_json({"version": VERSION, "result": result})


def as_json(value: Any) -> bytes:
    """Any value of those classes as ASCII JSON; see `encode`."""
    return json.dumps(_plain(value), separators=(",", ":")).encode("ascii")


def decode(body: bytes) -> Result:
    """The Result that `encode` was given. A field that it did not know yet takes its default.

    Raises:
        ValueError: the body is damaged, or of a version that this one does not read.
    """
    try:
        value = _live(json.loads(body))
        if value["version"] != VERSION:
            raise ValueError(f"a stored answer has the version {value['version']!r}, not {VERSION}")
        result = value["result"]
    except (TypeError, KeyError, AttributeError, OptionError, RecursionError) as err:
        raise ValueError(f"a stored answer cannot be read: {type(err).__name__}: {err}") from None
    if not isinstance(result, Result):
        raise ValueError(f"a stored answer is a {type(result).__name__}")
    return result


def _plain(value: Any) -> Any:
    if type(value) in CLASSES.values():
        named = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {KIND: type(value).__name__, "fields": named}
    if isinstance(value, tuple):
        return {KIND: "tuple", "items": [_plain(item) for item in value]}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {KIND: "dict", "items": [[_plain(key), _plain(item)] for key, item in value.items()]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"A {type(value).__name__} cannot be stored.")


def _live(value: Any) -> Any:
    if isinstance(value, list):
        return [_live(item) for item in value]
    if not isinstance(value, dict):
        return value
    kind = value[KIND]
    if kind == "tuple":
        return tuple(_live(item) for item in value["items"])
    if kind == "dict":
        return {_live(key): _live(item) for key, item in value["items"]}
    return CLASSES[kind](**{name: _live(item) for name, item in value["fields"].items()})
