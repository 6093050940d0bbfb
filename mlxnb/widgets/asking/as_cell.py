"""What a panel asks as a `%%generate` cell, so written that IPython, the magic and its templates give it back whole."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

# What ends a line for IPython, or has no place on one; tabs have.
ODD = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
ODD_IN_BODY = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
# Where IPython takes a line for one pasted from a session, and takes the front off this line and others.
PASTED = re.compile(r"^(?=\s*(?:>>>|\.{3,}:|In \[\d+\]:))", re.MULTILINE)
NOTHING = '{{ "" }}'
NONE = "none"


def line_of(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The first line of a cell that asks with `values`, with no more options than differ from the `defaults`."""
    words = ["%%generate"]
    for name, value in values.items():
        if value != defaults[name]:
            words += _flags(name, value)
    return " ".join(words)


def _flags(name: str, value: Any) -> list[str]:
    values = value if isinstance(value, tuple) else (NONE if value is None else value,)
    flag = f"--{name.replace('_', '-')}"
    # A value that begins with a dash would be read as the next option.
    return [f"{flag}={quoted(each)}" if str(each).startswith("-") else f"{flag} {quoted(each)}" for each in values]


def quoted(value: Any) -> str:
    """A value as one word of a magic's line: quotes are a shell's, backslashes are text, {{ }} is a template."""
    text = str(value)
    # argparse drops a value that is "--" only.
    return shlex.quote(_template(text) if ODD.search(text) or "{{" in text or text == "--" else text)


def body(prompt: str) -> str:
    """A prompt as a cell's body, in which {{ }} is a template."""
    if ODD_IN_BODY.search(prompt):
        return _template(prompt)
    return PASTED.sub(NOTHING, prompt.replace("{{", '{{ "{{" }}'))


def _template(text: str) -> str:
    written = json.dumps(text, ensure_ascii=False)
    return "{{ " + ODD.sub(lambda found: f"\\u{ord(found[0]):04x}", written) + " }}"


def trimmed(prompt: str) -> str:
    """A prompt without the blank lines around it and the white space at its end, none of which is meant."""
    return re.sub(r"\A(?:[^\S\n]*\n)+", "", prompt.rstrip())
