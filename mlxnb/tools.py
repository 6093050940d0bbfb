"""What a model may call, and what it called: a Tool as the model is told of it, a ToolCall as it asked for it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Tool:
    """A function as a model is told of it. `parameters` is the JSON schema of its arguments, an object's."""

    name: str
    description: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def as_schema(self) -> dict[str, Any]:
        """It as chat templates and OpenAI-compatible servers take it."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call that a model asked for. `output` is what came back, None where it was not run; then `error` says why:
    the call was not understood, its arguments did not fit, the user did not allow it, or the function raised.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    id: str = ""
    output: str | None = None
    error: str = ""

    @property
    def answer(self) -> str:
        """What the model is told of it."""
        return f"Error: {self.error}" if self.output is None else self.output

    def written(self) -> str:
        """The call as Python would write it."""
        given = (f"{name}={_value(value)}" for name, value in self.arguments.items())
        return f"{self.name}({', '.join(given)})"

    def as_message(self, arguments: Any) -> dict[str, Any]:
        """It in an assistant's message; templates take the arguments as a mapping, servers as JSON text."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


def in_json(arguments: Mapping[str, Any]) -> str:
    """Arguments as the JSON text that servers take."""
    return json.dumps(arguments, ensure_ascii=False)


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
