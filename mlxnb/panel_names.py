"""The panels by name, and what each is for: what `%mlxnb panel` and `mlxnb.panel` take."""

from __future__ import annotations

PANELS = {
    "playground": "a prompt, settings to move, answers side by side",
    "chat": "the conversations, each turn to be asked again",
    "models": "what is here and in memory: load, fetch, convert",
    "profile": "where the time goes, while it is measured",
    "kernels": "attention paths: prove, measure, exchange",
    "monitor": "what the engine does now, with limits",
    "settings": "what holds where a cell says nothing",
}
