"""What a step reads and computes, against counts by hand from the shapes of tiny models."""

from pathlib import Path

import pytest

from mlxnb.models.gguf_header import GgufHeader, GgufTensor
from mlxnb.models.gguf_info import GgufInfo
from mlxnb.models.gguf_types import NUMBERS, TYPES
from mlxnb.models.onnx_header import Graph, Weight
from mlxnb.profiling.model import weights_gguf, weights_onnx
from mlxnb.profiling.model.weights import Costs, costs, with_costs
from mlxnb.profiling.report import Profiled, Window
from mlxnb.runtime import Engine
from tests.tiny import SHAPE, VOCABULARY

pytest.importorskip("mlx.core")
pytest.importorskip("torch")

HIDDEN, MLP, LAYERS, HEADS, KV = (
    SHAPE[name]
    for name in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
)
BACKENDS = ("torch", "mlx")


def linears(head_dim: int) -> list[tuple[int, int]]:
    """(inputs, outputs) of a layer's products."""
    q, kv = HEADS * head_dim, KV * head_dim
    return [(HIDDEN, q), (HIDDEN, kv), (HIDDEN, kv), (q, HIDDEN), (HIDDEN, MLP), (HIDDEN, MLP), (MLP, HIDDEN)]


def in_layers(head_dim: int) -> int:
    return LAYERS * sum(k * n for k, n in linears(head_dim))


NORMS = (2 * LAYERS + 1) * HIDDEN  # two a layer and the last


def found(engine: Engine, path: Path | str, backend: str, quantize: str | None = None, **kv) -> Costs:
    return engine.call_with(str(path), lambda loaded: costs(loaded, **kv), backend, None, quantize)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_tied_head_counts_once(engine, checkpoint, backend):
    numbers = in_layers(32) + NORMS + VOCABULARY * HIDDEN
    expected = Costs(
        weights_read=4 * numbers,
        kv_read=2 * LAYERS * KV * 32 * 4,
        flops=2 * numbers,
        flops_context=4 * LAYERS * HEADS * 32,
        flops_head=2 * VOCABULARY * HIDDEN,
        weights_prefill=4 * numbers,
    )
    assert found(engine, checkpoint("llama"), backend) == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_an_embedding_one_row_is_read_and_nothing_is_multiplied(engine, checkpoint, backend):
    head_dim = HIDDEN // HEADS
    biases = LAYERS * (HEADS + 2 * KV) * head_dim
    numbers = in_layers(head_dim) + NORMS + biases + VOCABULARY * HIDDEN
    made = found(engine, checkpoint("qwen2"), backend)
    assert made.weights_read == 4 * (numbers + HIDDEN)
    assert made.flops == 2 * numbers


def test_torch_in_int8_is_a_byte_a_weight_and_a_scale_an_output(engine, checkpoint):
    outputs = LAYERS * sum(n for _, n in linears(32)) + VOCABULARY
    numbers = in_layers(32) + VOCABULARY * HIDDEN
    made = found(engine, checkpoint("llama"), "torch", "int8")
    # The head is a copy in int8 by now, so that the embedding's row is read beside it.
    assert made.weights_read == numbers + 4 * outputs + 4 * NORMS + 4 * HIDDEN
    assert made.flops == 2 * (numbers + NORMS)


def test_torch_in_int4_has_two_halves_for_each_group_of_32_and_its_head_in_int8(engine, checkpoint):
    packed = in_layers(32) // 2 + LAYERS * sum(k // 32 * n * 2 * 2 for k, n in linears(32))
    head = VOCABULARY * HIDDEN + 4 * VOCABULARY
    made = found(engine, checkpoint("llama"), "torch", "int4")
    assert made.weights_read == packed + head + 4 * NORMS + 4 * HIDDEN


