from __future__ import annotations

import itertools

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmac.runtime.page import layout as module
from mmac.runtime.page.layout import PASSING_DISTANCE, Edge, layered, longest_paths, spaced


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, list[Edge]]:
    count = draw(st.integers(1, 12))
    pairs = list(itertools.combinations(range(count), 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True, max_size=20)) if pairs else []
    return count, edges


@given(graphs())
def test_rows_are_longest_paths(graph: tuple[int, list[Edge]]) -> None:
    count, edges = graph
    whole = nx.DiGraph(edges)
    whole.add_nodes_from(range(count))
    rows = {node: row for row, nodes in enumerate(nx.topological_generations(whole)) for node in nodes}
    assert longest_paths(count, edges) == [rows[node] for node in range(count)]


@given(graphs())
def test_nothing_lies_on_anything_else(graph: tuple[int, list[Edge]]) -> None:
    count, edges = graph
    found = layered(count, edges)
    rows = longest_paths(count, edges)
    assert [row for _, row in found.points] == rows
    places = dict.fromkeys(found.points, 1.0)
    assert len(places) == count
    for (start, stop), route in zip(edges, found.routes, strict=True):
        assert (route[0], route[-1]) == (found.points[start], found.points[stop])
        assert [row for _, row in route] == list(range(rows[start], rows[stop] + 1))
        places |= dict.fromkeys(route[1:-1], PASSING_DISTANCE)
    for row in range(max(rows) + 1):
        across = sorted((x, room) for (x, y), room in places.items() if y == row)
        for (left, room), (right, _) in itertools.pairwise(across):
            assert right - left >= room - 1e-9


def test_a_chain_is_straight_and_what_skips_it_passes_on_the_left() -> None:
    count = 8
    chain = list(itertools.pairwise(range(count)))
    found = layered(count, [*chain, (1, 4), (4, 7)])
    xs = [x for x, _ in found.points]
    assert max(xs) - min(xs) < 0.05
    for route in found.routes[-2:]:
        assert all(x < min(xs) for x, _ in route[1:-1])


def test_edges_from_one_node_share_their_way() -> None:
    chain = list(itertools.pairwise(range(7)))
    found = layered(7, [*chain, (0, 4), (0, 6)])
    short, long = found.routes[-2:]
    assert short[:-1] == long[:4]


def test_too_many_places_make_edges_straight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PLACES", 1)
    found = layered(4, [(0, 1), (1, 2), (2, 3), (0, 3)])
    assert [len(route) for route in found.routes] == [2, 2, 2, 2]


def test_nothing_at_all() -> None:
    assert layered(0, []).points == []


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0.1, 10), st.floats(0.1, 2)), min_size=1, max_size=6), st.data())
def test_spacing_is_the_nearest_there_is(rows: list[tuple[float, float, float]], data: st.DataObject) -> None:
    wanted, weights, distances = (list(column) for column in zip(*rows, strict=True))

    def cost(places: list[float]) -> float:
        return sum(weight * (x - want) ** 2 for x, want, weight in zip(places, wanted, weights, strict=True))

    best = spaced(wanted, weights, distances)
    assert all(b - a >= d - 1e-9 for (a, b), d in zip(itertools.pairwise(best), distances, strict=False))
    moves = data.draw(st.lists(st.floats(0, 3), min_size=len(rows), max_size=len(rows)))
    other = [data.draw(st.floats(-12, 12))]
    for distance, move in zip(distances, moves[1:], strict=False):
        other.append(other[-1] + distance + move)
    assert cost(best) <= cost(other) + 1e-6
