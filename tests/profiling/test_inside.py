"""Time inside a token on real tiny models: every moment in one part, the same tokens, everything as it was."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from mlxnb.backends.base import Cancelled
from mlxnb.decision import Rejected
from mlxnb.errors import OptionError
from mlxnb.profiling.model import inside
from mlxnb.profiling.model.inside import feeds, look_inside, middle_half, plain, turns, walk, way_into
from mlxnb.profiling.model.inside_parts import PARTS, Ledger
from mlxnb.request import Request

pytest.importorskip("mlx.core")
pytest.importorskip("torch")

BACKENDS = ("torch", "mlx")
FAMILIES = ["qwen3", "gemma3", "deepseek-v3", "qwen3-next", "falcon-h1", "phi3-longrope"]
PROMPT = "Once upon a time there was a little"


class Ticks:
    """A clock that stands still but for what moves it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def asked(backend, path="pocket", **options):
    return Request.of(PROMPT, raw=True, model=str(path), backend=backend, **options)


def with_model(engine, request, look):
    """What `look` makes of a loaded model, the way into it, its prompt's tokens and a plain request."""

    def now(loaded):
        way = way_into(loaded)
        assert not isinstance(way, Rejected), way
        return look(loaded, way, loaded.prompt(request).ids, plain(request))

    return engine.call_with(request.model, now, request.backend, request.dtype, request.quantize)


def of_parts(engine, request, clock=time.perf_counter, steps=2):
    """One timed pass."""

    def look(loaded, way, ids, request):
        feed = next(feeds(loaded, way, ids, request))
        return walk(loaded, way, ids, request, steps, feed, clock=clock)

    return with_model(engine, request, look)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_tokens_come_with_the_parts_timed_and_without(engine, checkpoint, backend, family):
    def look(loaded, way, ids, request):
        states = feeds(loaded, way, ids, request)
        return [walk(loaded, way, ids, request, 4, next(states), timed) for timed in (False, True, False)]

    request = asked(backend, checkpoint(family), temperature=0.7, repetition_penalty=1.3)
    free, timed, after = with_model(engine, request, look)
    assert free.tokens == timed.tokens == after.tokens
    assert len(set(timed.tokens)) > 1
    assert len(timed.steps) == len(free.steps) == 4
    assert {part for part, _ in timed.steps[0]} >= {"embedding", "norm", "mlp", "head", "sampling", "detokenising"}
    assert {layer for _, layer in timed.steps[0]} == {None, *range(4 if family == "qwen3-next" else 3)}
    assert {part for part, _ in free.steps[0]} == {"detokenising", "overhead"}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("family", ["qwen3-next", "falcon-h1"])
def test_what_stands_in_attentions_place_is_called_recurrent(engine, checkpoint, backend, family):
    (step, _) = of_parts(engine, asked(backend, checkpoint(family))).steps
    count = Counter(part for part, _ in step)
    assert (count["attention"], count["recurrent"]) == {"qwen3-next": (2, 2), "falcon-h1": (3, 3)}[family]


@pytest.fixture
def slow(monkeypatch):
    """Makes one module of a loaded model move a clock by 1 whenever it is called."""

    def make(module, clock):
        kind = type(module)
        name = "forward" if hasattr(kind, "forward") else "__call__"
        stock = getattr(kind, name)

        def slowed(self, *args, **kwargs):
            clock.now += self is module
            return stock(self, *args, **kwargs)

        monkeypatch.setattr(kind, name, slowed)

    return make


SLOWED = [
    ("model.layers.1.mlp", ("mlp", 1)),
    ("model.layers.2.self_attn", ("attention", 2)),
    ("model.layers.0.mlp.down_proj", ("mlp", 0)),
    ("model.layers.0.input_layernorm", ("norm", 0)),
    ("model.layers.2", ("other", 2)),
    ("model.norm", ("norm", None)),
    ("model.embed_tokens", ("embedding", None)),
    ("model", ("other", None)),
    ("lm_head", ("head", None)),
]


