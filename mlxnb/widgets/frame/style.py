"""The look of the panels, on top of that of outputs: theme variables, an 8-pixel grid, two columns that stack."""

from __future__ import annotations

import re

from ...render import style

PANEL = """
.mlxnb-panel{container-type:inline-size;border:1px solid var(--border);border-radius:2px;padding:12px 16px 16px;
margin:0;overflow:hidden;color:var(--jp-ui-font-color1,inherit);font-family:var(--jp-ui-font-family,inherit);
font-size:var(--small);line-height:1.5}
.mlxnb-panel .widget-html,.mlxnb-panel .widget-html-content{margin:0;line-height:inherit;height:auto;overflow:visible}
.mlxnb-panel .widget-html-content{width:100%;align-self:stretch}
.mlxnb-panel .mlxnb-head{justify-content:space-between;align-items:baseline;margin:0 0 8px;flex-wrap:wrap;
gap:0 16px}
.mlxnb-panel .mlxnb-title{font-size:1.15em;font-weight:600}
.mlxnb-panel .mlxnb-light{color:var(--secondary);font-variant-numeric:tabular-nums}
.mlxnb-panel .mlxnb-light .mlxnb-success{color:var(--success)}
.mlxnb-panel .mlxnb-light .mlxnb-warning{color:var(--warn)}
.mlxnb-panel .mlxnb-light .mlxnb-error{color:var(--error)}
.mlxnb-panel .mlxnb-columns{gap:8px 24px;align-items:flex-start;overflow:visible}
.mlxnb-panel .mlxnb-columns>*{min-width:0}
.mlxnb-panel .mlxnb-main{flex:1 1 320px}
.mlxnb-panel .mlxnb-settings{flex:0 1 auto;gap:8px 16px}
.mlxnb-panel .mlxnb-settings>*{flex:1 1 320px;min-width:0}
.mlxnb-panel .mlxnb-columns:has(.mlxnb-settings>:nth-child(2)){flex-direction:column;align-items:stretch}
.mlxnb-panel .mlxnb-columns:has(.mlxnb-settings>:nth-child(2))>.mlxnb-main{flex:0 0 auto}
.mlxnb-panel .mlxnb-row{flex-wrap:wrap;gap:8px;align-items:center;overflow:visible;margin:8px 0 0}
.mlxnb-panel :is(.widget-text,.widget-textarea,.widget-dropdown,.widget-slider,.widget-checkbox){width:100%;margin:0}
.mlxnb-panel .mlxnb-row>:is(.widget-text,.widget-dropdown,.widget-combobox){width:auto;flex:0 1 320px}
.mlxnb-panel .mlxnb-row>.widget-checkbox{width:auto}
.mlxnb-panel .widget-box{overflow:visible}
.mlxnb-panel .mlxnb-form{gap:4px}
.mlxnb-panel .widget-label,.mlxnb-panel .widget-inline-hbox>label{color:var(--jp-ui-font-color1,inherit)}
.mlxnb-panel .mlxnb-wide>label{display:block;width:auto!important;text-align:left;line-height:1.5;height:auto}
.mlxnb-panel .mlxnb-wide{flex-direction:column;height:auto;align-items:stretch}
.mlxnb-panel .mlxnb-wide textarea{resize:vertical;line-height:1.5;padding:8px;min-height:32px}
.mlxnb-panel .widget-button{width:auto;padding:0 16px;margin:0;border:1px solid var(--border)}
.mlxnb-panel :is(button,input,textarea,select,summary,[role=slider]):focus-visible{outline:2px solid var(--brand);
outline-offset:1px}
.mlxnb-panel .jupyter-widgets :is(input,textarea,select):focus-visible{border-color:var(--brand);
box-shadow:0 0 0 1px var(--brand)}
.mlxnb-panel .mlxnb-notice{margin:8px 0;padding:4px 12px;border-left:2px solid var(--error);max-width:90ch;
overflow-wrap:anywhere}
.mlxnb-panel .mlxnb-notice.mlxnb-plain{border-color:var(--border)}
.mlxnb-panel .mlxnb-notice.mlxnb-asks{border-color:var(--warn)}
.mlxnb-panel .mlxnb-notice b{font-weight:600}
.mlxnb-panel .mlxnb-notice code,.mlxnb-panel .mlxnb-line code{user-select:all;font-family:var(--mono);
white-space:pre-wrap;overflow-wrap:anywhere}
.mlxnb-panel .mlxnb-line{margin:8px 0 0;padding:8px 12px;background:var(--surface);border:1px solid var(--border)}
.mlxnb-panel .mlxnb-table{overflow-x:auto}
.mlxnb-panel :is(input,select,textarea){min-width:0}
.mlxnb-panel .mlxnb-empty{color:var(--secondary);padding:16px 0}
.mlxnb-panel .mlxnb-answer{font-family:var(--jp-content-font-family,inherit);
font-size:var(--jp-content-font-size1,14px);line-height:var(--jp-content-line-height,1.6)}
.mlxnb-panel .mlxnb-answers{margin:16px 0 0;gap:16px 24px;align-items:flex-start}
.mlxnb-panel .mlxnb-answers>*{flex:1 1 0;min-width:0}
.mlxnb-panel .mlxnb-secondary{color:var(--secondary)}
.mlxnb-panel .jupyter-widgets-disconnected::before{display:none}
.mlxnb-panel.jupyter-widgets-disconnected::before{content:"The kernel has stopped or was restarted. This panel answers \
no more: run its cell again for a live one.";display:block;margin:0 0 8px;padding:4px 12px;font:inherit;color:inherit;
border-left:2px solid var(--error)}
.mlxnb-panel.jupyter-widgets-disconnected>*{opacity:.6;pointer-events:none}
.mlxnb-panel .widget-toggle-button{box-shadow:none;background:none;color:inherit;width:auto;padding:0 16px;margin:0;
border:1px solid var(--border)}
.mlxnb-panel .widget-toggle-button.mod-active{border-color:var(--brand);box-shadow:inset 0 -2px 0 var(--brand);
font-weight:600}
.mlxnb-panel .jupyter-widget-Collapse{border:0;margin:0}
.mlxnb-panel .jupyter-widget-Collapse-header{border:0;background:none;padding:4px 0;font-weight:normal;
color:var(--secondary)}
.mlxnb-panel .jupyter-widget-Collapse-contents{border:0;background:none;padding:0;color:inherit}
.mlxnb-panel .mlxnb-past .widget-dropdown{width:auto;align-self:flex-start;min-width:160px}
.mlxnb-panel .mlxnb-past{margin:16px 0 0;padding:8px 0 0;border-top:1px solid var(--border)}
@container (max-width:700px){
.mlxnb-panel .mlxnb-columns,.mlxnb-panel .mlxnb-answers,.mlxnb-panel .mlxnb-settings{flex-direction:column}
.mlxnb-panel .mlxnb-columns>*,.mlxnb-panel .mlxnb-answers>*,.mlxnb-panel .mlxnb-settings>*{flex:0 0 auto;width:100%}}
"""


def sheet(*more: str) -> str:
    """The style sheet of a panel, which its parts then need not bring; `more` are those of what it shows."""
    parts = style.VARIABLES, style.ANSWER, style.FOOTER, style.CODE, style.TABLE, style.REPORT, PANEL, *more
    return "<style>" + re.sub(r"\n\s*", "", "".join(parts)) + "</style>"
