"""The kinds of server that are told apart, with the sampling options that each takes beside OpenAI's own.

Every option that a kind takes is sent, also where it is off: servers have other defaults (llama.cpp's are top_k 40,
top_p 0.95 and min_p 0.05). What each takes, by its documentation or source of November 2026:

- OpenAI: https://platform.openai.com/docs/api-reference/chat/create
- Ollama: https://docs.ollama.com/api/openai-compatibility, "Supported request fields"
- LM Studio: https://lmstudio.ai/docs/developer/openai-compat/chat-completions, "Supported payload parameters"
- llama-server: https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md, `POST /completion`
- llama-cpp-python: llama_cpp/server/types.py, CreateChatCompletionRequest
- vLLM: https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html, "Extra parameters for Chat API"
- mlx_lm.server: mlx_lm/SERVER.md and mlx_lm/server.py
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .server_address import Address
from .thinking_switch import EFFORT as EFFORT_NAME
from .thinking_switch import SWITCHES

EXTRA = ("top_k", "min_p", "repetition_penalty")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of server. `takes` maps an option of Sampling to the server's name for it; `also` goes with every
    request, `limit` is what it calls max_tokens, `stops` whether it can be trusted with stop strings,
    `no_top_k` a top_k that is off, `think` what tells a model to think ("on") or not to ("off"). `schemas` is the type
    of `response_format` by which it takes a JSON schema, and `patterns` what it takes choices or a regular expression
    in; empty where it does not. `logprobs`: whether it tells them in OpenAI's form.
    """

    label: str
    takes: Mapping[str, str]
    also: Mapping[str, Any] = field(default_factory=dict)
    limit: str = "max_tokens"
    stops: bool = True
    no_top_k: int = 0
    schemas: str = "json_schema"
    patterns: str = ""
    think: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    logprobs: bool = True

    @property
    def untaken(self) -> tuple[str, ...]:
        """The options that cannot be sent, for which the server's own defaults hold."""
        return tuple(name for name in EXTRA if name not in self.takes)


SEED = {"seed": "seed"}
ALL = {**SEED, **{name: name for name in EXTRA}}
LLAMA_CPP = {**ALL, "repetition_penalty": "repeat_penalty"}

# Each template takes the name that it knows, and none minds the others; but an effort that it has not some refuse.
TEMPLATE = {
    how: {"chat_template_kwargs": {name: values[how == "off"] for name, *values in SWITCHES if name != EFFORT_NAME}}
    for how in ("on", "off")
}
EFFORT = {"on": {EFFORT_NAME: "medium"}, "off": {EFFORT_NAME: "none"}}

KINDS: Mapping[str, Kind] = {
    "openai": Kind("OpenAI", SEED, limit="max_completion_tokens", think=EFFORT),
    "ollama": Kind("Ollama", SEED, think=EFFORT),
    "lmstudio": Kind("LM Studio", {**SEED, "top_k": "top_k", "repetition_penalty": "repeat_penalty"}, logprobs=False),
    # As many tokens as Sampling looks back.
    "llama-server": Kind("llama-server", LLAMA_CPP, {"repeat_last_n": 20}, patterns="grammar", think=TEMPLATE),
    "llama-cpp-python": Kind("llama-cpp-python", LLAMA_CPP, schemas="json_object", patterns="grammar", logprobs=False),
    "vllm": Kind(
        "vLLM", ALL, no_top_k=-1, patterns="structured_outputs", think=TEMPLATE
    ),  # older versions refuse a top_k of 0
    # It takes a stop string out of the text wherever it stands, but ends only where the model wrote it in the very
    # tokens that the string has alone (mlx-lm 0.32.2, generate.make_stop_sequences): the rest would be glued together.
    "mlx-lm": Kind("mlx_lm.server", ALL, stops=False, schemas="", think=TEMPLATE, logprobs=False),
    "other": Kind("the server", SEED),
}

# What the servers write into `owned_by` of the models that they list.
OWNERS = {
    "library": "ollama",
    "organization_owner": "lmstudio",
    "llamacpp": "llama-server",
    "vllm": "vllm",
    "me": "llama-cpp-python",
}


def kind_of(address: Address, listed: list[dict[str, Any]], software: str) -> str:
    """Which kind of server lists such models. `software` is its Server header.

    mlx_lm.server is told by what it leaves out: its models have no owner, and Python's http.server answers.
    """
    if address.host == "api.openai.com":
        return "openai"
    owners = {model.get("owned_by") for model in listed}
    found = {OWNERS[owner] for owner in owners if isinstance(owner, str) and owner in OWNERS}
    if len(found) == 1:
        return found.pop()
    return "mlx-lm" if owners <= {None} and software.startswith("BaseHTTP/") else "other"
