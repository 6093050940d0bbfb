"""`%mlxnb models`, `ps` and `download`: what is here and fits, what stays in memory, what to take, and fetching it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from .background import Steps, followed
from .fail import interrupted

if TYPE_CHECKING:
    from ..models import ModelSource
    from ..render import Table


def show_models(context: str | None, use: str | None) -> None:
    """The tables of what is here, or with a use of what to take for it.

    Raises:
        OptionError: the context is no whole number, or there is no such use.
    """
    from .. import engine
    from ..render.models import here_tables
    from ..render.recommended import recommended_tables
    from ..request import check_option

    tokens = None
    if context is not None:
        digits = int(context) if context.isdecimal() else context
        tokens = int(check_option("context", digits, {"kind": int, "low": 1, "high": None}))
    if use is not None:
        return _show(recommended_tables(engine().recommend(use, tokens), use))
    return _show(here_tables(engine().inventory(tokens), engine().models(), tokens))


def show_memory() -> None:
    """The tables of what is in memory here, and with Ollama where it runs."""
    from .. import engine
    from ..backends.server_entries import in_ollamas_memory
    from ..render.models import memory_table, ollama_table

    running = in_ollamas_memory() if "server" in engine().backends else []
    _show([memory_table(engine().residents()), *([ollama_table(running)] if running else [])])


def download(name: str, revision: str | None) -> None:
    """Fetch a model, with a progress line in the cell, and say where it is.

    Raises:
        KeyboardInterrupt: the kernel was interrupted; what came is kept for the next time.
        MlxnbError: it cannot be fetched.
    """
    from ..models.entry import Entry
    from ..render.models import downloaded_table
    from ..render.transfer import Transfer
    from ..render.work import WorkCell
    from ..runtime.downloads import download as fetch
    from ..runtime.here import described

    steps, transfer = Steps(), Transfer()

    def work() -> tuple[ModelSource, Entry]:
        source = fetch(name, revision, steps.report)
        return source, described(source)

    try:
        with WorkCell(f"Downloading {name}", transfer.words) as cell:
            steps.report(0, 0)
            source, entry = followed(steps, work, lambda: cell.update(*steps.now))
    except KeyboardInterrupt:
        done, total, _ = steps.now
        raise interrupted(f"the download stops; {_kept(done, total)}run it again to go on.") from None
    _show([downloaded_table(source, entry)])


def _kept(done: int, total: int) -> str:
    from ..render.numbers import size

    return f"{size(done)} of {size(total)} are here, " if total else ""


def _show(tables: Iterable[Table]) -> None:
    from IPython.display import display

    for table in tables:
        display(table)
