"""mlx-lm's `convert` without MLX."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...errors import NotAModelError, OptionError, UnsupportedModelError
from ...models import resolve
from ...models.convert import Quantisation
from ...models.convert import convert as write
from .refusals import refuse


def convert(
    hf_path: str,
    mlx_path: str = "mlx_model",
    quantize: bool = False,
    q_group_size: int | None = None,
    q_bits: int | None = None,
    q_mode: str = "affine",
    dtype: str | None = None,
    upload_repo: str | None = None,
    revision: str | None = None,
    dequantize: bool = False,
    quant_predicate: Callable[..., Any] | str | None = None,
    trust_remote_code: bool = False,
) -> None:
    """Write a model in MLX's format to the new folder `mlx_path`, quantised to 4 bits in groups of 64 unless told.

    No code of the model's folder is run or copied, whatever `trust_remote_code` says. `quant_predicate` is the name of
    a mixed recipe; a function would be asked about MLX's layers, which are not here.

    Raises:
        ValueError: the folder exists, the model type is not known, or an option is not for torch.
        FileNotFoundError: `hf_path` holds no model.
    """
    if Path(mlx_path).exists():
        raise OptionError(f"Cannot save to {mlx_path}: it already exists.", "Delete it, or name another folder.")
    if quantize and dequantize:
        raise OptionError("quantize and dequantize were both given.", "Choose one of them.")
    refuse(
        upload_repo=upload_repo,
        quant_predicate=quant_predicate if callable(quant_predicate) else None,
        q_mode=None if q_mode == "affine" else q_mode,
        dequantize=dequantize,
    )
    recipe = quant_predicate if isinstance(quant_predicate, str) else None
    quantisation = Quantisation(q_group_size or 64, q_bits or 4, recipe) if quantize else None
    print("[INFO] Loading")
    try:
        bits = write(resolve(hf_path, revision=revision), Path(mlx_path), quantisation, dtype)
    except UnsupportedModelError as err:
        raise ValueError(str(err)) from err
    except NotAModelError as err:
        raise FileNotFoundError(str(err)) from err
    if quantize:
        print(f"[INFO] Quantized model with {bits:.3f} bits per weight.")
