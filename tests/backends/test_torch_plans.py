"""Where a model goes on torch when memory runs out, by script: on a CPU, with cards that are only told of."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlxnb import hardware, models
from mlxnb.backends import torch_plans
from mlxnb.backends.torch import TorchBackend
from mlxnb.backends.torch_plans import Places, Plan, plans, room, smaller_way
from mlxnb.decision import Rejected
from mlxnb.errors import ModelTooLargeError, OptionError, UnsupportedModelError
from mlxnb.models import ModelSource
from mlxnb.models.shape import Shape
from mlxnb.request import AS_STORED, Precision
from mlxnb.runtime import Engine
from tests.tiny import Maker

torch = pytest.importorskip("torch")

GB = 10**9
PROMPT = "item 1 of the list, item 2 of the list, and then"
FAILS = {
    "cuda": lambda: torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "cpu": lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    "python": MemoryError,
}


def words(there: Places, asked: str | None = None, stored: bool = False) -> list[str]:
    return [plan.words if isinstance(plan, Plan) else f"no: {plan}" for plan in plans(there, asked, stored)]


def test_the_plans_of_a_machine_in_their_order():
    assert words(Places("cpu", GB)) == ["on cpu", "in int8 on the CPU"]
    assert words(Places("cpu", GB), "int4") == ["on cpu"]
    assert words(Places("mps", GB)) == ["on mps", "in int8, part by part, on mps", "in int8 on the CPU"]
    two = Places("cuda", 64 * GB, (24 * GB, 20 * GB), accelerate=True)
    assert words(two) == [
        "on cuda",
        "split over 2 GPUs",
        "in int8, part by part, on cuda",
        "in part on the CPU",
        "in int8 on the CPU",
    ]
    assert words(two, "int4") == ["on cuda", "in int4, part by part, on cuda", "in int4 on the CPU"]
    assert words(two, stored=True) == ["on cuda", "split over 2 GPUs"]
    without = words(dataclasses.replace(two, accelerate=False))
    assert without[1] == "no: loading split over 2 GPUs: accelerate is not installed (pip install accelerate)"
    assert words(Places("cuda", GB, (GB,), accelerate=True))[1] == "in int8, part by part, on cuda"


@given(
    st.sampled_from(["cpu", "mps", "cuda"]),
    st.lists(st.integers(0, 10**12), max_size=8),
    st.booleans(),
    st.sampled_from([None, "int8", "int4"]),
    st.booleans(),
)
def test_what_was_asked_comes_first_and_its_quantisation_is_kept(device, cards, accelerate, asked, stored):
    there = Places(device, GB, tuple(cards) if device == "cuda" else (), accelerate)
    found = [plan for plan in plans(there, asked, stored) if isinstance(plan, Plan)]
    first, *others = found
    assert (first.device, first.quantize, first.in_parts, first.spills) == (device, asked, False, False)
    assert all(plan.quantize == asked or asked is None for plan in found)
    assert not stored or all(plan.quantize == asked for plan in found)
    assert all(accelerate for plan in found if plan.device_map)
    assert len({plan.words for plan in found}) == len(found) == len(others) + 1


BILLIONS = 8_030_000_000
LARGE = models.Checkpoint(
    path=Path("Llama-3-8B"),
    config={"vocab_size": 128_256, "hidden_size": 4096},
    model_type="llama",
    architecture="LlamaForCausalLM",
    weight_bytes=2 * BILLIONS,
    parameters=BILLIONS,
    dtype="bfloat16",
    quantization=None,
    context_length=8192,
    shape=Shape(layers=32, heads=32, kv_heads=8, head_dim=128, kv_width=2048, kv_layers=32, context=8192),
)


@pytest.mark.parametrize(
    ("cards", "host", "accelerate", "words"),
    [
        ((24,), 8, True, "on cuda"),
        ((12, 12), 8, True, "split over 2 GPUs"),
        ((12, 12), 8, False, "in int8, part by part, on cuda"),
        ((12,), 64, True, "in int8, part by part, on cuda"),
        ((6,), 64, True, "in part on the CPU"),
        ((6,), 64, False, "in int8 on the CPU"),
        ((), 24, False, "on cpu"),
        ((), 12, False, "in int8 on the CPU"),
        ((6,), 4, True, None),
        ((), 8, True, None),
    ],
)
def test_eight_billion_weights_go_where_there_is_room(cards, host, accelerate, words):
    """16.1 GB in bfloat16, 9.1 in int8 with the embedding in full, and a tenth of it to work in."""
    free = tuple(card * GB for card in cards)
    there = Places("cuda" if cards else "cpu", host * GB, free, accelerate)
    verdict = smaller_way(there, LARGE, AS_STORED)
    assert getattr(verdict, "reason", "") == words if words else isinstance(verdict, Rejected)


def test_in_another_dtype_the_full_weights_must_fit_before_they_are_quantised():
    """In the stored one they are pages of the file; converted they are a copy."""
    plan = Plan("", "cpu", 12 * GB, "int8")
    assert room(plan, LARGE, AS_STORED)
    assert room(plan, LARGE, Precision("bfloat16"))
    assert not room(plan, LARGE, Precision("float16"))


@pytest.fixture
def source(checkpoint: Maker) -> ModelSource:
    path = checkpoint("qwen3")
    return ModelSource("tiny", path, "path")


class Scripted:
    """`from_pretrained` that fails so many times before it loads; it remembers what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int, error: Callable[[], Exception]) -> None:
        import transformers

        real, self.calls = transformers.AutoModelForCausalLM.from_pretrained, []

        def from_pretrained(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(kwargs)
            if len(self.calls) <= times:
                raise error()
            return real(*args, **kwargs)

        monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)


