"""Holds a converted model against its source on sample text, with one of the two in memory at a time."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..backends.base import ModelInfo
from ..backends.divergence import Divergence, Tally
from ..backends.local import LocalModel
from ..errors import BackendError, ConversionError
from ..hardware import human_bytes
from ..request import Request
from .loaded import Loaded, LoadedModels

# Tokens that are computed in one row, and of all rows together: enough for figures of two digits, soon done.
WINDOW, MOST = 512, 2048

# Positions done, positions in all, and what is under way.
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Quality:
    """What a conversion cost, on `texts` texts; `source_on` and `on` say what computed the two models, and `notes` what
    a person should know to read the figures.
    """

    divergence: Divergence
    texts: int
    source_on: str
    on: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sample:
    """A text to check on. What begins it, `given`, is read, and how well it was foreseen counts for nothing."""

    text: str
    given: str = ""


def check(
    models: LoadedModels,
    source: str,
    target: Path,
    texts: Sequence[Sample],
    backends: tuple[str, str | None],
    progress: Progress,
) -> Quality:
    """Compare the model at `target` with `source`, on the engine's thread.

    The source's log-probabilities wait in a file beside the target that no folder lists, so that only one model is in
    memory, unless it was there before. `backends`: of the source, and of the target, None for the same.

    Raises:
        MlxnbError: one of them cannot be loaded, its backend does not tell how likely a token is, no text is the same
            tokens to both, or the disk has no room for the file.
    """
    folder = target.parent
    with tempfile.TemporaryFile(dir=folder) as file:
        with models.for_now(source, backends[0]) as first:
            cut = [_ids(first, sample.text) for sample in texts]
            given = [len(_ids(first, sample.given)) if sample.given else 0 for sample in texts]
            rows = list(_rows(cut, min(WINDOW, first.info.context_length or WINDOW), given))
            count = sum(len(row.ids) - 1 for row in rows)
            width = _keep(first, rows, file, folder, lambda done: progress(done, 2 * count, f"checking {source}"))
        with models.for_now(str(target), backends[1] or first.info.backend) as second:
            same = [_ids(second, sample.text) == ids for sample, ids in zip(texts, cut, strict=True)]
            shared = [row for row in rows if same[row.text]]
            if not shared:
                raise ConversionError("The two tokenizers cut every sample text into different tokens.")
            done = 2 * count - sum(len(row.ids) - 1 for row in shared)
            tally, widths = Tally(), {width}
            for row in shared:
                file.seek(4 * width * row.before)
                for start, piece in _pieces(second, row.ids):
                    progress(done, 2 * count, f"checking {target.name}")
                    kept = np.frombuffer(file.read(4 * width * len(piece)), np.float32).reshape(-1, width)
                    widths.add(piece.shape[-1])
                    both = min(widths)
                    skip = max(0, row.skip - start)
                    targets = row.ids[start + 1 : start + 1 + len(piece)]
                    tally.add(kept[skip:, :both], piece[skip:, :both], targets[skip:])
                    done += len(piece)
    notes = tuple(_notes(first, second, same, widths))
    texts_used = len({row.text for row in shared})
    return Quality(tally.result(), texts_used, _where(first.info), _where(second.info), notes)


@dataclass(frozen=True, slots=True)
class _Row:
    """A stretch of a text's tokens that is computed at once, how many positions lie before it in the file, and how many
    of its own do not count.
    """

    text: int
    ids: list[int]
    before: int
    skip: int = 0


def _ids(loaded: Loaded, text: str) -> list[int]:
    model = loaded.model
    if not isinstance(model, LocalModel):
        problem = f"The {loaded.info.backend} backend does not tell how likely a token is."
        raise BackendError(problem, "Take mlx or torch.")
    return list(model.tokenizer.prompt(Request.of(text, raw=True)).ids)


def _rows(texts: Sequence[Sequence[int]], window: int, given: Sequence[int] = ()) -> Iterator[_Row]:
    """Stretches of at most `window` tokens, in order, until MOST positions are together. Of each text the first `given`
    tokens are not judged.
    """
    before = 0
    for number, (ids, first) in enumerate(zip(texts, given or [0] * len(texts), strict=True)):
        for start in range(0, len(ids) - 1, window):
            row = list(ids[start : min(start + window, start + 1 + MOST - before)])
            if len(row) > 1:
                yield _Row(number, row, before, max(0, first - 1 - start))
                before += len(row) - 1


def _pieces(loaded: Loaded, ids: list[int]) -> Iterator[tuple[int, Any]]:
    """What the model says of a row, and the place in it that each piece begins at."""
    assert isinstance(loaded.model, LocalModel)
    start = 0
    for piece in loaded.model.log_probs(ids):
        yield start, piece
        start += len(piece)


def _keep(loaded: Loaded, rows: Sequence[_Row], file: IO[bytes], folder: Path, progress: Callable[[int], None]) -> int:
    """Write what the source says of every row to `file` in `folder`; how many tokens its vocabulary has."""
    width = 0
    for row in rows:
        for start, piece in _pieces(loaded, row.ids):
            progress(row.before + start)
            if not width:
                width = piece.shape[-1]
                _check_room(folder, 4 * width * (rows[-1].before + len(rows[-1].ids)))
            file.write(np.ascontiguousarray(piece, np.float32).data)
    file.flush()
    if not width:
        raise ConversionError("The sample text has no token to predict.", "Name a longer one.")
    return width


def _check_room(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if need > free:
        problem = f"The check needs {human_bytes(need)} of disk for a while, and {human_bytes(free)} is free."
        raise ConversionError(problem, "Make room, or name a shorter text.")


def _where(info: ModelInfo) -> str:
    stored = f", {info.quantization}" if info.quantization else ""
    return f"{info.backend} {info.device} {info.dtype}{stored}"


def _notes(first: Loaded, second: Loaded, same: Sequence[bool], widths: set[int]) -> Iterator[str]:
    different = len(same) - sum(same)
    if different:
        yield f"{different} of {len(same)} texts left out: the two tokenizers cut them into different tokens"
    if len(widths) > 1:
        yield f"compared over the first {min(widths)} tokens of the vocabulary: one model has {max(widths)} places"
    if first.info.backend != second.info.backend:
        yield "computed by two backends, whose own rounding is in the figures too"
    for which, loaded in (("source", first), ("new model", second)):
        yield from (f"{which}: {note}" for note in (*loaded.info.notes, *loaded.notes))
