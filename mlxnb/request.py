"""What a front asks of the engine: a frozen Request with its messages, sampling and limits, checked when it is made."""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from .errors import EmptyPromptError, OptionError, PromptError
from .schema import Schema
from .tools import Tool, ToolCall, in_json

ROLES = ("system", "user", "assistant", "tool")
MAX_SEED = 2**63 - 1

# What weights can be loaded in, and the bytes of one.
DTYPES = {"float32": 4, "float16": 2, "bfloat16": 2}

# What weights can be quantised to while they are loaded.
QUANTIZE = ("int8", "int4")

# Whether finished answers and KV states are looked up and kept: where an answer repeats, always, or not at all.
CACHE_MODES = ("auto", "always", "off")

# The draft that is no model: what followed the same tokens earlier in the text.
LOOKUP = "lookup"

# How long a model stays in memory after its last answer where nobody says a number of seconds.
FOREVER = "forever"

# Whether a model shall think, where a number of tokens does not say how long.
THINK = ("on", "off")

# How many of the likeliest tokens can be told beside each one: as many as OpenAI tells.
MOST_LOGPROBS = 20

# What a KV cache can be quantised to, and how many numbers share a scale.
KV_BITS, KV_GROUP_SIZES = (4, 8), (32, 64, 128)


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. An assistant's may hold `tool_calls`; a tool's answers the one of `call_id` and
    `name`.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    call_id: str = ""

    @property
    def said(self) -> str:
        """All the text in it."""
        return "\n".join([self.content, *(in_json(call.arguments) for call in self.tool_calls)])

    @classmethod
    def of(cls, value: Message | Mapping[str, Any]) -> Message:
        """A Message from itself or from a `{"role": …, "content": …}` mapping, which may have `tool_calls`, or `name`
        and `tool_call_id`, as OpenAI's API has them.
        """
        if isinstance(value, Message):
            return value
        if not isinstance(value, Mapping) or not {"role", "content"} <= set(value):
            raise PromptError(f"A message is {value!r}, not a mapping with the keys role and content.")
        if value["role"] not in ROLES:
            raise PromptError(f"A message has the role {value['role']!r}.", f"Roles are {', '.join(ROLES)}.")
        calls = _calls(value.get("tool_calls") or ())
        content = "" if calls and value["content"] is None else value["content"]
        texts = {"content": content, **{name: value.get(name) or "" for name in ("name", "tool_call_id")}}
        for name, text in texts.items():
            if not isinstance(text, str):
                raise PromptError(f"A message's {name} is a {type(text).__name__}, not a string.")
        return cls(value["role"], content, calls, texts["name"], texts["tool_call_id"])


