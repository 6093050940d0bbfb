"""What `load` gives for a model: a handle on the one copy that the engine keeps in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ...backends.base import ModelInfo, Watch
from ...backends.vocabulary import check_ids
from ...errors import DamagedModelError, OptionError
from ...models.mark import Mark, mark_of
from ...models.resolve import folder_of
from ...request import Request
from ...runtime import shared_engine

if TYPE_CHECKING:
    import torch

    from ...backends.torch import TorchModel

T = TypeVar("T")


class Model:
    """A model on torch, for the other calls. Handles of one name share one copy; `%mlxnb unload` gives it back."""

    def __init__(self, name: str, config: dict[str, Any], adapter: str | None = None) -> None:
        self.name, self.config, self.adapter = name, config, adapter
        self._mark = self._now()
        shared_engine().load(name, backend="torch", adapter=adapter)

    def _now(self) -> Mark:
        folder = folder_of(self.name)
        return mark_of(folder) if folder is not None else ()

    def run(self, function: Callable[[TorchModel], T]) -> T:
        """`function` of the loaded model, on the engine's thread; loaded again if it was unloaded.

        Raises:
            ModelError: the folder holds something else than when this handle was made, or it cannot be loaded again.
        """
        if (now := self._now()) and now != self._mark:
            raise DamagedModelError(f"The files of {self.name} have changed since it was loaded.", "Call load again.")
        return shared_engine().call_with(self.name, function, backend="torch", adapter=self.adapter)  # type: ignore[arg-type]

    @property
    def info(self) -> ModelInfo:
        """What is loaded, where, in which dtype."""
        return self.run(lambda loaded: loaded.info)

    def request(self) -> Request:
        """A request that asks nothing, where the backend wants one."""
        return Request.of("-", model=self.name, backend="torch", adapter=self.adapter)

    def fresh(self, loaded: TorchModel) -> Any:
        """A KV state without tokens; on the engine's thread."""
        return loaded.new_state(self.request(), Watch())

    def __call__(self, inputs: torch.Tensor, cache: list[Any] | None = None) -> torch.Tensor:
        """Logits [B, L, vocabulary] for ids [B, L]; a `cache` of `make_prompt_cache` is fed on the way."""
        from .prompt_cache import joined

        if getattr(inputs, "ndim", 0) != 2:
            raise OptionError("A model takes ids as a tensor [batch, length].", "Write torch.tensor([ids]).")
        if inputs.is_floating_point() or not inputs.numel():
            raise OptionError(f"A model takes whole numbers, not {list(inputs.shape)} of {inputs.dtype}.", "Give ids.")
        check_ids([int(inputs.min()), int(inputs.max())], self.config.get("vocab_size"), self.name, "The input")
        return self.run(lambda loaded: loaded.logits(inputs, joined(cache, self, loaded) if cache else None).clone())

    def __repr__(self) -> str:
        info = self.info
        return f"<{info.name} on {info.backend}, {info.device}, {info.dtype}, {info.parameters:,} parameters>"


def of(model: Any) -> Model:
    """`model`, or an OptionError that says what it should have been."""
    if not isinstance(model, Model):
        raise OptionError(
            f"The model is a {type(model).__module__}.{type(model).__name__}, not one that mlxnb.lm loaded on torch.",
            "Load it by mlxnb.lm.load with the same MLXNB_LM.",
        )
    return model
