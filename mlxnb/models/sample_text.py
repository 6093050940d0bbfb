"""The texts that a conversion is checked on: ours, of several kinds, or a file of the person's own."""

from __future__ import annotations

from pathlib import Path

from ..errors import OptionError

SHIPPED = Path(__file__).parent / "sample" / "text.md"
BETWEEN = "\n---\n"
WANTED = "Name a file with at least a few hundred words."
MOST_BYTES = 4 << 20  # of a file that is read: a check takes some thousand tokens of it


def sample_texts(file: Path | None = None, wanted: str = WANTED) -> list[str]:
    """The texts of `file`, parted by lines of three dashes; those that come with the package where it is None.

    `wanted` is what to do about a file without any.

    Raises:
        OptionError: the file cannot be read, is not UTF-8, or has no text in it.
    """
    path = SHIPPED if file is None else file.expanduser()
    try:
        with path.open("rb") as opened:
            data = opened.read(MOST_BYTES)
            cut = bool(opened.read(1))
    except OSError as err:
        raise OptionError(f"The text {path} cannot be read: {err.strerror}.", "Name a text file in UTF-8.") from None
    try:
        text = data.decode("utf-8", "ignore" if cut else "strict")
    except UnicodeDecodeError as err:
        raise OptionError(f"The text {path} is not UTF-8 (byte {err.start}).", "Save it as UTF-8.") from None
    found = [part.strip("\n") for part in text.replace("\r\n", "\n").split(BETWEEN) if part.strip()]
    if not found:
        raise OptionError(f"The text {path} is empty.", wanted)
    return found
