"""The kernels panel: which attention path each layer takes, and buttons to prove, measure and exchange them."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as w

from ...config import settings
from ...decision import Decision, Rejected
from ...errors import KernelError
from ...kernels import active, configure_optimizer, patch_mlx_lm, unpatch_mlx_lm
from ...render.kernel_plot import bench_plot
from ...render.kernels import bench_tables, explain_tables, status_table, traffic_table, tune_table, verify_table
from ...render.numbers import plural
from ...render.table import Table
from ...request import KV_BITS
from ..frame.narrow import stacking
from ..frame.panel import Panel, callback, styled
from ..profile import report_view
from ..profile.report_view import image_of
from ..work.work import Report, Work

if TYPE_CHECKING:
    from ...kernels.bench import Bench
    from ...kernels.verify import Verification
    from ...runtime.kernel_work import Found

CACHES = (("dense", 0), *((f"{bits}-bit", bits) for bits in KV_BITS))
Tables = Callable[[], list[Table]]
WHOLE, SO_FAR, CUT = "", "So far:", "Not whole: what was found until it ended."


class KernelsPanel(Panel):
    """The attention of the mlx backend's models. The table of what is in use grows while models answer."""

    title = "Kernels"
    css = report_view.CSS + ".mlxnb-panel .mlxnb-note{color:var(--secondary);margin:8px 0 0}"

    def body(self) -> Sequence[w.Widget]:
        self.usable = _usable(self.engine.backends)
        self.on = w.ToggleButtons(
            options=[("mlx-lm's own", False), ("measured fastest", True)], description="Attention"
        )
        self.on.value = active() is not None
        self.model = w.Text(value=settings().model, description="Model")
        self.bits = w.Dropdown(options=CACHES, description="KV cache")
        self.verify = _button("Verify", "prove every path against float64; requests wait meanwhile")
        self.tune = styled(
            _button("Tune", "measure the model's shapes now, and remember; requests wait meanwhile"), "mlxnb-primary"
        )
        self.tune.button_style = "primary"
        self.bench = _button("Bench", "stock against patched, in turns, by context length; requests wait meanwhile")
        self.explain = _button("Explain", "what each path would do for the model's shapes, and why")
        self.work = Work(self, self._changed)
        where = w.HTML(f'<div class="mlxnb-secondary">{html.escape(where_it_runs(self.usable))}</div>')
        self._state, self._found, self._plot = w.HTML(), w.HTML(), w.HTML()
        self._tables: list[Table] = []
        self._note = WHOLE
        self._partial: Tables | None = None  # what the work has found, to be made as it is shown
        actions = (self.verify, self._verify), (self.tune, self._tune), (self.bench, self._bench)
        for button, done in (*actions, (self.explain, self._explain)):
            button.on_click(done)
        self.on.observe(self._switched, "value")
        self._changed()
        rows = (self.on,), (self.model, self.bits), (self.verify, self.tune, self.bench, self.explain)
        shown = self.work.view, self._found, self._plot, self._state
        return [where, *(styled(w.HBox(row), "mlxnb-row") for row in rows), *shown]

    def picture(self) -> tuple[str, str]:
        tables = [*self._tables, status_table(active())]
        page = "".join(table.part() for table in tables)
        words = "\n\n".join(filter(None, [self._note, *(table.text() for table in tables)]))
        return _note(self._note) + self._plot.value + page, words

    def glance(self) -> None:
        """A cell may patch too."""
        dispatcher = active()
        if not self.work.running:
            self.on.value = dispatcher is not None
        elif self._partial is not None:
            self._give(self._partial(), SO_FAR)
        self._state.value = stacking(status_table(dispatcher), "state") if dispatcher is not None else _off()

    def leave(self) -> None:
        self.work.stop()

    def _switched(self, change: Any) -> None:
        """By what the change says: a glance may have set the switch back meanwhile, to what holds."""
        wanted = bool(change["new"])
        if wanted != (active() is not None):
            self.do(lambda: self._exchange(wanted))

    def _exchange(self, wanted: bool) -> None:
        def on(report: Report) -> None:
            self.engine.call(lambda: patch_mlx_lm().dispatcher.forget())

        def off(report: Report) -> None:
            configure_optimizer()
            self.engine.call(unpatch_mlx_lm)

        self.work.start("Exchanging attention", on if wanted else off)

    @callback
    def _verify(self) -> None:
        from ...kernels.verify import verify

        def done(found: Verification) -> None:
            self._give([verify_table(found), *([traffic_table(found)] if found.traffic else [])])
            failed = [verdict.path for verdict in found.verdicts if verdict.failed]
            if failed:
                count = sum(len(verdict.failed) for verdict in found.verdicts)
                self.fail(
                    KernelError(
                        f"{plural(count, 'proof')} failed, of {', '.join(failed)}.",
                        "A path that is not equal for a shape is never chosen for it: each is tried first.",
                    )
                )

        def seen(found: Verification) -> None:
            self._partial = lambda: [verify_table(found)]

        self._start("Proving kernels", lambda told: self.engine.call(lambda: verify(progress=told, seen=seen)), done)

    @callback
    def _tune(self) -> None:
        from ...runtime.kernel_work import tune

        def seen(found: list[Found]) -> None:
            self._partial = lambda: [tune_table(found)]

        self._on_model("Measuring attention", tune, lambda found: self._give([tune_table(found)]), seen)

    @callback
    def _explain(self) -> None:
        from ...runtime.kernel_work import explain

        self._on_model("Looking at the model", explain, lambda found: self._give(explain_tables(found)))

    @callback
    def _bench(self) -> None:
        from ...runtime.kernel_work import bench

        def seen(found: Bench) -> None:
            self._partial = lambda: bench_tables(found)

        def done(came: tuple[Bench, str]) -> None:
            found, image = came
            self._give(bench_tables(found))
            self._plot.value = image

        def drawn(found: Bench) -> tuple[Bench, str]:
            return found, image_of(bench_plot(found))

        self._on_model("Comparing attention", bench, done, seen, drawn)

    def _on_model(
        self,
        title: str,
        work: Callable[..., Any],
        then: Callable[[Any], None],
        seen: Callable[..., None] | None = None,
        after: Callable[[Any], Any] = lambda found: found,
    ) -> None:
        """`after` is done with what was found before it is shown, while the engine goes on with others."""
        name, bits, engine = self.model.value.strip(), self.bits.value or None, self.engine
        if not name:
            raise KernelError("No model is named.", "Write the name of one, such as pocket.")
        more = () if seen is None else (seen,)

        def now(report: Report) -> Any:
            return after(engine.call_with(name, lambda model: work(model, name, bits, (), report, *more), "mlx"))

        self._start(title, now, then)

    def _start(self, title: str, work: Callable[[Report], Any], then: Callable[[Any], None]) -> None:
        """The tables of the work before stay until there are new ones; its plot would pass for one of theirs."""
        if self.work.running:
            return

        def ended(came: Any) -> None:
            self._partial = None
            then(came)

        self._partial, self._plot.value = None, ""
        self.work.start(title, work, ended)

    def _give(self, tables: Sequence[Table], note: str = WHOLE) -> None:
        self._tables, self._note = list(tables), note
        self._found.value = _note(note) + "".join(stacking(table, f"found-{i}") for i, table in enumerate(tables))

    def _changed(self) -> None:
        running = self.work.running
        if not running and self._partial is not None:  # it was stopped, or failed
            self._give(self._partial(), CUT)
            self._partial = None
        for control in (self.on, self.verify, self.tune, self.bench, self.explain):
            control.disabled = running or not self.usable


