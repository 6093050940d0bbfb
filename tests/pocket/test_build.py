"""The one command builds a model end to end, here a tiny one in a few steps, and a stopped training goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import mlxnb.pocket

pytest.importorskip("tomllib", reason="the builder needs Python 3.11")
pytest.importorskip("torch")
pytest.importorskip("transformers")


def build(*arguments: str) -> str:
    """Run the command as a person would."""
    command = [sys.executable, "-m", "mlxnb.pocket.build", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_the_command_builds_evaluates_and_writes_the_card(tmp_path: Path) -> None:
    pytest.importorskip("mlx_lm")
    said = build("--tiny", "--out", str(tmp_path))
    assert "executed examples" in said
    made = {path.name for path in tmp_path.iterdir()}
    assert made >= {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "MODEL_CARD.md"}
    assert "checkpoint.pt" not in made
    evaluation = json.loads((tmp_path / "evaluation.json").read_text())
    assert set(evaluation["lists"]) == {"tuning", "unseen"}
    assert set(evaluation["lists"]["unseen"]) == {"float32", "float32 sample", "8 bit", "4 bit"}
    card = (tmp_path / "MODEL_CARD.md").read_text()
    assert "| own words |" in card
    assert "$" not in card
    held = json.loads((tmp_path / "conversations.json").read_text())
    assert len(held) == len(mlxnb.pocket.conversations()) > 50


def test_a_stopped_training_goes_on_where_it_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from mlxnb.pocket.build import train
    from mlxnb.pocket.build.layout import TINY, write_tokenizer
    from mlxnb.pocket.build.tokenizer import train_tokenizer

    monkeypatch.setattr(train, "SAVE_EVERY", 2)
    threads = torch.get_num_threads()
    tokenizer = train_tokenizer(300)
    for name in ("whole", "stopped"):
        write_tokenizer(tokenizer, tmp_path / name)
    train.train(tmp_path / "whole", TINY, train.Recipe(steps=4))
    update, calls = train.update, []

    def stop_after_three(*arguments: object) -> float:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return update(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(train, "update", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        train.train(tmp_path / "stopped", TINY, train.Recipe(steps=4))
    assert (tmp_path / "stopped" / "model.safetensors").exists()
    monkeypatch.setattr(train, "update", update)
    train.train(tmp_path / "stopped", TINY, train.Recipe(steps=4))
    torch.set_num_threads(threads)
    first, second = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert first == second
