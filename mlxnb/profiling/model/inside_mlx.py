"""Times the parts of an mlx-lm model by subclasses that compute each part's results before the next one begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...backends.base import Watch
from ...backends.mlx import make_sampler
from ...backends.reuse import Feed
from ...decision import Rejected
from ...request import Request
from .inside_parts import FORWARD, SAMPLING, Key, Ledger, Placed, within
from .weights_mlx import is_embedding, is_head

if TYPE_CHECKING:
    from ...backends.mlx import MlxModel


class MlxInside:
    """See Way."""

    def __init__(self, model: MlxModel) -> None:
        self._model = model
        self._parts = parts(model.model)

    def refused(self) -> Rejected | None:
        """See Way."""
        if any(layer is not None for _, _, layer in self._parts):
            return None
        return Rejected("time inside a token", f"no layers were found in a {type(self._model.model).__module__}")

    def prefill(self, ids: list[int], request: Request, watch: Watch) -> Feed:
        """See Way."""

        def fresh() -> list[Any]:
            return self._model.new_state(request, watch)

        feed = Feed(fresh())
        self._model.prefill(ids, watch, feed, fresh)
        return feed

    def free(self, ids: list[int], request: Request, limit: int, feed: Feed) -> Iterator[int]:
        """See Way."""
        return self._model.tokens(ids, request, limit, Watch(), feed)

    def timed(self, ids: list[int], request: Request, limit: int, feed: Feed, ledger: Ledger) -> Iterator[int]:
        """See Way."""
        import mlx.core as mx

        draw = make_sampler(request.sampling)

        def sample(logprobs: Any) -> Any:
            # What is not computed by now is the penalties and the log-probabilities, which are part of sampling.
            with ledger.part(SAMPLING):
                drawn = draw(logprobs)
                mx.eval(drawn, logprobs)
                return drawn

        with swapped(self._parts, ledger):
            yield from self._model.tokens(ids, request, limit, Watch(), feed, sample)


def parts(model: Any) -> list[Placed]:
    """The modules of an mlx-lm model that are parts of a token, the model itself first."""
    layers = [layer for layer in getattr(model, "layers", []) if layer is not None]
    inside = {id(each) for layer in layers for each in layer.modules()}
    found: list[Placed] = [(model, *FORWARD)]
    for name, module in model.named_modules():
        if id(module) in inside:
            continue
        if is_embedding(module):
            found.append((module, "embedding", None))
        elif is_head(name):
            found.append((module, "head", None))
        elif "norm" in type(module).__name__.lower() and not list(_children(module)):
            found.append((module, "norm", None))
    for index, layer in enumerate(layers):
        found += within(layer, index, _children)
    return found


def _children(module: Any) -> Iterator[tuple[str, Any]]:
    from mlx.nn import Module
    from mlx.utils import tree_flatten

    yield from tree_flatten(module.children(), is_leaf=Module.is_module)


@contextmanager
def swapped(placed: list[Placed], ledger: Ledger) -> Iterator[None]:
    """Within, the modules are of subclasses that charge `ledger`; afterwards of their own classes again."""
    keys: dict[int, Key] = {id(module): (part, layer) for module, part, layer in placed}
    classes: dict[type, type] = {}
    before = [(module, type(module)) for module in {id(module): module for module, _, _ in placed}.values()]
    try:
        for module, kind in before:
            if kind not in classes:
                classes[kind] = _timed(kind, keys, ledger)
            module.__class__ = classes[kind]
        yield
    finally:
        for module, kind in before:
            module.__class__ = kind


def _timed(kind: Any, keys: dict[int, Key], ledger: Ledger) -> Any:
    """A subclass of a module's class that computes what it is given, then what it gives, and charges the latter."""

    class Timed(kind):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return _forced(ledger, keys[id(self)], lambda: kind.__call__(self, *args, **kwargs), args, kwargs)

    if hasattr(kind, "as_linear"):  # an embedding that is the head too

        def as_linear(self: Any, x: Any) -> Any:
            return _forced(ledger, ("head", None), lambda: kind.as_linear(self, x), (x,), {})

        Timed.as_linear = as_linear
    Timed.__name__, Timed.__qualname__, Timed.__module__ = kind.__name__, kind.__qualname__, kind.__module__
    return Timed


def _forced(ledger: Ledger, key: Key, call: Callable[[], Any], args: Any, kwargs: Any) -> Any:
    import mlx.core as mx

    given = [*args, *kwargs.values()]
    if not _computed(given):  # what was put off until now belongs to the part before
        return call()
    ledger.enter(key)
    made = call()
    # A recurrent state is no part of what comes out, and would be computed with the next token.
    mx.eval(_arrays([made]), [_arrays(each.cache) for each in given if hasattr(each, "cache") and not callable(each)])
    ledger.leave()
    return made


def _computed(given: list[Any]) -> bool:
    """Compute the arrays among `given`. False where they stand for others, in a function that MLX is compiling: that is
    computed as one, and its parts belong to whatever calls it.
    """
    import mlx.core as mx

    try:
        mx.eval(_arrays(given))
    except ValueError as err:
        if "transformations" not in str(err):
            raise
        return False
    return True


def _arrays(tree: Any) -> list[Any]:
    import mlx.core as mx
    from mlx.utils import tree_flatten

    return [leaf for _, leaf in tree_flatten(tree) if isinstance(leaf, mx.array)]