@pytest.mark.parametrize("words", sorted(FAILS))
def test_a_load_that_runs_out_of_memory_comes_in_int8_and_says_so(source, monkeypatch, words):
    script = Scripted(monkeypatch, 1, FAILS[words])
    model = TorchBackend().load(source)
    assert len(script.calls) == 2
    assert model.info.quantization == "int8"
    assert "loaded in int8 on the CPU, not as asked: loading on cpu: memory ran out" in model.info.notes
    assert [each.subject for each in model.info.refused] == ["loading on cpu"]


def test_memory_that_runs_out_behind_the_weights_is_caught_too(source, monkeypatch):
    from mlxnb.backends.torch_threads import Threads

    measure, calls = Threads.measure, []

    def short(*args: Any) -> Any:
        calls.append(args[0])
        if len(calls) == 1:
            raise FAILS["cpu"]()
        return measure(*args)

    monkeypatch.setattr(Threads, "measure", short)
    assert TorchBackend().load(source).info.quantization == "int8"
    first, second = (type(model.model.layers[0].mlp.up_proj).__name__ for model in calls)
    assert (first, second) == ("Linear", "Part")  # of a quantised layer that is done as one with its sibling


def test_what_a_failed_plan_made_is_gone_before_the_next_begins(source, monkeypatch):
    import gc
    import weakref

    from mlxnb.backends.torch_threads import Threads

    measure, made, alive = Threads.measure, [], []

    def short(model: Any, *args: Any) -> Any:
        alive.append([each() is not None for each in made])
        made.append(weakref.ref(model))
        if len(made) == 1:
            raise FAILS["cuda"]()
        return measure(model, *args)

    monkeypatch.setattr(Threads, "measure", short)
    gc.disable()  # nothing but the plans themselves collects
    try:
        TorchBackend().load(source)
    finally:
        gc.enable()
    assert alive == [[], [False]]


def test_where_every_plan_fails_the_error_names_them_all(source, monkeypatch):
    Scripted(monkeypatch, 99, FAILS["cpu"])
    with pytest.raises(ModelTooLargeError) as caught:
        TorchBackend().load(source)
    assert caught.value.message == (
        "tiny finds no memory here: loading on cpu: memory ran out; loading in int8 on the CPU: memory ran out."
    )
    assert "unload another" in caught.value.remedy
    with pytest.raises(ModelTooLargeError, match="tiny finds no memory here: loading on cpu: memory ran out"):
        TorchBackend().load(source, Precision(quantize="int4"))


