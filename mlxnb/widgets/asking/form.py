"""The controls of one setting, model, backend and sampling, and the Request and the cell that they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as w

from ...backends.base import Backend
from ...errors import OptionError
from ...render.numbers import significant
from ...request import THINK, Request, option_fields, unescape
from .as_cell import line_of
from .defaults import defaults
from .offers import backend_options, hindrance_html

LABEL = {"description_width": "96px"}
STEPS = {"temperature": 0.05, "top_p": 0.01, "min_p": 0.01, "repetition_penalty": 0.05}
MOST = 2**31 - 1  # where a whole number has no bound of its own


class Form:
    """What to ask with. It begins with the notebook's defaults; `models` are names to offer, of which the box takes any
    other too.
    """

    def __init__(self, backends: Mapping[str, Backend], models: Sequence[str] = ()) -> None:
        now = defaults()
        self._backends, self._at_first = backends, now
        self.model = w.Combobox(
            value=now["model"], options=tuple(models), description="Model", ensure_option=False,
            continuous_update=False, style=LABEL,
        )  # fmt: skip
        self.model.add_class("mlxnb-names")
        offered = backend_options(backends, now["backend"])
        self.backend = w.Dropdown(options=offered, value=now["backend"], description="Backend", style=LABEL)
        self.hindrance = w.HTML()
        self.temperature = _slider("Temperature", "temperature", now)
        self.top_p = _slider("Top p", "top_p", now)
        self.min_p = _slider("Min p", "min_p", now)
        self.top_k = _whole("Top k", "top_k", now)
        low, high = _bounds("repetition_penalty")
        self.repetition_penalty = w.BoundedFloatText(
            value=now["repetition_penalty"], min=low, max=high, step=STEPS["repetition_penalty"],
            description="Repetition", style=LABEL,
        )  # fmt: skip
        self.max_tokens = _whole("Max tokens", "max_tokens", now)
        self.seed = w.Text(value=_or_empty(now["seed"]), description="Seed", placeholder="none", style=LABEL)
        self.think = w.Combobox(
            value=_or_empty(now["think"]), options=THINK, description="Thinking", placeholder="as the model does",
            ensure_option=False, style=LABEL,
        )  # fmt: skip
        self.stop = w.Text(description="Stop at", placeholder="nothing", style=LABEL)
        self.system = w.Textarea(value=now["system"], description="System", placeholder="none", rows=2, style=LABEL)
        self.first = (
            self.model, self.backend, self.hindrance, self.temperature, self.top_p, self.max_tokens, self.seed,
        )  # fmt: skip
        self.rest = (self.system, self.top_k, self.min_p, self.repetition_penalty, self.think, self.stop)
        for name, control in self._controls().items():
            if name in option_fields():
                control.tooltip = option_fields()[name].metadata["help"]
        self.backend.observe(self._hinder, "value")
        self._hinder()

    def offer(self, models: Sequence[str]) -> None:
        """Offer these models; what stands in the box stays."""
        self.model.options = tuple(models)

    def values(self) -> dict[str, Any]:
        """What the controls say, by the names that `Request.of` takes.

        Raises:
            OptionError: text that is no number where one is needed.
        """
        found: dict[str, Any] = {name: control.value for name, control in self._controls().items()}
        found["model"] = found["model"].strip()
        found["seed"] = _number("seed", found["seed"])
        found["think"] = _think(found["think"].strip())
        found["stop"] = (unescape(found["stop"]),) if found["stop"] else ()
        return found

    def options(self) -> dict[str, Any]:
        """What `Request.of` takes: the controls, and the notebook's defaults for what has none, as in a cell.

        Raises:
            OptionError: see `values`.
        """
        return {**defaults(), **self.values()}

    def request(self, prompt: str) -> Request:
        """The Request for `prompt`.

        Raises:
            OptionError, PromptError: what it cannot be made of.
        """
        options = self.options()
        return Request.of(prompt, **{**options, "system": options["system"] or None})

    def own_system(self) -> tuple[str, str]:
        """The system message that the form was given, and the one that it began with, for what has none of its own."""
        default, system = self._at_first["system"], self.system.value
        return ("" if system == default else system), default

    def line(self) -> str:
        """The first line of a cell that asks the same, with no more options than that takes."""
        return line_of(self.values(), defaults())

    def put(self, request: Request) -> None:
        """Set the controls to what a Request asked."""
        controls = self._controls()
        asked = {name: getattr(request.sampling, name, getattr(request, name, None)) for name in controls}
        systems = [message.content for message in request.messages if message.role == "system"]
        stop = request.stop[0] if request.stop else ""
        asked |= {
            "system": systems[0] if systems else "",
            "seed": _or_empty(asked["seed"]),
            "think": _or_empty(asked["think"]),
            "stop": stop.replace("\n", "\\n").replace("\t", "\\t"),
        }
        if request.backend not in [value for _, value in self.backend.options]:
            self.backend.options = backend_options(self._backends, request.backend)
        for name, control in controls.items():
            control.value = asked[name]

    def copy(self, other: Form) -> None:
        """Set the controls as those of another form stand."""
        self.backend.options = other.backend.options
        theirs = other._controls()
        for name, control in self._controls().items():
            control.value = theirs[name].value

    def changed(self, other: Form) -> dict[str, tuple[str, str]]:
        """In what this one differs from another: here and there, by name, in words.

        Raises:
            OptionError: see `values`.
        """
        theirs = other.values()
        ours = self.values()
        return {name: (said(ours[name]), said(theirs[name])) for name in ours if ours[name] != theirs[name]}

    def in_words(self) -> str:
        """The model, and all that is not as the notebook's defaults have it.

        Raises:
            OptionError: see `values`.
        """
        usual, values = defaults(), self.values()
        own = [f"{name} {said(value)}" for name, value in values.items() if name != "model" and value != usual[name]]
        return ", ".join([values["model"], *own])

    def on_change(self, heard: Callable[[], None]) -> None:
        """Call `heard` whenever a control is moved."""
        for control in self._controls().values():
            control.observe(lambda _: heard(), "value")

    def _hinder(self, _: object = None) -> None:
        self.hindrance.value = hindrance_html(self._backends, self.backend.value)
        self.hindrance.layout.display = None if self.hindrance.value else "none"

    def _controls(self) -> dict[str, Any]:
        names = {id(control): name for name, control in vars(self).items() if isinstance(control, w.Widget)}
        return {names[id(each)]: each for each in (*self.first, *self.rest) if each is not self.hindrance}


def _bounds(name: str) -> tuple[float, float]:
    """What a Request takes of an option."""
    meta = option_fields()[name].metadata
    return meta["low"], MOST if meta["high"] is None else meta["high"]


def _slider(label: str, name: str, now: Mapping[str, Any]) -> w.FloatSlider:
    low, high = _bounds(name)
    return w.FloatSlider(
        value=now[name], min=low, max=high, step=STEPS[name], description=label, readout_format=".2f", style=LABEL
    )


def _whole(label: str, name: str, now: Mapping[str, Any]) -> w.BoundedIntText:
    low, high = _bounds(name)
    return w.BoundedIntText(value=now[name], min=low, max=high, description=label, style=LABEL)


def _number(name: str, text: str) -> int | None:
    try:
        return int(text) if text.strip() else None
    except ValueError:
        raise OptionError(f"{name} is {text!r}.", "It takes a whole number, or nothing.") from None


def _think(text: str) -> str | int | None:
    return int(text) if text.isdecimal() else text or None


def _or_empty(value: Any) -> str:
    return "" if value is None else str(value)


def said(value: Any) -> str:
    """A control's value in words."""
    if isinstance(value, float):
        return significant(value)
    if isinstance(value, tuple):
        return " ".join(map(repr, value)) or "none"
    return "none" if value in (None, "") else str(value)
