import os
import shutil

import pytest

from mlxnb import pocket
from mlxnb.cache import model_identity


@pytest.fixture
def model(tmp_path):
    return shutil.copytree(pocket.path(), tmp_path / "model")


def test_a_commit_is_enough(tmp_path):
    assert model_identity(tmp_path / "nowhere", "abc") == "commit:abc"


def test_it_is_the_same_until_something_changes(model):
    assert model_identity(model) == model_identity(model)
    (model / "README.md").write_text("words")
    (model / ".DS_Store").write_text("words")
    (model / "sub.json").mkdir()
    assert model_identity(model) == model_identity(model_of(model))


def model_of(model):
    copy = shutil.copytree(model, model.with_name("copy"), copy_function=shutil.copy2)
    (copy / "README.md").unlink()
    return copy


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "generation_config.json", "tokenizer_config.json"])
def test_any_text_changes_it(model, name):
    before = model_identity(model)
    (model / name).write_text((model / name).read_text() + " ")
    assert model_identity(model) != before


def test_new_files_change_it(model):
    seen = {model_identity(model)}
    for name in ("chat_template.jinja", "model.safetensors.index.json", "model-2.safetensors"):
        (model / name).write_text("{}")
        seen.add(model_identity(model))
    (model / "chat_template.jinja").rename(model / "other.jinja")
    assert len(seen | {model_identity(model)}) == 5


def test_weights_change_it_by_size_time_or_header(model):
    weights = model / "model.safetensors"
    before, stat = model_identity(model), weights.stat()
    content = bytearray(weights.read_bytes())
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1000))
    assert model_identity(model) != before
    content[20] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert model_identity(model) != before
    content[20] ^= 1
    weights.write_bytes(content)
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert model_identity(model) == before