@pytest.mark.parametrize("quantize", [None, "int8"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "key"), SLOWED)
def test_a_part_that_is_made_slow_shows_in_its_share_and_in_no_other(
    engine, checkpoint, slow, backend, quantize, name, key
):
    clock = Ticks()
    request = asked(backend, checkpoint("llama-biases"), quantize=quantize)

    def look(loaded, way, ids, request):
        slow(dict(loaded.model.named_modules())[name], clock)
        return walk(loaded, way, ids, request, 2, next(feeds(loaded, way, ids, request)), clock=clock)

    for step in with_model(engine, request, look).steps:
        assert {part: spent for part, spent in step.items() if spent} == {key: 1}


def test_layers_that_are_done_as_one_count_where_they_are_called(engine, checkpoint, slow):
    """The product of gate_proj and up_proj together is done when the first is called, inside the MLP."""
    clock = Ticks()

    def look(loaded, way, ids, request):
        joined = loaded.model.get_submodule("model.layers.1.mlp.gate_proj")
        assert type(joined).__name__ == "Part"
        slow(joined.layer, clock)
        return walk(loaded, way, ids, request, 2, next(feeds(loaded, way, ids, request)), clock=clock)

    for step in with_model(engine, asked("torch", checkpoint("llama"), quantize="int8"), look).steps:
        assert {part: spent for part, spent in step.items() if spent} == {("mlp", 1): 1}


@pytest.mark.parametrize("quantize", [None, "int8"])
def test_a_head_that_is_the_embedding_is_told_from_it(engine, checkpoint, monkeypatch, quantize):
    import mlx.nn as nn

    kind = nn.QuantizedEmbedding if quantize else nn.Embedding
    clock, stock = Ticks(), kind.as_linear

    def slowed(self, x):
        clock.now += 1
        return stock(self, x)

    monkeypatch.setattr(kind, "as_linear", slowed)
    for step in of_parts(engine, asked("mlx", checkpoint("llama"), quantize=quantize), clock).steps:
        assert {part: spent for part, spent in step.items() if spent} == {("head", None): 1}


def test_what_mlx_puts_off_is_computed_before_the_next_part_begins(engine, checkpoint, monkeypatch):
    """Of each layer's MLP: its result is forced before the ledger hears that the layer's MLP has ended."""
    import mlx.core as mx

    forced, open_mlps, seen = [], [], []
    stock, leave = mx.eval, Ledger.leave

    def spy(*arrays):
        forced.extend(id(array) for tree in arrays for array in tree)
        return stock(*arrays)

    def left(self):
        if self._stack[-1][0] == "mlp":
            seen.append(id(open_mlps[-1]) in forced)
        leave(self)

    def look(loaded, way, ids, request):
        kind = type(loaded.model.layers[0].mlp)
        call = kind.__call__

        def kept(self, x):
            open_mlps.append(call(self, x))  # kept, so that no other array is at its place
            return open_mlps[-1]

        monkeypatch.setattr(kind, "__call__", kept)
        monkeypatch.setattr(mx, "eval", spy)
        monkeypatch.setattr(Ledger, "leave", left)
        return walk(loaded, way, ids, request, 2, next(feeds(loaded, way, ids, request)))

    with_model(engine, asked("mlx", checkpoint("qwen3")), look)
    assert len(seen) == 3 * 5  # layers, and steps: two, two to warm up, and the one that is begun ahead
    assert all(seen)


def test_what_mlx_compiles_counts_as_one():
    import mlx.core as mx
    import mlx.nn as nn

    from mlxnb.profiling.model.inside_mlx import swapped

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.other = nn.RMSNorm(8), nn.RMSNorm(8)
            self.core = mx.compile(lambda x: 2 * self.norm(x))

        def __call__(self, x):
            return self.other(self.core(x))

    block, x, ledger = Block(), mx.arange(8.0), Ledger()
    placed = [(block, "mlp", 0), (block.norm, "norm", 1), (block.other, "norm", 0)]
    with swapped(placed, ledger):
        got = block(x)
    assert set(ledger.cut()) == {("overhead", None), ("mlp", 0), ("norm", 0)}
    assert mx.array_equal(got, Block()(x))


