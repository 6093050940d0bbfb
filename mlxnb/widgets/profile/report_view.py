"""The place in a panel for a report: what limits the model with buttons that try the remedies, a plot, and the rest."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import TYPE_CHECKING

import ipywidgets as w

from ...errors import BackendMissingError
from ...render.plot import Plot
from ...render.profile import profile_bundle, profile_parts
from ..frame.panel import Panel, close_all, styled

if TYPE_CHECKING:
    from ...profiling.report import Report

CSS = """
.mlxnb .mlxnb-plot{display:block;max-width:100%;height:auto;margin:8px 0 0}
.mlxnb-panel .mlxnb-shown{margin:16px 0 0}
.mlxnb-panel .mlxnb-shown~.mlxnb-row,.mlxnb-panel .mlxnb-shown .mlxnb-row{margin:8px 0 0}
.mlxnb-panel .mlxnb-further .mlxnb-heading:first-of-type{font-size:1em;margin-top:20px}
"""
FIRST = "roofline"
_drawing = Lock()  # one figure at a time: Matplotlib shares its fonts


@dataclass
class Drawn:
    """A report as it is shown, made beside the panel because pictures take a while; `images` by the plots' names."""

    report: Report
    first: str
    rest: str
    text: str
    plots: dict[str, Plot]
    images: dict[str, str] = field(default_factory=dict)
    lacking: str = ""  # why there are no plots

    def image(self, name: str) -> str:
        """A plot as an HTML image, drawn the first time."""
        with _drawing:
            if name not in self.images:
                self.images[name] = image_of(self.plots[name])
        return self.images[name]


def drawn(report: Report, wanted: str = FIRST) -> Drawn:
    """A report ready to be shown, with the plot that is wanted if it has that one."""
    first, rest = profile_parts(report)
    plots, lacking = {}, ""
    try:
        plots = dict(report.plots())
    except BackendMissingError as err:
        lacking = str(err)
    made = Drawn(report, first, rest, profile_bundle(report)["text/plain"], plots, lacking=lacking)
    if plots:
        made.image(wanted if wanted in plots else FIRST if FIRST in plots else next(iter(plots)))
    return made


class ReportView:
    """Shows one report at a time. `tried(number)` is called with the finding, from 1, whose button was pressed."""

    def __init__(self, panel: Panel, empty: str, tried: Callable[[int], None]) -> None:
        self._panel, self._tried = panel, tried
        self.made: Drawn | None = None
        self.first, self.rest, self.image = w.HTML(), w.HTML(), w.HTML()
        self.tries = styled(w.HBox([]), "mlxnb-row")
        self.plot = w.Dropdown(options=[], description="Plot")
        self.plot.observe(self._chosen, "value")
        self._row = styled(w.HBox([self.plot]), "mlxnb-row")
        self._row.layout.display = "none"
        styled(self.rest, "mlxnb-further")
        self.view = styled(w.VBox([self.first, self.tries, self._row, self.image, self.rest]), "mlxnb-shown")
        self.say(empty)

    def say(self, text: str) -> None:
        """Words in the place of a report, while there is none."""
        if self.made is None:
            self.first.value = f'<div class="mlxnb-empty">{html.escape(text)}</div>'

    def show(self, made: Drawn) -> None:
        """Show a report in the place of the one before."""
        wanted = self.plot.value
        self.made = made
        self.first.value, self.rest.value = made.first, made.rest
        old, findings = self.tries.children, made.report.findings
        self.tries.children = [self._button(i, made) for i, each in enumerate(findings, 1) if each.trial]
        for button in old:
            close_all(button)
        self._row.layout.display = None if made.plots else "none"
        self.image.value = "" if made.plots else html.escape(made.lacking)
        self.plot.options = [(name.replace("-", " ").capitalize(), name) for name in made.plots]
        if made.plots:
            there = wanted in made.plots and wanted in made.images
            self.plot.value = wanted if there else next(iter(made.images))
            self._chosen()

    def html(self) -> str:
        """The report with the plot that is shown, for a still picture; empty where there is none."""
        return self.first.value + self.image.value + self.rest.value if self.made is not None else ""

    def _button(self, number: int, made: Drawn) -> w.Button:
        finding = made.report.findings[number - 1]
        assert finding.trial is not None
        again = "Try again" if finding.tried is not None else "Try"
        button = w.Button(description=f"{again} {number}: {finding.trial.label}", tooltip=finding.remedy)
        button.on_click(lambda _: self._tried(number))
        return button

    def _chosen(self, change: object = None) -> None:
        made, name = self.made, self.plot.value
        if made is None or name is None or name not in made.plots:
            return
        if name in made.images:
            self.image.value = made.images[name]
        else:
            Thread(target=self._draw, args=(made, name), name="mlxnb-panel-plot", daemon=True).start()

    def _draw(self, made: Drawn, name: str) -> None:
        try:
            made.image(name)
        except Exception as err:  # noqa: BLE001 - the edge of a thread: the panel shows it
            self._panel.fail(err)
            return
        with self._panel.lock:
            if not self._panel.closed and made is self.made and self.plot.value == name:
                self.image.value = made.images[name]


def image_of(plot: Plot) -> str:
    """A plot as an HTML image, with its plain twin as what a screen reader says."""
    data = base64.b64encode(plot.png()).decode()
    says = html.escape(plot.text, quote=True)
    return f'<img class="mlxnb-plot" width="{plot.width}" alt="{says}" src="data:image/png;base64,{data}">'
