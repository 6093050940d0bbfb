"""Prompts that are kept in files: `%%generate @summary.md`, with Jinja2's statements where a file has them."""

from __future__ import annotations

import difflib
import re
import stat
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import EmptyPromptError, MlxnbError, PromptError
from ..render.numbers import size
from ..template import interpolate
from .line import first_word

# Bytes of a prompt file: far more than the context of any model holds.
MOST = 16 << 20

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
    return [f"@{each}" for each in paths(word.removeprefix("@"))]


def paths(begun: str, folders: bool = False) -> list[str]:
    """The paths that the beginning of one may become, or its folders only; a folder has a slash at its end. What begins
    with a dot is offered to who types one.
    """
    hidden = Path(begun).name.startswith(".") and not begun.endswith("/")
    folder = _expanded(begun if begun.endswith("/") else str(Path(begun).parent))
    before = begun[: len(begun) - len(Path(begun).name)] if not begun.endswith("/") else begun
    try:
        found = sorted(folder.iterdir())
        here = [f"{before}{each.name}{'/' * each.is_dir()}" for each in found if each.is_dir() or not folders]
    except (OSError, ValueError):
        return []
    return [each for each in here if " " not in each and (hidden or not each[len(before) :].startswith("."))]


def read(name: str, names: Mapping[str, Any], body: str, plain: bool = False) -> str:
    """The prompt that a file holds, its templates replaced, with `body` below it. `plain` leaves all braces alone.

    Raises:
        PromptError: there is no such file, or it is no text in UTF-8 of at most MOST bytes.
        TemplateError: a template failed.
    """
    path = _expanded(name)
    text = _text(path)
    if not text.strip():
        raise EmptyPromptError(f"The prompt file {path} is empty.", "Write the prompt into it.")
    if not plain:
        whole = path.suffix in ENDINGS or bool(STATEMENT.search(text))
        text = interpolate(text, names, whole, load=partial(_beside, path.parent))
        if not text.strip() and not body.strip():
            raise EmptyPromptError(f"The templates of the prompt file {path} leave no text.", "Look at its conditions.")
    return f"{text.rstrip()}\n\n{body}" if body.strip() else text.removesuffix("\n")


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # ~ of a user that is not here
        return Path(name)


def _beside(folder: Path, name: str) -> tuple[str, str] | None:
    """Text and path of a file that a template includes: in the folder of the prompt file, or below it."""
    from jinja2.loaders import split_template_path

    path = folder.joinpath(*split_template_path(name))
    return (_text(path), str(path)) if path.exists() else None


def _text(path: Path) -> str:
    try:
        return _read(path).decode("utf-8-sig").replace("\r\n", "\n")
    except MlxnbError:
        raise
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


def _read(path: Path) -> bytes:
    """What is in a file; a device or a pipe, which may never end, is none."""
    found = path.stat()
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError
    if not stat.S_ISREG(found.st_mode):
        raise PromptError(f"The prompt file {path} is no regular file.", LITERAL)
    if found.st_size > MOST:
        raise PromptError(
            f"The prompt file {path} has {size(found.st_size)}, and a prompt has at most {size(MOST)}.",
            "Take a part of it; for a table of prompts there is --each.",
        )
    data = path.read_bytes()
    if (at := data.find(b"\0")) >= 0 and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise PromptError(f"The prompt file {path} is not text: byte 0x00 at position {at}.", "Name a text file.")
    return data


def _where(path: Path) -> str:
    return "" if path.is_absolute() else f" in {Path.cwd()}"


def _near(path: Path) -> str:
    folder = path.parent
    here = [each.name for each in folder.iterdir() if each.is_file()] if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, here, n=1)
    return f"Did you mean @{folder / near[0]}? " if near else ""
