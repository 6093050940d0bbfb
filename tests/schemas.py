"""Random schemas whose answers have an end: JSON schemas of every keyword that is enforced, patterns and choices."""

from __future__ import annotations

import random
import re
import string
from typing import Any

Made = dict[str, Any] | re.Pattern[str] | list[str]

WORDS = ("name", "size", "colour", "été", "a b", "x", "id", 'quo"te', "日本", "tags", "next/one", "count")
FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "duration")
# Not \d: which characters are digits is another matter for each version of Unicode, and so for each engine.
PATTERNS = ("^[a-z]{2,5}$", "^[0-9]{3}-[0-9]{2}$", "^(north|south)$", "^[A-F0-9]{4}$", r"^v[0-9]\.[0-9]$")


def random_schema(seed: int) -> Made:
    """The schema of a seed: mostly JSON, some regular expressions and choices."""
    rng = random.Random(seed)
    drawn = rng.random()
    if drawn < 0.1:
        return re.compile(_pattern(rng, 2), rng.choice((0, 0, re.IGNORECASE)))
    if drawn < 0.2:
        return sorted({_word(rng) for _ in range(rng.randint(1, 6))})
    defs = {f"d{i}": _value(rng, 1, {}) for i in range(rng.randint(0, 2))}
    made = _value(rng, 3, defs)
    return {**made, "$defs": defs} if defs else made


def _value(rng: random.Random, depth: int, defs: dict[str, Any]) -> dict[str, Any]:
    leaves = (_string, _integer, _number, _few, _const, _null)
    inner = (_object, _array, _union, _tuple)
    if defs and rng.random() < 0.15:
        return {"$ref": f"#/$defs/{rng.choice(sorted(defs))}"}
    make = rng.choice(inner if depth and rng.random() < 0.7 else leaves)
    return make(rng, depth, defs)


def _string(rng: random.Random, *_: Any) -> dict[str, Any]:
    drawn = rng.random()
    if drawn < 0.2:
        return {"type": "string", "format": rng.choice(FORMATS)}
    if drawn < 0.4:
        return {"type": "string", "pattern": rng.choice(PATTERNS)}
    least = rng.randint(0, 3)
    return {"type": "string", "minLength": least, "maxLength": least + rng.randint(0, 6)}


def _integer(rng: random.Random, *_: Any) -> dict[str, Any]:
    low = rng.randint(-1000, 1000)
    made: dict[str, Any] = {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 5000)}
    if rng.random() < 0.2:
        step = rng.choice((2, 3, 5))
        made = {"type": "integer", "minimum": 0, "maximum": rng.randint(5, 100) * step, "multipleOf": step}
    return made


def _number(rng: random.Random, *_: Any) -> dict[str, Any]:
    if rng.random() < 0.8:  # a fraction may go on for ever
        return {"enum": [round(rng.uniform(-10, 10), 3) for _ in range(2)]}
    low = round(rng.uniform(-10, 10), 2)
    return {"type": "number", "minimum": low, "maximum": round(low + rng.uniform(0.5, 20), 2)}


def _few(rng: random.Random, *_: Any) -> dict[str, Any]:
    values: list[Any] = [_word(rng), rng.randint(-9, 9), True, None, "ja\nnein"]
    return {"enum": rng.sample(values, rng.randint(1, 4))}


def _const(rng: random.Random, *_: Any) -> dict[str, Any]:
    return {"const": rng.choice((_word(rng), 7, False, [1, "two"], {"a": 1}))}


def _null(rng: random.Random, *_: Any) -> dict[str, Any]:
    return {"type": rng.choice(("null", "boolean", ["boolean", "null"]))}


def _object(rng: random.Random, depth: int, defs: dict[str, Any]) -> dict[str, Any]:
    names = rng.sample(WORDS, rng.randint(0, 4))
    properties = {name: _value(rng, depth - 1, defs) for name in names}
    required = [name for name in names if rng.random() < 0.7]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _array(rng: random.Random, depth: int, defs: dict[str, Any]) -> dict[str, Any]:
    least = rng.randint(0, 2)
    items = _value(rng, depth - 1, defs)
    return {"type": "array", "items": items, "minItems": least, "maxItems": least + rng.randint(0, 3)}


def _tuple(rng: random.Random, depth: int, defs: dict[str, Any]) -> dict[str, Any]:
    parts = [_value(rng, depth - 1, defs) for _ in range(rng.randint(1, 3))]
    return {"type": "array", "prefixItems": parts, "items": False, "minItems": len(parts)}


def _union(rng: random.Random, depth: int, defs: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [_value(rng, depth - 1, defs) for _ in range(rng.randint(2, 3))]}


def _pattern(rng: random.Random, depth: int) -> str:
    parts = []
    for _ in range(rng.randint(1, 4)):
        kind = rng.randint(0, 5 if depth else 3)
        if kind == 0:
            parts.append(re.escape(_word(rng)).replace("\\ ", " "))
        elif kind == 1:
            parts.append(
                f"[{rng.choice(('a-z', 'A-F0-9', '^abc', 'xyz_-'))}]{{{rng.randint(0, 2)},{rng.randint(2, 5)}}}"
            )
        elif kind == 2:
            parts.append(rng.choice(("[0-9]", "[0-9]?", "[0-9]{2,4}", r"\s?")))
        elif kind == 3:
            parts.append(rng.choice((r"\.", "/", '"', "é", "-")))
        else:
            parts.append(f"(?:{_pattern(rng, depth - 1)}|{_pattern(rng, depth - 1)})")
    return "".join(parts)


def _word(rng: random.Random) -> str:
    letters = rng.choice((string.ascii_lowercase, string.ascii_letters + " ", "äöü日本語 é", "01-_/."))
    made = "".join(rng.choice(letters) for _ in range(rng.randint(1, 10))).strip()
    return made or "plain"
