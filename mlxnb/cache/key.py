"""The keys of the caches: everything that decides an answer, or a KV state, as one canonical string."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..decision import Accepted, Decision, Rejected
from ..errors import OptionError
from ..request import CACHE_MODES, Request
from .states import key_of

PREFIX_FORMAT = 1
ROWS_FORMAT = 1

# Options of a Request that say what to do with an answer or its model, not what the answer is. `strict` is none of
# them: a strict request must not be answered by a path that it would have refused.
NOT_DECIDING = frozenset({"cache", "keep_alive"})
PROMPT = frozenset({"messages", "prompt"})


@dataclass(frozen=True, slots=True)
class Answerer:
    """What answers a request, as far as it can change the answer. `identity` and `adapter` are model_identity's;
    `kernels` names the attention in use, `thinking` how the chat template was told to think, as words.
    """

    identity: str
    backend: str
    backend_version: str
    device: str
    dtype: str
    quantization: str | None = None
    adapter: str | None = None
    kv_bits: int | None = None
    kv_group_size: int | None = None
    kernels: str = ""
    thinking: str | None = None
    schema: str | None = None


def result_key(request: Request, prompt_tokens: Sequence[int], answerer: Answerer) -> str:
    """The result cache's key, 64 hexadecimal digits: sha256 over the canonical JSON of all that decides the answer.

    Every field of the request, of its Sampling and of the Answerer goes in by itself, so one that is added later does
    too; only those in NOT_DECIDING stay out.

    Raises:
        TypeError: a field holds something that has no canonical form; such a request cannot be cached.
    """
    from .. import __version__

    parts = {
        "version": __version__,
        "request": _plain(request, leave_out=NOT_DECIDING),
        "prompt": hashlib.sha256(key_of(prompt_tokens)).hexdigest(),
        "answerer": _plain(answerer),
    }
    return hashlib.sha256(_canonical(parts).encode()).hexdigest()


def run_key(request: Request, identity: str) -> str:
    """The name of the journal that the rows of a table go to, 64 hexadecimal digits: sha256 over the model's identity
    and all of a row's request but its messages. Rows that differ in them alone share a journal.

    Raises:
        TypeError: as for `result_key`.
    """
    parts = {"format": ROWS_FORMAT, "identity": identity, "options": _plain(request, leave_out=NOT_DECIDING | PROMPT)}
    return hashlib.sha256(_canonical(parts).encode()).hexdigest()


def row_key(request: Request, identity: str, nth: int) -> str:
    """A row's key in its journal: sha256 over the model's identity, the request, and how many rows before it ask the
    very same, so that a row is known wherever it stands, and two that sampling made differ stay two.

    Raises:
        TypeError: as for `result_key`.
    """
    parts = {
        "format": ROWS_FORMAT,
        "identity": identity,
        "request": _plain(request, leave_out=NOT_DECIDING),
        "nth": nth,
    }
    return hashlib.sha256(_canonical(parts).encode()).hexdigest()


def deciding(request: Request) -> Request:
    """A request with the defaults for what decides no answer: two that ask for the same answer are equal so."""
    plain = {f.name: f.default for f in dataclasses.fields(request) if f.name in NOT_DECIDING}
    return dataclasses.replace(request, **plain)  # type: ignore[arg-type]


def as_asked(request: Request) -> bytes:
    """A request as ASCII JSON, for a look at what is in it.

    Raises:
        TypeError: as for `result_key`.
    """
    return _canonical(_plain(request)).encode()


def prefix_namespace(answerer: Answerer) -> str:
    """The prefix cache's namespace: KV states are shared among requests for which this string is the same.

    The format's version is in it; a schema is not, since it changes which token is taken and no state. `thinking` is
    not either: it changes the prompt's tokens, which are the key inside a namespace.
    """
    parts = {**_plain(answerer, leave_out=frozenset({"schema", "thinking"})), "format": PREFIX_FORMAT}
    return _canonical(parts)


def computed_by(namespace: str) -> tuple[str, str]:
    """The model's identity and the backend of a `prefix_namespace`."""
    parts = json.loads(namespace)
    return str(parts["identity"]), str(parts["backend"])


def repeats(request: Request, mode: str = "auto") -> Decision:
    """Whether the result cache takes a request: by itself ("auto") only one whose answer repeats.

    Raises:
        OptionError: there is no such mode.
    """
    if mode not in CACHE_MODES:
        raise OptionError(f"cache is {mode!r}.", f"It takes {', '.join(CACHE_MODES)}.")
    if mode == "off":
        return Rejected("result cache", "switched off", "--cache auto")
    if mode == "always":
        return Accepted("result cache", "asked for")
    if request.sampling.temperature == 0:
        return Accepted("result cache", "greedy")
    if request.sampling.seed is not None:
        return Accepted("result cache", "seeded")
    return Rejected("result cache", "a random answer without a seed does not repeat", "--seed N or --cache always")


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=True)


def _plain(value: Any, leave_out: frozenset[str] = frozenset()) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        deciding = [f.name for f in dataclasses.fields(value) if f.compare and f.name not in leave_out]
        return {name: _plain(getattr(value, name)) for name in deciding}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise TypeError("A mapping with keys that are no strings has no canonical form.")
        return {key: _plain(item) for key, item in value.items()}
    raise TypeError(f"A {type(value).__name__} has no canonical form, so a request with one cannot be cached.")
