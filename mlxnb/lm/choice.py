"""Which engine answers mlx-lm's calls, as one decision, and the function of that engine behind each name."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from threading import Lock
from types import MappingProxyType
from typing import Any

from ..config import lm
from ..decision import Accepted, Decision, Rejected
from ..errors import BackendMissingError
from ..quiet import import_transformers

# Where the torch engine has what mlx-lm keeps in a module of its own.
_ON_TORCH: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "mlx_lm": {
            "load": "loading",
            "generate": "generation",
            "stream_generate": "generation",
            "batch_generate": "batch",
            "convert": "conversion",
        },
        "mlx_lm.utils": {"load": "loading"},
        "mlx_lm.tokenizer_utils": {"TokenizerWrapper": "tokenizer"},
        "mlx_lm.sample_utils": {"make_sampler": "sampling", "make_logits_processors": "sampling"},
        "mlx_lm.models.cache": dict.fromkeys(
            ("make_prompt_cache", "trim_prompt_cache", "can_trim_prompt_cache"), "prompt_cache"
        )
        | dict.fromkeys(("save_prompt_cache", "load_prompt_cache"), "cache_file"),
    }
)


def engine_in_use() -> Accepted:
    """The engine that answers now, "mlx" or "torch", as the subject of a decision that says why.

    Raises:
        BackendMissingError: the one that MLXNB_LM names cannot run here, or none can.
        OptionError: MLXNB_LM is another word.
    """
    from ..backends import default_backends, select

    wanted, backends = lm(), default_backends()
    if wanted != "auto":
        return _ready(wanted, backends[wanted].available(), f"MLXNB_LM={wanted}")
    order = [name for name in select.automatic_order() if name in ("mlx", "torch")]
    decisions = [backends[name].available() for name in order]
    refused = [str(decision) for decision in decisions if isinstance(decision, Rejected)]
    for name, decision in zip(order, decisions, strict=True):
        if decision:
            why = "the faster one on this machine" if name == order[0] else f"in place of {refused[0]}"
            return Accepted(name, why)
    raise BackendMissingError(
        f"Nothing here can run mlx-lm's calls: {'; '.join(refused)}.", "Try pip install 'mlxnb[torch]'."
    )


def _ready(name: str, decision: Decision, why: str) -> Accepted:
    if isinstance(decision, Rejected):
        raise BackendMissingError(f"{why}, but {decision.reason}.", f"Try {decision.remedy}, or MLXNB_LM=auto.")
    return Accepted(name, why)


def lookup(module: str, name: str) -> Any:
    """What mlx-lm's `module` calls `name`, on the engine in use: mlx-lm's own, or the torch engine's."""
    if engine_in_use().subject == "mlx":
        import_transformers()  # mlx-lm would import it aloud
        return getattr(importlib.import_module(module), name)
    return getattr(importlib.import_module(f".on_torch.{_ON_TORCH[module][name]}", __package__), name)


def names(module: str) -> list[str]:
    """What of mlx-lm's `module` is offered here."""
    return sorted(_ON_TORCH[module])


_kept: dict[tuple[str, str], tuple[Any, Any]] = {}
_keeping = Lock()


def load_cached(path_or_hf_repo: str) -> tuple[Any, Any]:
    """`load` without options, once per model and engine: later calls give the same model and tokenizer, as long as the
    name is of the same folder and that holds the same files.
    """
    from ..models.mark import mark_of
    from ..models.resolve import folder_of

    with _keeping:
        folder = folder_of(str(path_or_hf_repo))
        key, mark = (engine_in_use().subject, str(folder or path_or_hf_repo)), mark_of(folder) if folder else ()
        if key not in _kept or _kept[key][0] != mark:
            _kept[key] = mark, lookup("mlx_lm", "load")(path_or_hf_repo)
        return _kept[key][1]
