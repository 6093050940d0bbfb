"""Where an attention path of ours is worth a try: thresholds by default, until a measurement knows better."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from ..decision import Accepted, Decision, Rejected
from ..errors import OptionError
from .config import AttentionConfig

SUBJECT = "optimised attention"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What a call must have to be considered. Lengths are of keys, in tokens; None has no limit.

    `given` names the thresholds that a person set: those bind. The others are guesses, which a measurement overrides.
    """

    min_len: int = 128
    max_len: int | None = None
    min_ratio: int = 1
    min_heads: int = 1
    given: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in _values(self).items())


_thresholds = Thresholds()


def thresholds() -> Thresholds:
    """Those in force."""
    return _thresholds


def configure_optimizer(**changes: int | None) -> Thresholds:
    """Set thresholds by name (`min_len`, `max_len`, `min_ratio`, `min_heads`); without any, back to the defaults.

    Raises:
        OptionError: an unknown name, or a value that is no count.
    """
    global _thresholds
    names = {f.name for f in fields(Thresholds)} - {"given"}
    for name, value in changes.items():
        if name not in names:
            raise OptionError(f"Unknown threshold {name!r}.", f"Thresholds are {', '.join(sorted(names))}.")
        _check_count(name, value)
    both: dict[str, Any] = {**_values(_thresholds), **changes}
    if both["max_len"] is not None and both["max_len"] < both["min_len"]:
        raise OptionError(f"max_len is {both['max_len']}, below min_len {both['min_len']}.", "Nothing would be left.")
    given = _thresholds.given | set(changes)
    _thresholds = replace(Thresholds(**both), given=given) if changes else Thresholds()
    return _thresholds


def _values(current: Thresholds) -> dict[str, Any]:
    return {f.name: getattr(current, f.name) for f in fields(Thresholds) if f.name != "given"}


def _check_count(name: str, value: Any) -> None:
    if value is None and name == "max_len":
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f"{name} is {value!r}.", "It takes a whole number of at least 1.")


def should_optimize(config: AttentionConfig, measured: Decision | None = None) -> Decision:
    """Whether a path of ours is to be used or tried for `config`; `measured` is what tuning found, if it ran.

    A threshold that a person set comes first, then the measurement, then the other thresholds.
    """
    limits = _thresholds
    failed = _failed(config, limits)
    if failed is not None and failed[0] in limits.given:
        return Rejected(SUBJECT, failed[1], f"configure_optimizer({failed[0]}=…) set it")
    if measured is not None:
        return measured
    if failed is not None:
        return Rejected(SUBJECT, failed[1], "%patch_kernels tune measures it all the same")
    return Accepted(SUBJECT, "not measured on this machine yet")


def binds(num_heads: int, num_kv_heads: int, kv_len: int) -> bool:
    """Whether a threshold that a person set keeps a call of these figures on stock."""
    limits = _thresholds
    if not limits.given:
        return False
    failed = _failed(AttentionConfig(num_heads, num_kv_heads, 1, 1, kv_len), limits)
    return failed is not None and failed[0] in limits.given


def _failed(config: AttentionConfig, limits: Thresholds) -> tuple[str, str] | None:
    """The first threshold that `config` misses, with the reason."""
    if config.kv_len < limits.min_len:
        return "min_len", f"{config.kv_len} keys, below min_len {limits.min_len}"
    if limits.max_len is not None and config.kv_len > limits.max_len:
        return "max_len", f"{config.kv_len} keys, above max_len {limits.max_len}"
    if config.ratio < limits.min_ratio:
        return "min_ratio", f"{config.ratio} query heads a KV head, below min_ratio {limits.min_ratio}"
    if config.num_heads < limits.min_heads:
        return "min_heads", f"{config.num_heads} heads, below min_heads {limits.min_heads}"
    return None
