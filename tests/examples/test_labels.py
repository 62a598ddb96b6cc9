"""Labels of points beside each other can be read, and belong to their points."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from examples.paper.labels import APART, SIDES, sides
from examples.paper.page import page
from examples.paper.sections import Plot, Section

COORDINATE = st.floats(0, 1000)


def test_a_point_that_stands_alone_has_the_first_side():
    assert sides([(0.0, 0.0), (500.0, 0.0)], [(0.0, 300.0)]) == ["top right"] * 2


def test_labels_keep_away_from_points_without_any():
    x, y = APART
    others = [(direction[0] * x, direction[1] * y) for side, direction in SIDES.items() if side != "bottom center"]
    assert sides([(0.0, 0.0)], others) == ["bottom center"]


@given(st.floats(14, 100), st.floats(-60, 60), st.integers(2, 12))
def test_labels_of_a_row_of_points_do_not_overlap(across: float, up: float, count: int):
    """Points nearer to each other than half a label, if they go up or down enough, are labelled on both sides."""
    if across < APART[0] and abs(up) < APART[1]:
        up = APART[1]
    points = [(n * across, n * up) for n in range(count)]
    found = sides(points)
    places = [
        (p[0] + APART[0] * SIDES[s][0], p[1] + APART[1] * SIDES[s][1]) for p, s in zip(points, found, strict=True)
    ]
    for one, other in itertools.combinations(places, 2):
        assert abs(one[0] - other[0]) >= APART[0] * 0.45 or abs(one[1] - other[1]) >= APART[1] * 0.45


def test_the_page_draws_labels_on_both_kinds_of_axes():
    series = {"ours": ([1.0, 10.0, 100.0], [3.0, 2.0, 1.0]), "theirs": ([5.0], [5.0])}
    labels, names = {"ours": ["1", "2", "3"]}, {"ours": ["1: first", "2: second", "3: third"]}
    for log in (False, True):
        plot = Plot("p", "x", "y", series, lines=False, log=log, labels=labels, names=names)
        html = page("title", "about", [Section("s", (), (plot,), ("so",))])
        assert '"hovertext":["1: first","2: second","3: third"]' in html
        assert ('"tickvals":[0.001,0.002,0.005,' in html) == log
