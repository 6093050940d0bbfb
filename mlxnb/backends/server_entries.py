"""The models of the servers that answer, as entries of the list of models."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..decision import Rejected
from ..errors import MlxnbError
from ..models.entry import Entry
from . import ollama
from .server_find import servers
from .server_get import Unanswered, ask
from .server_key import key_for
from .server_models import NAMED, Place, Server

UNITS = {"K": 1e3, "M": 1e6, "B": 1e9}


def served_entries() -> list[Entry]:
    """Every model that a server lists, by the name that `server` takes. A server that was only guessed to be there and
    is not has no entry; one that a person named and that does not answer is an entry that says so.
    """
    try:
        found = servers()
    except MlxnbError as err:  # an address that cannot be used
        return [Entry("server", "server", "served", problem=err.message, remedy=err.remedy)]
    return [entry for place, server in found for entry in _entries(place, server)]


def in_ollamas_memory() -> list[ollama.OllamaRunning]:
    """The models that each Ollama which answers has in memory, by the names that `server` takes; none where its client
    is not installed.
    """
    try:
        found = [(place, server) for place, server in servers() if isinstance(server, Server)]
        return [
            replace(model, name=f"{place.prefix}:{model.name}")
            for place, server in found
            if server.kind == "ollama"
            for model in ollama.running(server.address)
        ]
    except MlxnbError:
        return []


def _entries(place: Place, server: Server | Rejected) -> Iterator[Entry]:
    if isinstance(server, Rejected):
        if place.named:
            where = f"server at {place.address.shown}"
            problem, remedy = f"{server.reason[:1].upper()}{server.reason[1:]}.", f"Try to {server.remedy}."
            yield Entry(where, "server", "served", problem=problem, remedy=remedy)
        return
    told = _told(server)
    for name in server.listed:
        yield replace(told.get(name) or Entry("", "", "served"), name=f"{place.prefix}:{name}", where=server.label)


def _told(server: Server) -> dict[str, Entry]:
    """What a kind of server tells of all of its models at once; nothing where it does not."""
    tell = {"ollama": _by_ollama, "lmstudio": _by_lmstudio}.get(server.kind)
    try:
        return tell(server) if tell is not None else {}
    except (MlxnbError, Unanswered):  # it lists their names, and that is all
        return {}


def _by_ollama(server: Server) -> dict[str, Entry]:
    return {model.name: _of_ollama(model) for model in ollama.models(server.address)}


def _of_ollama(model: ollama.OllamaModel) -> Entry:
    return Entry(
        model.name,
        "",
        "gguf",
        size=model.size or None,
        parameters=_parameters(model.parameters),
        precision=model.quantization,
        context=model.context_length,
        architecture=model.family,
    )


def _by_lmstudio(server: Server) -> dict[str, Entry]:
    """https://lmstudio.ai/docs/developer/rest/endpoints: GET /api/v0/models."""
    address = server.address
    answer, _ = ask(address, f"{address.root}/api/v0/models", seconds=NAMED, key=key_for(address))
    listed = answer.get("data") if isinstance(answer, dict) else None
    models = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    return {str(one.get("id")): _of_lmstudio(one) for one in models}


def _of_lmstudio(model: dict[str, Any]) -> Entry:
    context = model.get("max_context_length")
    kind = "safetensors" if model.get("compatibility_type") == "mlx" else _text(model.get("compatibility_type"))
    return Entry(
        "",
        "",
        kind or "served",
        precision=_text(model.get("quantization")),
        context=context if isinstance(context, int) and context > 0 else None,
        architecture=_text(model.get("arch")),
        note="in its memory" if model.get("state") == "loaded" else "",
    )


def _text(value: Any) -> str:
    return value[:60] if isinstance(value, str) else ""


def _parameters(text: str) -> int | None:
    """The number of parameters in Ollama's words, such as "8.2B" or "134.52M"."""
    found = re.fullmatch(r"([\d.]{1,12})\s*([KMB])", text.strip(), re.ASCII)
    try:
        return int(float(found[1]) * UNITS[found[2]]) if found else None
    except ValueError:
        return None
