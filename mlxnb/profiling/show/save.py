"""A report in a folder: JSON to read back, Markdown to read, and its pictures; each written aside and renamed."""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
import warnings
from pathlib import Path

from ...errors import ReportError
from ..report import Report
from ..report.saved import NAME, to_json
from .markdown import to_markdown
from .plots import PLOTS, plots

MARKDOWN = "report.md"


def save(report: Report, folder: Path) -> tuple[Path, ...]:
    """Write report.json, report.md and a PNG for each plot; gives their paths, the JSON first.

    The JSON comes first, so that a failure of a picture costs no measurement. Where Matplotlib is not installed there
    are no pictures, and a warning says so. Pictures of a report that lay there before go, as they would pass for this
    one's; other files stay.

    Raises:
        ReportError: the folder cannot be made, or a file in it not be written.
    """
    folder = folder.expanduser()
    earlier = _pictures_of(folder)
    written = [write(folder, NAME, to_json(report).encode("utf-8"))]
    pictures = {}
    for name, image in _images(report).items():
        file = f"{_plain(name)}.png"
        written.append(write(folder, file, image))
        pictures[name] = file
    written.insert(1, write(folder, MARKDOWN, to_markdown(report, pictures).encode("utf-8", "replace")))
    for file in earlier - set(pictures.values()):
        (folder / file).unlink(missing_ok=True)
    return tuple(written)


def _pictures_of(folder: Path) -> set[str]:
    """The pictures that the report in this folder shows, if there is one."""
    text = folder / MARKDOWN
    if not text.is_file() or not (folder / NAME).is_file():
        return set()
    shown = set(re.findall(r"!\[[^\]]*\]\(([A-Za-z0-9-]+)\.png\)", text.read_text("utf-8", "replace")))
    return {f"{name}.png" for name in shown if name in PLOTS or name.startswith("sweep-")}


def _images(report: Report) -> dict[str, bytes]:
    if importlib.util.find_spec("matplotlib") is None:
        message = "The report is saved without pictures: Matplotlib is not installed. Run: pip install matplotlib"
        warnings.warn(message, RuntimeWarning, stacklevel=4)
        return {}
    return {name: plot.png() for name, plot in plots(report).items()}


def _plain(name: str) -> str:
    """A plot's name as that of a file, which holds nothing that means something in a path or a link."""
    return "".join(character if character.isascii() and character.isalnum() else "-" for character in name)


def write(folder: Path, name: str, content: bytes) -> Path:
    """Write a file aside and rename it, so that no crash leaves half of one; gives its path.

    Raises:
        ReportError: it cannot be written there.
    """
    target = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=folder, prefix=f".{name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(aside, 0o666 & ~_umask())
            os.replace(aside, target)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ReportError(f"The report cannot be written to {target}: {reason}.", "Name another folder.") from error
    return target


def _umask() -> int:
    """What new files of this process may not allow; mkstemp allows less, as if they were secret."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
