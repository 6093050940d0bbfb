"""Stop strings and thinking markers are cut exactly, however the text is split into pieces."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mlxnb.backends.split import StopCutter, ThinkingSplitter, held_length

short = st.text(alphabet="ab<>/\n ", max_size=30)
cuts = st.lists(st.integers(0, 40), max_size=8)


def pieces(text: str, at: list[int]) -> list[str]:
    edges = sorted({0, len(text), *(i for i in at if i < len(text))})
    return [text[a:b] for a, b in pairwise(edges)]


@given(short, st.lists(st.text(alphabet="ab<>/\n ", min_size=1, max_size=4), max_size=3), cuts)
def test_stop_cutter_gives_the_text_before_the_first_stop(text, stops, at):
    cutter, shown = StopCutter(stops), ""
    for piece in pieces(text, at):
        shown += cutter.feed(piece)
        if cutter.stopped:
            break
    else:
        shown += cutter.finish()
    found = [i for i in (text.find(stop) for stop in stops) if i >= 0]
    # A later piece may complete an earlier-starting stop string than the one that was seen first.
    assert text.startswith(shown)
    assert cutter.stopped == bool(found)
    assert shown == text if not found else len(shown) >= min(found)
    assert not any(stop in shown for stop in stops)


@given(short, cuts)
def test_thinking_is_split_alike_in_one_piece_and_in_many(text, at):
    def split(parts: list[str]) -> tuple[str, str]:
        splitter = ThinkingSplitter(("<a>", "</a>"))
        outs = [splitter.feed(part) for part in parts] + [splitter.finish()]
        return "".join(t for t, _ in outs), "".join(a for _, a in outs)

    assert split(pieces(text, at)) == split([text])


def test_white_space_alone_does_not_wait_for_ever():
    """A stop string may be made of it."""
    splitter = ThinkingSplitter(("<think>", "</think>"))
    assert splitter.feed("\n" * 3) == ("", "")
    assert splitter.feed("\n" * 7) == ("", "\n" * 6)
    assert splitter.feed("<think>hm</think>yes") == ("hm", "yes")


def test_thinking_with_and_without_an_opened_block():
    splitter = ThinkingSplitter(("<think>", "</think>"))
    assert splitter.feed("<think>\nhm</think>\n\nyes") == ("hm", "yes")
    splitter = ThinkingSplitter(("<think>", "</think>"), inside=True)
    assert splitter.feed("hm</thi") == ("hm", "")
    assert splitter.feed("nk>\nyes") == ("", "yes")
    assert ThinkingSplitter(None).feed("<think>x") == ("", "<think>x")


def test_held_length_is_the_longest_possible_beginning():
    assert held_length("abc</", ["</think>"]) == 2
    assert held_length("abc", ["</think>"]) == 0
    assert held_length("aa", ["aab", "ac"]) == 2
    assert held_length("", ["x"]) == 0
