"""The models panel: what its buttons do to the engine, and what it says of what fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import mlxnb


@pytest.fixture
def models(panel: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    made = panel("models")
    settled(made)
    return made


def settled(models: Any) -> None:
    from .conftest import until

    until(lambda: not models.work.running)


def test_the_list_is_read_and_a_model_loaded_pinned_and_unloaded(models: Any) -> None:
    assert "pocket" in models.model.options
    models.model.value = "pocket"
    models.load.click()
    assert models.load.disabled
    settled(models)
    assert "pocket is in memory" in models._notice.value
    assert [info.name for info in mlxnb.engine().models()] == ["pocket"]
    assert not models.unload.disabled
    models.pin.click()
    settled(models)
    assert [each.pinned for each in mlxnb.engine().residents()] == [True]
    assert models.pin.description == "Unpin"
    models.unload.click()
    settled(models)
    assert mlxnb.engine().models() == []
    assert models.unload.disabled


def test_a_model_is_converted_and_what_that_cost_is_shown(models: Any, tmp_path: Path) -> None:
    models.model.value, models.bits.value = "pocket", 4
    models.convert.click()
    settled(models)
    assert "perplexity" in models._news.value
    [folder] = [path for path in tmp_path.iterdir() if path.is_dir()]
    assert "4bit" in folder.name
    models.convert.click()
    settled(models)
    assert 'role="alert"' in models._notice.value


def test_a_name_that_is_none_is_told(models: Any) -> None:
    models.name.value = "pocket"
    models.fetch.click()
    settled(models)
    assert "comes with mlxnb" in models._notice.value


def test_the_picture_has_memory_and_models(models: Any) -> None:
    page, text = models.picture()
    assert "everything else" in page
    assert "pocket" in text
