"""The server and the model on it that a name stands for."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

from ..decision import Absent, Rejected
from ..errors import OptionError
from ..models import ModelSource
from ..models.find import close_names
from ..models.names import is_served
from .server_address import parse
from .server_kinds import KINDS
from .server_models import SUBJECT, Place, Server, known, ollama_place, places

PREFIXED = re.compile(r"(ollama|lmstudio|server):(?!//)", re.IGNORECASE)
LOCAL = re.compile(r"[./~\\]|mlx://|[A-Za-z]:[\\/]")
MOST = 5  # names in a message
STARTED = {
    "ollama": "start Ollama, or set OLLAMA_HOST to where it runs",
    "lmstudio": "start LM Studio's server (lms server start), or set MLXNB_SERVER_URL to where it runs",
}


def find(name: str, named: bool) -> ModelSource | Rejected:
    """The model that a name stands for: `ollama:NAME`, `lmstudio:NAME`, `server:NAME` (the server of MLXNB_SERVER_URL),
    `http://HOST:PORT/v1#MODEL`, where one model needs no #MODEL, or a plain name that one of those servers lists.

    `named` tells that a person asked for a server; else what is a model of this machine is left to others.

    Raises:
        OptionError: an address cannot be used, such as one with a password in it, which must not be repeated.
    """
    if name.lower().startswith(("http://", "https://")):
        return _at_address(name)
    prefixed = PREFIXED.match(name)
    if prefixed:
        return _at_place(prefixed[1].lower(), name[prefixed.end() :].strip(), name)
    if not named and (name == "pocket" or _is_local(name)):
        reason = f"{name} is a model of this machine"
        return Rejected(SUBJECT, reason, f"ask a server for it by server:{name}")
    try:
        return _anywhere(name)
    except OptionError as err:
        if named:
            raise
        # Nobody asked for a server: a wrong address of one stops no model that another backend has.
        return Rejected(SUBJECT, err.message.rstrip("."), err.remedy[:1].lower() + err.remedy[1:].rstrip("."))


def servers() -> list[tuple[Place, Server | Rejected]]:
    """Every place where a server may be, and what is there; for tables and lists of models.

    Raises:
        OptionError: the address in a variable cannot be used.
    """
    return [(place, known.look(place.address, place.named, place.kind)) for place in places()]


def _is_local(name: str) -> bool:
    return LOCAL.match(name) is not None or os.path.exists(name)


def _at_address(name: str) -> ModelSource | Rejected:
    url, _, model = name.partition("#")
    server = known.look(parse(url), True)
    if isinstance(server, Rejected):
        return server
    if model:
        return _on(server, model, name)
    if len(server.listed) == 1:
        return _source(server, next(iter(server.listed)), name)
    if not server.listed:
        reason = f"{server.address.shown} does not say which models it has"
        one = "default_model" if server.kind == "mlx-lm" else "MODEL"
        return Rejected(SUBJECT, reason, f"name one: {server.address.url}#{one}")
    reason = f"{server.address.shown} has {_some(server.listed)}"
    return Rejected(SUBJECT, reason, f"name one: {server.address.url}#{next(iter(server.listed))}")


def _at_place(prefix: str, model: str, name: str) -> ModelSource | Rejected:
    if not model:
        return Rejected(SUBJECT, f"{name!r} names no model", f"put the name behind the colon, as in {prefix}:MODEL")
    if prefix == "ollama":
        place: Place | None = ollama_place()
    else:
        place = next((place for place in places() if place.prefix == prefix), None)
    if place is None:
        remedy = "set MLXNB_SERVER_URL to its address, such as http://localhost:8080/v1"
        return Rejected(SUBJECT, "no server is configured", remedy)
    server = known.look(place.address, True, place.kind)
    if isinstance(server, Absent) and prefix in STARTED:
        return Absent(SUBJECT, f"{KINDS[prefix].label} does not run: {server.reason}", STARTED[prefix])
    return server if isinstance(server, Rejected) else _on(server, model, name)


def _anywhere(name: str) -> ModelSource | Rejected:
    there = servers()
    for _, server in there:
        if isinstance(server, Server) and (model := _listed(server, name)):
            return _source(server, model, name)
    answering = [server for _, server in there if isinstance(server, Server)]
    if not answering:
        for place, found in there:
            if place.named and isinstance(found, Rejected):
                return found
        where = " or ".join(place.address.shown for place, _ in there)
        remedy = "start LM Studio or Ollama, or set MLXNB_SERVER_URL to the address of another server"
        return Rejected(SUBJECT, f"no server answers at {where}", remedy)
    if len(answering) == 1:
        return _unlisted(answering[0], name)
    labels = " nor ".join(server.label for server in answering)
    return Rejected(SUBJECT, f"neither {labels} has {name!r}", "take a model of `%mlxnb models`")


def _on(server: Server, model: str, name: str) -> ModelSource | Rejected:
    found = _listed(server, model)
    if found:
        return _source(server, found, name)
    return _unlisted(server, model) if server.complete else _source(server, model, name)


def _listed(server: Server, model: str) -> str | None:
    """The name by which a server has a model: as it is, with Ollama's `:latest`, or the only path that ends so."""
    if server.kind == "mlx-lm" and model == "default_model":
        return model  # the one that it was started with
    for spelling in (model, f"{model}:latest"):
        if spelling in server.listed:
            return spelling
    ending = [other for other in server.listed if PurePosixPath(other.replace("\\", "/")).name == model]
    paths = [other for other in ending if other.startswith(("/", ".")) or other.endswith(".gguf") or "\\" in other]
    return paths[0] if len(paths) == 1 else None


def _unlisted(server: Server, model: str) -> Rejected:
    if not server.listed:
        return Rejected(SUBJECT, f"{server.label} has no model", "load one there")
    close = close_names(model, server.listed)
    remedy = f"ask for {' or '.join(close)}" if close else "ask for one that it has"
    if server.kind == "ollama":
        remedy += f", or fetch it: ollama pull {model}"
    return Rejected(SUBJECT, f"{server.label} has no {model!r}: it has {_some(server.listed)}", remedy)


def _some(names: dict[str, dict[str, object]]) -> str:
    first = list(names)[:MOST]
    more = len(names) - len(first)
    return ", ".join(first) + (f" and {more} more" if more else "")


def _source(server: Server, model: str, name: str) -> ModelSource:
    asked = name.rpartition("#")[2] if is_served(name) else name
    plain = PREFIXED.sub("", asked, count=1)
    shown = "" if plain in (model, name) or f"{plain}:latest" == model else f"served as {model}"
    return ModelSource(name, Path(), "server", note=shown, format="served", url=server.address.url, served_as=model)
