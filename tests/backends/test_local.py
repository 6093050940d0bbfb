"""What all folder backends share, over a decode loop that replays given tokens: nothing is lost, doubled or torn."""

import math
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mlxnb.pocket
from mlxnb.backends import Watch
from mlxnb.backends.local import LocalModel
from mlxnb.backends.tokenizer import Tokenizer
from mlxnb.request import Request
from tests.scripted import ScriptedBackend

TOKENIZER = Tokenizer(mlxnb.pocket.path())
INFO = ScriptedBackend().load(None).info
text = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\ufffd<"), max_size=60)


class Replay(LocalModel):
    """A model that says the given text and then ends its turn."""

    info = INFO

    def __init__(self, says: str) -> None:
        super().__init__(TOKENIZER)
        self.ids = [*TOKENIZER.inner.encode(says, add_special_tokens=False), min(TOKENIZER.end_ids)]

    def new_state(self, request, watch) -> None:
        """It has none."""

    def tokens(self, ids, request, limit, watch, feed) -> Iterator[int]:
        yield from self.ids[:limit]

    def losses(self, ids) -> list[float]:
        """It is sure of what it says."""
        return [0.0 if token in self.ids else math.inf for token in ids[1:]]

    def close(self) -> None:
        """Nothing to give back."""


def run(says: str, **options):
    watch = Watch()
    chunks = list(Replay(says).stream(Request.of("say it", **{"max_tokens": 1000, **options}), watch))
    return chunks, "".join(chunk.text for chunk in chunks), watch


@settings(max_examples=200)
@given(text)
def test_the_chunks_join_to_the_text_without_a_torn_character(says):
    chunks, out, watch = run(says)
    assert out == says
    assert watch.finish_reason == "stop"
    assert not any("\ufffd" in chunk.text for chunk in chunks)
    assert len(watch.token_times) == sum(chunk.token is not None for chunk in chunks)


@settings(max_examples=200)
@given(says=text, data=st.data())
def test_text_ends_exactly_before_a_stop_string(says, data):
    start = data.draw(st.integers(0, max(0, len(says) - 1)))
    stop = says[start : start + data.draw(st.integers(1, 8))]
    if not stop:
        return
    _, out, watch = run(says, stop=stop)
    assert out == says[: says.find(stop)]
    assert watch.finish_reason == "stop"


@settings(max_examples=100)
@given(says=text, limit=st.integers(1, 12))
def test_a_cut_by_length_shows_whole_characters_only(says, limit):
    chunks, out, watch = run(says, max_tokens=limit)
    assert says.startswith(out)
    made = sum(chunk.token is not None for chunk in chunks)
    assert made <= limit
    assert watch.finish_reason == ("length" if made == limit else "stop")


def test_the_emoji_that_takes_several_tokens_comes_whole():
    chunks, out, _ = run("a \N{COMPASS} b")
    assert out == "a \N{COMPASS} b"
    assert sum("\N{COMPASS}" in chunk.text for chunk in chunks) == 1
    assert any(chunk.text == "" for chunk in chunks)


@pytest.mark.parametrize("at", [1, 3])
def test_cancelling_ends_after_the_token_in_hand(at):
    watch, seen = Watch(), []
    for chunk in Replay("one two three four five six").stream(Request.of("go"), watch):
        seen.append(chunk)
        if len(seen) == at:
            watch.cancelled.set()
    assert sum(chunk.token is not None for chunk in seen) == at
    assert watch.finish_reason == "interrupted"
