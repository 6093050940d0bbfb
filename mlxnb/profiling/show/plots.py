"""Every plot of a report by its name: each answers one question, and is left out where that was not measured."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping

from ...errors import BackendMissingError
from ...render.plot import Plot
from ..report import Report
from . import plots_compare, plots_context, plots_machine, plots_roofline, plots_spread, plots_token

Drawn = Callable[[Report], "Plot | None"]

PLOTS: Mapping[str, Drawn] = {
    "rates": plots_context.rates,
    "predicted": plots_context.predicted,
    "throughput": plots_context.together,
    "first-token": plots_spread.first_token,
    "gaps": plots_spread.gaps,
    "token": plots_token.token,
    "roofline": plots_roofline.roofline,
    "memory": plots_machine.memory,
    "stress": plots_machine.stress,
    "comparison": plots_compare.comparison,
}


class Plots(dict[str, Plot]):
    """Plots by name; as a cell's value they show themselves, one under the other."""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if self:
            display(*self.values())
        else:
            print(repr(self))

    def __repr__(self) -> str:
        return "\n".join(f"{name}: {plot.text}" for name, plot in self.items()) or "nothing that could be plotted"


def plots(report: Report) -> Plots:
    """Rates by context, first tokens, gaps between tokens, time inside a token, roofline, memory, sweeps, comparisons.

    Raises:
        BackendMissingError: Matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise BackendMissingError("plots() needs Matplotlib, which is not installed.", "Run: pip install matplotlib")
    drawn = {name: draw(report) for name, draw in PLOTS.items()}
    swept = {f"sweep-{field}": plots_compare.sweep(report, field) for field in plots_compare.swept(report)}
    return Plots({name: plot for name, plot in {**drawn, **swept}.items() if plot is not None})
