"""What an answer has to keep to: a JSON schema, a regular expression or a choice, from what a person has of it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Any, Literal, get_origin

from .errors import OptionError

# How a string begins that is a regular expression; any other one is a JSON schema in text.
REGEX = "regex:"

TAKES = (
    "It takes a pydantic model, a dataclass, a TypedDict, a type such as list[Model], a JSON schema as a dict, a "
    f"compiled regular expression or '{REGEX}…', or a list of choices."
)
FLAGS = {re.IGNORECASE: "i", re.MULTILINE: "m", re.DOTALL: "s", re.VERBOSE: "x"}


@dataclass(frozen=True, slots=True)
class Schema:
    """`source` is the JSON schema or the list of choices as JSON, or the regular expression.

    `type` is what an answer is made into: a class or another type, or what each choice stands for. It is no part
    of what the model is held to, so that two that differ in it alone are equal.
    """

    kind: Literal["json", "regex", "choice"]
    source: str
    type: Any = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, value: Any) -> Schema:
        """The Schema that a person means by a value.

        Raises:
            OptionError: it is none, or one that is wrong whatever enforces it.
        """
        if isinstance(value, Schema):
            return value
        if isinstance(value, re.Pattern):
            return _regex(value)
        if isinstance(value, str):
            return _text(value)
        if isinstance(value, Mapping):
            return cls("json", _canonical(value))
        if get_origin(value) is not None:  # list[Model], Literal["a", "b"], Model | None
            return _typed(value)
        if isinstance(value, type):
            return _class(value)
        if isinstance(value, list | tuple | Set):
            each_once = sorted(value, key=str) if isinstance(value, Set) else value
            return _choice([(str(each), each) for each in each_once if _choosable(each)])
        raise OptionError(f"schema is a {type(value).__name__}.", TAKES)

    @property
    def json(self) -> dict[str, Any]:
        """The JSON schema, of one that is."""
        return dict(json.loads(self.source))

    @property
    def choices(self) -> list[str]:
        """The choices, of a list of them."""
        return list(json.loads(self.source))

    def parse(self, text: str) -> Any:
        """What an answer says: an instance of the type, the value in JSON, the choice, or the text that matched.

        Raises:
            ValueError: it does not keep to the schema; the message says where.
        """
        if self.kind == "regex":
            if re.fullmatch(self.source, text) is None:
                raise ValueError(f"{text[:60]!r} does not match {self.source!r}")
            return text
        if self.kind == "choice":
            return _chosen(text, self.choices, self.type)
        return _instance(text, self.type) if self.type is not None else _valid(text, self.json)

    def said(self) -> str:
        """What to tell a model of it, as a sentence for a prompt."""
        if self.kind == "regex":
            return f"Answer with text that matches this regular expression and nothing else: {self.source}"
        if self.kind == "choice":
            return f"Answer with one of these and nothing else: {', '.join(self.choices)}"
        return f"Answer with JSON that keeps to this JSON schema and nothing else:\n{self.source}"


def _regex(pattern: re.Pattern[Any]) -> Schema:
    if not isinstance(pattern.pattern, str):
        raise OptionError("schema is a regular expression over bytes.", "Give one over text.")
    if pattern.flags & re.ASCII:
        raise OptionError("schema is a regular expression with the flag ASCII.", "Write the characters out.")
    flags = "".join(letter for flag, letter in FLAGS.items() if pattern.flags & flag)
    if not pattern.pattern:
        raise OptionError("schema is an empty regular expression.", "Write what the answer should match.")
    inline = re.match(r"\(\?[a-zA-Z]+\)", pattern.pattern)  # written in the pattern, the flag is in `flags` too
    return Schema("regex", pattern.pattern if inline or not flags else f"(?{flags}){pattern.pattern}")


def _text(value: str) -> Schema:
    if value.startswith(REGEX):
        try:
            return _regex(re.compile(value.removeprefix(REGEX)))
        except re.error as err:
            raise OptionError(f"schema is no regular expression: {value!r}, {err}.", "Mend it.") from None
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise OptionError(f"schema is {value[:60]!r}.", f"A string is '{REGEX}…' or a JSON schema in text.")
    return Schema("json", _canonical(found))


def _canonical(schema: Mapping[str, Any]) -> str:
    """A JSON schema as text. The order of its properties is that of the answer, and stays."""
    try:
        text = json.dumps(dict(schema), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        _check(found := json.loads(text))
        if not ends(found, found):
            raise OptionError("schema asks for itself without an end.", "Let what refers to itself be left out.")
    except RecursionError:
        raise OptionError("schema holds itself.", "Refer to it by $ref.") from None
    except (TypeError, ValueError) as err:
        reason = f"schema is no JSON: {err}" if not isinstance(err, OptionError) else ""
        raise (OptionError(f"{reason}.", "Give a JSON schema as a dict.") if reason else err) from None
    return text


def _check(schema: dict[str, Any]) -> None:
    """Hold a schema against JSON Schema's own, where jsonschema is installed."""
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError
    except ImportError:
        return
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as err:
        where = "/".join(map(str, err.absolute_path)) or "its top"
        raise OptionError(f"schema is no JSON schema: at {where}, {err.message[:200]}.", "Mend it there.") from None


