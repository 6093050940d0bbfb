"""What a conversion can be asked for: what goes together, and what is refused in words."""

from __future__ import annotations

import argparse
import re

import pytest

from mlxnb.conversion import GGUF_KINDS, Conversion, add_options, as_arguments
from mlxnb.errors import OptionError


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"to": "pickle"}, "to is 'pickle'. It takes mlx, gguf, onnx."),
        ({"to": None}, "to is 'None'"),
        ({"bits": 7}, "quantize (to mlx) is 7. It takes 2, 3, 4, 5, 6, 8."),
        ({"bits": True}, "quantize (to mlx) is True"),
        ({"bits": 4.0}, "quantize (to mlx) is 4.0"),
        ({"bits": 4, "to": "gguf", "group_size": 64}, "group_size is for MLX's format"),
        ({"bits": 3, "to": "gguf"}, "quantize (to gguf) is 3. It takes 4, 5, 8, q8_0, q5_1"),
        ({"bits": "q4_k_m"}, "quantize (to mlx) is 'q4_k_m'. It takes 2, 3, 4, 5, 6, 8."),
        ({"bits": 4, "group_size": 48}, "group_size is 48. It takes 32, 64, 128."),
        ({"group_size": 64}, "group_size says nothing where nothing is quantised"),
        ({"mixed": "mixed_9_9"}, "mixed is 'mixed_9_9'. It takes mixed_2_6, mixed_3_4"),
        ({"mixed": "mixed_3_4", "bits": 4}, "mixed_3_4 says the bits of every layer."),
        ({"mixed": "mixed_3_4", "to": "onnx"}, "mixed is for MLX's format, and onnx has its own blocks."),
        ({"dtype": "int8"}, "dtype is 'int8'. It takes float16, bfloat16, float32."),
    ],
)
def test_what_there_is_not_is_refused(asked, said):
    with pytest.raises(OptionError, match=re.escape(said)):
        Conversion(**asked)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, "weights whole"),
        ({"dtype": "float16"}, "float16"),
        ({"bits": 4}, "4-bit, group 64"),
        ({"bits": 8, "group_size": 32, "dtype": "float16"}, "8-bit, group 32"),
        ({"mixed": "mixed_3_6", "group_size": 128}, "mixed_3_6, group 128"),
        ({"bits": 8, "to": "gguf"}, "q8_0"),
        ({"bits": "q4_k_m", "to": "gguf"}, "q4_k_m"),
        ({"bits": 4, "to": "onnx"}, "int4"),
    ],
)
def test_it_says_what_it_does(asked, words):
    assert Conversion(**asked).words() == words


def read(*words):
    parser = argparse.ArgumentParser()
    for name in ("--quantize", "--dtype", "--backend"):
        parser.add_argument(name)
    add_options(parser)
    return as_arguments(parser.parse_args(words))


def test_options_become_arguments():
    assert read()["to"] == "mlx"
    assert read()["check"] is True
    found = read("--quantize", "int4", "--group-size", "32", "--no-check", "--force", "--text", "my.txt")
    assert (found["quantize"], found["group_size"], found["check"], found["force"]) == (4, 32, False, True)
    assert found["text"] == "my.txt"
    assert read("--quantize", "none")["quantize"] is None
    assert read("--quantize", "Q4_K_M")["quantize"] == "q4_k_m"


def test_llama_cpp_s_kinds_are_those_that_are_written():
    from mlxnb.models import gguf

    assert GGUF_KINDS == gguf.QUANTIZE


@pytest.mark.parametrize("value", ["four", "4.0", "-4", "²", "intx", ""])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(OptionError, match=r"--quantize is .* It takes 2, 3, 4, 5, 6, 8\."):
        read(f"--quantize={value}")
    with pytest.raises(OptionError, match="--group-size is"):
        read(f"--group-size={value}")
