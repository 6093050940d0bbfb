"""LoRA adapters for tiny checkpoints, in mlx-lm's format and in peft's, and the checkpoints that they amount to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Updates = Mapping[str, tuple[np.ndarray, np.ndarray]]


def draw_updates(checkpoint: Path, modules: Sequence[str], rank: int = 4, seed: int = 0) -> dict[str, Any]:
    """A [rank, inputs] and B [outputs, rank] for each of some layers, large enough to change every answer."""
    from safetensors.numpy import load_file

    weights, draw = load_file(checkpoint / "model.safetensors"), np.random.default_rng(seed)
    found = {}
    for module in modules:
        outputs, inputs = weights[f"{module}.weight"].shape
        a = draw.normal(0, inputs**-0.5, (rank, inputs)).astype(np.float32)
        found[module] = a, draw.normal(0, 1, (outputs, rank)).astype(np.float32)
    return found


def write_mlx(folder: Path, updates: Updates, scale: float, **config: Any) -> Path:
    """As `mlx_lm.lora` writes one."""
    from safetensors.numpy import save_file

    folder.mkdir()
    tensors = {}
    for module, (a, b) in updates.items():
        tensors |= {f"{module}.lora_a": np.ascontiguousarray(a.T), f"{module}.lora_b": np.ascontiguousarray(b.T)}
    save_file(tensors, folder / "adapters.safetensors")
    parameters = {"rank": 4, "scale": scale, "dropout": 0.0}
    settings = {"fine_tune_type": "lora", "num_layers": 3, "lora_parameters": parameters, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def write_peft(folder: Path, updates: Updates, alpha: float, **config: Any) -> Path:
    """As peft's `save_pretrained` writes one."""
    from safetensors.numpy import save_file

    folder.mkdir()
    tensors = {}
    for module, (a, b) in updates.items():
        name = f"base_model.model.{module}"
        tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
    save_file(tensors, folder / "adapter_model.safetensors")
    rank = next(iter(updates.values()))[0].shape[0] if updates else 4
    settings = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "base_model_name_or_path": "some/base", **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def merged(checkpoint: Path, folder: Path, updates: Updates, scale: float) -> Path:
    """A checkpoint whose weights are W + scale · B·A, computed here by numpy."""
    from safetensors.numpy import load_file, save_file

    shutil.copytree(checkpoint, folder)
    weights = load_file(checkpoint / "model.safetensors")
    for module, (a, b) in updates.items():
        added = scale * (b.astype(np.float64) @ a.astype(np.float64))
        weights[f"{module}.weight"] = (weights[f"{module}.weight"] + added).astype(np.float32)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder
