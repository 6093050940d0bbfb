"""Progress of a download: never backwards, never too often, always to the end, and stopped on every thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from mlxnb.models.progress import Reporter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def test_it_skips_what_comes_too_soon_or_goes_back_but_never_the_end(clock: list[float]) -> None:
    calls: list[tuple[int, int]] = []
    reporter = Reporter(lambda done, total: calls.append((done, total)), total=100, done=10)
    for seconds, downloaded in ((0, 5), (0.01, 20), (0.2, 30), (0.2, 15), (0.2, 30), (0.0, 90), (0.2, 500)):
        clock[0] += seconds
        reporter.report(downloaded)
    assert calls == [(15, 100), (40, 100), (100, 100)]


def test_what_it_raises_stops_every_thread(clock: list[float]) -> None:
    calls = []

    def stop(done: int, total: int) -> None:
        calls.append(done)
        raise KeyboardInterrupt

    reporter = Reporter(stop, total=100)
    with pytest.raises(KeyboardInterrupt):
        reporter.report(1)
    with ThreadPoolExecutor(1) as other, pytest.raises(KeyboardInterrupt):
        other.submit(reporter.report, 2).result()
    assert calls == [1]


def test_bars_report_bytes_and_print_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    calls: list[int] = []
    bar = Reporter(lambda done, total: calls.append(done), total=50).bar_class()
    with bar(total=3, desc="Fetching 3 files") as files, bar(total=50, unit="B", unit_scale=True) as data:
        files.update(1)
        data.update(50)
    assert calls == [50]
    assert capfd.readouterr() == ("", "")
