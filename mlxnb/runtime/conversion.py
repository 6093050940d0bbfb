"""Converts a model and says what that cost: the files are written on the caller's thread, for they need no model in
memory; the check that follows runs on the engine's, which owns every model.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any

from .. import pocket
from ..backends.base import Cancelled
from ..backends.memory import let_go
from ..conversion import Conversion
from ..errors import EngineClosedError, MlxnbError, in_words
from ..models import resolve
from ..models.convert_to import check_place, default_target, write
from ..models.files import listing, weight_files
from ..models.format import GGUF
from ..models.sample_text import sample_texts
from .conversion_check import Progress, Quality, Sample, check
from .loaded import LoadedModels

NO_CHECK = "it was left out, as asked"

# The backends that read what others do not.
READERS = {"gguf": "llamacpp", "onnx": "onnx"}


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """A model that was converted, and what that cost.

    source: as it was named. target: where the new model is, a name that loads it. source_bytes, bytes: of the weights
    on disk. seconds: of the writing alone. quality: the check against the source; where it is None, `unchecked` says
    why.
    """

    source: str
    target: str
    to: str
    weights: str
    source_bytes: int
    bytes: int
    seconds: float
    quality: Quality | None = None
    unchecked: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Everything as numbers, strings, lists and dictionaries, for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Order:
    """What a person asked for. `text` is a file of sample text in the place of ours; `backend` computes the check."""

    source: str
    conversion: Conversion
    target: Path | None = None
    force: bool = False
    check: bool = True
    text: Path | None = None
    backend: str = "auto"


def convert(
    order: Order,
    models: LoadedModels,
    call: Callable[[Callable[[], Quality]], Quality],
    closed: Callable[[], bool],
    progress: Progress | None,
) -> ConversionReport:
    """See Engine.convert. `call` runs a function on the engine's thread, and `closed` tells whether that is to end."""
    report = progress or (lambda done, total, doing: None)
    texts = [Sample(text) for text in sample_texts(order.text)]  # what is wrong with it is said before the work
    if order.target is not None:
        check_place(order.target, order.conversion, order.force)
    source = resolve(order.source, progress=lambda done, total: report(done, total, f"downloading {order.source}"))
    if source.kind == "pocket" and order.text is None:
        # It knows nothing but answers: what it foresees of other text says nothing of it.
        texts = [Sample(asked + answer, asked) for asked, answer in pocket.conversations()]
    target = order.target or default_target(source, order.conversion)
    began = time.perf_counter()
    write(source, target, order.conversion, order.force, report)
    took = time.perf_counter() - began
    made = ConversionReport(
        source=order.source,
        target=_as_named(target),
        to=order.conversion.to,
        weights=order.conversion.words(),
        source_bytes=sum(file.stat().st_size for file in weight_files(source.path, listing(source.path))),
        bytes=_weight_bytes(target),
        seconds=took,
    )
    if not order.check:
        return replace(made, unchecked=NO_CHECK)
    backends = (order.backend, READERS.get(order.conversion.to))
    stopped = Event()
    raised: list[BaseException] = []  # by `progress`: that is the caller's, not the check's

    def watched(done: int, total: int, doing: str) -> None:
        if stopped.is_set() or closed():
            raise Cancelled
        try:
            report(done, total, doing)
        except BaseException as err:
            raised.append(err)
            raise

    def checked() -> Quality:
        return check(models, order.source, Path(os.path.abspath(target)), texts, backends, watched)

    try:
        return replace(made, quality=call(checked))
    except Cancelled:
        raise EngineClosedError(f"The engine was closed while {made.target} was being checked.") from None
    except (MlxnbError, RuntimeError, MemoryError, OSError) as err:
        if raised:
            raise
        # The model is whole: what keeps it from being checked is part of the answer.
        let_go(err)
        return replace(made, unchecked=str(err) if isinstance(err, MlxnbError) else in_words(err))
    except BaseException:
        stopped.set()  # nobody waits for the check any more
        raise


def _as_named(target: Path) -> str:
    """A path as `resolve` takes it for one."""
    text = os.fspath(target)
    return text if target.is_absolute() or text.startswith((".", "~")) else f".{os.sep}{text}"


def _weight_bytes(path: Path) -> int:
    """Bytes of the weights in a folder that was written here, or of its one file."""
    if path.is_file():
        return path.stat().st_size
    kinds = (".safetensors", GGUF, ".onnx", ".data")
    return sum(file.stat().st_size for file in path.iterdir() if file.suffix.lower() in kinds and file.is_file())