def ends(schema: Any, root: Any, within: tuple[str, ...] = ()) -> bool:
    """Whether some value that a JSON schema takes has an end: one that needs itself has none. `within`: the $ref that
    led here, each of which is beyond reach by itself.
    """
    if not isinstance(schema, dict):
        return True
    ref = schema.get("$ref")
    if isinstance(ref, str) and ref.startswith("#"):
        return ref not in within and ends(_target(root, ref), root, (*within, ref))
    parts = [schema[key] for key in ("anyOf", "oneOf") if isinstance(schema.get(key), list)]
    if any(not any(ends(each, root, within) for each in part) for part in parts):
        return False
    needed = [*schema.get("allOf", ()), *_needed(schema)]
    return all(ends(each, root, within) for each in needed)


def _needed(schema: dict[str, Any]) -> list[Any]:
    """The schemas of what every object or array has in it; a schema that takes other values too needs none of them."""
    if schema.get("type") == "object":
        properties = schema.get("properties", {})
        return [properties[name] for name in schema.get("required", ()) if name in properties]
    if schema.get("type") == "array" and schema.get("minItems", 0) > 0:
        first = schema.get("prefixItems", [])[: schema["minItems"]]
        return [*first, *([schema.get("items")] if len(first) < schema["minItems"] else [])]
    return []


def _target(root: Any, ref: str) -> Any:
    """What a reference within a schema leads to; None where that is nowhere."""
    found = root
    for part in ref.lstrip("#").split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _class(value: type) -> Schema:
    if issubclass(value, Enum):
        return _choice([(str(member.value), member) for member in value])
    described = dataclasses.is_dataclass(value) or hasattr(value, "model_json_schema")
    # A NamedTuple; a TypedDict of typing or of typing_extensions, which pydantic takes before Python 3.12.
    named = hasattr(value, "_field_defaults") or (issubclass(value, dict) and hasattr(value, "__total__"))
    if not described and not named:
        raise OptionError(f"schema is the class {value.__name__}.", TAKES)
    return _typed(value)


def _typed(value: Any) -> Schema:
    adapter = _adapter_class(value)
    from pydantic.errors import PydanticUserError

    try:
        made = adapter(value).json_schema()
    except (PydanticUserError, NameError, TypeError) as err:
        reason = str(err).splitlines()[0].rstrip(".")
        raise OptionError(f"schema is {_name(value)}, of which there is no JSON schema: {reason}.", TAKES) from None
    return Schema("json", _canonical(_closed(made)), value)


def _name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def _adapter_class(kind: Any) -> Any:
    """pydantic's TypeAdapter, which is wanted for this type."""
    try:
        from pydantic import TypeAdapter
    except ImportError:
        raise OptionError(
            f"schema is {_name(kind)}, which takes pydantic.", "Try pip install 'mlxnb[structured]'."
        ) from None
    return TypeAdapter


def _closed(schema: Any) -> Any:
    """A class's schema as its answers are wanted: with no properties but its own, and sets that may hold a value twice,
    which come to the same set.
    """
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: value if key in ("default", "enum", "const", "examples") else _closed(value)
            for key, value in schema.items() if key != "uniqueItems" or not isinstance(value, bool)}  # fmt: skip
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


def _choosable(value: Any) -> bool:
    if not isinstance(value, str | int | float) or not str(value).strip():
        raise OptionError(f"schema has the choice {value!r}.", "Choices are strings or numbers, and not empty.")
    return True


def _choice(named: list[tuple[str, Any]]) -> Schema:
    if not named:
        raise OptionError("schema is an empty list of choices.", "Give two at least.")
    values: dict[str, Any] = {}
    for name, value in named:
        other = values.setdefault(name, value)
        if type(other) is not type(value) or other != value:
            raise OptionError(f"schema has the choices {other!r} and {value!r}, which read alike.", "Leave one out.")
    return Schema("choice", json.dumps(list(values), ensure_ascii=False), values)


def _chosen(text: str, choices: list[str], values: Mapping[str, Any] | None) -> Any:
    if text not in choices:
        raise ValueError(f"{text[:60]!r} is none of {', '.join(choices)[:200]}")
    return values[text] if values is not None else text


def _instance(text: str, kind: Any) -> Any:
    from pydantic import ValidationError

    try:
        return _adapter_class(kind)(kind).validate_json(text)
    except ValidationError as err:
        first = err.errors()[0]
        where = "/".join(map(str, first["loc"]))
        raise ValueError(f"{where + ': ' if where else ''}{first['msg']}") from None


def _multiples(_: Any, step: Any, value: Any, __: Any) -> Iterator[Any]:
    """multipleOf in decimal numbers, as they are written: in binary ones 4.14 is no multiple of 0.01."""
    from jsonschema.exceptions import ValidationError

    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        quotient = Fraction(repr(value)) / Fraction(repr(step))
        if quotient.denominator != 1:
            yield ValidationError(f"{value!r} is not a multiple of {step!r}")


def _valid(text: str, schema: dict[str, Any]) -> Any:
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    try:
        from jsonschema.validators import Draft202012Validator, extend
    except ImportError:
        return value
    from referencing.exceptions import Unresolvable

    try:
        wrong = next(extend(Draft202012Validator, {"multipleOf": _multiples})(schema).iter_errors(value), None)
    except Unresolvable as err:
        raise ValueError(f"its schema refers to what is not there: {err}") from None
    if wrong is not None:
        where = "/".join(map(str, wrong.absolute_path))
        raise ValueError(f"{where + ': ' if where else ''}{wrong.message[:200]}")
    return value
