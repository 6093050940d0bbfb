"""Prompts come to their exact lengths: by a real tokenizer, by counters of many kinds, and by a server's count."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlxnb.pocket
from mlxnb.backends.tokenizer import Tokenizer
from mlxnb.profiling.runs.lengths import TRIES, WORDS, drawn, fitted, plain_words
from mlxnb.profiling.runs.scenarios import NAMES, Text, scenario
from mlxnb.request import Request


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer(mlxnb.pocket.path())


@pytest.mark.parametrize("name", NAMES)
def test_a_scenario_comes_to_its_length_by_the_models_own_tokenizer(tokenizer, name):
    found = scenario(name)

    def count(text):
        return len(tokenizer.prompt(Request.of(text)).ids)

    for prompt in found.prompts:
        for text, length in zip(prompt, found.lengths, strict=True):
            made = fitted(length, text.of, count)
            assert count(made) == length
            assert made.startswith(text.before)
            assert made.endswith(text.after)


@given(st.integers(1, 3000))
def test_any_length_is_reached_where_a_word_is_a_token(length):
    text = Text("", "one two three four five six ")
    count = lambda made: len(made.split())  # noqa: E731
    assert count(fitted(length, text.of, count)) == length


@given(st.integers(10, 500), st.integers(2, 7))
def test_words_of_several_tokens_are_filled_up_with_pads(length, size):
    """Words of the material are `size` tokens each, every pad is one: no number of words alone would do."""
    text = Text("Read this: ", "word " * 40, "Why?")

    def count(made):
        return 6 + size * made.count("word") + made.count(" a") + made.count("Part")

    assert count(fitted(length, text.of, count)) == max(length, 6)


def test_a_text_that_is_too_long_already_stays(tokenizer):
    text = Text("This beginning alone has more than four tokens.", "material ", "Why?")
    assert fitted(4, text.of, lambda made: len(made.split())) == text.of(0)


def test_a_counter_that_never_grows_ends_the_search():
    asked = []

    def count(made):
        asked.append(made)
        return 10

    assert fitted(500, Text("a", "b c ").of, count)
    assert len(asked) < 100


@pytest.mark.parametrize("most", [1, 2, 5, 8])
def test_a_server_is_asked_no_more_often_than_allowed(most):
    asked = []

    def count(made):
        asked.append(made)
        return 7 + round(len(made) / 4.3)

    made = fitted(400, plain_words(3), count, most)
    assert len(asked) <= most
    if most >= 5:
        assert abs(7 + round(len(made) / 4.3) - 400) <= 5


@pytest.mark.parametrize("length", [1, 2, 17, 128, 1000])
def test_random_tokens_are_fed_as_they_were_drawn(tokenizer, length):
    def count(text):
        return len(tokenizer.prompt(Request.of(text, raw=True)).ids)

    made = drawn(tokenizer, length, 5, count)
    ids = tokenizer.prompt(Request.of(made, raw=True)).ids
    assert len(ids) == length
    assert made == drawn(tokenizer, length, 5, count)
    if length > 4:
        assert made != drawn(tokenizer, length, 6, count)
        assert len(set(ids)) > 0.4 * min(length, 300)
    assert [tokenizer.inner.encode(f" {word}", add_special_tokens=False) for word in made.split()] == [[i] for i in ids]


def test_a_vocabulary_without_whole_words_gives_plain_words(tokenizer):
    looked = []

    def letter(ids):
        looked.append(ids)
        return "abcdefghijklmnopqrstuvwxyz"[ids[0]]

    class Letters:
        vocabulary = type("Vocabulary", (), {"size": 26})
        decode = staticmethod(letter)
        inner = type("Inner", (), {"encode": staticmethod(lambda text, add_special_tokens: list(text))})

    made = drawn(Letters(), 30, 0, len)
    assert len(looked) == TRIES  # once, and not for each word of the prompt
    assert set(made.split()[:-1]) <= set(WORDS)
    assert len(made) <= 30


def test_material_begins_again_with_its_part():
    text = Text("Look:\n", "one two\nthree\n", "Why?")
    assert text.of(2) == "Look:\none two\nWhy?"
    assert text.of(4) == "Look:\none two\nthree\n\nPart 2.\none\nWhy?"
    assert text.of(1, " a a") == "Look:\none a a\nWhy?"
    assert Text("Only this").of(0) == "Only this"
