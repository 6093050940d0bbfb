"""Loads a model ahead of its first answer, with the progress of a download in the cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..render import LiveCell
from .background import Steps, followed
from .fail import interrupted

if TYPE_CHECKING:
    from ..backends import ModelInfo


def load(
    name: str,
    backend: str,
    dtype: str | None,
    quantize: str | None,
    strict: bool = False,
    keep_alive: float | str | None = None,
    pin: bool | None = None,
    adapter: str | None = None,
) -> ModelInfo:
    """What `engine().load` gives; an interrupt stops a download, and leaves a load to end by itself.

    Raises:
        KeyboardInterrupt: the kernel was interrupted.
        MlxnbError: it cannot be loaded.
    """
    from .. import engine

    steps, live = Steps(), LiveCell("markdown", name)

    def show() -> None:
        done, total, _ = steps.now
        live.update(prefill_done=done, prefill_total=total, state="loading")

    live.start()
    try:
        asked = (name, backend, dtype, quantize, steps.report, strict, keep_alive, pin, adapter)
        return followed(steps, lambda: engine().load(*asked), show)
    except KeyboardInterrupt:
        done, total, _ = steps.now
        doing = "the download stops" if done < total else f"{name} goes on loading in the background"
        raise interrupted(f"{doing}.") from None
    finally:
        live.close()
