from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mlxnb.cache import PrefixCache, snapshot_places
from tests.cache.fakes import FakeStates


def test_the_ends_of_the_system_prompt_and_of_the_last_turns():
    assert snapshot_places(2000, turns=[300, 600, 900, 1200, 1500]) == (300, 1200, 1500, 1999)


def test_where_it_parted_from_earlier_prompts_comes_first():
    assert snapshot_places(2000, common=1000, turns=[300, 600, 900, 1500]) == (300, 1000, 1500, 1999)


def test_what_is_there_already_is_not_taken_again():
    assert snapshot_places(2000, reused=1500, common=1500, turns=[300, 1500]) == (1999,)
    assert snapshot_places(2000, reused=1999) == ()
    assert snapshot_places(1) == ()
    assert snapshot_places(100, turns=[90]) == (90, 99)


COUNTS = st.integers(0, 5000)


@given(st.integers(1, 5000), COUNTS, COUNTS, st.lists(COUNTS), st.integers(1, 100))
def test_places_are_usable_and_far_enough_apart(length, reused, common, turns, gap):
    places = snapshot_places(length, reused, common, turns, gap)
    assert list(places) == sorted(places)
    assert all(reused < place < length for place in places)
    assert len(places) <= 4
    assert all(b - a >= gap for a, b in pairwise(places[:-1]))


def test_a_recurrent_model_answers_the_third_question_over_a_document_without_prefilling_it():
    """The second parts from the first at the document's end, where no turn ends; a snapshot there serves the third."""
    states, cache, document = FakeStates(window=0), PrefixCache(lambda: 10**9), tuple(range(3000))
    reused = []
    for question in range(1, 4):
        prompt = (*document, *[5000 + question] * 80)
        found = cache.lookup("n", prompt, states)
        reused.append(found.length)
        for place in snapshot_places(len(prompt), found.length, found.common):
            cache.store("n", prompt[:place], states.prefill(prompt[:place]), states)
    assert reused == [0, 0, 3000]
    assert cache.lookup("n", prompt, states).length == len(prompt) - 1
