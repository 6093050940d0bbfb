"""Loads the models that the cases of a profile ask, each of them once, and says what they are."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ...backends.base import LoadedModel
from ...backends.local import LocalModel
from ...backends.memory import let_go, memory_ran_out
from ...errors import BackendError, EngineClosedError, MlxnbError, in_words
from ...runtime import Engine
from ..machine.clock import Clock
from ..report import Case, Profiled
from .asking import Target, options
from .plan import Plan

if TYPE_CHECKING:
    from ..model.weights import Costs

# What a model is asked for by: its name, and the options backend, dtype, quantize, adapter, strict, kv_bits and
# kv_group_size.
Key = tuple[str, str, str | None, str | None, str | None, bool, int | None, int | None]


class Models:
    """The models of a profile, `found` in the order in which they were loaded. One that cannot be is tried once.

    Where a person leaves the backend open, the one that took a model first is to take it in every other precision too,
    or what is told of a dtype would be a difference between backends.
    """

    def __init__(self, engine: Engine, plan: Plan, clock: Clock) -> None:
        self._engine, self._plan, self._clock = engine, plan, clock
        self._known: dict[Key, tuple[int, Target] | MlxnbError] = {}
        self._first: dict[tuple[str, str], str] = {}  # backends by a model's name and what was asked for
        self.found: list[Profiled] = []

    def of(self, case: Case) -> tuple[int, Target]:
        """The place of a case's model in `found`, and how requests name it.

        Raises:
            MlxnbError: it cannot be loaded.
        """
        asked = options(self._plan, case)
        weights = (asked.get("dtype"), asked.get("quantize"), asked.get("adapter"), bool(asked.get("strict")))
        cache = (asked.get("kv_bits"), asked.get("kv_group_size"))
        key: Key = (case.asked, asked.get("backend", "auto"), *weights, *cache)
        if key not in self._known:
            self._known[key] = self._on_the_same(key)
        known = self._known[key]
        if isinstance(known, MlxnbError):
            raise known
        self._first.setdefault(key[:2], known[1].backend)
        return known

    def _on_the_same(self, key: Key) -> tuple[int, Target] | MlxnbError:
        """A model on the backend that took it before, as far as that is left open; else on any, with a note."""
        first = self._first.get(key[:2])
        if first is None or first == key[1]:
            return self._tried(key)
        there, strict = self._tried((key[0], first, *key[2:])), key[5]
        if strict or not isinstance(there, MlxnbError):
            return there
        elsewhere = self._tried(key)
        if isinstance(elsewhere, MlxnbError) or elsewhere[1].backend == first:
            return elsewhere
        place, target = elsewhere
        said = f"{target.backend} answers here and {first} elsewhere, so that a difference is theirs too"
        return place, replace(target, note=f"{said}: {there.message.rstrip('.')}")

    def _tried(self, key: Key) -> tuple[int, Target] | MlxnbError:
        try:
            profiled, target = self._load(*key)
        except EngineClosedError:
            raise
        except MlxnbError as err:
            let_go(err)  # it is kept, and must not keep what was being loaded
            return err
        except Exception as err:  # noqa: BLE001 - an edge: whatever a library raises while it loads a model
            why = "memory ran out" if memory_ran_out(err) else "its backend fell over"
            return BackendError(f"{key[0]} cannot be loaded, {why}: {in_words(err)}.")
        same = next((place for place, each in enumerate(self.found) if _same(each, profiled)), None)
        if same is None:
            self.found.append(profiled)
        return len(self.found) - 1 if same is None else same, target

    def _load(
        self,
        asked: str,
        backend: str,
        dtype: str | None,
        quantize: str | None,
        adapter: str | None,
        strict: bool,
        kv_bits: int | None,
        kv_group_size: int | None,
    ) -> tuple[Profiled, Target]:
        from ..model.weights import costs, with_costs

        before, began = self._engine._models.loads, self._clock()
        info = self._engine.load(asked, backend, dtype, quantize, strict=strict, adapter=adapter)
        took = self._clock() - began if self._engine._models.loads > before else None

        def look(model: LoadedModel) -> tuple[bool, int | None, Costs]:
            local = isinstance(model, LocalModel)
            bits = kv_bits if isinstance(model, LocalModel) and model.quantises_cache else None
            return local, bits, costs(model, bits, kv_group_size if bits else None)

        local, bits, cost = self._engine.call_with(asked, look, info.backend, dtype, quantize, adapter)
        profiled = Profiled(
            name=asked,
            source=info.source,
            revision=info.revision,
            backend=info.backend,
            backend_version=info.backend_version,
            device=info.device,
            dtype=info.dtype,
            quantization=info.quantization,
            attention=info.attention,
            parameters=info.parameters,
            weights=info.memory,
            context_length=info.context_length,
            load_time=took,
            notes=info.notes,
            kv_cache=f"KV cache in {bits} bits" if bits else None,
            adapter=info.adapter or None,
        )
        target = Target(asked, info.backend, dtype, quantize, adapter, local, info.context_length)
        return with_costs(profiled, cost), target


def _same(one: Profiled, other: Profiled) -> bool:
    """Whether two ways of asking led to the same model in memory."""
    return replace(one, load_time=None, notes=()) == replace(other, load_time=None, notes=())
