"""What is done to a model's attention on the engine's thread, for fronts: look at it, measure it, compare it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config import cache_dir
from ..decision import Decision
from ..errors import KernelError
from ..request import Request

if TYPE_CHECKING:
    from ..backends.mlx import MlxModel
    from ..kernels.bench import Bench
    from ..kernels.config import AttentionConfig

LENGTHS = (256, 1024, 4096)

# Steps done, steps in all, and what is under way; what it raises ends the work.
Report = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of one shape: the path to take, why, and what each path says of the shape."""

    config: AttentionConfig
    path: str
    decision: Decision
    paths: tuple[tuple[str, Decision], ...] = ()


def tune(
    model: MlxModel,
    name: str,
    bits: int | None,
    lengths: Sequence[int],
    report: Report,
    seen: Callable[[list[Found]], None] | None = None,
) -> list[Found]:
    """Measure every shape of the model at the lengths, and remember each outcome at once. `seen` hears after each of
    them what was found until then.
    """
    from ..kernels import active
    from ..kernels.tune import Measured

    configs, tuner, found = _configs(model, name, bits, lengths), Measured(), []
    try:
        for i, config in enumerate(configs):
            report(i, len(configs), str(config))
            choice = tuner.measure(config)
            found.append(Found(config, choice.path.name, choice.decision))
            if seen is not None:
                seen(list(found))
    finally:  # also of those that were measured before it was stopped
        dispatcher = active()
        if dispatcher is not None:
            dispatcher.forget()
    return found


def explain(model: MlxModel, name: str, bits: int | None, lengths: Sequence[int], report: Report) -> list[Found]:
    """What would be done for every shape of the model at the lengths; measures nothing."""
    from ..kernels.paths import PATHS
    from ..kernels.policy import should_optimize
    from ..kernels.tune import Measured

    tuner, found = Measured(), []
    for config in _configs(model, name, bits, lengths):
        known = tuner.known(config)
        decision = should_optimize(config, known.decision if known else None)
        paths = tuple((path.name, path.takes(config, tuner.device)) for path in PATHS)
        found.append(Found(config, known.path.name if known and decision else "stock", decision, paths))
    return found


def bench(
    model: MlxModel,
    name: str,
    bits: int | None,
    lengths: Sequence[int],
    report: Report,
    seen: Callable[[Bench], None] | None = None,
) -> Bench:
    """Stock against patched on the model. `seen` hears after each pair what was found until then."""
    from ..kernels.bench import LENGTHS as ALL
    from ..kernels.bench import benchmark_optimization

    return benchmark_optimization(
        model.model,
        name=name,
        vocabulary=model.vocabulary,
        make_cache=_cache_maker(model, bits),
        kv_bits=bits,
        lengths=lengths or [length for length in ALL if length < (model.info.context_length or ALL[-1])],
        prefill_step=model.prefill_step,
        progress=report,
        seen=seen,
    )


def check_writable(path: str | None) -> None:
    """Find out before the work whether its figures can be written where they are wanted.

    Raises:
        KernelError: they cannot.
    """
    if path is None:
        return
    file = Path(path).expanduser()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8"):
            return
    except OSError as err:
        raise KernelError(f"The runs cannot be written to {file}: {err.strerror}.", "Give another --save.") from err


def save(found: Bench, path: str | None) -> Path:
    """Write every run as JSON; where.

    Raises:
        KernelError: the file cannot be written.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    file = Path(path).expanduser() if path else cache_dir() / "kernels" / f"bench-{stamp}.json"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(found.as_json(), indent=1) + "\n", encoding="utf-8")
    except OSError as err:
        raise KernelError(f"The runs cannot be written to {file}: {err.strerror}.", "Give another --save.") from err
    return file


def _configs(model: MlxModel, name: str, bits: int | None, lengths: Sequence[int]) -> list[Any]:
    from ..kernels.shapes import at_lengths, layers_of

    lines = layers_of(model.model, _cache_maker(model, bits))
    if not lines:
        raise KernelError(f"{name} does not use mlx-lm's attention function.", "Its kernels cannot be exchanged.")
    return at_lengths(lines, lengths or LENGTHS, model.prefill_step)


def _cache_maker(model: MlxModel, bits: int | None) -> Callable[[], list[Any]]:
    """Makes the KV cache that a request with these `kv_bits` begins with; what it asks does not matter."""
    from ..backends.base import Watch

    request = Request.of("?", kv_bits=bits)
    return lambda: model.new_state(request, Watch())
