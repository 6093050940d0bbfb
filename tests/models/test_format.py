"""Tells the format of a model from the names of its files, and finds GGUF and ONNX models by path and by name."""

from pathlib import Path

import pytest

from mlxnb.models import resolve
from mlxnb.models.format import format_of


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("config.json", "model.safetensors"), "safetensors"),
        (("config.json", "model.safetensors", "q.gguf"), "safetensors"),
        (("q.gguf",), "gguf"),
        (("Q.GGUF", "README.md"), "gguf"),
        (("._q.gguf",), "safetensors"),
        (("genai_config.json", "model.onnx", "config.json"), "onnx"),
        ((), "safetensors"),
    ],
)
def test_the_files_say_the_format(tmp_path: Path, files, expected):
    for name in files:
        (tmp_path / name).touch()
    assert format_of(tmp_path) == expected
    assert resolve(str(tmp_path)).format == expected


def test_a_gguf_file_is_a_model(tmp_path: Path):
    (tmp_path / "m.gguf").touch()
    source = resolve(str(tmp_path / "m.gguf"))
    assert (source.format, source.path, source.kind) == ("gguf", tmp_path / "m.gguf", "path")


def test_what_is_not_there_has_the_format_whose_readers_say_so(tmp_path: Path):
    assert format_of(tmp_path / "away.gguf") == format_of(tmp_path / "away") == "safetensors"
