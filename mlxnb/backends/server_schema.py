"""A schema as each kind of server takes it; what comes back is held against it afterwards, whoever promised what.

By the documentation or source of November 2026, see server_kinds:

- `response_format` of the type json_schema: OpenAI, Ollama, LM Studio, llama-server, vLLM
- `response_format` of the type json_object with a schema: llama-cpp-python
- `structured_outputs` with a regex or choices: vLLM; `grammar` with choices: llama-server and llama-cpp-python
"""

from __future__ import annotations

import json
from typing import Any

from ..errors import OptionError
from ..request import Request
from ..schema import Schema
from .server_kinds import Kind

ELSEWHERE = "Take --backend mlx or torch, or leave out schema."


def structure_of(request: Request, kind: Kind) -> dict[str, Any]:
    """What goes into the body of a request for its schema; nothing where it has none.

    Raises:
        OptionError: this kind of server cannot keep an answer to it.
    """
    schema = request.schema
    if schema is None:
        return {}
    if request.raw:
        raise OptionError("schema goes with no raw prompt on a server.", "Leave out raw, or take --backend mlx.")
    if not kind.schemas:
        raise OptionError(f"{kind.label} keeps no answer to a schema.", ELSEWHERE)
    if schema.kind == "json":
        return {"response_format": _format(schema, kind)}
    if kind.patterns == "structured_outputs":
        given = schema.choices if schema.kind == "choice" else schema.source
        return {"structured_outputs": {schema.kind: given}}
    if kind.patterns == "grammar" and schema.kind == "choice":
        said = " | ".join(json.dumps(each, ensure_ascii=False) for each in schema.choices)
        return {"grammar": f"root ::= {said}"}
    what = "a choice" if schema.kind == "choice" else "a regular expression"
    raise OptionError(f"{kind.label} keeps no answer to {what}.", f"Give a JSON schema. {ELSEWHERE}")


def _format(schema: Schema, kind: Kind) -> dict[str, Any]:
    if kind.schemas == "json_object":
        return {"type": "json_object", "schema": schema.json}
    strict = _closed(schema.json)
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema.json, "strict": strict}}


def _closed(schema: Any) -> bool:
    """Whether every object has all of its properties and no others, without which OpenAI takes no strict schema."""
    if isinstance(schema, list):
        return all(map(_closed, schema))
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object" and (
        schema.get("additionalProperties") is not False
        or set(schema.get("required", ())) != set(schema.get("properties", ()))
    ):
        return False
    return all(map(_closed, schema.values()))
