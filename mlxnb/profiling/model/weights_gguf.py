"""The weights of a GGUF model by its file's header, and what llama.cpp's cache keeps of a token."""

from __future__ import annotations

import re
from typing import Any

from ...models.gguf_header import GgufTensor, read_gguf
from ...models.gguf_info import GgufInfo
from ...request import DTYPES, Request
from .weights import Layer, Parts, Weight

EMBEDDINGS = ("token_embd.weight", "position_embd.weight", "per_layer_token_embd.weight")
HEAD = "output.weight"  # where there is none, the first embedding is the head too
EXPERTS = re.compile(r"_exps\.(weight|bias)$")


def look(model: Any, request: Request) -> Parts:
    """The parts of a LlamaCppModel. Layers are None where the header does not say which of them keep a window, or a
    recurrent state; weights where it does not say how many experts a token takes.
    """
    described = model.described
    attention = 2.0 * described.heads * (described.head_dim + described.value_dim)
    return Parts(weights(described), layers(described, model.cache_dtype, model.recurrent), attention or None)


def weights(described: GgufInfo) -> list[Weight] | None:
    """Every tensor of a GGUF model's files."""
    headers = [read_gguf(file) for file in described.files]
    tensors = {name: tensor for header in headers for name, tensor in header.tensors.items()}
    if any(tensor.kind is None for tensor in tensors.values()):
        return None  # of a type that is newer than this table
    active = headers[0].metadata.get(f"{described.architecture}.expert_used_count")
    found = []
    for name, tensor in tensors.items():
        if EXPERTS.search(name):
            if type(active) is not int or not 0 < active <= tensor.shape[0]:
                return None
            found.append(Weight(tensor.nbytes, tensor.elements, active / tensor.shape[0], whole=True))
        elif name in EMBEDDINGS:
            found.append(_embedding(tensor, head=name == EMBEDDINGS[0] and HEAD not in tensors))
        else:
            found.append(Weight(tensor.nbytes, tensor.elements, head=name == HEAD))
    return found


def _embedding(tensor: GgufTensor, head: bool) -> Weight:
    share = 1.0 if head else 1 / tensor.shape[0]
    return Weight(tensor.nbytes, tensor.elements, share, head=head, multiplied=head)


def layers(described: GgufInfo, dtype: str, recurrent: bool) -> list[Layer] | None:
    """What each layer keeps of a token, in the dtype of the cache."""
    if described.window or recurrent or not described.kv_width:
        return None
    return [Layer(described.kv_width * DTYPES.get(dtype, 2))] * described.layers
