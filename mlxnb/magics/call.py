"""What one `%generate` or `%%generate` asks for: its line, body and defaults made into a Request."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ..conversation import Conversation
from ..errors import EmptyPromptError, OptionError, PromptError
from ..request import THINK, Request, option_fields, unescape
from ..schema import Schema
from ..template import interpolate
from .defaults import MLXNB
from .options import ALONE, FORMATS, NONE

if TYPE_CHECKING:
    from ..runtime.chats import Chats

# Options that have `none` on the line, where %config says otherwise.
UNDONE = ("quantize", "adapter", "think", "seed")


def fill_in(options: argparse.Namespace, prompt: str, names: Mapping[str, Any]) -> str:
    """The prompt with its templates replaced, and those in the options' values too, in place.

    Raises:
        TemplateError: a template failed.
    """
    if options.no_interpolate:
        return prompt
    for name, value in vars(options).items():
        if isinstance(value, str):
            setattr(options, name, interpolate(value, names))
        elif isinstance(value, list):
            setattr(options, name, [interpolate(each, names) for each in value])
    return interpolate(prompt, names)


def talk_of(
    options: argparse.Namespace, prompt: str, defaults: MLXNB, chats: Chats, schema: Schema | None = None
) -> Conversation:
    """The conversation that the line goes on with, the prompt at its end; without a name one that nobody keeps."""
    if schema is not None and options.schema_in_prompt:
        prompt = f"{prompt}\n\n{schema.said()}"
    begun = chats.open(options.chat).conversation if options.chat else Conversation()
    return begun.asked(prompt, options.system, defaults.system)


def request_of(
    options: argparse.Namespace,
    prompt: str,
    defaults: MLXNB,
    chats: Chats,
    schema: Schema | None = None,
    tools: Iterable[Any] = (),
) -> Request:
    """The Request: what the line says, and the defaults for the rest.

    Raises:
        PromptError: there is no prompt, or `--raw` goes with an option that needs the chat template.
        OptionError: a value outside its range.
    """
    given = {name: value for name, value in vars(options).items() if value is not None}
    asked = defaults.request_options([name for name, value in given.items() if value is not False])
    asked.update({name: given[name] for name in asked if name in given and given[name] is not False})
    asked.update({name: number(name, given[name]) for name in option_fields() if name in given})
    if options.keep_alive is not None:
        asked["keep_alive"] = options.keep_alive
    asked.update({name: None for name in UNDONE if asked[name] == NONE})
    if options.raw and options.think is None and asked["think"] in THINK:
        asked["think"] = None  # a default for chats, which a raw prompt cannot be told
    asked["schema"], asked["schema_in_prompt"] = schema, options.schema_in_prompt
    stops = [unescape(text) for text in given.get("stop", ())]
    if not prompt.strip():
        raise EmptyPromptError("There is no prompt.", "Write it in the cell below %%generate, or after %generate.")
    if options.raw:
        if options.chat:
            raise PromptError("A conversation needs the chat template.", "Leave out either --raw or --chat.")
        asked["system"] = options.system
        return Request.of(prompt, raw=True, stop=stops, tools=tools, **asked)
    if not options.chat:
        return Request.of(prompt, stop=stops, tools=tools, **asked)
    talk = talk_of(options, prompt, defaults, chats, schema)
    asked |= {"system": None, "schema_in_prompt": False}  # both are in the conversation
    return Request.of(talk.given(), stop=stops, tools=tools, **asked)


def format_of(options: argparse.Namespace, defaults: MLXNB, schema: Schema | None = None, told: bool = False) -> str:
    """How to show the answer; one that is kept to a schema as what it is, and one whose log-probabilities are `told`
    with them, unless the line says otherwise. A line that wants them shown wants them told: its `logprobs` is set.

    Raises:
        OptionError: there is no such format.
    """
    own = None if schema is None else "json" if schema.kind == "json" else "text"
    told = told or options.logprobs is not None or defaults.logprobs is not None
    own = "logprobs" if told else own
    kind = options.format or own or defaults.format
    if kind not in FORMATS:
        raise OptionError(f"format is {kind!r}.", f"Formats are {', '.join(FORMATS)}.")
    if kind == "logprobs" and not told:
        options.logprobs = ALONE["logprobs"]  # there is nothing to see without
    return str(kind)


def refuse_alone(options: argparse.Namespace) -> None:
    """Refuse what only goes with `--each`.

    Raises:
        OptionError: naming it.
    """
    if options.fresh:
        raise OptionError("--fresh begins a table anew, and there is no --each.", "Give --each too, or leave it out.")


def number(name: str, text: str) -> Any:
    """The option's text as a number; text that is none goes on as it is, and the Request says what it takes."""
    try:
        return option_fields()[name].metadata["kind"](text)
    except ValueError:
        return text
