"""The models panel: what is here and fits, what is in memory, and buttons to load, unload, fetch and convert."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ipywidgets as w

from ...backends.base import ModelInfo
from ...backends.server_models import known as servers
from ...errors import ModelNotFoundError
from ...models import ModelSource
from ...models.entry import Entry
from ...models.room import Room
from ...render.models import here_tables, memory_table
from ...render.numbers import plural, size
from ...render.transfer import Transfer
from ...runtime.here import card_memory, rooms_on
from ...runtime.standing import Standing
from ..frame.panel import Panel, callback, styled
from ..frame.question import Question
from ..work.aside import Aside
from ..work.waiting import beside, in_turn
from ..work.work import Report, Work
from . import memory_bar
from .convert import Converting
from .view import CSS, places_table, what_html

LOOKING = "Looking for models on this machine and on servers."
ASKING = "Asking each backend whether the model runs and fits there; the engine answers after what it does now."
# What is asked of the engine's thread about a model: how each backend stands, and whether the model fits there.
Places = tuple[list[Standing], dict[str, Room]]


class ModelsPanel(Panel):
    """Models on this machine and in memory. The list is read when the panel opens, and again when something changed."""

    title = "Models"
    css = CSS

    def body(self) -> Sequence[w.Widget]:
        self.entries: list[Entry] | None = None  # None until they were looked for
        self.model = w.Dropdown(options=[("pocket", "pocket")], description="Model")
        self.backend = w.Dropdown(options=["auto", *self.engine.backends], description="Backend")
        self.load = w.Button(description="Load", button_style="primary", tooltip="read it into memory")
        self.unload = _button("Unload", "give its memory back; asks where a KV state or a pin would go too")
        self.pin = _button("Pin", "keep it in memory when another model needs the room")
        self.name = w.Text(description="Fetch", placeholder="ORGANISATION/NAME on the Hub, or ollama:NAME")
        self.fetch = _button("Download", "fetch it to keep; what is here already is not fetched again")
        self.again = _button("Look again", "read the list of models once more")
        self.work, self.question = Work(self, self._changed), Question(self)
        self.converting = Converting(self, self._look)
        self._list, self._about = Aside(self), Aside(self)
        self._bar, self._what = w.HTML(), w.HTML()
        self._places, self._memory = styled(w.HTML(), "mlxnb-places"), styled(w.HTML(), "mlxnb-memories")
        self._table, self._broken = styled(w.HTML(), "mlxnb-list"), styled(w.HTML(), "mlxnb-broken")
        self._held: tuple[object, ...] | None = None
        self._asked: str | None = None  # the model that the backends were asked about
        self._stale = False  # whether to ask them again once they have answered
        self._card: int | None = None  # bytes of the first one
        for button, done in (
            (self.load, self._load),
            (self.unload, self._unload),
            (self.pin, self._pin),
            (self.again, self._look_again),
            (self.fetch, self._fetch),
        ):
            button.on_click(done)
        for control, width in ((self.model, "name"), (self.backend, "short"), (self.name, "long")):
            styled(control, f"mlxnb-{width}")
        self.model.observe(self._choose, "value")
        self._bar.value = self._bars()
        self._show()
        self._look()
        first = styled(w.HBox([self.model, self.backend, self.load, self.unload, self.pin]), "mlxnb-row")
        fetch = styled(w.HBox([self.name, self.fetch]), "mlxnb-row")
        seen = styled(w.VBox([self._places, self._memory, self._table, self._broken]), "mlxnb-models")
        again = styled(w.HBox([self.again]), "mlxnb-row")
        below = [self.question.view, self.work.view, self._notice, self.converting.news, seen, again]
        return [self._bar, first, self._what, fetch, self.converting.row, *below]

    def picture(self) -> tuple[str, str]:
        tables = [memory_table(self.engine.residents()), *here_tables(self.entries or (), self.engine.models())]
        texts = [memory.text() for memory in memory_bar.memories(self.engine, self._card)]
        sheet = f"<style>{memory_bar.CSS}</style>"
        page = sheet + self._bars() + "".join(table.part() for table in tables)
        return page, "\n\n".join([*texts, *(table.text() for table in tables)])

    def glance(self) -> None:
        self._bar.value = self._bars()
        self._memory.value = self._in_memory()
        held = tuple((each.info, each.pinned) for each in self.engine.residents())
        if held != self._held:
            known, self._held = self._held is not None, held
            self._changed()
            if known:
                self._look()  # what is free has changed too

    def leave(self) -> None:
        self.work.stop()

    @callback
    def _look_again(self) -> None:
        servers.forget()  # what they said lately
        self._look()

    def _look(self) -> None:
        engine = self.engine

        def look() -> tuple[list[Entry], int | None]:
            entries = engine.inventory()
            return [*entries, *self.converting.made(entries)], card_memory()

        def found(came: tuple[list[Entry], int | None]) -> None:
            self.entries, self._card = came
            self._show()
            self._ask_places()
            self.keep_picture()

        self._list.start(look, found)

    def _show(self) -> None:
        """The list, and the names to choose from: each once, a usable one before one that is not."""
        entries = self.entries or []
        usable = {entry.name for entry in entries if not entry.problem}
        labels = {entry.name: entry.name if entry.name in usable else f"{entry.name} (damaged)" for entry in entries}
        labels |= {info.name: f"{info.name} (in memory)" for info in self.engine.models() if info.name not in labels}
        chosen, options = self.model.value, [(label, name) for name, label in labels.items()] or [("pocket", "pocket")]
        if tuple(self.model.options) != tuple(options):
            self.model.options = options
            self.model.value = chosen if chosen in labels else next(iter(labels), "pocket")
        self._memory.value = self._in_memory()
        if self.entries is None:
            self._table.value = f'<div class="mlxnb-empty" role="status">{LOOKING}</div>'
            return
        tables = here_tables(entries, self.engine.models())
        self._table.value = tables[0].part()
        self._broken.value = tables[-1].part() if any(entry.problem for entry in entries) else ""
        self._changed()

    @property
    def entry(self) -> Entry | None:
        """What is known of the chosen model."""
        named = [entry for entry in self.entries or () if entry.name == self.model.value]
        return next((entry for entry in named if not entry.problem), named[0] if named else None)

    @callback
    def _choose(self) -> None:
        self._changed()
        self._ask_places()

    def _ask_places(self) -> None:
        """Ask on the engine's thread, behind what it does now, where the chosen model runs and fits."""
        entry, name, engine = self.entry, self.model.value, self.engine
        if self._about.running:
            self._stale = True
            return
        if name != self._asked:
            self._places.value = f'<div class="mlxnb-empty" role="status">{ASKING}</div>'
        if entry is None or entry.problem:
            self._asked, self._places.value = name, ""
            return

        def look() -> Places:
            standings = engine.backends_table(name)
            ready = [each.backend for each in standings if each.status == "ready"]
            return standings, engine.call(lambda: rooms_on(engine.backends, entry, ready))

        self._asked, self._stale = name, False
        self._about.start(look, self._placed)

    def _placed(self, came: Places) -> None:
        if self._stale or self._asked != self.model.value:
            self._stale = False
            self._ask_places()
            return
        self._places.value = places_table(self._asked or "", *came).part(whole=True)

    @callback
    def _load(self) -> None:
        name, backend, transfer, engine = self.model.value, self.backend.value, Transfer(), self.engine
        entry = self.entry
        title = f"Loading {name}" + (f", {size(entry.size)}" if entry is not None and entry.size else "")

        def work(report: Report) -> ModelInfo:
            return in_turn(engine, report, lambda: engine.load(name, backend, progress=_bytes(report)))

        def done(info: ModelInfo) -> None:
            late = " It could not be stopped any more." if self.work.stopping else ""
            notes = f" {'; '.join(info.notes)}." if info.notes else ""
            self.say(f"{info.name} is in memory, on {info.backend} {info.device}, {size(info.memory)}.{notes}{late}")

        self.work.start(title, work, done, lambda d, t: transfer.words(d, t) if t else "")

    @callback
    def _unload(self) -> None:
        name, lost = self.model.value, self._lost()
        if lost:
            self.question.ask(f"Unload {name}? {lost}", "Unload", lambda: self._do_unload(name))
        else:
            self._do_unload(name)

    def _lost(self) -> str:
        """What would go with a model's memory that loading it again does not bring back, in words."""
        copies = [each for each in self.engine.residents() if each.info.name == self.model.value]
        cache = self.engine.cache
        held = cache.in_memory.get(self.model.value) if cache is not None else None
        words = ["It is pinned." if any(each.pinned for each in copies) else ""]
        words += ["It is in use: it goes when that is done." if any(each.in_use for each in copies) else ""]
        if held is not None and held.entries:
            words += [f"{plural(held.entries, 'KV state')} of {size(held.bytes)} in memory go with it."]
        return " ".join(filter(None, words))

    def _do_unload(self, name: str) -> None:
        engine = self.engine

        def done(gone: list[ModelInfo]) -> None:
            self.say(f"{name} was unloaded: {size(sum(info.memory for info in gone))} of weights were given back.")

        self.work.start(f"Unloading {name}", lambda report: in_turn(engine, report, lambda: engine.unload(name)), done)

    @callback
    def _pin(self) -> None:
        name, pinned, engine = self.model.value, not self._pinned(), self.engine
        title = f"Pinning {name}" if pinned else f"Unpinning {name}"
        self.work.start(title, lambda report: in_turn(engine, report, lambda: engine.keep(name, pinned)))

    @callback
    def _fetch(self) -> None:
        from ...runtime.downloads import download

        name, transfer = self.name.value.strip(), Transfer()
        if not name:
            raise ModelNotFoundError("There is no name to fetch.", "Write ORGANISATION/NAME, as the Hub has it.")

        def done(source: ModelSource) -> None:
            self.name.value = ""
            self.say(f"{source.name} is here. Choose it above to load it.")
            self._look()

        def left(done: int, total: int, _: str) -> str:
            return f"{size(done)} of {size(total)} are here: Download goes on from there." if total else ""

        def work(report: Report) -> ModelSource:
            return beside(report, lambda heard: download(name, None, _bytes(heard)))

        self.work.start(f"Downloading {name}", work, done, transfer.words, left)

    def _pinned(self) -> bool:
        return any(each.pinned for each in self.engine.residents() if each.info.name == self.model.value)

    def _changed(self) -> None:
        """Which buttons mean something now, and what is said of the chosen model."""
        entry, running = self.entry, self.work.running
        loaded = [info for info in self.engine.models() if info.name == self.model.value]
        self._what.value = what_html(entry, loaded)
        self.load.disabled = running or (entry is not None and bool(entry.problem) and not loaded)
        self.fetch.disabled = running
        for button in (self.unload, self.pin):
            button.disabled = running or not loaded
        self.pin.description = "Unpin" if loaded and self._pinned() else "Pin"
        if self.question.open and running:
            self.question.withdraw()
        self.converting.offer()

    def _bars(self) -> str:
        return "".join(memory.html() for memory in memory_bar.memories(self.engine, self._card))

    def _in_memory(self) -> str:
        """The models in memory, idle in whole seconds: a figure that changes its width each second is restless."""
        residents = [replace(each, idle=float(int(each.idle))) for each in self.engine.residents()]
        if not residents:
            return '<div class="mlxnb-empty">No model is in memory. Choose one above and press Load.</div>'
        return memory_table(residents).part(whole=True)


def _bytes(report: Report) -> Any:
    """A report of work as a download calls it."""
    return lambda done, total: report(done, total, "")


def _button(label: str, tooltip: str) -> Any:
    return w.Button(description=label, tooltip=tooltip)