def where_it_runs(usable: Decision) -> str:
    """What is proven and what is measured on this machine, in words."""
    if isinstance(usable, Rejected):
        return f"Nothing to do here: these are kernels of the mlx backend, and {usable.reason}. {usable.remedy}"
    from ...kernels.device import device
    from ...kernels.emulator import compiler

    here = device()
    if here == "metal":
        return "Metal kernels and plain MLX paths are proven and measured on this machine's GPU."
    found = compiler()
    proven = (
        f"Metal kernels cannot be proven here: {found.reason}. {found.remedy}."
        if isinstance(found, Rejected)
        else "Verify proves the Metal kernels on an emulator, which says nothing of their speed or of Apple's compiler."
    )
    measured = (
        f"Tune and Bench measure paths in plain MLX operations on the {here.upper()}; Metal kernels are not measured."
    )
    return f"No Metal here. {proven} {measured}"


def _usable(backends: Any) -> Decision:
    """Whether there is attention to exchange."""
    mlx = backends.get("mlx")
    return mlx.available() if mlx is not None else Rejected("mlx", "this engine has no mlx backend")


def _off() -> str:
    said = "Every layer takes mlx-lm's attention. Choose what was measured fastest, and the path of each appears here."
    return f'<div class="mlxnb-empty">{said}</div>'


def _note(text: str) -> str:
    return f'<div class="mlxnb-note">{html.escape(text)}</div>' if text else ""


def _button(label: str, tooltip: str) -> w.Button:
    return w.Button(description=label, tooltip=tooltip)
