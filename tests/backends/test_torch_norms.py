"""Shorter RMS norms: the formula within rounding, a row's result its own, and only where the class is the plain one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from mlxnb.backends import torch_norms
from mlxnb.backends.torch_norm import RmsNorm
from mlxnb.backends.torch_norms import BOUND, take_norms
from mlxnb.decision import Accepted, Rejected

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
EPS = 1e-5


@st.composite
def cases(draw):
    """A norm, and rows for it of lengths for which eps decides and does not, some all zero."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    width, dtype = draw(st.integers(1, 300)), draw(st.sampled_from(DTYPES))
    weight = torch.nn.Parameter(torch.randn(width).to(dtype), requires_grad=False)
    rows = torch.randn(draw(st.integers(1, 40)), width)
    rows *= torch.tensor([0.0, 1e-3, 1.0, 100.0])[torch.randint(4, (len(rows), 1))]
    return RmsNorm(weight, EPS, draw(st.sampled_from([0.0, 1.0]))), rows.to(dtype)


@settings(max_examples=100)
@given(case=cases())
def test_it_is_the_formula_rounded_once(case):
    norm, x = case
    exact = x.double() * torch.rsqrt(x.double().square().mean(-1, keepdim=True) + EPS)
    exact *= norm.offset + norm.weight.double()
    # Sums in float32 first, whose roundings grow with the root of the width at most; then one rounding to the dtype.
    near = torch.finfo(x.dtype).eps / 2 + 16 * torch.finfo(torch.float32).eps
    tiny = torch.finfo(x.dtype).smallest_normal
    assert bool(((norm(x).double() - exact).abs() <= near * exact.abs() + tiny).all())


@settings(max_examples=100)
@given(case=cases(), data=st.data())
def test_a_row_comes_out_the_same_to_the_bit_whatever_is_beside_it(case, data):
    norm, x = case
    together = norm(x)
    start = data.draw(st.integers(0, len(x) - 1))
    end = data.draw(st.integers(start + 1, len(x)))
    assert torch.equal(norm(x[start:end]), together[start:end])
    assert torch.equal(norm(x[None, start:end, None]), together[None, start:end, None])


def test_the_input_is_left_alone():
    norm = RmsNorm(torch.nn.Parameter(torch.ones(8)), EPS, 0.0)
    x = torch.randn(2, 8)
    before = x.clone()
    with torch.inference_mode():
        norm(x)
    assert torch.equal(x, before)


class PlainRMSNorm(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight, self.eps = torch.nn.Parameter(weight, requires_grad=False), EPS

    def forward(self, x):
        h = x.float()
        return (self.weight.float() * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + self.eps))).to(x.dtype)


class OnePlusRMSNorm(PlainRMSNorm):
    def forward(self, x):
        h = x.float()
        return ((1 + self.weight.float()) * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + self.eps))).to(x.dtype)


class CentredRMSNorm(PlainRMSNorm):
    def forward(self, x):
        return super().forward(x - x.mean(-1, keepdim=True))


class OtherEpsRMSNorm(PlainRMSNorm):
    def forward(self, x):
        h = x.float()
        return (self.weight.float() * (h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1.5 * self.eps))).to(x.dtype)


class GatedRMSNorm(PlainRMSNorm):
    def forward(self, x, gate=None):
        return super().forward(x)


class WiderRMSNorm(PlainRMSNorm):
    """Its result is in float32 whatever it is given."""

    def forward(self, x):
        return super().forward(x.float())


def replaced(kind, dtype=torch.float32, weight=None):
    """A norm of that class as take_norms leaves it, and what it decided."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(kind((torch.randn(64) if weight is None else weight).to(dtype)))
    [verdict] = take_norms(model)
    return model[0], verdict


@pytest.fixture
def fast(monkeypatch):
    """How fast a norm is, is not what these tests are about."""
    monkeypatch.setattr(torch_norms, "_speed", lambda *norms: 2.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kind", "offset"), [(PlainRMSNorm, 0.0), (OnePlusRMSNorm, 1.0)])
def test_both_plain_formulas_are_known_by_what_they_give(kind, offset, dtype, fast):
    norm, verdict = replaced(kind, dtype)
    assert isinstance(verdict, Accepted)
    assert (type(norm), norm.offset) == (RmsNorm, offset)
    x = torch.randn(3, 64).to(dtype)
    expected = kind(norm.weight)(x)
    near = BOUND * torch.finfo(dtype).eps
    assert torch.allclose(norm(x).double(), expected.double(), rtol=near + 1e-6, atol=0)


def test_weights_of_one_and_of_zero_do_not_hide_which_formula_it_is(fast):
    assert replaced(PlainRMSNorm, weight=torch.ones(64))[0].offset == 0
    assert replaced(OnePlusRMSNorm, weight=torch.zeros(64))[0].offset == 1


@pytest.mark.parametrize("kind", [CentredRMSNorm, OtherEpsRMSNorm])
def test_another_formula_is_left_as_it_is(kind, fast):
    norm, verdict = replaced(kind)
    assert type(norm) is kind
    assert isinstance(verdict, Rejected)
    assert "something else than the plain formula" in verdict.reason


def test_a_norm_with_a_gate_or_another_dtype_is_left_as_it_is(fast):
    norm, verdict = replaced(GatedRMSNorm)
    assert type(norm) is GatedRMSNorm
    assert "more than the plain formula" in verdict.reason
    assert type(replaced(WiderRMSNorm, torch.bfloat16)[0]) is WiderRMSNorm


def test_weights_of_another_dtype_than_the_model_are_tried_as_they_are_used(fast):
    """transformers' norms then give what the weights' dtype is, and not what they were given."""

    class Promoting(PlainRMSNorm):
        def forward(self, x):
            return self.weight * super().forward(x.float()).div(self.weight).to(x.dtype)

    Promoting.__name__ = "PromotingRMSNorm"
    model = torch.nn.Sequential(torch.nn.Embedding(4, 64).bfloat16(), Promoting(1 + torch.rand(64)))
    take_norms(model)
    assert type(model[1]) is Promoting
    model = torch.nn.Sequential(torch.nn.Embedding(4, 64).bfloat16(), PlainRMSNorm(1 + torch.rand(64)))
    take_norms(model)
    assert type(model[1]) is RmsNorm


def test_what_is_not_measured_faster_stays(monkeypatch):
    monkeypatch.setattr(torch_norms, "_speed", lambda *norms: 1.2)
    norm, verdict = replaced(PlainRMSNorm)
    assert type(norm) is PlainRMSNorm
    assert verdict.reason == "measured at 1.20 of the speed of transformers' own"


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma3", "qwen3-next", "deepseek-v3", "falcon-h1"])
def test_greedy_tokens_in_float32_are_those_of_plain_transformers(checkpoint, family, fast):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint(family), dtype=torch.float32).eval()
    ids = torch.arange(7, 40)[None]
    with torch.inference_mode():
        plain, logits = greedy(model, ids), model(ids).logits
        assert any(take_norms(model))
        assert greedy(model, ids) == plain
        apart = float((model(ids).logits - logits).norm() / logits.norm())
    assert apart < 1e-4  # measured at 1e-6 to 7e-6


def greedy(model, ids):
    return model.generate(ids, max_new_tokens=20, do_sample=False)[0].tolist()
