"""`%mlxnb perplexity`: how well a model predicts a file, or what a variable holds."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import OptionError
from .background import Steps, in_a_cell
from .defaults import MLXNB
from .options import NONE

if TYPE_CHECKING:
    from ..backends.perplexity import Text
    from ..render import Table
    from ..runtime.perplexities import Perplexities


def measured(options: argparse.Namespace, defaults: MLXNB, names: Mapping[str, Any]) -> Table:
    """The table for what a line names.

    Raises:
        OptionError: there is no such variable or file, or it holds no text.
    """
    from .. import engine
    from ..render.perplexity import perplexity_table
    from ..runtime.perplexities import perplexities

    texts = texts_of(options.name, names)
    quantize, adapter = options.quantize or defaults.quantize, options.adapter or defaults.adapter
    how = {
        "model": options.model or defaults.model,
        "backend": options.backend or defaults.backend,
        "dtype": options.dtype or defaults.dtype,
        "quantize": None if quantize == NONE else quantize,
        "adapter": None if adapter == NONE else adapter,
    }

    def work(steps: Steps) -> Perplexities:
        return perplexities(engine(), texts, progress=steps.report, **how)

    return perplexity_table(in_a_cell("Measuring perplexity", work))


def texts_of(name: str, names: Mapping[str, Any]) -> list[Text]:
    """The texts in a variable, or the one in a file, by its name; a variable goes first.

    Raises:
        OptionError: there is neither, or no text in it.
    """
    from ..backends.perplexity import as_texts
    from ..runtime.perplexities import read_text

    if name in names:
        return as_texts(names[name])
    path = Path(name).expanduser()
    if not path.exists():
        raise OptionError(f"There is no variable and no file {name!r}.", "Name a variable with texts, or a text file.")
    return [read_text(path)]
