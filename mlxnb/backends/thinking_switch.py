"""Tells a chat template whether its model shall think, in the template's own words, and knows where it did not listen.

Every family's template has a switch of another name. Which one is there is not taken from a model's name: a switch
counts if the template names it, and renders the conversation otherwise with it on than with it off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .thinking import HARMONY

# What a template takes, with what it takes for on and for off.
SWITCHES: tuple[tuple[str, Any, Any], ...] = (
    ("enable_thinking", True, False),  # Qwen, GLM, Gemma 4, SmolLM3, Hunyuan, EXAONE 4, Apertus
    ("thinking", True, False),  # DeepSeek V3.1, Granite, Kimi K2.5
    ("reasoning", True, False),  # Cohere
    ("thinking_mode", "enabled", "disabled"),  # MiniMax
    ("thinking_option", "on", "off"),  # Ling, Ring
    ("thinking_budget", -1, 0),  # Seed-OSS, in tokens; -1 is no limit
    ("reasoning_effort", "high", "none"),  # Mistral
)
BUDGET = "thinking_budget"
EFFORT, LEAST = "reasoning_effort", "low"
# What a template may look for in the messages instead (Nemotron, SmolLM3).
THINK, NO_THINK = "/think", "/no_think"

Messages = list[dict[str, str]]
Render = Callable[..., str]


@dataclass(frozen=True, slots=True)
class Told:
    """A conversation as the template is to be given it, with the variables it takes; `refused` is why it did not take
    what was asked, in words.
    """

    messages: Messages
    variables: dict[str, Any]
    refused: str = ""


def told(
    think: str | int | None, messages: Messages, template: str, markers: tuple[str, str] | None, render: Render
) -> Told:
    """How to ask for `think`, which is "on", "off", or tokens that thinking may take. `render` gives the text of a
    conversation, with what a template takes as keywords, and may raise anything.
    """
    if think is None:
        return Told(messages, {})
    off = think in ("off", 0)
    if markers == HARMONY.pair:
        return _effort(off, messages, template)
    for name, on_value, off_value in SWITCHES:
        if re.search(rf"\b{name}\b", template) and _differ(messages, render, name, (on_value, off_value)):
            value = off_value if off else think if name == BUDGET and think != "on" else on_value
            return Told(messages, {name: value})
    words = [_said(messages, word) for word in (THINK, NO_THINK)]
    if NO_THINK in template and _heard(words, render):
        return Told(words[off], {})
    if isinstance(think, int) or (think == "on" and _opens(messages, markers, render)):
        return Told(messages, {})  # a budget is kept by counting, and a block that is opened anyway is on
    return Told(messages, {}, "its chat template has no switch for thinking")


def _effort(off: bool, messages: Messages, template: str) -> Told:
    """gpt-oss always thinks: how long, it is told in a word."""
    if not off:
        return Told(messages, {})
    why = "this family always thinks"
    if EFFORT not in template:
        return Told(messages, {}, why)
    return Told(messages, {EFFORT: LEAST}, f"{why}: it was asked for {EFFORT} {LEAST} instead")


def _differ(messages: Messages, render: Render, name: str, values: Sequence[Any]) -> bool:
    try:
        on, off = (render(messages, **{name: value}) for value in values)
    except Exception:  # noqa: BLE001 - a template is a stranger's code: one that refuses a value has no such switch
        return False
    return on != off


def _said(messages: Messages, word: str) -> Messages:
    """The conversation with a word at the end of its system message."""
    if messages[0]["role"] != "system":
        return [{"role": "system", "content": word}, *messages]
    return [{**messages[0], "content": f"{messages[0]['content']}\n{word}"}, *messages[1:]]


def _heard(words: Sequence[Messages], render: Render) -> bool:
    """Whether the template makes more of the two words than to pass them on."""
    try:
        on, off = (render(messages) for messages in words)
    except Exception:  # noqa: BLE001 - as in `_differ`
        return False
    return on.replace(THINK, "") != off.replace(NO_THINK, "")


def _opens(messages: Messages, markers: tuple[str, str] | None, render: Render) -> bool:
    try:
        return markers is not None and render(messages).rstrip().endswith(markers[0])
    except Exception:  # noqa: BLE001 - as in `_differ`; rendering it in earnest says what is wrong
        return False
