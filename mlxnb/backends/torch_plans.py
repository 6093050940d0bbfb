"""Where a model goes on the torch backend, way after way until memory suffices: cards, host memory, fewer bits."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from .. import hardware
from ..decision import Accepted, Decision, Rejected
from ..errors import ModelTooLargeError, UnsupportedModelError
from ..models.fit import KV_ALLOWANCE, fits
from ..models.shape import HIDDEN, language_part, number
from ..request import DTYPES, Precision
from .base import AS_ASKED, ModelInfo
from .memory import memory_ran_out, release, unless_short

if TYPE_CHECKING:
    from ..models import Checkpoint

T = TypeVar("T")

ACCELERATE = "pip install accelerate"


@dataclass(frozen=True, slots=True)
class Places:
    """What memory there is, in bytes free: on the `device` that computes, on each of the `cards` where those are GPUs
    with memory of their own, and in the `host`. `accelerate`: whether it is installed, which spreads a model over them.
    """

    device: str
    host: int
    cards: tuple[int, ...] = ()
    accelerate: bool = False

    @property
    def free(self) -> int:
        """Bytes free on the one device that computes."""
        return self.cards[0] if self.cards else self.host


@dataclass(frozen=True, slots=True)
class Plan:
    """One way to have a model in memory; `words` go behind "loaded". It computes on `device`, from `free` bytes.

    `quantize` is what its weights become, `in_parts` whether a part of them goes to the device at a time, so that the
    full ones are never there at once. With `device_map`, transformers' own, accelerate spreads the layers; `spills`:
    also into host memory and onto the disk.
    """

    words: str
    device: str
    free: int
    quantize: str | None = None
    in_parts: bool = False
    device_map: Any = None
    spills: bool = False


def places(device: str) -> Places:
    """What memory this machine has for torch now."""
    import torch

    cards = tuple(card_free(i) for i in range(torch.cuda.device_count())) if device == "cuda" else ()
    accelerate = importlib.util.find_spec("accelerate") is not None
    return Places(device, hardware.memory_free(), cards, accelerate)


def card_free(index: int | None = None) -> int:
    """What a GPU has free, and what torch's allocator holds of it for later; of the current one without `index`."""
    import torch

    held = torch.cuda.memory_reserved(index) - torch.cuda.memory_allocated(index)
    return int(torch.cuda.mem_get_info(index)[0] + held)


def plans(there: Places, asked: str | None, stored_quantised: bool = False) -> Iterator[Plan | Rejected]:
    """The ways to load a model, in order, and why some are none; `asked` is what it is to be quantised to."""
    on, device = f"on {there.device}", there.device
    whole: Any = {"": device} if there.cards and there.accelerate else None
    yield Plan(on, device, there.free, asked, device_map=whole)
    if asked is None and len(there.cards) > 1:
        over = f"split over {len(there.cards)} GPUs"
        if there.accelerate:
            yield Plan(over, device, sum(there.cards), device_map="auto")
        else:
            yield Rejected(f"loading {over}", "accelerate is not installed", ACCELERATE)
    if stored_quantised:
        return
    kind = asked or "int8"
    if device != "cpu":
        yield Plan(f"in {kind}, part by part, {on}", device, there.free, kind, in_parts=True)
    if asked is None and there.cards:
        if there.accelerate:
            yield Plan("in part on the CPU", device, sum(there.cards) + there.host, device_map="auto", spills=True)
        else:
            yield Rejected("loading in part on the CPU", "accelerate is not installed", ACCELERATE)
    if device != "cpu" or asked is None:
        yield Plan(f"in {kind} on the CPU", "cpu", there.host, kind)


def room(plan: Plan, checkpoint: Checkpoint, precision: Precision) -> Decision:
    """Whether a model fits where a plan puts it, by its figures.

    Weights in the dtype that they are stored in take no memory on a CPU before they are quantised: they are the file's
    pages. In another dtype, and on a GPU, the full ones must fit first, where they do not come in parts.
    """
    tokens = min(checkpoint.context_length or KV_ALLOWANCE, KV_ALLOWANCE)
    as_stored = precision.dtype in (None, checkpoint.dtype)
    per_weight: float | None = None if as_stored or checkpoint.quantization else DTYPES[str(precision.dtype)]
    if plan.quantize and (plan.in_parts or (plan.device == "cpu" and as_stored)) and not checkpoint.quantization:
        per_weight = int8_weight(checkpoint)
    return fits(checkpoint, tokens=tokens, bytes_per_weight=per_weight, free=plan.free)


def int8_weight(checkpoint: Checkpoint) -> float:
    """Bytes of a weight in int8, on average: the embedding stays in full, and a head that shares it becomes a copy."""
    text, count = language_part(checkpoint.config), max(1, checkpoint.parameters)
    embedding = number(text, "vocab_size") * number(text, *HIDDEN)  # 0 where config.json does not say
    return 1 + min(embedding, count) / count * checkpoint.weight_bytes / count


def smaller_way(there: Places, checkpoint: Checkpoint, precision: Precision) -> Decision:
    """Whether some plan has room for a model, and which is the first."""
    found = [plan for plan in plans(there, precision.quantize, bool(checkpoint.quantization)) if isinstance(plan, Plan)]
    verdicts = [(plan, room(plan, checkpoint, precision)) for plan in found]
    first = next((plan for plan, verdict in verdicts if verdict), None)
    if first is None:
        return verdicts[-1][1]
    return Accepted(AS_ASKED if as_asked(first, found[0]) else "load", first.words)


def as_asked(plan: Plan, first: Plan) -> bool:
    """Whether a plan comes to the same model as the first, on the device that computes: only the way there differs."""
    return plan.quantize == first.quantize and plan.device == first.device and not plan.spills


