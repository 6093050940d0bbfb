"""The settings panel: what holds where a cell says nothing, where each value came from, and a file to keep them in."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as w

from ..config import FILE, VARIABLES, set_for_kernel, set_here, settings
from ..env_file import write_env_file
from ..errors import OptionError
from ..render.numbers import plural
from ..render.table import Table
from .panel import Panel, callback, styled

GROUPS = {
    "Defaults": {
        "model": "Model",
        "backend": "Backend",
        "max_tokens": "Max tokens",
        "temperature": "Temperature",
        "top_p": "Top p",
        "quantize": "Quantise to",
    },
    "Engine": {
        "keep_alive": "Keep idle models, s",
        "memory_mb": "Memory for models, MB",
        "batch_size": "Rows of a batch",
        "probe": "Measure backends",
        "server_url": "Server",
        "local_models_dir": "Models folder",
    },
    "Caches, from the next kernel on": {
        "cache_dir": "Folder",
        "cache_answers_mb": "Answers, MB",
        "cache_states_mb": "KV states on disk, MB",
        "cache_days": "Keep for days",
    },
}
NAMES = [name for group in GROUPS.values() for name in group]
CSS = """
.mlxnb-panel .mlxnb-setting{align-items:center;gap:4px 16px}
.mlxnb-panel .mlxnb-setting>.widget-text{flex:0 1 480px;width:auto;min-width:0}
.mlxnb-panel .mlxnb-setting>.widget-html{flex:1 1 0;width:auto;min-width:96px}
.mlxnb-panel .mlxnb-setting .widget-label{flex-shrink:1;min-width:0}
.mlxnb-panel .mlxnb-group{font-weight:600;margin:12px 0 4px}
"""


class SettingsPanel(Panel):
    """Each setting is a line: its value, to be changed for this kernel, and where that came from."""

    title = "Settings"
    css = CSS

    def body(self) -> Sequence[w.Widget]:
        self.fields = {name: _field(label) for group in GROUPS.values() for name, label in group.items()}
        self._origins = {name: w.HTML() for name in self.fields}
        self.save = w.Button(description=f"Save to {FILE}", tooltip="write what was changed here beside the notebook")
        self.back = w.Button(description="Take back", tooltip="forget what was changed in this kernel")
        self._shown: dict[str, str] = {}
        self._show()
        for name, field in self.fields.items():
            field.observe(lambda change, name=name: self._change(name), "value")
        self.save.on_click(self._save)
        self.back.on_click(self._take_back)
        lines: list[w.Widget] = []
        for title, group in GROUPS.items():
            lines.append(w.HTML(f'<div class="mlxnb-group">{title}</div>'))
            lines += [styled(w.HBox([self.fields[name], self._origins[name]]), "mlxnb-setting") for name in group]
        return [*lines, styled(w.HBox([self.save, self.back]), "mlxnb-row")]

    def picture(self) -> tuple[str, str]:
        now = settings()
        rows = [(name, _text(name), now.origin[name]) for name in NAMES]
        table = Table(("setting", "value", "from"), rows, bold="value")
        return table.part(whole=True), table.text()

    def glance(self) -> None:
        """%config and the environment change them too."""
        if {name: _text(name) for name in NAMES} != self._shown:
            self._show()

    def _change(self, name: str) -> None:
        with self.lock:
            if self.closed or self.fields[name].value == self._shown[name]:
                return
            self._set(self, name)

    @staticmethod
    def _set(panel: SettingsPanel, name: str) -> None:
        try:
            panel.say("")
            set_for_kernel(name, panel.fields[name].value.strip() or None)
        except OptionError as err:
            panel.fail(err)
        panel._show()

    @callback
    def _save(self) -> None:
        values = {VARIABLES[name][0]: str(value) for name, value in set_here().items() if name in NAMES}
        if not values:
            self.say("Nothing was changed in this kernel.")
            return
        path = Path(FILE).absolute()
        try:
            write_env_file(path, values)
        except OSError as err:
            remedy = "Give the settings in the environment."
            raise OptionError(f"{path} cannot be written: {err.strerror or err}.", remedy) from err
        self.say(f"{plural(len(values), 'setting')} written to {path.name}: {', '.join(values)}.")
        self.keep_picture()

    @callback
    def _take_back(self) -> None:
        for name in NAMES:
            set_for_kernel(name, None)
        self._show()

    def _show(self) -> None:
        now = settings()
        for name, field in self.fields.items():
            givers = now.givers(name) or ["default"]
            over = f", over {', '.join(givers[1:])}" if givers[1:] else ""
            self._shown[name] = _text(name)
            field.value = self._shown[name]
            said = html.escape(f"{givers[0]}{over}")
            self._origins[name].value = f'<div class="mlxnb-secondary">{said}</div>'


def _field(label: str) -> w.Text:
    style = {"description_width": "168px"}
    return w.Text(description=label, placeholder="none", continuous_update=False, style=style)


def _text(name: str) -> str:
    """A setting's value as one writes it; a wrong one as nothing, since whoever gave it may have given a secret."""
    try:
        value = getattr(settings(), name)
    except OptionError:
        return ""
    if isinstance(value, Path) and value.is_relative_to(Path.home()):
        return (Path("~") / value.relative_to(Path.home())).as_posix()  # a notebook that is passed on names nobody
    return "" if value is None else str(value)
