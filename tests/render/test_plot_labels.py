"""Names in a plot: beside what they name, apart from each other, and as they are written."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mlxnb.render.plot import literal, new_figure
from mlxnb.render.plot_labels import label_ends, label_points, name_rows
from mlxnb.render.text import shortened

COLOUR = "#0072B2"


def an_axis(**limits: Any) -> tuple[Figure, Axes]:
    figure, (axis,) = new_figure("title", [""], "x", "y", "caption")
    axis.set(xlim=(0, 10), ylim=(0, 10), **limits)
    return figure, axis


def boxes(figure: Figure, axis: Axes) -> dict[str, Any]:
    figure.draw_without_rendering()
    return {text.get_text(): text.get_window_extent() for text in axis.texts}


def test_ends_that_meet_are_named_apart_in_their_order() -> None:
    figure, axis = an_axis()
    label_ends(axis, [(10, 5.0, "b", COLOUR), (10, 5.01, "c", COLOUR), (10, 4.99, "a", COLOUR), (10, 9, "z", COLOUR)])
    found = boxes(figure, axis)
    assert found["a"].y1 <= found["b"].y0 + 1
    assert found["b"].y1 <= found["c"].y0 + 1
    assert found["c"].y1 < found["z"].y0
    assert all(box.x0 >= axis.transData.transform((10, 0))[0] for box in found.values())


def test_points_are_named_where_there_is_room_and_never_on_one_another() -> None:
    figure, axis = an_axis()
    crowd = [(5 + 0.2 * i, 5 + 0.1 * (i % 3), f"point {i}", COLOUR) for i in range(6)]
    left_out = label_points(axis, crowd)
    found = boxes(figure, axis)
    assert len(found) + len(left_out) == 6
    assert len(found) >= 3
    assert not any(a.overlaps(b) for a, b in combinations(found.values(), 2))
    for x, y, _, _ in crowd:
        assert not any(box.contains(*axis.transData.transform((x, y))) for box in found.values())


def test_a_name_keeps_inside_the_axes_and_off_what_it_is_told_to() -> None:
    figure, axis = an_axis()
    beside = [(8 + 0.01 * i, 5) for i in range(200)]
    assert label_points(axis, [(10, 5, "at the edge", COLOUR)], beside) == []
    box = boxes(figure, axis)["at the edge"]
    assert box.x1 <= axis.get_window_extent().x1
    assert not any(box.contains(*axis.transData.transform(point)) for point in beside)


def test_where_there_is_no_room_it_says_so() -> None:
    _, axis = an_axis()
    everywhere = [(0.25 * x, 0.25 * y) for x in range(41) for y in range(41)]
    assert label_points(axis, [(5, 5, "nowhere", COLOUR)], everywhere) == ["nowhere"]
    assert not axis.texts


def test_rows_are_named_from_the_top_and_cut_in_the_middle() -> None:
    figure, axis = an_axis()
    name_rows(axis, ["first", "the beginning tells and so does the end"], 20)
    figure.draw_without_rendering()
    first, second = axis.get_yticklabels()
    assert first.get_window_extent().y0 > second.get_window_extent().y1
    assert second.get_text() == "the beginn…s the end"
    assert shortened("exactly", 7) == "exactly"
    assert len(shortened("x" * 50, 9)) == 9


@pytest.mark.parametrize("text", ["$x$", "a $ b", "$\\frac{", "100 $ and 5 $"])
def test_dollars_are_dollars(text: str) -> None:
    figure, axis = an_axis()
    axis.text(1, 1, literal(text))
    figure.draw_without_rendering()
    assert axis.texts[0].get_text().replace("\\$", "$") == text
    assert axis.texts[0]._preprocess_math(literal(text)) == (text, False)


def test_a_long_caption_is_wrapped_and_shown_whole() -> None:
    caption = " ".join(["words"] * 60)
    figure, _ = new_figure("title", [""], "x", "y", caption)
    figure.draw_without_rendering()
    shown = figure._supxlabel
    assert shown.get_text().count("\n") == 3
    assert shown.get_window_extent().x1 < figure.bbox.x1
    assert " ".join(shown.get_text().split()) == caption
