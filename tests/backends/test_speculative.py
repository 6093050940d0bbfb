"""The draft-and-verify loop over a decoder in plain Python, whose next token is a function of all before it, and on
the real models by hand: the stream is that of plain decoding, and the state holds what was said and nothing else.
"""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlxnb import Request, Speculation
from mlxnb.backends.base import Watch
from mlxnb.backends.lookup import PromptLookup
from mlxnb.backends.reuse import Feed
from mlxnb.backends.speculative import same_vocabulary, speculate
from mlxnb.models import ModelSource
from mlxnb.request import Precision


def after(history):
    return (sum(history[-3:]) * 7 + len(history)) % 5


class Summing:
    """A Decoder whose state is the list of what it was fed."""

    def __init__(self, ids):
        self.fed, self.drawn = list(ids), 0

    def feed(self, tokens, rows):
        self.fed += tokens
        return [after(self.fed[: len(self.fed) - i]) for i in reversed(range(rows))]

    def draw(self, logits, row, history):
        self.drawn += 1
        assert logits[row] == after(history), "a row that was verified behind another text"
        return logits[row]

    def cut(self, length):
        assert length <= len(self.fed)
        del self.fed[length:]


class Told:
    """A Proposer that says what it is given, and what it saw."""

    def __init__(self, proposals):
        self.proposals, self.closed, self.told = list(proposals), None, []

    def propose(self, history, most):
        self.seen = list(history)
        kind, length = self.proposals.pop() if self.proposals else ("right", 0)
        known = list(history)
        for _ in range(min(length, most)):
            known.append(after(known))
        said = known[len(history) :]
        if kind == "half" and said:
            said[len(said) // 2] = (said[len(said) // 2] + 1) % 5
        return said if kind != "wrong" else [(token + 1) % 5 for token in said]

    def verified(self, proposed, accepted):
        self.told.append((proposed, accepted))

    def close(self, history):
        assert self.closed is None
        self.closed = list(history)


def plain(ids, limit):
    history = list(ids)
    for _ in range(limit):
        history.append(after(history))
    return history[len(ids) :]


@given(
    ids=st.lists(st.integers(0, 4), min_size=1, max_size=6),
    limit=st.integers(1, 20),
    proposals=st.lists(st.tuples(st.sampled_from(["right", "half", "wrong"]), st.integers(0, 6)), max_size=12),
    stop=st.integers(1, 20),
)
def test_any_draft_gives_the_stream_of_plain_decoding(ids, limit, proposals, stop):
    decoder, guess = Summing(ids), Told(proposals)
    watch = Watch(speculation=Speculation("told"))
    tokens = speculate(after(ids), ids, limit, decoder, guess, watch)
    said = []
    for token in tokens:
        said.append(token)
        if len(said) == stop:
            drawn = decoder.drawn
            tokens.close()
    assert said == plain(ids, min(limit, stop))
    assert decoder.fed == [*ids, *said[:-1]]
    assert guess.closed == [*ids, *said]
    s = watch.speculation
    assert len(said) == 1 + decoder.drawn
    if len(said) == stop:
        assert decoder.drawn == drawn  # nothing after the end
    assert [sum(side) for side in zip(*s.positions, strict=True)] == ([s.proposed, s.accepted] if s.proposed else [])
    assert s.accepted <= s.proposed
    assert s.steps <= max(0, len(said) - 1)


def test_what_was_verified_is_counted():
    watch = Watch(speculation=Speculation("told"))
    guess = Told([("wrong", 2), ("half", 4), ("right", 3)])  # taken from the end
    said = list(speculate(after([1]), [1], 9, Summing([1]), guess, watch))
    assert said == plain([1], 9)
    # 1 of the prompt, then 3 + 1, 1 + 1, 0 + 1; four, two and one were left by then, the last one the model's own.
    assert guess.told == [(3, 3), (3, 1), (1, 0), (0, 0)]
    assert watch.speculation == Speculation(
        "told", steps=4, proposed=7, accepted=4, positions=((3, 2), (2, 1), (2, 1)), tokens=8
    )
    assert watch.speculation.acceptance == 4 / 7
    assert watch.speculation.tokens_per_step == 2
    assert (Speculation("x").acceptance, Speculation("x").tokens_per_step) == (None, None)


def test_what_a_stop_left_unseen_is_not_counted():
    watch = Watch(speculation=Speculation("told"))
    tokens = speculate(after([1]), [1], 9, Summing([1]), Told([("right", 6)]), watch)
    for _ in range(3):
        next(tokens)
    tokens.close()
    assert watch.speculation == Speculation(
        "told", steps=1, proposed=2, accepted=2, positions=((1, 1), (1, 1)), tokens=2
    )


def test_nothing_is_asked_for_before_it_is_wanted():
    guess, decoder = Told([("right", 4)]), Summing([1])
    tokens = speculate(after([1]), [1], 9, decoder, guess, Watch(speculation=Speculation("told")))
    next(tokens)
    assert (guess.proposals, decoder.drawn) == ([("right", 4)], 0)
    tokens.close()
    assert guess.proposals == [("right", 4)]


def test_vocabularies_are_compared_token_by_token():
    assert same_vocabulary({"a": 1, "b": 2}, {"b": 2, "a": 1})
    verdict = same_vocabulary({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 2})
    assert not verdict
    assert verdict.reason == "its vocabulary is another one: 2 tokens differ, 'b' among them"


@pytest.fixture(scope="module")
def loaded(checkpoint):
    torch = pytest.importorskip("torch")
    before, models = torch.get_num_threads(), {}

    def load(backend, family):
        if (backend, family) not in models:
            pytest.importorskip({"mlx": "mlx_lm", "torch": "torch"}[backend])
            module = __import__(f"mlxnb.backends.{backend}", fromlist=["x"])
            made = getattr(module, f"{backend.capitalize()}Backend")()
            models[backend, family] = made.load(ModelSource(family, checkpoint(family), "path"), Precision("float32"))
        return models[backend, family]

    yield load
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", ["qwen2", "deepseek-v3"])
@pytest.mark.parametrize("backend", ["torch", "mlx"])
@settings(max_examples=12)
@given(
    length=st.integers(1, 20),
    stop=st.integers(1, 16),
    draft=st.sampled_from(["lookup", "itself"]),
    temperature=st.sampled_from([0.0, 1.0]),
)
def test_a_state_that_was_left_at_any_token_is_that_of_its_text(
    loaded, backend, family, length, stop, draft, temperature
):
    model = loaded(backend, family)
    ids = [7, 8, 9, 7, 8, 10, 11, 7, 8, 9, 12, 13, 7, 8, 9, 7, 7, 8, 9, 5][:length]
    request = Request.of("?", draft=draft, temperature=temperature, seed=3, repetition_penalty=1.1, max_tokens=24)
    watch = Watch(draft=model, speculation=Speculation(draft))
    feed = Feed(model.new_state(request, watch))
    tokens = model.tokens(ids, request, 24, watch, feed)
    said = [next(tokens) for _ in range(stop)]
    tokens.close()

    def rest(of: Feed, number: int) -> list[int]:
        greedy = replace(request, draft=None, sampling=replace(request.sampling, temperature=0.0))
        return list(model.tokens([*ids, *said], greedy, number, Watch(), of))

    assert feed.length == model.states.length(feed.state) == length + stop - 1
    assert rest(feed, 6) == rest(Feed(model.new_state(request, Watch())), 6)
    plain = model.tokens(ids, replace(request, draft=None), 24, Watch(), Feed(model.new_state(request, Watch())))
    assert [next(plain) for _ in range(stop)] == said
    plain.close()


def test_lookup_needs_no_more_than_its_protocol():
    text = [1, 2, 3, 1, 2]
    watch = Watch(speculation=Speculation("lookup"))
    said = list(speculate(after(text), text, 12, Summing(text), PromptLookup(), watch))
    assert said == plain(text, 12)
