"""A model's tokenizer, the same for every backend that runs from a folder: prompt to ids, ids to text, where to end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from ..errors import OptionError, PromptError, PromptTooLongError, TemplateError, TokenizerMissingError
from ..models.files import read_json
from ..quiet import import_transformers
from ..request import Message, Request
from .thinking import markers_of, visible, wrapping_of
from .thinking_switch import Told, told
from .tool_text import Style, style_of


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt as the model gets it. `thinking` tells that the chat template opened a thinking block at its end."""

    ids: list[int]
    thinking: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Which tokens there are, by a hash that holds in this process, and how many ids up to the highest."""

    content: int
    size: int


class Tokenizer:
    """Wraps a transformers tokenizer loaded from `path`; runs no code from the model's folder."""

    def __init__(self, path: Path) -> None:
        self.inner = _load(path)
        self.inner.model_max_length = sys.maxsize  # too long a prompt is our error, not a warning of transformers
        self.end_ids = _end_ids(path, self.inner)
        self.markers = self._thinking_markers()
        self.decode = self.decode_with(())

    def decode_with(self, shown: tuple[str, ...]) -> Callable[[Sequence[int]], str]:
        """Ids to text without special tokens, but for thinking markers and those in `shown`."""
        vocabulary = self.inner.get_vocab() if shown else {}
        own = tuple(marker for marker in shown if marker in vocabulary)
        return _decoder(self.inner, (*(self.markers or ()), *own))

    @cached_property
    def tool_style(self) -> Style | None:
        """How this model calls tools; None where its chat template does not say, or in no way that is read here."""
        return style_of(_template(self.inner))

    def _thinking_markers(self) -> tuple[str, str] | None:
        return markers_of(self.inner.get_vocab(), self._template())

    @cached_property
    def wrapping(self) -> tuple[tuple[str, str], ...]:
        """The tags that the model puts around its answers, see `wrapping_of`."""
        return wrapping_of(self.inner.get_vocab(), self._template())

    def _template(self) -> str:
        """The chat template, the default one where there are several; empty where there is none."""
        template = self.inner.chat_template
        template = template.get("default") if isinstance(template, dict) else template
        return template if isinstance(template, str) else ""

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Asked of a large one it takes a tenth of a second, so it is kept."""
        tokens = self.inner.get_vocab()
        return Vocabulary(hash(frozenset(tokens.items())), max(tokens.values()) + 1)

    def for_grammars(self) -> Any:
        """It as llguidance knows tokenizers. Takes a second for a large vocabulary.

        Raises:
            ValueError: llguidance reads no tokenizer of this kind.
        """
        from llguidance.hf import from_tokenizer

        return from_tokenizer(self.inner, eos_token=sorted(self.end_ids))

    def prompt(self, request: Request) -> Prompt:
        """Render and encode a request's messages or raw prompt.

        Raises:
            TemplateError: the chat template refused the messages.
            PromptError: a conversation for a model without a chat template, or text that is not all characters.
            OptionError: a strict request tells a model to think, or not to, that cannot be told.
        """
        for text in (request.prompt or "", *(message.said for message in request.messages)):
            check_text(text)
        unmarked = isinstance(request.think, int) and self.markers is None
        uncounted = _refused(request, "how this model would mark its thinking is not known") if unmarked else ""
        if request.prompt is not None:
            return Prompt(self._encode(request.prompt), self._opened(request.prompt), uncounted)
        if not self.inner.chat_template:
            return self._without_template(request)
        asked = self._told(request)
        text = self._render(request, asked)
        if request.tools:
            self._check_tools(request, text)
        ids = self.inner.encode(text, add_special_tokens=False)
        return Prompt(ids, self._opened(text), uncounted or _refused(request, asked.refused, self.markers is not None))

    def _opened(self, text: str) -> bool:
        """Whether a prompt ends inside a block of thinking that it opened."""
        return self.markers is not None and text.rstrip().endswith(self.markers[0])

    def turn_ends(self, request: Request, ids: Sequence[int]) -> list[int]:
        """The ends, in tokens, of the system message and the last earlier turns of the conversation behind `ids`.

        A template that writes the beginning of a conversation otherwise than the whole has its ends where both part.
        """
        ends, messages = set(), self._messages(request.messages)
        counts = {1, len(messages) - 2, len(messages) - 1} if self.inner.chat_template else set()
        for count in sorted(count for count in counts if 0 < count < len(messages)):
            try:
                text = self.inner.apply_chat_template(messages[:count], tokenize=False, **_tools(request))
            except Exception:  # noqa: BLE001 - a template is a stranger's code, and may fail on part of a conversation
                continue
            begin = self.inner.encode(text, add_special_tokens=False)
            ends.add(
                next((i for i, (a, b) in enumerate(zip(begin, ids, strict=False)) if a != b), min(len(begin), len(ids)))
            )
        return sorted(ends - {0})

    def _messages(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Messages as chat templates take them."""
        one = self.tool_style is not None and self.tool_style.one
        return [_as_dict(message) for message in (_one_call_each(messages) if one else messages)]

    def _check_tools(self, request: Request, text: str) -> None:
        """Refuse tools that the model does not hear of, or would call in a way that is not read.

        Raises:
            OptionError: naming the model.
        """
        remedy = "Leave out the tools, or take a model that was made for them, such as Qwen 3 or Llama 3.2."
        if not all(tool.name in text for tool in request.tools):
            raise OptionError(f"The chat template of {request.model} has no place for tools.", remedy)
        if self.tool_style is None:
            raise OptionError(f"{request.model} calls tools in a way that is not read here.", remedy)

    def _without_template(self, request: Request) -> Prompt:
        if request.tools:
            raise OptionError(
                f"{request.model} has no chat template, so it cannot be offered tools.",
                "Leave out the tools, or use an instruction-tuned model.",
            )
        if len(request.messages) > 1:
            raise PromptError(
                f"{request.model} has no chat template, so it cannot take a conversation or a system message.",
                "Give a single prompt, or use an instruction-tuned model.",
            )
        note = "no chat template: the prompt went to the model as it is"
        if request.think in ("on", "off"):
            note = f"{note}; {_refused(request, 'it has no chat template')}"
        return Prompt(self._encode(request.messages[0].content), note=note)

    def _encode(self, text: str) -> list[int]:
        """Ids of plain text; a text that begins with the BOS token already does not get it a second time."""
        bos = self.inner.bos_token
        return self.inner.encode(text, add_special_tokens=not (bos and text.startswith(bos)))

    def _told(self, request: Request) -> Told:
        """The conversation as it tells the model whether to think."""
        render = partial(self.inner.apply_chat_template, add_generation_prompt=True, tokenize=False, **_tools(request))
        return told(request.think, self._messages(request.messages), self._template(), self.markers, render)

    def _render(self, request: Request, asked: Told) -> str:
        import jinja2

        how = {"add_generation_prompt": True, "tokenize": False, **asked.variables, **_tools(request)}
        try:
            return self.inner.apply_chat_template(asked.messages, **how)
        except jinja2.TemplateError as err:
            roles = ", ".join(m.role for m in request.messages)
            raise TemplateError(
                f"The chat template of {request.model} refused the messages ({roles}): {err}.",
                "Change the roles, or send the text with `raw`.",
            ) from err


