"""The lines of the settings panel: which settings it has, in what words, and what it says of each."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import ipywidgets as w

from ...config import SETTINGS, Settings, set_here
from ...errors import MlxnbError, OptionError
from .file import at_home, text_of

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
        "lm": "mlxnb.lm runs on",
    },
    "Caches": {
        "cache_answers_mb": "Answers, MB",
        "cache_states_mb": "KV states on disk, MB",
        "cache_days": "Keep for, days",
        "cache_dir": "Folder",
    },
}
LABELS = {name: label for group in GROUPS.values() for name, label in group.items()}
NAMES = list(LABELS)
NOTHING = {
    "quantize": "as they are stored",
    "memory_mb": "as much as is free",
    "batch_size": "as many as memory holds",
    "server_url": "none",
    "local_models_dir": "none",
    "cache_days": "for ever",
}
WORDS = {"quantize": ("none", "int8", "int4"), "probe": ("auto", "off"), "lm": ("auto", "mlx", "torch")}
# When a change counts, where that is not with whatever is asked next.
WHEN = {
    "keep_alive": "counts for models loaded from now on",
    "memory_mb": "counts from the next load on",
    "cache_dir": "counts in the next kernel, once it is saved",
}
# What takes something away where it gets smaller: the budgets of caches, each with the places that it is for.
BUDGETS = {"cache_answers_mb": ("results", "rows"), "cache_states_mb": ("disk",), "cache_days": ()}
CSS = """
.mlxnb-panel .mlxnb-setting{align-items:center;gap:0 8px;flex-wrap:wrap;margin:0 0 4px}
.mlxnb-panel .mlxnb-setting>:is(.widget-text,.widget-combobox){flex:0 1 440px;width:auto;min-width:0;margin:0}
.mlxnb-panel .mlxnb-setting>.widget-button{flex:0 0 auto;padding:0 8px}
.mlxnb-panel .mlxnb-setting>.widget-html{flex:1 1 200px;width:auto;min-width:0}
.mlxnb-panel .mlxnb-setting .widget-label{flex-shrink:1;min-width:0}
.mlxnb-panel .mlxnb-origin{overflow-wrap:anywhere;padding:0 0 0 8px}
.mlxnb-panel .mlxnb-wrong{border-left:2px solid var(--error)}
.mlxnb-panel .mlxnb-group{font-weight:600;margin:12px 0 4px}
.mlxnb-panel .mlxnb-key{display:flex;gap:0 8px}
.mlxnb-panel .mlxnb-key>:first-child{flex:0 0 168px;text-align:right}
.mlxnb-panel .mlxnb-saving{margin:16px 0 0;padding:8px 0 0;border-top:1px solid var(--border);overflow-wrap:anywhere}
.mlxnb-panel .mlxnb-setting>.widget-button[disabled]{visibility:hidden}
@container (max-width:700px){
.mlxnb-panel .mlxnb-setting>:is(.widget-text,.widget-combobox){flex:1 1 calc(100% - 80px)}
.mlxnb-panel .mlxnb-setting>.widget-html{flex:1 1 100%;padding:0 0 0 168px}
.mlxnb-panel .mlxnb-setting{margin:0 0 8px}
.mlxnb-panel .mlxnb-saving td{overflow-wrap:anywhere}
.mlxnb-panel .mlxnb-saving td:first-child{min-width:96px}}
@container (max-width:420px){
.mlxnb-panel .mlxnb-setting>:is(.widget-text,.widget-combobox){flex-direction:column;align-items:stretch;height:auto}
.mlxnb-panel .mlxnb-setting .widget-label{width:auto!important;text-align:left}
.mlxnb-panel .mlxnb-setting>.widget-button{align-self:flex-end}
.mlxnb-panel .mlxnb-setting>.widget-html{padding:0}
.mlxnb-panel .mlxnb-key>:first-child{flex:0 0 auto}}
"""


def text_field(name: str, words: Sequence[str]) -> w.Text:
    """What a setting is typed into; with `words` to choose from, of which it takes others too."""
    style, nothing = {"description_width": "168px"}, NOTHING.get(name, "")
    kind = {"description": LABELS[name], "placeholder": nothing, "continuous_update": False, "style": style}
    return w.Combobox(options=tuple(words), ensure_option=False, **kind) if words else w.Text(**kind)


def told(now: Settings, name: str) -> tuple[str | None, str]:
    """A setting's value and where it came from; None where it is wrong, and then what is wrong with it."""
    try:
        getattr(now, name)
    except OptionError as err:
        return None, f"{err.message} {err.remedy}".strip()
    givers = now.givers(name) or ["default"]
    over = f", over {', '.join(givers[1:])}" if givers[1:] else ""
    return text_of(now, name), f"{givers[0]}{over}"


def built_in(name: str) -> str:
    """What holds where nobody says anything, in words."""
    value = SETTINGS[name].value()
    return at_home(value) if isinstance(value, Path) else "" if value is None else str(value)


def state(now: Settings) -> object:
    """What tells whether the panel shows what is so."""
    return [told(now, name) for name in NAMES], now.givers("api_key"), now.file, set_here()


def key_html(now: Settings) -> str:
    """Whether there is a key, and never what it is."""
    value, source = told(now, "api_key")
    given = f"given by {source}, and never shown" if value else "none; MLXNB_API_KEY gives one"
    given = source if value is None else given
    return f'<div class="mlxnb-key"><span>API key</span><span class="mlxnb-secondary">{html.escape(given)}</span></div>'


def origin_html(now: Settings, name: str, refused: MlxnbError | None) -> str:
    """Where a value came from and when it counts; or what is wrong with it, and what was typed and not taken."""
    if refused is not None:
        holds = f"{refused.message} {refused.remedy} What holds is {text_of(now, name) or 'nothing'}."
        return f'<div class="mlxnb-origin mlxnb-wrong" role="alert">{html.escape(holds)}</div>'
    value, source = told(now, name)
    wrong = " mlxnb-wrong" if value is None else " mlxnb-secondary"
    said = f"{source}; {WHEN[name]}" if name in WHEN and value is not None else source
    return f'<div class="mlxnb-origin{wrong}">{html.escape(said)}</div>'