@pytest.mark.parametrize(("kind", "bits"), [("int8", 8), ("int4", 4)])
def test_mlx_has_a_scale_and_an_offset_for_each_group(engine, checkpoint, kind, bits):
    def size(k: int, n: int) -> float:
        group = 64 if k % 64 == 0 else 32
        return k * n * bits / 8 + 2 * 4 * (k // group) * n

    made = found(engine, checkpoint("llama"), "mlx", kind)
    products = LAYERS * sum(size(*shape) for shape in linears(32)) + size(HIDDEN, VOCABULARY)
    assert made.weights_read == products + 4 * NORMS
    assert made.flops == 2 * (in_layers(32) + NORMS + VOCABULARY * HIDDEN)


@pytest.mark.parametrize("backend", BACKENDS)
def test_experts_count_by_the_share_that_a_token_goes_to(engine, checkpoint, backend):
    made = found(engine, checkpoint("qwen3-next"), backend)
    experts = 4 * 4 * 3 * HIDDEN * 32  # layers, experts, products
    assert made.weights_prefill - made.weights_read == 4 * experts / 2  # two of four


@pytest.mark.parametrize("backend", BACKENDS)
def test_experts_of_which_nothing_says_how_many_are_taken(engine, checkpoint, backend):
    from mlxnb.profiling.model import weights_mlx, weights_torch

    look = {"torch": weights_torch, "mlx": weights_mlx}[backend].weights
    path = str(checkpoint("deepseek-v3"))
    assert engine.call_with(path, lambda loaded: look(loaded.model, {}), backend) is None
    assert engine.call_with(path, lambda loaded: look(loaded.model, {"num_experts_per_tok": 9}), backend) is None
    assert engine.call_with(path, lambda loaded: look(loaded.model, {"num_experts_per_tok": 3}), backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_layers_that_keep_no_keys_have_a_state_of_fixed_size(engine, checkpoint, backend):
    made = found(engine, checkpoint("qwen3-next"), backend)
    assert made.kv_read == 2 * 2 * KV * 32 * 4  # two of its four layers attend
    assert made.flops_context == 4 * 2 * HEADS * 32
    kept = {"torch": 4, "mlx": 3}[backend]  # inputs that a convolution keeps
    assert made.state_read == 2 * 4 * (4 * 32 * 32 + kept * (2 * 2 * 32 + 4 * 32))


@pytest.mark.parametrize("backend", BACKENDS)
def test_latent_attention_reads_the_latent_vector(engine, checkpoint, backend):
    made = found(engine, checkpoint("deepseek-v3"), backend)
    assert made.kv_read == LAYERS * (16 + 16) * 4
    assert made.flops_context == LAYERS * 2 * HEADS * ((16 + 16) + 16)


@pytest.mark.parametrize("backend", BACKENDS)
def test_windows_are_apart(engine, checkpoint, backend):
    made = found(engine, checkpoint("gemma3"), backend)
    row = 2 * KV * 32 * 4
    assert made.kv_read == row  # one of three layers sees everything
    assert made.windows == (Window(12, 2 * row, 2 * 4 * HEADS * 32),)


def test_a_quantised_cache_is_counted_with_its_scales(engine, checkpoint):
    full = found(engine, checkpoint("llama"), "mlx")
    made = found(engine, checkpoint("llama"), "mlx", kv_bits=8)
    assert made.kv_read == 2 * LAYERS * KV * (32 + 2 * 4)  # groups of 32: a byte each, a scale and an offset
    assert made.weights_read == full.weights_read


def test_blocks_count_as_the_layer_that_they_stand_for(engine, checkpoint):
    from torch import nn

    from mlxnb.backends.torch_blocked import BlockedLinear
    from mlxnb.profiling.model.weights_torch import weights

    def counts(loaded):
        model = loaded.model
        before = weights(model, {})
        for name, module in list(model.named_modules()):
            if type(module) is nn.Linear and module is not model.get_output_embeddings():
                model.set_submodule(name, BlockedLinear(module))
        return before, weights(model, {})

    fresh = Engine(caching=False)
    before, after = fresh.call_with(str(checkpoint("llama-biases")), counts, "torch")
    fresh.close()
    assert sum(each.size for each in before) == sum(each.size for each in after)
    assert sum(each.numbers for each in before) == sum(each.numbers for each in after)


def test_llama_cpp_tells_as_much_by_its_file(engine):
    pytest.importorskip("llama_cpp")
    theirs, ours = found(engine, "pocket", "llamacpp"), found(engine, "pocket", "mlx")
    assert theirs.weights_read == 2 * ours.weights_read  # the file is in float32, ours in bfloat16
    assert theirs.kv_read == 2 * ours.kv_read
    assert (theirs.flops, theirs.flops_context, theirs.flops_head) == (ours.flops, ours.flops_context, ours.flops_head)


def test_experts_and_mixed_types_of_a_gguf_file(monkeypatch):
    shapes = {
        "token_embd.weight": ((100, 32), "Q8_0"),
        "output.weight": ((100, 32), "Q8_0"),
        "blk.0.ffn_up_exps.weight": ((8, 64, 32), "Q4_0"),
        "blk.0.attn_norm.weight": ((32,), "F32"),
    }
    tensors = {
        name: GgufTensor(shape, NUMBERS[kind], TYPES[NUMBERS[kind]], 0) for name, (shape, kind) in shapes.items()
    }
    metadata = {"moe.expert_used_count": 2}
    monkeypatch.setattr(weights_gguf, "read_gguf", lambda file: GgufHeader(metadata, tensors, 0))
    described = GgufInfo(
        Path("x"), "moe", "x", 0, 0, "float32", None, 0.0, None, 1, 2, 1, 16, 16, 32, 100, 0, False, (Path("x"),)
    )
    made = weights_gguf.weights(described)
    assert made is not None
    head, row, experts = 100 * 34, 34, 8 * 64 * 18
    assert sum(each.size * each.share for each in made) == pytest.approx(head + row + experts / 4 + 32 * 4)
    metadata.clear()
    assert weights_gguf.weights(described) is None


def test_backends_that_do_not_tell(engine, scripted):
    assert scripted[0].call_with("pocket", costs, "scripted") == Costs()


def test_onnx_tells_as_much_by_its_graph(engine):
    pytest.importorskip("onnxruntime_genai")
    theirs, ours = found(engine, "pocket", "onnx"), found(engine, "pocket", "mlx")
    angles = 2 * 32 * 4  # a row of cosines and one of sines
    assert theirs.weights_read == 2 * ours.weights_read + angles
    assert theirs.kv_read == 2 * ours.kv_read
    assert (theirs.flops, theirs.flops_context, theirs.flops_head) == (ours.flops, ours.flops_context, ours.flops_head)


def test_packed_weights_of_a_graph_and_experts_that_it_does_not_tell():
    def graph(**more):
        stored = {
            "model.embed_tokens.weight": Weight(1, (100, 32), "", 0, None),
            "q_proj.MatMul_Q4": Weight(2, (64, 1, 16), "", 0, None),
            "q_proj.MatMul_scales": Weight(1, (64,), "", 0, None),
            "lm_head.MatMul.weight": Weight(10, (32, 100), "", 0, None),
        }
        return Graph({**stored, **more}, {"q_proj.MatMul_Q4": 4}, frozenset({"q_proj.MatMul_scales"}), 0)

    made = weights_onnx.weights(graph())
    assert sum(each.size * each.share for each in made) == pytest.approx(32 * 4 + 64 * 16 + 64 * 4 + 3200 * 2)
    assert sum(each.numbers for each in made if each.multiplied) == 64 * 32 + 3200
    assert weights_onnx.weights(graph(**{"mlp.experts.fc1": Weight(1, (4, 4), "", 0, None)})) is None
    assert weights_onnx.weights(graph(odd=Weight(99, (4, 4), "", 0, None))) is None


def test_costs_go_to_what_is_known_of_a_model():
    model = Profiled("m", "", None, "mlx", "", "cpu", "float32", None, "", 1, 1, None)
    made = with_costs(model, Costs(1.0, 2.0, 3.0, 4.0, (Window(5, 6.0, 7.0),), 8.0, 9.0, 10.0))
    assert (made.weights_read, made.windows, made.weights_prefill) == (1.0, (Window(5, 6.0, 7.0),), 10.0)
