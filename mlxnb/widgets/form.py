"""The controls of one setting, model, backend and sampling, and the Request and the cell that they stand for."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets as w

from ..config import settings
from ..errors import OptionError
from ..render.numbers import significant
from ..request import THINK, Request, option_fields, unescape

# A slider is for what people use; more is typed, up to what a Request takes.
WARMEST = 2.0
LABEL = {"description_width": "96px"}
BUILT_IN = {"model": "pocket", "backend": "auto", "system": "", "think": None, "stop": (), "raw": False}


class Form:
    """What to ask with. `models` are names to offer, of which the box takes any other too."""

    def __init__(self, backends: Sequence[str], models: Sequence[str] = ()) -> None:
        now, bounds = settings(), option_fields()
        self.model = w.Combobox(
            value=now.model, options=tuple(models), description="Model", ensure_option=False, continuous_update=False,
            style=LABEL,
        )  # fmt: skip
        names = ["auto", *backends] if now.backend in ("auto", *backends) else [now.backend, "auto", *backends]
        self.backend = w.Dropdown(options=names, value=now.backend, description="Backend", style=LABEL)
        self.temperature = w.FloatSlider(
            value=now.temperature, min=0, max=max(WARMEST, now.temperature), step=0.05, description="Temperature",
            readout_format=".2f", style=LABEL,
        )  # fmt: skip
        self.top_p = _share("Top p", now.top_p)
        self.min_p = _share("Min p", built_in("min_p"))
        self.top_k = _whole("Top k", built_in("top_k"), 0, None)
        penalty = bounds["repetition_penalty"]
        self.repetition_penalty = w.BoundedFloatText(
            value=penalty.default, min=penalty.metadata["low"], max=penalty.metadata["high"], step=0.05,
            description="Repetition", style=LABEL,
        )  # fmt: skip
        self.max_tokens = _whole("Max tokens", now.max_tokens, 1, None)
        self.seed = w.Text(description="Seed", placeholder="none", style=LABEL)
        self.think = w.Combobox(
            options=THINK, description="Thinking", placeholder="as the model does", ensure_option=False, style=LABEL
        )
        self.stop = w.Text(description="Stop at", placeholder="nothing", style=LABEL)
        self.system = w.Textarea(description="System", placeholder="none", rows=2, style=LABEL)
        self.first = (self.model, self.backend, self.temperature, self.top_p, self.max_tokens, self.seed)
        self.rest = (self.system, self.top_k, self.min_p, self.repetition_penalty, self.think, self.stop)
        for control, name in self._controls():
            if name in bounds:
                control.tooltip = bounds[name].metadata["help"]

    def options(self) -> dict[str, Any]:
        """What `Request.of` takes, as the controls stand.

        Raises:
            OptionError: text that is no number where one is needed.
        """
        found: dict[str, Any] = {name: control.value for control, name in self._controls()}
        found["seed"] = _number("seed", found["seed"])
        found["think"] = _think(found["think"].strip())
        found["stop"] = (unescape(found["stop"]),) if found["stop"] else ()
        return found

    def request(self, prompt: str) -> Request:
        """The Request for `prompt`.

        Raises:
            OptionError, PromptError: what it cannot be made of.
        """
        options = self.options()
        return Request.of(prompt, **{**options, "system": options["system"] or None})

    def line(self) -> str:
        """The first line of a cell that asks the same, with no more options than that takes."""
        words = ["%%generate"]
        defaults = BUILT_IN | {name: f.default for name, f in option_fields().items()}
        here = {name: getattr(settings(), name) for name in ("model", "backend", "max_tokens", "temperature", "top_p")}
        for name, value in self.options().items():
            if value != (defaults | here)[name]:
                words += _flags(name, value)
        return " ".join(words)

    def put(self, request: Request) -> None:
        """Set the controls to what a Request asked."""
        asked = {name: getattr(request.sampling, name, getattr(request, name, None)) for _, name in self._controls()}
        systems = [message.content for message in request.messages if message.role == "system"]
        texts = {
            "system": systems[0] if systems else "",
            "seed": "" if asked["seed"] is None else str(asked["seed"]),
            "think": "" if asked["think"] is None else str(asked["think"]),
            "stop": request.stop[0] if request.stop else "",
        }
        for control, name in self._controls():
            control.value = texts.get(name, asked[name])

    def changed(self, other: Form) -> str:
        """In what this one differs from another, in words; empty where in nothing."""
        theirs = other.options()
        return ", ".join(f"{name} {_said(value)}" for name, value in self.options().items() if value != theirs[name])

    def on_change(self, heard: Callable[[], None]) -> None:
        """Call `heard` whenever a control is moved."""
        for control, _ in self._controls():
            control.observe(lambda _: heard(), "value")

    def _controls(self) -> list[tuple[Any, str]]:
        names = {id(control): name for name, control in vars(self).items() if isinstance(control, w.Widget)}
        return [(control, names[id(control)]) for control in (*self.first, *self.rest)]


def built_in(name: str) -> Any:
    """What holds for an option where nobody says anything."""
    return option_fields()[name].default


def _share(label: str, value: float) -> w.FloatSlider:
    return w.FloatSlider(value=value, min=0, max=1, step=0.01, description=label, readout_format=".2f", style=LABEL)


def _whole(label: str, value: int, low: int, high: int | None) -> w.BoundedIntText:
    return w.BoundedIntText(value=value, min=low, max=high or 2**31 - 1, description=label, style=LABEL)


def _number(name: str, text: str) -> int | None:
    try:
        return int(text) if text.strip() else None
    except ValueError:
        raise OptionError(f"{name} is {text!r}.", "It takes a whole number, or nothing.") from None


def _think(text: str) -> str | int | None:
    return int(text) if text.isdecimal() else text or None


def _said(value: Any) -> str:
    return significant(value) if isinstance(value, float) else str(value)


def _flags(name: str, value: Any) -> list[str]:
    values = value if isinstance(value, tuple) else (value,)
    return [word for each in values for word in (f"--{name.replace('_', '-')}", quoted(each))]


def quoted(value: Any) -> str:
    """A value as one word of a magic's line: quotes are a shell's, backslashes are text, {{ }} is a template."""
    text = str(value)
    if "\n" in text or "{{" in text:
        text = "{{ " + json.dumps(text, ensure_ascii=False) + " }}"
    return shlex.quote(text)


def body(prompt: str) -> str:
    """A prompt as a cell's body, in which {{ }} is a template."""
    return prompt.replace("{{", '{{ "{{" }}')
