"""A path is taken only where it was shown equal and measured faster; everything else is remembered with its reason."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path as File

import pytest

from mlxnb.comparison import Ratio
from mlxnb.decision import Accepted, Rejected
from mlxnb.kernels import AttentionConfig, stock
from mlxnb.kernels.cases import Case
from mlxnb.kernels.paths import Path
from mlxnb.kernels.problem import problem
from mlxnb.kernels.tune import LARGEST, Measured, Trial, _work, choose, representative
from mlxnb.records import Records

mx = pytest.importorskip("mlx.core")

SHAPE = AttentionConfig(4, 2, 64, 1, 128, dtype="float32")


def path(name: str, run, takes=lambda config, device: Accepted("yes"), version: str = "1") -> Path:
    return Path(name, name, takes, run, lambda: version)


def slow(call):
    time.sleep(0.01)
    return stock.attention(call)


def wrong(call):
    return stock.attention(call) * 1.01


def nan(call):
    return stock.attention(call) * float("nan")


def broken(call):
    raise ValueError("[metal_kernel] no such thing")


def measured(tmp_path: File, *paths: Path) -> Measured:
    return Measured(Records(tmp_path), paths)


@pytest.mark.parametrize(
    ("run", "reason", "failed"),
    [
        (slow, "not faster", False),
        (wrong, "not equal", True),
        (nan, "not equal", True),
        (broken, "does not run: .*no such thing", True),
    ],
)
def test_a_path_that_does_not_earn_it_is_rejected_for_good_with_the_reason(tmp_path, run, reason, failed):
    tuner = measured(tmp_path, path("ours", run))
    choice = tuner.measure(SHAPE)
    assert choice.path.name == "stock"
    assert choice.failed is failed
    assert re.search(reason, choice.decision.reason)
    again = measured(tmp_path, path("ours", run)).known(SHAPE)
    assert (again.path.name, again.decision.reason, again.failed) == ("stock", choice.decision.reason, failed)


def test_a_path_that_wins_is_remembered_until_its_text_or_mlx_changes(tmp_path, monkeypatch):
    def quick(call):  # the answer, without computing it again: as fast as an eval can be
        return answers.setdefault(id(call), stock.attention(call))

    answers: dict[int, object] = {}
    tuner = measured(tmp_path, path("ours", quick))
    choice = tuner.measure(SHAPE)
    assert choice.decision, choice.decision.reason
    assert choice.path.name == "ours"
    assert measured(tmp_path, path("ours", quick)).known(SHAPE).path.name == "ours"
    assert measured(tmp_path, path("ours", quick, version="2")).known(SHAPE) is None
    monkeypatch.setattr("mlxnb.kernels.tune.machine", lambda: "another machine")
    assert measured(tmp_path, path("ours", quick)).known(SHAPE) is None


def test_a_path_that_does_not_take_the_shape_is_not_believed(tmp_path):
    tuner = measured(tmp_path, path("ours", slow, lambda config, device: Rejected("ours", "no")))
    tuner.store.put(tuner._key(SHAPE), {"path": "ours", "reason": "1000×"})
    assert tuner.known(SHAPE) is None


def test_a_path_is_not_as_good_as_a_stock_that_is_plainly_wrong(tmp_path, monkeypatch):
    right = stock.attention
    broken = Path("stock", "wrong", stock.takes, lambda call: right(call) * 3, lambda: "")
    monkeypatch.setattr("mlxnb.kernels.tune.STOCK", broken)
    choice = measured(tmp_path, path("ours", wrong)).measure(SHAPE)
    assert "not equal" in choice.decision.reason


def test_a_record_of_nonsense_is_not_known(tmp_path):
    tuner = measured(tmp_path, path("ours", slow))
    tuner.store.put(tuner._key(SHAPE), {"path": "gone", "reason": 3})
    assert tuner.known(SHAPE) is None


def test_the_only_path_that_can_is_taken_unmeasured(tmp_path):
    shape = AttentionConfig(4, 2, 64, 1, 128, dtype="float32", kv_bits=8, group_size=64, sinks=True)
    exact = path("ours", lambda call: mx.array(problem(Case.of(shape)).expected.astype("float32")))
    choice = measured(tmp_path, exact).measure(shape)
    assert choice.path.name == "ours"
    assert "stock cannot" in choice.decision.reason


def test_stock_wins_ties_and_the_faster_of_two_winners_is_taken():
    paths = [path("a", slow), path("b", slow)]

    def trial(name: str, median: float, low: float) -> Trial:
        won = median >= 1.03 and low > 1
        decision = Accepted(name, "won") if won else Rejected(name, "tie")
        return Trial(name, decision, 0.0, 0.0, Ratio(median, low, median + 0.1, 9))

    assert choose([trial("a", 1.5, 1.4), trial("b", 2.0, 1.9)], paths).path.name == "b"
    assert choose([trial("a", 1.02, 0.9), trial("b", 1.2, 0.98)], paths).path.name == "stock"
    assert not choose([trial("a", 1.02, 0.9)], paths).failed


def test_large_shapes_go_by_a_smaller_one_and_small_ones_by_themselves():
    config = AttentionConfig(32, 8, 128, 256, 100_000)
    stands_for = representative(config, "cpu")
    assert (stands_for.query_len, stands_for.kv_len) == (64, 256)
    longer = representative(AttentionConfig(8, 2, 64, 1, 100_000), "cpu")
    assert _work(longer) == LARGEST["cpu"]
    assert representative(SHAPE, "cpu") == SHAPE
    assert representative(AttentionConfig(4, 2, 64, 3, 100), "cpu").query_len == 8


def test_measuring_leaves_the_random_state_of_a_model_alone(tmp_path):
    mx.random.seed(5)
    expected = mx.random.uniform(shape=(3,)).tolist()
    mx.random.seed(5)
    measured(tmp_path, path("ours", slow)).measure(SHAPE)
    assert mx.random.uniform(shape=(3,)).tolist() == expected


@pytest.mark.parametrize("mask", ["none", "causal", "bool", "additive"])
@pytest.mark.parametrize("bits", [None, 8])
def test_some_rows_of_a_problem_are_judged_as_all_are(mask, bits):
    shape = AttentionConfig(4, 2, 64, 40, 128, 2, "float32", bits, 64 if bits else None, mask)
    assert Case.of(shape).config == shape
    whole, part = problem(Case.of(shape)), problem(Case.of(shape), 8)
    assert len(part.rows) == 8
    assert (part.rows[0], part.rows[-1]) == (0, 39)
    assert (part.expected == whole.expected[:, :, list(part.rows)]).all()
    output = stock.attention(part.call)
    assert part.error(output) < 1e-4
    assert part.error(mx.where(mx.arange(40)[:, None] == part.rows[3], 0, output)) > 0.1


@pytest.mark.parametrize(
    ("kv_len", "earlier", "now", "changes"),
    [
        (4096, None, slow, False),  # measured before the first call
        (4096, None, "ours", False),
        (4096, slow, slow, False),
        (4096, slow, "ours", True),
        (128, None, slow, False),  # 65 keys, of the same class, go to stock unmeasured
        (128, None, "ours", True),
    ],
)
def test_the_stamp_changes_with_a_choice_and_with_nothing_else(tmp_path, monkeypatch, kv_len, earlier, now, changes):
    shape = replace(SHAPE, kv_len=kv_len)
    won = Trial("ours", Accepted("ours", "2.00× stock"), 0.0, 0.0, Ratio(2.0, 1.9, 2.1, 3))
    lost = replace(won, decision=Rejected("ours", "not faster"))

    def measure(wins):
        monkeypatch.setattr("mlxnb.kernels.tune.try_all", lambda *_: [won if wins == "ours" else lost])
        return measured(tmp_path, path("ours", stock.attention)).measure(shape).path.name

    if earlier is not None:
        measure(earlier)
    before = measured(tmp_path, path("ours", stock.attention)).stamp()
    assert measured(tmp_path, path("ours", stock.attention)).stamp() == before  # in the next process
    assert measure(now) == ("ours" if now == "ours" else "stock")
    assert (measured(tmp_path, path("ours", stock.attention)).stamp() != before) is changes
