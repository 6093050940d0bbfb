"""Weights as MLX stores them, read in torch under the names that transformers looks for; no MLX is needed.

mlx-lm stacks the experts of a layer, turns the weights of convolutions, and quantises by `affine`. Each tensor is
read and unpacked only when it is asked for, so that a model is in memory once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..decision import Accepted, Decision, Rejected
from .affine import BITS, GROUPS, dequantise
from .checkpoint import Checkpoint
from .files import listing, weight_files
from .headers import Tensor, read_format, read_header, refuse
from .mlx_names import EXPERTS, KNOWN, LATENT, PLUS_ONE, PLUS_ONE_NAMES

if TYPE_CHECKING:
    import torch

SUBJECT = "MLX's format"
_LAYER = re.compile(r"(?P<layer>model\.layers\.\d+)\.(?P<rest>.+)")


def is_mlx(checkpoint: Checkpoint) -> bool:
    """Whether mlx-lm wrote the folder: its files say so, or its configuration is quantised in MLX's own words."""
    own = checkpoint.config.get("quantization")
    if isinstance(own, dict) and "bits" in own and "quant_method" not in own:
        return True
    return read_format(weight_files(checkpoint.path, listing(checkpoint.path))[0]) == "mlx"


def readable(checkpoint: Checkpoint) -> Decision:
    """Whether `tensors` knows this model's names and its kind of quantisation."""
    if checkpoint.model_type not in KNOWN:
        why = f"how mlx-lm stores the weights of {checkpoint.model_type} is not known here"
        return Rejected(SUBJECT, why, "Use --backend mlx, or the model that it was converted from.")
    stated = checkpoint.config.get("quantization")
    if stated and not isinstance(stated, dict):
        why = f"its config.json has {str(stated)[:40]!r} for quantization, which says neither bits nor group_size"
        return Rejected(SUBJECT, why, "Fetch its config.json again.")
    for settings in _settings(checkpoint.config):
        mode, bits, group = settings.get("mode", "affine"), settings.get("bits"), settings.get("group_size")
        if mode != "affine":
            return Rejected(SUBJECT, f"its mode {mode!r} is not read here", "Take an affine 4- or 8-bit version.")
        for name, value in (("bits", bits), ("group_size", group)):
            if not isinstance(value, int) or isinstance(value, bool):
                why = f"{name} in its config.json is {repr(value)[:40]}"
                return Rejected(SUBJECT, f"{why}, no whole number", "Fetch its config.json again.")
        if bits not in BITS or group not in GROUPS:
            return Rejected(SUBJECT, f"{bits} bits in groups of {group} are not read here", "Use --backend mlx.")
    return Accepted(SUBJECT, "read by torch" + (", dequantised" if checkpoint.quantization else ""))


