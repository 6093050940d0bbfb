"""Names and ratios in words: each one tells its thing apart from the others."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlxnb.profiling.report import Ratio
from mlxnb.profiling.report.words import better, case_names, counted, flags, limits_words, model_names, ratio_words

from .whole_reports import MODEL, full, single, turns


def test_one_name_that_was_loaded_in_several_ways_says_how() -> None:
    quantised = replace(MODEL, quantization="8-bit, group 64")
    torch = replace(MODEL, backend="torch", quantization="int8")
    assert model_names(replace(single(), models=(MODEL,))) == ("Qwen3-0.6B",)
    assert model_names(replace(single(), models=(MODEL, quantised))) == (
        "Qwen3-0.6B whole",
        "Qwen3-0.6B 8-bit, group 64",
    )
    assert model_names(replace(single(), models=(MODEL, torch)))[1] == "Qwen3-0.6B int8"
    plain = replace(MODEL, backend="torch")
    assert model_names(replace(single(), models=(MODEL, plain, torch))) == (
        "Qwen3-0.6B whole mlx",
        "Qwen3-0.6B whole torch",
        "Qwen3-0.6B int8",
    )
    assert model_names(replace(single(), models=(MODEL, MODEL))) == ("Qwen3-0.6B [1]", "Qwen3-0.6B [2]")
    assert model_names(replace(single(), models=(MODEL, replace(MODEL, name="b")))) == ("Qwen3-0.6B", "b")


def test_cases_of_one_label_are_told_apart() -> None:
    assert case_names(turns()) == ("code, kv_bits=none", "code, kv_bits=8")
    report = single()
    assert case_names(replace(report, cases=(report.cases[0], report.cases[0]))) == ("simple [1]", "simple [2]")
    assert len(set(case_names(full()))) == 13


def test_a_swept_dtype_is_one_line_though_each_is_a_model_of_its_own() -> None:
    report = turns(varied=({"dtype": "float32"}, {"dtype": "bfloat16"}))
    models = (replace(MODEL, dtype="float32"), MODEL)
    cases = tuple(replace(case, model=i) for i, case in enumerate(report.cases))
    plots = replace(report, models=models, cases=cases).plots()
    [line] = plots["sweep-dtype"].figure.axes[0].containers
    assert list(line.lines[0].get_xdata()) == [0, 1]


@pytest.mark.parametrize(
    ("ratio", "words", "for_the_better"),
    [
        (Ratio("decode_rate", 1.424, 1.381, 1.466, 5), "1.42× (1.38–1.47)", True),
        (Ratio("ttft", 1.424, 1.381, 1.466, 5), "1.42× (1.38–1.47)", False),
        (Ratio("peak_memory", 0.5, 0.5, 0.5, 5), "0.50× (0.50–0.50)", True),
        (Ratio("ttft", 1.01, 0.97, 1.04, 5), "no difference (0.97–1.04)", None),
        (Ratio("energy", 32.81, 25.2, 38.54, 5), "32.8× (25.2–38.5)", False),
        (Ratio("throughput", 0.0123, 0.01, 0.02, 5), "0.0123× (0.01–0.02)", False),
    ],
)
def test_ratios(ratio: Ratio, words: str, for_the_better: bool | None) -> None:
    assert ratio_words(ratio) == words
    assert better(ratio) is for_the_better


def test_the_rest() -> None:
    assert flags({"kv_bits": 8, "draft": None, "top_p": 0.95, "strict": True}) == (
        "--kv-bits 8 --draft none --top-p 0.95 --strict on"
    )
    assert counted([5, 5], "run") == "n = 5 runs"
    assert counted([1], "run") == "n = 1 run"
    assert counted([3, 5], "run") == "n = 3 to 5 runs"
    assert counted([], "run") == ""
    assert limits_words({"ttft": 0.5, "tpot": 0.01}) == "first token 500 ms, time a token 10 ms"
