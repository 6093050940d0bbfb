"""Prompts that are kept in files: `%%generate @summary.md`, with Jinja2's statements where a file has them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import EmptyPromptError, PromptError
from ..template import interpolate
from .line import first_word

LITERAL = "Write @@ for a prompt that begins with @."
# In a cell `{%` is just text, since LaTeX and shells write it. In a file it is too, but for a whole statement of
# Jinja2's, or a name that says what the file is.
STATEMENT = re.compile(
    r"\{%[-+]?\s*(?:for|if|set|macro|raw|filter|with|call|block|include|import|from|extends)\b(?:(?!\{%).)*?%\}",
    re.DOTALL,
)
ENDINGS = (".j2", ".jinja", ".jinja2")


def named_in(rest: str) -> tuple[str | None, str]:
    """The file that the text after the options names with `@`, and what follows it. `@@` is a plain @.

    Raises:
        OptionError: a quote that is not closed.
    """
    if rest.startswith("@@"):
        return None, rest[1:]
    if not rest.startswith("@") or not rest[1:2].strip():
        return None, rest
    return first_word(rest[1:])


def beginning_with(word: str) -> list[str]:
    """What `@` and the beginning of a path may become: files, and folders with a slash at their end."""
    begun = word.removeprefix("@")
    folder = Path(begun if begun.endswith("/") else Path(begun).parent).expanduser()
    before = begun[: len(begun) - len(Path(begun).name)] if not begun.endswith("/") else begun
    try:
        found = sorted(folder.iterdir())
    except OSError:
        return []
    return [f"@{before}{each.name}{'/' * each.is_dir()}" for each in found if " " not in each.name]


def read(name: str, names: Mapping[str, Any], body: str, plain: bool = False) -> str:
    """The prompt that a file holds, its templates replaced, with `body` below it. `plain` leaves all braces alone.

    Raises:
        PromptError: there is no such file, or it is no text in UTF-8.
        TemplateError: a template failed.
    """
    path = Path(name).expanduser()
    text = _text(path)
    if not text.strip():
        raise EmptyPromptError(f"The prompt file {path} is empty.", "Write the prompt into it.")
    if not plain:
        text = interpolate(text, names, statements=path.suffix in ENDINGS or bool(STATEMENT.search(text)))
    return f"{text.rstrip()}\n\n{body}" if body.strip() else text.removesuffix("\n")


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except FileNotFoundError:
        raise PromptError(f"There is no prompt file {path}{_where(path)}.", f"{_near(path)}{LITERAL}") from None
    except IsADirectoryError:
        raise PromptError(f"The prompt file {path} is a folder.", f"Name a file in it. {LITERAL}") from None
    except UnicodeDecodeError as err:
        found = f"byte 0x{err.object[err.start]:02x} at position {err.start}"
        raise PromptError(f"The prompt file {path} is not text in UTF-8: {found}.", "Save it as UTF-8.") from None
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or str(err)
        if path.is_dir():  # as Windows says it
            reason = "it is a folder"
        raise PromptError(f"The prompt file {path} cannot be read: {reason}.", LITERAL) from None


def _where(path: Path) -> str:
    return "" if path.is_absolute() else f" in {Path.cwd()}"


def _near(path: Path) -> str:
    folder = path.parent
    here = [each.name for each in folder.iterdir() if each.is_file()] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, here, n=1)
    return f"Did you mean @{folder / near[0]}? " if near else ""