def option(default: Any, text: str, kind: type, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field that is also an option: its help text, type (int or float) and inclusive bounds."""
    return field(default=default, metadata={"help": text, "kind": kind, "low": low, "high": high})


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn. The filters apply in mlx-lm's order: repetition penalty on the logits, then
    top_p, min_p and top_k on the untempered distribution, temperature last.
    """

    temperature: float = option(0.0, "randomness; 0 always takes the likeliest token", float, 0.0, 10.0)
    top_p: float = option(
        1.0, "keep the likeliest tokens that make up this share of probability; 1 is off", float, 0.0, 1.0
    )
    top_k: int = option(0, "keep the K likeliest tokens; 0 is off", int, 0, None)
    min_p: float = option(
        0.0, "drop tokens under this fraction of the likeliest one's probability; 0 is off", float, 0.0, 1.0
    )
    repetition_penalty: float = option(
        1.0, "above 1 makes the last 20 tokens less likely to come again", float, 0.01, 10.0
    )
    seed: int | None = option(None, "whole number that makes a random answer repeat", int, 0, MAX_SEED)

    def __post_init__(self) -> None:
        check_options(self)


@dataclass(frozen=True, slots=True)
class Precision:
    """What a model's weights are loaded in: a `dtype`, None as they are stored, and what they are quantised to; with
    the folder of the `adapter` on top of them, which makes another model of them.
    """

    dtype: str | None = None
    quantize: str | None = None
    adapter: str | None = None

    def __post_init__(self) -> None:
        check_dtype(self.dtype)
        check_quantize(self.quantize)
        object.__setattr__(self, "adapter", check_adapter(self.adapter))

    def __str__(self) -> str:
        return " ".join(name for name in (self.dtype, self.quantize) if name)


@dataclass(frozen=True, slots=True)
class Request:
    """One generation, complete and checked: `messages` for a chat template, or `prompt` alone with `raw` set."""

    messages: tuple[Message, ...] = ()
    prompt: str | None = None
    model: str = "pocket"
    backend: str = "auto"
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int = option(256, "stop after this many tokens", int, 1, None)
    kv_bits: int | None = option(None, "keep the KV cache in 4 or 8 bits", int, 4, 8)
    kv_group_size: int | None = option(
        None,
        "numbers of a quantised KV cache that share a scale: 32, 64 or 128 (default the largest that fits)",
        int,
        32,
        128,
    )
    stop: tuple[str, ...] = ()
    strict: bool = False
    dtype: str | None = None
    quantize: str | None = None
    cache: str = "auto"
    draft: str | None = None
    draft_tokens: int | None = option(None, "tokens that a draft may guess ahead at once", int, 1, 64)
    prefill_step: int | None = option(
        None, "tokens of the prompt that are computed at once; fewer take less memory", int, 1, None
    )
    keep_alive: float | str | None = None
    schema: Schema | None = None
    think: str | int | None = None
    adapter: str | None = None
    tools: tuple[Tool, ...] = ()
    logprobs: int | None = option(
        None, "tell each token's log-probability, and those of the K likeliest beside it", int, 0, MOST_LOGPROBS
    )

    @property
    def precision(self) -> Precision:
        """What the model is to be loaded in."""
        return Precision(self.dtype, self.quantize, self.adapter)

    @property
    def raw(self) -> bool:
        """Whether the prompt goes to the model as it is, without a chat template."""
        return self.prompt is not None

    def __post_init__(self) -> None:
        if self.raw == bool(self.messages):
            raise EmptyPromptError("There is no prompt.", "Give a string or a list of messages.")
        text = self.prompt if self.prompt is not None else self.messages[-1].content
        if not text.strip() and (self.raw or self.messages[-1].role != "tool"):
            raise EmptyPromptError("The prompt is empty.", "Write what the model should answer.")
        for name in ("model", "backend", "dtype", "quantize", "draft"):
            value = getattr(self, name)
            if not isinstance(value, str) and not (name in ("dtype", "quantize", "draft") and value is None):
                raise OptionError(f"{name} is {value!r}.", "It takes a name, as a string.")
        check_dtype(self.dtype)
        check_quantize(self.quantize)
        if self.cache not in CACHE_MODES:
            raise OptionError(f"cache is {self.cache!r}.", f"It takes {', '.join(CACHE_MODES)}.")
        check_options(self)
        object.__setattr__(self, "keep_alive", check_keep_alive(self.keep_alive))
        object.__setattr__(self, "adapter", check_adapter(self.adapter))
        object.__setattr__(self, "think", check_think(self.think))
        if self.raw and self.think in THINK:
            remedy = "Leave out either think or raw; a number of tokens goes with raw."
            raise OptionError(f"think is {self.think!r}, which a model is told by the chat template.", remedy)
        _check_kv(self)
        _check_draft(self)
        _check_schema(self)
        _check_tools(self)

    @classmethod
    def of(
        cls,
        prompt: str | Sequence[Message | Mapping[str, Any]],
        *,
        system: str | None = None,
        raw: bool = False,
        stop: str | Iterable[str] | None = None,
        tools: Iterable[Any] = (),
        schema_in_prompt: bool = False,
        **options: Any,
    ) -> Request:
        """Build a Request from what a person passes: a string or messages, and options by the field's names. `tools`
        are functions, which are only described: what the model calls is in the Result, and nothing is run.

        With `schema_in_prompt` the schema is written after the prompt, for the model to read; else it knows nothing of
        it, and is only held to it.

        Raises:
            PromptError: nothing to answer, or a message that is none.
            OptionError: an unknown option, or a value outside its range.
        """
        sampling = {f.name: options.pop(f.name) for f in fields(Sampling) if f.name in options}
        names = {f.name for f in fields(cls)} - {"messages", "prompt", "sampling", "tools"}
        unknown = set(options) - names
        if unknown:
            known = ", ".join(sorted({*option_fields(), *names, "system", "raw", "stop", "schema_in_prompt", "tools"}))
            raise OptionError(f"Unknown option {sorted(unknown)[0]!r}.", f"Options are {known}.")
        body = _body(prompt, system, raw)
        if schema_in_prompt:
            body = _with_schema(body, options.get("schema"))
        return cls(**body, sampling=Sampling(**sampling), stop=_stops(stop), tools=_tools(tools), **options)


def _body(prompt: Any, system: str | None, raw: bool) -> dict[str, Any]:
    if system is not None and not isinstance(system, str):
        raise PromptError(f"system is a {type(system).__name__}, not a string.")
    if isinstance(prompt, str):
        if raw and system:
            raise PromptError("A system message needs the chat template.", "Leave out either `raw` or `system`.")
        if raw:
            return {"prompt": prompt}
        messages: tuple[Message, ...] = (Message("user", prompt),)
    elif isinstance(prompt, Iterable) and not isinstance(prompt, bytes | Mapping):
        if raw:
            raise PromptError("`raw` takes a string, not messages.", "Join the text yourself, or leave out `raw`.")
        messages = tuple(Message.of(value) for value in prompt)
    else:
        raise PromptError(f"The prompt is a {type(prompt).__name__}.", "Give a string or a list of messages.")
    if system:
        if any(message.role == "system" for message in messages):
            raise PromptError("There are two system messages.", "Give it once: in the messages or as `system`.")
        messages = (Message("system", system), *messages)
    return {"messages": messages}


def _calls(values: Any) -> tuple[ToolCall, ...]:
    """Calls as OpenAI's API has them, their arguments as JSON text or as a mapping."""
    made = []
    for value in values if isinstance(values, Sequence) and not isinstance(values, str) else (values,):
        held = value.get("function") if isinstance(value, Mapping) else None
        function = held if isinstance(held, Mapping) else {}
        given = function.get("arguments")
        try:
            given = json.loads(given) if isinstance(given, str) else given
        except ValueError:
            given = None
        if not isinstance(given, Mapping) or not isinstance(function.get("name"), str):
            raise PromptError(
                f"A message's tool_calls hold {value!r}.", "A call has a function with name and arguments."
            )
        made.append(ToolCall(function["name"], given, str(value.get("id") or "")))
    return tuple(made)


def _with_schema(body: dict[str, Any], schema: Any) -> dict[str, Any]:
    """The prompt, or its last message, with the schema after it in words."""
    if schema is None:
        raise OptionError("schema_in_prompt is on without a schema.", "Give schema too.")
    said = f"\n\n{Schema.of(schema).said()}"
    if "prompt" in body:
        return {"prompt": body["prompt"] + said}
    *before, last = body["messages"] or (None,)
    if last is None or not last.content.strip():
        return body  # which is refused for having no prompt
    return {"messages": (*before, Message(last.role, last.content + said))}


def _stops(stop: str | Iterable[str] | None) -> tuple[str, ...]:
    if stop is not None and not isinstance(stop, Iterable):
        raise OptionError(f"stop is {stop!r}.", "It takes a string or a list of strings.")
    stops = () if stop is None else (stop,) if isinstance(stop, str) else tuple(stop)
    for text in stops:
        if not isinstance(text, str) or not text:
            raise OptionError(f"stop is {text!r}.", "A stop string is text of at least one character.")
    return stops


def _tools(tools: Iterable[Any]) -> tuple[Tool, ...]:
    from .toolbox import as_tool

    if not isinstance(tools, Iterable) or isinstance(tools, str | Mapping):
        raise OptionError(f"tools is {tools!r}.", "It takes a list of functions.")
    return tuple(as_tool(tool) for tool in tools)


def option_fields() -> dict[str, Field[Any]]:
    """Every option of Sampling and Request by name, with its help, kind and bounds in `.metadata`."""
    return {f.name: f for cls in (Sampling, Request) for f in fields(cls) if "help" in f.metadata}


def unescape(text: str) -> str:
    """A stop string as a person types it on one line: \\n and \\t become what they stand for."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def check_options(owner: Any) -> None:
    """Hold an owner's options against their declared kind and bounds.

    Raises:
        OptionError: naming the option, its value and what it takes.
    """
    for f in fields(owner):
        value = getattr(owner, f.name)
        if "help" in f.metadata and not (value is None and f.default is None):
            object.__setattr__(owner, f.name, check_option(f.name, value, f.metadata))


def check_option(name: str, value: Any, meta: Mapping[str, Any]) -> int | float:
    """`value` as the option's kind, or an OptionError that says what the option takes."""
    kind, low, high = meta["kind"], meta["low"], meta["high"]
    takes = f"It takes {'a whole number' if kind is int else 'a number'}{_range(low, high)}."
    try:
        if isinstance(value, bool):
            raise TypeError
        number = operator.index(value) if kind is int else float(value)
    except (TypeError, ValueError, OverflowError):
        raise OptionError(f"{name} is {value!r}.", takes) from None
    if (
        (kind is float and not math.isfinite(number))
        or (low is not None and number < low)
        or (high is not None and number > high)
    ):
        raise OptionError(f"{name} is {value!r}.", takes)
    return number


def check_dtype(dtype: str | None) -> None:
    """Refuse a dtype that weights are not loaded in; None is as they are stored.

    Raises:
        OptionError: naming those that they are.
    """
    if dtype is not None and (not isinstance(dtype, str) or dtype not in DTYPES):
        raise OptionError(f"dtype is {dtype!r}.", f"It takes {', '.join(DTYPES)}.")


def check_quantize(quantize: str | None) -> None:
    """Refuse what weights cannot be quantised to; None is not at all.

    Raises:
        OptionError: naming what they can.
    """
    if quantize is not None and (not isinstance(quantize, str) or quantize not in QUANTIZE):
        raise OptionError(f"quantize is {quantize!r}.", f"It takes {' or '.join(QUANTIZE)}.")


def check_adapter(value: object) -> str | None:
    """The absolute path of an adapter's folder, so that one folder is one adapter however it is written.

    Raises:
        OptionError: it is no path.
    """
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike) or not str(value).strip():
        raise OptionError(f"adapter is {value!r}.", "It takes the folder of a LoRA adapter.")
    return os.path.abspath(os.path.expanduser(os.fspath(value)))