def test_another_error_is_not_taken_for_a_lack_of_memory(source, monkeypatch):
    script = Scripted(monkeypatch, 1, lambda: ValueError("no such architecture"))
    with pytest.raises(UnsupportedModelError, match="no such architecture"):
        TorchBackend().load(source)
    assert len(script.calls) == 1


@pytest.fixture
def engine() -> Iterator[Engine]:
    made = Engine(caching=False)
    yield made
    made.close()


def test_every_result_says_how_the_model_came_and_strict_raises(engine, source, monkeypatch):
    script = Scripted(monkeypatch, 1, FAILS["cpu"])
    asked = {"model": str(source.path), "backend": "torch", "max_tokens": 3, "raw": True}
    result = engine.generate(PROMPT, **asked)
    assert result.provenance.quantization == "int8"
    assert any(note.startswith("loaded in int8 on the CPU, not as asked") for note in result.provenance.notes)
    with pytest.raises(OptionError, match=r"loading on cpu of .* was refused: memory ran out\. Close other programs"):
        engine.generate(PROMPT, strict=True, **asked)
    assert len(script.calls) == 2


def test_a_model_larger_than_memory_is_loaded_in_int8_where_that_fits(engine, source, monkeypatch):
    checkpoint = models.inspect(source.path)
    full, small = (need(checkpoint, quantize) for quantize in (None, "int8"))
    assert small < full
    asked = {"model": str(source.path), "backend": "torch", "max_tokens": 3, "raw": True}
    monkeypatch.setattr(hardware, "memory_free", lambda: int(small) - 1)
    with pytest.raises(ModelTooLargeError, match="does not fit: it needs"):
        engine.generate(PROMPT, **asked)
    monkeypatch.setattr(hardware, "memory_free", lambda: int(small) + 1)
    with pytest.raises(ModelTooLargeError, match="does not fit: it needs"):
        engine.generate(PROMPT, strict=True, **asked)
    result = engine.generate(PROMPT, **asked)
    assert result.provenance.quantization == "int8"
    assert any("not as asked: loading on cpu: it needs" in note for note in result.provenance.notes)
    engine.unload(str(source.path))
    result = engine.generate(PROMPT, quantize="int8", **asked)  # asked for, there is nothing to say
    assert not any("not as asked" in note for note in result.provenance.notes)


def test_strict_takes_what_was_asked_for_by_whatever_way(engine, source, monkeypatch):
    """The full weights do not fit and those in int8 do: what is asked for is int8, and comes so."""
    small = need(models.inspect(source.path), "int8")
    asked = {"model": str(source.path), "backend": "torch", "max_tokens": 3, "raw": True, "strict": True}
    monkeypatch.setattr(hardware, "memory_free", lambda: int(small) + 1)
    assert engine.generate(PROMPT, quantize="int8", **asked).provenance.quantization == "int8"
    with pytest.raises(ModelTooLargeError, match="does not fit: it needs"):
        engine.generate(PROMPT, **asked)


@pytest.mark.parametrize(
    ("there", "asked", "plan", "same"),
    [
        (Places("mps", GB), "int8", "in int8, part by part, on mps", True),
        (Places("mps", GB), "int8", "in int8 on the CPU", False),
        (Places("mps", GB), None, "in int8, part by part, on mps", False),
        (Places("cuda", GB, (GB, GB), accelerate=True), None, "split over 2 GPUs", True),
        (Places("cuda", GB, (GB, GB), accelerate=True), None, "in part on the CPU", False),
        (Places("cpu", GB), None, "in int8 on the CPU", False),
    ],
)
def test_a_plan_that_comes_to_what_was_asked_for_refuses_nothing(source, there, asked, plan, same):
    ways = [way for way in plans(there, asked) if isinstance(way, Plan)]
    taken = next(way for way in ways if way.words == plan)
    info = torch_plans.with_plan(
        TorchBackend().load(source).info, taken, [Rejected(f"loading {ways[0].words}", "memory ran out")], ways[0]
    )
    assert bool(info.refused) != same
    assert any(note.startswith(f"loaded {plan}") and ("not as asked" in note) != same for note in info.notes)


