"""The GPU benchmark's own arithmetic, and its arms on a CPU with a tiny shape."""

import pytest

from mlxnb.hardware import Speed
from tests.tiny import SHAPE, rope

torch = pytest.importorskip("torch")

from tests.benchmarks.gpu import LLAMA3_8B, Work, compared, gpu  # noqa: E402 - torch is asked for first

TINY = {**SHAPE, "head_dim": 16, "tie_word_embeddings": False, "rope_parameters": rope(5000.0)}
HIDDEN, INNER, LAYERS, VOCABULARY = 64, 96, 3, 4096


def made(**differs):
    import transformers

    return transformers.AutoModelForCausalLM.from_config(
        transformers.LlamaConfig(**{**TINY, **differs}), dtype=torch.bfloat16
    )


def test_what_a_token_reads_and_computes_is_counted_as_the_metrics_say():
    work = Work.of(made())
    layer = 2 * HIDDEN * HIDDEN + 2 * HIDDEN * 32 + 3 * HIDDEN * INNER  # queries and output, keys and values, the MLP
    norms = (2 * LAYERS + 1) * HIDDEN
    assert work.products == 2 * LAYERS * layer
    assert work.weights == 2 * (LAYERS * layer + norms + VOCABULARY * HIDDEN + HIDDEN)  # the head, a row of the table
    assert work.kv == 2 * LAYERS * 2 * 16 * 2
    assert work.attention == 4 * LAYERS * 4 * 16
    tied = Work.of(made(tie_word_embeddings=True))
    assert tied.weights == work.weights - 2 * HIDDEN  # the table is the head, and read as such
    assert tied.products == work.products


def test_a_share_of_one_is_all_that_the_device_does():
    work = Work(weights=1000, kv=10, products=500, attention=4)
    assert work.mbu(2.0, (8, 4), bandwidth=2 * (1000 + 10 * 10)) == pytest.approx(1.0)
    assert work.mfu(3.0, (9, 4), peak=3 * (500 + 4 * 5)) == pytest.approx(1.0)


def test_the_shape_is_that_of_eight_billion_weights():
    import transformers

    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(transformers.LlamaConfig(**LLAMA3_8B))
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_030_261_248


def test_both_arms_run_on_a_cpu():
    speed = Speed("torch", "cpu", copy=1e9, products={"bfloat16": 1e10})
    decode, prefill, mbu, mfu = compared("LlamaConfig", TINY, speed, (40, 5), 2)
    assert (decode["benchmark"], prefill["benchmark"]) == ("decode", "prefill")
    for line in (decode, prefill):
        assert line["pairs"] == 2
        assert all(ours > 0 < theirs for ours, theirs in line["rates"])
    work, rate = Work.of(made()), sorted(pair[0] for pair in decode["rates"])
    assert mbu["benchmark"] == "MBU of 1 GB/s"
    assert mbu["ratio"] == pytest.approx(work.mbu(sum(rate) / 2, (40, 5), 1e9), abs=1e-3)
    assert mfu["benchmark"] == "MFU of 0.01 Tflop/s"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so():
    with pytest.raises(SystemExit, match="needs a CUDA device, and torch sees none here"):
        gpu()
