"""The profile panel: choose what to measure, watch it live, read the report, try what it advises, keep it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from ...config import settings
from ...errors import OptionError
from ...profiling.asked import asked, was_stopped
from ...profiling.attempts import attempted
from ...profiling.runs.scenarios import NAMES, QUICK, scenario
from ...profiling.trials import outcome
from ...profiling.vitals import Vitals
from ...render.numbers import plural
from ...render.profile import against_bundle
from ..frame.panel import Panel, callback, styled
from ..monitor import tiles
from ..work.stoppable import Heard, Stoppable
from ..work.work import Work
from . import report_view
from .report_view import Drawn, ReportView, drawn

if TYPE_CHECKING:
    from ...profiling.report import Report

LIVE = tuple(
    figure for figure in tiles.FIGURES if figure.name in ("Token rate", "Time to first token", "Memory of this process")
)
PERIOD = 0.5  # seconds between two looks while it runs
EMPTY = "Choose scenarios and press Profile. The report appears here."
CSS = """
.mlxnb-panel .mlxnb-scenarios .mlxnb-of{width:80px;text-align:right}
.mlxnb-panel .mlxnb-scenarios .widget-checkbox{width:auto}
"""
STOPPED = "Stopped: the report holds what was measured until then."


class ProfilePanel(Panel):
    """One profile at a time; what a stop leaves is kept and marked partial. `report` is the last one, in Python."""

    title = "Profile"
    css = tiles.CSS + report_view.CSS + CSS

    def body(self) -> Sequence[w.Widget]:
        self.report: Report | None = None
        self._vitals: Vitals | None = None
        self._replaces: Path | None = None  # a folder with a report in it, where Save was pressed once
        self.model = w.Text(value=settings().model, description="Model")
        self.backend = w.Dropdown(options=["auto", *self.engine.backends], description="Backend")
        self.scenarios = {name: _box(name) for name in NAMES}
        self.runs = w.BoundedIntText(value=3, min=1, max=100, description="Runs")
        self.max_tokens = w.BoundedIntText(value=128, min=1, max=100_000, description="Max tokens")
        self.run = styled(w.Button(description="Profile", button_style="primary"), "mlxnb-primary")
        self.save = w.Button(description="Save", disabled=True, tooltip="write JSON, Markdown and pictures")
        self.folder = w.Text(value="profile", description="Folder")
        self.earlier = w.Text(description="Earlier", placeholder="folder or file of a saved report")
        self.compare = w.Button(description="Compare", disabled=True, tooltip="this report beside an earlier one")
        self.work = Work(self, self._changed)
        self.shown = ReportView(self, EMPTY, self._in_turn)
        self._live, self._against = w.HTML(), w.HTML()
        for button, done in ((self.run, self._run), (self.save, self._save), (self.compare, self._compare)):
            button.on_click(done)
        label = styled(w.HTML("Scenarios"), "mlxnb-of")
        chosen = styled(w.HBox([label, *self.scenarios.values()]), "mlxnb-row", "mlxnb-scenarios")
        python = w.HTML('<span class="mlxnb-secondary">in Python <code>mlxnb.panel("profile").report</code></span>')
        rows = (self.model, self.backend), (self.runs, self.max_tokens, self.run)
        kept = (self.folder, self.save, python), (self.earlier, self.compare)
        asked_for, many, saved, compared = (styled(w.HBox(row), "mlxnb-row") for row in (*rows, *kept))
        parts = self.work.view, self._live, self.shown.view
        return [asked_for, chosen, many, *parts, saved, compared, self._against]

    def picture(self) -> tuple[str, str]:
        made = self.shown.made
        if made is None:
            return f'<div class="mlxnb-empty">{EMPTY}</div>', "Nothing was measured yet."
        return self.shown.html() + self._against.value, made.text

    def glance(self) -> None:
        vitals = self._vitals
        if vitals is not None:
            self._live.value = tiles.tiles(LIVE, vitals.moments)

    def leave(self) -> None:
        self.work.stop()
        self._end_live()

    @callback
    def _run(self) -> None:
        names = [name for name, box in self.scenarios.items() if box.value]
        if not names:
            raise OptionError("No scenario is chosen.", "Choose at least one: simple is the quickest.")
        model, engine = self.model.value.strip(), self.engine
        if not model:
            raise OptionError("No model is named.", "Write the name of one, such as pocket.")
        options: dict[str, Any] = {"runs": self.runs.value, "max_tokens": self.max_tokens.value}
        options |= {"scenarios": names, "backend": self.backend.value}
        self._measure("Profiling", lambda heard: asked(engine, [model], options, heard), self._found)

    def _found(self, made: Drawn) -> None:
        self._show(made)
        if was_stopped(made.report):
            self.say(STOPPED)

    def _show(self, made: Drawn) -> None:
        self.report, self._replaces = made.report, None
        self._against.value = ""
        self.shown.show(made)

    def _in_turn(self, number: int) -> None:
        self.do(lambda: self._try(number))

    def _try(self, number: int) -> None:
        report, engine = self.report, self.engine
        if report is None:
            return

        def tried(made: Drawn) -> None:
            self._show(made)
            self.say(outcome(made.report.findings[number - 1]))

        self._measure(f"Trying finding {number}", lambda heard: attempted(engine, report, number, heard), tried)

    def _measure(self, title: str, work: Callable[[Heard], Report], then: Callable[[Drawn], None]) -> None:
        """Run it with live plots; a second click that came before the buttons were off does nothing."""
        if self.work.running:
            return
        running, plot = Stoppable(self.engine), self.shown.plot.value
        self._vitals = Vitals(self.engine, PERIOD).__enter__()
        self._live.value = tiles.tiles(LIVE, ())
        self.shown.say("The report appears here.")

        def now(told: Any) -> Drawn:
            return drawn(running.run(work, told), plot or report_view.FIRST)

        self.work.start(title, now, then, stopping=running.stop)

    @callback
    def _save(self) -> None:
        report = self.report
        if report is None:
            return
        named = self.folder.value.strip() or "profile"
        folder = Path(named).expanduser()
        if (folder / "report.json").exists() and self._replaces != folder:
            self._replaces = folder
            self.say(f"There is a report in {named}.", "Press Save again to replace it, or name another folder.")
            return
        self._replaces = None

        def saved(files: Sequence[Path]) -> None:
            names = ", ".join(file.name for file in files[:2])
            self.say(f"Saved to {named}: {names} and {plural(len(files) - 2, 'picture')}.")

        self.work.start("Saving", lambda told: report.save(folder), saved)

    @callback
    def _compare(self) -> None:
        report, earlier = self.report, self.earlier.value.strip()
        self._against.value = ""
        if report is None:
            return
        if not earlier:
            raise OptionError("No earlier report is named.", "Write the folder or the file that one was saved to.")

        def compared(page: str) -> None:
            self._against.value = page

        self.work.start("Comparing", lambda told: against_bundle(report.against(earlier))["text/html"], compared)

    def _changed(self) -> None:
        running = self.work.running
        if not running:
            self._end_live()
            self.shown.say(EMPTY)
        for control in (self.run, *self.shown.tries.children):
            control.disabled = running
        self.save.disabled = self.compare.disabled = running or self.report is None

    def _end_live(self) -> None:
        vitals, self._vitals = self._vitals, None
        if vitals is not None:
            vitals.close()
            self._live.value = ""


def _box(name: str) -> w.Checkbox:
    return w.Checkbox(value=name in QUICK, description=name, indent=False, tooltip=scenario(name).about)