def check_keep_alive(value: object, name: str = "keep_alive") -> float | str | None:
    """How many seconds a model stays in memory after its last answer, "forever", or None for what holds otherwise.

    Raises:
        OptionError: it is none of them.
    """
    if value is None:
        return None
    if value == FOREVER:
        return FOREVER
    try:
        if isinstance(value, bool):
            raise TypeError
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < math.inf:
        raise OptionError(f"{name} is {value!r}.", f"It takes seconds, 0 for at once, or {FOREVER}.")
    return seconds


def check_think(value: Any) -> str | int | None:
    """Whether a model shall think: "on", "off", the tokens that it may take for it, or None for the model's own way.

    Raises:
        OptionError: it is none of them.
    """
    if value is None or value in THINK:
        return value
    if isinstance(value, bool):
        return THINK[not value]
    try:
        tokens = int(value) if isinstance(value, str) else operator.index(value)
    except (TypeError, ValueError):
        tokens = -1
    if tokens < 0:
        raise OptionError(f"think is {value!r}.", "It takes on, off, or how many tokens the model may think.")
    return int(tokens)


def _check_kv(request: Request) -> None:
    for name, allowed in (("kv_bits", KV_BITS), ("kv_group_size", KV_GROUP_SIZES)):
        value = getattr(request, name)
        if value is not None and value not in allowed:
            raise OptionError(f"{name} is {value}.", f"It takes {', '.join(map(str, allowed))}.")
    if request.kv_group_size is not None and request.kv_bits is None:
        raise OptionError(f"kv_group_size is {request.kv_group_size} without kv_bits.", "Give kv_bits too: 4 or 8.")


