"""The weights of an ONNX model by the header of its graph, and what its cache keeps of a token by its configuration."""

from __future__ import annotations

from typing import Any

from ...models.onnx_header import TABLES, Graph, read_graph
from ...models.onnx_header import Weight as Stored
from ...models.shape import Shape
from ...request import DTYPES, Request
from .weights import Layer, Parts, Weight, attention_flops

EMBEDDINGS, HEAD = ("embed_tokens", "embeddings", "wte"), "lm_head"
EXPERTS = ("expert", ".moe.")

# Bytes of a number by ONNX's number for its type.
WIDTHS = {1: 4, 2: 1, 3: 1, 6: 4, 7: 8, 10: 2, 11: 8, 16: 2, 21: 0.5, 22: 0.5}


def look(model: Any, request: Request) -> Parts:
    """The parts of an OnnxModel. Weights are None where they are of a type or an arrangement that is not known here,
    such as experts.
    """
    checkpoint = model.checkpoint
    file = checkpoint.config["genai"]["model"]["decoder"]["filename"]
    graph = read_graph(checkpoint.path / file)
    return Parts(weights(graph), layers(checkpoint.shape, graph.dtype), attention_flops(checkpoint.config))


def weights(graph: Graph) -> list[Weight] | None:
    """Every weight of a graph."""
    if any(word in name for name in graph.weights for word in EXPERTS):
        return None
    if any(stored.dtype not in WIDTHS for stored in graph.weights.values()):
        return None
    tied = not any(HEAD in name for name in graph.weights)
    return [_weight(graph, name, stored, tied) for name, stored in graph.weights.items()]


def _weight(graph: Graph, name: str, stored: Stored, tied: bool) -> Weight:
    size = stored.elements * WIDTHS[stored.dtype]
    numbers = stored.elements * 8 / graph.packed[name] if name in graph.packed else stored.elements
    if name in graph.companions:
        numbers = 0
    rows = stored.shape[0] if stored.shape else 1
    if name.startswith(TABLES):
        return Weight(size, 0, 1 / max(1, rows))
    if any(word in name for word in EMBEDDINGS):
        # One that is the head too is read whole, the row of the token among the rest.
        return Weight(size, numbers, 1.0 if tied else 1 / max(1, rows), head=tied, multiplied=tied)
    return Weight(size, numbers, head=HEAD in name)


def layers(shape: Shape, dtype: str) -> list[Layer] | None:
    """What each layer keeps of a token, in the float type of the graph; None where the configuration does not say."""
    if not (shape.kv_layers and shape.kv_width):
        return None
    row = shape.kv_width * DTYPES.get(dtype, 4)
    windowed = [Layer(row, shape.window)] * shape.windowed_layers
    return [Layer(row)] * (shape.kv_layers - shape.windowed_layers) + windowed
