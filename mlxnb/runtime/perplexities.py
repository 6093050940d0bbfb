"""The perplexity of each of several texts and of all of them: what `%mlxnb perplexity` and `mlxnb perplexity` show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..backends.local import LocalModel
from ..backends.perplexity import Perplexity, Text, in_pieces, perplexity
from ..errors import BackendError, MlxnbError, OptionError, PromptError

if TYPE_CHECKING:
    from ..backends.base import LoadedModel, ModelInfo
    from .engine import Engine

# Bytes of a text file; a larger one is data of another kind, or would take a day.
MOST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Measured:
    """A text with its perplexity, over `pieces` that each fit the model's context, or why it has none."""

    text: Text
    found: Perplexity | None
    pieces: int = 1
    error: MlxnbError | None = None


@dataclass(frozen=True, slots=True)
class Perplexities:
    """Each text by itself, and all that were measured as one: the mean over their tokens. `info` is the model's."""

    texts: tuple[Measured, ...]
    total: Perplexity
    info: ModelInfo


def perplexities(
    engine: Engine,
    texts: Sequence[Text],
    model: str = "pocket",
    backend: str = "auto",
    dtype: str | None = None,
    quantize: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    adapter: str | None = None,
) -> Perplexities:
    """Measure texts one after another; others are answered in between. One longer than the context is cut in pieces.

    Raises:
        ModelError, BackendError, OptionError: the model cannot be loaded, or tells nothing.
        PromptError: there is no text, or none of them can be measured.
    """
    if not texts:
        raise PromptError("There is no text.", "Give one of at least two tokens.")

    def measure(loaded: LoadedModel, text: Text) -> Measured:
        if not isinstance(loaded, LocalModel):
            raise BackendError(f"{loaded.info.backend} does not tell how likely a token is.", "Take mlx or torch.")
        try:
            pieces = in_pieces(loaded, text)
            return Measured(text, perplexity(loaded, pieces), len(pieces))
        except (OptionError, PromptError) as error:
            return Measured(text, None, error=error)

    rows: list[Measured] = []
    asked = (backend, dtype, quantize, adapter)
    info = engine.call_with(model, lambda loaded: loaded.info, *asked)
    for number, text in enumerate(texts):
        if progress is not None:
            progress(number, len(texts), "")
        rows.append(engine.call_with(model, lambda loaded, text=text: measure(loaded, text), *asked))  # type: ignore[misc]
    return Perplexities(tuple(rows), _total(rows), info)


def _total(rows: Iterable[Measured]) -> Perplexity:
    rows = list(rows)
    found = [row.found for row in rows if row.found is not None]
    if not found:
        raise next(row.error for row in rows if row.error is not None)
    tokens = sum(each.tokens for each in found)
    return Perplexity(math.exp(math.fsum(math.log(each.value) * each.tokens for each in found) / tokens), tokens)


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        OptionError: it is no file that can be read, too large, or not in UTF-8.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise OptionError(f"{path} is larger than {MOST_BYTES >> 20} MiB.", "Take a part of it.")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as err:
        raise OptionError(f"{path} is not text in UTF-8: byte {err.start} is no part of it.", "Convert it.") from None
    except (OSError, ValueError) as err:
        reason = getattr(err, "strerror", None) or err
        raise OptionError(f"{path} cannot be read: {reason}.", "Name a file with text in UTF-8.") from None
