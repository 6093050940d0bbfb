"""Renders a chat template that came with a model, in Jinja's sandbox: it is a stranger's code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from ..errors import in_words


def render(
    template: str,
    messages: Sequence[dict[str, Any]],
    *,
    prompt: bool,
    tools: Sequence[dict[str, Any]] | None = None,
    **tokens: Any,
) -> str:
    """The text of a conversation; with `prompt` up to where the model's turn begins. `tools` are offered to the model,
    as JSON schemas; `tokens` are the special tokens by the names that templates know them by, and whatever else they
    take.

    Raises:
        jinja2.TemplateError: the template is no template, or refused the messages.
    """
    import jinja2

    try:
        return compiled(template).render(
            messages=list(messages), add_generation_prompt=prompt, tools=tools, documents=None, **tokens
        )
    except jinja2.TemplateError:
        raise
    except Exception as err:  # an edge: a template is a stranger's code, and may fail in any way
        raise jinja2.TemplateError(in_words(err)) from err


@lru_cache(maxsize=8)
def compiled(template: str) -> Any:
    """A template with what transformers gives to one: blocks without their line ends, loop controls, `tojson` that
    leaves HTML alone, `raise_exception`, `strftime_now`, and a `generation` block, which marks the model's turns.

    Raises:
        jinja2.TemplateSyntaxError: it is no template.
    """
    import jinja2
    from jinja2.ext import Extension, loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 - Jinja's own way to say it

        def parse(self, parser: Any) -> Any:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> NoReturn:
        raise jinja2.TemplateError(message)

    def to_json(value: Any, ensure_ascii: bool = False, **how: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **how)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    now: Callable[[str], str] = lambda form: datetime.now().strftime(form)  # noqa: E731
    environment.globals.update(raise_exception=refuse, strftime_now=now)
    return environment.from_string(template)
