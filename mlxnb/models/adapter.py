"""Reads what a LoRA adapter's folder says it holds, as mlx-lm and peft write them; no weight is read here.

An adapter adds scale · B·A to a linear layer's weight. Source: Hu et al., "LoRA" (https://arxiv.org/abs/2106.09685);
the scale of peft's rank-stabilised kind: Kalajdzievski (https://arxiv.org/abs/2312.03732).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import AdapterError, UnsupportedModelError
from .files import read_json
from .headers import Tensor, read_header
from .mlx_names import KNOWN

CONFIG = "adapter_config.json"
MLX, PEFT = "adapters.safetensors", "adapter_model.safetensors"
PICKLED = ("adapter_model.bin", "adapters.npz", "adapter_model.pt")
DTYPES = ("F32", "F16", "BF16")
PREFIX = "base_model.model."
_MLX_NAME = re.compile(r"(?P<module>.+)\.lora_(?P<side>[ab])")
_PEFT_NAME = re.compile(r"(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight")
# What peft can do beside adding B·A to a weight, by the names in its configuration.
NOT_PLAIN = {
    "use_dora": "DoRA",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "replicated layers",
    "use_qalora": "QA-LoRA",
    "target_parameters": "updates of parameters that are no layer's weight",
    "modules_to_save": "whole layers beside its updates",
    "trainable_token_indices": "rows of an embedding",
    "fan_in_fan_out": "weights that are stored turned round",
}
# Ways to begin an adapter that take part of the base's weights out of it, so that it belongs to what was left of them:
# peft's guide, https://huggingface.co/docs/peft/developer_guides/lora. It says so no more once peft has converted it.
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, slots=True)
class Update:
    """What is added to the weight [outputs, inputs] of one linear layer: scale · B·A, by the names of both tensors.

    `turned`: they are stored as mlx-lm does, A as [inputs, rank] and B as [rank, outputs], not [rank, inputs] and
    [outputs, rank].
    """

    module: str
    a: str
    b: str
    rank: int
    inputs: int
    outputs: int
    scale: float
    turned: bool


@dataclass(frozen=True, slots=True)
class Adapter:
    """The updates in the file of a folder; `base` is the model that it was made for, where it says so."""

    path: Path
    file: Path
    updates: tuple[Update, ...]
    base: str

    def __str__(self) -> str:
        ranks = sorted({update.rank for update in self.updates})
        rank = f"rank {ranks[0]}" if len(ranks) == 1 else f"ranks {ranks[0]} to {ranks[-1]}"
        layers = f"{len(self.updates)} layer{'s' * (len(self.updates) > 1)}"
        return f"adapter {self.path.name}: LoRA of {rank} on {layers}"

    @property
    def by_mlx_lm(self) -> bool:
        """Whether mlx-lm wrote it, and not peft."""
        return self.file.name == MLX

    def other_base(self, model: str) -> str:
        """The model that it was made for, where that is not `model` by name, also not a version of it."""
        made_for = re.split(r"[/\\]", self.base.rstrip("/\\"))[-1]
        return "" if made_for.casefold() in model.casefold() else self.base

    def check_names(self, model: str, model_type: str, in_mlx: bool) -> None:
        """Refuse an adapter that was trained in the other library, where it is not known that both name the layers of
        a family alike, with the same weights in them.

        Raises:
            UnsupportedModelError: it is not.
        """
        if self.by_mlx_lm != in_mlx and model_type not in KNOWN:
            made, here = ("mlx-lm", "torch") if self.by_mlx_lm else ("peft", "mlx")
            raise UnsupportedModelError(
                f"The adapter {self.path.name} was made by {made} for {model}, a {model_type}, whose layers {here} may "
                "name or order in another way.",
                f"Take --backend {'mlx' if self.by_mlx_lm else 'torch'}.",
            )

    def misfit(self, model: str, update: Update, outputs: int, inputs: int) -> AdapterError:
        """The error for a layer of a model that has another shape."""
        made_for = f" It was made for {self.base}." if self.base else ""
        return AdapterError(
            f"The adapter {self.path.name} does not fit {model}: {update.module} has {outputs} outputs and {inputs} "
            f"inputs there, its update {update.outputs} and {update.inputs}.{made_for}",
            "Name the model that it was trained on.",
        )


def read_adapter(path: Path) -> Adapter:
    """What the adapter in a folder holds.

    Raises:
        AdapterError: there is none, it is not in safetensors, or it is more than low-rank updates of linear layers.
        DamagedModelError: its configuration or its file is broken.
    """
    if not path.is_dir():
        problem = "is a file" if path.exists() else "is not there"
        raise AdapterError(f"The adapter {path} {problem}.", "Name the folder with its adapter_config.json.")
    if not (path / CONFIG).is_file():
        raise AdapterError(f"{path} is no adapter: it has no {CONFIG}.", "Name a folder of mlx-lm's or of peft's.")
    config = read_json(path / CONFIG)
    if (path / MLX).is_file():
        return _made(path, path / MLX, _of_mlx(path, config), config.get("model"))
    if (path / PEFT).is_file():
        return _made(path, path / PEFT, _of_peft(path, config), config.get("base_model_name_or_path"))
    pickled = next((name for name in PICKLED if (path / name).exists()), None)
    if pickled:
        remedy = "Save it as safetensors where it was made."
        raise AdapterError(f"The adapter {path.name} has its weights in {pickled}, which is never loaded.", remedy)
    raise AdapterError(f"The adapter {path.name} has neither {MLX} nor {PEFT}.", "Copy the whole folder again.")


def _made(path: Path, file: Path, updates: tuple[Update, ...], base: object) -> Adapter:
    if not updates:
        raise AdapterError(f"The adapter {path.name} is empty: {file.name} holds no update.", "Copy it again.")
    return Adapter(path, file, updates, base if isinstance(base, str) else "")


def _of_mlx(path: Path, config: Mapping[str, Any]) -> tuple[Update, ...]:
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora":
        raise _more(path, f"fine-tuning of the kind {kind!r}")
    parameters = config.get("lora_parameters")
    scale = _number(path, "scale", parameters.get("scale") if isinstance(parameters, dict) else None)
    return tuple(
        _update(path, module, pair, True, lambda rank: scale)
        for module, pair in _pairs(path, read_header(path / MLX), _MLX_NAME).items()
    )


def _of_peft(path: Path, config: Mapping[str, Any]) -> tuple[Update, ...]:
    if str(config.get("peft_type", "LORA")).upper() != "LORA":
        raise _more(path, f"an adapter of the kind {config['peft_type']!r}")
    for name, what in NOT_PLAIN.items():
        if config.get(name):
            raise _more(path, what)
    begun = str(config.get("init_lora_weights")).lower()
    if begun.startswith(CHANGES_BASE):
        raise AdapterError(
            f"The adapter {path.name} began as {begun}: it belongs to a base whose weights were changed for it.",
            "Save it with path_initial_model_for_weight_conversion where it was made, which makes plain LoRA of it.",
        )
    alpha, patterns = _number(path, "lora_alpha", config.get("lora_alpha")), config.get("alpha_pattern") or {}
    root = math.sqrt if config.get("use_rslora") else float

    def update(module: str, pair: dict[str, tuple[str, Tensor]]) -> Update:
        module = module.removeprefix(PREFIX)
        own = _number(path, "alpha_pattern", _by_pattern(path, patterns, module, alpha))
        return _update(path, module, pair, False, lambda rank: own / root(rank))

    return tuple(update(*found) for found in _pairs(path, read_header(path / PEFT), _PEFT_NAME).items())


def _pairs(path: Path, header: Mapping[str, Tensor], form: re.Pattern[str]) -> dict[str, dict[str, tuple[str, Tensor]]]:
    """Both tensors of each layer, by its name and their side."""
    found: dict[str, dict[str, tuple[str, Tensor]]] = {}
    for name, tensor in header.items():
        match = form.fullmatch(name)
        if match is None:
            raise _more(path, name)
        found.setdefault(match["module"], {})[match["side"].lower()] = name, tensor
    return found


def _update(path: Path, module: str, pair: Mapping[str, tuple[str, Tensor]], turned: bool, scale: Any) -> Update:
    if set(pair) != {"a", "b"}:
        lacks = "B" if "a" in pair else "A"
        raise AdapterError(f"The adapter {path.name} has no {lacks} for {module}.", "Copy the folder again.")
    (a, first), (b, second) = pair["a"], pair["b"]
    shapes = f"{list(first.shape)} and {list(second.shape)}"
    if len(first.shape) != 2 or len(second.shape) != 2:
        raise _more(path, f"updates of shapes {shapes} for {module}")
    (inputs, rank), (again, outputs) = (
        (first.shape, second.shape) if turned else (first.shape[::-1], second.shape[::-1])
    )
    if rank != again or not rank:
        raise AdapterError(f"The adapter {path.name} has A and B of shapes {shapes} for {module}.", "Copy it again.")
    if first.dtype not in DTYPES or second.dtype not in DTYPES:
        raise _more(path, f"numbers in {first.dtype} and {second.dtype}")
    return Update(module, a, b, rank, inputs, outputs, float(scale(rank)), turned)


def _by_pattern(path: Path, patterns: Any, module: str, default: float) -> Any:
    """A layer's own alpha, by the first pattern for its name or the end of it; one with ^ is for the whole name."""
    if not isinstance(patterns, dict):
        raise AdapterError(f"The adapter {path.name} has {patterns!r} for alpha_pattern.", f"Mend its {CONFIG}.")
    for pattern, value in patterns.items():
        whole = pattern[1:] if pattern.startswith("^") else rf"(?:.*\.)?(?:{pattern})"
        try:
            if re.fullmatch(whole, module):
                return value
        except re.error as err:
            said = f"The adapter {path.name} has the alpha_pattern {pattern!r}: {err}."
            raise AdapterError(said, f"Mend its {CONFIG}.") from None
    return default


def _number(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AdapterError(f"The adapter {path.name} has {value!r} for {name}.", f"Mend its {CONFIG}.")
    return float(value)


def _more(path: Path, what: str) -> AdapterError:
    return AdapterError(
        f"The adapter {path.name} holds {what[:120]}: only low-rank updates (LoRA) of linear layers can be loaded.",
        "Merge it into its model where it was made, and load that.",
    )
