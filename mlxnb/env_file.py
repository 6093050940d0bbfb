"""Reads and writes a `.env` file beside a notebook: NAME=value a line, for the names that are asked for only."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

LARGEST = 1_000_000  # bytes; a file of settings has some hundred

LINE = re.compile(r"\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)\s*=\s*(?P<value>.*)", re.DOTALL)
# No character can be matched in two ways, or a line of backslashes would take for ever.
QUOTED = re.compile(r"""(?:'(?P<single>(?:\\.|[^'\\])*\\?)'|"(?P<double>(?:\\.|[^"\\])*\\?)")\s*(?:\#.*)?""", re.DOTALL)
ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", '"': '"', "'": "'"}


@dataclass(frozen=True, slots=True)
class EnvFile:
    """What a file says; `trouble` why it could not be read, where it is there and could not."""

    path: Path
    values: dict[str, str] = field(default_factory=dict)
    trouble: str = ""


def read_env_file(path: Path, names: Collection[str]) -> EnvFile:
    """The values that a file gives to `names`; nothing else of it is kept, and nothing reaches `os.environ`.

    A value ends at the end of its line, or at ` #`; in quotes it is taken as it is, in double quotes with \\n, \\t and
    escaped quotes. No value is put into another: `$` is just text. A name that comes twice has its last value.
    """
    try:
        if not path.is_file():
            return EnvFile(path)
        if path.stat().st_size > LARGEST:
            return EnvFile(path, trouble=f"it is larger than {LARGEST:,} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as err:
        return EnvFile(path, trouble=err.strerror or type(err).__name__)
    except UnicodeDecodeError:
        return EnvFile(path, trouble="it is no text in UTF-8")
    found = (LINE.fullmatch(line) for line in text.splitlines() if not line.lstrip().startswith("#"))
    return EnvFile(path, {line["name"]: _value(line["value"]) for line in found if line and line["name"] in names})


def _value(written: str) -> str:
    quoted = QUOTED.fullmatch(written)
    if quoted is None:
        return re.split(r"(?:^|\s)#", written, maxsplit=1)[0].rstrip()
    if quoted["double"] is None:
        return quoted["single"]
    return re.sub(r"\\(.)", lambda escape: ESCAPES.get(escape[1], escape[0]), quoted["double"])


def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """Give `values` to their names in a file, which is made if there is none: the last line of a name is replaced, new
    ones come at the end, and everything else stays as it is. Written aside and then renamed.

    Raises:
        OSError: the file cannot be written, or is no text.
    """
    path = Path(os.path.realpath(path))  # where it is a link, the file that it leads to is written
    try:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
    except UnicodeDecodeError as err:
        raise OSError(f"{path} is no text in UTF-8") from err
    lines = text.splitlines()
    at = {found["name"]: i for i, line in enumerate(lines) if (found := LINE.fullmatch(line)) is not None}
    for name, value in values.items():
        line = f"{name}={_written(value)}"
        if name in at:
            lines[at[name]] = line
        else:
            lines.append(line)
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".env-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as opened:
            opened.write("".join(f"{line}\n" for line in lines))
            opened.flush()
            os.fsync(opened.fileno())
        if path.exists():
            os.chmod(aside, path.stat().st_mode & 0o777)
        os.replace(aside, path)
    except BaseException:
        os.unlink(aside)
        raise


def _written(value: str) -> str:
    """As `_value` reads it back."""
    if value and re.fullmatch(r"[^\s#'\"\\]+", value):
        return value
    marks = {mark: letter for letter, mark in ESCAPES.items()}
    return '"' + "".join(f"\\{marks[c]}" if c in '\n\t\\"' else c for c in value) + '"'
