"""The place of a converted model: what is replaced and what never is, and that a failure leaves nothing."""

from __future__ import annotations

import errno
import os
import sys

import pytest

from mlxnb.errors import ConversionError, OptionError
from mlxnb.models.convert_target import aside, check_target


@pytest.fixture
def place(tmp_path):
    """A folder with nothing in it."""
    folder = tmp_path / "place"
    folder.mkdir()
    return folder


@pytest.fixture
def source(place):
    folder = place / "source"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def model(folder, text="old"):
    folder.mkdir()
    (folder / "config.json").write_text(text)
    (folder / "model.safetensors").write_text(text)
    return folder


def fail(target, error):
    with aside(target, force=True) as building:
        model(building, "new")
        raise error


def test_a_target_that_exists_wants_force(place, source):
    target = model(place / "it")
    with pytest.raises(OptionError, match=r"it already exists\. Delete it, name another, or say --force"):
        check_target(target, source)
    check_target(target, source, force=True)
    check_target(place / "new", source)
    (place / "m.gguf").write_bytes(b"GGUF")
    check_target(place / "m.gguf", source, force=True)
    (place / "empty").mkdir()
    check_target(place / "empty", source, force=True)


def test_what_is_no_model_is_never_replaced(place, source):
    (place / "notes").mkdir()
    (place / "notes" / "thoughts.txt").write_text("mine")
    (place / "letter.txt").write_text("mine")
    (place / "settings").mkdir()
    (place / "settings" / "config.json").write_text("{}")
    model(place / "project")
    (place / "project" / "src").mkdir()  # a folder with more in it than a model
    for name in ("notes", "letter.txt", "settings", "project"):
        with pytest.raises(OptionError, match="is no model's folder or file: it is not replaced"):
            check_target(place / name, source, force=True)


@pytest.mark.parametrize(
    "names",
    [
        ("llama.gguf", "mistral.gguf"),
        ("llama.gguf", "thesis.docx"),
        ("config.json", "model.safetensors", "plot.py"),
        ("genai_config.json", "model.onnx", "photo.jpg"),
    ],
)
def test_a_folder_with_the_files_of_others_is_not_replaced(place, source, names):
    (place / "shelf").mkdir()
    for name in names:
        (place / "shelf" / name).write_text("mine")
    with pytest.raises(OptionError, match="it is not replaced"):
        check_target(place / "shelf", source, force=True)
    (place / "shelf" / names[-1]).unlink()  # the rest is one model
    check_target(place / "shelf", source, force=True)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_are_followed_to_the_source_and_never_replaced(place, source):
    (place / "link").symlink_to(source)
    with pytest.raises(OptionError, match="is the model that is to be converted"):
        check_target(place / "link", source, force=True)
    (place / "other").symlink_to(model(place / "it"))
    (place / "nowhere").symlink_to(place / "missing")
    for name in ("other", "nowhere"):
        with pytest.raises(OptionError, match="it is not replaced"):
            check_target(place / name, source, force=True)


def test_a_target_that_is_tied_to_the_source_is_refused(place, source):
    for target in (source, source / ".." / "source"):
        with pytest.raises(OptionError, match="is the model that is to be converted"):
            check_target(target, source, force=True)
    with pytest.raises(OptionError, match="lies in the folder of the model"):
        check_target(source / "mlx", source)
    with pytest.raises(OptionError, match="The model that is to be converted lies in"):
        check_target(place, source, force=True)


def test_what_is_there_is_replaced_when_the_new_one_is_whole(place):
    target = model(place / "it")
    with aside(target, force=True) as building:
        model(building, "new")
        assert (target / "config.json").read_text() == "old"
    assert (target / "config.json").read_text() == "new"
    assert os.listdir(place) == ["it"]


@pytest.mark.parametrize("error", [RuntimeError("half way"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there_and_nothing_else(place, error):
    target = model(place / "it")
    for new in (target, place / "a" / "b" / "c"):
        with pytest.raises(type(error)):
            fail(new, error)
    assert os.listdir(place) == ["it"]
    assert (target / "config.json").read_text() == "old"


def test_two_that_write_to_one_place_do_not_replace_each_other(place):
    target = place / "it"

    def second():
        with aside(target) as building:
            model(building, "second")
            model(target, "first")

    with pytest.raises(OptionError, match="it already exists"):
        second()
    assert (target / "config.json").read_text() == "first"
    assert os.listdir(place) == ["it"]


def test_a_file_is_put_in_place_the_same_way(place):
    target = place / "sub" / "m.gguf"
    with aside(target) as building:
        assert building.suffix == ".gguf"
        building.write_bytes(b"GGUF")
    with aside(target, force=True) as building:
        building.write_bytes(b"GGUF again")
    assert target.read_bytes() == b"GGUF again"
    assert os.listdir(target.parent) == ["m.gguf"]


def test_a_disk_that_fails_is_our_error(place):
    with pytest.raises(ConversionError, match=r"it could not be written: No space left on device\. Nothing was left"):
        fail(place / "it", OSError(errno.ENOSPC, "No space left on device"))
    assert os.listdir(place) == []


def test_the_old_one_comes_back_where_the_new_one_cannot_be_put_in_place(place, monkeypatch):
    target, rename, calls = model(place / "it"), os.rename, []

    def second_fails(a, b):
        calls.append(b)
        if len(calls) == 2:
            raise PermissionError(errno.EACCES, "Permission denied")
        rename(a, b)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(ConversionError, match="Permission denied"), aside(target, force=True) as building:
        model(building, "new")
    assert (target / "config.json").read_text() == "old"
    assert os.listdir(place) == ["it"]
