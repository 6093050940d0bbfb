"""The ways to show an answer's text, each as safe HTML with its plain twin."""

from __future__ import annotations

import ast
import html
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from .code import highlight
from .markdown import parse, to_html
from .sanitize import clean
from .text import plain


@dataclass(frozen=True, slots=True)
class Body:
    """An answer's text, ready to show: safe HTML and its plain twin."""

    html: str
    text: str


def as_markdown(text: str) -> Body:
    """Markdown as HTML."""
    return Body(to_html(text), plain(text))


def as_text(text: str) -> Body:
    """Exactly the text, long lines wrapped."""
    text = plain(text)
    return Body(f"<pre>{html.escape(text)}</pre>", text)


def as_code(text: str) -> Body:
    """Only the fenced blocks; without any, the whole text, which is then taken for code."""
    text = plain(text)
    blocks = fences(text) or [(text, "python" if _is_python(text) else "")]
    return Body("".join(highlight(*block) for block in blocks), "\n".join(code.rstrip("\n") for code, _ in blocks))


def code_in(text: str) -> str:
    """The code that a person could run: the fenced blocks, or the whole text if it is Python; else nothing."""
    text = plain(text)
    return as_code(text).text if fences(text) or _is_python(text) else ""


def as_json(text: str) -> Body:
    """The text's JSON value, indented; text that is not JSON as it is, with a line that says so."""
    text = plain(text)
    try:
        pretty = indented(text)
    except (ValueError, RecursionError) as error:
        why = f"not valid JSON: {error}" if isinstance(error, ValueError) else "not usable JSON: nested too deeply"
        note = f'<div class="mlxnb-footer"><span class="mlxnb-warn">{html.escape(why)}</span></div>'
        return Body(note + f"<pre>{html.escape(text)}</pre>", f"{why}\n{text}")
    return Body(highlight(pretty, "json"), pretty)


def indented(text: str) -> str:
    """The JSON value of a text, or of the one fenced block in it, indented.

    Raises:
        ValueError: there is none.
        RecursionError: it is nested too deeply.
    """
    found = fences(text)
    value = json.loads(found[0][0] if len(found) == 1 else text, parse_constant=_refuse)
    return plain(json.dumps(value, indent=2, ensure_ascii=False))


def as_html(text: str) -> Body:
    """The text as HTML, kept to the allow-list; the plain twin has the source."""
    return Body(clean(text), plain(text))


FORMATS: dict[str, Callable[[str], Body]] = {
    "markdown": as_markdown,
    "text": as_text,
    "code": as_code,
    "json": as_json,
    "html": as_html,
    "logprobs": as_text,  # while it comes, and where nothing more is known; see render.logprobs
}


def known(format: str) -> str:
    """`format` itself, if it is one.

    Raises:
        ValueError: naming the formats there are.
    """
    if format not in FORMATS:
        raise ValueError(f"format is {format!r}; it takes {', '.join(FORMATS)}.")
    return format


def fences(text: str) -> list[tuple[str, str]]:
    """The fenced blocks of a Markdown text as (code, language)."""
    return [(t.content, (t.info.split() or [""])[0]) for t in parse(text, {}) if t.type == "fence"]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")


def _is_python(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
