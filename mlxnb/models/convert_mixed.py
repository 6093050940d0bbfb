"""mlx-lm's mixed recipes: which layers of a model get more bits than the others.

The choice is that of `mlx_lm.convert.mixed_quant_predicate_builder` in mlx-lm 0.32, which follows llama.cpp's Q4_K_M.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..conversion import RECIPES

_LAYER = re.compile(r"model\.layers\.(\d+)\.")
# As parts of a path: mlx-lm's "v_proj" also finds Phi-3's joined qkv_proj.
_CARRIERS = ("v_proj", "v_a_proj", "v_b_proj", "down_proj")


def takes_recipes(paths: Iterable[str]) -> bool:
    """Whether the layers at `paths` are named as the recipes expect it."""
    return any("down_proj" in path for path in paths)


def mixed_bits(recipe: str, path: str, layers: int) -> int:
    """Bits of the layer at `path` in a model of so many layers: the head gets more, and so do values and down
    projections in the first eighth of the layers, in the last, and in every third layer between.
    """
    few, more = RECIPES[recipe]
    if "lm_head" in path:
        return more
    match = _LAYER.match(path)
    index, eighth = int(match[1]) if match else 0, layers // 8
    outer = index < eighth or index >= 7 * layers // 8
    third = (index - eighth) % 3 == 2
    return more if (outer or third) and any(part in path for part in _CARRIERS) else few
