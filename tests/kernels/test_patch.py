"""Patching rebinds every module, counts what runs, and restores exactly."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from mlxnb.decision import Accepted, Rejected
from mlxnb.errors import KernelError, PatchError
from mlxnb.kernels import active, configure_optimizer, patch_mlx_lm, stock, unpatch_mlx_lm
from mlxnb.kernels.dispatch import Choice
from mlxnb.kernels.patch import unpatched
from mlxnb.kernels.paths import STOCK, Path

mx = pytest.importorskip("mlx.core")
base = importlib.import_module("mlx_lm.models.base")
qwen2 = importlib.import_module("mlx_lm.models.qwen2")

NAME = "scaled_dot_product_attention"
ORIGINAL = base.scaled_dot_product_attention
OURS = Path("ours", "stock under another name", lambda config, device: Accepted("ours"), stock.attention, lambda: "1")


class Always:
    """A Tuner with one answer for every shape."""

    device = "cpu"

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.asked: list[object] = []

    def known(self, config):
        return None

    def measure(self, config):
        self.asked.append(config)
        return self.choice

    def stamp(self):
        return self.choice.path.name


WINS = Choice(OURS, Accepted("ours", "2× stock"))


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    configure_optimizer(min_len=1)
    yield
    unpatch_mlx_lm()
    configure_optimizer()
    assert base.scaled_dot_product_attention is ORIGINAL
    assert qwen2.scaled_dot_product_attention is ORIGINAL


def test_every_shape_is_chosen_anew_once_a_measurement_changes_the_stamp():
    class Turns(Always):
        """Changes the choice of a shape that was sent elsewhere before."""

        def stamp(self):
            return str(max(0, len(self.asked) - 1))

    tuner = Turns(WINS)
    with patch_mlx_lm(tuner=tuner) as dispatcher:
        call(base.scaled_dot_product_attention, keys=16)
        call(base.scaled_dot_product_attention, keys=16)
        assert len(tuner.asked) == 1
        assert dispatcher.stamp() == "0"
        call(base.scaled_dot_product_attention, keys=64)
        assert dispatcher.stamp() == "1"
        assert [line.config.kv_len for line in dispatcher.lines()] == [64]


def call(entry, length=3, keys=16, **options):
    key = mx.random.key(1)
    q, k, v = mx.random.normal((1, 4, length, 64), key=key), mx.ones((1, 2, keys, 64)), mx.ones((1, 2, keys, 64))
    return entry(q, k, v, cache=None, scale=0.125, mask=None, **options)


def test_modules_loaded_before_and_after_go_through_the_dispatcher():
    sys.modules.pop("mlx_lm.models.phi", None)
    with patch_mlx_lm(tuner=Always(WINS)) as dispatcher:
        late = importlib.import_module("mlx_lm.models.phi")
        assert base.scaled_dot_product_attention is qwen2.scaled_dot_product_attention is dispatcher
        assert late.scaled_dot_product_attention is dispatcher
    assert late.scaled_dot_product_attention is ORIGINAL


def test_a_call_gives_what_stock_gives_and_is_counted():
    expected = call(ORIGINAL)
    with patch_mlx_lm(tuner=Always(WINS)) as dispatcher:
        assert mx.array_equal(call(qwen2.scaled_dot_product_attention), expected)
        call(qwen2.scaled_dot_product_attention, keys=15)
        line, *others = dispatcher.lines()
    assert dispatcher.counts == {"ours": 2}
    assert (line.path, line.calls, line.layer, others) == ("ours", 2, "test_patch.call"[: len(line.layer)], [])


def test_a_shape_is_measured_once_and_lengths_of_one_power_of_two_together():
    tuner = Always(WINS)
    with patch_mlx_lm(tuner=tuner):
        for keys in (16, 15, 9, 17, 32):
            call(base.scaled_dot_product_attention, keys=keys)
    assert [config.kv_len for config in tuner.asked] == [16, 17]


def test_nested_patches_come_off_one_by_one():
    outer_tuner, inner_tuner = Always(WINS), Always(WINS)
    with patch_mlx_lm(tuner=outer_tuner) as outer:
        with patch_mlx_lm() as same:
            assert same is outer
        assert active() is outer
        with patch_mlx_lm(tuner=inner_tuner) as inner:
            assert base.scaled_dot_product_attention is inner
        assert base.scaled_dot_product_attention is outer
        with unpatched():
            assert base.scaled_dot_product_attention is ORIGINAL
        assert base.scaled_dot_product_attention is outer
    assert active() is None


def test_patches_may_come_off_in_any_order():
    first = patch_mlx_lm(tuner=Always(WINS))
    second = patch_mlx_lm(tuner=Always(WINS), strict=True)
    third = patch_mlx_lm(strict=True)
    assert third.dispatcher is second.dispatcher
    first.undo()
    assert active() is second.dispatcher
    second.undo()
    assert active() is third.dispatcher
    third.undo()
    third.undo()
    assert active() is None


def test_an_exception_restores_too():
    with pytest.raises(ZeroDivisionError), patch_mlx_lm(tuner=Always(WINS)):
        _ = 1 / 0
    assert base.scaled_dot_product_attention is ORIGINAL


def test_unpatching_twice_is_harmless_and_says_so():
    patch = patch_mlx_lm(tuner=Always(WINS))
    assert unpatch_mlx_lm()
    assert isinstance(unpatch_mlx_lm(), Rejected)
    patch.undo()
    assert base.scaled_dot_product_attention is ORIGINAL


def test_a_foreign_patch_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    def foreign(*args, **kwargs):
        return ORIGINAL(*args, **kwargs)

    with monkeypatch.context() as context:
        context.setattr(base, NAME, foreign)
        with pytest.raises(PatchError, match=r"already replaced by .*test_patch"):
            patch_mlx_lm(tuner=Always(WINS))
        assert qwen2.scaled_dot_product_attention is ORIGINAL


def test_one_that_came_over_ours_stays_and_ours_goes_quiet():
    patch_mlx_lm(tuner=Always(WINS))
    ours = base.scaled_dot_product_attention

    def foreign(*args, **kwargs):
        return ours(*args, **kwargs)

    base.scaled_dot_product_attention = foreign
    try:
        assert "stays" in unpatch_mlx_lm().reason
        assert base.scaled_dot_product_attention is foreign
        assert mx.array_equal(call(foreign), call(ORIGINAL))
        assert not ours.counts
    finally:
        base.scaled_dot_product_attention = ours  # what a library does that takes its own patch off
    with patch_mlx_lm(tuner=Always(WINS)) as dispatcher:
        assert base.scaled_dot_product_attention is dispatcher
        assert dispatcher.stock is ORIGINAL


def test_a_threshold_that_a_person_set_binds_to_the_token():
    configure_optimizer(min_len=1, max_len=600)
    with patch_mlx_lm(tuner=Always(WINS)) as dispatcher:
        for keys in (520, 600, 601, 1000, 599):
            call(base.scaled_dot_product_attention, keys=keys)
    assert dispatcher.counts == {"ours": 3, "stock": 2}


@pytest.mark.parametrize("odd", [{"dtype": "float64"}, {"mask": ()}, {"mask": (16,)}])
def test_what_only_stock_takes_goes_there(odd):
    q, k = mx.ones((1, 4, 3, 64)), mx.ones((1, 2, 16, 64))
    if "dtype" in odd:
        q, k = (a.astype(mx.float64) for a in (q, k))
    mask = mx.zeros(odd["mask"]) if "mask" in odd else None
    with patch_mlx_lm(tuner=Always(WINS)) as dispatcher, mx.stream(mx.cpu):
        mx.eval(base.scaled_dot_product_attention(q, k, k, None, 0.125, mask))
    assert dispatcher.counts == {"stock": 1}


def test_quantised_values_of_another_width_stay_on_stock():
    q, k, v = mx.ones((1, 4, 1, 64)), mx.ones((1, 4, 9, 64)), mx.ones((1, 4, 9, 32))
    cache = SimpleNamespace(bits=8, group_size=32)
    packed = [mx.quantize(a, group_size=32, bits=8) for a in (k, v)]
    with patch_mlx_lm(tuner=Always(WINS)) as dispatcher:
        assert base.scaled_dot_product_attention(q, *packed, cache, 0.1, None).shape == (1, 4, 1, 32)
    assert dispatcher.counts == {"stock": 1}


def test_thresholds_keep_a_shape_on_stock_unmeasured():
    configure_optimizer(min_len=64)
    tuner = Always(WINS)
    with patch_mlx_lm(tuner=tuner) as dispatcher:
        call(base.scaled_dot_product_attention)
        assert "min_len" in dispatcher.lines()[0].decision.reason
    assert dispatcher.counts == {"stock": 1}
    assert tuner.asked == []


def test_strict_raises_only_where_nothing_of_ours_works():
    slower = Choice(STOCK, Rejected("optimised attention", "not faster"))
    broken = Choice(STOCK, Rejected("optimised attention", "does not run: boom"), failed=True)
    with patch_mlx_lm(tuner=Always(slower), strict=True):
        call(base.scaled_dot_product_attention)
    with patch_mlx_lm(tuner=Always(broken), strict=True), pytest.raises(KernelError, match="boom"):
        call(base.scaled_dot_product_attention)


def test_keys_and_values_of_different_width_stay_on_stock():
    with patch_mlx_lm(tuner=Always(WINS)) as dispatcher:
        q, k, v = mx.ones((1, 4, 1, 64)), mx.ones((1, 4, 9, 64)), mx.ones((1, 4, 9, 32))
        assert base.scaled_dot_product_attention(q, k, v, None, 0.1, None).shape == (1, 4, 1, 32)
    assert dispatcher.counts == {"stock": 1}
