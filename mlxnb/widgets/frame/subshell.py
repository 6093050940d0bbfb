"""Lets a panel answer while a cell runs, in front ends that send its messages to a subshell of the kernel.

JupyterLab 4.4 and newer do. ipykernel 7.4 sends each on to where the widget last spoke from instead, so that the reply
to a question reaches whoever asked it: for a widget that a cell made that is the main shell, which is busy. Panels ask
nothing that way.
"""

from __future__ import annotations

from typing import Any

from ipywidgets import Widget


def follow_the_page(widget: Widget) -> None:
    """Take messages for `widget`, and for all that it holds now or later, wherever the page sends them."""
    if widget.comm is not None:
        widget.comm._reply_subshell_for = None  # what ipykernel asks for another way; others do not look
    if widget.has_trait("children"):
        widget.observe(_of_new, "children")
        _each(widget.children)


def _of_new(change: dict[str, Any]) -> None:
    known = set(map(id, change["old"])) if isinstance(change["old"], tuple) else set()
    _each([child for child in change["new"] if id(child) not in known])


def _each(widgets: Any) -> None:
    for widget in widgets:
        follow_the_page(widget)
