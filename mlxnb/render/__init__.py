"""Everything a person sees: model text made safe, results, tables, live cells and one-line errors as HTML and text."""

from .error import one_line
from .footer import describe, footer_text
from .live import LiveCell
from .markdown import to_html
from .result import mimebundle
from .sanitize import clean
from .table import Table

__all__ = ["LiveCell", "Table", "clean", "describe", "footer_text", "mimebundle", "one_line", "to_html"]
