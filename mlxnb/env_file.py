"""Reads a `.env` file beside a notebook: NAME=value a line, for the names that are asked for and no others."""

from __future__ import annotations

import re
from collections.abc import Collection
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
