"""The fused kernels that mlx-lm ships, which nobody here wrote: they agree with plain references and are clean."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from mlxnb.kernels.emulator import EmulatedKernel, Report, emulated

mx = pytest.importorskip("mlx.core")
nn = pytest.importorskip("mlx.nn")
pytest.importorskip("mlx_lm.kernels")

DTYPES = [(mx.float32, 1e-5), (mx.bfloat16, 1e-2), (mx.float16, 2e-3)]
random = np.random.default_rng(0)


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """mlx-lm's kernel modules as they are when Metal is there, with every launch held to be clean."""
    run = EmulatedKernel.run

    def clean(self: EmulatedKernel, **arguments: Any) -> tuple[list[Any], Report]:
        outputs, report = run(self, **arguments)
        assert report.findings == (), str(report)
        return outputs, report

    monkeypatch.setattr(EmulatedKernel, "run", clean)
    names = (
        "expert_routing",
        "norm_add_norm",
        "post_expert_norm_combine",
        "qk_norm",
        "qk_norm_rope",
        "rms_norm_sigmoid_gate",
    )
    modules = {name: importlib.import_module(f"mlx_lm.kernels.{name}") for name in names}
    with emulated():
        for module in modules.values():
            importlib.reload(module)
        yield modules
    for module in modules.values():
        importlib.reload(module)


def _random(*shape: int, dtype: Any = mx.float32, scale: float = 1.0) -> Any:
    return mx.array((random.standard_normal(shape) * scale).astype(np.float32)).astype(dtype)


def _wide(array: Any) -> Any:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def _normed(x: Any, eps: float) -> Any:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps)


def _agrees(got: Any, expected: Any, tolerance: float) -> None:
    assert np.abs(_wide(got) - expected).max() <= tolerance * np.abs(expected).max()


