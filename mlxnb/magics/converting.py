"""`%mlxnb convert`: a conversion with its progress in the cell, and what an interrupt leaves."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ..conversion import as_arguments
from ..render.work import WorkCell
from .background import Steps, followed
from .fail import interrupted

if TYPE_CHECKING:
    from ..runtime.conversion import ConversionReport


def convert(source: str, target: str | None, options: argparse.Namespace) -> ConversionReport:
    """What `engine().convert` gives, with its progress in the cell.

    Raises:
        KeyboardInterrupt: the kernel was interrupted: nothing is left behind, or in the check a whole model.
        MlxnbError: it cannot be converted.
    """
    from .. import engine

    arguments, steps = as_arguments(options), Steps()
    try:
        with WorkCell(f"Converting {source}") as cell:
            return followed(
                steps,
                lambda: engine().convert(source, target, **arguments, progress=steps.report),
                lambda: cell.update(*steps.now),
            )
    except KeyboardInterrupt:
        whole = steps.now[2].startswith("checking ")
        left = "the check stops; the new model is whole" if whole else "the conversion stops and leaves nothing"
        raise interrupted(f"{left}.") from None
