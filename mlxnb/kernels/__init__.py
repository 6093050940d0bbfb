"""Attention paths for mlx-lm models: proven, chosen by measurement, put in place and taken back exactly."""

from __future__ import annotations

from .config import AttentionConfig
from .patch import Patch, active, patch_mlx_lm, unpatch_mlx_lm
from .policy import Thresholds, configure_optimizer, should_optimize

__all__ = [
    "AttentionConfig",
    "Patch",
    "Thresholds",
    "active",
    "configure_optimizer",
    "patch_mlx_lm",
    "should_optimize",
    "unpatch_mlx_lm",
]