def _settings(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    quantization = config.get("quantization") or {}
    own = [value for value in quantization.values() if isinstance(value, dict)]
    yield from [_whole(settings) for settings in (quantization, *own)] if quantization else []


def _whole(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """mlx-lm's mixed recipes write null for a group size that nobody gave; MLX takes 64 then."""
    return {**settings, "group_size": 64} if settings.get("group_size", 0) is None else settings


class Stored:
    """A tensor that is read when it is indexed, as transformers does with the slices of a safetensors file."""

    def __init__(self, read: Callable[[], torch.Tensor]) -> None:
        self._read = read

    def __getitem__(self, _: object) -> torch.Tensor:
        return self._read()


def tensors(checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Stored]:
    """Every tensor of the model by transformers' name, quantised ones in `dtype`, the others as they are stored.

    Raises:
        DamagedModelError: a quantised weight lacks a part, or its parts do not fit together.
    """
    reader = _Reader.of(checkpoint, dtype)
    return dict(_translated(checkpoint, reader))


def _translated(checkpoint: Checkpoint, reader: _Reader) -> Iterator[tuple[str, Stored]]:
    kind = checkpoint.model_type
    for name in reader.names():
        match = _LAYER.fullmatch(name)
        layer, rest = (match["layer"], match["rest"]) if match else ("", name)
        if kind in EXPERTS and rest.startswith(EXPERTS[kind].stacked):
            yield from _experts(kind, layer, rest, name, reader)
        elif kind in LATENT and rest == "self_attn.embed_q.weight":
            yield f"{layer}.self_attn.kv_b_proj.weight", Stored(_latent(reader, layer))
        elif kind in LATENT and rest == "self_attn.unembed_out.weight":
            continue
        else:
            yield name, Stored(_plain(kind, name, reader))


def _experts(kind: str, layer: str, rest: str, name: str, reader: _Reader) -> Iterator[tuple[str, Stored]]:
    """One tensor an expert from the stack [experts, out, in] of a layer."""
    names = EXPERTS[kind]
    projection, part = rest.removeprefix(names.stacked).split(".", 1)
    for expert in range(reader.headers[name].shape[0]):
        single = f"{layer}.{names.single}{expert}.{names.projections.get(projection, projection)}.{part}"
        yield single, Stored(lambda expert=expert: reader.read(name, expert))  # type: ignore[misc]


def _plain(kind: str, name: str, reader: _Reader) -> Callable[[], torch.Tensor]:
    if name.endswith("conv1d.weight"):  # [channels, taps, 1] in MLX, [channels, 1, taps] in torch
        return lambda: reader.read(name).movedim(1, 2).contiguous()
    if kind in PLUS_ONE and name.endswith(PLUS_ONE_NAMES):
        return lambda: reader.read(name) - 1
    return lambda: reader.read(name)


def _latent(reader: _Reader, layer: str) -> Callable[[], torch.Tensor]:
    """Latent attention's second projection [heads · (key + value), rank], which mlx-lm keeps as two, one turned."""

    def read() -> torch.Tensor:
        import torch

        keys = reader.read(f"{layer}.self_attn.embed_q.weight").transpose(1, 2)
        values = reader.read(f"{layer}.self_attn.unembed_out.weight")
        return torch.cat([keys, values], dim=1).flatten(0, 1)

    return read


@dataclass(frozen=True, slots=True)
class _Reader:
    """The files of a folder: which has what, and how each weight is quantised."""

    headers: dict[str, Tensor]
    files: dict[str, Any]
    quantization: Mapping[str, Any]
    dtype: torch.dtype

    @classmethod
    def of(cls, checkpoint: Checkpoint, dtype: torch.dtype) -> _Reader:
        from safetensors import safe_open

        headers: dict[str, Tensor] = {}
        files: dict[str, Any] = {}
        for path in weight_files(checkpoint.path, listing(checkpoint.path)):
            handle, here = safe_open(Path(path), framework="pt"), read_header(path)
            headers |= here
            files |= dict.fromkeys(here, handle)
        return cls(headers, files, checkpoint.config.get("quantization") or {}, dtype)

    def names(self) -> list[str]:
        """Every tensor but the scales and biases of a quantised weight."""
        parts = {f"{base}.{part}" for base in self._quantised() for part in ("scales", "biases")}
        return [name for name in self.headers if name not in parts]

    def _quantised(self) -> list[str]:
        return [name.removesuffix(".scales") for name in self.headers if name.endswith(".scales")]

    def read(self, name: str, index: int | None = None) -> torch.Tensor:
        """A tensor, or one of those that are stacked in it; a quantised one unpacked."""
        base = name.removesuffix(".weight")
        if f"{base}.scales" not in self.headers or base == name:
            return self._part(name, index)
        bits = self._bits(base)
        words, scales, biases = (self._part(f"{base}.{part}", index) for part in ("weight", "scales", "biases"))
        return dequantise(words, scales, biases, bits, self.dtype)

    def _part(self, name: str, index: int | None) -> torch.Tensor:
        if index is None:
            return self.files[name].get_tensor(name)
        return self.files[name].get_slice(name)[index]

    def _bits(self, base: str) -> int:
        """Bits of a quantised weight, its own or the model's, once its three parts were held against one another."""
        own = self.quantization.get(base)
        settings = _whole(own if isinstance(own, dict) else self.quantization)
        bits, group = settings.get("bits", 0), settings.get("group_size", 0)
        words, scales, biases = (self.headers.get(f"{base}.{part}") for part in ("weight", "scales", "biases"))
        if words is None or scales is None or biases is None:
            refuse("model.safetensors", f"has no weight or biases beside {base}.scales")
        fits = words.shape[-1] * 32 == scales.shape[-1] * group * bits and scales.shape == biases.shape
        if not fits or words.dtype != "U32" or words.shape[:-1] != scales.shape[:-1]:
            problem = f"has {base}.weight {words.dtype} {list(words.shape)} with scales {list(scales.shape)}"
            refuse("model.safetensors", f"{problem}, which is not {bits} bits in groups of {group}")
        return bits
