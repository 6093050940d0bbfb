"""Which backends to try for a request, in which order, and why the others were left out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from .. import hardware
from ..decision import Absent, Rejected
from ..errors import BackendMissingError, OptionError
from ..models.names import is_served
from .base import Backend

SERVER = "server"


@dataclass(frozen=True, slots=True)
class Candidates:
    """Backends to try in order, and those passed over, with reasons; `named` tells that a person named them."""

    backends: tuple[Backend, ...]
    passed_over: tuple[Rejected, ...] = ()
    named: bool = False

    def without(self, names: Collection[str]) -> Candidates:
        """They, less those that a request has been to already, or that were passed over for it."""
        return replace(
            self,
            backends=tuple(backend for backend in self.backends if backend.name not in names),
            passed_over=tuple(rejected for rejected in self.passed_over if rejected.subject not in names),
        )


def candidates(wanted: str, backends: Mapping[str, Backend], strict: bool = False, name: str = "") -> Candidates:
    """Backends for `wanted`: a name, several with commas between, or `auto`; with `strict` only the first of the named.

    A name is a chain of one: it runs there or the request fails. So is `auto` for a model whose `name` says that a
    server has it: that the others do not have it tells nobody anything.

    Raises:
        OptionError: no backend has that name.
        BackendMissingError: none of them can run here.
    """
    if wanted == "auto" and SERVER in backends and isinstance(name, str) and is_served(name):
        wanted = SERVER
    named = wanted != "auto"
    names = [part.strip() for part in wanted.split(",")] if named else in_order(backends)
    for name in names:
        if name not in backends:
            raise OptionError(f"There is no backend {name!r}.", f"Backends are auto, {', '.join(backends)}.")
    chain = [backends[name] for name in dict.fromkeys(names)]
    if len(chain) == 1 or (strict and named):
        return Candidates((_ready(chain[0]),), named=named)
    decisions = [(backend, backend.available()) for backend in chain]
    first = next((pair for pair in decisions if not isinstance(pair[1], Absent)), None)
    if strict and first is not None:
        _ready(first[0])  # what is merely not installed is passed over, what should have run is not
    passed_over = tuple(d for _, d in decisions if isinstance(d, Rejected))
    ready = tuple(backend for backend, d in decisions if d)
    if not ready:
        raise BackendMissingError(
            "No backend can run here: " + "; ".join(f"{r.subject}: {r.reason}" for r in passed_over) + ".",
            f"Try {passed_over[-1].remedy}.",
        )
    return Candidates(ready, passed_over, named)


def in_order(backends: Mapping[str, Backend]) -> list[str]:
    """The names of all backends, in the order that `auto` tries them."""
    order = [name for name in automatic_order() if name in backends]
    return [*order, *(name for name in backends if name not in order)]


def automatic_order() -> tuple[str, ...]:
    """The order where nothing is measured, and between backends that are equally fast: MLX on Apple silicon, then
    servers (LM Studio before Ollama), llama.cpp, transformers, and ONNX; elsewhere MLX comes after transformers.

    Away from Metal MLX is the slower one: on a 2-core Linux CPU a 0.6B-shaped bf16 model decoded at 2.8 tok/s in MLX
    and 19.7 tok/s in torch, the pocket model at 198 and 370 tok/s (`python -m tests.benchmarks decode`).
    """
    others = ("server", "llamacpp", "torch")
    return ("mlx", *others, "onnx") if hardware.is_apple_silicon() else (*others, "mlx", "onnx")


def _ready(backend: Backend) -> Backend:
    decision = backend.available()
    if isinstance(decision, Rejected):
        raise BackendMissingError(
            f"The {backend.name} backend cannot run here: {decision.reason}.", f"Try {decision.remedy}."
        )
    return backend