def hooks_of(model):
    return [
        (name, len(module._forward_hooks), len(module._forward_pre_hooks), sorted(vars(module)))
        for name, module in model.named_modules()
    ]


def classes_of(model):
    return [(name, type(module), sorted(module)) for name, module in model.named_modules()]


SEEN = {"torch": hooks_of, "mlx": classes_of}


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_model_is_as_it_was_and_answers_as_before(engine, checkpoint, backend):
    path = checkpoint("qwen3")
    request = asked(backend, path, max_tokens=8)
    before = engine.submit(request).result()
    seen = engine.call_with(str(path), lambda loaded: SEEN[backend](loaded.model), backend)
    assert not isinstance(look_inside(engine, request, steps=3), Rejected)
    assert engine.call_with(str(path), lambda loaded: SEEN[backend](loaded.model), backend) == seen
    assert engine.submit(request).result().tokens == before.tokens


@pytest.mark.parametrize("at", [0, 3])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_model_is_as_it_was_also_after_an_error(engine, checkpoint, monkeypatch, backend, at):
    path = checkpoint("qwen3")
    request = asked(backend, path, max_tokens=8)
    before = engine.submit(request).result()
    calls = []

    def look(loaded, way, ids, request):
        norm = type(loaded.model.model.norm)
        name = "forward" if backend == "torch" else "__call__"
        stock, feed = getattr(norm, name), next(feeds(loaded, way, ids, request))
        seen = SEEN[backend](loaded.model)

        def failing(self, x):
            calls.append(self)
            if len(calls) > at * 13:
                raise ZeroDivisionError("in the midst of a layer")
            return stock(self, x)

        monkeypatch.setattr(norm, name, failing)
        with pytest.raises(ZeroDivisionError):
            walk(loaded, way, ids, request, 4, feed)
        monkeypatch.undo()
        return seen == SEEN[backend](loaded.model)

    assert with_model(engine, request, look)
    assert engine.submit(request).result().tokens == before.tokens


def test_the_choice_of_threads_does_not_hear_of_it(engine):
    look_inside(engine, asked("torch"), steps=20)
    before = engine.call_with("pocket", lambda loaded: (loaded._threads, dict(loaded._threads._seconds)), "torch")
    look_inside(engine, asked("torch"), steps=20)
    after = engine.call_with("pocket", lambda loaded: (loaded._threads, dict(loaded._threads._seconds)), "torch")
    assert after[0] is before[0]
    assert after[1] == before[1]


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_shares_add_up_and_come_in_order(engine, backend):
    found = look_inside(engine, asked(backend), steps=5, context=40, model=7)
    assert (found.model, found.context, found.steps) == (7, 40, 5)
    assert sum(share.seconds for share in found.shares) == pytest.approx(found.synchronised)
    assert found.free > 0
    assert {share.part for share in found.shares} <= set(PARTS)
    assert all(share.seconds >= 0 for share in found.shares)
    layers = [share.layer for share in found.shares if share.layer is not None]
    assert layers == sorted(layers)
    assert found.shares[0].part == "embedding"
    assert len({(share.part, share.layer) for share in found.shares}) == len(found.shares)


