"""mlx-lm's `load` on torch: a folder, a repository or an MLX conversion becomes a model and its tokenizer."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from ...decision import Accepted
from ...errors import AdapterError, NotAModelError, OptionError, UnsupportedModelError
from ...models import ModelSource, resolve
from ...models.adapter import read_adapter
from ...models.catalogue import original
from ...models.files import read_json
from ...request import check_adapter
from .model import Model
from .refusals import refuse
from .tokenizer import load_tokenizer


def load(
    path_or_hf_repo: str,
    tokenizer_config: dict[str, Any] | None = None,
    model_config: dict[str, Any] | None = None,
    adapter_path: str | None = None,
    lazy: bool = False,
    return_config: bool = False,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """The model and tokenizer of a folder or a repository; with `return_config` the configuration too.

    `lazy` changes nothing: weights are read at once. An MLX conversion that torch cannot read is replaced by the
    repository it was made from where that is certain, with a warning. An adapter, of mlx-lm or of peft, is merged into
    the weights. No code of a model's folder is run for the model; `tokenizer_config` goes to transformers,
    `trust_remote_code` in it included.

    Raises:
        ModelError: it cannot be found or read.
        FileNotFoundError: the folder holds no model.
        ValueError: the architecture is not known, or an option is not for torch.
    """
    refuse(model_config=_changes(model_config))
    adapter = _adapter(adapter_path)
    source = resolve(path_or_hf_repo, revision=revision)
    config = _config(source.path)
    if config.get("model_file"):
        raise OptionError(f"{path_or_hf_repo} wants {config['model_file']!r} run.", "torch runs no code of a model.")
    try:
        model = Model(_key(source, revision), config, adapter)
    except NotAModelError as err:
        raise FileNotFoundError(str(err)) from err
    except AdapterError as err:
        raise ValueError(str(err)) from err
    except UnsupportedModelError as err:
        source = _instead(source, err)
        config = _config(source.path)
        model = Model(_key(source, None), config, adapter)
    tokenizer = load_tokenizer(source.path, tokenizer_config, config.get("eos_token_id"))
    return (model, tokenizer, config) if return_config else (model, tokenizer)


def _adapter(path: str | None) -> str | None:
    """The folder of an adapter, of mlx-lm's or peft's, whose own mistakes are of mlx-lm's types."""
    if path is None:
        return None
    folder = Path(check_adapter(path) or "")
    if not folder.exists():
        raise FileNotFoundError(f"The adapter path does not exist: {path}")
    try:
        read_adapter(folder)
    except AdapterError as err:
        raise ValueError(str(err)) from err
    return str(folder)


def _changes(model_config: dict[str, Any] | None) -> dict[str, Any] | None:
    """What of a model_config would change the model: mlx-lm's own command passes quantize_activations=False."""
    return {k: v for k, v in (model_config or {}).items() if (k, v) != ("quantize_activations", False)} or None


def _key(source: ModelSource, revision: str | None) -> str:
    """The name by which the engine keeps the model: its folder, which stays the same wherever one goes, where the name
    was of a folder or a revision was asked for.
    """
    by_folder = revision is not None or source.kind in ("path", "local")
    return str(source.path) if by_folder else source.name


def _instead(source: ModelSource, err: UnsupportedModelError) -> ModelSource:
    """The original of an MLX conversion that torch cannot read, fetched; never without a word."""
    decision = original(source.name, source.path)
    if not isinstance(decision, Accepted):
        raise ValueError(str(err)) from err
    warnings.warn(
        f"{err.message} Taken in its place: {decision.subject} ({decision.reason}).", UserWarning, stacklevel=3
    )
    return resolve(decision.subject)


def _config(path: Path) -> dict[str, Any]:
    """config.json with the ends of a turn that generation_config.json names, as mlx-lm reads it."""
    if not (path / "config.json").is_file():
        raise FileNotFoundError(f"There is no config.json in {path}.")
    config, generation = read_json(path / "config.json"), path / "generation_config.json"
    ends = read_json(generation).get("eos_token_id") if generation.is_file() else None
    return config | ({"eos_token_id": ends} if ends else {})
