"""Python functions as tools: their signatures as JSON schemas, the arguments of a call checked before it is run."""

from __future__ import annotations

import difflib
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from .errors import OptionError, in_words
from .tools import Tool, ToolCall

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")  # what OpenAI and the chat templates take
Function = Callable[..., Any]


def as_tool(value: Any) -> Tool:
    """A Tool from itself, from an annotated function, or from a mapping as OpenAI's API has them.

    Raises:
        OptionError: it is none of them, or a function that cannot be described.
    """
    if isinstance(value, Tool):
        _check_name(value.name)
        return value
    if isinstance(value, Mapping):
        return _from_mapping(value)
    if not inspect.isroutine(value):
        raise OptionError(f"A tool is {value!r}.", "It takes a Python function with annotated parameters.")
    name = _check_name(getattr(value, "__name__", repr(value)))
    return Tool(name, inspect.getdoc(value) or "", _schema(value))


def named(functions: Iterable[Function]) -> dict[str, Function]:
    """Functions by the names that the model calls them by.

    Raises:
        OptionError: two have one name, or one cannot be described.
    """
    found: dict[str, Function] = {}
    for function in functions:
        name = as_tool(function).name
        if name in found and found[name] is not function:
            raise OptionError(f"Two tools are called {name}.", "Give one of them another name.")
        found[name] = function
    return found


def of_notebook(name: str, names: Mapping[str, Any]) -> Function:
    """The function of a notebook's `names` that goes by `name`.

    Raises:
        OptionError: there is none, or it is something else.
    """
    found = names.get(name)
    if callable(found):
        return found
    if found is not None:
        raise OptionError(f"{name} is a {type(found).__name__}.", "A tool is a function of this notebook, by its name.")
    near = difflib.get_close_matches(name, [each for each, value in names.items() if callable(value)], n=1)
    remedy = f"Did you mean {near[0]}?" if near else "Define it in a cell above."
    raise OptionError(f"There is no function {name} in this notebook.", remedy)


def checked(call: ToolCall, functions: Mapping[str, Function]) -> ToolCall | dict[str, Any]:
    """The arguments to call a function with, as its annotations have them; or the call with why it cannot be run."""
    from pydantic import ValidationError

    if call.error:
        return call
    if call.name not in functions:
        return replace(call, error=f"there is no tool {call.name!r}; the tools are {', '.join(functions) or 'none'}")
    model, fields = _model(functions[call.name])
    try:
        held = model.model_validate(dict(call.arguments))
    except ValidationError as err:
        faults = (f"{'.'.join(map(str, each['loc'])) or 'arguments'}: {each['msg']}" for each in err.errors())
        return replace(call, error=f"the arguments do not fit: {'; '.join(faults)}")
    given = held.model_fields_set
    return {name: getattr(held, place) for name, place in fields.items() if place in given}


def run(call: ToolCall, function: Function, arguments: Mapping[str, Any]) -> ToolCall:
    """The call with what its function gave back, or with what it raised."""
    try:
        given = function(**arguments)
        if inspect.iscoroutine(given):
            given.close()
            return replace(call, error=f"{call.name} is async, and nobody waits for what it gives back")
        return replace(call, output=_whole(_text(given)))
    # An edge: it is the user's own function, and its error goes to the model; one that leaves must not leave for us.
    except (Exception, SystemExit) as err:  # noqa: BLE001
        return replace(call, error=_whole(in_words(err)))


def _text(value: Any) -> str:
    """What a function gave back as the model reads it: text as it is, anything else as JSON."""
    from pydantic_core import to_jsonable_python

    if isinstance(value, str):
        return value
    return json.dumps(to_jsonable_python(value, fallback=str), ensure_ascii=False)


def _whole(text: str) -> str:
    """Text without halves of characters, which no encoding has bytes for."""
    return text.encode("utf-8", "replace").decode()


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise OptionError(f"A tool is called {name!r}.", "A tool's name has letters, digits and _, and at most 64.")
    return name


def _from_mapping(value: Mapping[str, Any]) -> Tool:
    inner = value.get("function", value)
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise OptionError(f"A tool is {value!r}.", "A mapping needs a function with its name, as OpenAI's API has it.")
    description, parameters = inner.get("description") or "", inner.get("parameters") or {}
    if not isinstance(description, str) or not isinstance(parameters, Mapping):
        raise OptionError(f"The tool {inner['name']} is {value!r}.", "It takes a description and a JSON schema.")
    return Tool(_check_name(inner["name"]), description, parameters)


def _schema(function: Function) -> dict[str, Any]:
    """The JSON schema of a function's arguments, without the titles that pydantic makes of names."""
    model, _ = _model(function)
    schema = _untitled(model.model_json_schema(by_alias=True))
    schema.pop("description", None)
    return {**schema, "properties": schema.get("properties", {})}


def _untitled(value: Any) -> Any:
    """A schema without titles; a property that is called title stays."""
    if isinstance(value, list):
        return [_untitled(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: each for key, each in value.items() if not (key == "title" and isinstance(each, str))}
    return {
        key: {name: _untitled(inner) for name, inner in each.items()}
        if key in ("properties", "$defs") and isinstance(each, dict)
        else each
        if key in ("default", "const", "enum", "examples")
        else _untitled(each)
        for key, each in kept.items()
    }


@lru_cache(maxsize=64)
def _model(function: Function) -> tuple[Any, dict[str, str]]:
    """A pydantic model of a function's arguments, and where each parameter is in it.

    Its fields have names of their own, and the parameters' as aliases: a parameter may be called `copy` or `_x`.

    Raises:
        OptionError: the signature cannot be described.
    """
    from pydantic import ConfigDict, Field, create_model
    from pydantic.errors import PydanticUserError

    fields: dict[str, Any] = {}
    places: dict[str, str] = {}
    for i, (name, annotation, default) in enumerate(_parameters(function)):
        places[name] = f"field_{i}"
        fields[places[name]] = (annotation, Field(... if default is inspect.Parameter.empty else default, alias=name))
    try:
        made = create_model(f"{function.__name__}_arguments", __config__=ConfigDict(extra="forbid"), **fields)
        made.model_json_schema()
    except PydanticUserError as err:  # also what has no JSON schema
        raise _undescribed(function, err.message.splitlines()[0]) from None
    except Exception as err:  # noqa: BLE001 - an edge: annotations are the user's own objects, and may fail in any way
        raise _undescribed(function, in_words(err)) from None
    return made, places


def _parameters(function: Function) -> list[tuple[str, Any, Any]]:
    """(name, annotation, default) of each parameter."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise _undescribed(function, "it is async")
    try:
        signature = inspect.signature(function)
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as err:  # noqa: BLE001 - an edge: a name in an annotation may stand for nothing
        raise _undescribed(function, in_words(err)) from None
    found = []
    for name, parameter in signature.parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise _undescribed(function, f"its parameter {parameter} cannot be given by name")
        if name not in hints:
            raise _undescribed(function, f"its parameter {name} has no annotation", f"Write one, such as {name}: str.")
        found.append((name, hints[name], parameter.default))
    return found


def _undescribed(function: Function, why: str, remedy: str = "Wrap it in a function that can.") -> OptionError:
    name = getattr(function, "__name__", repr(function))
    return OptionError(f"{name} cannot be a tool: {why.rstrip('.')}.", remedy)
