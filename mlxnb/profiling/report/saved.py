"""A report as JSON and back, whole: whatever is read was checked against the dataclasses first."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ...errors import ReportError
from . import SCHEMA, Report
from .saved_checks import indices, not_finite

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

FORMAT = "mlxnb profile"
LIMITS = ("ttft", "tpot", "total")
PARTS = ("models", "cases", "runs")
NAME = "report.json"  # inside the folder that `Report.save` writes
PROFILE_ANEW = "Profile the model anew and save it, or take a copy of the file that is whole."


def to_json(report: Report) -> str:
    """The report as JSON: one line an item, so that two of them can be compared by line.

    A lone surrogate, which a file's name may hold and UTF-8 cannot, becomes a question mark.

    Raises:
        ReportError: a figure is infinite or no number, which JSON has no word for.
    """
    odd = next(not_finite(report, ""), None)
    if odd is not None:
        where, value = odd
        raise ReportError(f"{where} of the report is {value}, which JSON cannot hold.", "It takes a finite number.")
    data = {"format": FORMAT, **_plain(report)}
    text = "{\n" + ",\n".join(f"{_one_line(name)}: {_spread(value)}" for name, value in data.items()) + "\n}\n"
    return text.encode("utf-8", "replace").decode()


def from_json(source: str | Path) -> Report:
    """A report out of JSON, or out of the file or the folder at a Path.

    Raises:
        ReportError: it cannot be read, is no report, is damaged, or was written by a newer mlxnb.
    """
    name, text = ("This text", source) if isinstance(source, str) else _read(source)
    data = _parsed(text, name)
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ReportError(
            f"{name} is no report of a profile: {_instead(data)}.",
            f'A report begins with "format": "{FORMAT}"; %profile_model --save DIR writes one.',
        )
    _check_schema(data.get("schema"), name)
    report = _validated({key: value for key, value in data.items() if key != "format"}, name)
    _check_figures(report, name)
    return report


def json_schema() -> dict[str, Any]:
    """The JSON Schema of what `to_json` writes, apart from its first line."""
    return _adapter().json_schema()


@cache
def _adapter() -> TypeAdapter[Report]:
    from pydantic import TypeAdapter

    return TypeAdapter(Report)


def _plain(value: Any) -> Any:
    """A dataclass in the lists and objects of JSON. By hand: pydantic dumps a dict only, not every other Mapping."""
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, tuple | list) else value


def _one_line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _spread(value: Any) -> str:
    """A list of objects with one of them a line; anything else on one line."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f" {_one_line(item)}" for item in value) + "\n]"
    return _one_line(value)


def _read(path: Path) -> tuple[str, str]:
    file = path / NAME if path.is_dir() else path
    try:
        return str(file), file.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ReportError(
            f"There is no report at {file}.", "Name the JSON file, or the folder, that --save wrote."
        ) from None
    except UnicodeDecodeError:
        raise ReportError(f"{file} is no report: it is not text in UTF-8.", "Name the JSON file of one.") from None
    except OSError as error:
        raise ReportError(f"{file} cannot be read: {error.strerror}.", "Make it readable, or take a copy.") from error


def _parsed(text: str, name: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        if name == "This text" and not text.lstrip().startswith("{"):
            hint = "To read a file, give its name as a pathlib.Path."
        else:
            hint = PROFILE_ANEW
        why = "nested without end" if isinstance(error, RecursionError) else str(error)
        raise ReportError(f"{name} is not whole JSON: {why}.", hint) from None


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _instead(data: Any) -> str:
    if not isinstance(data, dict):
        return f"it holds a {type(data).__name__}"
    return f'its "format" is {data["format"]!r}' if "format" in data else 'it has no "format"'


def _check_schema(schema: Any, name: str) -> None:
    if isinstance(schema, bool) or not isinstance(schema, int):
        raise ReportError(f'{name} is damaged: its "schema" is {schema!r}, not a whole number.', PROFILE_ANEW)
    if schema > SCHEMA:
        raise ReportError(
            f"{name} has schema {schema}; this mlxnb reads up to {SCHEMA}.", "Update it: pip install --upgrade mlxnb"
        )
    if schema < SCHEMA:
        raise ReportError(f"{name} has schema {schema}, which is older than this mlxnb reads ({SCHEMA}).", PROFILE_ANEW)


def _validated(data: dict[str, Any], name: str) -> Report:
    from pydantic import ValidationError

    missing = next((part for part in PARTS if part not in data), None)
    if missing is not None:  # each may be empty, but to be without one is to be cut short
        raise ReportError(f'{name} is damaged: it has no "{missing}".', PROFILE_ANEW)
    try:
        # From text, because strictness takes a list for a tuple there only.
        report = _adapter().validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise ReportError(f"{name} is damaged: {_first(error)}.", PROFILE_ANEW) from None
    unknown = next(_unknown(data, _plain(report), ""), None)
    if unknown is not None:
        raise ReportError(
            f"{name} has a field that this mlxnb does not know: {unknown}.",
            "Update it: pip install --upgrade mlxnb, if a newer one wrote the file; or take the field out.",
        )
    return report


def _first(error: ValidationError) -> str:
    found = error.errors()
    where = ".".join(str(part) for part in found[0]["loc"])
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{where or 'it'}: {found[0]['msg']}{more}"


def _unknown(given: Any, taken: Any, where: str) -> Iterator[str]:
    """Paths of what was given and not taken: pydantic passes over fields that a dataclass has not."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(taken, dict) or key not in taken:
                yield f"{where}{key}"
            else:
                yield from _unknown(value, taken[key], f"{where}{key}.")
    elif isinstance(given, list):
        for i, value in enumerate(given):
            yield from _unknown(value, taken[i], f"{where}{i}.")


def _check_figures(report: Report, name: str) -> None:
    """What types alone cannot say: numbers that are finite, and indices that lead somewhere."""
    for where, value in not_finite(report, ""):
        raise ReportError(f"{name} is damaged: {where} is {value}.", PROFILE_ANEW)
    odd = next((limit for limit in report.limits if limit not in LIMITS), None)
    if odd is not None:
        raise ReportError(f"{name} is damaged: it has a limit on {odd!r}, of {', '.join(LIMITS)}.", PROFILE_ANEW)
    for where, index, length in indices(report):
        if not 0 <= index < length:
            raise ReportError(f"{name} is damaged: {where} is {index}, of {length} that there are.", PROFILE_ANEW)
