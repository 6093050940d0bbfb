"""Names and where they lead: the order of the places, containment, and what a stranger reads when nothing is found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import mlxnb.pocket
from mlxnb.errors import MlxnbError, ModelNotFoundError, NotAModelError, OptionError
from mlxnb.models import find_models, inspect, resolve
from mlxnb.models.names import is_repository

from .conftest import write_model


def test_pocket() -> None:
    source = resolve("pocket")
    assert (source.kind, source.path, source.revision, source.note) == ("pocket", mlxnb.pocket.path(), None, "")


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "here" / "with space")
    monkeypatch.setenv("HOME", str(tmp_path / "here"))
    for name in (str(folder), "./with space", "../here/with space", "~/with space", "with space", Path("with space")):
        source = resolve(name)
        assert (source.kind, source.path) == ("path", folder), name
    assert resolve(Path("with space")).name == "with space"


def test_pocket_wins_over_a_folder_of_that_name_and_a_path_reaches_it(tmp_path: Path) -> None:
    write_model(tmp_path / "here" / "pocket")
    assert resolve("pocket").kind == "pocket"
    assert resolve("./pocket").path == tmp_path / "here" / "pocket"


@pytest.mark.parametrize(
    ("name", "error", "says"),
    [
        ("./nope", ModelNotFoundError, "no folder"),
        ("/nope/at/all", ModelNotFoundError, "no folder /nope/at/all"),
        ("~nobody-by-this-name/x", ModelNotFoundError, "no folder ~nobody"),
        ("./notes.txt", NotAModelError, "is a file"),
        ("notes.txt", NotAModelError, "is a file"),
        ("./tiny.gguf", ModelNotFoundError, "no file"),
        ("tiny.Q4.gguf", NotAModelError, "GGUF"),
        ("", ModelNotFoundError, "empty"),
        ("  ", ModelNotFoundError, "empty"),
        ("a b", ModelNotFoundError, "space"),
        ("tiny ", ModelNotFoundError, "space"),
        ("a\\b", ModelNotFoundError, "backslash"),
        ("a\0b", ModelNotFoundError, "control character"),
        ("a\nb", ModelNotFoundError, "control character"),
        ("x" * 1001, ModelNotFoundError, "1,001 characters"),
        ("x" * 300, ModelNotFoundError, "No model goes by"),
        ("./" + "x" * 300, ModelNotFoundError, "no folder"),
        ("mlx://", ModelNotFoundError, "'mlx://' is no model's name"),
        ("mlx:///etc", ModelNotFoundError, "one of its parts is empty"),
        ("mlx://../x", ModelNotFoundError, "one of its parts is empty or made of dots only"),
        ("mlx://~/x", ModelNotFoundError, "begins with ~"),
        ("hf://org/name", ModelNotFoundError, "only mlx://"),
        ("https://huggingface.co/org/name/tree/main", ModelNotFoundError, "Give the model's name: org/name"),
        (3, OptionError, "of type int, not a string"),
        (None, OptionError, "of type NoneType"),
        (b"pocket", OptionError, "of type bytes"),
    ],
)
def test_what_is_no_name(name: object, error: type[MlxnbError], says: str, tmp_path: Path, local_models: Path) -> None:
    (tmp_path / "here" / "notes.txt").touch()
    with pytest.raises(error, match=says.replace(".", r"\.")) as caught:
        resolve(name, download=False)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 800
    assert caught.value.remedy


def test_local_names(local_models: Path) -> None:
    folder = write_model(local_models / "lab" / "tiny")
    for name in ("lab/tiny", "mlx://lab/tiny"):
        source = resolve(name, download=False)
        assert (source.kind, source.path, source.name, source.note) == ("local", folder, name, "")


def test_the_other_spelling_is_taken_and_said(local_models: Path) -> None:
    quantised = write_model(local_models / "tiny-4bit")
    source = resolve("tiny", download=False)
    assert source.path == quantised
    assert source.note == "tiny is not there; tiny-4bit is, and was taken"
    exact = write_model(local_models / "tiny")
    assert resolve("tiny").path == exact
    assert resolve("tiny-4bit").path == quantised
    write_model(local_models / "other")
    assert resolve("mlx://other-4bit").path == local_models / "other"


def test_a_folder_without_config_is_not_taken(local_models: Path) -> None:
    (local_models / "empty").mkdir()
    with pytest.raises(ModelNotFoundError):
        resolve("empty", download=False)


def test_links_that_lead_out_are_refused(local_models: Path, tmp_path: Path) -> None:
    outside = write_model(tmp_path / "outside")
    (local_models / "link").symlink_to(outside)
    (local_models / "lab").symlink_to(tmp_path)
    for name in ("link", "mlx://link", "lab/outside"):
        with pytest.raises(ModelNotFoundError, match="leads out of LOCAL_MODELS_DIR") as caught:
            resolve(name)
        assert str(outside) in str(caught.value)
    assert [source.name for source in find_models()] == ["pocket"]


def test_a_link_within_the_folder_and_a_linked_folder_are_fine(
    local_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_model(local_models / "lab" / "tiny")
    (local_models / "alias").symlink_to(local_models / "lab" / "tiny")
    assert resolve("alias").path == local_models / "alias"
    (tmp_path / "linked").symlink_to(local_models)
    monkeypatch.setenv("LOCAL_MODELS_DIR", str(tmp_path / "linked"))
    assert resolve("lab/tiny").kind == "local"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scheme=st.sampled_from(["", "mlx://"]),
    parts=st.lists(
        st.sampled_from(["..", ".", "", "in", "out", "link", "~", "C:", "\\"]) | st.text(max_size=4), max_size=6
    ),
)
@example(scheme="mlx://", parts=["in", "..", "..", "out"])
@example(scheme="", parts=["link", "secret"])
def test_no_name_leads_out_of_the_folder(local_models: Path, tmp_path: Path, scheme: str, parts: list[str]) -> None:
    if not (local_models / "in").exists():
        write_model(local_models / "in")
        write_model(tmp_path / "out" / "secret")
        (local_models / "link").symlink_to(tmp_path / "out")
    try:
        source = resolve(scheme + "/".join(parts), download=False)
    except (ModelNotFoundError, NotAModelError):
        return
    if source.kind == "path":  # a path is one that a person wrote out; it is not looked for in the folder
        assert not scheme
        return
    root = os.path.realpath(local_models)
    assert os.path.commonpath([root, os.path.realpath(source.path)]) == root


@given(st.text() | st.text("ab1-_./"))
@example("a" * 97)
@example("a--b/c")
@example("a/b.git")
@example("a/b/c")
@example("tiny\n")
def test_what_passes_for_a_repository_does_so_with_huggingface_hub_too(name: str) -> None:
    from huggingface_hub.utils import validate_repo_id

    if is_repository(name):
        validate_repo_id(name)


@pytest.mark.parametrize(
    "name", ["gpt2", "Qwen/Qwen3-0.6B", "mlx-community/Llama-3.2-1B-Instruct-4bit", "a/b", "_a/1.b_c"]
)
def test_repositories(name: str) -> None:
    assert is_repository(name)


@pytest.mark.parametrize("revision", ["../../etc", "", "a b", "-x", "a\0", "x" * 300])
def test_revisions_that_are_none(revision: str) -> None:
    with pytest.raises(OptionError, match="revision is"):
        resolve("lab/tiny", revision=revision, download=False)


def test_only_repositories_have_revisions(local_models: Path) -> None:
    for name in ("pocket", "./x"):
        with pytest.raises(OptionError, match="has no revisions"):
            resolve(name, revision="main")
    write_model(local_models / "lab" / "tiny")
    with pytest.raises(ModelNotFoundError, match="at revision v1") as caught:
        resolve("lab/tiny", revision="v1", download=False)
    assert "LOCAL_MODELS_DIR" not in str(caught.value)


def test_the_message_says_where_it_looked_and_what_comes_close(local_models: Path, tmp_path: Path) -> None:
    write_model(local_models / "lab" / "Qwen3-tiny")
    with pytest.raises(ModelNotFoundError) as caught:
        resolve("qwen3-tini", download=False)
    places = (str(tmp_path / "here"), str(local_models), str(tmp_path / "hf" / "hub"))
    assert [str(caught.value).find(place) for place in places] == sorted(str(caught.value).find(p) for p in places)
    assert all(place in str(caught.value) for place in places)
    assert caught.value.remedy == "Did you mean lab/Qwen3-tiny?"
    with pytest.raises(ModelNotFoundError, match=r"Did you mean .*lab/Qwen3-tiny") as caught:
        resolve("mlx://Qwen3-tinny")
    assert "this folder" not in str(caught.value)


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="root may read everything")
def test_folders_that_may_not_be_read(local_models: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "closed" / "tiny")
    write_model(local_models / "lab" / "tiny")
    for folder in (tmp_path / "closed", local_models / "lab"):
        folder.chmod(0)
    try:
        for name in (str(tmp_path / "closed" / "tiny"), "lab/tiny", "mlx://lab/tiny"):
            with pytest.raises(ModelNotFoundError):
                resolve(name, download=False)
        with pytest.raises(NotAModelError, match="Permission denied"):
            inspect(tmp_path / "closed")
        assert [source.name for source in find_models()] == ["pocket"]
    finally:
        for folder in (tmp_path / "closed", local_models / "lab"):
            folder.chmod(0o700)


def test_a_folder_of_models_that_is_away_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_MODELS_DIR", "/Volumes/away")
    assert resolve("pocket").kind == "pocket"
    with pytest.raises(ModelNotFoundError, match="/Volumes/away, no such folder"):
        resolve("mlx://tiny")
    assert [source.name for source in find_models()] == ["pocket"]


def test_found_models_resolve_to_where_they_were_found(local_models: Path) -> None:
    write_model(local_models / "flat")
    write_model(local_models / "lab" / "tiny")
    write_model(local_models / "too" / "deep" / "down")
    for name in (".hidden", "with space", "back\\slash", "a\nb", "c:d"):
        write_model(local_models / name)
    sources = find_models()
    assert [(source.name, source.kind) for source in sources] == [
        ("pocket", "pocket"),
        ("flat", "local"),
        ("lab/tiny", "local"),
    ]
    for source in sources:
        assert resolve(source.name, download=False).path == source.path
        inspect(source.path)
