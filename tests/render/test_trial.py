"""What trying a remedy gave, as a table."""

from __future__ import annotations

import pytest

from mlxnb.profiling.report import Finding, Ratio, Trial
from mlxnb.render.trial import trial_table


def finding(tried: Ratio | None) -> Finding:
    return Finding(
        rule="memory-bound",
        case=0,
        figure="mbu",
        value=0.8,
        threshold=0.6,
        unit="",
        evidence="Decode reads 80 % of what memory gives.",
        cause="Weights are read for every token.",
        remedy="Quantise the weights.",
        trial=Trial("weights in <int8>", {"quantize": "int8"}),
        tried=tried,
    )


@pytest.mark.parametrize(
    ("tried", "outcome"),
    [
        (Ratio("decode_rate", 1.6, 1.5, 1.7, 5), "better"),
        (Ratio("decode_rate", 0.6, 0.5, 0.7, 5), "worse"),
        (Ratio("ttft", 0.6, 0.5, 0.7, 5), "better"),
        (Ratio("peak_memory", 1.6, 1.5, 1.7, 5), "worse"),
        (Ratio("decode_rate", 1.02, 0.9, 1.1, 5), "no difference"),
        (None, "not measured"),
    ],
)
def test_the_outcome_is_a_word(tried: Ratio | None, outcome: str) -> None:
    shown = trial_table(finding(tried))
    assert f"● {outcome}" in shown.text()
    assert "weights in &lt;int8&gt;" in shown.html()
    if tried is not None:
        assert f"{tried.low:.2f} – {tried.high:.2f}" in shown.text()
