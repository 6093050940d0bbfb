"""Replaces `{{ expression }}` in a prompt by its value, with Jinja2's sandbox over the notebook's variables."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import MlxnbError, TemplateError

if TYPE_CHECKING:
    from jinja2.sandbox import SandboxedEnvironment

OPENING = re.compile(r"\{\{")
# Only `{{ }}` is a template: `{%` and `{#` are what LaTeX and shells write, and what nobody types stands in for them.
NEVER = {
    "block_start_string": "\0{%",
    "block_end_string": "%}\0",
    "comment_start_string": "\0{#",
    "comment_end_string": "#}\0",
}
REMEDY = "Mend it, or give --no-interpolate to send the braces as they are."
# What people write inside braces most, and what reaches nothing outside its own arguments.
BUILTINS = (abs, enumerate, float, int, len, list, max, min, repr, round, sorted, str, sum, zip)
Place = tuple[int, str]

# Text and file of a template by the name that another includes it with; None where there is none.
Load = Callable[[str], "tuple[str, str] | None"]


def interpolate(text: str, names: Mapping[str, Any], statements: bool = False, load: Load | None = None) -> str:
    """`text` with its templates replaced; text without `{{` comes back as it is. With `statements` it is a whole
    template of Jinja2's, `{% %}` and `{# #}` included, whose lines go without their line ends. With `load` it comes
    from a file: it may include others, and reaches less, see `template_sandbox`.

    Raises:
        TemplateError: a mistake in the template, an unknown name, a refused attribute, or an expression that raised;
            the message names the expression and its line.
    """
    if not statements and not OPENING.search(text):
        return text
    env = environment(statements, load)
    from jinja2 import TemplateSyntaxError

    places: list[Place] = []
    try:
        template = env.from_string(spread(env, text, places))
    except TemplateSyntaxError as error:
        raise fault(error, text, places) from None
    try:
        return template.render(names)
    except Exception as error:  # the person's own code ran inside the template, and may raise anything
        raise _failed(*_guilty(error, places), _reason(error)) from error


def environment(statements: bool = False, load: Load | None = None) -> SandboxedEnvironment:
    from jinja2 import FunctionLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    from .template_sandbox import for_files

    how: dict[str, Any] = {"trim_blocks": True, "lstrip_blocks": True} if statements else NEVER
    kind = SandboxedEnvironment if load is None else for_files()
    env = kind(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, **how)
    env.globals.update({function.__name__: function for function in BUILTINS})
    if load is not None:
        env.loader = FunctionLoader(_as_jinja_loads(load))
    return env


def _as_jinja_loads(load: Load) -> Callable[[str], Any]:
    def loaded(name: str) -> tuple[str, str, None] | None:
        found = load(name)
        return None if found is None else (*found, None)

    return loaded


def spread(env: SandboxedEnvironment, text: str, places: list[Place]) -> str:
    """The same template with every tag on a line of its own, and in `places` each new line's old line and tag.

    Jinja2 knows only the line where an expression failed; a line break inside a tag changes nothing but that.
    """
    parts: list[str] = []
    tokens = list(env.lex(text))
    places.append((1, ""))
    for index, (line, kind, value) in enumerate(tokens):
        parts.append(value)
        places.extend((line + step, places[-1][1]) for step in range(1, value.count("\n") + 1))
        if kind in ("variable_begin", "block_begin"):
            parts.append("\n")
            places.append((line, _tag(tokens[index:])))
    return "".join(parts)


def _tag(tokens: list[tuple[int, str, str]]) -> str:
    """The source of the tag at the front of `tokens`, on one line."""
    ends = (i for i, (_, kind, _) in enumerate(tokens) if kind in ("variable_end", "block_end"))
    end = next(ends, len(tokens) - 1)
    return " ".join("".join(value for _, _, value in tokens[: end + 1]).split())


def _guilty(error: Exception, places: list[Place]) -> tuple[str, int]:
    """The tag that was being worked on when `error` came up, and its line."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno or 1 for frame in frames if frame.filename == "<template>"]
    line, expression = places[min(lines[-1], len(places)) - 1] if lines else (1, "{{ }}")
    return expression, line


def _reason(error: Exception) -> str:
    from jinja2 import TemplateError as JinjaError
    from jinja2 import TemplateNotFound, TemplateSyntaxError

    said = error.message if isinstance(error, TemplateSyntaxError | MlxnbError) else str(error)
    text = " ".join((said or "").split()).rstrip(".")
    if isinstance(error, TemplateNotFound):
        text = f"there is no {error.name} beside the prompt file"
    own = isinstance(error, JinjaError | MlxnbError)
    return (text if own else f"{type(error).__name__}: {text}") + _included(error)


def _included(error: Exception) -> str:
    """Where in an included file it failed, in words; empty for the prompt itself."""
    from jinja2 import TemplateSyntaxError

    frames = traceback.extract_tb(error.__traceback__)
    last = max((i for i, frame in enumerate(frames) if frame.filename == "<template>"), default=len(frames))
    inner = [(frame.lineno, frame.filename) for frame in frames[last + 1 :] if frame.name.endswith("template code")]
    if isinstance(error, TemplateSyntaxError) and error.filename:
        inner = [(error.lineno, error.filename)]
    return f" (line {inner[-1][0]} of {Path(inner[-1][1]).name})" if inner else ""


def _failed(expression: str, line: int, reason: str) -> TemplateError:
    return TemplateError(f"{expression} on line {line} of the prompt failed: {reason.rstrip('.')}.", REMEDY)


def fault(error: Exception, text: str, places: list[Place]) -> TemplateError:
    """The error for a template that `spread` has read, with the line and tag: it could not be read, or filled in."""
    from jinja2 import TemplateSyntaxError

    if not isinstance(error, TemplateSyntaxError):
        return _failed(*_guilty(error, places), _reason(error))
    line, expression = places[error.lineno - 1] if error.lineno <= len(places) else (error.lineno, "")
    return _failed(expression or text.splitlines()[line - 1].strip(), line, error.message or "")
