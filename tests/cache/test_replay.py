"""A stored answer replayed: marked, at once, with the timings of the run that made it kept apart."""

from dataclasses import dataclass

from mlxnb.cache import replay
from mlxnb.result import Result, Timings
from tests.cache.strategies import result


@dataclass(frozen=True)
class Marked(Result):
    """A Result with the two fields that mark a cached one."""

    cached: bool = False
    original: Timings | None = None


def test_a_replay_is_marked_and_keeps_the_first_timings():
    stored = Marked(**{name: getattr(result(), name) for name in Result.__dataclass_fields__})
    again = replay(stored, accepted=10.0, now=10.25)
    assert again.cached
    assert again.original == stored.timings
    assert (again.text, again.tokens, again.provenance) == (stored.text, stored.tokens, stored.provenance)
    assert again.timings.ttft == again.timings.total == 0.25
    assert again.timings.queue_time == 0.25
    assert again.timings.prefill_rate is None  # nothing was prefilled
    assert again.timings.decode_rate is again.timings.tpot is None
    assert again.timings.itl == ()
    assert again.timings.first_visible == 10.25
    assert again.peak_memory is None


def test_a_result_without_those_fields_is_replayed_too():
    again = replay(result(), accepted=1.0, now=2.0)
    assert again.timings.token_times == (2.0,)
    assert replay(result(), accepted=1.0, now=2.0, load_time=0.75).timings.queue_time == 0.25
