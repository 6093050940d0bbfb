"""The profile panel: choose what to measure, watch it live, read the report, try what it advises, keep it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from ..config import settings
from ..profiling.asked import asked
from ..profiling.attempts import attempted
from ..profiling.report import Report
from ..profiling.runs.scenarios import NAMES, QUICK
from ..profiling.shown import words
from ..profiling.vitals import Vitals
from ..render.profile import against_bundle, profile_bundle
from .monitor import CSS, FIGURES, SHOWN, tile
from .panel import Panel, callback, close_all, styled
from .work import Report as Heard
from .work import Stopped, Work

if TYPE_CHECKING:
    from ..profiling.profile import Progress

LIVE = ("token rate", "time to first token", "memory of this process")
PERIOD = 0.5  # seconds between two looks while it runs
NO_PLOT = ("no plot", "")


class ProfilePanel(Panel):
    """One profile at a time; what an interrupt leaves is kept and marked partial."""

    title = "Profile"
    css = CSS

    def body(self) -> Sequence[w.Widget]:
        self.report: Report | None = None
        self._vitals: Vitals | None = None
        self.model = w.Text(value=settings().model, description="Model")
        self.backend = w.Dropdown(options=["auto", *self.engine.backends], description="Backend")
        self.scenarios = {name: w.Checkbox(value=name in QUICK, description=name, indent=False) for name in NAMES}
        self.runs = w.BoundedIntText(value=3, min=1, max=100, description="Runs")
        self.max_tokens = w.BoundedIntText(value=128, min=1, max=100_000, description="Max tokens")
        self.run = styled(w.Button(description="Profile", button_style="primary"), "mlxnb-primary")
        self.save = w.Button(description="Save", disabled=True, tooltip="write JSON, Markdown and pictures")
        self.folder = w.Text(value="profile", description="Folder")
        self.earlier = w.Text(description="Earlier", placeholder="a saved report, to compare with")
        self.compare = w.Button(description="Compare", disabled=True)
        self.plot = w.Dropdown(options=[NO_PLOT], description="Plot")
        self.work = Work(self, self._changed)
        self._live, self._page, self._tries = w.HTML(), w.HTML(self._empty()), w.VBox([])
        self._against, self._image = w.HTML(), w.Image(format="png")
        for button, done in ((self.run, self._run), (self.save, self._save), (self.compare, self._compare)):
            button.on_click(done)
        self.plot.observe(self._draw, "value")
        self._image.layout.display = self.plot.layout.display = "none"
        chosen = styled(w.HBox(list(self.scenarios.values())), "mlxnb-row", "mlxnb-scenarios")
        rows = (self.model, self.backend), (self.runs, self.max_tokens, self.run)
        kept = (self.folder, self.save), (self.earlier, self.compare)
        boxes = [styled(w.HBox(row), "mlxnb-row") for row in (*rows, *kept)]
        plot = styled(w.HBox([self.plot]), "mlxnb-row")
        shown = self.work.view, self._live, self._page, self._tries, plot, self._image
        return [boxes[0], chosen, boxes[1], *shown, *boxes[2:], self._against]

    def picture(self) -> tuple[str, str]:
        if self.report is None:
            return self._empty(), "Nothing was measured yet."
        bundle = profile_bundle(self.report)
        return bundle["text/html"], bundle["text/plain"]

    def glance(self) -> None:
        vitals = self._vitals
        if vitals is not None and vitals.moments:
            moments = vitals.moments[-SHOWN:]
            tiles = "".join(tile(figure, moments) for figure in FIGURES if figure.name in LIVE)
            self._live.value = f'<div class="mlxnb-tiles">{tiles}</div>'

    def leave(self) -> None:
        self.work.stop()
        self._end_live()

    @callback
    def _run(self) -> None:
        names = [name for name, box in self.scenarios.items() if box.value]
        options: dict[str, Any] = {"runs": self.runs.value, "max_tokens": self.max_tokens.value}
        options |= {"scenarios": names, "backend": self.backend.value}
        model, engine = self.model.value.strip(), self.engine
        self._vitals = Vitals(engine, PERIOD).__enter__()
        self.work.start("Profiling", lambda report: asked(engine, [model], options, _heard(report)), self._found)

    def _found(self, report: Report) -> None:
        self.report = report
        self._page.value = profile_bundle(report)["text/html"]
        for old in self._tries.children:
            close_all(old)
        self._tries.children = [self._try_button(i) for i, each in enumerate(report.findings, 1) if each.trial]
        names = list(report.plots())
        self.plot.options = [NO_PLOT, *((name.replace("_", " "), name) for name in names)]
        self.plot.layout.display = None if names else "none"
        if names:
            self.plot.value = "roofline" if "roofline" in names else names[0]

    def _try_button(self, number: int) -> w.Button:
        assert self.report is not None
        finding = self.report.findings[number - 1]
        assert finding.trial is not None
        button = w.Button(description=f"Try {number}: {finding.trial.label}", tooltip=finding.remedy)
        button.on_click(self._in_turn(number))
        return button

    def _in_turn(self, number: int) -> Callable[..., None]:
        return lambda _: callback(lambda panel: self._try(number))(self)

    def _try(self, number: int) -> None:
        report, engine = self.report, self.engine
        assert report is not None
        base = {"backend": self.backend.value}
        title = f"Trying finding {number}"
        self.work.start(title, lambda heard: attempted(engine, report, number, _heard(heard), base), self._found)

    @callback
    def _draw(self) -> None:
        name = self.plot.value
        self._image.layout.display = None if name else "none"
        if name and self.report is not None:
            plot = self.report.plots()[name]
            self._image.value, self._image.width = plot.png(), str(plot.width)

    @callback
    def _save(self) -> None:
        if self.report is not None:
            folder = Path(self.folder.value.strip() or "profile").expanduser()
            report = self.report
            self.work.start("Saving", lambda heard: report.save(folder), lambda files: self.say(f"Saved to {folder}."))

    @callback
    def _compare(self) -> None:
        if self.report is not None:
            found = self.report.against(Path(self.earlier.value.strip()).expanduser())
            self._against.value = against_bundle(found)["text/html"]

    def _changed(self) -> None:
        running = self.work.running
        if not running:
            self._end_live()
        for control in (self.run, self.save, self.compare, *self._tries.children):
            control.disabled = running
        self.save.disabled = self.compare.disabled = running or self.report is None

    def _end_live(self) -> None:
        vitals, self._vitals = self._vitals, None
        if vitals is not None:
            vitals.close()
            self._live.value = ""

    def _empty(self) -> str:
        return '<div class="mlxnb-empty">Choose scenarios and press Profile. The report appears here.</div>'


def _heard(report: Heard) -> Callable[[Progress], None]:
    """Tells the panel's line, and ends the profile as an interrupt of the kernel does, which keeps what there is."""

    def heard(now: Progress) -> None:
        try:
            report(now.done, now.total, words(now))
        except Stopped:
            raise KeyboardInterrupt from None

    return heard
