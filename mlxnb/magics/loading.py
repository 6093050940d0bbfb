"""Loads a model ahead of its first answer, with the progress of a download in the cell."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from typing import TYPE_CHECKING

from ..render import LiveCell
from .fail import interrupted
from .follow import PERIOD

if TYPE_CHECKING:
    from ..backends import ModelInfo


class _Stopped(Exception):
    """Ends a download from within its progress callback."""


def load(name: str, backend: str, dtype: str | None) -> ModelInfo:
    """What `engine().load` gives; an interrupt stops a download, and leaves a load to end by itself.

    Raises:
        KeyboardInterrupt: the kernel was interrupted.
        MlxnbError: it cannot be loaded.
    """
    from .. import engine

    done, total, stopped = 0, 0, False

    def progress(now: int, whole: int) -> None:
        nonlocal done, total
        done, total = now, whole
        if stopped:
            raise _Stopped

    live, pool = LiveCell("markdown", name), ThreadPoolExecutor(1)
    live.start()
    waiting = pool.submit(engine().load, name, backend, dtype, progress)
    try:
        while True:
            try:
                return waiting.result(timeout=PERIOD)
            except StillRunning:
                if waiting.done():
                    raise  # a timeout of the load's own
                live.update(prefill_done=done, prefill_total=total, state="loading")
    except KeyboardInterrupt:
        stopped = True
        doing = "the download stops" if done < total else f"{name} goes on loading in the background"
        raise interrupted(f"{doing}.") from None
    finally:
        live.close()
        pool.shutdown(wait=False)