def _refused(request: Request, why: str, marked: bool = False) -> str:
    """The note of what a model was not told; empty where it was. `marked` where its thinking can be ended by a budget.

    Raises:
        OptionError: the request is strict.
    """
    if not why:
        return ""
    said = f"think {request.think} not used"
    if request.strict:
        remedy = "Leave out think, or strict" + ("; think 0 closes its thinking at once." if marked else ".")
        raise OptionError(f"{said[0].upper()}{said[1:]} by {request.model}: {why}.", remedy)
    return f"{said}: {why}"


def check_text(text: str, what: str = "The prompt") -> None:
    """Refuse text with half a character in it, which no encoding has bytes for; `what` says whose it is.

    Raises:
        PromptError: with the first, and where it is.
    """
    try:
        text.encode()
    except UnicodeEncodeError as err:
        half = f"U+{ord(text[err.start]):04X}"
        raise PromptError(
            f"{what} holds half of a character, {half} at position {err.start}.",
            "Read the text anew in its own encoding, or drop it: text.encode(errors='ignore').decode().",
        ) from None


def check_context(prompt_tokens: int, context_length: int | None, model: str) -> None:
    """Refuse a prompt that leaves no room for a single token.

    Raises:
        PromptTooLongError: with both numbers.
    """
    if context_length is not None and prompt_tokens >= context_length:
        raise PromptTooLongError(
            f"The prompt has {prompt_tokens} tokens and {model} has a context of {context_length}.",
            f"Shorten it by at least {prompt_tokens - context_length + 1} tokens, or use a model that holds more.",
        )


