"""`%profile_model` in a real kernel: the line that says how far it is, what is left of it, and interrupts."""

from __future__ import annotations

import re

import pytest

from tests.magics.kernel import Kernel
from tests.magics.test_kernel import one_error_line

# How fast the machine is takes ten seconds to measure, and a script does not care.
SETUP = """import mlxnb.hardware as hardware
hardware.speeds = lambda store: hardware.Speeds((hardware.Speed("torch", "cpu", 2e10, {"float32": 1e11}),), at=0.0)
script(*["word "] * 30, delay=0.005)
"""
LINE = "%profile_model --scenario simple --backend scripted --warmup 0 --max-tokens 30 --runs {runs} --into {name}"


@pytest.fixture(scope="module", autouse=True)
def prepared(kernel: Kernel) -> None:
    assert kernel.run(SETUP).reply["status"] == "ok"


def test_progress_is_a_line_that_goes_and_the_report_is_shown_once(kernel: Kernel) -> None:
    ran = kernel.run(LINE.format(runs=12, name="r"))
    assert ran.reply["status"] == "ok"
    updates, times = ran.of("update_display_data"), ran.times("update_display_data")
    pages = [update["data"]["text/html"] for update in updates]
    assert any(re.search(r"run \d+ of 12 · about .* left", page) for page in pages)
    assert pages[-1] == ""
    assert all(update["data"]["text/plain"] == "" for update in updates)
    assert max(sum(start <= at < start + 1 for at in times) for start in times) <= 4
    [shown] = ran.of("execute_result")
    assert shown["data"]["text/plain"].startswith("Profile of ")
    assert "text/html" in shown["data"]
    assert kernel.run("print(r.partial, len(r.runs))").printed == "None 12\n"
    assert kernel.run(f"quiet = {LINE.format(runs=1, name='r')}").of("execute_result") == []


def test_an_interrupt_keeps_the_report_so_far_and_ends_the_cell(kernel: Kernel) -> None:
    sent = kernel.send(LINE.format(runs=5000, name="kept"))
    after = kernel.send("print('must not run')")
    kernel.wait_for(sent, "update_display_data", having="run 4")
    kernel.interrupt()
    ran = kernel.collect(sent)
    line = one_error_line(ran)
    assert re.fullmatch(r"KeyboardInterrupt: stopped after \d+ runs; the report of them is in `kept`\.", line)
    [answer] = ran.answers
    assert "Partial: interrupted" in answer
    assert kernel.collect(after).reply["status"] == "aborted"
    assert (
        kernel.run("print(kept.partial.split(':')[0], len(kept.runs) in range(3, 5000))").printed
        == "interrupted True\n"
    )


def test_an_interrupt_without_a_name_leaves_the_report_in_underscore(kernel: Kernel) -> None:
    sent = kernel.send(LINE.format(runs=5000, name="x").removesuffix(" --into x"))
    kernel.wait_for(sent, "update_display_data", having="run 3")
    kernel.interrupt()
    assert one_error_line(kernel.collect(sent)).endswith("the report of them is in `_`.")
    assert kernel.run("print(type(_).__name__)").printed == "Report\n"


def test_mistakes_fail_the_cell_with_one_line(kernel: Kernel) -> None:
    assert one_error_line(kernel.run("%profile_model --quik")).endswith("Unknown option --quik. Did you mean --quick?")
    assert one_error_line(kernel.run("%profile_model nowhere --quick")).startswith("ModelNotFoundError: ")
