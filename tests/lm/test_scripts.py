"""Code written for mlx-lm runs unchanged but for the import, on a Python without MLX, and says what mlx-lm says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lm.scripts import CONVERT, SCRIPTS, WITHOUT_MLX

pytest.importorskip("torch")

ROOT = Path(__file__).parents[2]


def run(code, *arguments, **environment):
    variables = {name: value for name, value in os.environ.items() if name != "MLXNB_LM"} | environment
    variables["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False, env=variables
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_it_says_without_mlx_what_mlx_lm_says(name, pocket32, tmp_path):
    ours = run(WITHOUT_MLX + SCRIPTS[name].format(lm="mlxnb.lm"), pocket32, tmp_path)
    theirs = run(SCRIPTS[name].format(lm="mlx_lm"), pocket32, tmp_path)
    assert ours == theirs
    assert len(ours) > 20


def test_a_conversion_without_mlx_is_read_by_mlx(tmp_path):
    import mlx_lm
    import numpy as np

    import mlxnb.pocket

    said = run(WITHOUT_MLX + CONVERT.format(lm="mlxnb.lm"), mlxnb.pocket.path(), tmp_path)
    assert "[INFO] Quantized model with 9." in said
    assert "from math import sqrt" in said
    model, tokenizer = mlx_lm.load(str(tmp_path / "quantised"))
    question = [{"role": "user", "content": "Where is sqrt?"}]
    prompt = tokenizer.apply_chat_template(question, add_generation_prompt=True)
    assert "from math import sqrt" in mlx_lm.generate(model, tokenizer, prompt)
    assert np.isfinite(model.model.norm.weight.sum().item())


def test_the_same_script_on_mlx_is_mlx_lm(pocket32, tmp_path):
    code = SCRIPTS["stream"].format(lm="mlxnb.lm") + "\nimport sys\nprint('torch' in str(type(model)))"
    assert run(code, pocket32, MLXNB_LM="mlx").endswith("False\n")
