"""The look, as the style sheets that travel inside each output: theme variables only, each with a fallback.

The fallbacks serve VS Code (its own theme's variables) and a still HTML page without any: mid-tones that read on
white and on near-black alike. A front end that strips style sheets still gets rules, tables and folded parts as such.
"""

from __future__ import annotations

import re

VARIABLES = """
.mlxnb{--secondary:var(--jp-ui-font-color2,var(--vscode-descriptionForeground,#7f7f7f));
--border:var(--jp-border-color2,var(--vscode-widget-border,#8884));
--surface:var(--jp-cell-editor-background,var(--vscode-textCodeBlock-background,#8881));
--brand:var(--jp-brand-color1,var(--vscode-progressBar-background,#2a7fc9));
--success:var(--jp-success-color1,var(--vscode-testing-iconPassed,#2e8b40));
--warn:var(--jp-warn-color1,var(--vscode-editorWarning-foreground,#b5760c));
--error:var(--jp-error-color1,var(--vscode-errorForeground,#d2453e));
--small:var(--jp-ui-font-size1,13px);
--mono:var(--jp-code-font-family,var(--vscode-editor-font-family,monospace))}
"""

ANSWER = """
.mlxnb .mlxnb-answer{overflow-wrap:break-word}
.mlxnb .mlxnb-answer>:first-child{margin-top:0}
.mlxnb .mlxnb-answer>:last-child{margin-bottom:0}
.mlxnb .mlxnb-answer a{color:var(--jp-content-link-color,var(--vscode-textLink-foreground,#3f7fd6))}
.mlxnb pre{white-space:pre-wrap;overflow-wrap:break-word;word-break:normal;margin:0;font-family:var(--mono);
font-size:var(--jp-code-font-size,13px)}
.mlxnb .mlxnb-answer table{margin:8px 0;width:auto;table-layout:auto}
.mlxnb .mlxnb-answer :is(th,td){text-align:left;white-space:normal;max-width:none}
.mlxnb .mlxnb-answer .mlxnb-right{text-align:right}
.mlxnb .mlxnb-answer .mlxnb-center{text-align:center}
.mlxnb .mlxnb-math{display:inline-block;max-width:100%;overflow:auto hidden;contain:paint;vertical-align:bottom}
.mlxnb div.mlxnb-math{display:block;text-align:center;margin:8px 0}
"""

FOOTER = """
.mlxnb hr{border:0;border-top:1px solid var(--border);margin:8px 0 4px;height:0;background:none}
.mlxnb .mlxnb-progress{height:1px;margin:8px 0 4px;background:var(--border)}
.mlxnb .mlxnb-progress>div{height:2px;background:var(--brand)}
.mlxnb :is(.mlxnb-footer,.mlxnb-thinking,.mlxnb-thought>summary){font-family:var(--jp-ui-font-family,inherit);
font-size:var(--small);line-height:1.5;color:var(--secondary);font-variant-numeric:tabular-nums}
.mlxnb .mlxnb-footer span{white-space:nowrap}
.mlxnb .mlxnb-warn{color:var(--warn)}
.mlxnb .mlxnb-thought{margin:8px 0 0}
.mlxnb .mlxnb-thought>summary{cursor:pointer;width:fit-content}
.mlxnb .mlxnb-thought>div{color:var(--secondary);border-left:2px solid var(--border);
padding-left:12px;margin:4px 0 8px}
.mlxnb .mlxnb-thinking{margin:8px 0 0;overflow:hidden;white-space:nowrap;text-overflow:ellipsis}
"""

# The finished output comes while the live area is still there, and shows in the instant that the area is blanked.
LIVE = """
.jp-OutputArea-child:has(.mlxnb-live)~.jp-OutputArea-child:has(.mlxnb-done){display:none}
"""

_COLOURS = {
    "keyword": ("k kc kd kn kp kr kt ow nb bp", "#2b8a3e"),
    "operator": ("o nd", "#9a5fd0"),
    "string": ("s sa sb sc dl sd s2 se sh si sx sr s1 ss", "#c4483f"),
    "number": ("m mb mf mh mi mo il", "#3d8b5c"),
    "comment": ("c c1 ch cm cp cpf cs", "#7f7f7f"),
    "def": ("nf fm nc na nt", "#3f7fd6"),
}

CODE = """
.mlxnb .highlight{background:var(--surface);border:1px solid var(--border);border-radius:2px;margin:8px 0;
padding:8px 12px;overflow-x:auto;font-size:var(--jp-code-font-size,13px)}
.mlxnb .highlight :is(pre,code){background:none;border:0;padding:0;margin:0;white-space:pre;font-family:var(--mono);
font-size:inherit;line-height:var(--jp-code-line-height,1.4)}
""" + "\n".join(
    f".mlxnb .highlight :is({','.join('.' + name for name in names.split())})"
    f"{{color:var(--jp-mirror-editor-{role}-color,{fallback})}}"
    for role, (names, fallback) in _COLOURS.items()
)

