"""The files of a profile, checked before it begins: prompts, an earlier report, and where the new one is to go."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from ..errors import OptionError
from ..models.sample_text import sample_texts
from .report import Report


def read_prompts(file: str) -> tuple[str, ...]:
    """The prompts in a file, parted by lines of three dashes.

    Raises:
        OptionError: the file cannot be read, is not UTF-8, or has no prompt in it.
    """
    return tuple(sample_texts(Path(file), "Write at least one prompt into it."))


def read_earlier(file: str) -> Report:
    """A report that was saved: its JSON file, or the folder that --save wrote.

    Raises:
        ReportError: it is none, or damaged.
    """
    from .report.saved import from_json

    return from_json(Path(file).expanduser())


def write_json(report: Report, file: str) -> None:
    """Write the report to a file, as JSON.

    Raises:
        ReportError: it cannot be written.
    """
    from .report.saved import to_json
    from .show.save import write

    path = Path(file).expanduser()
    if _is_no_plain_file(path):
        path.write_text(to_json(report), encoding="utf-8")
    else:
        write(path.parent, path.name, to_json(report).encode("utf-8"))


def _is_no_plain_file(path: Path) -> bool:
    """Whether it is a pipe or a link such as /dev/stdout, in whose place no file may be put."""
    return path.is_symlink() or (path.exists() and not path.is_file())


def check_writable(folder: str | None = None, file: str | None = None) -> None:
    """Find out before minutes of measuring whether a report can be written where it is wanted.

    Raises:
        OptionError: it cannot.
    """
    if folder is not None:
        _check_folder(Path(folder).expanduser(), folder)
    if file is not None:
        path = Path(file).expanduser()
        if path.is_dir():
            raise OptionError(f"The report cannot be written to {file}: that is a folder.", "Name a file in it.")
        if not _is_no_plain_file(path):
            _check_folder(path.parent, file)


def _check_folder(path: Path, named: str) -> None:
    """Whether something can be made in the folder, or in what is there of it."""
    there = next(each for each in (path, *path.absolute().parents) if each.exists())
    try:  # in earnest: permissions say nothing of a disk that takes no more files
        os.rmdir(tempfile.mkdtemp(prefix=".mlxnb-", dir=there))
    except OSError as error:
        reason = f"takes no files ({error.strerror})" if there.is_dir() else "is no folder"
        problem = f"The report cannot be written to {named}: {there} {reason}."
        raise OptionError(problem, "Name another place.") from None
