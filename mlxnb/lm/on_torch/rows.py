"""Prompts of token ids that are decoded together on torch, with samplers and prompt caches of mlx-lm's kind."""

from __future__ import annotations

import copy
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ... import hardware
from ...backends.batch import Member
from ...backends.memory import let_go, memory_ran_out
from ...backends.reuse import Feed
from ...backends.torch_batch import TorchBatch
from ...backends.torch_kv import new_cache
from ...backends.torch_sampling import likeliest
from ...errors import GenerationError
from ...runtime import shared_engine
from ...runtime.batch_run import SHARE
from .prompt_cache import LayerCache, check_same, joined
from .steps import Pick, feed_last

if TYPE_CHECKING:
    from ...backends.torch import TorchModel
    from .model import Model


@dataclass(slots=True, eq=False)
class Asked(Member):
    """One prompt and its answer. `held` are the tokens of the prompt cache that it came with, of which only the number
    is known: `ids` begin with so many that stand for them. `made` ends with the token that ended it.
    """

    held: int = 0
    cache: list[LayerCache] | None = None
    ends: frozenset[int] = frozenset()
    logprobs: list[float] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        """The answer, without the token that ended it."""
        return self.made[:-1] if self.ended else self.made

    @property
    def ended(self) -> bool:
        """Whether a token of the model's own ended it."""
        return bool(self.made) and self.made[-1] in self.ends

    def over(self) -> bool:
        """See Member.over."""
        return self.ended or len(self.made) >= self.limit


class Rows(TorchBatch):
    """A batch whose tokens `pick` makers choose; None takes the likeliest. `logprobs`: those are kept too."""

    def __init__(self, handle: Model, model: TorchModel, logprobs: bool) -> None:
        super().__init__(model)
        self._handle, self._logprobs = handle, logprobs

    def _started(self, member: Member) -> tuple[Feed, Callable[[Feed], None]]:
        """From a copy of the member's own prompt cache; nothing is looked up or kept elsewhere."""
        assert isinstance(member, Asked)
        state = self._handle.fresh(self._model)
        if member.cache is not None:
            state = joined(copy.deepcopy(member.cache), self._handle, self._model)
        return Feed(state, member.held), lambda feed: check_same(feed, state, member.cache)

    def _draw(self, logits: Any, members: Sequence[Member]) -> list[int]:
        """The next token of each row of logits [rows, vocabulary]."""
        asked: Sequence[Any] = members
        picks = [member.draw for member in asked]
        greedy = [i for i, pick in enumerate(picks) if not isinstance(pick, Pick)]
        best = likeliest(logits) if greedy else []
        drawn = [
            pick(logits[i : i + 1], asked[i].history[asked[i].held :]) if isinstance(pick, Pick) else best[i]
            for i, pick in enumerate(picks)
        ]
        if self._logprobs:
            spread = logits.logsumexp(dim=-1)
            for i, (member, pick, token) in enumerate(zip(asked, picks, drawn, strict=True)):
                said = pick.logprobs[0, token] if isinstance(pick, Pick) else logits[i, token] - spread[i]
                member.logprobs.append(float(said))
        return drawn

    def state_of(self, member: Member) -> Any:
        """The KV state of a member by itself, in memory of its own: of all its tokens but the last."""
        import torch

        assert self._slots is not None
        slot = self.members.index(member)
        length = self._slots.lengths[slot]
        made = new_cache(self._model.model.config)
        with torch.inference_mode():
            for own, layer in zip(self._slots.layers, made.layers, strict=True):
                layer.update(own.keys[slot : slot + 1, :, :length], own.values[slot : slot + 1, :, :length])
        return made


@dataclass(slots=True)
class Times:
    """What the decoding took: seconds of prefill and of steps, and how many rounds of tokens there were."""

    prompt: float = 0.0
    decode: float = 0.0
    rounds: int = 0


def decoded(
    rows: Rows, loaded: TorchModel, asked: Iterable[Asked], most: int, keep: bool, times: Times
) -> Iterator[list[Asked]]:
    """Decode all of them, at most `most` at once and as many as memory holds; yields after each step those that are
    done, on the engine's thread. With `keep` each is left with the prompt cache of all its tokens.
    """
    waiting = deque(asked)
    try:
        while waiting or rows.members:
            if loaded.model is None:
                raise GenerationError("The model was unloaded while it was answering.", "Ask again: it is loaded anew.")
            began, alone = time.perf_counter(), not rows.members
            done, most = _filled(rows, loaded, waiting, most, keep)
            times.rounds += alone
            between = time.perf_counter()
            if rows.members:
                stepped, most = _stepped(rows, loaded, waiting, most, keep)
                done += stepped
                times.rounds += 1
            times.prompt, times.decode = times.prompt + between - began, times.decode + time.perf_counter() - between
            yield done
    finally:
        rows.close()


def _filled(rows: Rows, loaded: TorchModel, waiting: deque[Asked], most: int, keep: bool) -> tuple[list[Asked], int]:
    """Let rows join while there is room; those that were done with their first token, and how many may run now."""
    done: list[Asked] = []
    while waiting and len(rows.members) < most and _room(rows, waiting[0]):
        member = waiting.popleft()
        try:
            given = rows.join(member)
        except Exception as err:
            if not memory_ran_out(err) or not rows.members:
                raise
            let_go(err)
            loaded.give_back()
            waiting.appendleft(member)
            return done, len(rows.members)
        done += _taken(rows, loaded, given, keep)
    return done, most


def _stepped(rows: Rows, loaded: TorchModel, waiting: deque[Asked], most: int, keep: bool) -> tuple[list[Asked], int]:
    """One token for each row; where memory ran out they all come again, half as many at once."""
    try:
        given = rows.step()
    except Exception as err:
        going: list[Any] = list(rows.members)
        if not memory_ran_out(err) or len(going) < 2:
            raise
        let_go(err)
        rows.close()
        loaded.give_back()
        waiting.extendleft(reversed(going))
        return [], len(going) // 2
    return _taken(rows, loaded, given, keep), most


def _room(rows: Rows, member: Asked) -> bool:
    """Whether one more fits beside those that run, all of them at their end."""
    if not rows.members:
        return True
    on_device = shared_engine().backends["torch"].memory_free()
    free = hardware.memory_free() if on_device is None else on_device
    return rows.after(member.longest) <= (free + rows.nbytes()) * SHARE


def _taken(rows: Rows, loaded: TorchModel, given: list[tuple[Member, int]], keep: bool) -> list[Asked]:
    """Hand tokens to their rows; those that are done have left."""
    done: list[Any] = []
    for member, token in given:
        member.made.append(token)
        if member.over():
            done.append(member)
    for member in done if keep else ():
        state = rows.state_of(member)
        feed_last(loaded, member.made[-1], state)
        member.cache = [LayerCache(layer) for layer in state.layers]
    rows.leave(done)
    return done