def _load(path: Path) -> Any:
    transformers = import_transformers()
    try:
        return transformers.AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as err:  # the Rust tokenizers raise plain Exception for a damaged file
        reason = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise TokenizerMissingError(
            f"The tokenizer in {path.name} cannot be loaded: {reason}.",
            "Fetch the model again with its tokenizer files.",
        ) from err


def _end_ids(path: Path, inner: Any) -> frozenset[int]:
    """Every token that ends a turn: those of the generation config, the model config and the tokenizer."""
    ids = {inner.eos_token_id} if inner.eos_token_id is not None else set()
    for name in ("generation_config.json", "config.json"):
        file = path / name
        if not file.exists():
            continue
        value = read_json(file).get("eos_token_id")
        ids |= set(value) if isinstance(value, list) else {value}
    return frozenset(i for i in ids if isinstance(i, int))


def _tools(request: Request) -> dict[str, Any]:
    """What apply_chat_template is told of tools: nothing where there are none."""
    return {"tools": [tool.as_schema() for tool in request.tools]} if request.tools else {}


def _template(inner: Any) -> str:
    """The chat templates of a tokenizer, which may have several by name, as one text."""
    found = inner.chat_template
    return "\n".join(map(str, found.values())) if isinstance(found, dict) else str(found or "")


def _as_dict(message: Message) -> dict[str, Any]:
    """A message with the keys that it has a use for: templates ask whether one is there."""
    made: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.tool_calls:
        made["tool_calls"] = [call.as_message(dict(call.arguments)) for call in message.tool_calls]
    if message.role == "tool":
        made |= {"name": message.name, "tool_call_id": message.call_id}
    return made


def _one_call_each(messages: Sequence[Message]) -> list[Message]:
    """The same conversation with each call in a message of its own, and its answer behind it."""
    made: list[Message] = []
    rest = list(messages)
    while rest:
        message = rest.pop(0)
        if len(message.tool_calls) < 2:
            made.append(message)
            continue
        for i, call in enumerate(message.tool_calls):
            made.append(replace(message, content="" if i else message.content, tool_calls=(call,)))
            made += [rest.pop(0)] if rest and rest[0].role == "tool" else []
    return made


def _decoder(inner: Any, markers: tuple[str, ...]) -> Callable[[Sequence[int]], str]:
    """Ids to text without special tokens, thinking markers excepted, and without a clean-up that moves spaces."""
    fast = getattr(inner, "backend_tokenizer", None)
    special = {i for i, token in inner.added_tokens_decoder.items() if token.special}
    shown = visible(markers, [token.content for i, token in inner.added_tokens_decoder.items() if token.special])
    kept = set(inner.convert_tokens_to_ids(sorted(shown)))
    if fast is not None and special & kept:
        hidden = special - kept
        return lambda ids: fast.decode([i for i in ids if i not in hidden], skip_special_tokens=False)
    if fast is not None:
        return lambda ids: fast.decode(ids, skip_special_tokens=True)
    return lambda ids: inner.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
