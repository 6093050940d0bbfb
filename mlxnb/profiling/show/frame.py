"""The runs of a report as a table for pandas: one row a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ...errors import BackendMissingError
from ..judge.figures import by_round, percentile, throughput, ttft
from ..report import Report, Run

if TYPE_CHECKING:
    from pandas import DataFrame


COUNTS = (
    "case", "round", "concurrency", "prompt_tokens", "reused_tokens", "generation_tokens", "thinking_tokens",
    "peak_memory", "peak_rss", "proposed", "accepted", "turn",
)  # fmt: skip
UNITS = {
    "began": "s", "own": "s", "queue_time": "s", "load_time": "s", "ttft": "s", "visible": "s", "tpot": "s",
    "itl_p50": "s",
    "itl_p95": "s", "total": "s", "prefill_rate": "tok/s", "decode_rate": "tok/s", "throughput": "tok/s",
    "energy": "J", "energy_per_token": "J", "acceptance": "", "peak_memory": "B", "peak_rss": "B",
}  # fmt: skip
ORDER = (
    "case", "label", "scenario", "model", "backend", "device", "dtype", "quantization", "concurrency", "round",
    "turn", "began", "prompt_tokens", "reused_tokens", "generation_tokens", "thinking_tokens", "finish_reason",
    "queue_time", "load_time", "own", "ttft", "visible", "tpot", "itl_p50", "itl_p95", "total", "prefill_rate",
    "decode_rate", "throughput", "peak_memory", "peak_rss", "energy", "energy_per_token", "proposed", "accepted",
    "acceptance", "clients", "notes", "error",
)  # fmt: skip


def to_frame(report: Report) -> DataFrame:
    """A row for each run, failed ones with their `error` and no figures; `attrs["units"]` has the columns' units.

    What sets a case apart is in columns of its own, such as `varied.kv_bits`. `throughput` is that of the whole round.

    Raises:
        BackendMissingError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise BackendMissingError("to_frame needs pandas, which is not installed.", "Run: pip install pandas") from None
    rates = _throughputs(report)
    varied = list(dict.fromkeys(f"varied.{name}" for case in report.cases for name in case.varied))
    rows = [_row(report, run, rates.get((run.case, run.round))) for run in report.runs]
    frame = pandas.DataFrame.from_records(rows, columns=[*ORDER, *varied])
    figures = [name for name in UNITS if name not in COUNTS]
    for name in COUNTS:  # by themselves: pandas makes floats of counts of which some are missing, and rounds large ones
        counts = [row.get(name) for row in rows]
        frame[name] = pandas.array(counts, dtype="Int64" if _fits(counts) else "object")
    frame = frame.astype({**dict.fromkeys(figures, "float64"), "clients": "bool"})
    frame.attrs["units"] = {name: unit for name, unit in UNITS.items() if unit}
    return frame


def _fits(values: Iterable[object]) -> bool:
    """Whether counts are of 64 bits; a report may hold larger ones, which pandas keeps as they are."""
    return all(abs(value) < 2**63 for value in values if isinstance(value, int))


def _throughputs(report: Report) -> dict[tuple[int, int], float | None]:
    return {
        (case, together[0].round): throughput(together)
        for case in range(len(report.cases))
        for together in by_round(report.of(case))
    }


def _row(report: Report, run: Run, of_the_round: float | None) -> dict[str, object]:
    case = report.cases[run.case]
    row: dict[str, object] = {
        "case": run.case,
        "label": case.label,
        "scenario": case.scenario,
        "concurrency": case.concurrency,
        "round": run.round,
        "generation_tokens": run.generation_tokens,
        "finish_reason": run.finish_reason,
        "throughput": of_the_round if run.timings is not None else None,
        "peak_memory": run.peak_memory,
        "peak_rss": run.peak_rss,
        "energy": run.energy,
        "own": run.own,
        "turn": run.turn,
        "proposed": run.proposed,
        "accepted": run.accepted,
        "acceptance": run.accepted / run.proposed if run.proposed and run.accepted is not None else None,
        "clients": run.clients,
        "notes": "; ".join(run.notes) or None,
        "error": run.error,
        **{f"varied.{name}": value for name, value in case.varied.items()},
    }
    if run.energy is not None and run.generation_tokens:
        row["energy_per_token"] = run.energy / run.generation_tokens
    return {**row, **_model(report, case.model), **_times(run)}


def _model(report: Report, index: int | None) -> dict[str, object]:
    if index is None:
        return {}
    model = report.models[index]
    names = ("backend", "device", "dtype", "quantization")
    return {"model": model.name, **{name: getattr(model, name) for name in names}}


def _times(run: Run) -> dict[str, object]:
    t = run.timings
    if t is None:
        return {}
    return {
        "began": t.accepted,
        "prompt_tokens": t.prompt_tokens or None,
        "reused_tokens": t.reused_tokens if t.prompt_tokens else None,
        "thinking_tokens": t.thinking_tokens,
        "queue_time": t.queue_time,
        "load_time": t.load_time,
        "ttft": ttft(t),
        "visible": None if t.first_visible is None else t.first_visible - t.start,
        "tpot": t.tpot,
        "itl_p50": percentile(t.itl, 50),
        "itl_p95": percentile(t.itl, 95),
        "total": t.total,
        "prefill_rate": t.prefill_rate,
        "decode_rate": t.decode_rate,
    }