def test_a_prompt_is_repeated_or_cut_to_the_context(engine):
    whole = look_inside(engine, asked("torch"), steps=1)
    assert look_inside(engine, asked("torch"), steps=1, context=whole.context - 1).context == whole.context - 1
    assert look_inside(engine, asked("torch"), steps=1, context=1).context == 1
    assert look_inside(engine, asked("mlx"), steps=1, context=1).context == 1


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("where", ["prefill", "decode"])
def test_an_interrupt_ends_it(engine, backend, where, monkeypatch):
    """The caller's wait is broken off, as an interrupt of the main thread breaks it, while the engine is at it."""
    began, gone_on = Event(), Event()
    place = {"prefill": ("feeds", inside.feeds), "decode": ("walk", inside.walk)}[where]

    def held(*args, **kwargs):
        began.set()
        assert gone_on.wait(60)
        return place[1](*args, **kwargs)

    monkeypatch.setattr(inside, place[0], held)
    with ThreadPoolExecutor(1) as pool:

        class Interrupted:
            def call_with(self, *args):
                self.working = pool.submit(engine.call_with, *args)
                assert began.wait(60)
                raise KeyboardInterrupt

        front = Interrupted()
        with pytest.raises(KeyboardInterrupt):
            look_inside(front, asked(backend), steps=100, context=600)
        gone_on.set()
        with pytest.raises(Cancelled):
            front.working.result(60)


def test_a_context_that_does_not_fit_is_told(engine, checkpoint):
    found = look_inside(engine, asked("torch", checkpoint("qwen3")), steps=16, context=510)
    assert isinstance(found, Rejected)
    assert found.reason == "510 tokens and 6 more do not fit into a context of 512"


@pytest.mark.parametrize(("name", "options"), [("steps", {"steps": 0}), ("context", {"context": -3})])
def test_too_few_steps_or_tokens_are_refused(engine, name, options):
    with pytest.raises(OptionError, match=f"{name} is"):
        look_inside(engine, asked("torch"), **options)


def test_backends_that_cannot_be_looked_into_say_why(engine, scripted):
    found = look_inside(scripted[0], asked("scripted"))
    assert str(found) == (
        "time inside a token: the scripted backend does not show its parts (take --backend mlx or torch)"
    )
    pytest.importorskip("llama_cpp")
    found = look_inside(engine, asked("llamacpp"))
    assert isinstance(found, Rejected)
    assert found.reason == "llama.cpp computes a whole step in one call"


def test_a_model_without_layers_that_are_known_is_refused(engine, checkpoint, monkeypatch):
    from mlxnb.profiling.model import inside_torch

    monkeypatch.setattr(inside_torch, "_layers", lambda model: [])
    found = look_inside(engine, asked("torch", checkpoint("qwen3")))
    assert isinstance(found, Rejected)
    assert found.reason == "no layers were found in a Qwen3ForCausalLM"


def test_an_answer_that_ends_does_not_end_the_steps(engine, checkpoint, monkeypatch):
    """What a token costs does not hang on which it is."""

    def look(loaded, way, ids, request):
        states = feeds(loaded, way, ids, request)
        first = walk(loaded, way, ids, request, 3, next(states))
        monkeypatch.setattr(loaded.tokenizer, "end_ids", frozenset(first.tokens))
        return first, walk(loaded, way, ids, request, 3, next(states))

    first, second = with_model(engine, asked("torch", checkpoint("qwen3")), look)
    assert first.tokens == second.tokens


@pytest.mark.parametrize(
    ("steps", "stretch", "passes"),
    [
        (1, 4, [(False, 1), (True, 1)]),
        (9, 4, [(False, 4), (True, 4), (True, 4), (False, 4), (False, 1), (True, 1)]),
        (9, 9, [(False, 9), (True, 9)]),
    ],
)
def test_both_kinds_of_steps_take_turns(steps, stretch, passes):
    assert list(turns(steps, stretch)) == passes


@pytest.mark.parametrize(("count", "kept"), [(1, [0]), (2, [0, 1]), (3, [1]), (4, [1, 2]), (9, [2, 3, 4, 5, 6])])
def test_the_middle_half(count, kept):
    steps = [{("mlp", 0): float(i)} for i in reversed(range(count))]
    assert [step["mlp", 0] for step in middle_half(steps)] == kept
