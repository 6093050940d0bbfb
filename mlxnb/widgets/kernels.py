"""The kernels panel: which attention path each layer takes, and buttons to prove, measure and exchange them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from ..kernels import active, configure_optimizer, patch_mlx_lm, unpatch_mlx_lm
from ..render.kernel_plot import bench_plot
from ..render.kernels import bench_tables, explain_tables, status_table, traffic_table, tune_table, verify_table
from ..render.plot import Plot
from ..render.table import Table
from ..request import KV_BITS
from .panel import Panel, callback, styled
from .work import Report, Work

if TYPE_CHECKING:
    from ..kernels.bench import Bench
    from ..kernels.verify import Verification

CACHES = (("dense", 0), *((f"{bits}-bit", bits) for bits in KV_BITS))


class KernelsPanel(Panel):
    """The attention of the mlx backend's models. The table of what is in use grows while models answer."""

    title = "Kernels"

    def body(self) -> Sequence[w.Widget]:
        self.on = w.ToggleButtons(
            options=[("mlx-lm's own", False), ("measured fastest", True)], description="Attention"
        )
        self.on.value = active() is not None
        self.model = w.Text(value="pocket", description="Model")
        self.bits = w.Dropdown(options=CACHES, description="KV cache")
        self.verify = _button("Verify", "prove every path against float64")
        self.tune = _button("Tune", "measure the model's shapes now")
        self.bench = _button("Bench", "stock against patched, in turns, by context length")
        self.explain = _button("Explain", "what each path would do for the model's shapes, and why")
        self.work = Work(self, self._changed)
        self._state, self._found, self._plot = w.HTML(), w.HTML(), w.Image(format="png")
        self._plot.layout.display = "none"
        self._last: tuple[list[Table], Plot | None] = ([], None)
        for button, done in (
            (self.verify, self._verify),
            (self.tune, self._tune),
            (self.bench, self._bench),
            (self.explain, self._explain),
        ):
            button.on_click(done)
        self.on.observe(self._exchange, "value")
        rows = (self.on,), (self.model, self.bits), (self.verify, self.tune, self.bench, self.explain)
        shown = self.work.view, self._found, self._plot, self._state
        return [*(styled(w.HBox(row), "mlxnb-row") for row in rows), *shown]

    def picture(self) -> tuple[str, str]:
        tables = [*self._last[0], status_table(active())]
        return "".join(table.part() for table in tables), "\n\n".join(table.text() for table in tables)

    def glance(self) -> None:
        """A cell may patch too."""
        dispatcher = active()
        if not self.work.running:
            self.on.unobserve(self._exchange, "value")
            self.on.value = dispatcher is not None
            self.on.observe(self._exchange, "value")
        self._state.value = status_table(dispatcher).part()

    def leave(self) -> None:
        self.work.stop()

    @callback
    def _exchange(self) -> None:
        def on(report: Report) -> None:
            self.engine.call(lambda: patch_mlx_lm().dispatcher.forget())

        def off(report: Report) -> None:
            configure_optimizer()
            self.engine.call(unpatch_mlx_lm)

        self.work.start("Exchanging attention", on if self.on.value else off)

    @callback
    def _verify(self) -> None:
        from ..kernels.verify import verify

        def done(found: Verification) -> None:
            self._give([verify_table(found), *([traffic_table(found)] if found.traffic else [])])

        self.work.start("Proving kernels", lambda report: self.engine.call(lambda: verify(progress=report)), done)

    @callback
    def _tune(self) -> None:
        from ..runtime.kernel_work import tune

        self._on_model("Measuring attention", tune, lambda found: self._give([tune_table(found)]))

    @callback
    def _explain(self) -> None:
        from ..runtime.kernel_work import explain

        self._on_model("Looking at the model", explain, lambda found: self._give(explain_tables(found)))

    @callback
    def _bench(self) -> None:
        from ..runtime.kernel_work import bench

        def done(found: Bench) -> None:
            self._give(bench_tables(found), bench_plot(found))

        self._on_model("Comparing attention", bench, done)

    def _on_model(self, title: str, work: Callable[..., Any], then: Callable[[Any], None]) -> None:
        name, bits, engine = self.model.value, self.bits.value or None, self.engine

        def now(report: Report) -> Any:
            return engine.call_with(name, lambda model: work(model, name, bits, (), report), "mlx")

        self.work.start(title, now, then)

    def _give(self, tables: Sequence[Table], plot: Plot | None = None) -> None:
        self._last = (list(tables), plot)
        self._found.value = "".join(table.part() for table in tables)
        self._plot.layout.display = None if plot is not None else "none"
        if plot is not None:
            self._plot.value, self._plot.width = plot.png(), str(plot.width)

    def _changed(self) -> None:
        for control in (self.on, self.verify, self.tune, self.bench, self.explain):
            control.disabled = self.work.running


def _button(label: str, tooltip: str) -> w.Button:
    return w.Button(description=label, tooltip=tooltip)
