"""Prompt lookup against a search through the whole text, and what it does when it was wrong."""

from hypothesis import given
from hypothesis import strategies as st

from mlxnb.backends.lookup import LONGEST, MOST, PromptLookup

few = st.lists(st.integers(0, 3), min_size=1, max_size=40)


def searched(text: list[int], width: int) -> list[int]:
    """What followed the longest, latest run like the last one, by looking at every place."""
    for length in range(min(LONGEST, len(text)), 0, -1):
        for end in range(len(text) - 1, length - 1, -1):
            if text[end - length : end] == text[-length:]:
                return [text[end + i % (len(text) - end)] for i in range(width)]
    return []


@given(few, st.integers(1, 6))
def test_it_finds_what_a_search_finds(text, most):
    assert PromptLookup(1).propose(text, most) == searched(text, 1)


@given(text=few, more=few, data=st.data())
def test_an_index_that_grew_is_the_index_of_the_whole(text, more, data):
    grown, history = PromptLookup(), list(text)
    for token in more:
        proposed = grown.propose(history, 8)
        grown.verified(len(proposed), data.draw(st.integers(0, len(proposed))))
        history.append(token)
    grown.propose(history, 8)
    fresh = PromptLookup()
    fresh.propose(history, 8)
    assert grown._ends == fresh._ends
    assert grown._follow(8) == searched(history, 8)


@given(text=few, most=st.integers(0, 9), widest=st.integers(1, 9), right=st.lists(st.booleans(), max_size=12))
def test_it_never_proposes_more_than_it_may(text, most, widest, right):
    lookup = PromptLookup(widest)
    for each in right:
        proposed = lookup.propose(text, most)
        assert len(proposed) <= min(most, widest)
        lookup.verified(len(proposed), len(proposed) if each else 0)
        text = [*text, 1]


def test_a_proposal_doubles_while_it_is_right():
    lookup, text, widths = PromptLookup(), [7] * 4, []
    for _ in range(6):
        proposed = lookup.propose(text, 100)
        widths.append(len(proposed))
        lookup.verified(len(proposed), len(proposed))
        text += [7] * (len(proposed) + 1)
    assert widths == [1, 2, 4, MOST, MOST, MOST]


def test_it_stops_after_wrong_ones_and_begins_again_with_the_first_right_guess():
    lookup, text = PromptLookup(), [1, 2, 3, 1]
    assert lookup.propose(text, 8) == [2]
    lookup.verified(1, 0)
    text.append(9)
    for token in (1, 8, 1, 7, 1, 6):  # after 1 something else comes each time
        assert lookup.propose(text, 8) == []
        lookup.verified(0, 0)
        text.append(token)
    text += [1]
    assert lookup.propose(text, 8) == []  # it thinks of 6 ...
    text.append(6)
    assert lookup.propose(text, 8) == [1]  # ... and was right


def test_text_without_a_repeat_gives_nothing():
    assert PromptLookup().propose(list(range(50)), 8) == []
    assert PromptLookup().propose([5], 8) == []
