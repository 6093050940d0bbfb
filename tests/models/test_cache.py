"""The Hugging Face cache, as huggingface_hub itself fills it and as other tools leave it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlxnb.errors import ModelNotFoundError
from mlxnb.models import find_models, resolve
from mlxnb.models.cache import cache_dir, storage_of

from .conftest import write_model
from .stand_in_hub import Hub


@pytest.fixture
def cached(hub: Hub) -> Hub:
    """The Hub, with its model in the cache."""
    resolve("lab/tiny")
    hub.asked.clear()
    return hub


def old_snapshot(repository: str, commit: str = "b" * 40) -> Path:
    """A snapshot as older tools left it: no list of the files that belong to it."""
    storage = storage_of(repository)
    (storage / "refs").mkdir(parents=True)
    (storage / "refs" / "main").write_text(commit)
    return write_model(storage / "snapshots" / commit)


def test_the_folder_is_the_one_that_huggingface_hub_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = [
        {},
        {"HF_HOME": "/a/home"},
        {"HF_HOME": "~/home"},
        {"XDG_CACHE_HOME": "/a/cache"},
        {"HF_HUB_CACHE": "$HOME/cache", "HF_HOME": "/a/home"},
        {"HUGGINGFACE_HUB_CACHE": "/a/legacy", "HF_HOME": "/a/home"},
    ]
    code = "from huggingface_hub.constants import HF_HUB_CACHE; print(HF_HUB_CACHE)"
    for values in settings:
        with monkeypatch.context() as patch:
            patch.delenv("HF_HOME")
            for name, value in values.items():
                patch.setenv(name, value)
            theirs = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), capture_output=True, text=True)
            assert str(cache_dir()) == theirs.stdout.strip(), values


def test_it_is_found_by_name_revision_and_listing(cached: Hub) -> None:
    by_name = resolve("lab/tiny", download=False)
    assert (by_name.kind, by_name.revision) == ("cache", "a" * 40)
    assert resolve("mlx://lab/tiny").path == by_name.path
    for revision in ("main", "a" * 40):
        assert resolve("lab/tiny", revision=revision, download=False).path == by_name.path
    with pytest.raises(ModelNotFoundError, match="at revision v2"):
        resolve("lab/tiny", revision="v2", download=False)
    assert [(source.name, source.path, source.revision) for source in find_models()[1:]] == [
        ("lab/tiny", by_name.path, "a" * 40)
    ]
    assert not cached.asked


def test_a_cache_behind_a_link(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "link"))
    path = resolve("lab/tiny").path
    assert resolve("lab/tiny", download=False).path == path == find_models()[1].path


def test_a_model_in_both_places_is_listed_once(cached: Hub, local_models: Path) -> None:
    write_model(local_models / "lab" / "tiny")
    assert [(source.name, source.kind) for source in find_models()] == [("pocket", "pocket"), ("lab/tiny", "local")]
    assert resolve("lab/tiny").kind == "local"
    assert resolve("lab/tiny", revision="main").kind == "cache"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_snapshot_that_lost_a_file_is_not_taken_and_comes_again(cached: Hub, name: str) -> None:
    folder = resolve("lab/tiny").path
    (folder / name).resolve().unlink()
    (folder / name).unlink()
    with pytest.raises(ModelNotFoundError, match="only in part"):
        resolve("lab/tiny", download=False)
    assert resolve("lab/tiny").kind == "hub"
    assert cached.fetched() == [name]


def test_a_link_whose_file_is_gone_is_mended(cached: Hub) -> None:
    folder = resolve("lab/tiny").path
    (folder / "model.safetensors").resolve().unlink()
    assert [source.name for source in find_models()] == ["pocket"]
    assert resolve("lab/tiny").kind == "hub"


def test_what_older_tools_left_is_taken_when_whole() -> None:
    folder = old_snapshot("lab/old")
    assert resolve("lab/old", download=False).path == folder
    assert [source.name for source in find_models()] == ["pocket", "lab/old"]
    os.rename(folder / "model.safetensors", folder / "model-00001-of-00002.safetensors")
    places = {"w": "model-00001-of-00002.safetensors", "v": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ModelNotFoundError, match="only in part"):
        resolve("lab/old", download=False)
    assert [source.name for source in find_models()] == ["pocket"]


def test_a_repository_without_an_organisation() -> None:
    folder = old_snapshot("gpt2")
    assert resolve("gpt2", download=False).path == folder


def test_other_things_in_the_cache_are_passed_over() -> None:
    for name in ("datasets--lab--data", "models--lab--empty", "models--lab--text", ".locks"):
        (cache_dir() / name / "refs").mkdir(parents=True)
    (cache_dir() / "models--lab--text" / "refs" / "main").write_text("../../../etc")
    (cache_dir() / "models--lab--empty" / "refs" / "main").write_bytes(b"\xff\xfe")
    (cache_dir() / "version.txt").write_text("1")
    assert [source.name for source in find_models()] == ["pocket"]
    for name in ("lab/text", "lab/empty"):
        with pytest.raises(ModelNotFoundError):
            resolve(name, download=False)