@pytest.mark.parametrize("where", ["_trial", "_broken"])
def test_memory_that_runs_out_in_a_trial_is_not_taken_for_a_kernel_that_is_missing(source, monkeypatch, where):
    from mlxnb.backends.torch_int8 import Int8Linear

    forward, calls = Int8Linear.forward, []

    def short(self: Any, x: Any) -> Any:
        calls.append(x.shape)
        if len(calls) == (1 if where == "_trial" else 2):
            raise FAILS["cpu"]()
        return forward(self, x)

    monkeypatch.setattr(Int8Linear, "forward", short)
    ways = [Plan("as asked", "cpu", 10**12, "int8"), Plan("once more", "cpu", 10**12, "int8", in_parts=True)]
    monkeypatch.setattr("mlxnb.backends.torch.plans", lambda *_: iter(ways))
    info = TorchBackend().load(source, Precision(quantize="int8")).info
    assert info.quantization == "int8"
    assert "loaded once more: loading as asked: memory ran out" in info.notes


@pytest.mark.parametrize("words", sorted(FAILS))
def test_memory_that_runs_out_where_experts_are_put_together_is_caught(checkpoint: Maker, monkeypatch, words):
    from transformers.core_model_loading import MergeModulelist

    convert, calls = MergeModulelist.convert, []

    def short(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise FAILS[words]()
        return convert(self, *args, **kwargs)

    monkeypatch.setattr(MergeModulelist, "convert", short)
    info = TorchBackend().load(ModelSource("tiny", checkpoint("deepseek-v3"), "path")).info
    assert len(calls) > 2
    assert [str(each).split(" (")[0] for each in info.refused] == ["loading on cpu: memory ran out"]
    calls.clear()
    monkeypatch.setitem(FAILS, words, lambda: KeyError("odd"))
    with pytest.raises(RuntimeError, match="conversion"):
        TorchBackend().load(ModelSource("tiny", checkpoint("deepseek-v3"), "path"))


def need(checkpoint: Any, quantize: str | None) -> float:
    """The fewest bytes with which there is room."""
    low, high = 0, 10**10
    while high - low > 1:
        middle = (low + high) // 2
        fits = room(Plan("", "cpu", middle, quantize), checkpoint, AS_STORED)
        low, high = (low, middle) if fits else (middle, high)
    return high


def layers_on(model: Any, *where: str) -> dict[str, str]:
    """A device map: the layers in turn in these places, the rest in the first."""
    layers = {f"model.layers.{i}": where[i % len(where)] for i in range(model.config.num_hidden_layers)}
    others = ("model.embed_tokens", "model.norm", "model.rotary_emb", "lm_head")
    return {**dict.fromkeys(others, where[0]), **layers}


@pytest.mark.parametrize("where", [("cpu",), ("cpu", "disk"), ("disk", "cpu")])
@pytest.mark.parametrize("family", ["qwen3", "llama-biases", "mistral-window"])
def test_a_model_that_accelerate_spreads_says_the_same(checkpoint: Maker, monkeypatch, family, where):
    """No card is here: the disk stands for a second place, with the hooks and the fetching of any other."""
    pytest.importorskip("accelerate")
    path = checkpoint(family)
    source = ModelSource("tiny", path, "path")
    whole = TorchBackend().load(source)
    there = {"": "cpu"} if len(where) == 1 else layers_on(whole.model, *where)
    monkeypatch.setattr(
        "mlxnb.backends.torch.plans",
        lambda *_: iter([Plan("spread", "cpu", 10**12, device_map=there, spills=len(where) > 1)]),
    )
    spread = TorchBackend().load(source)
    assert hasattr(spread.model.model.layers[1], "_hf_hook") == (len(where) > 1)
    assert any(parameter.is_meta for parameter in spread.model.parameters()) == (len(where) > 1)
    assert told(spread) == told(whole)
    said = [note for note in spread.info.notes if note.startswith("of its ")]
    assert bool(said) == (len(where) > 1)
    assert spread.info.memory == pytest.approx(whole.info.memory, rel=0.01)  # short norms hold their factors
    state = torch.zeros((1, 5), dtype=torch.long)
    again = spread.states.state(*spread.states.arrays(fed(spread, state)))  # to host memory and back
    assert spread.states.length(again) == 5
    if len(where) > 1:
        from mlxnb import Request

        assert "several places" in str(spread.batchable(Request.of("?")))


def fed(model: Any, ids: Any) -> Any:
    from mlxnb.backends.torch_kv import new_cache

    state = new_cache(model.model.config)
    model.logits(ids, state)
    return state


def told(model: Any) -> list[int]:
    """Greedy tokens after a prompt."""
    from mlxnb import Request
    from mlxnb.backends.base import Watch

    request = Request.of(PROMPT, raw=True, max_tokens=8, cache="off")
    return [chunk.token for chunk in model.stream(request, Watch()) if chunk.token is not None]


def test_layers_that_went_to_the_cpu_are_a_lack_of_room_on_the_cards(source, monkeypatch):
    pytest.importorskip("accelerate")
    first = Plan("split over 2 GPUs", "cuda", 10**12, device_map="auto")  # of which `auto` finds none here
    then = Plan("in int8 on the CPU", "cpu", 10**12, "int8")
    monkeypatch.setattr("mlxnb.backends.torch.plans", lambda *_: iter([first, then]))
    monkeypatch.setattr("torch.cuda.empty_cache", lambda: None)
    info = TorchBackend().load(source).info
    assert info.quantization == "int8"
    assert [str(each).split(" (")[0] for each in info.refused] == ["loading split over 2 GPUs: memory ran out"]
    spills = dataclasses.replace(first, words="in part on the CPU", spills=True)
    monkeypatch.setattr("mlxnb.backends.torch.plans", lambda *_: iter([spills, then]))
    assert TorchBackend().load(source).info.quantization == "int8"


@pytest.mark.parametrize("family", ["qwen3", "llama-biases"])
def test_in_parts_it_is_quantised_as_all_at_once(checkpoint: Maker, monkeypatch, family):
    source = ModelSource("tiny", checkpoint(family), "path")
    whole = TorchBackend().load(source, Precision(quantize="int8"))
    monkeypatch.setattr(
        "mlxnb.backends.torch.plans", lambda *_: iter([Plan("in parts", "cpu", 10**12, "int8", in_parts=True)])
    )
    parts = TorchBackend().load(source, Precision(quantize="int8"))
    assert parts.info.quantization == whole.info.quantization == "int8"
    assert parts.info.memory == pytest.approx(whole.info.memory, rel=0.01)
    assert told(parts) == told(whole)  # layers that are done as one only where the whole model can be fed


def test_a_models_parts_are_its_blocks_and_its_head(checkpoint: Maker):
    model = TorchBackend().load(ModelSource("tiny", checkpoint("deepseek-v3"), "path")).model
    assert torch_plans.parts(model) == [*(f"model.layers.{i}" for i in range(3)), "lm_head"]  # experts are within


def test_a_model_in_mlx_format_goes_straight_to_its_device(tmp_path: Path, checkpoint: Maker, monkeypatch):
    pytest.importorskip("accelerate")
    convert = pytest.importorskip("mlx_lm").convert
    folder = tmp_path / "mlx"
    convert(str(checkpoint("qwen3")), str(folder), quantize=True, q_bits=8, q_group_size=32)
    source = ModelSource("tiny", folder, "path")
    moved = TorchBackend().load(source)
    monkeypatch.setattr(
        "mlxnb.backends.torch.plans", lambda *_: iter([Plan("straight", "cpu", 10**12, device_map={"": "cpu"})])
    )
    straight = TorchBackend().load(source)
    ours, theirs = straight.model.state_dict(), moved.model.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert told(straight) == told(moved)


def test_cards_that_lack_accelerate_are_no_plan():
    found = list(plans(Places("cuda", GB, (GB, GB)), None))
    assert [each.remedy for each in found if isinstance(each, Rejected)] == ["pip install accelerate"] * 2
    assert all(plan.device_map is None for plan in found if isinstance(plan, Plan))
