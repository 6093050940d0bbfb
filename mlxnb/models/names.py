"""Refuses what no model can be called, before any folder or server is asked for it."""

from __future__ import annotations

import os
import re
from typing import NoReturn

from ..errors import ModelError, ModelNotFoundError, NotAModelError, OptionError

SCHEME = "mlx://"
SAFE = "the model's version with config.json and safetensors"
HUB_PAGE = re.compile(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?P<repo>[^/?#]+/[^/?#]+)", re.IGNORECASE)
# As the Hub has them: letters, digits, dash, underscore and dot, no dash or dot at either end, at most 96 characters.
SERVED = re.compile(r"(?:ollama|lmstudio|server):(?!//)|https?://", re.IGNORECASE)
PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
REPOSITORY = re.compile(rf"(?=.{{1,96}}\Z)(?!.*(?:--|\.\.))(?!.*\.git\Z){PART}(?:/{PART})?", re.ASCII)
REVISION = re.compile(r"(?!.*\.\.)[\w][\w./+-]{0,199}", re.ASCII)


def check_text(name: object) -> None:
    """Refuse what is no name whatever it stands for: nothing, control characters, a text of pages.

    Raises:
        ModelNotFoundError: saying what is wrong with it.
        OptionError: it is no text at all.
    """
    if isinstance(name, os.PathLike):
        name = os.fspath(name)
    if not isinstance(name, str):
        raise OptionError(f"The model's name is of type {type(name).__name__}, not a string.", "Give a name or a path.")
    if not name.strip():
        _refuse(name, "it is empty")
    if not name.isprintable():
        _refuse(name, "it has a control character in it")
    if len(name) > 1000:
        _refuse(name, f"it is {len(name):,} characters long")


def check_name(name: str, asked: str) -> None:
    """Refuse what could lead out of a folder of models, and what was meant as something else.

    `asked` is what the person wrote, for the messages; `name` may be without its scheme.

    Raises:
        ModelNotFoundError: saying what is wrong with it.
        NotAModelError: it is a file of another kind.
    """
    page = HUB_PAGE.match(name)
    if page:
        raise ModelNotFoundError(f"{name} is a web page.", f"Give the model's name: {page['repo']}.")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", name):
        _refuse(asked, f"only {SCHEME} may stand before a name")
    if any(char.isspace() for char in name):
        _refuse(asked, "it has a space in it", "For a folder with a space, give its path: ./my model.")
    if "\\" in name or ":" in name:
        _refuse(asked, f"it has a {'backslash' if chr(92) in name else 'colon'} in it", "Parts are joined by /.")
    if name.lower().endswith(".gguf"):
        raise NotAModelError(f"{asked} names a GGUF file that is not here.", "Give its path.")
    if any(part in ("", ".", "..") for part in name.split("/")):
        remedy = "Give a path if you mean a folder: ./folder or /folder."
        _refuse(asked, "one of its parts is empty or made of dots only", remedy)
    if name.startswith("~"):
        _refuse(asked, "it begins with ~", "Give a path if you mean a folder in a home: ~/folder.")


def is_served(name: str) -> bool:
    """Whether a name says that a server has the model: ollama:NAME, lmstudio:NAME, server:NAME, or a server's URL."""
    return SERVED.match(name) is not None and HUB_PAGE.match(name) is None


def is_name(name: str) -> bool:
    """Whether both checks let a name pass, so that a person can type it."""
    try:
        check_text(name)
        check_name(name, name)
    except ModelError:
        return False
    return True


def check_revision(revision: str | None) -> None:
    """Refuse what is no branch, tag or commit.

    Raises:
        OptionError: saying what a revision is.
    """
    if revision is not None and not REVISION.fullmatch(revision):
        raise OptionError(f"revision is {revision!r}.", "It takes a branch, a tag or a commit of the repository.")


def is_repository(name: str) -> bool:
    """Whether the Hugging Face Hub could have a repository of that name."""
    return REPOSITORY.fullmatch(name) is not None


def _refuse(name: str, problem: str, remedy: str = "") -> NoReturn:
    shown = name if len(name) <= 80 else f"{name[:77]}..."
    remedy = remedy or "Names look like pocket, org/name, mlx://name or a path such as ./folder."
    raise ModelNotFoundError(f"{shown!r} is no model's name: {problem}.", remedy)
