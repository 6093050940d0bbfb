"""What was seen of an engine at one moment, and many of them as a file or a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass, fields
from typing import TYPE_CHECKING

from ..errors import BackendMissingError

if TYPE_CHECKING:
    from pandas import DataFrame

FORMAT, SCHEMA = "mlxnb monitor", 1


@dataclass(frozen=True, slots=True)
class Moment:
    """One look. `at` in seconds since the epoch; `token_rate` in generated tokens a second since the last look;
    requests that run and that wait; latencies in seconds, percentiles over the last `ttft_n` and `tpot_n` answers that
    were computed (p95 of 20 or more), `ttft_slowest` of those that ended since the last look; bytes: of the models in
    memory, of this process, free in the machine; hit rates from 0 to 1 over the last `answers_n` and `prefixes_n`
    lookups; degrees Celsius. None: not known.
    """

    at: float
    token_rate: float
    running: int
    queued: int
    ttft_50: float | None
    ttft_95: float | None
    ttft_n: int
    ttft_slowest: float | None
    tpot_50: float | None
    tpot_95: float | None
    tpot_n: int
    models: int
    process: int | None
    free: int
    answers_hit: float | None
    answers_n: int
    prefixes_hit: float | None
    prefixes_n: int
    temperature: float | None
    pressure: str | None


NAMES = [f.name for f in fields(Moment)]


def as_csv(moments: Sequence[Moment]) -> str:
    """Moments as comma-separated text with a head; what is not known is empty."""
    lines = [",".join(NAMES)]
    lines += [",".join("" if value is None else str(value) for value in astuple(moment)) for moment in moments]
    return "\n".join(lines) + "\n"


def as_json(moments: Sequence[Moment]) -> str:
    """The same as JSON, one moment a line; what is not known is null."""
    rows = ",\n".join(f" {json.dumps(asdict(moment), allow_nan=False)}" for moment in moments)
    return f'{{"format": "{FORMAT}", "schema": {SCHEMA}, "moments": [\n{rows}\n]}}\n'


def to_frame(moments: Sequence[Moment]) -> DataFrame:
    """The same as a DataFrame, its index the time in UTC.

    Raises:
        BackendMissingError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise BackendMissingError("A DataFrame needs pandas, which is not installed.", "pip install pandas") from None
    frame = pandas.DataFrame.from_records([astuple(moment) for moment in moments], columns=NAMES)
    known = [name for name in NAMES if name not in ("at", "pressure")]
    frame = frame.astype({name: "float64" for name in known if frame[name].dtype == object})
    at = pandas.to_datetime(frame.pop("at"), unit="s", utc=True)
    return frame.set_index(at)
