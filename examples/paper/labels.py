"""Where the labels of points go, so that they do not lie on other points or labels."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]

SIDES = {
    "top right": (1, 1),
    "bottom left": (-1, -1),
    "middle right": (1, 0),
    "middle left": (-1, 0),
    "top left": (-1, 1),
    "bottom right": (1, -1),
    "top center": (0, 1),
    "bottom center": (0, -1),
}
"""Names that plotly gives them, and their directions; the first of equals is taken."""

APART = (28.0, 13.0)
"""Pixels between the middle of a label and its point, and between labels that can be read, across and up."""

ENOUGH = 1.5
"""Sizes of a label; more room is no better."""


def sides(points: Sequence[Point], others: Sequence[Point] = ()) -> list[str]:
    """The side of each point that has most room, one point after the other.

    Args:
        points: those that have labels, in pixels.
        others: those that have none.
    """
    found: list[str] = []
    labels: list[Point] = []
    for number, point in enumerate(points):
        taken = [*points[:number], *points[number + 1 :], *others, *labels]
        places = {side: (point[0] + APART[0] * x, point[1] + APART[1] * y) for side, (x, y) in SIDES.items()}
        room = {side: min([ENOUGH, *(_distance(place, other) for other in taken)]) for side, place in places.items()}
        found.append(max(SIDES, key=lambda side: room[side]))
        labels.append(places[found[-1]])
    return found


def _distance(one: Point, other: Point) -> float:
    """Between two places, in sizes of a label."""
    return max(abs(a - b) / size for a, b, size in zip(one, other, APART, strict=True))