def _check_draft(request: Request) -> None:
    if request.draft is not None and not request.draft.strip():
        raise OptionError(f"draft is {request.draft!r}.", f"It takes a model's name, or {LOOKUP}.")
    if request.draft_tokens is not None and request.draft is None:
        raise OptionError(
            f"draft_tokens is {request.draft_tokens} without a draft.", f"Give draft too: a model's name, or {LOOKUP}."
        )


def _check_tools(request: Request) -> None:
    names = [tool.name for tool in request.tools]
    if names and request.schema is not None:
        raise OptionError("An answer that is kept to a schema can call no tool.", "Leave out either schema or tools.")
    if request.raw and names:
        raise PromptError("Tools need the chat template.", "Leave out either `raw` or `tools`.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise OptionError(f"Two tools are called {twice}.", "Give one of them another name.")


def _check_schema(request: Request) -> None:
    if request.schema is None:
        return
    object.__setattr__(request, "schema", Schema.of(request.schema))
    if request.stop:
        raise OptionError(
            f"stop is {request.stop[0]!r} with a schema, which says itself where an answer ends.", "Leave out stop."
        )


def _range(low: float | None, high: float | None) -> str:
    if low is not None and high is not None:
        return f" from {low:,} to {high:,}" if isinstance(high, int) else f" from {low:g} to {high:g}"
    return f" of at least {low:g}" if low is not None else ""


# Weights loaded in the dtype that they are stored in.
AS_STORED = Precision()
