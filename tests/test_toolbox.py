"""Python functions as tools: the schema that a model is told of, and what becomes of the arguments that it gives."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from mlxnb.errors import OptionError
from mlxnb.request import Request
from mlxnb.toolbox import as_tool, checked, named, run
from mlxnb.tools import Tool, ToolCall


def weather(city: str, days: int = 1, unit: Literal["C", "F"] = "C") -> str:
    """Tell the weather.

    It is always fine.
    """
    return f"{city}: {days} days of 21 {unit}"


def another() -> Any:
    """Another function of the same name."""

    def weather(place: str) -> str:
        return place

    return weather


def called(name: str = "weather", **arguments: Any) -> ToolCall:
    return ToolCall(name, arguments)


def ran(call: ToolCall, *functions: Any) -> ToolCall:
    found = named(functions or [weather])
    arguments = checked(call, found)
    return arguments if isinstance(arguments, ToolCall) else run(call, found[call.name], arguments)


def test_a_function_becomes_its_schema() -> None:
    tool = as_tool(weather)
    assert (tool.name, tool.description) == ("weather", "Tell the weather.\n\nIt is always fine.")
    assert tool.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer", "default": 1},
            "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
        },
        "required": ["city"],
        "additionalProperties": False,
    }
    assert as_tool(tool) is tool
    assert as_tool(tool.as_schema()) == tool


def test_descriptions_models_and_awkward_names_are_taken() -> None:
    class Place(BaseModel):
        title: str
        at: tuple[float, float]

    @dataclasses.dataclass
    class Box:
        copy: int

    def find(copy: Annotated[str, Field(description="what to look for")], _x: list[int], schema: Box) -> Any:
        return [copy, _x, schema.copy]

    def go(title: str, where: Any = None) -> str:
        return title

    find.__annotations__ |= {"schema": Box, "copy": Annotated[str, Field(description="what to look for")]}
    shown = as_tool(find).parameters
    assert shown["properties"]["copy"] == {"type": "string", "description": "what to look for"}
    assert set(shown["properties"]) == {"copy", "_x", "schema"}
    assert ran(called("find", copy="a", _x=["1", 2], schema={"copy": 3}), find).output == '["a", [1, 2], 3]'
    assert as_tool(go).parameters["properties"]["title"] == {"type": "string"}

    def visit(place: Any) -> str:
        return f"{type(place).__name__} {place.title}"

    visit.__annotations__["place"] = Place
    assert as_tool(visit).parameters["$defs"]["Place"]["properties"]["title"] == {"type": "string"}
    assert ran(called("visit", place={"title": "Rome", "at": [1, 2]}), visit).output == "Place Rome"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "city: Field required"),
        ({"city": 5}, "city: Input should be a valid string"),
        ({"city": "Rome", "days": "many"}, "days: Input should be a valid integer"),
        ({"city": "Rome", "unit": "K"}, "unit: Input should be 'C' or 'F'"),
        ({"city": "Rome", "__import__": "os"}, "__import__: Extra inputs are not permitted"),
    ],
)
def test_arguments_that_do_not_fit_are_told_and_nothing_runs(arguments: dict[str, Any], why: str) -> None:
    def never(city: str, days: int = 1, unit: Literal["C", "F"] = "C") -> str:
        raise AssertionError("it ran")

    done = ran(ToolCall("never", arguments), never)
    assert done.output is None
    assert why in done.error
    assert "pydantic.dev" not in done.error
    assert done.answer.startswith("Error: the arguments do not fit: ")


def test_what_comes_back_is_text() -> None:
    def thing(kind: str) -> Any:
        return {"text": "a\nb", "half": "\ud800", "table": {"a": (1, 2.5)}, "none": None, "odd": object()}[kind]

    assert ran(called("thing", kind="text"), thing).output == "a\nb"
    assert ran(called("thing", kind="half"), thing).output == "?"
    assert ran(called("thing", kind="table"), thing).output == '{"a": [1, 2.5]}'
    assert ran(called("thing", kind="none"), thing).output == "null"
    assert "object object" in (ran(called("thing", kind="odd"), thing).output or "")
    failed = ran(called("thing", kind="nothing"), thing)
    assert (failed.output, failed.error) == (None, "KeyError: 'nothing'")


@pytest.mark.filterwarnings("error")  # a coroutine that nobody ends warns
def test_a_function_that_leaves_or_is_async_within_is_an_error_of_its_call() -> None:
    def leaves() -> str:
        sys.exit(3)

    def later() -> Any:
        async def inner() -> str:
            return "late"

        return inner()

    assert ran(called("leaves"), leaves).error == "SystemExit: 3"
    done = ran(called("later"), later)
    assert (done.output, done.error) == (None, "later is async, and nobody waits for what it gives back")

    def interrupted() -> str:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(called("interrupted"), interrupted)


def test_only_what_was_offered_is_called() -> None:
    for name in ("eval", "weather.__globals__", "", "Weather"):
        done = ran(ToolCall(name, {"city": "Rome"}))
        assert done.output is None
        assert done.error == f"there is no tool {name!r}; the tools are weather"


def test_what_cannot_be_a_tool_says_why() -> None:
    async def later(x: int) -> int:
        return x

    def bare(x):  # type: ignore[no-untyped-def]
        return x

    def many(*xs: int) -> None: ...

    def first(x: int, /) -> None: ...

    def odd(x: Tool | object) -> None: ...

    odd.__annotations__["x"] = type("Strange", (), {})
    for function, why in (
        (later, "later cannot be a tool: it is async."),
        (bare, "bare cannot be a tool: its parameter x has no annotation. Write one, such as x: str."),
        (many, "its parameter \\*xs: "),
        (first, "its parameter x: "),
        (odd, "odd cannot be a tool: "),
        (lambda x: x, "A tool is called '<lambda>'"),
        (5, "A tool is 5."),
        ({"name": 3}, "A tool is "),
        ({"name": "x", "parameters": [1]}, "The tool x is "),
    ):
        with pytest.raises(OptionError, match=why):
            as_tool(function)
    with pytest.raises(OptionError, match="tools is 'weather'"):
        Request.of("Hi", tools="weather")
    with pytest.raises(OptionError, match="Two tools are called weather"):
        Request.of("Hi", tools=[weather, Tool("weather")])
    with pytest.raises(OptionError, match="Two tools are called weather"):
        named([weather, another()])


def test_an_answer_that_is_kept_to_a_schema_calls_no_tool() -> None:
    with pytest.raises(OptionError, match="kept to a schema can call no tool"):
        Request.of("Hi", tools=[weather], schema=["yes", "no"])


def test_a_request_with_tools_is_told_apart_and_hashable() -> None:
    asked = Request.of("Hi", tools=[weather])
    assert asked.tools == (as_tool(weather),)
    assert asked != Request.of("Hi")
    assert isinstance(hash(asked), int)


@given(
    st.dictionaries(st.text(max_size=8), st.none() | st.booleans() | st.integers() | st.text(max_size=8), max_size=4)
)
def test_whatever_a_model_gives_is_an_answer_or_an_error_in_words(arguments: dict[str, Any]) -> None:
    done = ran(ToolCall("weather", arguments))
    assert (done.output is None) == bool(done.error)
    assert isinstance(done.written(), str)
