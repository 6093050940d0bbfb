"""The models panel: what is here and fits, what is in memory, and buttons to load, unload, fetch and convert."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

import ipywidgets as w

from ..backends.base import ModelInfo
from ..models import ModelSource
from ..models.entry import Entry
from ..render.conversion import conversion_tables
from ..render.models import here_tables, memory_table
from ..render.numbers import size
from ..render.transfer import Transfer
from ..runtime.conversion import ConversionReport
from .panel import Panel, callback, styled
from .work import Report, Work

FORMATS = ("mlx", "gguf", "onnx")
BITS = (("as it is", 0), ("8 bit", 8), ("4 bit", 4))
CSS = """
.mlxnb .mlxnb-memory{display:flex;height:12px;margin:4px 0;border:1px solid var(--border)}
.mlxnb .mlxnb-memory>div{min-width:0}
.mlxnb .mlxnb-memory>.mlxnb-weights{background:var(--brand)}
.mlxnb .mlxnb-memory>.mlxnb-states{background:var(--success)}
.mlxnb .mlxnb-memory>.mlxnb-others{background:var(--border)}
.mlxnb .mlxnb-legend{display:flex;flex-wrap:wrap;gap:0 24px;font-variant-numeric:tabular-nums}
.mlxnb .mlxnb-legend span{white-space:nowrap}
.mlxnb .mlxnb-legend i{display:inline-block;width:8px;height:8px;margin:0 8px 0 0}
.mlxnb .mlxnb-legend .mlxnb-weights{background:var(--brand)}
.mlxnb .mlxnb-legend .mlxnb-states{background:var(--success)}
.mlxnb .mlxnb-legend .mlxnb-others{background:var(--border)}
.mlxnb .mlxnb-legend .mlxnb-nothing{border:1px solid var(--border);width:6px;height:6px}
"""


class ModelsPanel(Panel):
    """Models on this machine and in memory. The list is read from disk when the panel opens and after each change."""

    title = "Models"
    css = CSS

    def body(self) -> Sequence[w.Widget]:
        self.entries: list[Entry] = []
        self.model = w.Dropdown(options=["pocket"], description="Model")
        self.backend = w.Dropdown(options=["auto", *self.engine.backends], description="Backend")
        self.load, self.unload = _button("Load"), _button("Unload")
        self.pin = _button("Pin", "keep it in memory when another model needs the room")
        self.again = _button("Look again", "read the list of models once more")
        self.name = w.Text(description="Fetch", placeholder="organisation/name on the Hugging Face Hub")
        self.fetch = _button("Download")
        self.format = w.Dropdown(options=FORMATS, description="Convert to")
        self.bits = w.Dropdown(options=BITS, description="Weights")
        self.convert = _button("Convert", "write the model above in another format, and check it")
        self.work = Work(self, self._changed)
        self._bar, self._table, self._news = w.HTML(), w.HTML(), w.HTML()
        self._held: tuple[ModelInfo, ...] | None = None
        for button, done in (
            (self.load, self._load),
            (self.unload, self._unload),
            (self.pin, self._pin),
            (self.again, self._look_again),
            (self.fetch, self._fetch),
            (self.convert, self._convert),
        ):
            button.on_click(done)
        self.model.observe(lambda _: self._changed(), "value")
        rows = (
            (self.model, self.backend, self.load, self.unload, self.pin, self.again),
            (self.name, self.fetch),
            (self.format, self.bits, self.convert),
        )
        self._changed()
        self._look_again()
        return [self._bar, *(styled(w.HBox(row), "mlxnb-row") for row in rows), self.work.view, self._news, self._table]

    def picture(self) -> tuple[str, str]:
        texts = [memory_table(self.engine.residents()).text()]
        texts += [table.text() for table in here_tables(self.entries, self.engine.models())]
        return self._bar.value + self._table.value, "\n\n".join(texts)

    def glance(self) -> None:
        self._bar.value = self._memory()
        held = tuple(self.engine.models())
        if held != self._held:
            self._held = held
            self._changed()
            self._show()

    def leave(self) -> None:
        self.work.stop()

    @callback
    def _look_again(self) -> None:
        self.work.start("Looking for models", lambda report: self.engine.inventory(), self._found)

    def _found(self, entries: list[Entry]) -> None:
        self.entries = entries
        chosen, names = self.model.value, [entry.name for entry in entries]
        if tuple(names) != tuple(self.model.options):
            self.model.options = names
            self.model.value = chosen if chosen in names else names[0] if names else None
        self._show()

    @callback
    def _load(self) -> None:
        name, backend, transfer = self.model.value, self.backend.value, Transfer()

        def work(report: Report) -> ModelInfo:
            return self.engine.load(name, backend, progress=lambda done, total: report(done, total, ""))

        def done(info: ModelInfo) -> None:
            notes = f" {'; '.join(info.notes)}." if info.notes else ""
            self.say(f"{info.name} is in memory, on {info.backend} {info.device}, {size(info.memory)}.{notes}")

        self.work.start(f"Loading {name}", work, done, lambda d, t: transfer.words(d, t) if t else "")

    @callback
    def _unload(self) -> None:
        name = self.model.value
        self.work.start(f"Unloading {name}", lambda report: self.engine.unload(name))

    @callback
    def _pin(self) -> None:
        name, pinned = self.model.value, not self._pinned()
        self.work.start(f"Pinning {name}", lambda report: self.engine.keep(name, pinned))

    @callback
    def _fetch(self) -> None:
        from ..runtime.downloads import download

        name, transfer = self.name.value.strip(), Transfer()

        def done(source: ModelSource) -> None:
            self.name.value = ""
            self.say(f"{source.name} is here.")
            self._look_again()

        def work(report: Report) -> ModelSource:
            return download(name, None, lambda done, total: report(done, total, ""))

        self.work.start(f"Downloading {name}", work, done, transfer.words)

    @callback
    def _convert(self) -> None:
        source, options = self.model.value, {"to": self.format.value, "quantize": self.bits.value or None}

        def work(report: Report) -> ConversionReport:
            return self.engine.convert(source, progress=report, **options)

        def done(report: ConversionReport) -> None:
            self._news.value = "".join(table.part() for table in conversion_tables(report))
            self._look_again()

        self.work.start(f"Converting {source}", work, done)

    def _pinned(self) -> bool:
        return any(each.pinned for each in self.engine.residents() if each.info.name == self.model.value)

    def _changed(self) -> None:
        """Which buttons mean something now."""
        loaded = any(info.name == self.model.value for info in self.engine.models())
        for button in (self.load, self.fetch, self.convert, self.again):
            button.disabled = self.work.running
        for button in (self.unload, self.pin):
            button.disabled = self.work.running or not loaded
        self.pin.description = "Unpin" if loaded and self._pinned() else "Pin"

    def _show(self) -> None:
        tables = [memory_table(self.engine.residents()), *here_tables(self.entries, self.engine.models())]
        self._table.value = "".join(table.part() for table in tables)

    def _memory(self) -> str:
        status, cache = self.engine.status(), self.engine.cache
        weights = sum(info.memory for info in status.loaded)
        held = cache.stats().held["memory"] if cache is not None else None
        states = held.bytes if held is not None else 0
        others = max(status.memory_total - status.memory_free - weights - states, 0)
        parts = (
            ("weights", "weights", weights),
            ("states", "KV states", states),
            ("others", "everything else", others),
            ("nothing", "free", status.memory_free),
        )
        bar = "".join(
            f'<div class="mlxnb-{kind}" style="width:{100 * part / status.memory_total:.2f}%"></div>'
            for kind, _, part in parts
        )
        legend = "".join(
            f'<span><i class="mlxnb-{kind}"></i>{html.escape(label)} {size(part)}</span>' for kind, label, part in parts
        )
        whole = f"of {size(status.memory_total)}"
        return (
            f'<div class="mlxnb-memory" role="img" aria-label="memory {whole}">{bar}</div>'
            f'<div class="mlxnb-legend">{legend}<span class="mlxnb-secondary">{whole}</span></div>'
        )


def _button(label: str, tooltip: str = "") -> Any:
    return w.Button(description=label, tooltip=tooltip or label)
