"""`%profile_model --try N`: a finding's remedy measured, on the pocket model."""

from __future__ import annotations

from dataclasses import replace

import pytest
from IPython.core.interactiveshell import InteractiveShell

from mlxnb.errors import OptionError
from mlxnb.hardware import Speed, Speeds
from mlxnb.magics.profile_try import LastReport
from tests.profiling.whole_reports import full

pytest.importorskip("torch")
TALK = "--scenario multi-turn --sweep cache=off --runs 2 --warmup 0 --max-tokens 4 --no-inside --backend torch"


@pytest.fixture(autouse=True)
def known_speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast this machine is takes ten seconds to measure, and changes nothing here."""
    known = Speeds((Speed("torch", "cpu", 2e10, {"float32": 1e11}),), at=0.0)
    monkeypatch.setattr("mlxnb.hardware.speeds", lambda store: known)
    monkeypatch.setattr("mlxnb.profiling.machine.environment._measured_here", {})


@pytest.mark.slow
def test_a_remedy_is_measured_and_the_report_holds_what_it_gave(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlxnb.profiling.trials.MOST", 6)
    shell.run_cell(f"%profile_model {TALK} --into talk").raise_error()
    rules = [finding.rule for finding in shell.user_ns["talk"].findings]
    number = rules.index("cache-misses") + 1
    capsys.readouterr()
    shell.run_cell(f"%profile_model --try {{{{ {number} }}}}").raise_error()
    assert "the prefix cache" in capsys.readouterr().out
    tried = shell.user_ns["talk"].findings[number - 1].tried
    assert tried is not None
    assert tried.figure == "ttft"
    assert tried.pairs >= 3


def test_what_cannot_be_tried_says_why() -> None:
    last = LastReport()
    with pytest.raises(OptionError, match="There is no report yet"):
        last.finding(1)
    report = full()
    bare = tuple(replace(finding, trial=None) for finding in report.findings)
    last.set(replace(report, findings=bare), None, {})
    with pytest.raises(OptionError, match=f"Finding 1, {bare[0].rule}, has no remedy that could be tried") as caught:
        last.finding(1)
    assert bare[0].remedy in str(caught.value)
    with pytest.raises(OptionError, match=f"There is no finding {len(bare) + 1}"):
        last.finding(len(bare) + 1)
