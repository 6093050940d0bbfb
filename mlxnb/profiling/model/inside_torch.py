"""Times the parts of a transformers model by hooks, waiting for the device before and after each."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ...backends.base import Watch
from ...backends.reuse import Feed
from ...backends.torch_sampling import TorchSampler
from ...decision import Rejected
from ...request import Request
from .inside_parts import FORWARD, SAMPLING, Key, Ledger, Placed, within

if TYPE_CHECKING:
    from ...backends.torch import TorchModel


class TorchInside:
    """See Way."""

    def __init__(self, model: TorchModel) -> None:
        self._model = model
        self._parts = parts(model.model)

    def refused(self) -> Rejected | None:
        """See Way."""
        if any(layer is not None for _, _, layer in self._parts):
            return None
        return Rejected("time inside a token", f"no layers were found in a {type(self._model.model).__name__}")

    def prefill(self, ids: list[int], request: Request, watch: Watch) -> Feed:
        """See Way."""
        import torch

        feed = Feed(self._model.new_state(request, watch))
        self._model.use_threads()
        with torch.inference_mode():
            self._model.prefill(ids[:-1], feed, watch)
        return feed

    def free(self, ids: list[int], request: Request, limit: int, feed: Feed) -> Iterator[int]:
        """See Way."""
        with self._threads_kept():
            yield from self._model.tokens(ids, request, limit, Watch(), feed)

    def timed(self, ids: list[int], request: Request, limit: int, feed: Feed, ledger: Ledger) -> Iterator[int]:
        """See Way."""
        draw = TorchSampler(request.sampling, self._model.info.device)

        def sample(logits: Any, history: list[int]) -> int:
            with ledger.part(SAMPLING):
                return draw(logits, history)

        with self._threads_kept(), hooked(self._parts, ledger, wait_for(self._model.info.device)):
            yield from self._model.tokens(ids, request, limit, Watch(), feed, sample)

    @contextmanager
    def _threads_kept(self) -> Iterator[None]:
        """What these passes take is not what a request takes: the choice of threads must not hear of it."""
        model, kept = self._model, self._model._threads
        model._threads = copy.deepcopy(kept)
        try:
            yield
        finally:
            model._threads = kept


def parts(model: Any) -> list[Placed]:
    """The modules of a transformers model that are parts of a token, the model itself first."""
    from torch import nn

    layers = _layers(model)
    inside = {id(each) for layer in layers for each in layer.modules()}
    head, found = model.get_output_embeddings(), [(model, *FORWARD)]
    for module in model.modules():
        if id(module) in inside:
            continue
        if module is head:
            found.append((module, "head", None))
        elif isinstance(module, nn.Embedding):
            found.append((module, "embedding", None))
        elif "norm" in type(module).__name__.lower() and not list(module.children()):
            found.append((module, "norm", None))
    for index, layer in enumerate(layers):
        found += within(layer, index, lambda module: module.named_children())
    return found


def _layers(model: Any) -> list[Any]:
    """The decoder layers: the outermost list of as many modules as the configuration has layers."""
    from torch import nn

    count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
    lists = {name: module for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    fitting = [name for name, module in lists.items() if len(module) == count]
    return list(lists[min(fitting, key=lambda name: name.count("."))]) if fitting else []


@contextmanager
def hooked(placed: list[Placed], ledger: Ledger, wait: Callable[[], None]) -> Iterator[None]:
    """Within, the parts are charged to `ledger`; afterwards the modules are as they were."""
    with ExitStack() as hooks:
        for module, part, layer in placed:
            before = module.register_forward_pre_hook(partial(_enter, ledger, wait, (part, layer)))
            hooks.callback(before.remove)
            after = module.register_forward_hook(partial(_leave, ledger, wait))
            hooks.callback(after.remove)
        yield


def _enter(ledger: Ledger, wait: Callable[[], None], key: Key, module: Any, args: Any) -> None:
    wait()  # what is under way belongs to the part before
    ledger.enter(key)


def _leave(ledger: Ledger, wait: Callable[[], None], module: Any, args: Any, output: Any) -> None:
    wait()
    ledger.leave()


def wait_for(device: str) -> Callable[[], None]:
    """What waits until a device has done all that it was given; a CPU has when a call returns."""
    import torch

    if device == "cuda":
        return _wait_for_cards
    return torch.mps.synchronize if device == "mps" else _nothing


def _wait_for_cards() -> None:
    import torch

    for card in range(torch.cuda.device_count()):  # a model may lie on several
        torch.cuda.synchronize(card)


def _nothing() -> None:
    """Nothing is under way."""
