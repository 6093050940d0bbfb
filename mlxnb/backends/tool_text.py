"""Reads the calls that a model writes into its answer, in the ways that families of models were taught to write them.

The ways, by the chat templates of the models that have them:

- Hermes and Qwen: `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, several one after the other
- Qwen3-Coder: `<tool_call><function=name><parameter=key>value</parameter></function></tool_call>`
- GLM 4.5: `<tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>`
- Llama 3: the whole answer is `{"name": …, "parameters": {…}}`, after `<|python_tag|>` or not; `;` between several
- Mistral: `[TOOL_CALLS]` and a list of `{"name": …, "arguments": {…}}`, or `name[ARGS]{…}` for each
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..tools import Tool, ToolCall
from .split import held_length

HERMES, LLAMA, MISTRAL = "<tool_call>", "<|python_tag|>", "[TOOL_CALLS]"
ONE_CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.DOTALL)
FUNCTION = re.compile(r"\s*<function=([^>\s]+)>(.*?)(?:</function>)?\s*", re.DOTALL)
PARAMETER = re.compile(r"<parameter=([^>\s]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
KEYED = re.compile(r"\s*([\w.-]+)\s*((?:<arg_key>.*)?)", re.DOTALL)
ARGUMENT = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>\n?(.*?)\n?</arg_value>", re.DOTALL)
NAMED = re.compile(r"\s*([\w.-]+)\s*(?:\[CALL_ID\]\w*)?\[ARGS\]\s*")
SHOWN = 200  # characters of a broken call that are given back


@dataclass(frozen=True, slots=True)
class Style:
    """How a family writes calls. `markers` begin them; `bare` tells that an answer that is JSON may be a call too.

    `one` tells that its template takes one call in a message.
    """

    name: str
    markers: tuple[str, ...]
    read: Callable[[str, Sequence[Tool]], tuple[str, list[ToolCall]]]
    bare: bool = False
    one: bool = False


class ToolText:
    """Passes text on up to the first call; the calls are read at the end."""

    def __init__(self, style: Style, tools: Sequence[Tool]) -> None:
        self._style, self._tools = style, tools
        self._held, self._begun, self._calling = "", False, False

    def feed(self, text: str) -> str:
        """The text that can be shown now."""
        self._held += text
        if self._calling:
            return ""
        at = min((i for i in map(self._held.find, self._style.markers) if i >= 0), default=-1)
        begin = self._held.lstrip()
        if self._style.bare and not self._begun and begin:
            self._begun, bare = True, begin.startswith("{")
            self._calling = bare
            if bare:
                return ""
        if at >= 0:
            self._calling = True
            return self._take(at)
        if not self._begun and not begin and self._style.bare:
            return ""
        return self._take(len(self._held) - held_length(self._held, self._style.markers))

    def finish(self) -> tuple[str, list[ToolCall]]:
        """The text that was held back and turned out to be none of a call, and the calls."""
        held = self._take(len(self._held))
        return self._style.read(held, self._tools) if self._calling else (held, [])

    def _take(self, length: int) -> str:
        out, self._held = self._held[:length], self._held[length:]
        return out


def style_of(template: str) -> Style | None:
    """How a model writes calls, by its chat template; None where that is no way that is read here."""
    return next((style for style in STYLES if any(marker in template for marker in _told_by(style))), None)


def _told_by(style: Style) -> tuple[str, ...]:
    # Llama 3.2's template has no python_tag in it, and says in words what it wants.
    return (*style.markers, '{"name": function name, "parameters"') if style.bare else style.markers


def _hermes(text: str, tools: Sequence[Tool]) -> tuple[str, list[ToolCall]]:
    rest = ONE_CALL.sub("", text)
    return rest if rest.strip() else "", [_in_tags(found[1], tools) for found in ONE_CALL.finditer(text)]


def _in_tags(text: str, tools: Sequence[Tool]) -> ToolCall:
    for call, argument in ((FUNCTION, PARAMETER), (KEYED, ARGUMENT)):
        found = call.fullmatch(text)
        if found is not None:
            if argument.sub("", found[2]).strip():  # cut inside an argument, without which it would be another call
                return broken(_whole(found[1]), text)
            schemas: Any = next((tool.parameters.get("properties", {}) for tool in tools if tool.name == found[1]), {})
            given = {key: _typed(value, schemas.get(key)) for key, value in argument.findall(found[2])}
            return ToolCall(found[1], _whole(given))
    return _from_json(text)


def _typed(text: str, schema: Any) -> Any:
    """A parameter's text as what its schema says; text that is no JSON stays text, and the check says what it takes."""
    if isinstance(schema, dict) and schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _llama(text: str, tools: Sequence[Tool]) -> tuple[str, list[ToolCall]]:
    """An answer that is JSON and no call stays an answer."""
    bare = LLAMA not in text
    left = text.replace(LLAMA, "").strip()
    calls: list[ToolCall] = []
    while left:
        value, after = _first_value(left)
        if bare and not _is_call(value):
            return text, []
        if after is None:
            calls.append(_from_json(left))
            break
        calls.append(_call_of(value, left))
        left = after.lstrip(" ;\n")
    return "", calls or [broken("", text)]


def _mistral(text: str, tools: Sequence[Tool]) -> tuple[str, list[ToolCall]]:
    calls: list[ToolCall] = []
    for part in text.split(MISTRAL):
        if not part.strip():
            continue
        named = NAMED.match(part)
        value, _ = _first_value(part[named.end() :] if named else part)
        if named is not None:
            calls.append(_call_of({"name": named[1], "arguments": value}, part))
        elif isinstance(value, list):
            calls += [_call_of(each, part) for each in value]
        else:
            calls.append(_call_of(value, part))
    return "", calls or [broken("", text)]


STYLES = (
    Style("Hermes", (HERMES,), _hermes),
    Style("Mistral", (MISTRAL,), _mistral),
    Style("Llama 3", (LLAMA,), _llama, bare=True, one=True),
)


def arguments_of(text: str) -> dict[str, Any] | None:
    """Arguments from their JSON text, as servers send them; None where they are none."""
    value, after = _first_value(text) if text.strip() else ({}, "")
    return _whole(value) if isinstance(value, dict) and after is not None and not after.strip() else None


def broken(name: str, text: str) -> ToolCall:
    """A call that cannot be read, with what the model is told of it."""
    shown = text.strip()[:SHOWN]
    return ToolCall(name, error=f"the call was not understood, for it is no JSON object with a name: {shown}")


def _from_json(text: str) -> ToolCall:
    value, after = _first_value(text)
    return _call_of(value, text) if after is not None and not after.strip() else broken("", text)


def _call_of(value: Any, text: str) -> ToolCall:
    name = value.get("name") if isinstance(value, dict) else None
    given = value.get("arguments", value.get("parameters", {})) if isinstance(value, dict) else None
    if isinstance(given, str):  # JSON within JSON
        given = arguments_of(given)
    if not isinstance(name, str) or not isinstance(given, dict):
        return broken(name if isinstance(name, str) else "", text)
    return ToolCall(_whole(name), _whole(given))


def _is_call(value: Any) -> bool:
    return (
        isinstance(value, dict) and isinstance(value.get("name"), str) and bool({"arguments", "parameters"} & {*value})
    )


def _first_value(text: str) -> tuple[Any, str | None]:
    """The JSON value at the front of a text and what follows it, which is None where there is none."""
    text = text.lstrip()
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None, None
    return value, text[end:]


def _whole(value: Any) -> Any:
    """A JSON value without halves of characters, which escapes can hold and no encoding has bytes for."""
    return json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
