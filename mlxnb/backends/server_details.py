"""What a server tells of one of its models: the context, the quantisation. Each kind has a call of its own for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .server_faults import plain
from .server_get import Unanswered, ask
from .server_key import key_for
from .server_models import GUESSED, Server

# A person waits while it loads, but only for figures that may be missing.
PATIENCE = 10 * GUESSED
MOST = 2**40  # tokens; more is no context


@dataclass(frozen=True, slots=True)
class Details:
    """`context` in tokens, as the model is loaded there; None and empty where the server does not tell."""

    context: int | None = None
    quantization: str | None = None


def details(server: Server, model: str) -> Details:
    """What the server tells of a model; nothing where it does not answer."""
    tell = TOLD_BY.get(server.kind)
    if tell is None:
        return Details()
    try:
        return tell(server, model)
    except Unanswered:
        return Details()


def _lmstudio(server: Server, model: str) -> Details:
    """https://lmstudio.ai/docs/developer/rest/endpoints: GET /api/v0/models/MODEL."""
    told = _ask(server, f"/api/v0/models/{quote(model, safe='')}")
    context = _whole(told.get("loaded_context_length")) or _whole(told.get("max_context_length"))
    return Details(context, _text(told.get("quantization")))


def _ollama(server: Server, model: str) -> Details:
    """https://docs.ollama.com/api: GET /api/ps has the context of a model that is loaded, /api/show its quantisation.

    The context that a model was trained for is left out: Ollama loads it with less, and cuts what is longer.
    """
    running = _ask(server, "/api/ps").get("models")
    loaded = [one for one in running if isinstance(one, dict)] if isinstance(running, list) else []
    context = next((_whole(one.get("context_length")) for one in loaded if one.get("name") == model), None)
    shown = _ask(server, "/api/show", {"model": model}).get("details")
    return Details(context, _text(shown.get("quantization_level")) if isinstance(shown, dict) else None)


def _llama_server(server: Server, model: str) -> Details:
    """llama.cpp, tools/server/README.md: GET /props has the context of a slot."""
    settings = _ask(server, "/props").get("default_generation_settings")
    return Details(_whole(settings.get("n_ctx")) if isinstance(settings, dict) else None)


def _vllm(server: Server, model: str) -> Details:
    """vLLM writes it into its list of models."""
    return Details(_whole(server.listed.get(model, {}).get("max_model_len")))


TOLD_BY: dict[str, Callable[[Server, str], Details]] = {
    "lmstudio": _lmstudio,
    "ollama": _ollama,
    "llama-server": _llama_server,
    "vllm": _vllm,
}


def _ask(server: Server, path: str, body: Any = None) -> dict[str, Any]:
    address = server.address
    answer, _ = ask(address, address.root + path, seconds=PATIENCE, key=key_for(address), body=body)
    return answer if isinstance(answer, dict) else {}


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < MOST else None


def _text(value: Any) -> str | None:
    return plain(value)[:40] if isinstance(value, str) and value.strip() else None
