"""The runs as a frame: a row each, with figures that are those of the definitions."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from mlxnb.errors import BackendMissingError
from mlxnb.profiling.show.frame import ORDER

from .whole_reports import EMPTY, full

FULL = full()


def test_a_row_a_run_with_all_figures() -> None:
    pytest.importorskip("pandas")
    frame = FULL.to_frame()
    assert len(frame) == len(FULL.runs)
    assert list(frame.columns) == [*ORDER, "varied.kv_bits"]
    run, row = FULL.runs[3], frame.iloc[3]
    t = run.timings
    assert row.decode_rate == t.decode_rate
    assert row.ttft == t.token_times[0] - t.start
    assert row.itl_p50 == pytest.approx(sorted(t.itl)[23])
    assert row.energy_per_token == pytest.approx(0.021)
    assert (row.label, row.model, row.backend, row.prompt_tokens) == ("128 tokens", "Qwen3-0.6B", "mlx", 128)
    assert frame.attrs["units"]["ttft"] == "s"
    turned = replace(FULL, runs=(replace(run, turn=2, own=0.001),)).to_frame().iloc[0]
    assert (turned.turn, turned.own) == (2, 0.001)


def test_a_round_of_several_has_one_throughput() -> None:
    pytest.importorskip("pandas")
    frame = FULL.to_frame()
    eight = frame[(frame.concurrency == 8) & (frame["round"] == 2)]
    assert len(eight) == 8
    runs = [run for run in FULL.runs if run.case == 7 and run.round == 2]
    wall = max(run.timings.token_times[-1] for run in runs) - min(run.timings.accepted for run in runs)
    assert list(eight.throughput) == [pytest.approx(8 * 40 / wall)] * 8
    assert eight.throughput.iloc[0] > 2 * eight.decode_rate.median()


def test_what_failed_has_its_error_and_no_figures() -> None:
    pytest.importorskip("pandas")
    frame = FULL.to_frame()
    [row] = [row for _, row in frame[frame.error.notna()].iterrows()]
    assert "PromptTooLongError" in row.error
    assert row[["ttft", "decode_rate", "total", "throughput", "prompt_tokens"]].isna().all()


def test_it_groups_as_a_person_would() -> None:
    pytest.importorskip("pandas")
    frame = FULL.to_frame()
    rates = frame[frame.scenario == "code"].groupby("varied.kv_bits", dropna=False).decode_rate.median()
    assert rates[4] > rates[8] > rates.loc[rates.index.isna()].iloc[0]


def test_types_are_the_same_whatever_is_missing() -> None:
    pytest.importorskip("pandas")
    none = replace(FULL, runs=tuple(replace(run, energy=None, peak_memory=None) for run in FULL.runs))
    for report in (none, EMPTY):
        assert (report.to_frame().dtypes[list(ORDER[10:15])] == FULL.to_frame().dtypes[list(ORDER[10:15])]).all()
        assert str(report.to_frame().dtypes.energy) == "float64"


def test_a_count_beyond_64_bits_is_kept_as_it_is() -> None:
    pytest.importorskip("pandas")
    large = replace(FULL, runs=(replace(FULL.runs[0], peak_memory=2**63, accepted=10**400), *FULL.runs[1:]))
    frame = large.to_frame()
    assert frame.peak_memory.iloc[0] == 2**63
    assert frame.accepted.iloc[0] == 10**400
    assert str(frame.dtypes.generation_tokens) == "Int64"
    edge = replace(FULL, runs=(replace(FULL.runs[0], peak_memory=2**63 - 1), *FULL.runs[1:]))
    assert str(edge.to_frame().dtypes.peak_memory) == "Int64"


def test_without_pandas_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(BackendMissingError, match=r"needs pandas.*pip install pandas"):
        FULL.to_frame()
