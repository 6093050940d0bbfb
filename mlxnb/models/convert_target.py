"""Where a converted model goes: built aside and put in place when it is whole, so that a failure leaves nothing."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ConversionError, NotAModelError, OptionError
from ..hardware import human_bytes
from .format import GENAI, GGUF
from .gguf_info import models_in

# What a model's own folder holds; with anything else in it, somebody's work may go with the folder.
OWN = frozenset({".json", ".safetensors", GGUF, ".onnx", ".data", ".onnx_data", ".model"})
OWN |= {".txt", ".md", ".jinja", ".tiktoken", ""}

REPLACE = "Delete it, name another, or say --force to have it replaced."


def check_target(target: Path, source: Path, force: bool = False) -> None:
    """Refuse a place where nothing may be written, before any work is done.

    Raises:
        OptionError: it exists and `force` is not set, is no model that could be replaced, or is tied to the source.
    """
    real, origin = Path(os.path.realpath(target)), Path(os.path.realpath(source))
    if real == origin:
        raise OptionError(f"{target} is the model that is to be converted.", "Name another target.")
    if origin in real.parents:
        raise OptionError(f"{target} lies in the folder of the model that is to be converted.", "Name another target.")
    if real in origin.parents:
        raise OptionError(f"The model that is to be converted lies in {target}.", "Name another target.")
    check_free(target, force)


def check_free(target: Path, force: bool = False) -> None:
    """`check_target` as far as it needs no source: what a person should hear before a download.

    Raises:
        OptionError: the target exists and `force` is not set, or is no model that could be replaced.
    """
    if not os.path.lexists(target):
        return
    if not force:
        raise OptionError(f"Cannot save to {target}: it already exists.", REPLACE)
    if not _is_model(target):
        raise OptionError(f"{target} is there, and is no model's folder or file: it is not replaced.", "Name another.")


def _is_model(path: Path) -> bool:
    """Whether a path is a model's own folder or GGUF file, or an empty folder: what may be deleted for a new one."""
    if path.is_symlink():
        return False
    if path.is_file():
        return path.suffix.lower() == GGUF
    with suppress(OSError, NotAModelError):
        entries = list(os.scandir(path))
        names = {entry.name for entry in entries}
        kinds = {os.path.splitext(name)[1].lower() for name in names}
        if any(entry.is_dir(follow_symlinks=False) for entry in entries) or not kinds <= OWN:
            return False
        if GGUF in kinds:
            return ".safetensors" not in kinds and len(models_in(path)) == 1
        return not entries or GENAI in names or ("config.json" in names and ".safetensors" in kinds)
    return False


def check_disk(target: Path, need: float) -> None:
    """Refuse what will not fit on the target's disk; `need` in bytes.

    Raises:
        ConversionError: with both figures.
    """
    folder = next(path for path in Path(os.path.abspath(target)).parents if path.is_dir())
    free = shutil.disk_usage(folder).free
    if need > free:
        problem = f"{target.name} needs {human_bytes(need)} of disk and {folder} has {human_bytes(free)} free."
        raise ConversionError(problem, "Make room, or name a target on another disk. Nothing was written.")


@contextmanager
def aside(target: Path, force: bool = False) -> Iterator[Path]:
    """A path beside `target` to write a folder or a file at. At the end it becomes the target, with `force` in place of
    what is there; after an error or an interrupt it goes away, with every folder that was made for it.

    Raises:
        OptionError: something else has come to the target in the meantime.
        ConversionError: the disk failed or is full.
    """
    target = Path(os.path.abspath(target))
    made = [path for path in target.parents if not path.exists()]
    building = target.parent / f".{target.stem}-{secrets.token_hex(4)}{target.suffix}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield building
        _put_in_place(building, target, force)
    except BaseException as err:
        _remove(building)
        for folder in made:
            with suppress(OSError):
                folder.rmdir()
        if isinstance(err, OSError):
            problem = f"{target} could not be written: {err.strerror or err}."
            raise ConversionError(problem, "Nothing was left behind. Look at the disk and its permissions.") from err
        raise


def _put_in_place(building: Path, target: Path, force: bool) -> None:
    """Rename; what is there moves out of the way first, and back should that fail."""
    check_free(target, force)
    old = target.with_name(f".{target.name}-{secrets.token_hex(4)}-old")
    try:
        if os.path.lexists(target):
            os.rename(target, old)
        os.rename(building, target)
    except BaseException:
        if os.path.lexists(old) and not os.path.lexists(target):
            os.rename(old, target)
        raise
    finally:
        if os.path.lexists(target):
            _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