# One table keeps its columns aligned; where :has is unknown, or styles are stripped, all rows are simply shown.
TABLE = """
.mlxnb.mlxnb-table table{margin:8px 0;width:auto;max-width:100%;table-layout:auto;border-collapse:collapse}
.mlxnb.mlxnb-table caption{caption-side:top;text-align:left;padding:0 0 4px;color:var(--secondary)}
.mlxnb.mlxnb-table :is(th,td){text-align:left;vertical-align:baseline;white-space:normal;max-width:none;
padding:4px 12px 4px 8px}
.mlxnb.mlxnb-table .mlxnb-state{white-space:nowrap}
.mlxnb.mlxnb-table td{font-variant-numeric:tabular-nums}
.mlxnb.mlxnb-table :is(th,td).mlxnb-right{text-align:right;white-space:nowrap}
.mlxnb.mlxnb-table th{font-weight:500}
.mlxnb.mlxnb-table .mlxnb-unit{color:var(--secondary);font-weight:normal}
.mlxnb.mlxnb-table strong{font-weight:600}
.mlxnb.mlxnb-table code{user-select:all;font-family:var(--mono);overflow-wrap:anywhere}
.mlxnb.mlxnb-table .mlxnb-success{color:var(--success)}
.mlxnb.mlxnb-table .mlxnb-warning{color:var(--warn)}
.mlxnb.mlxnb-table .mlxnb-error{color:var(--error)}
.mlxnb.mlxnb-table .mlxnb-off{color:var(--secondary)}
.mlxnb.mlxnb-table summary{cursor:pointer;width:fit-content;color:var(--secondary);font-size:var(--small)}
@supports selector(:has(*)){.mlxnb.mlxnb-table:not(:has(>details[open])) .mlxnb-rest{display:none}}
@supports not selector(:has(*)){.mlxnb.mlxnb-table>details{display:none}}
"""

# A report of several tables, with a heading each; what a person needs rarely is folded.
REPORT = """
.mlxnb .mlxnb-heading{font-size:1em;font-weight:600;line-height:1.4;margin:20px 0 4px;padding:0;border:0}
.mlxnb .mlxnb-heading:first-of-type{font-size:1.15em;margin-top:4px}
.mlxnb .mlxnb-caption{color:var(--secondary);font-size:var(--small);margin:8px 0 0;max-width:90ch}
.mlxnb .mlxnb-beside{display:flex;flex-wrap:wrap;gap:0 40px}
.mlxnb .mlxnb-beside .mlxnb-caption{max-width:46ch}
.mlxnb.mlxnb-report .mlxnb-table table{margin:4px 0 12px}
.mlxnb.mlxnb-report :is(th,td){padding:4px 8px}
.mlxnb.mlxnb-report :is(th,td):first-child{min-width:14ch}
.mlxnb.mlxnb-report th{vertical-align:bottom}
.mlxnb.mlxnb-report th.mlxnb-right{white-space:normal}
.mlxnb.mlxnb-report th .mlxnb-unit{display:block}
.mlxnb .mlxnb-bar{width:120px;height:8px}
.mlxnb .mlxnb-bar>div{height:8px;background:var(--brand);min-width:1px}
.mlxnb .mlxnb-item{margin:8px 0 12px;padding-left:12px;border-left:2px solid var(--border);line-height:1.5;
max-width:90ch}
.mlxnb .mlxnb-item code{user-select:all;font-family:var(--mono);overflow-wrap:anywhere}
.mlxnb .mlxnb-item strong{font-weight:600}
.mlxnb .mlxnb-item :is(.mlxnb-label,.mlxnb-where){color:var(--secondary)}
.mlxnb .mlxnb-item .mlxnb-success{color:var(--success)}
.mlxnb .mlxnb-item .mlxnb-warning{color:var(--warn)}
.mlxnb .mlxnb-item .mlxnb-error{color:var(--error)}
.mlxnb .mlxnb-item .mlxnb-off{color:var(--secondary)}
.mlxnb .mlxnb-folded{margin:16px 0 4px}
.mlxnb.mlxnb-report{container-type:inline-size}
@container (max-width:680px){.mlxnb.mlxnb-report :is(th,td){padding:4px}
.mlxnb.mlxnb-report :is(th,td):first-child{min-width:0}}
.mlxnb .mlxnb-folded>summary{cursor:pointer;width:fit-content;font-weight:600}
"""


def page(*parts: str, css: str, kind: str = "") -> str:
    """One output: its style sheet and its parts, inside the element that the style sheet is scoped to."""
    names = f"mlxnb {kind}".strip()
    sheet = re.sub(r"\n\s*", "", VARIABLES + css)
    return f'<div class="{names}"><style>{sheet}</style>{"".join(parts)}</div>'
