"""The settings panel: what holds where a cell says nothing, where each value came from, and a file to keep them in."""

from __future__ import annotations

import html
from collections.abc import Sequence
from functools import partial
from typing import Any

import ipywidgets as w

from ...backends.select import candidates
from ...config import DEFAULT, FILE, KERNEL, SESSION, SETTINGS, Settings, if_saved, set_for_kernel, set_here, settings
from ...env_file import write_env_file
from ...errors import MlxnbError, OptionError
from ...render.numbers import plural, size
from ...render.table import Table
from ..frame.panel import Panel, callback, styled
from ..frame.question import Question
from ..work.aside import Aside
from .file import Saving, at_home, saving, text_of
from .lines import (
    BUDGETS,
    CSS,
    GROUPS,
    LABELS,
    NAMES,
    WORDS,
    built_in,
    key_html,
    origin_html,
    state,
    text_field,
    told,
)


class SettingsPanel(Panel):
    """Each setting is a line: its value, to be changed for this session, and where that came from."""

    title = "Settings"
    css = CSS

    def body(self) -> Sequence[w.Widget]:
        self.fields = {name: text_field(name, self._words(name)) for name in NAMES}
        self.resets = {name: w.Button(description="Reset") for name in NAMES}
        self._origins = {name: w.HTML() for name in NAMES}
        self._key, self._preview = w.HTML(), w.HTML()
        self.save = w.Button(description=f"Save to {FILE}", button_style="primary")
        self.back = w.Button(description="Take back", tooltip="forget what was changed in this session")
        self.question = Question(self)
        self._asides = {name: Aside(self) for name in ("", *BUDGETS)}
        self._refused: dict[str, MlxnbError] = {}  # of what was typed and not taken
        self._shown: dict[str, str] = {}
        self._seen: object = None
        self._show()
        for name, field in self.fields.items():
            field.observe(partial(self._typed, name), "value")
            self.resets[name].on_click(partial(self._reset, name))
        self.save.on_click(self._save)
        self.back.on_click(self._ask_back)
        buttons = styled(w.HBox([self.save, self.back]), "mlxnb-row")
        return [*self._lines(), self._key, self._preview, buttons, self.question.view, self._notice]

    def picture(self) -> tuple[str, str]:
        now = settings()
        rows = [(name, *told(now, name)) for name in NAMES]
        table = Table(("setting", "value", "from"), rows, bold="value")
        return table.part(whole=True), table.text()

    def glance(self) -> None:
        """%config, the environment and the file change them too."""
        if state(settings()) != self._seen:
            self._show()

    def _lines(self) -> list[w.Widget]:
        lines: list[w.Widget] = []
        for title, group in GROUPS.items():
            lines.append(w.HTML(f'<div class="mlxnb-group">{title}</div>'))
            parts = [[self.fields[name], self.resets[name], self._origins[name]] for name in group]
            lines += [styled(w.HBox(part), "mlxnb-setting") for part in parts]
        return lines

    def _words(self, name: str) -> Sequence[str]:
        return ("auto", *self.engine.backends) if name == "backend" else WORDS.get(name, ())

    def _typed(self, name: str, change: Any) -> None:
        with self.lock:
            if not self.closed and change["new"] != self._shown[name]:
                self.do(lambda: self._give(name, change["new"].strip() or None))

    def _reset(self, name: str, _: object) -> None:
        """What is built in: by taking back what this session said, and over the environment and the file."""
        others = [giver for giver in settings().givers(name) if giver not in (KERNEL, SESSION)]
        self.do(lambda: self._give(name, DEFAULT if others else None))

    def _give(self, name: str, value: Any) -> None:
        self._refused.pop(name, None)
        try:
            if isinstance(value, str):
                SETTINGS[name].read(name, value)
            if name == "backend" and isinstance(value, str):
                candidates(value, self.engine.backends)  # a cell would be refused it
        except MlxnbError as err:
            self._refused[name] = err
            self._show()
            return
        if name in BUDGETS and self.engine.cache is not None:
            look = self._asides[name]
            look.start(lambda: self._lost(name, value), lambda lost: self._take_budget(name, value, lost))
        else:
            self._take(name, value)

    def _take(self, name: str, value: Any) -> None:
        set_for_kernel(name, value, SESSION)
        self._show()
        self.keep_picture()

    def _lost(self, name: str, value: Any) -> str:
        """What a cache would drop with another budget, in words; empty where nothing."""
        cache = self.engine.cache
        assert cache is not None
        read = _read(name, value)
        if name == "cache_days":
            return f"what was not used for {plural(read, 'day')}" if read is not None else ""
        limit = 1_000_000 * read
        held = cache.stats().held
        over = [max(0, usage.bytes - limit) for place in BUDGETS[name] if (usage := held[place]) is not None]
        return f"{size(sum(over))} of what is kept, the least recently used first" if any(over) else ""

    def _take_budget(self, name: str, value: Any, lost: str) -> None:
        if not lost:
            self._resize(name, value)
            return
        text = f"{LABELS[name]}: the smaller budget drops {lost}. It is computed again where it is asked for again."
        self.question.ask(text, "Drop it", lambda: self._resize(name, value), self._show)

    def _resize(self, name: str, value: Any) -> None:
        self._take(name, value)
        self._fit_caches()

    def _fit_caches(self) -> None:
        cache = self.engine.cache
        if cache is not None:
            self._asides[""].start(cache.resize, lambda _: None)

    @callback
    def _save(self) -> None:
        now, changed = settings(), _changed()
        if not changed:
            self.say("Nothing was changed in this session.")
            return
        plan = saving(changed)
        try:
            write_env_file(plan.path, plan.values)
        except OSError as err:
            remedy = "Give the settings in the environment, or start Jupyter in a folder that can be written."
            raise OptionError(f"{at_home(plan.path)} cannot be written: {err.strerror or err}.", remedy) from err
        for name in changed:
            if text_of(plan.then, name) == text_of(now, name):
                set_for_kernel(name, None)  # the file says it now
        names = ", ".join(plan.values)
        self.say(f"{plural(len(plan.values), 'setting')} written to {at_home(plan.path)}: {names}.")
        self._show()
        self.keep_picture()

    @callback
    def _ask_back(self) -> None:
        changed = _changed()
        if not changed:
            self.say("Nothing was changed in this session.")
            return
        names = ", ".join(LABELS[name] for name in changed)
        text = f"Take back {plural(len(changed), 'change')} of this session: {names}? What is saved stays."
        self.question.ask(text, "Take back", self._take_back)

    def _take_back(self) -> None:
        for name in NAMES:
            set_for_kernel(name, None)
        self._refused.clear()
        self._show()
        self._fit_caches()
        self.keep_picture()

    def _show(self) -> None:
        now = settings()
        self._seen = state(now)
        for name, field in self.fields.items():
            self._shown[name] = text_of(now, name)
            if name not in self._refused:
                field.value = self._shown[name]
            self._origins[name].value = origin_html(now, name, self._refused.get(name))
            self.resets[name].disabled = not now.givers(name)
            self.resets[name].tooltip = f"{LABELS[name]}: back to the built-in {built_in(name) or 'nothing'}"
        self._key.value = key_html(now)
        changed = _changed()
        self._preview.value = _preview(now, saving(changed) if changed else None)
        self.save.disabled = self.back.disabled = not changed


def _changed() -> dict[str, Any]:
    """What this session gave, by %config too."""
    return {name: value for name, value in set_here().items() if name in LABELS}


def _read(name: str, value: Any) -> Any:
    """What would hold of a setting with this value: text, DEFAULT, or None for what holds without this session."""
    if value is None:
        return getattr(if_saved({}), name)
    return SETTINGS[name].value() if value is DEFAULT else SETTINGS[name].read(name, value)


def _preview(now: Settings, plan: Saving | None) -> str:
    """What saving would write, and where."""
    path = html.escape(at_home(now.file.path))
    trouble = f"<div>{path} is not read: {html.escape(now.file.trouble)}.</div>" if now.file.trouble else ""
    if plan is None:
        words = f"Nothing was changed in this session. What you change here is saved only by the button, to {path}."
        return f'<div class="mlxnb-saving mlxnb-secondary">{trouble}{words}</div>'
    table = Table(("variable", "will be", "there now", "in a new kernel"), plan.rows(), bold="will be")
    words = f"This session only, until they are saved to {path}:"
    return (
        f'<div class="mlxnb-saving">{trouble}<div class="mlxnb-secondary">{words}</div>{table.part(whole=True)}</div>'
    )