def first_that_fits(
    ways: Sequence[Plan | Rejected], build: Callable[[Plan], T], has_room: Callable[[Plan], Decision], name: str
) -> tuple[T, Plan, list[Rejected]]:
    """What the first plan builds that does not run out of memory, with the plan and why those before it did not.

    A plan that fails leaves nothing behind. One that comes after the first is passed over also where the model cannot
    be built so for another reason.

    Raises:
        ModelTooLargeError: memory ran out in each.
    """
    dropped: list[Rejected] = []
    tried = False
    for plan in ways:
        if isinstance(plan, Rejected):
            dropped.append(plan)
            continue
        verdict = has_room(plan)
        if isinstance(verdict, Rejected):
            dropped.append(Rejected(f"loading {plan.words}", verdict.reason, verdict.remedy))
            continue
        try:
            made = unless_short(partial(build, plan))
        except UnsupportedModelError as err:
            if not tried:
                raise
            made, why = None, err.message.rstrip(".")
        else:
            why = "memory ran out"
        if made is not None:
            return made[0], plan, dropped
        tried = True
        give_back(plan.device)
        dropped.append(Rejected(f"loading {plan.words}", why, "close other programs, or unload another model"))
    reasons = "; ".join(f"{each.subject}: {each.reason}" for each in dropped)
    remedy = "Take a smaller or a quantised model, unload another, or close other programs."
    raise ModelTooLargeError(f"{name} finds no memory here: {reasons}.", remedy)


def with_plan(info: ModelInfo, plan: Plan, dropped: Sequence[Rejected], first: Plan) -> ModelInfo:
    """`info` with how the model came to be where it is, if that is not by the first plan. What was asked for is refused
    only where something else came of it, which a strict request does not take.
    """
    if not dropped:
        return info
    said = "; ".join(f"{each.subject}: {each.reason}" for each in dropped)
    if as_asked(plan, first):
        return replace(info, notes=(*info.notes, f"loaded {plan.words}: {said}"))
    return replace(
        info, notes=(*info.notes, f"loaded {plan.words}, not as asked: {said}"), refused=(*info.refused, *dropped)
    )


def placement(plan: Plan, offload_folder: str | None = None) -> dict[str, Any]:
    """What `from_pretrained` takes for it."""
    if plan.device_map is None:
        return {}
    return {"device_map": plan.device_map, **({"offload_folder": offload_folder} if offload_folder else {})}


def check_on_device(model: Any, plan: Plan) -> None:
    """Raise as for a lack of memory where accelerate, left to choose, found no room for layers where they should be.

    Raises:
        MemoryError: all of them, or some where the plan does not spill, are in host memory or on disk.
    """
    where = [parameter.device.type for parameter in model.parameters()]
    elsewhere = sum(place != plan.device for place in where)
    if elsewhere and not (plan.spills and elsewhere < len(where)):
        raise MemoryError(f"{elsewhere} of {len(where)} weights found no room on {plan.device}")


def short_in_conversion(err: BaseException) -> bool:
    """Whether memory ran out where transformers put a model's experts together, which it tells in its report alone: the
    error that it raises then has no word of it.
    """
    step = err.__traceback__
    while step is not None:
        told = getattr(step.tb_frame.f_locals.get("loading_info"), "conversion_errors", None) or {}
        if any("MemoryError" in text or memory_ran_out(RuntimeError(text)) for text in told.values()):
            return True
        step = step.tb_next
    return False


def spread(model: Any) -> dict[str, str]:
    """Where the parts of a model are, by name; empty where accelerate did not spread it."""
    return {name: str(where) for name, where in (getattr(model, "hf_device_map", None) or {}).items()}


def spread_words(model: Any) -> str | None:
    """How many parts of a model are where, for a person; None where all are in one place."""
    where = list(spread(model).values())
    names = {place: f"GPU {place}" if place.isdecimal() else place for place in where}
    counted = [f"{where.count(place)} on {names[place]}" for place in dict.fromkeys(where)]
    return f"of its {len(where)} parts {', '.join(counted)}" if len(counted) > 1 else None


def quantised_in_parts(model: Any, kind: str, device: str) -> Decision:
    """Move a model from host memory to `device`, each block quantised there before the next comes."""
    from . import torch_quantize

    verdicts = []
    for name in parts(model):
        held = _holder(model.get_submodule(name).to(device), model.get_output_embeddings())
        verdicts.append(torch_quantize.quantise(held, kind))
        model.set_submodule(name, held.part)
        del held
    model.to(device)
    taken = dict.fromkeys(verdict.reason for verdict in verdicts if verdict)
    if taken:
        return Accepted(f"quantize {kind}", ", ".join(taken))
    refused = [verdict for verdict in verdicts if isinstance(verdict, Rejected)]
    return refused[0] if refused else Rejected(f"quantize {kind}", "it has no blocks of layers")


def parts(model: Any) -> list[str]:
    """The names of what a model is made of, block by block, the head last."""
    from torch import nn

    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    outermost = [name for name in lists if not any(name.startswith(f"{other}.") for other in lists)]
    blocks = [f"{name}.{i}" for name in outermost for i in range(len(model.get_submodule(name)))]
    head = model.get_output_embeddings()
    return blocks + [name for name, module in model.named_modules() if module is head and head is not None]


def _holder(part: Any, head: Any) -> Any:
    """One part as a model by itself, for what quantises models."""
    from torch import nn

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = part

        def get_output_embeddings(self) -> Any:
            return head

    return Holder()


def give_back(device: str) -> None:
    """Hand memory that nothing refers to any more back to the device and the system."""
    import torch

    release()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
