"""Every kind of finding: a planted bug is found with its kind, line and buffer, and the mended kernel is clean."""

from __future__ import annotations

import numpy as np
import pytest

from mlxnb.kernels.emulator import Kernel, Typed
from mlxnb.kernels.emulator.findings import KINDS
from tests.kernels.emulator.planted import BUGS, Bug

MADE_ELSEWHERE = {"too-many-threads"}  # test_core


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_planted_bug_is_found(bug: Bug) -> None:
    found = bug.run(bug.source).findings
    expected = [f for f in found if (f.kind, f.line, f.buffer) == (bug.kind, bug.line, bug.buffer)]
    assert expected, [str(f) for f in found]
    assert expected[0].grade == bug.grade
    assert expected[0].part == bug.part
    assert bug.words in expected[0].message


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS.keys())
def test_mended_kernel_is_clean(bug: Bug) -> None:
    report = bug.run(bug.mended)
    assert report.findings == ()
    assert report.ok
    assert report.complete


def test_every_kind_has_a_planted_bug() -> None:
    assert {*KINDS, "address-space"} - {bug.kind for bug in BUGS.values()} == MADE_ELSEWHERE


@pytest.mark.parametrize("name", ["wild write", "endless loop", "too much private memory", "pointer from nowhere"])
def test_what_only_the_processor_notices_is_found_without_checks(name: str) -> None:
    bug = BUGS[name]
    assert {f.kind for f in bug.run(bug.source, checks=False).findings} == {bug.kind}


def test_a_finding_in_a_header_says_so() -> None:
    header = "inline float next(const device float* p) {\n  return p[1];\n}\n"
    kernel = Kernel("k", ("x",), ("y",), "uint i = thread_position_in_grid.x;\ny[i] = next(x + i);", header)
    x = Typed(np.zeros(8, np.float32), "float32")
    finding = kernel.run([x], [(8,)], ["float32"], (8, 1, 1), (8, 1, 1))[1].findings[0]
    assert (finding.kind, finding.part, finding.line) == ("out-of-bounds", "header", 2)
