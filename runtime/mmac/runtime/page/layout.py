"""Places the nodes of a directed acyclic graph in layers, for drawing from top to bottom (Sugiyama's method).

Each node lies one row below the lowest of its predecessors. Edges that pass a row get a place of their own in it, so
that they run beside nodes, not through them. Rows are ordered by the barycentre of their neighbours, then moved
towards them as far as their order and a distance allow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

SWEEPS = 12
PASSING_DISTANCE = 0.2
"""From a passing edge to what is right of it; a node needs 1, for its name."""

NODE_WEIGHT, LONGEST_WEIGHT = 1e2, 1e4
"""Of nodes, and of nodes on a longest path, against a passing edge's 1: long chains stay straight."""

MAX_PLACES = 50_000
"""Places of passing edges; with more of them, edges are straight lines."""

Point = tuple[float, float]
Edge = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """Where things are: x to the right, row downwards from 0.

    Attributes:
        points: (x, row) of each node.
        routes: per edge, in the order given, the points that it goes through, ends included.
    """

    points: list[Point]
    routes: list[list[Point]]


def layered(count: int, edges: Sequence[Edge]) -> Layout:
    """Place nodes 0…count-1. Every edge leads from a lower to a higher number."""
    rows = longest_paths(count, edges)
    chains = _chains(count, edges, rows)
    grid = _Grid(dict(enumerate(rows)))
    for chain in chains:
        grid.add(chain, rows[chain[0]])
    heights = longest_paths(count, [(count - 1 - stop, count - 1 - start) for start, stop in edges])[::-1]
    depth = max(rows, default=0)
    on_longest = [row + height == depth for row, height in zip(rows, heights, strict=True)]
    grid.weights |= {node: LONGEST_WEIGHT if on_longest[node] else NODE_WEIGHT for node in range(count)}
    grid.order()
    grid.align()
    points = {place: (grid.x[place], float(row)) for place, row in grid.rows.items()}
    return Layout([points[node] for node in range(count)], [[points[place] for place in chain] for chain in chains])


def longest_paths(count: int, edges: Iterable[Edge]) -> list[int]:
    """Length of the longest path that ends in each node."""
    rows = [0] * count
    for start, stop in sorted(edges, key=lambda edge: edge[1]):
        rows[stop] = max(rows[stop], rows[start] + 1)
    return rows


def _chains(count: int, edges: Sequence[Edge], rows: Sequence[int]) -> list[list[int]]:
    """Per edge its two nodes, and between them its place in each row that it passes.

    Edges from the same node share their places as far as they go together.
    """
    if sum(rows[stop] - rows[start] - 1 for start, stop in edges) > MAX_PLACES:
        return [list(edge) for edge in edges]
    places: dict[tuple[int, int], int] = {}
    return [
        [
            start,
            *(places.setdefault((start, row), count + len(places)) for row in range(rows[start] + 1, rows[stop])),
            stop,
        ]
        for start, stop in edges
    ]


class _Grid:
    """Places in rows, and their neighbours in the rows above and below."""

    def __init__(self, rows: dict[int, int]) -> None:
        self.rows = rows
        self.above: dict[int, list[int]] = defaultdict(list)
        self.below: dict[int, list[int]] = defaultdict(list)
        self.weights: dict[int, float] = {}
        self.x: dict[int, float] = {}
        self.table: list[list[int]] = []

    def add(self, chain: Sequence[int], row: int) -> None:
        """An edge that begins in `row`."""
        self.rows.update({place: row + step for step, place in enumerate(chain[:-1])})
        for upper, lower in pairwise(chain):
            if lower not in self.below[upper]:
                self.below[upper].append(lower)
                self.above[lower].append(upper)

    def order(self) -> None:
        """Order the rows by the mean position of neighbours, down and up in turn."""
        self.table = [[] for _ in range(max(self.rows.values(), default=-1) + 1)]
        for place, number in self.rows.items():
            self.table[number].append(place)
        self.x = dict.fromkeys(self.rows, 0.0)
        for neighbours, row in self._sweeps():
            # passing edges to the left of nodes, whose names are to the right
            row.sort(key=lambda place: (self._mean(neighbours[place], place), place in self.weights))
            # centred, so that rows of different length compare
            self.x.update({place: number - (len(row) - 1) / 2 for number, place in enumerate(row)})

    def align(self) -> None:
        """Move places towards their neighbours, in the order of their rows and at a distance."""
        for neighbours, row in self._sweeps():
            wanted = [self._mean(neighbours[place], place) for place in row]
            weights = [self.weights.get(place, 1) for place in row]
            distances = [1 if place in self.weights else PASSING_DISTANCE for place in row]
            self.x.update(zip(row, spaced(wanted, weights, distances), strict=True))

    def _sweeps(self) -> Iterator[tuple[dict[int, list[int]], list[int]]]:
        for sweep in range(SWEEPS):
            down = sweep % 2 == 0
            for row in self.table if down else self.table[::-1]:
                yield self.above if down else self.below, row

    def _mean(self, neighbours: Sequence[int], place: int) -> float:
        weights = [self.weights.get(each, 1) for each in neighbours]
        pairs = zip(neighbours, weights, strict=True)
        return sum(self.x[each] * weight for each, weight in pairs) / sum(weights) if neighbours else self.x[place]


def spaced(wanted: Sequence[float], weights: Sequence[float], distances: Sequence[float]) -> list[float]:
    """The positions nearest to those wanted (weighted least squares) that are at least `distances` apart.

    The last distance has no meaning. Pools adjacent violators: neighbours that come too close move together.
    """
    offsets = [0.0, *accumulate(distances)][: len(wanted)]
    pools: list[tuple[float, float, int]] = []  # mean of wanted minus offset, weight, members
    for value, weight, offset in zip(wanted, weights, offsets, strict=True):
        mean, size = value - offset, 1
        while pools and pools[-1][0] > mean:
            other, load, members = pools.pop()
            mean, weight, size = (mean * weight + other * load) / (weight + load), weight + load, size + members
        pools.append((mean, weight, size))
    flat = [mean for mean, _, size in pools for _ in range(size)]
    return [value + offset for value, offset in zip(flat, offsets, strict=True)]
