"""The row of the models panel that converts the chosen model: to which format, in what precision, into which place."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import ipywidgets as w

from ...conversion import KINDS, Conversion
from ...errors import MlxnbError
from ...models import ModelSource, resolve
from ...models.convert_to import default_target
from ...models.entry import Entry
from ...render.conversion import conversion_tables
from ...runtime.conversion import ConversionReport
from ...runtime.here import described
from ..frame.panel import styled
from ..settings.file import at_home
from ..work.work import Report

if TYPE_CHECKING:
    from .panel import ModelsPanel


class Converting:
    """`panel` has the model, the question that is asked before something is replaced, and the place of the work;
    `look` reads its list of models anew.
    """

    def __init__(self, panel: ModelsPanel, look: Callable[[], None]) -> None:
        self._panel, self._look = panel, look
        self.format = styled(w.Dropdown(options=tuple(KINDS), description="Convert to"), "mlxnb-short")
        self.bits = styled(w.Dropdown(description="Weights", style={"description_width": "64px"}), "mlxnb-short")
        self.into = styled(w.Text(description="Into", style={"description_width": "40px"}), "mlxnb-into")
        self.button = w.Button(description="Convert", tooltip="write the model above in another format, and check it")
        self.row = styled(w.HBox([self.format, self.bits, self.into, self.button]), "mlxnb-row")
        self.news = w.HTML()  # what the last conversion cost
        self._made: list[str] = []
        self.format.observe(self._moved, "value")
        self.bits.observe(self._moved, "value")
        self.button.on_click(lambda _: panel.do(self._ask))

    def offer(self) -> None:
        """The precisions of the chosen format, where the new model would go, and whether there can be one."""
        options = (("as it is", 0), *((kind, bits) for bits, kind in KINDS[self.format.value].items()))
        if self.bits.options != options:
            chosen = self.bits.value
            self.bits.options = options
            self.bits.value = chosen if chosen in dict(options).values() else 0
        try:
            target = self._default(self._how())
        except MlxnbError:  # whoever presses the button is told
            target = None
        self.into.placeholder = at_home(target.absolute()) if target is not None else ""
        entry = self._panel.entry
        able = entry is not None and entry.format == "safetensors" and not entry.problem
        self.button.disabled = self._panel.work.running or not able

    def made(self, entries: Sequence[Entry]) -> Iterator[Entry]:
        """What was converted here and is in no list, for it need not lie where models are looked for."""
        known = {os.path.realpath(entry.path) for entry in entries if entry.path.name}
        for path in dict.fromkeys(self._made):
            if os.path.exists(path) and os.path.realpath(path) not in known:
                yield replace(described(resolve(path, download=False)), where="converted here")

    def _moved(self, _: object) -> None:
        with self._panel.lock:
            self.offer()

    def _how(self) -> Conversion:
        return Conversion(self.format.value, self.bits.value or None)

    def _default(self, how: Conversion) -> Path | None:
        """Where a converted model goes by itself; None where that is not known before the work."""
        entry = self._panel.entry
        if entry is None or entry.problem or entry.format != "safetensors":
            return None
        return default_target(ModelSource(entry.name, entry.path, "path"), how)

    def _ask(self) -> None:
        how, place, source = self._how(), self.into.value.strip(), self._panel.model.value
        target = Path(place).expanduser() if place else self._default(how)
        if target is not None and os.path.lexists(target):
            text = f"{at_home(target.absolute())} is there already. Replace it by {source}, converted?"
            self._panel.question.ask(text, "Replace", lambda: self._start(source, how, target, True))
        else:
            self._start(source, how, target, False)

    def _start(self, source: str, how: Conversion, target: Path | None, force: bool) -> None:
        panel, engine = self._panel, self._panel.engine

        def work(report: Report) -> ConversionReport:
            return engine.convert(source, target, to=how.to, quantize=how.bits, force=force, progress=report)

        def done(report: ConversionReport) -> None:
            self._made.append(report.target)
            self.news.value = "".join(table.part() for table in conversion_tables(report))
            panel.say(f"{source} was converted into {at_home(Path(report.target).absolute())}.")
            self._look()

        def left(_: int, __: int, doing: str) -> str:
            self._look()
            return "The new model is whole; only its check is missing." if doing.startswith("checking ") else ""

        panel.work.start(f"Converting {source}", work, done, left=left)