def test_expert_routing(kernels: dict[str, Any]) -> None:
    logits, bias = _random(13, 70), _random(70, scale=0.1)
    routing = kernels["expert_routing"].expert_routing
    chosen, weights = routing(logits, bias, top_k=6, multiplier=1.3, score_eps=1e-20, route_scale=2.5)
    scores = 1 / (1 + np.exp(-_wide(logits) * 1.3))
    order = np.argsort(-(scores + _wide(bias)), -1, kind="stable")[:, :6]
    np.testing.assert_array_equal(np.array(chosen), order)
    expected = np.take_along_axis(scores, order, -1)
    _agrees(weights, expected / expected.sum(-1, keepdims=True) * 2.5, 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_norm_add_norm(kernels: dict[str, Any], dtype: Any, tolerance: float) -> None:
    branch, stream, alpha, beta, weight = (
        _random(3, 1000, dtype=dtype),
        _random(3, 1000),
        *(_random(1000) for _ in range(3)),
    )
    norm = nn.RMSNorm(1000, eps=1e-5)
    norm.weight = _random(1000)
    call = dict(alpha=alpha, beta=beta, post_weight=weight, post_eps=1e-6, next_norm=norm)
    added, normed = kernels["norm_add_norm"].norm_add_norm(branch, stream, **call)
    post = _normed(_wide(branch) * _wide(weight), 1e-6)
    expected = _wide(alpha) * _wide(stream) + _wide(beta) * post
    _agrees(added, expected, tolerance)
    _agrees(normed, _normed(expected, 1e-5) * _wide(norm.weight), tolerance)
    _agrees(
        kernels["norm_add_norm"].pre_norm(added, norm, dtype=dtype),
        _normed(expected, 1e-5) * _wide(norm.weight),
        tolerance,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_post_expert_norm_combine(kernels: dict[str, Any], dtype: Any, tolerance: float) -> None:
    experts, weights, norm = _random(3, 4, 2048, dtype=dtype), _random(3, 4), _random(2048)
    combine = kernels["post_expert_norm_combine"].post_expert_norm_combine
    normed = _normed(_wide(experts) * _wide(norm), 1e-6)
    _agrees(
        combine(experts, weights, norm_weight=norm, eps=1e-6),
        (normed * _wide(weights)[..., None]).sum(1),
        3 * tolerance,
    )


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("offset", [None, 17, [3, 100]])
def test_qk_norm_with_and_without_rope(kernels: dict[str, Any], dtype: Any, tolerance: float, offset: Any) -> None:
    heads, kv_heads, width = 6, 2, 80
    packed = _random(2, 5, 2 * (heads + kv_heads) * width, dtype=dtype)
    call = dict(n_heads=heads, n_kv_heads=kv_heads, head_dim=width, eps=1e-6, query_scale=0.37)
    expected = _normed(_wide(packed).reshape(2, 5, -1, width)[:, :, : heads + kv_heads], 1e-6)
    expected[:, :, :heads] *= 0.37
    if offset is None:
        queries, keys = kernels["qk_norm"].qk_norm(packed, **call)
    else:
        given = mx.array(offset) if isinstance(offset, list) else offset
        queries, keys = kernels["qk_norm_rope"].qk_norm_rope(packed, **call, rope_base=10000.0, offset=given)
        expected = _rotated(expected, np.reshape(offset, (-1, 1)) + np.arange(5))
    _agrees(queries, expected[:, :, :heads], tolerance)
    _agrees(keys, expected[:, :, heads:], tolerance)


def _rotated(x: Any, positions: Any) -> Any:
    half = x.shape[-1] // 2
    angle = positions[:, :, None, None] * 10000.0 ** (-np.arange(half) / half)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = np.empty_like(x)
    turned[..., 0::2] = even * np.cos(angle) - odd * np.sin(angle)
    turned[..., 1::2] = even * np.sin(angle) + odd * np.cos(angle)
    return turned


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_rms_norm_sigmoid_gate_of_strided_arrays(kernels: dict[str, Any], dtype: Any, tolerance: float) -> None:
    x = _random(2, 5, 3, 96, dtype=dtype).transpose(0, 2, 1, 3)
    gate = _random(2, 5, 2 * 3 * 96, dtype=dtype)[..., ::2]
    got = kernels["rms_norm_sigmoid_gate"].rms_norm_sigmoid_gate(x, gate, eps=1e-6)
    normed = _normed(_wide(x).transpose(0, 2, 1, 3), 1e-6).reshape(2, 5, -1)
    _agrees(got, normed / (1 + np.exp(-_wide(gate))), tolerance)


@pytest.mark.parametrize("name", ["kl_forward", "kl_backward"])
def test_the_race_in_mlx_lm_losses(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both read `shared` and then write to it with no barrier between: a thread that is late reads the wrong value."""
    from mlx_lm.tuner import losses

    maker = getattr(losses, f"_make_{name}_kernel", None)
    if maker is None:
        pytest.skip("this mlx-lm has no such kernel")
    monkeypatch.setattr(losses, "can_run_metal", lambda: True)
    with emulated():
        kernel = maker()
    backward = name == "kl_backward"
    _, report = kernel.run(
        inputs=[_random(2, 5000) for _ in range(2)] + [_random(2)] * backward,
        template=[("T", mx.float32), ("V", 5000)],
        grid=(1024, 2, 1),
        threadgroup=(1024, 1, 1),
        output_shapes=[(2, 5000) if backward else (2,)],
        output_dtypes=[mx.float32],
    )
    races = [finding for finding in report.findings if finding.kind == "race"]
    if not races and report.findings == ():
        pytest.skip("this mlx-lm has mended it")
    source = kernel._kernel.source.split("\n")
    assert {race.buffer for race in races} == {"shared"}
    assert all("shared[" in source[race.line - 1] for race in races if race.line)
    assert any("= sum_exp_q" in source[race.line - 1] for race in races if race.line)
